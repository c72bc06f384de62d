"""Answers of a saved model for files of texts: right, in order, and in the form that is promised."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reference
from harness.errors import BadInput, Failure
from harness.predict.predict import predict_file
from reference.checkpoint import add_head, read, save
from reference.model import Packed
from reference.tokenizer import Tokenizer

LABELS = {
    "classification": ["negative", "positive"],
    "regression": ["score"],
    "multi-label": ["joy", "anger", "fear"],
    "tagging": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
}
TEXTS = ["A fine day for a walk.", "Nothing worked; I want my money back!", "The ferry leaves at nine."]


@pytest.fixture(scope="module")
def models(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By kind of task, a folder as older versions saved it, with a head that has opinions."""
    folders = {}
    for kind, labels in LABELS.items():
        folder = tmp_path_factory.mktemp(kind)
        checkpoint = add_head(read(tiny_checkpoint), kind, labels, seed=1)
        checkpoint.tensors["classifier.weight"] *= 100
        save(checkpoint, folder, kind)
        for name in ("tokenizer.json", "vocab.txt"):
            shutil.copyfile(tiny_checkpoint / name, folder / name)
        description = {"task": "mine", "kind": kind, "pairs": False, "max_length": 32, "record": "0" * 64}
        (folder / "bert_atlas.json").write_text(json.dumps(description))
        folders[kind] = folder
    return folders


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, str], Path]:
    """A function that writes a file of this name and content."""

    def write(name: str, content: str) -> Path:
        (tmp_path / name).write_text(content, encoding="utf-8")
        return tmp_path / name

    return write


File = Callable[[str, str], Path]


def rows(answers: str) -> list[list[str]]:
    return list(csv.reader(answers.splitlines(), delimiter="\t"))


def expected(folder: Path, kind: str, text: str, pair: str | None = None) -> Any:
    """Logits of one text, by the model itself."""
    encoding = Tokenizer.from_folder(folder).encode(text, pair, 32)
    packed = Packed.from_lengths(torch.tensor(encoding.ids), [len(encoding.ids)], torch.tensor(encoding.segments))
    with torch.inference_mode():
        return reference.load(folder, kind, "cpu", "fp32")(packed).double().numpy()


def test_labels_with_their_probabilities_in_the_files_order(models: dict[str, Path], file: File) -> None:
    answers = rows(predict_file(models["classification"], file("a.txt", "\n".join(TEXTS) + "\n"), "cpu").text)
    assert answers[0] == ["id", "label", "probability"]
    assert [row[0] for row in answers[1:]] == ["0", "1", "2"]
    for (_, label, probability), text in zip(answers[1:], TEXTS, strict=True):
        logits = expected(models["classification"], "classification", text)[0]
        probabilities = np.exp(logits) / np.exp(logits).sum()
        assert label == LABELS["classification"][probabilities.argmax()]
        assert float(probability) == pytest.approx(probabilities.max(), abs=1e-4)


def test_scores(models: dict[str, Path], file: File) -> None:
    answers = rows(predict_file(models["regression"], file("a.txt", "\n".join(TEXTS)), "cpu").text)
    assert answers[0] == ["id", "score"]
    for (_, score), text in zip(answers[1:], TEXTS, strict=True):
        assert float(score) == pytest.approx(expected(models["regression"], "regression", text)[0, 0], abs=1e-3)


def test_several_labels_or_none(models: dict[str, Path], file: File) -> None:
    answers = rows(predict_file(models["multi-label"], file("a.txt", "\n".join(TEXTS)), "cpu").text)
    for (_, labels, probabilities), text in zip(answers[1:], TEXTS, strict=True):
        logits = expected(models["multi-label"], "multi-label", text)[0]
        chosen = logits > 0
        assert labels == ",".join(name for name, each in zip(LABELS["multi-label"], chosen, strict=True) if each)
        sure = [float(each) for each in probabilities.split(",")] if probabilities else []
        assert sure == pytest.approx((1 / (1 + np.exp(-logits[chosen]))).tolist(), abs=1e-4)


def test_a_tag_for_every_word(models: dict[str, Path], file: File) -> None:
    sentences = [["Ada", "Lovelace", "lived", "in", "London", "."], ["word"] * 60, ["Zürich"]]
    path = file("a.conll", "\n\n".join("\n".join(words) for words in sentences) + "\n")
    answers = [part.splitlines() for part in predict_file(models["tagging"], path, "cpu").text.split("\n\n")]
    assert [[line.split(" ")[0] for line in lines] for lines in answers] == sentences
    assert {line.split(" ")[1] for lines in answers for line in lines} <= set(LABELS["tagging"])
    tags = expected(models["tagging"], "tagging", " ".join(sentences[0]))[1:-1].argmax(-1)
    pieces = Tokenizer.from_folder(models["tagging"]).word_pieces(sentences[0])
    firsts = np.cumsum([0, *map(len, pieces)])[:-1]
    assert [line.split(" ")[1] for line in answers[0]] == [LABELS["tagging"][tags[i]] for i in firsts]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "other\ttext\nx\tA fine day.\ny\tNo.\n"),
        ("a.csv", 'text,other\n"A fine day.",x\nNo.,"y,z"\n'),
        ("a.jsonl", '{"text": "A fine day."}\n{"text": "No."}\n'),
        ("a.txt", "A fine day.\nNo.\n"),
    ],
)
def test_all_formats_say_the_same(models: dict[str, Path], file: File, name: str, content: str) -> None:
    plain = predict_file(models["classification"], file("plain.txt", "A fine day.\nNo."), "cpu")
    assert predict_file(models["classification"], file(name, content), "cpu") == plain


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "text\tid\nA fine day.\tx7\nNo.\ty\n"),
        ("a.csv", "id,text\nx7,A fine day.\ny,No.\n"),
        ("a.jsonl", '{"text": "A fine day.", "id": "x7"}\n{"text": "No.", "id": "y"}\n'),
    ],
)
def test_ids_of_the_file_are_those_of_the_answers(models: dict[str, Path], file: File, name: str, content: str) -> None:
    answers = rows(predict_file(models["classification"], file(name, content), "cpu").text)
    assert [row[0] for row in answers] == ["id", "x7", "y"]


