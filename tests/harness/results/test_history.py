"""History: the same figure over commits, steps marked beyond the noise and nowhere else."""

import io
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from rich.console import Console

from harness.records.record import Parity, Quality, Record, Speed
from harness.results.history import Series, histories, history_tables

Qualities: TypeAlias = Callable[..., Quality]
Speeds: TypeAlias = Callable[..., Speed]


def day(number: int) -> dict[str, Any]:
    """Commit and start of a run; ``key`` because the code is another."""
    return {"commit": f"{number:x}" * 40, "started": f"2026-01-{number:02}T00:00:00+00:00", "key": f"run {number}"}


def score(value: float, split: str = "dev", name: str = "accuracy") -> dict[str, Any]:
    return {"split": split, "name": name, "value": value, "low": value - 0.05, "high": value + 0.05, "n": 200}


def steps(series: Series) -> list[str]:
    return [point.step for point in series.points]


def printed(records: list[Record]) -> str:
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    console.print(*history_tables(histories(records)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_step_lies_outside_both_intervals(quality_record: Qualities) -> None:
    values = [0.80, 0.84, 0.90, 0.90, 0.70]
    records: list[Record] = [quality_record(metrics=[score(v)], **day(i + 1)) for i, v in enumerate(values)]
    (series,) = histories(records[::-1])
    assert series.subject == "mini-sentiment, seed 42, minilm-l6, fp32, dev accuracy"
    assert series.implementation == "reference"
    assert [point.commit[0] for point in series.points] == ["1", "2", "3", "4", "5"], "by start, whatever the order"
    assert steps(series) == ["", "", "up", "", "down"]


def test_a_slow_slide_shows_in_the_end(quality_record: Qualities) -> None:
    """Each is within its neighbour's interval, of 0.05 to both sides."""
    values = [0.90, 0.87, 0.84, 0.81, 0.78]
    (series,) = histories([quality_record(metrics=[score(v)], **day(i + 1)) for i, v in enumerate(values)])
    assert steps(series) == ["", "", "down", "", "down"]


def test_outside_one_interval_alone_is_noise(quality_record: Qualities) -> None:
    wide = score(0.9) | {"low": 0.7, "high": 0.95}
    for pair in ([score(0.8), wide], [wide, score(0.8)]):
        (series,) = histories([quality_record(metrics=[m], **day(i + 1)) for i, m in enumerate(pair)])
        assert steps(series) == ["", ""]


def test_the_main_metric_of_each_split(quality_record: Qualities) -> None:
    metrics = [score(0.8), score(0.7, name="f1"), score(0.6, "test", "f1"), score(0.5, "test")]
    found = histories([quality_record(metrics=metrics)])
    assert [each.subject.split(", ")[-1] for each in found] == ["dev accuracy", "test f1"]


def test_speed_steps_where_the_ratio_leaves_its_range(speed_record: Speeds) -> None:
    def timed(number: int, seconds: float, ratio: list[float]) -> Speed:
        each = speed_record(**day(number))
        changed = {"sequences_per_second": 8 / seconds, "ratio": ratio}
        each.implementations["transformers"] |= changed
        each.implementations["reference"]["sequences_per_second"] *= number  # another machine's load
        return each

    records: list[Record] = [
        timed(1, 0.08, [0.60, 0.55, 0.65]),
        timed(2, 0.16, [0.64, 0.60, 0.70]),  # the machine was slow: both took twice as long
        timed(3, 0.10, [0.80, 0.75, 0.85]),
        timed(4, 0.10, [0.50, 0.45, 0.90]),  # a range as wide as that says nothing
        timed(5, 0.10, [0.30, 0.25, 0.35]),
    ]
    reference, transformers = histories(records)
    assert steps(reference) == [""] * 5
    assert steps(transformers) == ["", "", "up", "", "down"]
    assert transformers.points[0].figure.shown == "100 seq/s, 0.60x (0.55-0.65)"


def test_latency_is_in_milliseconds_and_without_the_reference_nothing_steps(speed_record: Speeds) -> None:
    records: list[Record] = []
    for number in (1, 2):
        each = speed_record(shape=speed_record("1 x 128").shape | {"latency": True, "sequences": 1}, **day(number))
        alone = {key: value for key, value in each.implementations["transformers"].items() if key != "ratio"}
        each.implementations = {"transformers": alone | {"p50": 0.08 * number}}
        records.append(each)
    (series,) = histories(records)
    assert [point.figure.shown for point in series.points] == ["80.0 ms", "160.0 ms"]
    assert steps(series) == ["", ""]


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 43},
        {"precision": {"asked": "bf16", "resolved": "bf16"}},
        {"checkpoint": {"name": "bert-base-uncased", "sha256": "6" * 64, "source": "Hub"}},
        {"machine": {"cpu": "another", "gpus": []}},
        {"threads": 1},
        {"device": "cuda", "machine": {"cpu": "the same", "gpus": [{"name": "NVIDIA H100"}]}},
    ],
)
def test_what_is_not_the_same_is_not_compared(quality_record: Qualities, other: dict[str, Any]) -> None:
    found = histories([quality_record(**day(1)), quality_record(metrics=[score(0.2)], **day(2), **other)])
    assert [steps(series) for series in found] == [[""], [""]]


