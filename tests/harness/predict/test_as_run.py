"""A saved model answers the dev file of its run as its run did: the same labels, and scores to the last bit."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml

from harness.data.kinds import KINDS
from harness.measure import evaluate, main_path, parity
from harness.measure.parity import Outputs
from harness.measure.plan import Plan
from harness.predict import predict
from harness.records.record import Quality, predictions_of

PLACES, PEOPLE = ["Oslo", "New York", "Lima", "La Paz"], ["Ada Byron", "Ben", "Chloe"]
SAYINGS = ["the ferry is late again", "a fine day for a walk", "nothing worked, I want my money", "it is what it is"]


def rows(count: int) -> list[dict[str, Any]]:
    """Examples whose texts differ in length, so that batches are more than one row after the other."""
    found = []
    for i in range(count):
        words = f"{SAYINGS[i % 4]} {' '.join(SAYINGS[(i * 7 + 1) % 4].split()[: i % 5])}".strip()
        found.append({"key": f'k"{i}', "message": words, "answer": SAYINGS[i % 3], "i": i})
    return found


def tsv(header: bool, columns: list[str], label: Callable[[int], Any]) -> Callable[[int], str]:
    def content(count: int) -> str:
        lines = [[str((row | {"team": label(row["i"])})[name]) for name in columns] for row in rows(count)]
        return "".join("\t".join(line) + "\n" for line in ([columns] if header else []) + lines)

    return content


def comma_separated(count: int) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["team", "message"])
    writer.writerows([["billing", "delivery", "returns"][row["i"] % 3], row["message"]] for row in rows(count))
    return out.getvalue()


def json_lines(count: int) -> str:
    names = ["joy", "anger", "fear"]
    return "".join(
        json.dumps({"message": row["message"], "team": [n for j, n in enumerate(names) if (row["i"] + j) % 3]}) + "\n"
        for row in rows(count)
    )


def words(between: str, documents: bool) -> Callable[[int], str]:
    """Sentences of words and tags, some longer than the model reads."""

    def content(count: int) -> str:
        lines = []
        for i in range(count):
            if documents and i % 4 == 0:
                lines += [f"-DOCSTART-{between}O", ""]
            place, person = PLACES[i % 4].replace(" ", " " if between == "\t" else "_"), PEOPLE[i % 3].split()[0]
            lines += [f"{person}{between}B-PER", f"lives{between}O"]
            lines += [f"word{between}O"] * (17 if i % 9 == 8 else i % 5)
            lines += [f"{place}{between}B-LOC", ""]
        return "\n".join(lines) + "\n"

    return content


def questions(count: int) -> str:
    """About texts of one window and of several, some without an answer."""
    paragraphs = []
    for i in range(count):
        place, person = PLACES[i % 4], PEOPLE[i % 3]
        text = f"{SAYINGS[i % 4]}. {person} lives in {place}. {'it rains, ' * (i % 7)}"
        answers = [] if i % 5 == 4 else [{"text": place, "answer_start": text.index(place)}]
        entry = {"id": f"k{i}", "question": f"Where does {person} live?", "answers": answers}
        paragraphs.append({"context": text, "qas": [entry]})
    return json.dumps({"version": "v2.0", "data": [{"title": "places", "paragraphs": paragraphs}]})


class Case(NamedTuple):
    suffix: str
    content: Callable[[int], str]
    fields: dict[str, Any]


CASES = {
    "classification, csv": Case(
        "csv",
        comma_separated,
        {
            "kind": "classification",
            "format": "csv",
            "labels": ["returns", "billing", "delivery"],
            "columns": {"text": "message", "label": "team"},
            "metrics": ["accuracy"],
        },
    ),
    "classification of pairs, tsv without a header, GBK": Case(
        "txt",
        lambda count: tsv(False, ["team", "message", "answer"], lambda i: i % 2)(count).replace("late", "晚点"),
        {
            "kind": "classification",
            "format": "tsv",
            "header": False,
            "encoding": "gbk",
            "labels": {0: "no", 1: "yes"},
            "columns": {"text": 1, "pair": 2, "label": 0},
            "metrics": ["accuracy"],
        },
    ),
    "regression of pairs, tsv": Case(
        "tsv",
        tsv(True, ["key", "answer", "message", "team"], lambda i: i % 5 / 2),
        {
            "kind": "regression",
            "format": "tsv",
            "columns": {"id": "key", "text": "message", "pair": "answer", "label": "team"},
            "metrics": ["pearson"],
        },
    ),
    "multi-label, jsonl": Case(
        "jsonl",
        json_lines,
        {
            "kind": "multi-label",
            "format": "jsonl",
            "labels": ["fear", "joy", "anger"],
            "columns": {"text": "message", "label": "team"},
            "metrics": ["macro_f1"],
        },
    ),
    "tagging, conll": Case(
        "conll",
        words(" ", documents=False),
        {"kind": "tagging", "format": "conll", "labels": ["LOC", "PER"], "metrics": ["entity_f1"]},
    ),
    "tagging with the document around, words with spaces": Case(
        "txt",
        words("\t", documents=True),
        {
            "kind": "tagging",
            "format": "conll",
            "labels": ["LOC", "PER"],
            "separator": "tab",
            "context": "document",
            "metrics": ["entity_f1"],
        },
    ),
    "questions, some without an answer": Case(
        "json",
        questions,
        {
            "kind": "question-answering",
            "format": "squad",
            "unanswerable": True,
            "doc_stride": 6,
            "max_query_length": 8,
            "max_length": 24,
            "metrics": ["exact"],
        },
    ),
}


def no_parity(*arguments: Any) -> Any:
    batch = arguments[2]
    info = {"version": "1", "trainable": True, "precision": "fp32", "computed": "fp32"}
    return Outputs(np.ones((len(batch.ids), 32)), None), info


@pytest.fixture
def saved(
    prepared: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Case], tuple[Path, Path, list[list[Any]], Any]]:
    """A function: a task to its dev file, the model of a run, what the run predicted, and the logits that it got."""
    seen: list[Any] = []
    logits_of = evaluate.logits_of

    def spy(*arguments: Any) -> Any:
        seen.append(logits_of(*arguments))
        return seen[-1]

    monkeypatch.setattr(evaluate, "logits_of", spy)
    monkeypatch.setattr(parity, "_outputs", no_parity)
    threads = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # which are set where a model is loaded
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "1")

    def make(case: Case, precision: str = "fp32") -> tuple[Path, Path, list[list[Any]], Any]:
        encoding = case.fields.get("encoding", "utf-8")
        for split, count in (("train", 24), ("dev", 60)):
            (tmp_path / f"{split}.{case.suffix}").write_text(case.content(count), encoding=encoding)
        files = {split: f"{split}.{case.suffix}" for split in ("train", "dev")}
        common = {"name": "mine", "title": "Mine", "files": files, "evaluate": ["dev"], "max_length": 16}
        recipe = {"recipe": {"epochs": 2, "learning_rate": 3e-3, "batch_size": 8}}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(common | recipe | case.fields, sort_keys=False))
        options = {"tasks": [str(tmp_path / "mine.yaml")], "save_model": tmp_path / "model", "threads": 1}
        records = main_path.run([prepared(precision=precision, **options)], lambda *_: None)
        quality = next(each for each in records if isinstance(each, Quality))
        records.close()  # type: ignore[attr-defined]
        assert quality.state == "ok", quality.reason
        (record,) = (tmp_path / "runs" / "quality").glob("*[0-9a-f].json")
        return tmp_path / files["dev"], tmp_path / "model", predictions_of(record, quality)["dev"], seen.pop()

    yield make
    torch.set_num_threads(threads)


Saved = Callable[..., tuple[Path, Path, list[list[Any]], Any]]


def read_back(kind: str, text: str) -> list[list[Any]]:
    """[id, answer] of each row, of tagging its tags alone."""
    if kind == "tagging":
        parts = [part.split("\n") for part in text.removesuffix("\n").split("\n\n")]
        sentences = [[line for line in part if not line.startswith("-DOCSTART-")] for part in parts]
        return [
            [line.split("\t" if "\t" in line else " ")[1] for line in lines if line] for lines in sentences if lines
        ]
    cells = [line.split("\t") for line in text.removesuffix("\n").split("\n")[1:]]
    if kind == "multi-label":
        return [[name, answer.split(",") if answer else []] for name, answer, _ in cells]
    return [[row[0], float(row[1]) if kind == "regression" else row[1]] for row in cells]


@pytest.mark.parametrize("name", CASES)
def test_the_dev_file_of_the_run_gets_the_answers_of_the_run(
    saved: Saved, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    kind = case.fields["kind"]
    dev, model, stored, logits = saved(case)
    got: list[Any] = []
    step = "written" if kind == "question-answering" else "decode"
    usual = getattr(KINDS[kind], step)
    monkeypatch.setattr(KINDS[kind], step, lambda of, given, *rest: got.append(given) or usual(of, given, *rest))
    answers = predict.predict_file(model, dev, "cpu", threads=1)
    assert np.array_equal(got[0], logits), "logits differ"
    assert len(np.unique(logits)) > len(logits) / 4, "it matters what is read"
    found = read_back(kind, answers.text)
    if kind == "tagging":
        assert [tags for tags in found if tags] == [tags for _, tags in stored]
    elif kind == "regression":
        assert [[key, np.float32(score)] for key, score in found] == [[key, np.float32(score)] for key, score in stored]
    else:
        assert found == stored
    assert answers.notes == []
    assert answers.inputs == len(stored)


def test_a_run_in_another_precision_is_answered_in_it(saved: Saved) -> None:
    dev, model, stored, _ = saved(CASES["regression of pairs, tsv"], "bf16")
    found = read_back("regression", predict.predict_file(model, dev, "cpu", threads=1).text)
    assert [[key, np.float32(score)] for key, score in found] == [[key, np.float32(score)] for key, score in stored]
    exact = read_back("regression", predict.predict_file(model, dev, "cpu", threads=1, precision="fp32").text)
    assert exact != found
