"""Heads in numpy: the same logits as the reference's own heads, from an implementation that only encodes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.measure.client import Worker, WorkerError
from harness.port.batch import Batch, from_lists
from harness.registry.implementations import describe, find

ENCODER = Path(__file__).parents[1] / "stubs" / "encoder.py"


@pytest.fixture(scope="module")
def batch() -> Batch:
    generator = np.random.default_rng(1)
    ids = [generator.integers(0, 30522, n).tolist() for n in (7, 1, 40, 90, 7, 33, 12)]
    return from_lists(ids, [[0] * len(sequence) for sequence in ids])


@pytest.fixture(scope="module", params=["", "padded"])
def encoder(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """The reference without its heads; the variant is fed rectangles and shows no pooled output."""
    (found,) = [each for each in describe(ENCODER) if each.variant == request.param]
    with Worker(found) as worker:
        yield worker


@pytest.mark.parametrize("kind", ["classification", "regression", "multi-label", "tagging", "question-answering"])
def test_logits_are_those_of_the_model_with_the_head(
    encoder: Worker, tiny_head: Callable[[str], Path], batch: Batch, kind: str
) -> None:
    folder = tiny_head(kind)
    encoder.load(folder, None, "cpu", "fp64", 1)
    assert encoder.info["trainable"] is False
    seen: list[int] = []
    logits = encoder.predict(batch, kind, 100, lambda done, total: seen.append(done))
    with Worker(find("reference")) as reference:
        reference.load(folder, kind, "cpu", "fp64", 1)
        expected = reference.predict(batch, kind, 100)
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() < 1e-6, "the head's weights are float32"
    assert seen[-1] == len(batch.lengths)


def test_a_folder_without_a_head_is_an_error(encoder: Worker, tiny_checkpoint: Path, batch: Batch) -> None:
    encoder.load(tiny_checkpoint, None, "cpu", "fp32", 1)
    with pytest.raises(WorkerError, match="has no classifier for a task of kind tagging"):
        encoder.predict(batch, "tagging", 100)
