"""Answers as they are written: one for each input, and read back by the product's own reader as they were meant."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.encode import Encoded
from harness.data.examples import TextExample, WordExample
from harness.data.read import read_split
from harness.data.reading import SplitFile
from harness.data.task import Task, load_task
from harness.errors import BadInput
from harness.port.batch import Array, from_lists
from harness.predict.answers import check_writable, form_of, written
from harness.predict.inputs import Inputs, from_file

NONE = Encoded(from_lists([], []), None, np.array([], dtype=np.int64))  # what is encoded matters to words alone
IDS = ['a"1', "it's", "x,y", '"', "01"]


def asked(task: Task, ids: list[str]) -> Inputs:
    return Inputs(task, [TextExample(each, "text", None, None) for each in ids])


def tagged(task: Task, tags: list[str]) -> tuple[Array, Encoded]:
    """The logits of these tags, of words of one token each."""
    logits = np.eye(len(task.outputs))[[task.outputs.index(tag) for tag in tags]]
    return logits, replace(NONE, words=np.arange(len(tags)))


def classification() -> tuple[Inputs, Array, Encoded]:
    """Of which every answer is negative."""
    logits = np.array([[2.0, -1.0]] * len(IDS), dtype=np.float32)
    return asked(load_task("mini-sentiment"), IDS), logits, NONE


@pytest.mark.parametrize("name", ["answers.tsv", "answers.csv", "answers.jsonl"])
def test_answers_are_read_back_by_the_reader_of_tasks(tmp_path: Path, name: str) -> None:
    inputs, logits, encoded = classification()
    form = form_of(inputs.reading, tmp_path / name)
    (tmp_path / name).write_text(written(inputs, logits, encoded, form), encoding="utf-8")
    columns: dict[str, str | int] = {"id": "id", "text": "label", "label": "label"}
    split = {"dev": SplitFile(tmp_path / name, True, columns)}
    back = read_split(replace(inputs.reading, format=form, files=split), "dev", None)  # type: ignore[arg-type]
    assert [(each.id, each.label) for each in back] == [(each, "negative") for each in IDS]  # type: ignore[union-attr]


def test_forms() -> None:
    inputs, logits, encoded = classification()
    lines = written(inputs, logits, encoded, "tsv").split("\n")
    assert lines[:2] == ["id\tlabel\tprobability", 'a"1\tnegative\t0.9526']
    assert list(csv.reader(written(inputs, logits, encoded, "csv").splitlines()))[3] == ["x,y", "negative", "0.9526"]
    first = json.loads(written(inputs, logits, encoded, "jsonl").split("\n")[0])
    assert first == {"id": 'a"1', "label": "negative", "probability": 0.9526}


@pytest.mark.parametrize(
    ("output", "form"), [(None, "tsv"), ("a.tsv", "tsv"), ("a", "tsv"), ("a.CSV", "csv"), ("a.jsonl", "jsonl")]
)
def test_the_name_of_the_output_says_its_form(output: str | None, form: str) -> None:
    assert form_of(load_task("rte"), None if output is None else Path(output)) == form


@pytest.mark.parametrize("score", [0.1, 1 / 3, -1e-8, 123456.789, 1e20])
@pytest.mark.parametrize("form", ["tsv", "csv", "jsonl"])
def test_scores_are_written_to_the_last_bit_of_float32(score: float, form: Any) -> None:
    exact = float(np.float32(score))
    text = written(asked(load_task("stsb"), ["0"]), np.array([[exact]]), NONE, form).split("\n")
    cell = json.loads(text[0])["score"] if form == "jsonl" else text[1].replace(",", "\t").split("\t")[1]
    assert np.float32(cell) == np.float32(score)


def test_several_labels_or_none() -> None:
    task = replace(load_task("go_emotions"), labels={"a": "a", "b": "b"}, label_separator="|")
    inputs, logits = asked(task, ["0", "1"]), np.array([[2.0, 1.0], [-1.0, -1.0]])
    assert written(inputs, logits, NONE, "tsv") == "id\tlabel\tprobability\n0\ta|b\t0.8808,0.7311\n1\t\t\n"
    assert json.loads(written(inputs, logits, NONE, "jsonl").split("\n")[0])["label"] == ["a", "b"]


@pytest.mark.parametrize("name", ["x\ty", "x\ny", "x\ry"])
def test_an_id_that_a_row_cannot_hold_is_refused_before_the_work_with_a_way_out(name: str) -> None:
    inputs = asked(load_task("rte"), ["0", name])
    with pytest.raises(
        BadInput, match=r"an id \(2 of 2\) holds a tab or line break.*\.csv or \.jsonl file with --output"
    ):
        check_writable(inputs, "tsv")
    check_writable(inputs, "csv")
    check_writable(inputs, "jsonl")


def test_labels_that_could_not_be_told_apart_are_refused() -> None:
    task = replace(load_task("go_emotions"), labels={"a,b": "a,b", "b": "b"})
    for form in ("tsv", "csv"):
        with pytest.raises(BadInput, match=r"a label holds ','.*\.jsonl file"):
            check_writable(asked(task, ["0"]), form)  # type: ignore[arg-type]
    check_writable(asked(task, ["0"]), "jsonl")


def test_tagged_lines_lie_beside_the_lines_of_the_input(tmp_path: Path) -> None:
    content = "-DOCSTART- -X- O\n\nJordan NNP O\nswims VBZ O\n\n\nOslo NNP O\n"
    (tmp_path / "a.conll").write_text(content)
    task = load_task("mini-ner")
    inputs = from_file(task, tmp_path / "a.conll")
    text = written(inputs, *tagged(task, ["B-PER", "O", "B-LOC"]), "conll")
    assert text == "-DOCSTART- -X- O\n\nJordan B-PER\nswims O\n\n\nOslo B-LOC\n"


def test_words_with_spaces_are_tagged_behind_a_tab_and_read_back(tmp_path: Path) -> None:
    task = replace(load_task("mini-ner"), separator="tab")
    (tmp_path / "a.conll").write_text("New York\tO\n\nis\tO")
    inputs = from_file(task, tmp_path / "a.conll")
    text = written(inputs, *tagged(task, ["B-LOC", "O"]), "conll")
    assert text == "New York\tB-LOC\n\nis\tO\n"
    (tmp_path / "b.conll").write_text(text)
    files = {"dev": SplitFile(tmp_path / "b.conll", False, {"word": 0, "tag": -1})}
    back = read_split(replace(task, files=files), "dev", None)
    assert [each.tags for each in back if isinstance(each, WordExample)] == [("B-LOC",), ("O",)]


def test_tagged_words_are_not_written_as_a_table() -> None:
    for name in ("a.csv", "a.jsonl"):
        with pytest.raises(BadInput, match=r"tagged words are written one a line; call the file \.conll or \.txt"):
            form_of(load_task("mini-ner"), Path(name))