def test_inputs_that_were_cut_are_counted(models: dict[str, Path], file: File) -> None:
    answers = predict_file(models["classification"], file("a.txt", f"A fine day.\n{'long ' * 40}\n"), "cpu")
    assert (answers.inputs, answers.cut) == (2, 1)


def test_pairs(models: dict[str, Path], file: File, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models["regression"], tmp_path / "pairs"))
    said = json.loads((folder / "bert_atlas.json").read_text())
    (folder / "bert_atlas.json").write_text(json.dumps(said | {"pairs": True}))
    plain = predict_file(folder, file("a.txt", "Is it late?\tIt left at nine.\n"), "cpu")
    named = predict_file(folder, file("a.tsv", "pair\ttext\nIt left at nine.\tIs it late?\n"), "cpu")
    assert plain == named
    right = expected(folder, "regression", "Is it late?", "It left at nine.")[0, 0]
    assert float(rows(plain.text)[1][1]) == pytest.approx(right, abs=1e-3)
    with pytest.raises(BadInput, match=r"a\.txt:1: this model reads a text and its pair, with one tab between"):
        predict_file(folder, file("a.txt", "Is it late?\n"), "cpu")
    with pytest.raises(BadInput, match=r"a\.txt:1: this model reads a text and its pair, with one tab between"):
        predict_file(folder, file("a.txt", "Is it late?\tIt left at nine.\t1\n"), "cpu")


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("classification", "a.conll", "word\n", r"a\.conll: this model reads \.txt, \.tsv, \.csv, \.jsonl"),
        ("classification", "a.pdf", "text\n", r"a\.pdf: this model reads \.txt"),
        ("tagging", "a.txt", "text\n", r"a\.txt: this model reads \.conll"),
        ("classification", "a.tsv", "words\nA day.\n", r"a\.tsv:1: no column 'text', the task's text"),
        ("classification", "a.txt", "", r"a\.txt is empty"),
        ("classification", "a.txt", "1\tA day.\n", r"a\.txt:1: this model reads one text a line, without tabs"),
        ("classification", "a.jsonl", "{\n", r"a\.jsonl:1: not valid JSON"),
    ],
)
def test_a_file_that_cannot_be_answered_is_refused(
    models: dict[str, Path], file: File, kind: str, name: str, content: str, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        predict_file(models[kind], file(name, content), "cpu")


def test_a_file_that_is_not_there_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.txt is not there"):
        predict_file(models["classification"], tmp_path / "absent.txt", "cpu")


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json"])
def test_a_folder_that_lost_a_file_is_refused(models: dict[str, Path], file: File, tmp_path: Path, lost: str) -> None:
    folder = Path(shutil.copytree(models["classification"], tmp_path / "model"))
    for name in (lost, "vocab.txt"):
        (folder / name).unlink()
    with pytest.raises(BadInput, match="model"):
        predict_file(folder, file("a.txt", "A day.\n"), "cpu")


@pytest.mark.parametrize("device", ["gpu", "meta"])
def test_a_device_that_does_not_exist_is_refused(models: dict[str, Path], file: File, device: str) -> None:
    with pytest.raises(BadInput, match=f"device '{device}' is not one that torch computes on"):
        predict_file(models["classification"], file("a.txt", "A day.\n"), device)


def test_a_model_without_numbers_is_a_failure(
    models: dict[str, Path], file: File, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    folder = Path(shutil.copytree(models["classification"], tmp_path / "model"))
    checkpoint = add_head(read(tiny_checkpoint), "classification", LABELS["classification"], seed=1)
    checkpoint.tensors["classifier.weight"][:] = 3e38
    save(checkpoint, folder, "classification")
    with pytest.raises(Failure, match="numbers that are not finite; train it again"):
        predict_file(folder, file("a.txt", "A day.\n"), "cpu")
    checkpoint.tensors["classifier.bias"][0] = float("nan")
    save(checkpoint, folder, "classification")
    with pytest.raises(BadInput, match=r"not all numbers are finite .* in classifier\.bias"):
        predict_file(folder, file("a.txt", "A day.\n"), "cpu")


def test_a_model_under_another_tokenizer_is_refused(
    models: dict[str, Path], file: File, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    folder = Path(shutil.copytree(models["classification"], tmp_path / "model"))
    checkpoint = add_head(read(tiny_checkpoint), "classification", LABELS["classification"], seed=1)
    words = checkpoint.tensors["bert.embeddings.word_embeddings.weight"][:1000].clone()
    tensors = checkpoint.tensors | {"bert.embeddings.word_embeddings.weight": words}
    save(replace(checkpoint, config=replace(checkpoint.config, vocab_size=1000), tensors=tensors), folder)
    with pytest.raises(BadInput, match="numbers word pieces up to 30521, and its weights have rows for 0 to 999"):
        predict_file(folder, file("a.txt", "A day.\n"), "cpu")
