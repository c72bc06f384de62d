"""Parity: what is compared, and which verdict follows from the differences."""

from pathlib import Path

import numpy as np
import pytest

from harness.measure.parity import Outputs, differences, published_batch, verdict
from reference.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(minilm_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(minilm_folder)


@pytest.fixture
def exact() -> Outputs:
    generator = np.random.default_rng(0)
    return Outputs(generator.normal(size=(12, 8)), generator.normal(size=(3, 8)))


def test_the_published_batch_is_the_same_each_time_and_hard(tokenizer: Tokenizer) -> None:
    first, second = (published_batch(tokenizer, 30522, 512) for _ in range(2))
    for left, right in zip(first, second, strict=True):
        np.testing.assert_array_equal(left, right)
    assert len(set(first.lengths.tolist())) > 5, "several lengths"
    assert first.lengths.min() == 1
    assert first.lengths.max() >= 200
    assert set(first.segments.tolist()) == {0, 1}, "pairs"
    chinese = tokenizer.encode("她在图书馆里等了一个小时。").ids
    assert any(first.ids[start : start + len(chinese)].tolist() == chinese for start in first.cu_seqlens[:-1])


def test_the_published_batch_fits_a_small_model(tokenizer: Tokenizer) -> None:
    batch = published_batch(tokenizer, 30522, 16)
    assert batch.lengths.max() == 16
    assert published_batch(tokenizer, 30522, 200).ids.max() < 30522


def test_differences_are_those_of_every_token_and_of_the_pooler(exact: Outputs) -> None:
    assert exact.pooled is not None
    hidden, pooled = exact.hidden.copy(), exact.pooled.copy()
    hidden[3, 5] += 0.25
    pooled[1] *= -1
    found = differences(Outputs(hidden, pooled), exact)
    assert found["max"] == pytest.approx(0.25)
    assert found["mean"] == pytest.approx(0.25 / hidden.size)
    left, right = hidden[3], exact.hidden[3]
    assert found["cosine"] == pytest.approx(left @ right / np.linalg.norm(left) / np.linalg.norm(right))
    assert found["pooled"]["cosine"] == pytest.approx(-1)
    assert found["pooled"]["max"] == pytest.approx(2 * np.abs(exact.pooled[1]).max())


def test_equal_outputs_do_not_differ(exact: Outputs) -> None:
    found = differences(exact, exact)
    assert (found["max"], found["mean"]) == (0, 0)
    assert found["cosine"] == pytest.approx(1)
    single = differences(Outputs(exact.hidden.astype(np.float32), None), exact)
    assert "pooled" not in single
    assert 0 < single["max"] < 1e-6


def test_outputs_of_zeros_have_a_cosine(exact: Outputs) -> None:
    assert differences(Outputs(np.zeros_like(exact.hidden), None), exact)["cosine"] == 0


@pytest.mark.parametrize("shape", [(11, 8), (12, 7), (12, 8, 1), (96,)])
def test_outputs_of_another_shape_are_refused(exact: Outputs, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"answered with shape .*, expected \(12, 8\)"):
        differences(Outputs(np.zeros(shape), None), exact)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_refused(exact: Outputs, number: float) -> None:
    hidden = exact.hidden.copy()
    hidden[0, 0] = number
    with pytest.raises(ValueError, match="not finite"):
        differences(Outputs(hidden, None), exact)


FLOOR = 1e-6


@pytest.mark.parametrize(
    ("single", "cosine", "double", "expected"),
    [
        (1e-6, 1.0, 1e-14, "exact"),
        (4e-6, 1.0, 1e-12, "exact"),
        (1e-6, 1.0, None, "exact"),
        (1e-6, 1.0, 1e-9, "close"),
        (1e-4, 0.9999, 1e-14, "close"),
        (1e-1, 0.999, 1e-1, "close"),
        (1e-1, 0.9, 1e-1, "differs"),
        (1e-1, 0.9, None, "differs"),
    ],
)
def test_the_verdict_follows_from_the_rounding_floor(
    single: float, cosine: float, double: float | None, expected: str
) -> None:
    found = {"fp32": {"max": single, "mean": 0.0, "cosine": cosine}}
    if double is not None:
        found["fp64"] = {"max": double, "mean": 0.0, "cosine": cosine}
    assert verdict(found, FLOOR) == expected
