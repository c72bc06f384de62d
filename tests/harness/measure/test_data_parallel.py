"""Several processes that train one model: the same that one process trains, and none waits for one that failed."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from harness.measure.bench import Bench
from harness.measure.client import DataParallel, Worker, WorkerError
from harness.measure.plan import Plan
from harness.port.batch import Batch, from_lists
from harness.registry.implementations import Implementation, describe, find
from harness.worker.messages import Array
from reference.checkpoint import read, save

pytestmark = pytest.mark.slow  # each worker imports torch
RECIPE: dict[str, Any] = {
    "epochs": 2,
    "learning_rate": 1e-3,
    "batch_size": 6,
    "warmup": 0.1,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "precision": "fp32",  # without autocast: the model itself is in float64
    "micro_batches": 1,
}
# Trains as the reference does, but for what the second process does in its first batch.
ODD = """
import os, signal
from harness.implementations import reference

NAME = "odd"
TITLE = "Odd"
CATALOG_ID = "odd"
VARIANTS = {"memory": "too little of it", "killed": "by the system", "error": "a bug"}


class Model(reference.TrainableEncoder):
    variant = ""

    def logits(self, batch):
        import torch.distributed

        if torch.distributed.get_rank() == 1:
            if self.variant == "memory":
                raise MemoryError("no room for the batch")
            if self.variant == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("a bug of the second")
        return super().logits(batch)


def load(folder, head, device, precision, variant=""):
    model = Model(reference.load(folder, head, device, precision).module, device)
    model.variant = variant
    return model
"""


@pytest.fixture(scope="module")
def data() -> tuple[Batch, Array]:
    """Thirteen sequences, so that the last batch has a single one and leaves a process without work."""
    generator = np.random.default_rng(3)
    ids = [[101, *generator.integers(1000, 1050, n).tolist(), 102] for n in generator.integers(1, 9, 13)]
    return from_lists(ids, [[0] * len(sequence) for sequence in ids]), np.arange(13) % 3


@pytest.fixture(scope="module")
def folder(tiny_head: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without dropout, of which each process draws its own."""
    found, target = read(tiny_head("classification")), tmp_path_factory.mktemp("without-dropout")
    config = replace(found.config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    save(replace(found, config=config), target, "classification")
    return target


@pytest.fixture
def odd(tmp_path: Path) -> Callable[[str], Implementation]:
    """A function: what goes wrong, to the implementation."""
    file = tmp_path / "odd.py"
    file.write_text(ODD)
    return lambda variant: next(each for each in describe(file) if each.variant == variant)


def trained(worker: Worker, folder: Path, data: tuple[Batch, Array], precision: str = "fp64") -> tuple[Any, ...]:
    with worker:
        worker.load(folder, "classification", "cpu", precision, 2)
        worker.start_training(*data, RECIPE, "classification", 7)
        losses = [worker.train_epoch().loss for _ in range(2)]
        return losses, worker.export(), worker.memory()


@pytest.mark.parametrize("name", ["reference", "tbert"])
def test_two_processes_train_the_model_that_one_trains(name: str, folder: Path, data: tuple[Batch, Array]) -> None:
    losses, weights, memory = trained(Worker(find(name)), folder, data)
    both = trained(DataParallel(find(name), sys.executable, None, 2), folder, data)
    assert both[0] == pytest.approx(losses, abs=1e-12)
    assert both[1].keys() == weights.keys()
    assert max(np.abs(both[1][key] - weights[key]).max() for key in weights) < 1e-12
    assert both[2]["resident"] > 1.3 * memory["resident"], "the memory of both"


@pytest.mark.parametrize(
    ("variant", "message", "short_of_memory"),
    [("memory", "no room", True), ("killed", "was killed", True), ("error", "a bug of the second", False)],
)
def test_one_that_fails_ends_the_others_and_is_the_reason(
    variant: str,
    message: str,
    short_of_memory: bool,
    odd: Callable[[str], Implementation],
    folder: Path,
    data: tuple[Batch, Array],
) -> None:
    begin = time.monotonic()
    with pytest.raises(WorkerError, match=message) as error:
        trained(DataParallel(odd(variant), sys.executable, None, 2), folder, data, "fp32")
    assert error.value.out_of_memory == short_of_memory
    assert time.monotonic() - begin < 120, "gloo would wait for half an hour"
    assert not [each for each in psutil.Process().children(recursive=True) if "odd.py" in " ".join(each.cmdline())]


def test_an_environment_without_our_package_trains_in_one_process(
    prepared: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = prepared()
    plan = replace(plan, options=replace(plan.options, nproc=2))
    (implementation,) = plan.implementations
    interpreters = {implementation.name: tmp_path / "python"}
    bench = Bench(plan, interpreters, SimpleNamespace(), lambda *_: None)  # type: ignore[arg-type]
    with pytest.raises(WorkerError, match="trained in one process; leave --nproc out") as error:
        bench.start_training(implementation)
    assert error.value.state == "skipped"
