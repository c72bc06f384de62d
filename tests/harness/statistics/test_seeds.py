"""Several seeds as one figure: nothing is averaged away, and nothing that differs in more than the seed is averaged."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from harness.data.kinds import KINDS
from harness.records import record
from harness.records.record import Quality, Record, flag
from harness.results.index import write_index
from harness.statistics.metrics import METRICS, Answers, score
from harness.statistics.seeds import Runs, Score, group, has_collapsed, scores

Qualities: TypeAlias = Callable[..., Quality]


def metric(value: float, name: str = "accuracy", split: str = "dev", base: float = 0.5) -> dict[str, Any]:
    interval = {"low": value - 0.05, "high": value + 0.03, "baseline": base}
    return {"split": split, "name": name, "value": value, "n": 200, "signature": name, **interval}


def runs_of(quality_record: Qualities, values: dict[int, float], **fields: Any) -> list[Record]:
    return [quality_record(seed=seed, metrics=[metric(value)], **fields) for seed, value in values.items()]


def only(records: list[Record]) -> tuple[Runs, Score]:
    (runs,) = group(records)
    (found,) = scores(runs)
    return runs, found


def test_mean_deviation_range_and_the_interval_within_a_seed(quality_record: Qualities) -> None:
    values = {44: 0.75, 42: 0.70, 43: 0.80}
    _, found = only(runs_of(quality_record, values))
    assert found.seeds == [42, 43, 44]
    assert found.values == [0.70, 0.80, 0.75]
    assert found.mean == pytest.approx(0.75)
    assert found.deviation == pytest.approx(statistics.stdev(values.values()))
    assert (found.least, found.greatest) == (0.70, 0.80)
    assert (found.low, found.high) == (pytest.approx(0.70), pytest.approx(0.78))
    assert (found.collapsed, found.failed, found.with_collapsed, found.tried) == ([], [], None, 3)


def test_one_seed_has_no_deviation(quality_record: Qualities) -> None:
    _, found = only(runs_of(quality_record, {42: 0.7}))
    assert found.deviation is None
    assert (found.mean, found.low, found.high) == (0.7, pytest.approx(0.65), pytest.approx(0.73))


def test_a_collapsed_seed_is_counted_and_both_means_are_given(quality_record: Qualities) -> None:
    _, found = only(runs_of(quality_record, {1: 0.7, 2: 0.5, 3: 0.8}))
    assert found.collapsed == [2]
    assert found.mean == pytest.approx(0.75)
    assert (found.least, found.greatest) == (0.7, 0.8)
    assert found.counted == [0.7, 0.8]
    assert found.values == [0.7, 0.5, 0.8], "nothing is lost"
    assert found.with_collapsed == (pytest.approx(2 / 3), pytest.approx(statistics.stdev([0.7, 0.5, 0.8])))
    assert found.low == pytest.approx(0.70)


def test_where_all_seeds_collapsed_the_mean_is_of_all(quality_record: Qualities) -> None:
    _, found = only(runs_of(quality_record, {1: 0.5, 2: 0.4}))
    assert found.collapsed == [1, 2]
    assert found.mean == pytest.approx(0.45)
    assert found.counted == [0.5, 0.4]
    assert found.with_collapsed is None


GOLD = ["yes"] * 6 + ["no"] * 4


@pytest.mark.parametrize(
    ("predicted", "names"),
    [
        (["yes"] * 10, ["accuracy"]),
        (["no"] * 10, ["accuracy", "f1"]),
        (["yes"] * 10, ["matthews", "accuracy"]),
        (["no"] * 4 + ["yes"] * 6, ["matthews", "accuracy"]),
        (["yes"] * 5 + ["no"] * 5, ["accuracy"]),
        (["yes"] * 5 + ["no"] * 5, ["matthews", "accuracy"]),
        (GOLD, ["f1", "accuracy"]),
    ],
)
def test_collapse_is_what_predictions_say_is_degenerate(
    predicted: list[str], names: list[str], quality_record: Qualities
) -> None:
    """The metrics alone decide, and must agree with the flag that comes from the predictions."""
    settings: Any = {"labels": ["yes", "no"], "positive": "yes"}
    made = score("classification", names, GOLD, predicted, task="t", split="dev", draws=10, **settings)
    given = Answers(GOLD, predicted, ("yes", "no"), "yes")
    metrics = [metric(each.value, each.name, base=METRICS[each.name].baseline(given)) for each in made]
    flagged = KINDS["classification"].degenerate(GOLD, predicted) is not None
    assert has_collapsed(quality_record(metrics=metrics), "dev") == flagged


def test_a_seed_that_learned_has_not_collapsed_for_its_accuracy_alone(quality_record: Qualities) -> None:
    """CoLA's majority is two thirds: a model that finds wrong sentences, and takes others for such, is no better."""
    run = quality_record(metrics=[metric(0.27, "matthews", base=0.0), metric(0.69, base=0.6913)])
    assert not has_collapsed(run, "dev")


