"""What others score: a zip that the GLUE server would take, never one that it would not; and conlleval's columns."""

import hashlib
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from seqeval.metrics import f1_score

from harness.data.read import read_split
from harness.data.reading import task_files
from harness.data.task import load_task
from harness.errors import BadInput, Failure
from harness.records import record
from harness.records.record import Quality
from harness.results.submit import GLUE, check_glue, conll, glue
from harness.statistics.score import score

ROWS = {  # the server's, written down a second time
    "CoLA.tsv": 1063,
    "SST-2.tsv": 1821,
    "MRPC.tsv": 1725,
    "QQP.tsv": 390965,
    "STS-B.tsv": 1379,
    "MNLI-m.tsv": 9796,
    "MNLI-mm.tsv": 9847,
    "QNLI.tsv": 5463,
    "RTE.tsv": 3000,
    "WNLI.tsv": 146,
    "AX.tsv": 1104,
}
REAL_QQP = GLUE["QQP.tsv"]
FEW = 3000  # rows of QQP's test set, but for the tests of its real size
INFERENCE = ("entailment", "not_entailment")
MNLI = ("neutral", "entailment", "contradiction")
PREDICTED = {  # by task: what runs say, and the same as the server wants it
    "cola": (("unacceptable", "acceptable"), ("0", "1")),
    "sst2": (("positive", "negative", "positive"), ("1", "0", "1")),
    "mrpc": (("not_equivalent", "equivalent"), ("0", "1")),
    "qqp": (("duplicate", "not_duplicate", "not_duplicate"), ("1", "0", "0")),
    "stsb": ((-0.25, 3.14159, 5.5, 4, 2e-5), ("0.000", "3.142", "5.000", "4.000", "0.000")),
    "mnli": (MNLI, MNLI),
    "qnli": (INFERENCE, INFERENCE),
    "rte": (INFERENCE[::-1], INFERENCE[::-1]),
    "wnli": (("not_entailment", "entailment"), ("0", "1")),
    "ax": (MNLI[::-1], MNLI[::-1]),
}
MAJORITY = {"cola": "1", "sst2": "0", "mrpc": "1", "qqp": "0", "mnli": "neutral", "qnli": "entailment"} | {
    "rte": "not_entailment",
    "wnli": "1",
}
Answered = Callable[..., Path]
Main = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """QQP's test set has 30 times as many rows as all others together."""
    monkeypatch.setitem(GLUE, "QQP.tsv", REAL_QQP._replace(rows=FEW))
    monkeypatch.setitem(ROWS, "QQP.tsv", FEW)


