"""Ports to torch, each by its file's ``load``: what they compute, what they refuse, and what they learn.

One whose packages are not installed beside the harness is skipped (pip install -e .[ports]).
"""

import importlib
import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.implementations import reference
from harness.measure.client import Worker
from harness.measure.deviations import plain_bert
from harness.port import OF_TOKENS
from harness.port.batch import IGNORE, Batch, from_lists
from harness.port.hf_folder import read_folder
from harness.registry.environments import unmet
from harness.registry.implementations import find
from harness.worker.finetune import Training, predict
from harness.worker.messages import Array
from reference.checkpoint import Checkpoint, read, save, standard_names
from reference.tokenizer import Tokenizer

EXACT = 1e-12  # in float64, what another order of summation may change
POOLING = ["pytorch-pretrained-bert", "tbert", "simple-bert-pytorch", "sentence-transformers", "torch-encoder"]
SAME = [*POOLING, "curated-transformers", "curated-transformers:sdpa"]
ALL = [*SAME, "bert-pytorch"]
TRAINABLE = ["pytorch-pretrained-bert", "tbert", "bert-pytorch"]
CODERTIMO = {
    "pre-norm",
    "no-embedding-norm",
    "sinusoidal-positions",
    "segment-ids",
    "layer-norm-unbiased",
    "layer-norm-epsilon-1e-6",
    "gelu-tanh",
    "padding-mask-from-ids",
}
KINDS = ["classification", "regression", "multi-label", "tagging", "question-answering"]
TEXTS = [
    "The lock-keeper waved us through, didn't he?",
    "Café prices in Zürich rose by 12.5%.",
    "她在图书馆里等了一个小时。",
    "tabs\tand\u3000odd spaces, a bell\x07, 🍕 and [MASK]",
    "",
]
Heads = Callable[[str], Path]


def port(name: str) -> Any:
    """The module of a port; a test that needs one that is not installed is skipped."""
    implementation = find(name)
    lacking = unmet(implementation.requirements)
    if lacking:
        pytest.skip(f"{name} needs {', '.join(lacking)}")
    return importlib.import_module(f"harness.implementations.{implementation.file.stem}")


def load(name: str, folder: Path, head: str | None = None, precision: str = "fp64") -> Any:
    return port(name).load(str(folder), head, "cpu", precision, find(name).variant)


@torch.inference_mode()
def outputs(model: Any, batch: Batch) -> tuple[Array, Array | None]:
    encoded = model.encode(batch)
    model.synchronize()
    return model.fetch(encoded, batch), model.pooled(encoded, batch)


def exact(folder: Path, batch: Batch) -> tuple[Array, Array | None]:
    return outputs(reference.load(str(folder), None, "cpu", "fp64"), batch)


