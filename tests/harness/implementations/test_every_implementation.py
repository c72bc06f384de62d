"""Every implementation file that can run here, found by itself: it computes BERT, or says what it does otherwise."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.measure.client import Worker, WorkerError
from harness.measure.parity import Outputs, differences, verdict
from harness.port.batch import Batch, from_lists
from harness.registry.environments import unmet
from harness.registry.implementations import find, implementations

pytestmark = pytest.mark.slow
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
INSTALLED = [
    pytest.param(
        name, marks=[*[pytest.mark.ports] * bool(unmet(each.requirements)), *[COMPILER] * name.endswith(":compiled")]
    )
    for name, each in implementations().items()
    if not each.checkout and not each.job
]


@pytest.fixture(scope="module")
def batch() -> Batch:
    """A single token, short and long sequences."""
    generator = np.random.default_rng(2)
    ids = [[101, *generator.integers(1000, 30000, n).tolist(), 102] for n in (5, 1, 60, 20, 5)]
    return from_lists(ids, [[0] * len(sequence) for sequence in ids])


@pytest.fixture(scope="module")
def exact(tiny_checkpoint: Path, batch: Batch) -> tuple[Outputs, float]:
    """The reference in float64, and how far its float32 is from it."""
    with Worker(find("reference")) as worker:
        hidden = {}
        for precision in ("fp32", "fp64"):
            worker.load(tiny_checkpoint, None, "cpu", precision, 1)
            hidden[precision] = worker.encode(batch).hidden
    return Outputs(hidden["fp64"], None), float(np.abs(hidden["fp64"] - hidden["fp32"]).max())


@pytest.fixture(scope="module")
def worker_of(environment: Callable[[str], Path]) -> Iterator[Callable[[str], Worker]]:
    """A function: name of an implementation to its worker; the variants of a file, which follow one another, share it.

    Importing a library takes seconds.
    """
    started: list[Worker] = []

    def of(name: str) -> Worker:
        implementation = find(name)
        if started and not (started[0].alive and started[0].implementation.file == implementation.file):
            started.pop().close()
        if not started:
            started.append(Worker(implementation, environment(name)))
        started[0].implementation = implementation
        return started[0]

    yield of
    for worker in started:
        worker.close()


@pytest.mark.parametrize("name", INSTALLED)
def test_it_computes_bert_or_says_what_it_does_otherwise(
    name: str,
    worker_of: Callable[[str], Worker],
    tiny_checkpoint: Path,
    batch: Batch,
    exact: tuple[Outputs, float],
) -> None:
    worker = worker_of(name)
    try:
        worker.load(tiny_checkpoint, None, "cpu", "fp32", 1)
    except WorkerError as error:
        if error.state == "skipped":  # bfloat16, on a processor without it
            pytest.skip(str(error))
        raise
    hidden = worker.encode(batch).hidden
    seconds = worker.time(batch, 2, None, 2)
    assert hidden.shape == exact[0].hidden.shape
    assert (seconds.wall > 0).all()
    found = verdict({"fp32": differences(Outputs(hidden, None), exact[0])}, exact[1])
    if found != "exact":
        own_precision = worker.info["precision"] != "fp32"
        assert worker.implementation.deviations or own_precision, f"{found}, and DEVIATIONS does not say why"