def test_a_failure_of_another_recipe_is_no_failed_seed(quality_record: Qualities) -> None:
    bad = {"seed": 7, "state": "failed", "reason": "out of memory", "metrics": [], "started": "2020"}
    (found,) = group([quality_record(), quality_record(**bad, limit=3), quality_record(**bad | {"seed": 8})])
    assert [run.seed for run in found.failed] == [8]


def test_a_low_score_of_a_second_metric_is_no_collapse(quality_record: Qualities) -> None:
    run = quality_record(metrics=[metric(0.7), metric(0.6, "f1", base=0.8), metric(0.2, split="test")])
    assert not has_collapsed(run, "dev")
    assert has_collapsed(run, "test")


def test_failed_seeds_are_counted_and_have_no_figure(quality_record: Qualities) -> None:
    lost = quality_record(seed=3, state="failed", reason="killed", metrics=[])
    _, found = only([*runs_of(quality_record, {1: 0.7, 2: 0.8}), lost])
    assert (found.failed, found.tried, found.mean) == ([3], 3, pytest.approx(0.75))


def test_where_every_seed_failed_there_is_no_score(quality_record: Qualities) -> None:
    (runs,) = group([quality_record(seed=seed, state="failed", reason="killed", metrics=[]) for seed in (1, 2)])
    assert scores(runs) == []
    assert [run.seed for run in runs.failed] == [1, 2]


@pytest.mark.parametrize("year", [2020, 2030])
def test_a_run_that_failed_does_not_take_back_one_of_its_seed_that_went_well(
    year: int, quality_record: Qualities
) -> None:
    started = f"{year}-01-01T00:00:00+00:00"
    lost = quality_record(seed=1, state="failed", reason="killed", metrics=[], started=started)
    _, found = only([lost, *runs_of(quality_record, {1: 0.7, 2: 0.8})])
    assert (found.seeds, found.failed) == ([1, 2], [])


def test_of_one_seed_the_last_run_counts(quality_record: Qualities) -> None:
    old = quality_record(seed=1, metrics=[metric(0.9)], started="2020-01-01T00:00:00+00:00")
    runs, found = only([*runs_of(quality_record, {1: 0.7}), old])
    assert (found.values, runs.left_out) == ([0.7], 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"device": "cuda", "machine": {"cpu": "Xeon", "gpus": [{"name": "NVIDIA H100"}]}},
        {"threads": 1},
        {"precision": {"asked": "bf16", "resolved": "bf16"}},
        {"checkpoint": {"name": "minilm-l6", "sha256": "6" * 64, "source": "Hub"}},
        {"implementation": {"name": "other"}},
        {"task": {"name": "mini-sentiment", "kind": "tagging", "context": "document", "data": {}}},
        {"task": {"name": "rte", "kind": "classification", "context": "sentence", "data": {}}},
    ],
)
def test_what_differs_in_more_than_the_seed_is_apart(fields: dict[str, Any], quality_record: Qualities) -> None:
    found = group([*runs_of(quality_record, {1: 0.7}), *runs_of(quality_record, {2: 0.9}, **fields)])
    assert [[run.seed for run in runs.finished] for runs in found] == [[1], [2]]


