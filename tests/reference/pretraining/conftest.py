"""A small text of ours, its vocabulary and its corpus."""

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from reference.pretraining.corpus import Corpus, build_corpus, open_corpus
from reference.pretraining.text import read_documents
from reference.pretraining.vocabulary import save_vocabulary, train_vocabulary

torch.set_num_threads(1)
HERE = Path(__file__).parent


def module(name: str) -> ModuleType:
    """A file of this folder that is not a test."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="session")
def google() -> ModuleType:
    """The script that makes the hashes of Google's instances, and the text that it makes them from."""
    return module("google_instances")


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty documents of two to twelve sentences, whose words follow each other by rules that can be learnt."""
    rng = random.Random(11)
    subjects, verbs = ["the river", "a village", "the old church", "a young player"], ["crosses", "joins", "leaves"]
    places = [f"{kind} of {name}" for kind in ("county", "city") for name in ("arden", "borrow", "calder", "denby")]
    documents = []
    for number in range(80):
        place = rng.choice(places)
        documents.append(
            [
                f"{rng.choice(subjects).capitalize()} {rng.choice(verbs)} the {place} in {1900 + number + i}"
                f"{' and ' + rng.choice(subjects) if rng.random() < 0.4 else ''}."
                for i in range(rng.randint(2, 12))
            ]
        )
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n\n".join("\n".join(document) for document in documents) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def vocabulary_folder(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary") / "vocab"
    save_vocabulary(train_vocabulary(read_documents([text_file]), 300), folder)
    return folder


@pytest.fixture(scope="session")
def corpus(text_file: Path, vocabulary_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    build_corpus([text_file], vocabulary_folder, folder, held_out=0.1)
    return open_corpus(folder)
