"""Tables in Markdown files, written from records: every figure is of a record, or the block is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import BadInput
from harness.records import record
from harness.records.record import Quality, Speed
from harness.report.figures import with_figures

ROOT = Path(__file__).parents[3]


def block(kind: str, fields: str, table: str = "") -> str:
    return f"Before.\n<!-- figures: {kind}\n{fields}\n-->\n{table}<!-- end of figures -->\nAfter.\n"


def speed_block(each: Speed, **changes: str) -> str:
    names = {
        "hardware": record.hardware(each),
        "commit": f'"{str(each.commit)[:7]}"',
        "precision": each.precision["resolved"],
        "weights": each.checkpoint["name"],
        "of": "reference",
        "rows": f'["{each.shape["name"]}"]',
        "columns": "{eager: transformers}",
    }
    return block("speed", "\n".join(f"{name}: {value}" for name, value in (names | changes).items()))


def table_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_a_table_of_speed_has_the_ratio_of_the_rounds_and_their_range(speed_record: Callable[..., Speed]) -> None:
    each = speed_record()
    ours, theirs = (record.turn_seconds(each.shape, each.implementations[n]) for n in ("reference", "transformers"))
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    written = with_figures(speed_block(each, limit="true"), [each])
    head, _, row = table_of(written)
    assert head == ["", "eager", "of the limit"]
    assert row[0].rstrip("*") == each.shape["name"]
    assert row[1].endswith(f"x ({ratios[0]:.2f}-{ratios[-1]:.2f})")
    assert written.startswith("Before.\n<!-- figures: speed\n")
    assert written.endswith("<!-- end of figures -->\nAfter.\n")


def test_a_table_is_replaced_by_what_the_records_say(speed_record: Callable[..., Speed]) -> None:
    each = speed_record()
    once = with_figures(speed_block(each), [each])
    assert with_figures(once, [each]) == once
    wrong = once.replace("x (", "9x (")
    assert with_figures(wrong, [each]) == once


def test_of_several_comparisons_the_last_that_timed_what_is_asked_for_counts(
    speed_record: Callable[..., Speed],
) -> None:
    old, new = speed_record(started="2026-01-01T00:00:00+00:00"), speed_record(started="2026-01-02T00:00:00+00:00")
    for figures in (new.implementations["reference"], old.implementations["transformers"]):
        figures["wall"] = [[2 * seconds for seconds in turn] for turn in figures["wall"]]
    alone = speed_record(started="2026-01-03T00:00:00+00:00")
    del alone.implementations["transformers"]
    assert with_figures(speed_block(new), [new, old, alone]) == with_figures(speed_block(new), [new])


def test_a_table_of_quality_has_the_mean_over_seeds(quality_record: Callable[..., Quality]) -> None:
    runs = [quality_record(seed=seed) for seed in (1, 2)]
    first = runs[0]
    fields = "\n".join(
        [
            f"hardware: {record.hardware(first)}",
            f"precision: {first.precision['resolved']}",
            f"weights: {first.checkpoint['name']}",
            f"rows: [{first.task['name']}]",
            "columns: {ours: reference}",
        ]
    )
    head, _, row = table_of(with_figures(block("quality", fields), list(runs)))
    assert head == ["", "ours"]
    assert row[1].startswith(f"{first.metrics[0]['value']:.3f} ± 0.000 (2 ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": "{eager: absent}"}, "line 2: no record that fits holds a timing of absent"),
        ({"rows": '["9 x 9"]'}, "line 2: no record of reference at 9 x 9 that fits"),
        ({"of": "absent"}, "no record of absent at"),
        ({"commit": "abcdefa"}, "no record of reference"),
        ({"commit": "1234567"}, r"commit: 1234567 should be a str; put quotes around a text"),
        ({"shapes": "[]"}, "no figures of speed have shapes; they have hardware"),
        ({"rows": "[1 x"}, "not YAML"),
    ],
)
def test_what_no_record_holds_is_refused(
    speed_record: Callable[..., Speed], changes: dict[str, str], message: str
) -> None:
    each = speed_record()
    with pytest.raises(BadInput, match=message):
        with_figures(speed_block(each, **changes), [each])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (block("luck", "a: 1"), "figures of luck; there are speed and quality"),
        (block("speed", "only text"), "not a list of names and values"),
        (block("speed", "hardware: x"), "precision is missing"),
    ],
)
def test_a_block_that_cannot_be_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        with_figures(text, [])


def test_the_published_tables_are_what_the_records_say() -> None:
    text = (ROOT / "docs/records.md").read_text(encoding="utf-8")
    assert text.count("<!-- figures: ") > 10
    assert with_figures(text, record.read_all([ROOT / "results"])) == text


def models_block(**changes: str) -> str:
    names = {
        "implementation": "reference",
        "precision": "fp32",
        "rows": "{nothing learnt: random/tiny, ours: tiny}",
        "columns": "{mood: mini-sentiment, rte: rte}",
        "majority": "one answer",
    }
    return block("models", "\n".join(f"{name}: {value}" for name, value in (names | changes).items()))


def test_a_table_of_models_is_there_before_its_records() -> None:
    written = with_figures(models_block(), [])
    assert table_of(written)[2:] == [["one answer", "-", "-"], ["nothing learnt", "-", "-"], ["ours", "-", "-"]]
    assert with_figures(written, []) == written


def test_a_table_of_models_has_deviations_of_seeds_or_the_interval_of_one(
    quality_record: Callable[..., Quality],
) -> None:
    def run(weights: str, seed: int, value: float) -> Quality:
        one = quality_record(seed=seed)
        one.checkpoint = one.checkpoint | {"name": weights, "sha256": weights}
        one.metrics = [one.metrics[0] | {"value": value, "low": value - 0.05, "high": value + 0.05, "baseline": 0.5}]
        one.key = f"{weights}{seed}"
        return one

    records = [run("tiny", 1, 0.7), run("tiny", 2, 0.8), run("random/tiny", 1, 0.6), run("other", 1, 0.9)]
    rows = table_of(with_figures(models_block(), records))[2:]
    assert [row[1] for row in rows] == ["0.500", "0.600 (0.550 to 0.650)", "0.750 ± 0.071 (2)"]
    assert [row[2] for row in rows] == ["-"] * 3
    with pytest.raises(BadInput, match="rows: 3 should be a dict"):
        with_figures(models_block(rows="3"), [])
