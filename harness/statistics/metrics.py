"""Metrics: what predictions are worth, with the interval and the signature that make a value comparable.

scikit-learn, scipy and seqeval compute the values. For the interval, each metric is also a statistic of
per-example features, which can be computed of thousands of resamples at once; the tests hold the two equal.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from harness.data.task import METRICS, Kind
from harness.errors import BadInput, Failure
from harness.statistics.intervals import Floats, Statistic, averaged, bootstrap, divide, spearman

# By kind of task: names, numbers, collections of names, IOB2 tags of each word of a sentence.
Answers = Sequence[Any]

LIBRARY = {"pearson": "scipy", "spearman": "scipy", "entity_f1": "seqeval"}  # the others: scikit-learn


@dataclass(frozen=True)
class Metric:
    """One metric of one split."""

    name: str
    value: float
    low: float  # the 95% interval
    high: float
    n: int  # examples, or sentences
    signature: str  # everything that the value and the interval depend on besides the predictions


def score(
    kind: Kind,
    metric_names: Sequence[str],
    gold: Answers,
    predicted: Answers,
    *,
    task: str,
    split: str,
    labels: Sequence[str],
    positive: str | None = None,
    draws: int = 10_000,
    seed: int = 0,
    extra: Sequence[str] = (),
) -> list[Metric]:
    """The metrics of the predictions, each with its interval.

    ``labels`` are the names that classification and multi-label tasks choose from; other kinds do not use
    them. ``positive`` is the label that f1 is of. ``extra`` is appended to the signatures. What is undefined
    counts 0: a correlation with a constant, an F1 where there is nothing to find and nothing found. macro_f1 is
    the mean over the labels that occur in the gold answers or the predictions.

    BadInput where gold and predicted do not fit each other or the task; Failure for an answer that is not a
    finite number.
    """
    metrics = []
    for name in metric_names:
        try:
            rows = features(kind, name, gold, predicted, labels=labels, positive=positive)
            value = _value(name, gold, predicted, labels, positive)
        except (BadInput, Failure) as error:
            raise type(error)(f"{task} {split}: {error}") from None
        low, high = bootstrap(rows, STATISTICS[name], draws, seed)
        signature = [name, f"task:{task}", f"split:{split}", f"n:{len(gold)}"]
        signature += [f"ci:bootstrap95x{draws}", f"seed:{seed}", *_settings(name, positive), *extra]
        metrics.append(Metric(name, value, low, high, len(gold), "|".join(signature)))
    return metrics


def _settings(metric: str, positive: str | None) -> list[str]:
    """The part of the signature that says how the value is computed, and by what."""
    library = LIBRARY.get(metric, "sklearn")
    computed_by = f"{library}:{version('scikit-learn' if library == 'sklearn' else library)}"
    if metric == "entity_f1":
        return ["scheme:IOB2", "mode:conlleval", "avg:micro", computed_by]
    return [f"positive:{positive}", computed_by] if metric == "f1" else [computed_by]


def _value(metric: str, gold: Answers, predicted: Answers, labels: Sequence[str], positive: str | None) -> float:
    """The metric, as the library computes it; answers are checked already."""
    if metric == "entity_f1":
        return _entity_f1(gold, predicted)
    if metric in ("pearson", "spearman"):
        return _correlation(metric, gold, predicted)

    from sklearn import metrics

    if metric == "accuracy":
        return float(metrics.accuracy_score(gold, predicted))
    if metric == "matthews":
        # scikit-learn gives 0 for a single label too, but warns of it.
        return float(metrics.matthews_corrcoef(gold, predicted)) if {*gold, *predicted} != {gold[0]} else 0.0
    if metric == "f1":
        labels = [str(positive)]
    average = metric.removesuffix("_f1") if len(labels) > 1 else "binary"
    value = metrics.f1_score(
        _indicators(gold, labels), _indicators(predicted, labels), average=average, zero_division=np.nan
    )
    return 0.0 if math.isnan(value) else float(value)


def _correlation(metric: str, gold: Answers, predicted: Answers) -> float:
    from scipy import stats

    if np.ptp(gold) == 0 or np.ptp(predicted) == 0:
        return 0.0
    correlation = stats.pearsonr if metric == "pearson" else stats.spearmanr
    return float(correlation(gold, predicted).statistic)


def _entity_f1(gold: Answers, predicted: Answers) -> float:
    """Micro-averaged F1 of entities. seqeval's default mode reads ill-formed tags as conlleval does."""
    from seqeval.metrics import f1_score

    both = ([list(tags) for tags in answers] for answers in (gold, predicted))
    return float(f1_score(*both, average="micro", zero_division=0))


