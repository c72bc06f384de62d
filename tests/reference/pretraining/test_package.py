"""A run made ready to publish: what the folder has, that everyone loads it, and what is refused."""

import fnmatch
import hashlib
import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertForMaskedLM

import reference
from reference import named
from reference.errors import PretrainingError
from reference.model import pack
from reference.pretraining.card import Published
from reference.pretraining.corpus import Corpus, build_corpus, open_corpus
from reference.pretraining.package import package
from reference.pretraining.recipe import Recipe
from reference.pretraining.train import Setting, pretrain

ROOT = Path(__file__).parents[3]
MOST = 12_000_000  # bytes of weights that are part of this repository
SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_length": 32,
    "batch_tokens": 512,
    "tokens": 1500,
    "learning_rate": 5e-3,
}
ABOUT = Published("tiny", "Rivers and villages, invented", "CC0 1.0")


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, with the recipe that the command writes there."""
    folder = tmp_path_factory.mktemp("run") / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(json.dumps(SMALL))
    assert pretrain(corpus, Recipe.from_dict(SMALL, "test"), folder, Setting(torch.device("cpu"), "fp32"))
    return folder


@pytest.fixture(scope="module")
def packaged(run: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of Python, ``carrier``, with the model in it."""
    weights = tmp_path_factory.mktemp("site") / "carrier" / "weights"
    weights.mkdir(parents=True)
    (weights.parent / "__init__.py").touch()
    error = package(run, corpus, weights / "tiny", ABOUT)
    assert 0 < error < 1e-3
    return weights / "tiny"


@pytest.fixture
def installed(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the weights, known."""
    monkeypatch.syspath_prepend(packaged.parents[2])
    found = named.packaged_in(packaged.parent)
    assert list(found) == ["tiny"]
    monkeypatch.setitem(named.NAMES, "tiny", replace(found["tiny"], module="carrier"))
    return "tiny"


def test_the_folder_has_all_that_is_published_and_its_hashes(packaged: Path, run: Path) -> None:
    manifest = json.loads((packaged / "manifest.json").read_text())
    files = {file.name for file in packaged.iterdir()}
    weights = {"config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "tokenizer_config.json"}
    assert files == weights | {"README.md", "recipe.yaml", "log.jsonl", "manifest.json"}
    for name, expected in manifest["files"].items():
        assert hashlib.sha256((packaged / name).read_bytes()).hexdigest() == expected
    tensors, originals = load_file(packaged / "model.safetensors"), load_file(run / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert all(torch.equal(tensors[name], tensor.half()) for name, tensor in originals.items())


def test_the_card_states_data_licence_cost_and_result(packaged: Path, corpus: Corpus) -> None:
    text = (packaged / "README.md").read_text(encoding="utf-8")
    log = [json.loads(line) for line in (packaged / "log.jsonl").read_text().splitlines()]
    flop = next(line["flop"] for line in reversed(log) if "flop" in line)
    assert text.startswith("# tiny\n")
    assert "Rivers and villages, invented. Licence of the text: CC0 1.0." in text
    assert "name it here" not in text
    assert corpus.manifest["sources"][0]["sha256"] in text
    assert f"{flop:.2e} FLOP" in text
    assert f"{log[-1]['held_out_loss']} | {log[0]['unigram_loss']} (unigram), {log[0]['bigram_loss']} (bigram)" in text


def test_a_log_without_a_bigram_model_gets_one_in_the_card(run: Path, corpus: Corpus, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(run, older)
    lines = (run / "log.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    expected = first.pop("bigram_loss")
    (older / "log.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    package(older, corpus, tmp_path / "out", ABOUT)
    assert f"{expected} (bigram)" in (tmp_path / "out" / "README.md").read_text()


def test_it_is_found_by_its_name_and_computed_in_float32(installed: str, packaged: Path) -> None:
    assert named.find(installed) == packaged
    vectors = reference.SentenceEncoder(installed).encode(["the river", "a village"])
    assert vectors.shape == (2, 24)
    model = reference.load(packaged, "masked-lm", "cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.precision_computed == "fp32"


def test_transformers_loads_it_and_computes_in_float32(packaged: Path, corpus: Corpus) -> None:
    ids = torch.tensor([[101, *corpus.train.pieces[:20].tolist(), 102]]).long()
    theirs = BertForMaskedLM.from_pretrained(packaged).eval()
    assert theirs.dtype == torch.float32
    with torch.inference_mode():
        found, expected = reference.load(packaged, "masked-lm", "cpu")(pack(ids)), theirs(input_ids=ids).logits[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_what_is_not_a_finished_run_of_this_corpus_is_refused(
    run: Path, corpus: Corpus, text_file: Path, vocabulary_folder: Path, tmp_path: Path
) -> None:
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    (unfinished / "README.md").unlink()
    with pytest.raises(PretrainingError, match=r"not the folder of a finished run of pretrain: it has no README.md"):
        package(unfinished, corpus, tmp_path / "out", ABOUT)
    build_corpus([text_file], vocabulary_folder, tmp_path / "other", held_out=0.3)
    with pytest.raises(PretrainingError, match="was trained on another corpus"):
        package(run, open_corpus(tmp_path / "other"), tmp_path / "out", ABOUT)
    (unfinished / "README.md").touch()
    shutil.rmtree(unfinished / "training")
    with pytest.raises(PretrainingError, match="has no state of a run"):
        package(unfinished, corpus, tmp_path / "out", ABOUT)
    assert not (tmp_path / "out").exists()


# ---- the weights in this repository, of which there may be none ----


@pytest.mark.parametrize("folder", sorted(named.WEIGHTS.glob("*/")), ids=lambda folder: folder.name)
def test_our_own_weights_are_whole_and_small(folder: Path) -> None:
    manifest = json.loads((folder / named.MANIFEST).read_text(encoding="utf-8"))
    assert {file.name for file in folder.iterdir()} == {*manifest["files"], named.MANIFEST}
    for name, expected in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, name
    assert sum(file.stat().st_size for file in folder.iterdir()) <= MOST
    assert named.find(folder.name) == folder
    assert "Licence of the text" in (folder / "README.md").read_text(encoding="utf-8")


def test_wheels_have_the_folders() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["reference"]
    assert any(fnmatch.fnmatch("weights/atlas-tiny/model.safetensors", pattern) for pattern in patterns)
