"""How long 10,000 draws of 10,000 examples take, in seconds of the processor.

At worst, for Spearman's correlation, 1.7 on one core of a server of 2023; the limit leaves room for slower ones.
"""

import time
from collections.abc import Iterator

import numpy as np
import pytest
import pytest_benchmark.fixture
from threadpoolctl import threadpool_limits

from harness.statistics.intervals import Floats, bootstrap
from harness.statistics.metrics import METRICS, features

N = 10_000
LIMIT = 4.0  # seconds
SHARES = 0.4 / np.arange(1, 29)  # of 28 labels, as unequal as those of GoEmotions


def rows_of(metric: str) -> Floats:
    rng = np.random.default_rng(0)
    if metric in ("pearson", "spearman"):
        gold = rng.normal(size=N)
        return features("regression", metric, gold.tolist(), (gold + rng.normal(size=N)).tolist())
    if metric == "entity_f1":  # as what it makes of sentences
        found, missed, wrong = rng.poisson((1.5, 0.2, 0.2), size=(N, 3)).T.astype(float)
        return np.stack([found, found + wrong, found + missed], axis=1)
    if metric == "macro_f1":
        names = [f"label {number}" for number in range(28)]
        gold_sets, other = ([tuple(np.array(names)[row]) for row in rng.random((N, 28)) < SHARES] for _ in range(2))
        predicted = [g if rng.random() < 0.6 else o for g, o in zip(gold_sets, other, strict=True)]
        return features("multi-label", metric, gold_sets, predicted, labels=names)
    labels = ("a", "b", "c")
    gold_names, predicted_names = (rng.choice(labels, N).tolist() for _ in range(2))
    return features("classification", metric, gold_names, predicted_names, labels=labels, positive="a")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for one another count as seconds of the processor where the machine has other work."""
    with threadpool_limits(1):
        yield


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("metric", ["accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman", "entity_f1"])
def test_bootstrap(benchmark: pytest_benchmark.fixture.BenchmarkFixture, metric: str) -> None:
    rows = rows_of(metric)
    low, high = benchmark.pedantic(bootstrap, (rows, METRICS[metric].statistic), rounds=3)
    assert low < high
    assert benchmark.stats is not None
    assert benchmark.stats.stats.min < LIMIT
