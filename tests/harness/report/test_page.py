"""The page of a report: everything in one file, nothing in it but text, every plot with its numbers."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any, TypeAlias

import pytest

from harness.records.record import Parity, Quality, Record, Speed, flag
from harness.report.page import to_html
from harness.results.published import Anchor

Qualities: TypeAlias = Callable[..., Quality]
Speeds: TypeAlias = Callable[..., Speed]
Parities: TypeAlias = Callable[..., Parity]

NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)> \"q\" & 'r' </style></title> [b]"
VOID = {"meta", "br"}


class Node:
    """An element as a browser's parser sees it."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.children: list[Node] = []
        self.texts: list[str] = []

    def all(self, tag: str, kind: str | None = None) -> "list[Node]":
        """The descendants of this tag, and class where one is given."""
        found = []
        for child in self.children:
            if child.tag == tag and (kind is None or kind in child.attributes.get("class", "").split()):
                found.append(child)
            found += child.all(tag, kind)
        return found

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Parser(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Node("", {})
        self.open = [self.root]
        self.feed(text)
        assert self.open == [self.root], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for node in self.open:
            node.texts.append(data)


def parsed(records: list[Record]) -> Node:
    return Parser(to_html(records)).root


def cells(table: Node) -> list[list[str]]:
    """The text of each row's cells, the header's among them."""
    return [[cell.text for cell in row.children] for row in table.all("tr")]


def scored(value: float) -> dict[str, Any]:
    interval = {"low": value - 0.05, "high": value + 0.05, "baseline": 0.5}
    return {"split": "dev", "name": "accuracy", "value": value, "n": 200, "signature": "accuracy|n:200", **interval}


def own(speed_record: Speeds, **more: Any) -> Speed:
    """Timing of the lengths of mini-sentiment."""
    shape = speed_record("mini-sentiment").shape | {"own_lengths": True} | more
    return speed_record(shape=shape)


def test_the_page_has_the_table_the_notes_and_the_signatures(
    quality_record: Qualities, speed_record: Speeds, parity_record: Parities
) -> None:
    page = parsed(
        [parity_record(), quality_record(flags=[flag("odd", "dev")]), quality_record("transformers"), speed_record()]
    )
    (table,) = page.all("table", "results")
    rows = cells(table)
    assert rows[0] == ["implementation", "parityto float64", "mini-sentimentaccuracy", "8 x 128seq/s", "peakmemory"]
    assert [row[0] for row in rows[1:]] == ["reference", "transformers"]
    assert rows[2][2] == "0.8120.750-0.875"
    assert [cell.attributes["scope"] for cell in table.all("th")] == ["col"] * 5 + ["row"] * 2
    notes = [item.text for item in page.all("div", "notes")[0].all("li")]
    assert "a score of one seed: under it its 95% interval (bootstrap over examples)" in notes
    assert "* reference on mini-sentiment, seed 42: dev: odd" in notes
    assert [code.text for code in page.all("code")] == ["accuracy|task:mini-sentiment|split:dev|n:200"]
    assert "minilm-l6 on Intel(R) Xeon(R) Processor @ 2.60GHz, 2 cores" in page.all("h2")[0].text


def test_nothing_is_fetched(quality_record: Qualities, speed_record: Speeds) -> None:
    text = to_html([quality_record(), quality_record("transformers"), own(speed_record, lengths=[[9, 8]])])
    tags = {node.tag for node in every(Parser(text).root)}
    assert "svg" in tags
    assert not tags & {"script", "link", "img", "iframe", "object", "image", "use"}
    assert not re.search(r"\bsrc\s*=|url\(|@import|<link|<script|<img|<iframe", text)


def test_what_records_say_is_only_text(
    quality_record: Qualities, speed_record: Speeds, parity_record: Parities, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, timed = quality_record(), own(speed_record, latency=True)
    figures = {NASTY: timed.implementations["reference"], "reference": timed.implementations["reference"]}
    made = (Anchor(NASTY, "https://example.org/?a=<b>&c", ("minilm-l6",), NASTY, "dev", "accuracy", 0.9, {"runs": 1}),)
    monkeypatch.setattr("harness.results.published.anchors", lambda: made)
    monkeypatch.setattr("harness.results.published._same_protocol", lambda *_: True)
    task = usual.task | {"name": NASTY}
    shape = timed.shape | {"name": NASTY, "lengths": [[5, 3]]}
    page = parsed(
        [
            quality_record(NASTY, task=task, flags=[flag(NASTY)], metrics=[scored(0.7)]),
            quality_record("reference", task=task, metrics=[scored(0.8)]),
            quality_record("reference", task=task, metrics=[scored(0.7)], seed=43),
            quality_record("broken", state="failed", reason=NASTY, metrics=[]),
            parity_record(NASTY),
            speed_record(shape=shape, implementations=figures),
            speed_record(shape=shape | {"latency": False}, implementations=figures),
        ]
    )
    for tag in ("script", "img", "b"):
        assert page.all(tag) == []
    assert len(page.all("style")) == 1
    assert NASTY in page.all("table", "results")[0].text
    assert NASTY in page.all("div", "notes")[0].text
    assert any(NASTY in svg.attributes["aria-label"] for svg in page.all("svg"))
    assert any(NASTY in text.text for svg in page.all("svg") for text in svg.all("title"))
    assert {a.attributes["href"] for a in page.all("a")} == {"https://example.org/?a=<b>&c"}
    handlers = [name for node in every(page) for name in node.attributes if name.startswith("on")]
    assert handlers == []


def every(node: Node) -> list[Node]:
    return [node, *(each for child in node.children for each in every(child))]


def test_every_plot_has_a_name_and_its_numbers(quality_record: Qualities, speed_record: Speeds) -> None:
    latency = speed_record("1 x 128").shape | {"latency": True}
    page = parsed(
        [
            *(quality_record(seed=seed, metrics=[scored(0.7 + seed / 100)]) for seed in (1, 2)),
            quality_record("transformers"),
            own(speed_record, lengths=[[7, 3], [9, 5]]),
            speed_record(shape=latency),
        ]
    )
    assert [h.text for h in page.all("h3")] == [
        "Accuracy against throughput",
        "Seeds",
        "Latency",
        "Lengths of the sequences timed",
    ]
    figures = page.all("figure")
    assert len(figures) == 4
    for figure in figures:
        (svg,) = figure.all("svg")
        assert svg.attributes["role"] == "img"
        assert svg.attributes["aria-label"]
        (table,) = figure.all("table")
        assert len(cells(table)) > 1
        assert figure.all("figcaption")[0].text
    scatter, of_seeds, latencies, lengths = (cells(figure.all("table")[0])[1:] for figure in figures)
    assert scatter == [["reference", "0.715", "0.665-0.765", "160"], ["transformers", "0.812", "0.750-0.875", "100"]]
    assert of_seeds == [["reference", "0.715 ± 0.007", "0.710 (seed 1), 0.720 (seed 2)", "-", "-"]]
    assert latencies == [["reference", "50.0", "55.0"], ["transformers", "80.0", "88.0"]], "of one pass no p99"
    assert lengths == [["7", "3"], ["9", "5"]]


def test_latency_by_length_is_a_curve_of_those_timed_at_more_than_one(speed_record: Speeds) -> None:
    records: list[Record] = []
    for length, seconds in ((16, 0.004), (128, 0.02), (64, 0.01)):
        shape = speed_record(f"1 x {length}").shape | {"latency": True, "sequences": 1, "tokens": length}
        timed = speed_record(shape=shape)
        timed.implementations["reference"] |= {"p50": seconds, "wall": [[seconds] * 20] * 5}
        if length == 64:
            del timed.implementations["transformers"]
        records.append(timed)
    figure, *by_shape = parsed(records).all("figure")
    assert cells(figure.all("table")[0])[1:] == [
        ["reference", "4.0 (16), 10.0 (64), 20.0 (128)"],
        ["transformers", "80.0 (16), 80.0 (128)"],
    ]
    marks = {mark.all("title")[0].text.split(":")[0]: mark for mark in figure.all("svg")[0].all("g")}
    heights = [float(dot.attributes["cy"]) for dot in marks["reference"].all("circle")]
    assert heights == sorted(heights, reverse=True), "longer is slower, and slower is higher"
    assert len(marks["transformers"].all("circle")) == 2
    assert len(by_shape) == 3
    assert len(parsed(records[:1]).all("figure")) == 1, "one length is no curve"
    assert cells(by_shape[-1].all("table")[0])[1][1:] == ["10.0", "55.0", "60.0"], "of a hundred passes"


def test_faster_is_further_right_and_better_is_higher(quality_record: Qualities, speed_record: Speeds) -> None:
    page = parsed([quality_record(metrics=[scored(0.7)]), quality_record("transformers"), own(speed_record)])
    (svg,) = page.all("svg")
    marks = {mark.all("title")[0].text.split(":")[0]: mark.all("circle")[0].attributes for mark in svg.all("g")}
    assert float(marks["reference"]["cx"]) > float(marks["transformers"]["cx"])
    assert float(marks["reference"]["cy"]) > float(marks["transformers"]["cy"])
    assert [g.attributes["class"] for g in svg.all("g")].count("mark reference") == 1
    assert {"reference", "transformers"} <= {text.text for text in svg.all("text")}


def test_a_task_without_timing_of_its_lengths_takes_the_largest_fixed_shape(
    quality_record: Qualities, speed_record: Speeds
) -> None:
    both: list[Record] = [quality_record(), quality_record("transformers")]
    large = speed_record("32 x 128").shape | {"sequences": 32}
    page = parsed([*both, speed_record(), speed_record(shape=large)])
    assert "32 x 128 tokens" in page.all("svg")[0].attributes["aria-label"]
    alone = parsed([*both, speed_record(shape=large | {"latency": True})])
    assert [h.text for h in alone.all("h3")] == ["Latency"], "latency does not stand for throughput"
    assert parsed(both).all("svg") == []


def test_seeds_are_dots_and_a_collapsed_one_is_hollow(quality_record: Qualities) -> None:
    values = {1: 0.7, 2: 0.5, 3: 0.72, 4: 0.74}
    records: list[Record] = [quality_record(seed=seed, metrics=[scored(value)]) for seed, value in values.items()]
    records.append(quality_record(seed=5, state="failed", reason="killed", metrics=[]))
    (svg,) = parsed(records).all("svg", "plot")
    assert len(svg.all("circle", "seed")) == 4
    (hollow,) = svg.all("circle", "hollow")
    assert hollow.all("title")[0].text == "reference: 0.500"
    assert len(svg.all("path", "mean")) == 1
    (row,) = cells(parsed(records).all("figure")[0].all("table")[0])[1:]
    assert (row[1], row[3], row[4]) == ("0.720 ± 0.020", "2", "5")


def test_seeds_that_all_collapsed_are_dots_of_the_mean(quality_record: Qualities) -> None:
    (svg,) = parsed([quality_record(seed=seed, metrics=[scored(0.5)]) for seed in (1, 2)]).all("svg", "plot")
    assert (len(svg.all("circle", "seed")), len(svg.all("circle", "hollow"))) == (2, 0)


def test_many_lengths_share_bars(speed_record: Speeds) -> None:
    lengths = [[length, 2] for length in range(1, 129)]
    page = parsed([own(speed_record, lengths=lengths, sequences=256, tokens=16512)])
    (svg,) = page.all("svg")
    bars = svg.all("rect")
    assert 20 <= len(bars) <= 40
    assert sum(int(bar.all("title")[0].text.rpartition(": ")[2]) for bar in bars) == 256
    assert "256 sequences, 64.5 tokens on average, 128 the longest" in page.all("figcaption")[0].text


def test_an_axis_has_ticks_however_near_its_values_are(speed_record: Speeds) -> None:
    timed = speed_record("1 x 128")
    figures = {"reference": timed.implementations["reference"] | dict.fromkeys(("p50", "p90", "p99"), 0.0014)}
    (svg,) = parsed([speed_record(shape=timed.shape | {"latency": True}, implementations=figures)]).all("svg")
    assert len(svg.all("text", "tick")) >= 2


def test_a_record_without_lengths_has_no_histogram(speed_record: Speeds) -> None:
    assert parsed([own(speed_record)]).all("figure") == []


GPU = {"cpu": "Xeon", "gpus": [{"name": "NVIDIA H100"}]}


def test_other_machines_and_weights_have_sections_of_their_own(quality_record: Qualities, speed_record: Speeds) -> None:
    base = {"name": "bert-base-uncased", "sha256": "6" * 64, "source": "Hub"}
    page = parsed(
        [
            quality_record(),
            quality_record("transformers", device="cuda", machine=GPU),
            quality_record(checkpoint=base),
            own(speed_record),
        ]
    )
    assert [h.text.split(" ")[0] for h in page.all("h2")] == ["minilm-l6", "minilm-l6", "bert-base-uncased"]
    assert "NVIDIA H100" in page.all("h2")[1].text
    assert page.all("svg") == [], "what was measured on different machines is never in one plot"


def test_precisions_are_named_apart(quality_record: Qualities, speed_record: Speeds) -> None:
    bf16 = {"precision": {"asked": "bf16", "resolved": "bf16"}}
    timed = own(speed_record)
    page = parsed([quality_record(), quality_record(**bf16), timed, speed_record(shape=timed.shape, **bf16)])
    names = [row[0] for row in cells(page.all("figure")[0].all("table")[0])[1:]]
    assert sorted(names) == ["reference, bf16", "reference, fp32"]


def test_many_implementations_are_all_drawn_and_the_best_and_the_reference_named(
    quality_record: Qualities, speed_record: Speeds
) -> None:
    timed = own(speed_record)
    figures = timed.implementations["reference"]
    names = ["reference", *(f"port-{number}" for number in range(30))]
    rates = {name: figures | {"sequences_per_second": 300.0 - number} for number, name in enumerate(names[1:])}
    rates["reference"] = figures
    records: list[Record] = [
        quality_record(name, metrics=[scored(0.9 - number / 100)]) for number, name in enumerate(names)
    ]
    records[0] = quality_record("reference", metrics=[scored(0.6)])
    (svg,) = parsed([*records, speed_record(shape=timed.shape, implementations=rates)]).all("svg")
    assert len(svg.all("circle")) == 31
    assert {text.text for text in svg.all("text", "name")} == {"reference", "port-0"}
