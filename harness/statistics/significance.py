"""Tests whether two implementations' answers to the same examples differ by more than chance."""

from collections.abc import Callable, Sequence

import numpy as np

from harness.statistics.intervals import CHUNK, Counts, Floats, resampled

DRAWS = 10_000
SEED = 0


def paired_bootstrap(metric: str, rows: list[tuple[Floats, Floats]]) -> Floats:
    """The difference between the two sides, as the mean over seeds, in resamples of examples: [draws]."""
    from harness.statistics.metrics import METRICS

    joint = np.hstack([side for pair in rows for side in pair])
    parts = 2 * len(rows)

    def statistic(distinct: Floats) -> Callable[[Counts], Floats]:
        sides = [METRICS[metric].statistic(part) for part in np.split(distinct, parts, axis=1)]

        def difference(counts: Counts) -> Floats:
            values = [side(counts) for side in sides]
            return np.mean([b - a for a, b in zip(values[::2], values[1::2], strict=True)], axis=0)

        return difference

    return resampled(joint, statistic, DRAWS, SEED)


def mcnemar(right_a: Floats, right_b: Floats) -> float:
    """p of McNemar's exact test, from 1 for each right answer and 0 for each wrong one: [n] each."""
    from scipy.stats import binomtest

    only_a, only_b = int((right_a > right_b).sum()), int((right_b > right_a).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def randomisation(metric: str, rows_a: Floats, rows_b: Floats, draws: int = DRAWS) -> float:
    """p of the approximate randomisation test: the share of random swaps of answers after which they differ as much.

    ``rows_a`` and ``rows_b`` [n, k] are the metric's features. For examples with the same features it is enough to
    draw how many are swapped.
    """
    from harness.statistics.metrics import METRICS

    distinct, repeats = np.unique(np.hstack([rows_a, rows_b]), axis=0, return_counts=True)
    values = METRICS[metric].statistic(np.vstack(np.split(distinct, 2, axis=1)))
    rng = np.random.default_rng(SEED)

    def apart(swapped: Counts) -> Floats:
        kept = repeats - swapped
        return np.abs(values(np.hstack([swapped, kept])) - values(np.hstack([kept, swapped])))

    observed = apart(np.zeros((1, len(repeats)), np.int64))[0]
    size = max(1, CHUNK // len(repeats))
    as_far = 0
    for start in range(0, draws, size):
        swapped = rng.binomial(repeats, 0.5, (min(size, draws - start), len(repeats)))
        as_far += int((apart(swapped) >= observed - 1e-12).sum())
    return (as_far + 1) / (draws + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """p values with Holm's correction for several tests: the chance of any false alarm stays below each."""
    order = np.argsort(ps)
    factors = np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.asarray(ps)[order] * factors)) if len(ps) else []
    return [float(p) for p in corrected]
