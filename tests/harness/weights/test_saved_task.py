"""A task written down and read back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.data.task import Task, load_task, task_names
from harness.errors import BadInput
from harness.weights.saved_task import declared, from_declared


@pytest.mark.parametrize("name", task_names())
def test_every_built_in_task_is_read_back_from_json(name: str) -> None:
    task = load_task(name)
    files = {split: replace(file, path=Path(file.path.name)) for split, file in task.files.items()}
    back = from_declared(json.loads(json.dumps(declared(task), sort_keys=True)))
    assert back.outputs == task.outputs
    assert back == (replace(task, files=files) if all(f.path.is_absolute() for f in task.files.values()) else task)


def test_fields_that_are_not_at_their_default_are_kept() -> None:
    tagging = replace(load_task("conll2003", "document"), tags="strict", separator="tab", scheme="bilou")
    several = replace(load_task("go_emotions"), label="multi-hot", ignore=("-", None), auto_labels=True)
    for task in (tagging, several):
        assert from_declared(json.loads(json.dumps(declared(task)))) == task


def test_no_folder_of_the_user_is_written_down(tmp_path: Path) -> None:
    task = load_task("rte")
    mine = replace(task, files={"train": replace(task.files["train"], path=tmp_path / "train.tsv")})
    assert str(tmp_path) not in json.dumps(declared(mine))
    assert from_declared(declared(mine)).files["train"].path == Path("train.tsv")


def test_a_field_that_a_later_version_added_is_at_its_default() -> None:
    said = declared(load_task("mini-ner"))
    for name in ("tags", "ignore", "label", "auto_labels"):
        del said[name]
    assert from_declared(said) == from_declared(declared(load_task("mini-ner")))


def change(task: Task, **values: Any) -> Any:
    return declared(task) | values


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (None, "not a task as"),
        ([1], "not a task as"),
        ({"name": "x"}, "no field kind"),
        (change(load_task("rte"), more=1), "unknown fields more"),
        (change(load_task("rte"), labels=[["a"]]), "not a task as"),
        (change(load_task("rte"), files={"test": {"header": True}}), "not a task as"),
        (change(load_task("rte"), recipes={"small": {"lr": 1}}), "not a task as"),
    ],
)
def test_what_is_no_task_is_refused(said: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        from_declared(said)
