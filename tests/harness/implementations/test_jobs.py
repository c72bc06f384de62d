"""Programs that train and predict by themselves: those from PyPI, and the settings of the weights that all get.

Those of repositories are in test_programs.
"""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.data.examples import TextExample
from harness.data.read import read_split
from harness.data.task import load_task
from harness.implementations import bert_pytorch_pretraining as pretraining
from harness.port.hf_folder import is_uncased, read_vocabulary
from harness.registry.environments import unmet
from harness.registry.implementations import find

PAIRS = [
    {"text": "The kettle clicked off.", "pair": "The water was cold again.", "label": "next"},
    {"text": "Snow fell all night.", "pair": "The children built a fort.", "label": "next"},
    {"text": "The water fell.", "pair": "The cat sat; a word that nobody knows.", "label": "other"},
]


@pytest.fixture
def package() -> None:
    if lacking := unmet(find(pretraining.NAME).requirements):
        pytest.skip(f"{pretraining.NAME} needs {', '.join(lacking)}")


@pytest.mark.usefixtures("package")
def test_a_bert_is_pre_trained_and_asked_in_the_order_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining, "EPOCHS", 2)
    stages: list[dict[str, Any]] = []
    splits = {"train": PAIRS, "dev": PAIRS[:2], "test": PAIRS}
    answer = pretraining.job(None, "", {}, splits, str(tmp_path), lambda **what: stages.append(what))
    assert {split: len(labels) for split, labels in answer["predictions"].items()} == {"dev": 2, "test": 3}
    assert answer["predictions"]["test"][:2] == answer["predictions"]["dev"], "it is asked without dropout"
    assert {label for labels in answer["predictions"].values() for label in labels} <= {"next", "other"}
    assert stages == [{"what": "pre-training", "done": epoch, "total": 2} for epoch in range(2)]
    assert "2 epochs of 2 pairs in batches of 64" in answer["recipe"], "it makes pairs that do not follow itself"
    assert answer["version"].startswith("bert-pytorch 0.0.1a4, torch 2.")
    corpus = (tmp_path / "corpus.txt").read_text()
    assert corpus.splitlines()[0] == "the kettle clicked off . \t the water was cold again ."
    assert "cat" not in corpus
    assert not list(tmp_path.glob("*.ep*")), "nobody reads its checkpoints"


@pytest.mark.usefixtures("package")
def test_pairs_are_laid_out_as_the_package_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bert_pytorch.dataset import BERTDataset, WordVocab  # type: ignore[import-untyped]

    lines = [f"{pretraining._words(each['text'])} \t {pretraining._words(each['pair'])}\n" for each in PAIRS]
    (tmp_path / "corpus").write_text("".join(lines))
    vocabulary = WordVocab(lines[:2])
    monkeypatch.setattr(pretraining, "LENGTH", 13)  # the last pair is longer
    dataset = BERTDataset(str(tmp_path / "corpus"), vocabulary, 13)
    monkeypatch.setattr("random.random", lambda: 0.9)  # nothing is masked, and no other sentence drawn
    asked: list[Tensor] = []

    def bert(ids: Tensor, segments: Tensor) -> Tensor:
        asked.extend((ids, segments))
        return torch.tensor([[0.1, 0.9], [0.9, 0.1], [0.4, 0.6]])

    model = SimpleNamespace(bert=bert, next_sentence=lambda encoded: encoded, eval=lambda: None)
    assert pretraining._answers(model, vocabulary, PAIRS) == ["next", "other", "next"]
    for row in range(3):
        expected = dataset[row]
        assert expected["is_next"] == 1
        assert torch.equal(asked[0][row], expected["bert_input"])
        assert torch.equal(asked[1][row], expected["segment_label"])
    assert asked[0][2, -1] != 0, "it is cut"


# -- what programs are given --


@pytest.mark.parametrize(
    ("said", "pieces", "uncased"),
    [
        (None, ["[PAD]", "[CLS]", "cat"], True),
        (None, ["[PAD]", "[CLS]", "cat", "Cat"], False),
        ({}, ["Cat"], False),
        ({"do_lower_case": True}, ["Cat"], True),
        ({"do_lower_case": False}, ["cat"], False),
    ],
)
def test_capitals_are_lowered_as_settings_or_vocabulary_say(
    tmp_path: Path, said: dict[str, bool] | None, pieces: list[str], uncased: bool
) -> None:
    if said is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    assert is_uncased(tmp_path, pieces) is uncased


def test_a_vocabulary_is_read_from_either_file(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("x\ny\u0085z\n", encoding="utf-8")
    assert read_vocabulary(tmp_path) == ["x", "y\u0085z"]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"b": 1, "a": 0, "\u2028": 3}}}))
    assert read_vocabulary(tmp_path) == ["a", "b", "[no piece 2]", "\u2028"], "it is what transformers reads"


# -- the task of next sentences --


def test_half_of_the_pairs_follow_one_another_and_no_story_is_in_both_splits() -> None:
    task = load_task("next-sentence")
    assert list(find(pretraining.NAME).job) == [task.name]
    assert task.outputs == (pretraining.OTHER, pretraining.NEXT)
    seen: set[str] = set()
    for split in ("train", "dev"):
        examples = [each for each in read_split(task, split, None) if isinstance(each, TextExample)]
        stories = {each.text: each.pair for each in examples if each.label == "next"}
        others = {each.text: each.pair for each in examples if each.label == "other"}
        assert Counter(each.label for each in examples) == {"next": len(stories), "other": len(others)}
        assert stories.keys() == others.keys()
        assert sorted(map(str, stories.values())) == sorted(map(str, others.values()))
        assert all(stories[text] != others[text] for text in stories)
        sentences = {*stories, *map(str, stories.values())}
        assert len(sentences) == 2 * len(stories)
        assert seen.isdisjoint(sentences)
        assert all(sentence.isascii() for sentence in sentences)
        seen |= sentences
    assert len(seen) == 340
