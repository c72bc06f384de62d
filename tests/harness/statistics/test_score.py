"""The metrics and flags of a record: what they follow from, and what they leave alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from harness.data.read import read_split
from harness.data.task import Task, load_task
from harness.errors import Failure
from harness.records import record
from harness.records.record import Quality
from harness.statistics.score import Predictions, score

LIMIT = 40


@pytest.fixture
def result(quality_record: Callable[..., Quality]) -> Quality:
    """The record of a run on a part of a task, without metrics."""
    return quality_record(metrics=[], flags=[], sanity={}, repairs={}, limit=LIMIT)


def answered(name: str, answer: Callable[[Any], Any]) -> tuple[Task, dict[str, list[Any]], Predictions]:
    """A task, its first examples, and an answer to each of them."""
    task = load_task(name)
    examples = {"dev": list(read_split(task, "dev", None))[:LIMIT]}
    return task, examples, {"dev": [[each.id, answer(each)] for each in examples["dev"]]}


def test_the_metrics_are_those_of_the_task_each_with_its_baseline(result: Quality) -> None:
    task, examples, answers = answered("mini-sentiment", lambda example: example.label)
    (metric,), flags = score(result, task, examples, answers)
    positive = sum(example.label == "positive" for example in examples["dev"])
    assert (metric["split"], metric["name"], metric["value"], metric["n"]) == ("dev", "accuracy", 1.0, LIMIT)
    assert metric["baseline"] == max(positive, LIMIT - positive) / LIMIT
    assert flags == []


def test_the_signature_says_what_is_special_about_the_run(quality_record: Callable[..., Quality]) -> None:
    task, examples, answers = answered("mini-ner", lambda example: list(example.tags))
    run = quality_record(metrics=[], flags=[], recipe={"select": "dev"}, limit=LIMIT)
    (metric,), _ = score(run, task, examples, answers)
    assert metric["signature"].endswith(f"|select=dev|context=sentence|limit={LIMIT}")


def test_predictions_no_better_than_a_constant_are_flagged(result: Quality) -> None:
    task, examples, answers = answered("mini-sentiment", lambda _: "positive")
    (metric,), flags = score(result, task, examples, answers)
    assert flags == [
        record.flag(f"the interval reaches down to the baseline, {metric['baseline']:.3f}", "dev"),
        record.flag("positive is predicted for every example", "dev"),
    ]


def test_flags_about_a_split_are_made_again_and_the_others_stay(result: Quality) -> None:
    task, examples, answers = answered("mini-sentiment", lambda example: example.label)
    result.flags = [record.flag("out of memory"), record.flag("was true once", "dev"), record.flag("stays", "test")]
    result.repairs = {"train": [{"what": "I- tags without a B- before them", "count": 3, "first": "train.conll:12"}]}
    before = copy.deepcopy(result)
    _, flags = score(result, task, examples, answers)
    assert flags == [
        record.flag("out of memory"),
        record.flag("stays", "test"),
        record.flag("I- tags without a B- before them: 3, the first at train.conll:12", "train"),
    ]
    assert result == before, "the record itself is not changed"


def test_a_split_without_labels_is_flagged_and_has_no_metric(result: Quality) -> None:
    task, examples, answers = answered("mini-sentiment", lambda example: example.label)
    unlabelled = [type(each)(each.id, each.text, each.pair, None) for each in examples["dev"]]
    assert score(result, task, {"dev": unlabelled}, answers) == (
        [],
        [record.flag("no labels, predictions only", "dev")],
    )


def test_predictions_for_other_examples_are_refused(result: Quality) -> None:
    task, examples, answers = answered("mini-sentiment", lambda example: example.label)
    answers["dev"][0][0] = "another"
    with pytest.raises(Failure, match="mini-sentiment dev: the predictions are not of these 40 examples"):
        score(result, task, examples, answers)