def features(
    kind: Kind,
    metric: str,
    gold: Answers,
    predicted: Answers,
    *,
    labels: Sequence[str] = (),
    positive: str | None = None,
) -> Floats:
    """What ``STATISTICS[metric]`` needs to know of each example or sentence: [n, k]. Errors are ``score``'s."""
    if metric not in METRICS[kind]:
        raise BadInput(f"no metric {metric!r} for a {kind} task; there is {', '.join(METRICS[kind])}")
    if metric == "f1" and positive not in labels:
        raise BadInput(f"f1 needs the label that counts as positive, one of {', '.join(labels)}")
    _check(kind, gold, predicted, labels)
    if metric == "entity_f1":
        return _entity_counts(gold, predicted)
    if kind == "regression":
        columns = [np.asarray(answers, np.float64) for answers in (gold, predicted)]
        return np.stack(columns if metric == "spearman" else _products(*columns), axis=1)
    is_gold, is_predicted = _indicators(gold, labels), _indicators(predicted, labels)
    correct = is_gold * is_predicted
    if metric == "accuracy":
        return correct.sum(axis=1, keepdims=True)
    if metric == "matthews":
        return np.hstack([correct.sum(axis=1, keepdims=True), is_predicted, is_gold])
    counts = np.stack([correct, is_predicted, is_gold], axis=1)  # [n, 3, labels]
    if metric == "f1":
        counts = counts[:, :, [list(labels).index(str(positive))]]
    if metric == "micro_f1":
        counts = counts.sum(axis=2)
    return counts.reshape(len(gold), -1)


def _indicators(answers: Answers, labels: Sequence[str]) -> Floats:
    """1 where an example has a label, else 0: [n, labels]."""
    answer_sets = [{answer} if isinstance(answer, str) else set(answer) for answer in answers]
    return np.array([[label in names for label in labels] for names in answer_sets], np.float64)


def _products(x: Floats, y: Floats) -> list[Floats]:
    """What Pearson's correlation is made of; shifting and scaling x and y changes it only in rounding less."""
    x, y = ((each - each.mean()) / (each.std() or 1.0) for each in (x, y))
    return [x, y, x * x, y * y, x * y]


def _entity_counts(gold: Answers, predicted: Answers) -> Floats:
    """Entities found, predicted and in the gold answer, of each sentence: [n, 3]."""
    from seqeval.metrics.sequence_labeling import get_entities

    counts = []
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        wanted, found = set(get_entities(list(gold_tags))), set(get_entities(list(predicted_tags)))
        counts.append((len(wanted & found), len(found), len(wanted)))
    return np.array(counts, np.float64)


def _mean_f1(means: Floats) -> Floats:
    """Mean F1 of the labels that occur, from the shares of examples where each is (correct, predicted, gold)."""
    correct, predicted, gold = np.moveaxis(means.reshape(len(means), 3, -1), 1, 0)
    occurs = predicted + gold > 0
    return divide(divide(2 * correct, predicted + gold).sum(axis=1), occurs.sum(axis=1).astype(np.float64))


def _matthews(means: Floats) -> Floats:
    """From the shares of examples that are (correct, predicted as each label, of each label)."""
    correct, (predicted, gold) = means[:, 0], np.split(means[:, 1:], 2, axis=1)
    covariance = correct - (predicted * gold).sum(axis=1)
    variances = [1 - (share * share).sum(axis=1) for share in (predicted, gold)]
    return divide(covariance, np.sqrt(variances[0] * variances[1]))


def _pearson(means: Floats) -> Floats:
    x, y, xx, yy, xy = means.T
    variances = []
    for mean, square in ((x, xx), (y, yy)):
        variance = square - mean * mean
        variances.append(np.where(variance > 1e-13 * square, variance, 0))  # constant but for rounding
    return np.clip(divide(xy - x * y, np.sqrt(variances[0] * variances[1])), -1, 1)