def test_a_failure_of_another_recipe_is_counted_too_and_of_a_program_of_its_own_it_is_a_seed(
    quality_record: Qualities,
) -> None:
    lost = {"seed": 9, "state": "failed", "reason": "killed", "metrics": []}
    other = quality_record(**lost, recipe=quality_record().recipe | {"learning_rate": 1e-3})
    runs, found = only([other, *runs_of(quality_record, {1: 0.7})])
    assert (found.failed, runs.left_out) == ([], 1)
    runs, found = only([other, *runs_of(quality_record, {1: 0.7}, recipe={"own": "100 steps", "select": "last"})])
    assert (found.failed, runs.left_out) == ([9], 0)


@pytest.mark.parametrize("what", ["recipe", "data", "limit"])
def test_seeds_of_another_recipe_or_other_data_are_left_out_and_counted(what: str, quality_record: Qualities) -> None:
    usual = quality_record()
    other: dict[str, Any] = {
        "recipe": {"recipe": usual.recipe | {"learning_rate": 1e-3}},
        "data": {"task": usual.task | {"data": {"train": "9" * 64}}},
        "limit": {"limit": 16},
    }[what]
    old = runs_of(quality_record, {1: 0.6, 2: 0.6}, started="2020-01-01T00:00:00+00:00", **other)
    runs, found = only([*old, *runs_of(quality_record, {3: 0.8})])
    assert (found.seeds, found.mean, runs.left_out) == ([3], 0.8, 2)


def test_less_memory_or_one_split_more_is_no_other_recipe(quality_record: Qualities) -> None:
    usual = quality_record()
    halved = runs_of(quality_record, {2: 0.8}, recipe=usual.recipe | {"micro_batches": 2})
    task = usual.task | {"data": usual.task["data"] | {"test": "3" * 64}}
    more = quality_record(seed=3, task=task, metrics=[metric(0.9), metric(0.6, split="test")])
    (runs,) = group([*runs_of(quality_record, {1: 0.7}), *halved, more])
    assert {each.split: each.seeds for each in scores(runs)} == {"dev": [1, 2, 3], "test": [3]}


def test_each_split_and_metric_has_its_score_and_the_first_is_the_main_one(quality_record: Qualities) -> None:
    run = quality_record(
        metrics=[metric(0.7), metric(0.6, "f1"), metric(0.5, split="test", base=0.1)],
        flags=[flag("odd", "dev"), flag("odder", "test"), flag("out of memory once")],
    )
    (runs,) = group([run])
    found = scores(runs)
    assert [(each.split, each.metric, each.main) for each in found] == [
        ("dev", "accuracy", True),
        ("dev", "f1", False),
        ("test", "accuracy", True),
    ]
    assert [each.flags for each in found][1:] == [
        [flag("odd", "dev"), flag("out of memory once")],
        [flag("odder", "test"), flag("out of memory once")],
    ]


def test_the_index_of_results_holds_the_same_scores(quality_record: Qualities, tmp_path: Path) -> None:
    records = runs_of(quality_record, {1: 0.7, 2: 0.5, 3: 0.8}, predictions=None)
    for number, each in enumerate(records):
        record.write(each, tmp_path / f"{number}.json")
    write_index(tmp_path, tmp_path / "index.json")
    index = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))
    (found,) = index["scores"]
    _, wanted = only(records)
    assert (found["mean"], found["deviation"], found["collapsed"]) == (wanted.mean, wanted.deviation, [2])
    assert found["published"] == []
    assert found["hardware"] == record.hardware(records[0])
