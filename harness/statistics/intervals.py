"""95% intervals by the percentile bootstrap, for statistics of per-example features, without a loop over draws.

A resample, n rows of features drawn with replacement, is represented by the count of each row in it. A statistic
gets the rows first, and then the counts of many resamples at once. Where rows repeat, as they do in every metric
that counts right and wrong answers, one multinomial draw gives the counts of the few distinct rows, however many
examples there are.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]  # [resamples, m]
Statistic = Callable[[Floats], Callable[[Counts], Floats]]  # rows [m, k] -> counts -> values [resamples]

BINOMIAL_COST = 16  # cost of drawing the count of one distinct row, in draws of one example (measured: 9 to 24)
CHUNK = 100_000  # counts in memory at once, so that they stay in the processor's cache


def bootstrap(features: Floats, statistic: Statistic, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of the statistic over resamples of the rows of ``features`` [n, k]."""
    low, high = np.quantile(resampled(features, statistic, draws, seed), [0.025, 0.975])
    return float(low), float(high)


def resampled(features: Floats, statistic: Statistic, draws: int = 10_000, seed: int = 0) -> Floats:
    """The statistic in each of ``draws`` resamples of the rows of ``features`` [n, k]: [draws]."""
    n = len(features)
    rng = np.random.default_rng(seed)
    rows, repeats = np.unique(features, axis=0, return_counts=True)
    merged = BINOMIAL_COST * len(rows) <= n
    if not merged:
        rows = features

    def counts(size: int) -> Counts:
        if merged:
            return rng.multinomial(n, repeats / n, size=size)
        picks = rng.integers(n, size=(size, n))
        picks += n * np.arange(size)[:, None]  # a separate range of counts for each resample
        return np.bincount(picks.ravel(), minlength=size * n).reshape(size, n)

    values = statistic(rows)
    chunk = max(1, CHUNK // len(rows))
    return np.concatenate([values(counts(min(chunk, draws - start))) for start in range(0, draws, chunk)])


def averaged(formula: Callable[[Floats], Floats]) -> Statistic:
    """A statistic from a formula for the features' means in a resample: [resamples, k] -> [resamples]."""

    def statistic(rows: Floats) -> Callable[[Counts], Floats]:
        return lambda counts: formula(counts.astype(np.float64) @ rows / counts.sum(axis=1, keepdims=True))

    return statistic


def spearman(rows: Floats) -> Callable[[Counts], Floats]:
    """The statistic for Spearman's correlation of the two columns of ``rows``; 0 where one is constant."""
    x_ranks, y_ranks = (centred_ranks(column) for column in rows.T)

    def values(counts: Counts) -> Floats:
        x, y = x_ranks(counts), y_ranks(counts)
        weighted = counts * x
        xy, xx = np.einsum("ri,ri->r", weighted, y), np.einsum("ri,ri->r", weighted, x)
        yy = np.einsum("ri,ri,ri->r", counts, y, y)
        return divide(xy, np.sqrt(xx * yy))

    return values


def centred_ranks(values: Floats) -> Callable[[Counts], Floats]:
    """From counts of the m values in resamples, the rank of each value in each: [resamples, m].

    Equal values, including repeats of one, share the mean of their ranks. The result is twice the rank, minus n + 1:
    its mean is 0, and it is a whole number.
    """
    order = np.argsort(values)
    ordered = values[order]
    smaller, up_to = np.empty_like(order), np.empty_like(order)  # for each value, how many of the m are
    smaller[order] = np.searchsorted(ordered, ordered, "left")
    up_to[order] = np.searchsorted(ordered, ordered, "right")

    def ranks(counts: Counts) -> Floats:
        # 32 bits, because this is all moving memory. Equal values have the ranks s + 1 .. u of a resample, where
        # s examples are smaller and u are smaller or equal, so twice their mean is s + u + 1.
        sums = np.zeros((len(counts), len(values) + 1), np.int32)
        np.cumsum(np.take(counts.astype(np.int32), order, axis=1), axis=1, dtype=np.int32, out=sums[:, 1:])
        doubled = np.take(sums, smaller, axis=1)
        doubled += np.take(sums, up_to, axis=1)
        doubled -= sums[:, -1:]
        return doubled.astype(np.float64)

    return ranks


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient; 0 where the denominator is 0."""
    out: Any = np.zeros_like(numerator)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)
