"""Drawings: the names in them, and the description of each point."""

from plots import Point, scatter


def test_of_many_points_the_best_and_the_reference_are_named() -> None:
    reference = Point("reference", 100.0, 90.0, 110.0, 0.7, 0.6, 0.8, is_reference=True)
    ports = [  # each slower and worse than the one before
        Point(f"port-{n}", 300.0 - 5 * n, 250.0 - 5 * n, 350.0 - 5 * n, 0.9 - n / 200, 0.8 - n / 200, 0.95)
        for n in range(30)
    ]
    drawing = scatter([reference, *ports], "a <title>", "speed", "score")
    assert drawing.get("aria-label") == "a <title>"
    assert {text.text for text in drawing.findall("text") if text.get("class") == "name"} == {"reference", "port-0"}
    titles = {str(title.text) for title in drawing.iter("title")}
    assert len(titles) == 31
    assert "reference: 0.700 (0.600 to 0.800), 100 a second" in titles


def test_few_points_are_all_named() -> None:
    points = [Point(f"port-{n}", 10.0 + n, 9.0, 20.0, 0.5, 0.4, 0.6) for n in range(3)]
    names = [text.text for text in scatter(points, "title", "x", "y").findall("text") if text.get("class") == "name"]
    assert names == [f"port-{n}" for n in range(3)]
