"""`labels: auto`: the labels that the training split has."""

from pathlib import Path
from typing import Any

import pytest

from harness.data.leakage import label_notes
from harness.data.read import read_split
from harness.data.task import load_task
from harness.errors import BadInput
from tests.harness.splits import own_task, repairs

AUTO: dict[str, Any] = {"labels": "auto"}


def test_labels_are_those_of_the_training_split_by_name(tmp_path: Path) -> None:
    task = own_task(tmp_path, "text\tlabel\nx\tpos\ny\tneg\nz\tpos\n", **AUTO)
    assert task.outputs == ("neg", "pos")
    assert list(label_notes(task)) == ["`labels: auto` takes 2 labels from the training split: neg, pos"]
    assert list(label_notes(own_task(tmp_path, "text\tlabel\nx\ta\n"))) == []


def test_numbers_are_in_order_of_their_value(tmp_path: Path) -> None:
    task = own_task(tmp_path, "text\tlabel\n" + "".join(f"x\t{i}\n" for i in (10, 9, -1, 2)), **AUTO)
    assert task.outputs == ("-1", "2", "9", "10")


def test_json_values_are_labels_by_their_json_text(tmp_path: Path) -> None:
    lines = "".join(f'{{"text": "x", "label": {cell}}}\n' for cell in ("1.0", "1", "true", '"a"'))
    task = own_task(tmp_path, lines, format="jsonl", **AUTO)
    assert task.outputs == ("1", "a", "true")
    with pytest.raises(BadInput, match="labels: auto: a label of the training split is null, which is no label"):
        own_task(tmp_path, lines + '{"text": "x", "label": null}\n', format="jsonl", **AUTO)


def test_several_labels(tmp_path: Path) -> None:
    fields = AUTO | {"kind": "multi-label", "metrics": ["micro_f1"]}
    assert own_task(tmp_path, "text\tlabel\nx\tb,a\ny\t\nz\tc, b\n", **fields).outputs == ("a", "b", "c")
    lines = '{"text": "x", "label": ["b", "a,c"]}\n{"text": "y", "label": []}\n'
    assert own_task(tmp_path, lines, format="jsonl", **fields).outputs == ("a,c", "b")


def test_entity_types(tmp_path: Path) -> None:
    task = own_task(tmp_path, "# id 1\na B-PER\nb I-PER\n\nc S-GPE-NAM\nd O\n", kind="tagging", scheme="bmes", **AUTO)
    assert task.labels == {"GPE-NAM": "GPE-NAM", "PER": "PER"}
    assert task.outputs == ("O", "B-GPE-NAM", "I-GPE-NAM", "B-PER", "I-PER")


def test_what_the_task_ignores_is_no_label(tmp_path: Path) -> None:
    assert own_task(tmp_path, "text\tlabel\nx\tb\ny\t-\nz\ta\n", ignore=["-"], **AUTO).outputs == ("a", "b")


def test_invisible_differences_make_no_label_and_are_counted(tmp_path: Path) -> None:
    content = "text\tlabel\nx\tpos\nx\tpos \nx\tcaf\u00e9\nx\tcafe\u0301\nx\tpos\u200b\n"
    task = own_task(tmp_path, content, **AUTO)
    assert task.outputs == ("caf\u00e9", "pos")
    assert {(what.split("only ")[1], first) for what, _, first in repairs(task)} == {
        ("in white space, read as those", "data:3"),
        ("in their Unicode form, read as those", "data:5"),
        ("in characters that cannot be seen, read as those", "data:6"),
    }


def test_labels_that_differ_in_case_or_width_are_named(tmp_path: Path) -> None:
    task = own_task(tmp_path, "text\tlabel\nx\tpos\nx\tPos\nx\tneg\nx\t\uff4e\uff45\uff47\n", **AUTO)
    assert len(task.outputs) == 4
    assert [line.partition(" are labels")[0] for line in label_notes(task)][1:] == [
        "'Pos' and 'pos'",
        "'neg' and '\uff4e\uff45\uff47'",
    ]


def test_a_label_that_training_lacks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("text\tlabel\nx\ta\ny\tc\n")
    task = own_task(tmp_path, "text\tlabel\nx\ta\ny\tb\n", files={"train": "data", "dev": "other"}, **AUTO)
    with pytest.raises(
        BadInput, match=r"other:3: .* is not declared; the training split, where `labels: auto` takes them, has"
    ):
        read_split(task, "dev", None)


def test_the_positive_label_is_one_of_them(tmp_path: Path) -> None:
    fields = AUTO | {"metrics": ["f1"]}
    assert own_task(tmp_path, "text\tlabel\nx\ta\ny\tb\n", positive="b", **fields).positive == "b"
    with pytest.raises(BadInput, match="positive: 'c' is none of a, b"):
        own_task(tmp_path, "text\tlabel\nx\ta\ny\tb\n", positive="c", **fields)


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        ("text\tlabel\nx\ta\n", {}, "labels: a classification task needs two or more"),
        ("text\tlabel\nx\t\n", {}, "labels: auto: the training split has none; name them"),
        ("text\tother\nx\ta\n", {}, "data:1: no column 'label', the task's label"),
        ("text\tlabel\n", {}, "labels: auto: the training split has none"),
        ("", {}, "data is empty"),
        ("x O\n", {"kind": "tagging"}, "labels: auto: the training split has none"),
        ("", {"kind": "regression", "metrics": ["pearson"]}, "labels: a regression task has none"),
        (
            "",
            {"kind": "multi-label", "metrics": ["micro_f1"], "label": "multi-hot"},
            "labels: auto takes them from the",
        ),
        (
            "",
            {"files": {"dev": "data"}, "train_task": "rte"},
            "labels: auto takes them from the .*, and there is no train",
        ),
    ],
)
def test_where_there_are_none_to_take(tmp_path: Path, content: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        own_task(tmp_path, content, **(fields | AUTO))
    assert str(tmp_path / "mine.yaml") in str(caught.value)


def test_auto_is_read_again_from_its_file(tmp_path: Path) -> None:
    own_task(tmp_path, "text\tlabel\nx\ta\ny\tb\n", **AUTO)
    (tmp_path / "data").write_text("text\tlabel\nx\ta\ny\tc\n")
    assert load_task(str(tmp_path / "mine.yaml")).outputs == ("a", "c")
