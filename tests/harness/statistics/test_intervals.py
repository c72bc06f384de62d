"""Intervals: resampling without a loop draws the same as with one, and covers the truth as often as it says."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.data.kinds import KINDS
from harness.statistics.intervals import averaged, bootstrap, resampled, spearman
from harness.statistics.metrics import METRICS, features, score

LABELS = ("a", "b", "c")
Answers = Sequence[Any]


def names(rng: np.random.Generator, n: int) -> tuple[Answers, Answers]:
    gold = rng.choice(LABELS, n, p=(0.6, 0.3, 0.1))
    predicted = np.where(rng.random(n) < 0.7, gold, rng.choice(LABELS, n))
    return gold.tolist(), predicted.tolist()


def numbers(rng: np.random.Generator, n: int) -> tuple[Answers, Answers]:
    """Gold on a coarse scale, as people give it, so that many are equal."""
    gold = rng.integers(0, 26, n) / 5
    return gold.tolist(), (gold + rng.normal(0, 1.5, n)).tolist()


def sets(rng: np.random.Generator, n: int) -> tuple[Answers, Answers]:
    gold = rng.random((n, 3)) < (0.5, 0.2, 0.1)
    predicted = np.where(rng.random((n, 3)) < 0.8, gold, ~gold)
    gold_sets, predicted_sets = (
        [tuple(name for name, has in zip(LABELS, row, strict=True) if has) for row in rows]
        for rows in (gold, predicted)
    )
    return gold_sets, predicted_sets


def tags(rng: np.random.Generator, n: int) -> tuple[Answers, Answers]:
    choice = np.array(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    gold, predicted = [], []
    for length in rng.integers(1, 12, n):
        drawn = rng.choice(choice, length, p=(0.6, 0.1, 0.1, 0.1, 0.1))
        gold.append(tuple(drawn.tolist()))
        predicted.append(tuple(np.where(rng.random(length) < 0.85, drawn, rng.choice(choice, length)).tolist()))
    return gold, predicted


def spans(rng: np.random.Generator, n: int) -> tuple[Answers, Answers]:
    """Two accepted answers or none; predictions are of some of the same words."""
    words = np.array(["Oslo", "the", "old", "town", "1947", "a mill"])

    def text() -> str:
        return " ".join(rng.choice(words, rng.integers(1, 4)))

    gold = [(text(), text()) if rng.random() < 0.8 else ("",) for _ in range(n)]
    return gold, [text() if rng.random() < 0.7 else each[0] for each in gold]


def pairs(rng: np.random.Generator, n: int) -> tuple[Answers, Answers]:
    """Of three groups of different sizes; some are ties."""
    scores = np.round(rng.normal(size=(n, 2)) + np.array([0.5, 0.0]), 0 if n > 5 else 3)
    return rng.choice(["a", "b", "c"], n, p=(0.6, 0.3, 0.1)).tolist(), [tuple(each) for each in scores.tolist()]


# How answers are drawn for each kind of task; a new kind needs a function here.
DRAWS: dict[str, Callable[[np.random.Generator, int], tuple[Answers, Answers]]] = {
    "classification": names,
    "regression": numbers,
    "multi-label": sets,
    "tagging": tags,
    "question-answering": spans,
    "similarity": numbers,
    "minimal-pairs": pairs,
}
CASES = [(name, metric, DRAWS[name]) for name, kind in KINDS.items() for metric in kind.metrics]


def library_value(kind: str, metric: str, gold: Answers, predicted: Answers) -> float:
    """What scikit-learn, scipy or seqeval say; the interval is not looked at."""
    return score(kind, [metric], gold, predicted, task="t", split="s", labels=LABELS, positive="b", draws=1)[0].value


def rows_of(kind: str, metric: str, gold: Answers, predicted: Answers) -> np.ndarray:
    return features(kind, metric, gold, predicted, labels=LABELS, positive="b")


def pick(answers: Answers, which: np.ndarray) -> Answers:
    return [answers[index] for index in which]


@pytest.mark.parametrize(("kind", "metric", "draw"), CASES)
@pytest.mark.parametrize("n", [1, 2, 5, 300])
def test_statistic_of_the_sample_is_the_librarys_value(kind: str, metric: str, draw: Any, n: int) -> None:
    gold, predicted = draw(np.random.default_rng(n), n)
    (value,) = METRICS[metric].statistic(rows_of(kind, metric, gold, predicted))(np.ones((1, n), np.int64))
    assert value == pytest.approx(library_value(kind, metric, gold, predicted), abs=1e-12)


@pytest.mark.parametrize(("kind", "metric", "draw"), CASES)
@pytest.mark.parametrize("n", [3, 60])
def test_statistic_of_resamples_is_the_librarys_value(kind: str, metric: str, draw: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    gold, predicted = draw(rng, n)
    resamples = rng.integers(n, size=(20, n))
    counts = np.stack([np.bincount(each, minlength=n) for each in resamples])
    values = METRICS[metric].statistic(rows_of(kind, metric, gold, predicted))(counts)
    expected = [library_value(kind, metric, pick(gold, each), pick(predicted, each)) for each in resamples]
    assert values.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "metric", "draw"), [("classification", "f1", names), ("regression", "spearman", numbers)]
)
def test_same_distribution_as_a_plain_loop(kind: str, metric: str, draw: Any) -> None:
    """F1 has few distinct rows, which are merged; Spearman's are all different. The statistics are tested above."""
    rng = np.random.default_rng(5)
    n, draws = 200, 400
    gold, predicted = draw(rng, n)
    plain = [
        library_value(kind, metric, pick(gold, each), pick(predicted, each))
        for each in (rng.integers(n, size=n) for _ in range(draws))
    ]
    rows = rows_of(kind, metric, gold, predicted)
    values = resampled(rows, METRICS[metric].statistic, draws=20_000)
    assert stats.ks_2samp(plain, values).pvalue > 0.01
    low, high = bootstrap(rows, METRICS[metric].statistic, draws=20_000)
    spread = float(np.std(plain))
    # The quantile of 400 draws has a standard error of 0.13 of their spread.
    assert [low, high] == pytest.approx(np.quantile(plain, [0.025, 0.975]).tolist(), abs=0.4 * spread)
    assert low < library_value(kind, metric, gold, predicted) < high


