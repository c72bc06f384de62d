"""SQuAD's layout: what is read of it, what is repaired and counted, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.data.examples import Read
from harness.data.questions.squad import normalized
from harness.data.read import read, read_content
from harness.data.task import Task, load_task
from harness.errors import BadInput

CONTEXT = "The mill at Orle was built in 1726 by Jan Moor, and Jan Moor sold it."


def question(name: str = "q1", **fields: Any) -> dict[str, Any]:
    usual = {"id": name, "question": "When was it built?", "answers": [{"text": "1726", "answer_start": 30}]}
    return {field: value for field, value in (usual | fields).items() if value is not ...}


def content(*entries: dict[str, Any], context: Any = CONTEXT) -> str:
    return json.dumps(
        {"version": "1.1", "data": [{"title": "x", "paragraphs": [{"context": context, "qas": entries}]}]}
    )


@pytest.fixture
def reads() -> Callable[..., Read]:
    """A function: the text of a file, and fields that the task has, to what is read of it as this split."""
    task = load_task("mini-questions")

    def run(text: str, split: str = "dev", **fields: Any) -> Read:
        files = task.files | {"test": task.files["dev"]}
        return read_content(replace(task, files=files, **fields), split, Path("dev.json"), text)

    return run


Reads = Callable[..., Read]


def test_a_question_has_all_its_answers_and_the_place_of_the_first(reads: Reads) -> None:
    two = [{"text": "Jan Moor", "answer_start": 38}, {"text": "Moor", "answer_start": 56}]
    (example,) = reads(content(question(question="Who?", answers=two))).examples
    assert (example.text, example.pair, example.label) == ("Who?", CONTEXT, ("Jan Moor", "Moor"))
    assert CONTEXT[slice(*example.span)] == "Jan Moor"
    assert example.texts == ("Who?", CONTEXT)


def test_a_question_without_an_answer_needs_a_task_that_has_such(reads: Reads) -> None:
    text = content(question(answers=[], is_impossible=True, plausible_answers=[{"text": "no", "answer_start": 1}]))
    with pytest.raises(BadInput, match=r"question q1 has no answer; a task with such .* declares `unanswerable: true`"):
        reads(text)
    (example,) = reads(text, unanswerable=True).examples
    assert (example.label, example.span) == (("",), None)


def test_answers_that_normalise_to_nothing_are_left_out_as_the_script_of_version_2_does(reads: Reads) -> None:
    text = content(question(answers=[{"text": "The", "answer_start": 0}, {"text": "1726", "answer_start": 30}]))
    assert reads(text).examples[0].label == ("The", "1726")
    assert reads(text, unanswerable=True).examples[0].label == ("1726",)
    alone = content(question(answers=[{"text": "The", "answer_start": 0}]))
    assert reads(alone, unanswerable=True).examples[0].label == ("",)


def test_an_answer_at_another_place_is_read_where_its_text_is_once_and_counted(reads: Reads) -> None:
    found = reads(content(question(answers=[{"text": "1726", "answer_start": -1}])))
    assert found.examples[0].span == (30, 34)
    (repair,) = found.repairs
    assert (repair["count"], repair["first"]) == (1, "dev.json:q1")
    assert "another place" in repair["what"]


def test_an_answer_whose_place_is_unknown_counts_in_the_score_and_is_not_trained_on(reads: Reads) -> None:
    for unknown in ("Jan Moor", "nobody"):  # the text is there twice, and not at all
        text = content(question(), question("q2", answers=[{"text": unknown, "answer_start": 1}]))
        scored = reads(text)
        assert (scored.examples[1].label, scored.examples[1].span) == ((unknown,), None)
        trained = reads(text, "train")
        assert [example.id for example in trained.examples] == ["q1"]
        assert any("not trained on" in repair["what"] for repair in trained.repairs)


def test_a_test_split_may_lack_answers(reads: Reads) -> None:
    assert reads(content(question(answers=...)), "test").examples[0].label is None
    with pytest.raises(BadInput, match="question q1 has no answers, and others do"):
        reads(content(question(answers=...), question("q2")), "test")
    with pytest.raises(BadInput, match="question q1: answers: a list is missing"):
        reads(content(question(answers=...)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "dev.json: not valid JSON: .*line 1 column 2"),
        ('{"data": [], "data": []}', "'data' occurs twice"),
        ("[]", "not SQuAD's layout"),
        ('{"data": {}}', "data: a list is missing"),
        ('{"data": []}', "has no questions"),
        ('{"data": [1]}', "article 1: paragraphs: a list is missing"),
        (content(question(), context=None), "article 1: context: text is missing"),
        (content(question(id=7)), "article 1: id: text is missing"),
        (content(question(question=" ")), "question q1: question: text is missing"),
        (content(question(), question()), "question q1: its id is that of another one"),
        (content(question(answers=[{"answer_start": 1}])), "question q1: text: text is missing"),
        (content(question(answers=[{"text": "1726", "answer_start": "30"}])), "answer_start is '30', not the number"),
        (content(question(is_impossible=True)), "is_impossible, and yet it has answers"),
        (content(question(is_impossible="no")), "is_impossible is 'no', neither true nor false"),
        (content(question(question="\ud800?")), "not valid JSON"),
    ],
)
def test_what_is_wrong_is_named(reads: Reads, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        reads(text)


def test_texts_are_compared_without_case_ascii_punctuation_and_articles() -> None:
    assert normalized(" The  Mill,\tat an Orle-on-Sea! ") == "mill at orleonsea"
    assert normalized("\u201cthe\u201d a.an") == "\u201c \u201d aan"
    assert normalized("Theatre") == "theatre"


def task_of(tmp_path: Path, *files: str) -> Task:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntitle: Mine\nkind: question-answering\nformat: squad\n"
        f"files: {{train: [{', '.join(files)}], dev: dev.json}}\nevaluate: [dev]\nmetrics: [exact]\n"
    )
    return load_task(str(tmp_path / "mine.yaml"))


def test_a_training_split_may_be_in_several_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(content(question(name)))
    assert [example.id for example in read(task_of(tmp_path, "a.json", "b.json"), "train", None).examples] == ["a", "b"]
    (tmp_path / "b.json").write_text(content(question("a")))
    with pytest.raises(BadInput, match="task mine: two files of train have an example a"):
        read(task_of(tmp_path, "a.json", "b.json"), "train", None)
    with pytest.raises(BadInput, match=r"files.train: a list of files, each once"):
        task_of(tmp_path, "a.json", "a.json")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("columns: {text: question}", "columns: a task of kind question-answering names none"),
        ("labels: [a, b]", "labels: a question-answering task has none, its answers are text"),
        ("doc_stride: 0", "doc_stride: a whole number from 1 on"),
        ("unanswerable: 1", "unanswerable: true or false, not 1"),
        ("null_threshold: high", "null_threshold: a number such as -1.5, not 'high'"),
        ("windows: overlapping", "windows: 'overlapping' is none of google, huggingface"),
    ],
)
def test_a_task_file_is_checked(tmp_path: Path, field: str, message: str) -> None:
    task_of(tmp_path, "a.json")
    with (tmp_path / "mine.yaml").open("a") as file:
        file.write(f"{field}\n")
    with pytest.raises(BadInput, match=message):
        load_task(str(tmp_path / "mine.yaml"))


def test_only_training_may_have_several_files(tmp_path: Path, own_task: Callable[..., str]) -> None:
    with pytest.raises(BadInput, match=r"files.train: one file, not a list"):
        load_task(own_task(files={"train": ["train.tsv", "dev.tsv"], "dev": "dev.tsv"}))


def test_the_embedded_questions_are_sound_and_apart() -> None:
    task = load_task("mini-questions")
    train, dev = (read(task, split, None) for split in ("train", "dev"))
    assert (len(train.examples), len(dev.examples), train.repairs, dev.repairs) == (54, 25, [], [])
    assert not {each.pair for each in train.examples} & {each.pair for each in dev.examples}
    assert all(each.pair.count(each.label[0]) == 1 for each in (*train.examples, *dev.examples)), "one right place"


REAL = {"squadshifts train": (27626, 0), "squad1 dev": (10570, 0)}  # questions, repairs


@pytest.mark.slow
@pytest.mark.parametrize("which", REAL)
def test_real_files_are_read_without_repairs(data_folder: Path, which: str) -> None:
    name, split = which.split()
    found = read(load_task(name), split, data_folder)
    assert (len(found.examples), len(found.repairs)) == REAL[which]
    assert all(each.pair[slice(*each.span)] == each.label[0] for each in found.examples)