@pytest.fixture
def all_questions(few_questions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """QQP's test set as it is."""
    monkeypatch.setitem(GLUE, "QQP.tsv", REAL_QQP)
    monkeypatch.setitem(ROWS, "QQP.tsv", 390965)


@pytest.fixture
def answered(quality_record: Callable[..., Quality], tmp_path: Path) -> Answered:
    """A function: a task of GLUE to the record of a run that answered its test sets; arguments replace fields."""

    def make(task: str, /, answers: Any = None, implementation: str = "reference", **fields: Any) -> Path:
        result = quality_record(implementation, task, metrics=[], **fields)
        stem = f"{implementation}-{task}-{result.seed}"
        result.predictions = f"{stem}.predictions.json.gz"
        splits = {asked.split: asked.rows for asked in GLUE.values() if asked.task == task}
        result.task = result.task | {"suite": "glue", "data": dict.fromkeys(("train", *splits), "3" * 64)}
        stored = {
            split: [[str(i), answer] for i, answer in enumerate(islice(cycle(answers or PREDICTED[task][0]), rows))]
            for split, rows in splits.items()
        }
        for pairs in stored.values():
            pairs.reverse()  # it is the ids that say which row is answered
        record.write_predictions(tmp_path / "runs" / result.predictions, stored)
        record.write(result, tmp_path / "runs" / f"{stem}.json")
        return tmp_path / "runs" / f"{stem}.json"

    return make


@pytest.fixture
def training_data(tmp_path: Path) -> Path:
    """A data folder with four training examples of each task, three of which are of the majority class."""
    for name in PREDICTED:
        task = load_task(name)
        if "train" not in task.files:
            continue
        file = task.files["train"]
        labels = ["1.5", "2.5", "2.5", "3.5"]
        if name != "stsb":
            other = next(value for value in task.labels if value != MAJORITY[name])
            labels = [other, *[MAJORITY[name]] * 3]
        columns = list(file.columns.values()) if file.header else [*range(4)]
        at_label = file.columns["label"]
        rows = [
            [label if column == at_label else f"{column} {i}" for column in columns] for i, label in enumerate(labels)
        ]
        lines = [*([columns] if file.header else []), *rows]
        path = tmp_path / "data" / file.path
        path.parent.mkdir(parents=True)
        path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    return tmp_path / "data"


@pytest.fixture
def sound() -> dict[str, str]:
    """The files of a sound submission, written without the code that is tested."""
    answers = {name: cycle(PREDICTED[asked.task][1]) for name, asked in GLUE.items()}
    return {
        name: "index\tprediction\n" + "".join(f"{i}\t{next(answers[name])}\n" for i in range(rows))
        for name, rows in ROWS.items()
    }


def zipped(path: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def unzipped(path: Path) -> dict[str, list[list[str]]]:
    """The cells of each row of each file."""
    with zipfile.ZipFile(path) as archive:
        return {
            name: [row.split("\t") for row in archive.read(name).decode().splitlines()] for name in archive.namelist()
        }


# ---- the zip for GLUE ----


@pytest.mark.usefixtures("all_questions")
def test_every_test_set_of_the_suite_has_its_file() -> None:
    assert {name: asked.rows for name, asked in GLUE.items()} == ROWS
    wanted = {
        (task.name, split) for task in map(load_task, PREDICTED) for split in task.files if split.startswith("test")
    }
    assert {(asked.task, asked.split) for asked in GLUE.values()} == wanted


@pytest.mark.parametrize(
    "name", ["CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "QNLI.tsv", "RTE.tsv", "WNLI.tsv", "AX.tsv"]
)
def test_real_test_sets_have_so_many_rows_and_their_rows_as_ids(name: str, data_folder: Path) -> None:
    asked = GLUE[name]
    examples = read_split(load_task(asked.task), asked.split, data_folder)
    assert [each.id for each in examples] == [str(row) for row in range(ROWS[name])]


@pytest.mark.slow
@pytest.mark.usefixtures("all_questions")
def test_runs_on_all_test_sets_make_a_whole_submission(answered: Answered, tmp_path: Path) -> None:
    for task in PREDICTED:
        answered(task)
    output = tmp_path / "made" / "glue.zip"
    assert glue([tmp_path / "runs"], output) == {}
    check_glue(output)
    files = unzipped(output)
    assert list(files) == list(ROWS)
    for name, (header, *rows) in files.items():
        assert header == ["index", "prediction"]
        right = islice(cycle(PREDICTED[GLUE[name].task][1]), ROWS[name])
        assert rows == [[str(i), answer] for i, answer in enumerate(right)]
    before = output.read_bytes()
    glue([*(tmp_path / "runs").glob("*.json"), tmp_path / "runs"], output)  # each twice, in another order
    assert output.read_bytes() == before
    assert [*output.parent.iterdir()] == [output]


def test_missing_runs_are_all_named_with_the_command_that_makes_them(answered: Answered, tmp_path: Path) -> None:
    paths = [answered(task) for task in ("cola", "sst2", "mrpc", "qnli", "rte", "wnli")]
    with pytest.raises(BadInput) as error:
        glue(paths, tmp_path / "glue.zip")
    assert "QQP.tsv, STS-B.tsv, MNLI-m.tsv, MNLI-mm.tsv, AX.tsv" in str(error.value)
    assert "run --impl reference --tasks qqp,stsb,mnli,ax --splits test --weights minilm-l6\n" in str(error.value)
    assert "--fill-missing" in str(error.value)
    assert not (tmp_path / "glue.zip").exists()


def test_missing_runs_are_filled_with_the_majority_class(
    answered: Answered, training_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "glue.zip"
    filled = glue([answered("rte")], output, training_data, fill_missing=True)
    wanted = {name: MAJORITY.get(asked.task, "2.500") for name, asked in GLUE.items()} | {"AX.tsv": "neutral"}
    assert filled == {name: answer for name, answer in wanted.items() if name != "RTE.tsv"}
    for name, rows in unzipped(output).items():
        answers = {"entailment", "not_entailment"} if name == "RTE.tsv" else {wanted[name]}
        assert {answer for _, answer in rows[1:]} == answers
        assert len(rows) == 1 + ROWS[name]


def test_what_is_filled_from_real_training_data(
    answered: Answered, training_data: Path, data_folder: Path, tmp_path: Path
) -> None:
    for name in ("cola", "sst2", "mrpc", "stsb", "rte", "wnli"):
        file = load_task(name).files["train"].path
        (training_data / file).unlink()
        (training_data / file).symlink_to(data_folder / file)
    filled = glue([answered("qnli")], tmp_path / "glue.zip", training_data, fill_missing=True)
    assert {name: filled[f"{name}.tsv"] for name in ("CoLA", "SST-2", "MRPC", "STS-B", "RTE", "WNLI")} == {
        "CoLA": "1",
        "SST-2": "1",
        "MRPC": "1",
        "STS-B": "2.701",
        "RTE": "entailment",
        "WNLI": "0",
    }


def test_filling_needs_the_training_data(answered: Answered, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"train\.tsv is not there; `python -m harness data get glue`"):
        glue([answered("rte")], tmp_path / "glue.zip", tmp_path / "nothing", fill_missing=True)


def test_several_seeds_of_a_task_are_named(answered: Answered, tmp_path: Path) -> None:
    paths = [answered("rte", seed=1), answered("rte", seed=2), answered("wnli")]
    with pytest.raises(BadInput, match="one run of each task") as error:
        glue([tmp_path / "runs"], tmp_path / "glue.zip", fill_missing=True)
    assert f"rte, seed 1: {paths[0]}" in str(error.value)
    assert f"rte, seed 2: {paths[1]}" in str(error.value)
    assert "wnli" not in str(error.value)


@pytest.mark.parametrize(
    "other",
    [
        {"implementation": "transformers"},
        {"checkpoint": {"name": "bert-base", "sha256": "6" * 64, "config": {}, "initialised": []}},
    ],
)
def test_models_are_not_mixed(answered: Answered, tmp_path: Path, other: dict[str, Any]) -> None:
    one, another = answered("rte"), answered("wnli", **other)
    with pytest.raises(BadInput, match="not of several") as error:
        glue([one, another], tmp_path / "glue.zip", fill_missing=True)
    named = {"reference with minilm-l6", "transformers with minilm-l6", "reference with bert-base"}
    assert sum(name in str(error.value) for name in named) == 2
    assert str(one) in str(error.value)
    assert str(another) in str(error.value)


def test_a_limited_run_answers_no_test_set(answered: Answered, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"rte-42\.json \(50\); run them again without --limit"):
        glue([answered("rte", limit=50)], tmp_path / "glue.zip", fill_missing=True)


def test_runs_that_answer_no_test_set_are_passed_over(
    answered: Answered, quality_record: Callable[..., Quality], tmp_path: Path
) -> None:
    record.write(quality_record("reference", "rte"), tmp_path / "runs" / "dev.json")
    answered("rte", state="failed", reason="out of memory")
    with pytest.raises(BadInput, match=r"no finished run on a test set.*run --suite glue --splits test"):
        glue([tmp_path / "runs"], tmp_path / "glue.zip")
    with pytest.raises(BadInput, match="does not exist"):
        glue([tmp_path / "none"], tmp_path / "glue.zip")


@pytest.mark.parametrize(
    ("task", "answers", "says"),
    [
        ("wnli", ["entails"], "'entails' is none of the labels not_entailment, entailment"),
        ("wnli", [1], "1 is none of the labels"),
        ("stsb", [1.0, float("nan")], "nan is no number"),
        ("stsb", [None], "None is no number"),
    ],
)
def test_answers_that_are_none_are_not_submitted(
    answered: Answered, training_data: Path, tmp_path: Path, task: str, answers: list[Any], says: str
) -> None:
    with pytest.raises(Failure, match=says):
        glue([answered(task, answers)], tmp_path / "glue.zip", training_data, fill_missing=True)
    assert not (tmp_path / "glue.zip").exists()


def test_predictions_must_be_there_and_of_this_test_set(
    answered: Answered, training_data: Path, tmp_path: Path
) -> None:
    path = answered("wnli")
    stored = path.with_name("reference-wnli-42.predictions.json.gz")
    record.write_predictions(stored, {"test": [[str(i), "entailment"] for i in range(1, 147)]})
    with pytest.raises(Failure, match=r"not of these 146 examples: 2 ids .* \(0, 146\)"):
        glue([path], tmp_path / "glue.zip", training_data, fill_missing=True)
    record.write_predictions(stored, {"dev": []})
    with pytest.raises(BadInput, match="no predictions of the split test, only of dev"):
        glue([path], tmp_path / "glue.zip", training_data, fill_missing=True)
    stored.unlink()
    with pytest.raises(BadInput, match=r"its predictions, .* are not beside it"):
        glue([path], tmp_path / "glue.zip", training_data, fill_missing=True)


# ---- the validator ----


def test_a_sound_zip_passes(sound: dict[str, str], tmp_path: Path) -> None:
    check_glue(zipped(tmp_path / "glue.zip", sound))
    check_glue(zipped(tmp_path / "other.zip", dict(reversed(sound.items()))))  # order is nothing to the server


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("RTE.tsv", "index\tprediction", "id\tlabel", r"RTE.tsv:1: the header is 'id\\tlabel'"),
        ("CoLA.tsv", "index\tprediction\n", "", r"CoLA.tsv:1: the header is '0\\t0'"),
        ("WNLI.tsv", "145\t1\n", "", "WNLI.tsv: 145 rows, not 146"),
        ("AX.tsv", "1103\tneutral\n", "1103\tneutral\n1104\tneutral\n", "AX.tsv: 1105 rows, not 1104"),
        ("MRPC.tsv", "\n7\t", "\n8\t", r"MRPC.tsv:9: '8\\t1' does not begin with index 7"),
        ("SST-2.tsv", "\n0\t", "\n1\t", "SST-2.tsv:2: .* does not begin with index 0"),
        ("QNLI.tsv", "\n3\t", "\n3 ", "QNLI.tsv:5: .* does not begin with index 3 and a tab"),
        ("RTE.tsv", "\n2\tnot_entailment", "\n2\tneutral", "RTE.tsv:4: the answer is 'neutral', not entailment, not_"),
        ("MNLI-m.tsv", "\n0\tneutral", "\n0\t1", "MNLI-m.tsv:2: the answer is '1', not contradiction, entailment, ne"),
        ("CoLA.tsv", "\n1\t1", "\n1\tacceptable", "CoLA.tsv:3: the answer is 'acceptable', not 0, 1"),
        ("QQP.tsv", "\n2999\t0", "\n2999\t2", "QQP.tsv:3001: the answer is '2', not 0, 1"),
        ("STS-B.tsv", "\n1\t3.142", "\n1\tnan", "STS-B.tsv:3: the answer is 'nan', not a number from 0 to 5"),
        ("STS-B.tsv", "\n1\t3.142", "\n1\t5.001", "STS-B.tsv:3: the answer is '5.001'"),
        ("STS-B.tsv", "\n1\t3.142", "\n1\t-0.5", "STS-B.tsv:3: the answer is '-0.5'"),
        ("STS-B.tsv", "\n1\t3.142", "\n1\t", "STS-B.tsv:3: the answer is ''"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(
    sound: dict[str, str], tmp_path: Path, name: str, old: str, new: str, says: str
) -> None:
    assert old in sound[name]
    path = zipped(tmp_path / "glue.zip", sound | {name: sound[name].replace(old, new, 1)})
    with pytest.raises(BadInput, match=says):
        check_glue(path)


def test_all_that_is_wrong_is_said_at_once(sound: dict[str, str], tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        name: content for name, content in sound.items() if name not in ("AX.tsv", "QQP.tsv")
    }
    files |= {"notes.txt": "mine", "glue/AX.tsv": sound["AX.tsv"], "WNLI.tsv": b"\xff\xfe", "CoLA.tsv": ""}
    with pytest.raises(BadInput) as error:
        check_glue(zipped(tmp_path / "glue.zip", files))
    assert str(error.value).splitlines()[1:] == [
        "QQP.tsv: missing",
        "AX.tsv: missing",
        "notes.txt: no file of a submission, or there twice",
        "glue/AX.tsv: no file of a submission, or there twice",
        "CoLA.tsv:1: the header is '', not 'index\\tprediction'",
        "CoLA.tsv: 0 rows, not 1063",
        "WNLI.tsv: not UTF-8 text",
    ]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice_is_refused(sound: dict[str, str], tmp_path: Path) -> None:
    path = zipped(tmp_path / "glue.zip", sound)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("RTE.tsv", sound["RTE.tsv"])
    with pytest.raises(BadInput, match=r"RTE\.tsv: .* there twice$"):
        check_glue(path)


def test_of_a_file_that_unpacks_to_no_end_only_the_beginning_is_read(sound: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "glue.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (sound | {"RTE.tsv": "0" * 100_000_000}).items():
            archive.writestr(name, content)
    tracemalloc.start()
    with pytest.raises(BadInput, match=r"RTE\.tsv: more than 192064 bytes, which no answer takes$"):
        check_glue(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100_000_000


def test_what_is_no_sound_zip_is_refused(sound: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "glue.zip"
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        check_glue(path)
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        check_glue(tmp_path)
    path.write_text("index\tprediction\n")
    with pytest.raises(BadInput, match="not a sound zip"):
        check_glue(path)
    content = bytearray(zipped(path, sound).read_bytes())
    content[content.index(b"entailment")] ^= 1  # stored without compression: the checksum tells
    path.write_bytes(content)
    with pytest.raises(BadInput, match="not a sound zip: Bad CRC"):
        check_glue(path)
    path.write_bytes(content[:-100])
    with pytest.raises(BadInput, match="not a sound zip"):
        check_glue(path)


@pytest.mark.parametrize(
    ("place", "byte", "why"),
    [
        (b"PK\x01\x02", 8, "encryption"),  # the flags in the directory's entry of the first file
        (b"PK\x01\x02", 10, "compression method is not supported"),
        (b"PK\x03\x04", 30, "File name in directory .* differ"),
        (b"\x5d\x00\x00", 9, "Corrupt input data"),
    ],
)
def test_damage_in_any_layer_of_a_zip_is_said_in_a_line(
    sound: dict[str, str], tmp_path: Path, place: bytes, byte: int, why: str
) -> None:
    path = tmp_path / "glue.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in sound.items():
            archive.writestr(name, content)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(place) + byte] ^= 0x41
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match=f"not a sound zip: .*{why}"):
        check_glue(path)


# ---- conlleval's columns ----


@pytest.fixture
def tagged(quality_record: Callable[..., Quality], tmp_path: Path) -> Answered:
    """A function: a tagging task to the record of a run, which missed every third sentence's entities."""

    def make(name: str = "mini-ner", split: str = "dev", data: Path | None = None, **fields: Any) -> Path:
        task = load_task(name)
        examples: list[Any] = [*read_split(task, split, data)][: fields.get("limit")]
        answers = [["O"] * len(e.words) if i % 3 == 0 else [*e.tags] for i, e in enumerate(examples)]
        for tags in answers[1::4]:
            tags[-1] = task.outputs[2]  # an I that often continues nothing
        stored = {split: [[e.id, tags] for e, tags in zip(examples, answers, strict=True)]}
        sha256 = hashlib.sha256(task_files(task, data)[split].read_bytes()).hexdigest()
        said = {key: getattr(task, key) for key in ("name", "title", "suite", "kind", "context")}
        result = quality_record(
            **{"task": said | {"data": {split: sha256}}, "metrics": [], "predictions": f"{name}.gz"} | fields
        )
        result.metrics, result.flags = score(result, task, {split: examples}, stored)
        record.write_predictions(tmp_path / "runs" / f"{name}.gz", stored)
        record.write(result, tmp_path / "runs" / f"{name}.json")
        return tmp_path / "runs" / f"{name}.json"

    return make


def sentences_of(path: Path) -> list[list[list[str]]]:
    """The columns of each word of each sentence; white space of any kind parts them, as in conlleval's ports."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n\n")
    return [[line.split() for line in sentence.split("\n")] for sentence in text.removesuffix("\n\n").split("\n\n")]


def check_columns(path: Path, output: Path, task: str, split: str, data: Path | None) -> list[list[list[str]]]:
    """Words and tags are the data's, and the score of the file is that of the record."""
    sentences = sentences_of(output)
    assert all(len(columns) == 3 for sentence in sentences for columns in sentence)
    examples: list[Any] = [*read_split(load_task(task), split, data)]
    assert [[right for _, right, _ in sentence] for sentence in sentences] == [[*each.tags] for each in examples]
    words = [["_".join(word.split()) for word in each.words] for each in examples]
    assert [[word for word, _, _ in sentence] for sentence in sentences] == words
    columns = ([[row[at] for row in sentence] for sentence in sentences] for at in (1, 2))
    (metric,) = json.loads(path.read_text())["metrics"]
    assert 0.2 < metric["value"] < 0.9
    assert f1_score(*columns) == pytest.approx(metric["value"], abs=1e-12)
    return sentences


def test_columns_score_as_the_record_does(tagged: Answered, tmp_path: Path) -> None:
    path, output = tagged(), tmp_path / "out" / "conll.txt"
    assert conll(path.parent, output, "dev") == len(check_columns(path, output, "mini-ner", "dev", None))
    assert [*output.parent.iterdir()] == [output]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "split"), [("conll2003", "test"), ("wnut17", "test"), ("msra_ner", "test")])
def test_columns_of_real_data_score_as_the_record_does(
    tagged: Answered, data_folder: Path, tmp_path: Path, name: str, split: str
) -> None:
    path, output = tagged(name, split, data_folder), tmp_path / "conll.txt"
    sentences = conll(path, output, split, data_folder)
    assert sentences == len(check_columns(path, output, name, split, data_folder))


def test_white_space_in_a_word_begins_no_column(tagged: Answered, tmp_path: Path) -> None:
    file = tmp_path / "data" / "WNUT-17" / "emerging.dev.conll"
    file.parent.mkdir(parents=True)
    file.write_text("New York\tB-location\n\u00a0!\tO\n\nParis\tB-location\n\nRome\tB-location\n")
    conll(tagged("wnut17", "dev", tmp_path / "data"), tmp_path / "conll.txt", "dev", tmp_path / "data")
    words = [[word for word, _, _ in sentence] for sentence in sentences_of(tmp_path / "conll.txt")]
    assert words == [["New_York", "_!"], ["Paris"], ["Rome"]]


def test_a_limited_run_gives_what_it_read(tagged: Answered, tmp_path: Path) -> None:
    assert conll(tagged(limit=5), tmp_path / "conll.txt", "dev") == 5
    assert len(sentences_of(tmp_path / "conll.txt")) == 5


def test_runs_without_these_columns_are_refused(tagged: Answered, answered: Answered, tmp_path: Path) -> None:
    output = tmp_path / "conll.txt"
    with pytest.raises(BadInput, match="has 0 finished runs on tagging tasks"):
        conll(answered("rte"), output)
    path = tagged()
    with pytest.raises(BadInput, match="no predictions of the split test, only of dev"):
        conll(path, output)
    (path.parent / "again.json").write_bytes(path.read_bytes())
    with pytest.raises(BadInput, match=r"has 2 finished runs on tagging tasks(.|\n)*again\.json\n.*mini-ner\.json"):
        conll(path.parent, output, "dev")
    own = {"name": "mine", "title": "Mine", "suite": "own", "kind": "tagging", "context": "sentence", "data": {}}
    with pytest.raises(BadInput, match="task mine is not built in"):
        conll(tagged(task=own), output, "dev")
    data = {"name": "mini-ner", "title": "", "suite": "mini", "kind": "tagging", "context": "sentence"}
    with pytest.raises(BadInput, match="is not the file that the run had"):
        conll(tagged(task=data | {"data": {"dev": "0" * 64}}), output, "dev")
    assert not output.exists()


def test_each_word_needs_one_tag_of_the_task(tagged: Answered, tmp_path: Path) -> None:
    path = tagged()
    file = path.with_name("mini-ner.gz")
    stored = record.read_predictions(file)
    for wrong in (stored["dev"][4][1][1:], ["B-PER O", *stored["dev"][4][1][1:]], "O"):
        changed = [[name, wrong if name == "4" else tags] for name, tags in stored["dev"]]
        record.write_predictions(file, {"dev": changed})
        with pytest.raises(Failure, match="sentence 4 is not answered with one tag for each word"):
            conll(path, tmp_path / "conll.txt", "dev")


# ---- the command line ----


def test_submission_on_the_command_line(answered: Answered, training_data: Path, tmp_path: Path, main: Main) -> None:
    path, output = answered("rte"), tmp_path / "glue.zip"
    code, _, error = main("submit", "glue", path, "--output", output)
    assert (code, output.exists()) == (2, False)
    assert "no run answers CoLA.tsv" in error
    code, said, error = main("submit", "glue", path, "--output", output, "--fill-missing", "--data", training_data)
    assert (code, error) == (0, "")
    assert "CoLA.tsv: no run; every answer is 1, the majority class of the training data" in said
    assert "STS-B.tsv: no run; every answer is 2.500, the mean of the training data" in said
    assert "RTE.tsv" not in said
    assert main("submit", "check", output) == (0, f"{output}: ok\n", "")
    zipped(output, {"RTE.tsv": "index\tprediction\n"})
    code, said, error = main("submit", "check", output)
    assert (code, said) == (2, "")
    assert "RTE.tsv: 0 rows, not 3000" in error
    code, _, error = main(
        "submit", "glue", answered("wnli", ["yes"]), "--output", output, "--fill-missing", "--data", training_data
    )
    assert code == 1
    assert "'yes' is none of the labels" in error


def test_columns_on_the_command_line(tagged: Answered, tmp_path: Path, main: Main) -> None:
    path, output = tagged(), tmp_path / "conll.txt"
    code, said, error = main("submit", "conll", path, "--output", output, "--split", "dev")
    assert (code, said, error) == (0, f"{output}: {len(sentences_of(output))} sentences\n", "")
    code, _, error = main("submit", "conll", path, "--output", output)
    assert code == 2
    assert "no predictions of the split test" in error
    code, _, error = main("submit", "conll", path, "--output", tmp_path, "--split", "dev")
    assert code == 2
    assert f"--output: {tmp_path} cannot be written" in error
    code, _, error = main("submit", "conll", path, "--output", path / "conll.txt", "--split", "dev")
    assert code == 2
    assert "cannot be written" in error
