"""The built-in implementations, each in its worker: from the same folder they compute the same numbers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.measure.client import Encoded, Worker, WorkerError
from harness.port import OF_TOKENS
from harness.port.batch import IGNORE, Batch, from_lists
from harness.registry.implementations import find
from harness.worker.messages import Array
from reference.checkpoint import Checkpoint, read, save, standard_names

pytestmark = pytest.mark.slow
KINDS = ["classification", "regression", "multi-label", "tagging", "question-answering"]
OUTPUTS = {"classification": 3, "regression": 1, "multi-label": 4, "tagging": 5, "question-answering": 2}
NAMES = ["reference", "transformers", "transformers:eager"]
EXACT = 1e-12  # in float64, what another order of summation may change
Heads = Callable[[str], Path]


class Workers:
    """One process for each file; importing transformers takes seconds."""

    def __init__(self) -> None:
        self.started: dict[Path, Worker] = {}

    def load(self, name: str, folder: Path, head: str | None, precision: str = "fp64") -> Worker:
        implementation = find(name)
        if implementation.file not in self.started:
            self.started[implementation.file] = Worker(implementation)
        worker = self.started[implementation.file]
        worker.implementation = implementation
        worker.load(folder, head, "cpu", precision, 1)
        return worker


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    for worker in workers.started.values():
        worker.close()


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Lengths from 2 to the longest that the model reads, some with a second segment."""
    generator = np.random.default_rng(0)
    ids = [generator.integers(0, 30522, n).tolist() for n in (7, 2, 40, 512, 7, 33)]
    return from_lists(ids, [[int(place > 4) for place in range(len(sequence))] for sequence in ids])


def encoded(worker: Worker, batch: Batch) -> Encoded:
    return worker.encode(batch)


def predicted(worker: Worker, batch: Batch, kind: str) -> Array:
    return worker.predict(batch, kind, batch_tokens=100)


def largest(values: Array, expected: Array) -> float:
    assert values.shape == expected.shape
    assert values.dtype == expected.dtype
    assert np.isfinite(values).all()
    return float(np.abs(values - expected).max())


def test_they_say_how_they_like_to_be_fed(workers: Workers, tiny_checkpoint: Path) -> None:
    own = workers.load("reference", tiny_checkpoint, None).info
    theirs = workers.load("transformers", tiny_checkpoint, None).info
    assert (own["batching"], theirs["batching"]) == ("packed", "padded")
    assert own["version"] == f"torch {torch.__version__}"
    assert theirs["version"].startswith("transformers ")
    assert theirs["version"].endswith(f"torch {torch.__version__}")


@pytest.mark.parametrize("name", NAMES[1:])
def test_hidden_states_and_pooled_output_are_the_same(
    workers: Workers, tiny_checkpoint: Path, batch: Batch, name: str
) -> None:
    expected = encoded(workers.load("reference", tiny_checkpoint, None), batch)
    assert expected.hidden.shape == (len(batch.ids), 32)
    assert expected.pooled.shape == (len(batch.lengths), 32)
    assert np.abs(expected.hidden).max() > 0.5
    values = encoded(workers.load(name, tiny_checkpoint, None), batch)
    assert largest(values.hidden, expected.hidden) <= EXACT
    assert largest(values.pooled, expected.pooled) <= EXACT


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_same(workers: Workers, tiny_head: Heads, batch: Batch, kind: str) -> None:
    expected = predicted(workers.load("reference", tiny_head(kind), kind), batch, kind)
    rows = len(batch.ids) if kind in OF_TOKENS else len(batch.lengths)
    assert expected.shape == (rows, OUTPUTS[kind])
    for name in NAMES[1:]:
        values = predicted(workers.load(name, tiny_head(kind), kind), batch, kind)
        assert largest(values, expected) <= EXACT


@pytest.mark.parametrize("name", NAMES)
def test_under_a_head_the_encoder_is_the_same(
    workers: Workers, tiny_checkpoint: Path, tiny_head: Heads, batch: Batch, name: str
) -> None:
    expected = encoded(workers.load("reference", tiny_checkpoint, None), batch)
    values = encoded(workers.load(name, tiny_head("classification"), "classification"), batch)
    assert largest(values.hidden, expected.hidden) <= EXACT
    assert largest(values.pooled, expected.pooled) <= EXACT
    tagging = encoded(workers.load(name, tiny_head("tagging"), "tagging"), batch)
    assert largest(tagging.hidden, expected.hidden) <= EXACT
    assert tagging.pooled is None, "tagging needs no pooler"


