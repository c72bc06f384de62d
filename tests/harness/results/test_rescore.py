"""Metrics again from stored predictions: the same, or what differs is said; and nothing else is touched."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.data.read import read_split
from harness.data.reading import task_files
from harness.data.task import Task, load_task
from harness.errors import BadInput, Failure
from harness.records import record
from harness.records.record import Parity, Quality, Speed
from harness.results import rescore as rescoring
from harness.results.rescore import Change, rescore
from harness.statistics.score import score

ROOT = Path(__file__).parents[3]
Recorded = Callable[..., Path]
WRONG = record.flag("was true once", "dev")


@pytest.fixture
def recorded(quality_record: Callable[..., Quality], tmp_path: Path) -> Recorded:
    """A function: a task to the record of a run on it, some of whose answers are wrong, with its predictions."""

    def make(source: str = "mini-sentiment", folder: Path = tmp_path / "runs", **fields: Any) -> Path:
        task = load_task(source, fields.pop("context", None))
        limit = fields.get("limit")
        examples = {split: [*read_split(task, split, None)][:limit] for split in task.evaluate}
        answers = {split: [[each.id, answer_to(each)] for each in those] for split, those in examples.items()}
        data = {split: hashlib.sha256(file.read_bytes()).hexdigest() for split, file in task_files(task, None).items()}
        said = {name: getattr(task, name) for name in ("name", "title", "suite", "kind", "context")}
        result = quality_record(
            **{"task": said | {"data": data}, "metrics": [], "predictions": f"{task.name}.gz"} | fields
        )
        result.metrics, result.flags = score(result, task, examples, answers)
        record.write_predictions(folder / f"{task.name}.gz", answers)
        record.write(result, folder / f"{task.name}.json")
        return folder / f"{task.name}.json"

    return make


def answer_to(example: Any) -> Any:
    """Wrong for one example in four."""
    wrong = int(hashlib.sha256(example.id.encode()).hexdigest(), 16) % 4 == 0
    if hasattr(example, "tags"):
        return ["O"] * len(example.words) if wrong else list(example.tags)
    if isinstance(example.label, float):
        return example.label + wrong
    if isinstance(example.label, tuple):
        return [] if wrong else list(example.label)
    return {"positive": "negative", "no": "yes"}.get(example.label, example.label) if wrong else example.label


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The record with something in it changed."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return path


def all_of(*paths: Path, **options: Any) -> dict[Path, list[Change]]:
    return dict(rescore(paths, **options))


def test_data_and_tasks_are_read_once_for_all_records_of_them(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        recorded(folder=tmp_path / "runs" / str(number))
        recorded("mini-ner", folder=tmp_path / "runs" / str(number), context="document")
        recorded("mini-ner", folder=tmp_path / "runs" / f"{number}-alone", context="sentence")
    reads: list[tuple[str, str, str]] = []

    def read(task: Task, split: str, data: Path | None) -> Any:
        reads.append((task.name, task.context, split))
        return read_split(task, split, data)

    monkeypatch.setattr("harness.results.rescore.read_split", read)
    assert len(all_of(tmp_path / "runs")) == 9
    wanted = [("mini-ner", "document", "dev"), ("mini-ner", "sentence", "dev"), ("mini-sentiment", "sentence", "dev")]
    assert sorted(reads) == wanted


def test_equal_predictions_are_scored_once_and_every_record_is_compared(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, wrong, other = (recorded(folder=tmp_path / "runs" / str(number)) for number in range(4))
    changed(wrong, lambda values: values["metrics"][0].update(value=0.5))
    answers = record.read_predictions(other.with_name("mini-sentiment.gz"))
    answers["dev"][0][1] = {"positive": "negative", "negative": "positive"}[answers["dev"][0][1]]
    record.write_predictions(other.with_name("mini-sentiment.gz"), answers)
    usual, scored = rescoring.score, []

    def score(result: Quality, *arguments: Any) -> Any:
        scored.append(result.implementation["name"])
        return usual(result, *arguments)

    monkeypatch.setattr(rescoring, "score", score)
    found = all_of(tmp_path / "runs")
    assert len(scored) == 2, "the three that are equal, and the one with another answer"
    assert found[first] == found[second] == []
    assert [each.what for each in found[wrong]] == ["dev accuracy value"]
    assert "dev accuracy value" in {each.what for each in found[other]}


@pytest.mark.parametrize(
    "fields",
    [
        {"flags": [record.flag("out of memory")]},
        {"recipe": {"select": "dev"}},
        {"sanity": {"dev": {"examples": 100, "cut": 50}}},
        {"repairs": {"dev": [{"what": "nul", "count": 2, "first": "dev.tsv:3"}]}},
    ],
)
def test_records_of_equal_predictions_have_metrics_and_flags_of_their_own(
    recorded: Recorded, tmp_path: Path, fields: dict[str, Any]
) -> None:
    """What a record says beside its predictions goes into signatures and flags."""
    paths = [recorded(folder=tmp_path / "runs" / str(number), **each) for number, each in enumerate([{}, fields])]
    plain, special = (record.read(path) for path in paths)
    assert isinstance(plain, Quality)
    assert isinstance(special, Quality)
    assert (plain.flags, plain.metrics) != (special.flags, special.metrics)
    assert all_of(tmp_path / "runs") == {path: [] for path in paths}


# ---- what is the same, and what differs ----


@pytest.mark.parametrize("name", ["mini-sentiment", "mini-paraphrase", "mini-similarity", "mini-ner"])
def test_a_sound_record_is_what_its_predictions_say(recorded: Recorded, name: str) -> None:
    path = recorded(name)
    before = path.read_bytes()
    assert all_of(path) == {path: []}
    assert all_of(path.parent, write=True) == {path: []}
    assert path.read_bytes() == before


@pytest.mark.parametrize("settings", [{"limit": 30}, {"context": "document"}])
def test_settings_of_the_run_are_those_of_the_record(recorded: Recorded, settings: dict[str, Any]) -> None:
    path = recorded("mini-ner", **settings)
    (metric,) = record.read(path).metrics  # type: ignore[attr-defined]
    assert ("limit=30" if "limit" in settings else "context=document") in metric["signature"]
    assert all_of(path) == {path: []}


@pytest.mark.parametrize("field", ["value", "low", "high", "baseline"])
def test_a_number_that_differs_is_told_with_old_and_new(recorded: Recorded, field: str) -> None:
    path = recorded()
    right = record.read(path).metrics[0][field]  # type: ignore[attr-defined]
    changed(path, lambda values: values["metrics"][0].update({field: right + 2e-12}))
    assert all_of(path)[path] == [Change(f"dev accuracy {field}", right + 2e-12, right)]
    changed(path, lambda values: values["metrics"][0].update({field: right + 5e-13}))
    assert all_of(path)[path] == [], "another order of summation is no difference"


def test_metrics_signatures_and_flags_that_are_not_the_same_are_told(recorded: Recorded) -> None:
    path = recorded("mini-paraphrase")
    accuracy, f1 = record.read(path).metrics  # type: ignore[attr-defined]

    def change(values: dict[str, Any]) -> None:
        values["metrics"] = [accuracy | {"signature": "accuracy|n:200", "name": "accuracy"}, accuracy | {"name": "old"}]
        values["flags"] = [record.flag("out of memory with whole batches; computed in two pieces each"), WRONG]

    changes = all_of(changed(path, change))[path]
    assert Change("dev accuracy signature", "accuracy|n:200", accuracy["signature"]) in changes
    assert Change("dev old value", accuracy["value"], None) in changes
    assert Change("dev f1 value", None, f1["value"]) in changes
    assert [each for each in changes if each.what == "flag"] == [Change("flag", "dev: was true once", None)]


def test_what_sanity_counted_is_flagged_again(recorded: Recorded) -> None:
    sanity = {"train": {"examples": 10, "cut": 9}, "dev": {"examples": 200, "cut": 5, "tokens_lost": 9, "in_train": 0}}
    path = recorded(sanity=sanity)
    assert all_of(path) == {path: []}
    changed(path, lambda values: values.update(flags=[]))
    assert all_of(path)[path] == [Change("flag", None, "dev: 5 of 200 examples (2.5%) are cut to what the model reads")]


def test_runs_that_did_not_finish_and_other_records_are_left_alone(
    recorded: Recorded,
    quality_record: Callable[..., Quality],
    speed_record: Callable[..., Speed],
    parity_record: Callable[..., Parity],
) -> None:
    path = recorded()
    failed = quality_record(state="failed", reason="no such kernel", metrics=[])
    for name, each in (("failed", failed), ("speed", speed_record()), ("parity", parity_record())):
        record.write(each, path.parent / f"{name}.json")
    assert all_of(path.parent) == {path: []}
    with pytest.raises(BadInput, match=r"no finished quality run in .*failed"):
        all_of(path.parent / "failed.json")


# ---- writing ----


def test_write_puts_the_metrics_and_flags_into_the_record_and_changes_nothing_else(recorded: Recorded) -> None:
    path = recorded()
    right = record.read(path)
    changed(path, lambda values: values["metrics"][0].update(value=0.99, low=0.98))
    changed(path, lambda values: values.update(flags=[WRONG]))
    assert [each.what for each in all_of(path)[path]] == ["dev accuracy value", "dev accuracy low", "flag"]
    assert record.read(path) != right, "not without --write"
    assert len(all_of(path, write=True)[path]) == 3
    assert record.read(path) == right
    assert sorted(each.name for each in path.parent.iterdir()) == ["mini-sentiment.gz", "mini-sentiment.json"]


# ---- what cannot be scored ----


def test_other_data_than_the_runs_is_refused_before_anything_is_computed(recorded: Recorded) -> None:
    path = recorded()
    changed(path, lambda values: values["task"]["data"].update(dev="0" * 64))
    changed(path, lambda values: values["metrics"][0].update(value=0.99))
    before = path.read_bytes()
    with pytest.raises(BadInput, match=r"mini-sentiment\.json: dev\.tsv here is not the file that the run had"):
        all_of(path, write=True)
    assert path.read_bytes() == before


def test_data_that_is_not_there_is_named(recorded: Recorded, tmp_path: Path) -> None:
    path = changed(recorded(), lambda values: values["task"].update(name="rte", suite="glue"))
    with pytest.raises(BadInput, match=r"dev\.tsv is not there.*data get glue"):
        all_of(path, data=tmp_path / "empty")


def test_a_kind_of_another_version_is_bad_input(recorded: Recorded) -> None:
    path = changed(recorded(), lambda values: values["task"].update(kind="ordinal"))
    with pytest.raises(BadInput, match=r"mini-sentiment\.json: this version has no tasks of kind 'ordinal'"):
        all_of(path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda pairs: pairs[1:], Failure, "1 ids are of one side alone"),
        (lambda pairs: [*pairs, ["new", "positive"]], Failure, r"1 ids are of one side alone \(new\)"),
        (lambda pairs: [*pairs[1:], pairs[1]], Failure, "200 predictions of 199 examples"),
        (lambda pairs: [[name, "glad"] for name, _ in pairs], BadInput, "is 'glad', which is none of the task's"),
        (lambda pairs: [name for name, _ in pairs], Failure, "not pairs"),
    ],
)
def test_predictions_of_other_examples_are_never_scored(
    recorded: Recorded, change: Callable[[list[Any]], list[Any]], error: type[Exception], message: str
) -> None:
    path = recorded()
    file = path.with_suffix(".gz")
    record.write_predictions(file, {"dev": change(record.read_predictions(file)["dev"])})
    with pytest.raises(error, match=rf"mini-sentiment\.json: mini-sentiment dev: .*{message}"):
        all_of(path)


def test_the_order_of_predictions_does_not_matter(recorded: Recorded) -> None:
    path = recorded()
    file = path.with_suffix(".gz")
    pairs = record.read_predictions(file)["dev"]
    shuffled = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]
    record.write_predictions(file, {"dev": shuffled})
    assert all_of(path) == {path: []}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, r"its predictions, mini-sentiment\.gz, are not beside it"),
        (lambda file: file.write_bytes(b"\x1f\x8bnothing"), "not a file of predictions"),
        (lambda file: record.write_predictions(file, {}), "no predictions of the split dev"),
    ],
)
def test_predictions_that_cannot_be_read_are_bad_input(
    recorded: Recorded, damage: Callable[[Path], Any], message: str
) -> None:
    path = recorded()
    damage(path.with_suffix(".gz"))
    with pytest.raises(BadInput, match=message):
        all_of(path)


def test_a_record_without_predictions_is_bad_input(recorded: Recorded) -> None:
    path = changed(recorded(), lambda values: values.update(predictions=None))
    with pytest.raises(BadInput, match="it has no predictions"):
        all_of(path)


# ---- tasks of one's own ----


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    rows = "".join(f"text {i}\t{['no', 'yes', 'no'][i % 3]}\n" for i in range(30))
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text("text\tlabel\n" + rows)
    declared = {
        "name": "own",
        "title": "Own",
        "kind": "classification",
        "labels": ["no", "yes"],
        "format": "tsv",
        "columns": {"text": "text", "label": "label"},
        "files": {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"},
        "evaluate": ["dev", "test"],
        "metrics": ["accuracy", "matthews"],
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(declared))
    return tmp_path / "own.yaml"


def test_a_task_of_ones_own_is_named_by_its_file(recorded: Recorded, own_task: Path) -> None:
    path = recorded(str(own_task))
    assert len(record.read(path).metrics) == 4  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="task own is not built in; name its YAML file with --task"):
        all_of(path)
    assert all_of(path, own_tasks=[own_task]) == {path: []}
    (own_task.parent / "test.tsv").write_text("text\tlabel\nanother\tno\n")
    with pytest.raises(BadInput, match=r"test\.tsv here is not the file that the run had"):
        all_of(path, own_tasks=[own_task])


def test_a_split_without_labels_keeps_its_flag(recorded: Recorded, own_task: Path) -> None:
    (own_task.parent / "test.tsv").write_text("text\na\nb\n")
    path = recorded(str(own_task))
    found = record.read(path)
    assert isinstance(found, Quality)
    assert {metric["split"] for metric in found.metrics} == {"dev"}
    assert record.flag("no labels, predictions only", "test") in found.flags
    assert all_of(path, own_tasks=[own_task]) == {path: []}


def test_more_metrics_than_the_run_had_are_added(recorded: Recorded, own_task: Path) -> None:
    path = recorded(str(own_task))
    found = record.read(path)
    assert isinstance(found, Quality)
    record.write(replace(found, metrics=[each for each in found.metrics if each["name"] == "accuracy"]), path)
    assert all_of(path, own_tasks=[own_task], write=True)[path]
    assert record.read(path) == found


# ---- the command ----


def test_the_command_says_what_differs_and_exits_with_1_until_it_is_written(
    recorded: Recorded, tmp_path: Path, main: Callable[..., tuple[int, str, str]]
) -> None:
    rescored = partial(main, "rescore")
    path = recorded()
    runs = str(path.parent)
    assert rescored(runs) == (0, "1 scored again, 0 different\n", "")
    right = record.read(path).metrics[0]["value"]  # type: ignore[attr-defined]
    changed(path, lambda values: values["metrics"][0].update(value=0.5))
    line = f"{path}: dev accuracy value: 0.5 -> {right}\n1 scored again, 1 different"
    assert rescored(runs) == (1, f"{line}\n", "")
    assert rescored(runs, "--write") == (0, f"{line}, rewritten\n", "")
    assert rescored(runs)[0] == 0
    changed(path, lambda values: values["task"]["data"].update(dev="0" * 64))
    code, out, err = rescored(runs)
    assert (code, out) == (2, "")
    assert "another sha256" in err
    assert rescored(str(tmp_path / "absent"))[0] == 2


def test_no_model_is_loaded_and_nothing_that_could_run_one(recorded: Recorded) -> None:
    script = f"""
import sys
from pathlib import Path
from harness.results.rescore import rescore
assert dict(rescore([Path({str(recorded())!r})]))
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"
