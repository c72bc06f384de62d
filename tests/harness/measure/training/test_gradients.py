"""Differences of gradients, verdicts, and why they differ."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.measure.deviations import NONE
from harness.measure.training.gradients import Diagnosis, diagnose, differences, plain_gradients, sentence, verdict
from harness.port.batch import Array, from_lists

BATCH = from_lists([[101, 7592, 2088, 102], [101, 2003, 102]], [[0, 0, 1, 1], [0] * 3])
LABELS = np.array([0, 2])


@pytest.fixture(scope="module")
def folder(tiny_head: Callable[[str], Path]) -> Path:
    return tiny_head("classification")


@pytest.fixture(scope="module")
def exact(folder: Path) -> dict[str, Array]:
    return plain_gradients(folder, BATCH, LABELS, NONE)


def why(folder: Path, found: dict[str, Array], exact: dict[str, Array], *known: str) -> Diagnosis:
    return diagnose(folder, BATCH, LABELS, found, exact, list(known), 1e-9)


def test_a_summed_loss(folder: Path, exact: dict[str, Array]) -> None:
    found = why(folder, {name: 2 * values for name, values in exact.items()}, exact)
    assert found.summed
    assert found.reproduced
    assert sentence(found) == "the loss is summed over the batch, not averaged"


def test_another_factor(folder: Path, exact: dict[str, Array]) -> None:
    found = why(folder, {name: 128 * values for name, values in exact.items()}, exact)
    assert found.reproduced
    assert sentence(found) == "all gradients are 128 times the reference's"


def test_deviations_of_the_hidden_states(folder: Path, exact: dict[str, Array]) -> None:
    known = ("gelu-tanh", "segment-ids")
    observed = plain_gradients(folder, BATCH, LABELS, frozenset(known))
    found = why(folder, {name: 2 * values for name, values in observed.items()}, exact, *known)
    assert found.reproduced
    assert sentence(found) == ("tanh gelu; segment ids off by one; the loss is summed over the batch, not averaged")


def test_weights_that_are_not_trained(folder: Path, exact: dict[str, Array]) -> None:
    frozen = {name: values * (not name.startswith("embeddings.")) for name, values in exact.items()}
    found = why(folder, frozen, exact)
    assert found.reproduced
    assert sentence(found) == "not trained: embeddings.LayerNorm.bias and 4 more"


def test_what_is_unknown_is_named(folder: Path, exact: dict[str, Array]) -> None:
    wrong = exact | {"pooler.dense.bias": -exact["pooler.dense.bias"]}
    found = why(folder, wrong, exact)
    assert not found.reproduced
    assert "pooler.dense.bias" in sentence(found)


def test_differences_are_relative_to_each_weight() -> None:
    exact = {"large": np.array([100.0, 1.0]), "small": np.array([1.0, 0.5]), "rounding": np.array([1e-15, 0.0])}
    found = {"large": np.array([100.0, 2.0]), "small": np.array([1.0, 0.6]), "rounding": np.array([-1e-15, 0.0])}
    result = differences(found, exact)
    assert result["worst"] == "small"
    assert result["max"] == pytest.approx(0.1)
    assert result["weights"]["large"] == pytest.approx(0.01)
    assert result["weights"]["rounding"] < 1e-12, "relative to the gradients of the others"
    assert result["cosine"] > 0.99, "rounding has no direction"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"one": np.zeros(3)}, r"gradient of one has shape \(3,\), expected \(2,\)"),
        ({"one": np.array([np.nan, 0])}, "not finite"),
        ({"other": np.zeros(2)}, "exports no weight"),
    ],
)
def test_gradients_that_cannot_be_compared_are_refused(found: dict[str, Array], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        differences(found, {"one": np.ones(2)})


@pytest.mark.parametrize(
    ("single", "cosine", "double", "lacking", "expected"),
    [
        (4e-6, 1.0, 1e-12, [], "exact"),
        (4e-6, 1.0, None, [], "exact"),
        (4e-6, 1.0, 1e-9, [], "close"),
        (1e-3, 0.9995, 1e-3, [], "close"),
        (0.5, 0.9, 0.5, [], "differs"),
        (6.0, 1.0, 6.0, [], "differs"),
        (1e-6, 1.0, 1e-14, ["pooler.dense.bias"], "differs"),
    ],
)
def test_the_verdict(single: float, cosine: float, double: float | None, lacking: list[str], expected: str) -> None:
    found = {"fp32": {"max": single, "cosine": cosine}}
    if double is not None:
        found["fp64"] = {"max": double, "cosine": cosine}
    assert verdict(found, 1e-6, lacking) == expected
