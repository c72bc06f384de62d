"""Exact search against float64, on vectors that are made to be hard to tell one from another."""

import numpy as np
import pytest
from numpy.typing import NDArray

from reference.serving.store import nearest
from reference.serving.store.items import Measure
from reference.serving.store.nearest import Vectors

SIZE = 24


def in_float64(rows: NDArray[np.float32], query: NDArray[np.float64], measure: Measure) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    scores: NDArray[np.float64] = np.einsum("ns,s->n", exact, query)
    if measure == "cosine":
        scores = scores / np.linalg.norm(exact, axis=1) / np.linalg.norm(query)
    return scores


@pytest.fixture(params=[7, 65_536])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(nearest, "BLOCK", request.param)
    monkeypatch.setattr(nearest, "RESCORED", min(request.param, nearest.RESCORED))
    return int(request.param)


@pytest.mark.parametrize("measure", ["cosine", "dot"])
@pytest.mark.parametrize("noise", [1.0, 1e-4, 1e-6, 1e-8])
def test_the_order_is_that_of_float64(block: int, measure: Measure, noise: float) -> None:
    draw = np.random.default_rng(0)
    centre = draw.standard_normal(SIZE)
    rows = (centre + noise * draw.standard_normal((400, SIZE))).astype(np.float32)
    rows[50:60] = rows[40]  # equal ones
    rows *= draw.uniform(0.5, 2, (400, 1)).astype(np.float32) if measure == "dot" else np.float32(1)
    vectors = Vectors(SIZE, measure)
    for part in np.array_split(rows, 9):
        vectors.append(part)
    among = draw.random(400) < 0.6
    few = np.isin(np.arange(400), [3, 41, 55, 399])
    for query in (centre, rows[40].astype(np.float64), -centre):
        scores = in_float64(rows, query, measure)
        for kept in (None, among, few, np.zeros(400, np.bool_)):
            numbers, found = vectors.nearest(query, 10, kept)
            own = np.arange(400) if kept is None else np.flatnonzero(kept)
            best = own[np.lexsort((own, -scores[own]))][:10]
            np.testing.assert_allclose(found, scores[best], rtol=1e-12, atol=1e-12)
            assert len(set(numbers)) == len(best)
            np.testing.assert_allclose(scores[numbers], scores[best], rtol=1e-12, atol=1e-12)


def test_of_equal_rows_the_first_come_first(block: int) -> None:
    vectors = Vectors(SIZE)
    vectors.append(np.ones((40, SIZE), np.float32))
    numbers, scores = vectors.nearest(np.ones(SIZE), 5)
    assert numbers.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(scores, 1)


def test_rows_come_back_by_their_numbers(block: int) -> None:
    rows = np.random.default_rng(0).standard_normal((30, SIZE)).astype(np.float32)
    vectors = Vectors(SIZE)
    vectors.append(rows)
    np.testing.assert_array_equal(vectors.rows(np.array([29, 0, 7, 7])), rows[[29, 0, 7, 7]])
    assert len(vectors) == 30
