"""Ports of BERT in Keras and Flax: what they compute, what each does differently, and what they refuse."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.measure.client import Encoded, Worker, WorkerError
from harness.port.batch import Batch, from_lists
from harness.registry.implementations import find
from harness.worker.messages import Array
from reference.checkpoint import read
from reference.tokenizer import Tokenizer

pytestmark = pytest.mark.ports

ERF = ("keras-bert:fixed", "bert-for-tf2:fixed", "keras-hub:fixed", "transformers-flax", "bert-keras")
TANH = ("keras-bert", "keras-hub", "keras-hub:jax", "keras-hub:tensorflow")
POOLED = ("keras-hub", "transformers-flax")
CHECKOUT = "BERT_ATLAS_CHECKOUT_BERT_KERAS"  # where a copy of the repository is
Load = Callable[..., Worker]


@pytest.fixture(scope="module")
def load(environment: Callable[[str], Path]) -> Iterator[Load]:
    """A function: name and folder to a worker that has loaded it; each name has one process."""
    workers: dict[str, Worker] = {}

    def load(name: str, folder: Path, precision: str = "fp32", device: str = "cpu") -> Worker:
        if name not in workers:
            implementation = find(name)
            if implementation.checkout and CHECKOUT not in os.environ:
                pytest.skip(f"set {CHECKOUT} to a copy of {implementation.checkout}")
            checkout = Path(os.environ[CHECKOUT]) if implementation.checkout else None
            workers[name] = Worker(implementation, environment(name), checkout)
        workers[name].load(folder, None, device, precision, 1)
        return workers[name]

    yield load
    for worker in workers.values():
        worker.close()


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Random ids from one token to as many as the model reads, and a pair."""
    generator = np.random.default_rng(0)
    ids = [generator.integers(1, 30522, n).tolist() for n in (7, 1, 512, 33)] + [[101, 7, 102, 8, 9, 102]]
    return from_lists(ids, [[0] * len(sequence) for sequence in ids[:-1]] + [[0, 0, 0, 1, 1, 1]])


class Exact:
    """What the reference computes in float64, layer by layer, and four times what its float32 is off."""

    def __init__(self, folder: Path, batch: Batch) -> None:
        with Worker(find("reference")) as worker:
            worker.load(folder, None, "cpu", "fp64", 1)
            self.hidden, self.pooled = encoded(worker, batch)
            self.layers = worker.layers(batch)
            worker.load(folder, None, "cpu", "fp32", 1)
            self.tolerance = 4 * largest(encoded(worker, batch).hidden, self.hidden)


@pytest.fixture(scope="module")
def by_erf(tiny_checkpoint: Path, batch: Batch) -> Exact:
    return Exact(tiny_checkpoint, batch)


@pytest.fixture(scope="module")
def by_tanh(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, batch: Batch) -> Exact:
    folder = copied(tiny_checkpoint, tmp_path_factory.mktemp("tanh"), hidden_act="gelu_new")
    return Exact(folder, batch)


def copied(checkpoint: Path, folder: Path, **config: object) -> Path:
    """A copy of a checkpoint with other values in its configuration."""
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    values = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def encoded(worker: Worker, batch: Batch) -> Encoded:
    return worker.encode(batch)


def largest(values: Array, expected: Array) -> float:
    assert values.shape == expected.shape
    return float(np.abs(values - expected).max())


@pytest.mark.parametrize("name", [*ERF, *TANH])
def test_it_computes_bert_with_the_gelu_that_it_states(
    load: Load, tiny_checkpoint: Path, by_erf: Exact, by_tanh: Exact, batch: Batch, name: str
) -> None:
    exact, other = (by_tanh, by_erf) if name in TANH else (by_erf, by_tanh)
    worker = load(name, tiny_checkpoint)
    outputs = encoded(worker, batch)
    assert largest(outputs.hidden, exact.hidden) <= exact.tolerance < largest(outputs.hidden, other.hidden) / 10
    assert ("gelu-tanh" in find(name).deviations) == (name in TANH or name.endswith(":fixed"))
    layers = worker.layers(batch)
    assert all(largest(*pair) <= 2 * exact.tolerance for pair in zip(layers, exact.layers, strict=True))
    assert (outputs.pooled is not None) == name.startswith(POOLED)
    if outputs.pooled is not None:
        assert largest(outputs.pooled, exact.pooled) <= exact.tolerance
    alone = encoded(worker, batch.select(np.array([1]))).hidden  # one token
    assert largest(alone, exact.hidden[7:8]) <= exact.tolerance