@pytest.mark.parametrize("name", NAMES[:2])
def test_neighbours_in_the_batch_do_not_matter(
    workers: Workers, tiny_checkpoint: Path, batch: Batch, name: str
) -> None:
    worker = workers.load(name, tiny_checkpoint, None)
    together, alone = encoded(worker, batch), encoded(worker, batch.select(np.array([2])))
    tokens = batch.tokens_of(np.array([2]))
    assert largest(alone.hidden, together.hidden[tokens]) <= EXACT


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.1)])
def test_lower_precisions_come_back_as_float32(
    workers: Workers, tiny_checkpoint: Path, batch: Batch, precision: str, tolerance: float
) -> None:
    short = batch.select(np.array([0, 1, 2]))
    exact = encoded(workers.load("reference", tiny_checkpoint, None), short).hidden
    for name in NAMES[:2]:
        values = encoded(workers.load(name, tiny_checkpoint, None, precision), short).hidden
        assert values.dtype == np.float32
        assert 0 < np.abs(values - exact).max() < tolerance


@pytest.mark.parametrize("kind", ["classification", "tagging", "question-answering"])
@pytest.mark.parametrize(("name", "other"), [NAMES[:2], NAMES[1::-1]])
def test_what_one_trained_the_other_loads(
    workers: Workers,
    tiny_head: Heads,
    tmp_path: Path,
    batch: Batch,
    kind: str,
    name: str,
    other: str,
) -> None:
    folder, short = tiny_head(kind), batch.select(np.array([0, 1, 4]))
    worker = workers.load(name, folder, kind, "fp32")
    train_a_little(worker, short, kind)
    arrays = worker.export()
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    tensors = standard_names({key: torch.from_numpy(array) for key, array in arrays.items()})
    save(Checkpoint(read(folder).config, tensors), tmp_path, kind)
    assert worker.cast("fp64") == "fp64"
    answer = predicted(worker, short, kind)
    loaded = workers.load(other, tmp_path, kind)
    again = predicted(loaded, short, kind)
    assert largest(again, answer) <= EXACT
    original = workers.load(other, folder, kind)
    before = predicted(original, short, kind) if kind else answer
    assert kind is None or largest(before, answer) > 1e-3, "training changed nothing"


def train_a_little(worker: Worker, batch: Batch, kind: str) -> None:
    recipe = {"epochs": 1, "learning_rate": 1e-2, "batch_size": 2, "warmup": 0.1, "weight_decay": 0.01}
    recipe |= {"max_grad_norm": 1.0, "precision": "fp32", "micro_batches": 1}  # type: ignore[dict-item]
    labels = np.full(len(batch.ids), IGNORE) if kind == "tagging" else np.array([0, 2, 1])
    labels[:2] = 1
    if kind == "question-answering":
        labels = np.array([[0, 1], [1, 1], [0, 0]])
    worker.start_training(batch, labels, recipe, kind, seed=0)
    progress: list[dict[str, Any]] = []
    assert worker.train_epoch(lambda **what: progress.append(what)).loss > 0
    assert [what["done"] for what in progress] == [1, 2]


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("kind", ["classification", "tagging", "question-answering"])
def test_a_head_that_the_checkpoint_lacks_is_an_error(
    workers: Workers, tiny_checkpoint: Path, name: str, kind: str
) -> None:
    with pytest.raises(WorkerError, match=r"(classifier|qa_outputs)\.weight"):
        workers.load(name, tiny_checkpoint, kind)


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_tensor_that_the_checkpoint_lacks_is_an_error(
    workers: Workers, tiny_checkpoint: Path, tmp_path: Path, name: str
) -> None:
    checkpoint, lost = read(tiny_checkpoint), "bert.encoder.layer.1.output.dense.weight"
    save(Checkpoint(checkpoint.config, {n: t for n, t in checkpoint.tensors.items() if n != lost}), tmp_path)
    with pytest.raises(WorkerError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        workers.load(name, tmp_path, None)


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_checkpoint_without_a_pooler_is_one_without_pooled_output(
    workers: Workers, tiny_checkpoint: Path, tiny_head: Heads, tmp_path: Path, batch: Batch, name: str
) -> None:
    checkpoint = read(tiny_head("classification"))
    save(Checkpoint(checkpoint.config, {n: t for n, t in checkpoint.tensors.items() if "pooler" not in n}), tmp_path)
    expected = encoded(workers.load("reference", tiny_checkpoint, None), batch)
    values = encoded(workers.load(name, tmp_path, None), batch)
    assert largest(values.hidden, expected.hidden) <= EXACT
    assert values.pooled is None
    with pytest.raises(WorkerError, match="pooler"):
        workers.load(name, tmp_path, "classification")


@pytest.mark.parametrize("name", NAMES)
def test_timing_and_memory(workers: Workers, tiny_checkpoint: Path, batch: Batch, name: str) -> None:
    worker = workers.load(name, tiny_checkpoint, None, "fp32")
    short = batch.select(np.array([0, 1, 4]))
    seconds = worker.time(short, 2, 9, 3)
    assert seconds.wall.shape == (3,)
    assert (seconds.wall > 0).all()
    assert worker.memory()["resident"] > 100 * 2**20