STATISTICS: dict[str, Statistic] = {
    "accuracy": averaged(lambda means: means[:, 0]),
    "f1": averaged(_mean_f1),
    "macro_f1": averaged(_mean_f1),
    "micro_f1": averaged(_mean_f1),
    "entity_f1": averaged(_mean_f1),
    "matthews": averaged(_matthews),
    "pearson": averaged(_pearson),
    "spearman": spearman,
}


def baseline(kind: Kind, metric: str, gold: Answers, positive: str | None = None) -> float:
    """What the best constant answer scores: the same label, or set of labels, whatever the example.

    0 for matthews, correlations and entity_f1.
    """
    n = len(gold)
    names = [name for answer in gold for name in set(answer)] if kind == "multi-label" else list(gold)
    if metric in ("matthews", "pearson", "spearman", "entity_f1") or not names:
        return 0.0
    amounts = [amount for _, amount in Counter(names).most_common()]
    if metric == "f1":
        amounts = [names.count(positive)]
    f1s = [2 * amount / (n + amount) for amount in amounts]  # of always answering this label
    if metric == "f1":
        return f1s[0]
    if kind == "classification":
        # micro_f1 is the accuracy; in macro_f1, the labels that are never answered count 0.
        return f1s[0] / len(amounts) if metric == "macro_f1" else amounts[0] / n
    if metric == "macro_f1":
        return sum(f1s) / len(amounts)
    most_frequent = np.arange(1, len(amounts) + 1)
    return float(np.max(2 * np.cumsum(amounts) / (n * most_frequent + len(names))))


def degenerate(kind: Kind, gold: Answers, predicted: Answers) -> str | None:
    """A sentence about predictions that no working model would make, or None."""
    if kind == "tagging":
        none_found = all(tag == "O" for tags in predicted for tag in tags)
        return "no entity is predicted" if none_found else None
    if kind == "regression":
        return f"all scores are equal ({predicted[0]:g})" if len(set(predicted)) == 1 else None
    if kind == "multi-label":
        if len({frozenset(names) for names in predicted}) > 1:
            return None
        return f"every example is given the same labels ({', '.join(sorted(predicted[0])) or 'none'})"
    if len(set(predicted)) == 1:
        return f"{predicted[0]} is predicted for every example"
    majority, amount = Counter(gold).most_common(1)[0]
    correct = sum(answer == name for answer, name in zip(gold, predicted, strict=True))
    if correct <= amount:
        return (
            f"accuracy is {correct / len(gold):.3f}, and always answering {majority} would give "
            f"{amount / len(gold):.3f}"
        )
    return None


def _check(kind: Kind, gold: Answers, predicted: Answers, labels: Sequence[str]) -> None:
    if len(gold) != len(predicted):
        raise BadInput(f"{len(gold)} gold answers but {len(predicted)} predictions; score those of the same file")
    if len(gold) == 0:
        raise BadInput("there is no example to score; give a file that has some")
    for what, answers in (("gold answer", gold), ("prediction", predicted)):
        for number, answer in enumerate(answers, start=1):
            if kind == "regression":
                _check_number(f"{what} {number}", answer)
            elif kind == "tagging":
                _check_tags(f"{what} of sentence {number}", answer)
            else:
                _check_names(f"{what} {number}", [answer] if kind == "classification" else answer, labels)
    if kind == "tagging":
        for number, (tags, other) in enumerate(zip(gold, predicted, strict=True), start=1):
            if len(tags) != len(other):
                raise BadInput(
                    f"sentence {number} has {len(tags)} words but {len(other)} predicted tags; "
                    "there must be one for each word"
                )


def _check_number(what: str, answer: Any) -> None:
    if not math.isfinite(answer):
        raise Failure(f"{what} is {answer}, not a finite number")


def _check_tags(what: str, tags: Any) -> None:
    for tag in tags:
        if tag != "O" and not re.match("[BI]-.", tag):
            raise BadInput(f"{what} has the tag {tag!r}; IOB2 tags are O, B-TYPE and I-TYPE")


def _check_names(what: str, names: Any, labels: Sequence[str]) -> None:
    for name in names:
        if name not in labels:
            raise BadInput(f"{what} is {name!r}, which is none of the task's labels: {', '.join(labels)}")