def test_merging_equal_rows_does_not_change_the_distribution() -> None:
    """Accuracy's two kinds of row are merged; with a second column that tells all apart, they are not."""
    correct = (np.arange(500) % 5 > 0).astype(np.float64)[:, None]
    told_apart = np.hstack([correct, np.arange(500)[:, None]])
    statistic = averaged(lambda means: means[:, 0])
    merged, plain = (resampled(rows, statistic) for rows in (correct, told_apart))
    assert merged.std() == pytest.approx(np.sqrt(0.8 * 0.2 / 500), rel=0.03)
    assert plain.std() == pytest.approx(np.sqrt(0.8 * 0.2 / 500), rel=0.03)
    assert merged.mean() == pytest.approx(0.8, abs=1e-3)
    assert plain.mean() == pytest.approx(0.8, abs=1e-3)


def coverage(sample: Callable[[np.random.Generator], np.ndarray], statistic: Any, truth: float) -> float:
    intervals = [bootstrap(sample(np.random.default_rng(seed)), statistic, draws=1000) for seed in range(300)]
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def correlated(rng: np.random.Generator) -> np.ndarray:
    """150 pairs with a Pearson correlation of 0.6."""
    x, noise = rng.normal(size=(2, 150))
    return np.stack([x, 0.6 * x + 0.8 * noise], axis=1)


def test_accuracy_interval_covers_the_truth() -> None:
    covered = coverage(lambda rng: (rng.random((200, 1)) < 0.8).astype(float), METRICS["accuracy"].statistic, 0.8)
    assert 0.90 <= covered <= 0.98


def test_f1_interval_covers_the_truth() -> None:
    def sample(rng: np.random.Generator) -> np.ndarray:
        """(correct, predicted, gold): 40% are gold; of those 75% are found, and 10% of the others are taken for one."""
        gold = rng.random(200) < 0.4
        predicted = rng.random(200) < np.where(gold, 0.75, 0.10)
        return np.stack([gold & predicted, predicted, gold], axis=1).astype(float)

    truth = 2 * 0.4 * 0.75 / (0.4 + 0.4 * 0.75 + 0.6 * 0.1)
    assert 0.90 <= coverage(sample, METRICS["f1"].statistic, truth) <= 0.98


def test_pearson_interval_covers_the_truth() -> None:
    def sample(rng: np.random.Generator) -> np.ndarray:
        x, y = correlated(rng).T
        return features("regression", "pearson", x.tolist(), y.tolist())

    assert 0.90 <= coverage(sample, METRICS["pearson"].statistic, 0.6) <= 0.98


@pytest.mark.slow
def test_spearman_interval_covers_the_truth() -> None:
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # of a bivariate normal distribution
    assert 0.90 <= coverage(correlated, spearman, truth) <= 0.98


def test_spearman_agrees_with_scipy_among_many_ties() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 4, size=(100, 2)).astype(float)
    rows[:, 1] += rows[:, 0]
    (value,) = spearman(rows)(np.ones((1, 100), np.int64))
    assert value == pytest.approx(stats.spearmanr(*rows.T).statistic, abs=1e-12)


def test_pearson_far_from_zero_is_as_exact() -> None:
    rng = np.random.default_rng(0)
    gold = rng.normal(size=50) + 1e6
    predicted = gold + rng.normal(size=50)
    (value,) = METRICS["pearson"].statistic(features("regression", "pearson", gold.tolist(), predicted.tolist()))(
        np.ones((1, 50), np.int64)
    )
    assert value == pytest.approx(stats.pearsonr(gold, predicted).statistic, abs=1e-9)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_resample_of_one_example_alone_counts_zero(metric: str) -> None:
    """Of two examples, half of the resamples hold only one; the correlation of the others is 1."""
    rows = features("regression", metric, [0.1, 0.7], [0.3, 0.9])
    values = resampled(rows, METRICS[metric].statistic, draws=4000)
    assert np.unique(values.round(12)).tolist() == [0, 1]
    assert values.mean() == pytest.approx(0.5, abs=0.04)


def test_seed_decides_the_draws() -> None:
    rows = correlated(np.random.default_rng(0))
    assert bootstrap(rows, spearman, seed=1) == bootstrap(rows, spearman, seed=1)
    assert bootstrap(rows, spearman, seed=1) != bootstrap(rows, spearman, seed=2)
    assert resampled(rows, spearman, draws=7).shape == (7,)


def test_more_examples_than_counts_fit_in_a_chunk() -> None:
    x = np.random.default_rng(0).normal(size=150_000)
    rows = features("regression", "pearson", x.tolist(), (x + 1).tolist())
    assert bootstrap(rows, METRICS["pearson"].statistic, draws=3) == pytest.approx((1, 1))
