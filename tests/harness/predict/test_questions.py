"""A saved model answers the questions of a file: SQuAD's layout, tables, and the command line."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.data.task import load_task
from harness.errors import BadInput
from harness.predict.predict import Answers, predict_file, predict_texts
from harness.weights.saved_model import describe
from reference.checkpoint import add_head, read, save

TEXT = "The mill at Orle\twas built in 1726\nby Jan Moor."
ASKED = [("When was it built?", TEXT), ("Who built it?", TEXT)]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function: fields of the task to the folder of a model of it, with a head that has opinions."""

    def make(**fields: Any) -> Path:
        folder = tmp_path_factory.mktemp("questions")
        checkpoint = add_head(read(tiny_checkpoint), "question-answering", ["start", "end"], seed=1)
        checkpoint.tensors["qa_outputs.weight"] *= 100
        save(checkpoint, folder, "question-answering")
        for name in ("tokenizer.json", "vocab.txt"):
            shutil.copyfile(tiny_checkpoint / name, folder / name)
        describe(replace(load_task("mini-questions"), **fields), "0" * 64, "cpu", "fp32", folder)
        return folder

    return make


Model = Callable[..., Path]


def layout(**fields: Any) -> str:
    entries = [{"id": f"q{i}", "question": question} | fields for i, (question, _) in enumerate(ASKED)]
    return json.dumps({"version": "v2.0", "data": [{"title": "x", "paragraphs": [{"context": TEXT, "qas": entries}]}]})


def answers_of(folder: Path, file: Path, content: str, output: str = "answers.jsonl", **options: Any) -> Answers:
    file.write_text(content, encoding="utf-8")
    return predict_file(folder, file, "cpu", threads=1, output=file.with_name(output), **options)


def test_answers_are_characters_of_the_text(model: Model, tmp_path: Path) -> None:
    found = answers_of(model(), tmp_path / "asked.json", layout())
    rows = list(map(json.loads, found.text.splitlines()))
    assert [row["id"] for row in rows] == ["q0", "q1"]
    for row in rows:
        assert row["answer"]
        assert TEXT[row["start"] : row["end"]] == row["answer"] == row["best"][0]["answer"]
        assert "null_score" not in row
        assert sum(each["probability"] for each in row["best"]) == pytest.approx(1, abs=0.01)
    assert (found.inputs, found.cut, found.notes) == (2, 0, [])


def test_answers_in_the_file_are_not_read(model: Model, tmp_path: Path) -> None:
    plain = answers_of(model(), tmp_path / "a.json", layout())
    for fields in ({"answers": []}, {"answers": [{"text": "x", "answer_start": 0}]}, {"answers": "?"}):
        assert answers_of(model(), tmp_path / "b.json", layout(**fields)).text == plain.text


def test_a_json_file_of_answers_is_what_the_official_scripts_read(model: Model, tmp_path: Path) -> None:
    rows = answers_of(model(), tmp_path / "a.json", layout()).text.splitlines()
    found = answers_of(model(), tmp_path / "a.json", layout(), "predictions.json")
    assert json.loads(found.text) == {row["id"]: row["answer"] for row in map(json.loads, rows)}


def test_a_table_holds_one_line_for_each_question(model: Model, tmp_path: Path) -> None:
    rows = [json.loads(row) for row in answers_of(model(), tmp_path / "a.json", layout()).text.splitlines()]
    lines = answers_of(model(), tmp_path / "a.json", layout(), "answers.tsv").text.splitlines()
    assert lines[0].split("\t") == ["id", "answer", "start", "end", "score"]
    for row, line in zip(rows, lines[1:], strict=True):
        cells = line.split("\t")
        assert cells[:1] + cells[2:] == [row["id"], str(row["start"]), str(row["end"]), str(row["score"])]
        assert cells[1] == row["answer"].replace("\t", " ").replace("\n", " ")


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_questions_in_a_table(model: Model, tmp_path: Path, suffix: str) -> None:
    asked = [json.loads(row)["answer"] for row in answers_of(model(), tmp_path / "a.json", layout()).text.splitlines()]
    if suffix == "jsonl":
        content = "".join(
            json.dumps({"id": str(i), "question": q, "context": c}) + "\n" for i, (q, c) in enumerate(ASKED)
        )
    else:
        content = "question,context\n" + "".join(f'"{question}","{context}"\n' for question, context in ASKED)
    found = answers_of(model(), tmp_path / f"b.{suffix}", content)
    assert [json.loads(row)["answer"] for row in found.text.splitlines()] == asked
    other = answers_of(
        model(),
        tmp_path / f"c.{suffix}",
        content.replace("question", "q", 2 if suffix == "jsonl" else 1),
        columns={"text": "q"},
    )
    assert [json.loads(row)["answer"] for row in other.text.splitlines()] == asked


def test_a_question_on_the_command_line(model: Model) -> None:
    found = predict_texts(model(), ["Who built it?\tJan Moor built the mill."], "cpu", threads=1)
    head, row = (line.split("\t") for line in found.text.splitlines())
    assert head == ["id", "answer", "start", "end", "score"]
    assert row[1] == "Jan Moor built the mill."[int(row[2]) : int(row[3])]


def test_no_answer_where_the_model_says_so(model: Model, tmp_path: Path) -> None:
    for threshold, answered in ((-1e9, False), (1e9, True)):
        folder = model(unanswerable=True, null_threshold=threshold)
        for row in map(json.loads, answers_of(folder, tmp_path / "a.json", layout()).text.splitlines()):
            assert bool(row["answer"]) == answered
            assert (row["start"] is None) == (not answered)
            assert (row["score"] == row["null_score"]) == (not answered)
            assert row["best"][0]["answer"], "what it would have been"
        line = answers_of(folder, tmp_path / "a.json", layout(), "a.tsv").text.splitlines()[1].split("\t")
        assert answered or line[:4] == ["q0", "", "", ""]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.json", "{}", {}, "not SQuAD's layout"),
        ("a.json", layout(id="q"), {}, "question q: its id is that of another one too"),
        ("a.json", layout(), {"columns": {"text": "x"}}, "--columns: no role text; this file has none"),
        ("a.tsv", "question\tx\na\tb\n", {}, "no column 'context', the task's pair"),
        ("a.txt", "only a question\n", {}, "this model reads a text and its pair"),
        ("a.xml", "<a/>", {}, r"this model reads \.txt, \.tsv, \.csv, \.jsonl, \.json"),
    ],
)
def test_what_cannot_be_read(
    model: Model, tmp_path: Path, name: str, content: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        answers_of(model(), tmp_path / name, content, **options)


def test_long_questions_are_counted_as_cut(model: Model, tmp_path: Path) -> None:
    found = answers_of(model(), tmp_path / "a.json", layout(question="why " * 70))
    assert found.cut == 2


def test_other_kinds_read_no_json(tiny_checkpoint: Path, tmp_path: Path) -> None:
    describe(load_task("mini-sentiment"), "0" * 64, "cpu", "fp32", tmp_path)
    (tmp_path / "a.json").write_text(layout())
    with pytest.raises(BadInput, match=r"a\.json: this model reads \.txt, \.tsv, \.csv, \.jsonl; "):
        predict_file(tmp_path, tmp_path / "a.json", "cpu")