def test_other_data_and_other_shapes_are_not_compared(quality_record: Qualities, speed_record: Speeds) -> None:
    other = quality_record().task | {"data": {"train": "1" * 64, "dev": "3" * 64}}
    assert len(histories([quality_record(**day(1)), quality_record(**day(2), task=other)])) == 2
    longer = speed_record("rte").shape | {"tokens": 2000}
    assert len(histories([speed_record("rte", **day(1)), speed_record("rte", **day(2), shape=longer)])) == 4


def test_what_changed_meanwhile_is_said(quality_record: Qualities, speed_record: Speeds) -> None:
    newer = quality_record().implementation | {"code": "d" * 64, "version": "torch 2.14.0"}
    recipe = quality_record().recipe | {"epochs": 4}
    records: list[Record] = [
        quality_record(**day(1)),
        quality_record(**day(2), implementation=newer, recipe=recipe, versions={"torch": "2.14.0", "numpy": "2.4"}),
    ]
    (series,) = histories(records)
    assert series.points[1].changed == (
        "code",
        "numpy",
        "recipe",
        "torch 2.13.0 -> 2.14.0",
        "version torch 2.13.0 -> torch 2.14.0",
    )
    busy = speed_record().load | {"noisy": True}
    assert histories([speed_record(load=busy)])[0].points[0].changed == ("the machine was busy",)


def test_a_failure_is_shown_in_its_place_and_not_compared_with(quality_record: Qualities, speed_record: Speeds) -> None:
    records: list[Record] = [
        quality_record(metrics=[score(0.8)], **day(1)),
        quality_record(state="failed", reason="no", metrics=[], **day(2)),
        quality_record(metrics=[score(0.6)], **day(3)),
    ]
    (series,) = histories(records)
    assert steps(series) == ["", "failed", "down"]
    assert [point.figure.shown for point in series.points][1] == "failed"
    (never,) = histories(records[1:2])
    assert (never.subject, steps(never)) == ("mini-sentiment, seed 42, minilm-l6, fp32", ["failed"])
    broken = speed_record(**day(2))
    broken.implementations["transformers"] = {"state": "failed", "reason": "it hung"}
    assert [steps(each) for each in histories([speed_record(**day(1)), broken])] == [["", ""], ["", "failed"]]


def test_copies_limited_runs_and_parity_are_left_out(
    quality_record: Qualities, parity_record: Callable[..., Parity]
) -> None:
    once = quality_record(**day(1))
    left_out: list[Record] = [
        once,
        quality_record(**day(2), limit=16),
        quality_record(**day(3), state="skipped"),
        parity_record(**day(4)),
    ]
    (series,) = histories([once, *left_out])
    assert len(series.points) == 1


def test_the_table_shows_it(quality_record: Qualities, speed_record: Speeds) -> None:
    gpu = {"device": "cuda", "machine": {"cpu": "Xeon", "gpus": [{"name": "NVIDIA [H100]"}]}}
    records: list[Record] = [
        quality_record(metrics=[score(0.8)], **day(1)),
        quality_record(metrics=[score(0.9)], **(day(2) | {"commit": "2" * 40 + "+changes"})),
        speed_record(**day(3), **gpu),
    ]
    text = printed(records)
    for words in ("2 cores", "NVIDIA [H100]", "11111111", "22222222+", "2026-01-02", "0.900 (0.850-0.950)", "up"):
        assert words in text
    assert text.count("dev accuracy") == 1, "a series is named once"


def test_no_records_no_tables() -> None:
    assert history_tables(histories([])) == []