def largest(values: Array | None, expected: Array | None) -> float:
    assert values is not None
    assert expected is not None
    assert values.shape == expected.shape
    return float(np.abs(values - expected).max())


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Lengths from 1 to the longest that the model reads, some with a second segment."""
    generator = np.random.default_rng(0)
    ids = [generator.integers(1, 30522, n).tolist() for n in (7, 1, 40, 512, 7, 33)]
    return from_lists(ids, [[int(place > 4) for place in range(len(sequence))] for sequence in ids])


@pytest.mark.parametrize("name", SAME)
def test_it_is_bert(tiny_checkpoint: Path, batch: Batch, name: str) -> None:
    hidden, pooled = outputs(load(name, tiny_checkpoint), batch)
    expected, expected_pooled = exact(tiny_checkpoint, batch)
    assert hidden.dtype == np.float64
    assert largest(hidden, expected) <= EXACT
    if name in POOLING:
        assert largest(pooled, expected_pooled) <= EXACT
    else:
        assert pooled is None


@pytest.mark.parametrize("name", SAME)
def test_it_is_bert_in_a_checkpoint_without_prefix(minilm_folder: Path, batch: Batch, name: str) -> None:
    short = batch.select(np.array([0, 1, 2]))
    assert largest(outputs(load(name, minilm_folder), short)[0], exact(minilm_folder, short)[0]) <= EXACT


@pytest.mark.parametrize("name", ["minilm", "tiny"])
def test_codertimos_differs_from_bert_as_it_says(
    tiny_checkpoint: Path, minilm_folder: Path, batch: Batch, name: str
) -> None:
    folder, short = {"tiny": tiny_checkpoint, "minilm": minilm_folder}[name], batch.select(np.array([0, 1, 2]))
    model = load("bert-pytorch", folder)
    with torch.inference_mode():
        states = model.layers(short)
    config, encoder, _ = read_folder(folder)
    tensors = {name: torch.from_numpy(array).double() for name, array in encoder.items()}
    expected = [hidden.numpy() for hidden in plain_bert(tensors, config, short, CODERTIMO)]
    assert len(states) == len(expected)
    for hidden, other in zip(states, expected, strict=True):
        scale = np.abs(other).max()
        assert largest(hidden, other) <= 1e-5 * scale, "its sinusoids are rounded to float32, and nothing is normalised"
    assert largest(states[-1], outputs(model, short)[0]) <= EXACT * scale
    assert largest(states[-1], exact(folder, short)[0]) > 1
    for each in port("bert-pytorch").DEVIATIONS:
        without = plain_bert(tensors, config, short, CODERTIMO - {each})[-1].numpy()
        assert largest(states[-1], without) > 1e-4 * scale, f"{each} makes no difference"


@pytest.mark.parametrize("name", SAME)
def test_every_layer_is_that_of_bert(tiny_checkpoint: Path, batch: Batch, name: str) -> None:
    model, original = load(name, tiny_checkpoint), read_folder(tiny_checkpoint)
    tensors = {name: torch.from_numpy(array).double() for name, array in original.encoder.items()}
    with torch.inference_mode():
        states = model.layers(batch)
        expected = [hidden.numpy() for hidden in plain_bert(tensors, original.config, batch)]
    assert len(states) == 3
    for hidden, other in zip(states, expected, strict=True):
        assert largest(hidden, other) <= EXACT
    assert largest(states[-1], outputs(model, batch)[0]) <= EXACT


@pytest.mark.parametrize("name", ALL)
def test_neighbours_in_the_batch_do_not_matter(tiny_checkpoint: Path, batch: Batch, name: str) -> None:
    model = load(name, tiny_checkpoint)
    together = outputs(model, batch)[0]
    for sequence in ([1], [2]):  # the first is a single token
        alone = outputs(model, batch.select(np.array(sequence)))[0]
        assert largest(alone, together[batch.tokens_of(np.array(sequence))]) <= EXACT * np.abs(together).max()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.2), ("fp16", 0.05)])
@pytest.mark.parametrize("name", ALL)
def test_lower_precisions_come_back_as_float32(
    tiny_checkpoint: Path, batch: Batch, name: str, precision: str, tolerance: float
) -> None:
    if (name, precision) == ("bert-pytorch", "fp16"):
        with pytest.raises(NotImplementedError, match="bert-pytorch does not compute in fp16"):
            load(name, tiny_checkpoint, None, precision)
        return
    short = batch.select(np.array([0, 1, 2]))
    hidden = outputs(load(name, tiny_checkpoint, None, precision), short)[0]
    expected = outputs(load(name, tiny_checkpoint), short)[0]
    assert hidden.dtype == np.float32
    assert 0 < np.abs(hidden - expected).max() < tolerance


@pytest.mark.parametrize("name", ALL)
def test_weights_that_do_not_fit_are_named(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    checkpoint, lost = read(tiny_checkpoint), "bert.encoder.layer.1.output.dense.weight"
    spoilt = {
        "lost": {n: t for n, t in checkpoint.tensors.items() if n != lost},
        "left": checkpoint.tensors | {"bert.encoder.layer.2.output.dense.weight": checkpoint.tensors[lost].clone()},
        "misshapen": checkpoint.tensors | {lost: checkpoint.tensors[lost][:, :-1]},
    }
    own = r"layers?\.1\.(linear2|ffn\.output|output\.dense)|encoder\.1\.output|blocks\.1\.feed_forward\.w_2"
    for kind, tensors in spoilt.items():
        save(Checkpoint(checkpoint.config, tensors), tmp_path / kind)
        named = r"layers?\.2\.(output\.dense|ffn\.output)" if kind == "left" else own
        with pytest.raises((ValueError, RuntimeError), match=named):
            load(name, tmp_path / kind)


@pytest.mark.parametrize("name", SAME)
def test_a_checkpoint_without_a_pooler_is_one_without_pooled_output(
    tiny_checkpoint: Path, tmp_path: Path, batch: Batch, name: str
) -> None:
    checkpoint, short = read(tiny_checkpoint), batch.select(np.array([0, 1, 2]))
    save(Checkpoint(checkpoint.config, {n: t for n, t in checkpoint.tensors.items() if "pooler" not in n}), tmp_path)
    hidden, pooled = outputs(load(name, tmp_path), short)
    assert pooled is None
    assert largest(hidden, exact(tiny_checkpoint, short)[0]) <= EXACT


@pytest.mark.parametrize("name", ALL)
def test_a_head_that_nobody_asks_for_is_left_alone(
    tiny_checkpoint: Path, tiny_head: Heads, batch: Batch, name: str
) -> None:
    short = batch.select(np.array([0, 1, 2]))
    hidden = outputs(load(name, tiny_head("classification")), short)[0]
    assert largest(hidden, outputs(load(name, tiny_checkpoint), short)[0]) == 0


@pytest.mark.parametrize("name", ALL)
def test_in_its_worker_it_says_who_computes(tiny_checkpoint: Path, batch: Batch, name: str) -> None:
    port(name)
    with Worker(find(name)) as worker:
        worker.load(tiny_checkpoint, None, "cpu", "fp64", 1)
        hidden = worker.encode(batch).hidden
    own = find(name).name.split(":")[0]
    assert worker.info["version"].startswith("torch " if own == "torch-encoder" else f"{own} ")
    assert worker.info["batching"] == "padded"
    assert worker.info["trainable"] == (name in TRAINABLE)
    assert largest(hidden, outputs(load(name, tiny_checkpoint), batch)[0]) <= EXACT * 10


# -- heads --


def toy(kind: str) -> tuple[Batch, Array]:
    """32 sequences whose labels follow from their tokens: from the second one, and in tagging from each."""
    generator = np.random.default_rng(7)
    ids = [[101, *map(int, generator.integers(1000, 1012, generator.integers(2, 9))), 102] for _ in range(32)]
    batch = from_lists(ids, [[0] * len(sequence) for sequence in ids])
    first = np.array([sequence[1] for sequence in ids])
    labels: dict[str, Array] = {
        "classification": first % 3,
        "regression": ((first - 1000) / 6).astype(np.float32),
        "multi-label": (first[:, None] >> np.arange(4) & 1).astype(np.float32),
        "tagging": np.where(batch.ids >= 1000, batch.ids % 5, IGNORE),
        "question-answering": np.array([[np.argmax(sequence), len(sequence) - 2] for sequence in ids]),
    }
    return batch, labels[kind]


def training(model: Any, kind: str, epochs: int) -> Training:
    recipe = {"epochs": epochs, "learning_rate": 3e-3, "batch_size": 4, "warmup": 0.1, "weight_decay": 0.01}
    recipe |= {"max_grad_norm": 1.0, "precision": "fp32", "micro_batches": 1}  # type: ignore[dict-item]
    return Training(model, *toy(kind), kind, recipe, 0)


def quiet(**_: Any) -> None:
    pass


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TRAINABLE[:2])
def test_logits_are_those_of_the_reference(tiny_head: Heads, batch: Batch, name: str, kind: str) -> None:
    expected = predict(reference.load(str(tiny_head(kind)), kind, "cpu", "fp64"), batch, kind, 100, quiet)
    model = load(name, tiny_head(kind), kind)
    assert largest(predict(model, batch, kind, 100, quiet), expected) <= EXACT
    hidden, pooled = outputs(model, batch)
    assert largest(hidden, exact(tiny_head(kind), batch)[0]) <= EXACT
    assert (pooled is None) == (kind in OF_TOKENS), "which need no pooler"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TRAINABLE)
def test_a_toy_set_is_learned_by_every_parameter(tiny_head: Heads, name: str, kind: str) -> None:
    model = load(name, tiny_head(kind), kind, "fp32")
    run = training(model, kind, 20)
    losses = [run.epoch(quiet)]
    idle = [name for name, p in model.module.named_parameters() if p.grad is None or not p.grad.any()]
    # A key's bias adds the same to all scores of a softmax; the segments of this set are all the first.
    spare = ("key.bias", "linear_layers.1.bias", "bert.embedding.segment.weight")
    assert [each for each in idle if not each.endswith(spare)] == []
    losses += [run.epoch(quiet) for _ in range(19)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.6 * losses[0]
    assert not model.module.training


@pytest.mark.parametrize("kind", [None, "classification", "tagging", "question-answering"])
@pytest.mark.parametrize("name", TRAINABLE)
def test_what_was_trained_can_be_saved_and_loaded(
    tiny_checkpoint: Path, tiny_head: Heads, tmp_path: Path, batch: Batch, name: str, kind: str | None
) -> None:
    folder, short = tiny_head(kind) if kind else tiny_checkpoint, batch.select(np.array([0, 1, 2]))
    model = load(name, folder, kind, "fp32")
    if kind:
        training(model, kind, 1).epoch(quiet)
    weights = standard_names({key: torch.from_numpy(array) for key, array in model.export().items()})
    save(Checkpoint(read(folder).config, weights), tmp_path, kind)

    def answer(model: Any) -> Array:
        return predict(model, short, kind, 100, quiet) if kind else outputs(model, short)[0]

    again = answer(load(name, tmp_path, kind, "fp32"))
    assert largest(again, answer(model)) == 0
    assert not kind or largest(again, answer(load(name, folder, kind, "fp32"))) > 1e-3, "training changed nothing"
    if name != "bert-pytorch":
        assert largest(answer(reference.load(str(tmp_path), kind, "cpu", "fp32")), again) <= 1e-5
    if kind is None:
        assert weights.keys() == read(folder).tensors.keys()
        assert all(torch.equal(weights[key], tensor) for key, tensor in read(folder).tensors.items())


@pytest.mark.parametrize("kind", ["classification", "tagging", "question-answering"])
@pytest.mark.parametrize("name", TRAINABLE)
def test_a_head_that_the_checkpoint_lacks_is_an_error(tiny_checkpoint: Path, name: str, kind: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=r"(classifier|qa_outputs)\.weight"):
        load(name, tiny_checkpoint, kind)


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_classifier_needs_a_pooler(tiny_head: Heads, tmp_path: Path, name: str) -> None:
    checkpoint = read(tiny_head("classification"))
    save(Checkpoint(checkpoint.config, {n: t for n, t in checkpoint.tensors.items() if "pooler" not in n}), tmp_path)
    with pytest.raises((ValueError, RuntimeError), match=r"pooler\.dense\.weight"):
        load(name, tmp_path, "classification")


# -- tokenizers --


@pytest.mark.parametrize("name", ["pytorch-pretrained-bert", "curated-transformers", "sentence-transformers"])
def test_its_tokenizer_is_bert_s(tiny_checkpoint: Path, name: str) -> None:
    tokenize, ours = port(name).tokenizer(str(tiny_checkpoint)), Tokenizer.from_folder(tiny_checkpoint)
    texts = [*TEXTS, "long " * 600]
    assert [tokenize(text) for text in texts] == [ours.encode(text, max_length=10_000).ids for text in texts]


def test_simple_bert_s_tokenizer_is_not(tiny_checkpoint: Path) -> None:
    tokenize = port("simple-bert-pytorch").tokenizer(str(tiny_checkpoint))
    ours = Tokenizer.from_folder(tiny_checkpoint)
    assert tokenize("the rain came.") == ours.encode("the rain came.").ids
    accents, unknown = tokenize("Café Zürich"), tokenize("🍕")
    assert accents != ours.encode("Café Zürich").ids
    assert unknown[1] == 30522, "its [UNK] is one beyond the vocabulary"


def test_a_cased_vocabulary_is_not_lowered(tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nparis\nParis\n")
    assert port("pytorch-pretrained-bert").tokenizer(str(tmp_path))("Paris paris") == [2, 6, 5, 3]
    assert port("simple-bert-pytorch").tokenizer(str(tmp_path))("Paris paris") == [2, 6, 5, 3]


@pytest.mark.parametrize("name", ["pytorch-pretrained-bert", "simple-bert-pytorch"])
def test_a_folder_with_tokenizer_json_alone(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    shutil.copyfile(tiny_checkpoint / "tokenizer.json", tmp_path / "tokenizer.json")
    text = "The rain came at nine."
    assert port(name).tokenizer(str(tmp_path))(text) == port(name).tokenizer(str(tiny_checkpoint))(text)


@pytest.mark.parametrize("name", ["tbert", "bert-pytorch", "torch-encoder"])
def test_some_have_no_tokenizer(name: str) -> None:
    assert not inspect.getmembers(port(name), lambda member: getattr(member, "__name__", "") == "tokenizer")