def test_bert_for_tf2_attends_to_padding_unless_told(
    load: Load, tiny_checkpoint: Path, by_tanh: Exact, batch: Batch
) -> None:
    worker = load("bert-for-tf2", tiny_checkpoint)
    together = encoded(worker, batch).hidden
    for number in range(len(batch.lengths)):
        tokens = batch.tokens_of(np.array([number]))
        alone = encoded(worker, batch.select(np.array([number]))).hidden
        assert largest(alone, by_tanh.hidden[tokens]) <= by_tanh.tolerance
        off = largest(together[tokens], by_tanh.hidden[tokens])
        assert off <= by_tanh.tolerance if len(tokens) == 512 else off > 1000 * by_tanh.tolerance
    assert "no-padding-mask" in find("bert-for-tf2").deviations


def test_keras_bert_takes_token_0_for_padding(load: Load, tiny_checkpoint: Path) -> None:
    worker = load("keras-bert:fixed", tiny_checkpoint)
    hidden = encoded(worker, from_lists([[101, 7, 0, 102], [101, 7, 0, 103]], [[0] * 4] * 2)).hidden
    other = encoded(worker, from_lists([[101, 7, 0, 102, 0]], [[0] * 5])).hidden
    assert largest(hidden[:4], other[:4]) < 1e-5
    assert "padding-mask-from-ids" in find("keras-bert").deviations


@pytest.mark.parametrize("name", ERF)
def test_the_length_is_never_rounded_up_beyond_the_models(
    load: Load, tiny_checkpoint: Path, tmp_path: Path, name: str
) -> None:
    """For 40 positions, 33 tokens are not padded to 64. There is no pooler in this checkpoint either."""
    from reference.checkpoint import Checkpoint, save
    from reference.model import BertConfig

    old = read(tiny_checkpoint)
    tensors = {n: t[:40] if "position_embeddings" in n else t for n, t in old.tensors.items() if "pooler" not in n}
    config = BertConfig(**(vars(old.config) | {"max_position_embeddings": 40}))
    save(Checkpoint(config, tensors), tmp_path)
    batch = from_lists([list(range(100, 133)), [101]], [[0] * 33, [0]])
    with Worker(find("reference")) as worker:
        worker.load(tmp_path, None, "cpu", "fp32", 1)
        expected = encoded(worker, batch).hidden
    outputs = encoded(load(name, tmp_path), batch)
    assert largest(outputs.hidden, expected) < 1e-5
    assert outputs.pooled is None, "a pooler that the checkpoint does not have"


def test_flax_is_exact_in_float64_and_near_in_bfloat16(
    load: Load, tiny_checkpoint: Path, by_erf: Exact, batch: Batch
) -> None:
    outputs = encoded(load("transformers-flax", tiny_checkpoint, "fp64"), batch)
    assert max(largest(outputs.hidden, by_erf.hidden), largest(outputs.pooled, by_erf.pooled)) < 1e-12
    worker = load("transformers-flax:bf16", tiny_checkpoint)
    assert worker.info["precision"] == "bf16"
    assert by_erf.tolerance < largest(encoded(worker, batch).hidden, by_erf.hidden) < 0.1


@pytest.mark.parametrize("name", ERF)
def test_weights_that_do_not_fit_are_named(load: Load, tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    from safetensors.numpy import load_file, save_file

    weights, own = load_file(tiny_checkpoint / "model.safetensors"), "encoder.layer.1.output.dense.weight"
    stored = next(key for key in weights if key.endswith(own))
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    cases = {
        f"lacks {own}": {k: v for k, v in weights.items() if k != stored},
        f"no place for {own.replace('1', '2')}": weights | {stored.replace("1", "2"): weights[stored]},
        rf"{own}: the model has \[32, 64\], the weights \[32, 60\]": weights | {stored: weights[stored][:, :60].copy()},
    }
    for message, tensors in cases.items():
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(WorkerError, match=message):
            load(name, tmp_path)


@pytest.mark.parametrize("name", ERF)
def test_what_it_cannot_do_is_said(load: Load, tiny_checkpoint: Path, name: str) -> None:
    if name != "transformers-flax":
        with pytest.raises(WorkerError, match=f"^{name.split(':')[0]} computes in float32"):
            load(name, tiny_checkpoint, "fp64")
    if name != "keras-hub:fixed":  # which torch computes
        with pytest.raises(WorkerError, match="runs on the CPU only"):
            load(name, tiny_checkpoint, device="cuda")


@pytest.mark.parametrize("name", ["keras-bert:fixed", "bert-for-tf2:fixed", "keras-hub:fixed"])
def test_its_own_tokenizer_gives_our_ids(load: Load, tiny_checkpoint: Path, name: str) -> None:
    texts = ["The lock-keeper waved us through.", "Café prices in Zürich rose by 12.5%.", "她等了一个小时。", ""]
    ours = [Tokenizer.from_folder(tiny_checkpoint).encode(text).ids for text in texts]
    theirs = load(name, tiny_checkpoint).tokenize(texts)
    assert theirs is not None
    differing = [i for i, (mine, own) in enumerate(zip(ours, theirs, strict=True)) if mine != own]
    assert differing == ([1] if name == "keras-hub:fixed" else []), "KerasHub keeps accents, unless it is set otherwise"
