"""Metrics: how good predictions are, with the interval and the signature that make a value comparable.

scikit-learn, scipy and seqeval compute the values; those of answers that are text are computed here, as the official
scripts do it, which no package keeps. For the interval, each metric is also a statistic of
per-example features, which can be computed for thousands of resamples at once; the tests hold the two equal.

To add a metric, write a subclass of ``Metric``, put it into ``METRICS``, and name it in the kinds of tasks that it is
for (``metrics`` in ``harness.data.kinds``).
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from harness.data.kinds import KINDS
from harness.data.questions import cmrc
from harness.data.questions.squad import NO_ANSWER, normalized
from harness.errors import BadInput, Failure
from harness.statistics.intervals import Counts, Floats, Statistic, averaged, bootstrap, divide, spearman


class Answers(NamedTuple):
    """What a metric is computed from. The form of an answer is that of ``Kind.decode`` in ``harness.data.kinds``."""

    gold: Sequence[Any]
    predicted: Sequence[Any]
    labels: Sequence[str] = ()  # the outputs of the task
    positive: str | None = None  # the label whose F1 is f1


@dataclass(frozen=True)
class Score:
    """The value of one metric on one split."""

    name: str
    value: float
    low: float  # the 95% interval
    high: float
    n: int  # examples, or sentences
    signature: str  # everything that the value and the interval depend on besides the predictions


class Metric(ABC):
    """One metric. Answers are checked before it gets them."""

    name: str  # in task files and records
    title: str  # in tables
    library: str  # the package that computes the value; empty: this module
    needs_positive = False  # whether the task must say which label counts as positive
    statistic: Statistic  # the same value from the features, for many resamples at once

    @abstractmethod
    def value(self, of: Answers) -> float:
        """The value as the library computes it, without a warning; 0 where it is undefined."""

    @abstractmethod
    def features(self, of: Answers) -> Floats:
        """What ``statistic`` needs to know about each example or sentence: [n, k]."""

    def baseline(self, of: Answers) -> float:
        """The value of the best constant answer: the same label, or set of labels, for every example."""
        return 0.0

    def settings(self, of: Answers) -> list[str]:
        """What the signature says about how the value is computed, besides the library."""
        return []


class Accuracy(Metric):
    """The share of right answers."""

    name, title, library = "accuracy", "accuracy", "scikit-learn"
    statistic = staticmethod(averaged(lambda means: means[:, 0]))

    def value(self, of: Answers) -> float:
        from sklearn.metrics import accuracy_score

        return float(accuracy_score(of.gold, of.predicted))

    def features(self, of: Answers) -> Floats:
        is_gold, is_predicted = _indicators(of)
        return (is_gold * is_predicted).sum(axis=1, keepdims=True)

    def baseline(self, of: Answers) -> float:
        return _amounts(of.gold)[0] / len(of.gold)


class Matthews(Metric):
    """Matthews' correlation."""

    name, title, library = "matthews", "Matthews", "scikit-learn"

    def value(self, of: Answers) -> float:
        from sklearn.metrics import matthews_corrcoef

        # scikit-learn gives 0 for a single label too, but warns of it.
        one_label = len({*of.gold, *of.predicted}) == 1
        return 0.0 if one_label else float(matthews_corrcoef(of.gold, of.predicted))

    def features(self, of: Answers) -> Floats:
        is_gold, is_predicted = _indicators(of)
        return np.hstack([(is_gold * is_predicted).sum(axis=1, keepdims=True), is_predicted, is_gold])

    @staticmethod
    @averaged
    def statistic(means: Floats) -> Floats:
        """From the shares of examples that are (correct, predicted as each label, of each label)."""
        correct, (predicted, gold) = means[:, 0], np.split(means[:, 1:], 2, axis=1)
        covariance = correct - (predicted * gold).sum(axis=1)
        variances = [1 - (share * share).sum(axis=1) for share in (predicted, gold)]
        return divide(covariance, np.sqrt(variances[0] * variances[1]))


class _F1(Metric):
    """What is common to F1 scores over labels."""

    library = "scikit-learn"

    @staticmethod
    @averaged
    def statistic(means: Floats) -> Floats:
        """Mean F1 of the labels that occur, from the shares of examples where each is (correct, predicted, gold)."""
        correct, predicted, gold = np.moveaxis(means.reshape(len(means), 3, -1), 1, 0)
        occurs = predicted + gold > 0
        return divide(divide(2 * correct, predicted + gold).sum(axis=1), occurs.sum(axis=1).astype(np.float64))

    def features(self, of: Answers) -> Floats:
        return self._counts(of).reshape(len(of.gold), -1)

    def _counts(self, of: Answers) -> Floats:
        """Of each example and label whether it is (correct, predicted, gold): [n, 3, labels]."""
        is_gold, is_predicted = _indicators(of)
        return np.stack([is_gold * is_predicted, is_predicted, is_gold], axis=1)


class F1(_F1):
    """F1 of one label, the positive one."""

    name, title = "f1", "F1"
    needs_positive = True

    def value(self, of: Answers) -> float:
        return _library_f1(of._replace(labels=[str(of.positive)]), "binary")

    def _counts(self, of: Answers) -> Floats:
        return super()._counts(of)[:, :, [list(of.labels).index(str(of.positive))]]

    def baseline(self, of: Answers) -> float:
        return _constant_f1(_names(of.gold).count(str(of.positive)), len(of.gold))

    def settings(self, of: Answers) -> list[str]:
        return [f"positive:{of.positive}"]


class MacroF1(_F1):
    """The mean F1 of the labels that occur in the gold answers or the predictions."""

    name, title = "macro_f1", "macro F1"

    def value(self, of: Answers) -> float:
        return _library_f1(of, "macro")

    def settings(self, of: Answers) -> list[str]:
        occurring = {*_names(of.gold), *_names(of.predicted)}
        left_out = [label for label in of.labels if label not in occurring]
        return [f"without:{','.join(left_out)}"] if left_out else []

    def baseline(self, of: Answers) -> float:
        f1s = [_constant_f1(amount, len(of.gold)) for amount in _amounts(of.gold)]
        if not f1s:
            return 0.0
        # Where an answer is one label, those that are never answered count 0.
        return (f1s[0] if _is_one_label(of.gold) else sum(f1s)) / len(f1s)


class MicroF1(_F1):
    """F1 over all labels together."""

    name, title = "micro_f1", "micro F1"

    def value(self, of: Answers) -> float:
        return _library_f1(of, "micro")

    def _counts(self, of: Answers) -> Floats:
        return super()._counts(of).sum(axis=2)

    def baseline(self, of: Answers) -> float:
        amounts = _amounts(of.gold)
        if not amounts:
            return 0.0
        if _is_one_label(of.gold):
            return amounts[0] / len(of.gold)  # it is the accuracy
        most_frequent = np.arange(1, len(amounts) + 1)
        return float(np.max(2 * np.cumsum(amounts) / (len(of.gold) * most_frequent + sum(amounts))))


class EntityF1(_F1):
    """Micro-averaged F1 of entities. seqeval's default mode reads ill-formed tags as conlleval does."""

    name, title, library = "entity_f1", "entity F1", "seqeval"

    def value(self, of: Answers) -> float:
        from seqeval.metrics import f1_score

        both = ([list(tags) for tags in answers] for answers in (of.gold, of.predicted))
        return float(f1_score(*both, average="micro", zero_division=0))

    def features(self, of: Answers) -> Floats:
        """Entities found, predicted and in the gold answer, in each sentence: [n, 3]."""
        from seqeval.metrics.sequence_labeling import get_entities

        counts = []
        for gold_tags, predicted_tags in zip(of.gold, of.predicted, strict=True):
            wanted, found = set(get_entities(list(gold_tags))), set(get_entities(list(predicted_tags)))
            counts.append((len(wanted & found), len(found), len(wanted)))
        return np.array(counts, np.float64)

    def settings(self, of: Answers) -> list[str]:
        return ["scheme:IOB2", "mode:conlleval", "avg:micro"]


class Pearson(Metric):
    """Pearson's correlation."""

    name, title, library = "pearson", "Pearson", "scipy"

    def value(self, of: Answers) -> float:
        from scipy.stats import pearsonr

        return 0.0 if _is_constant(of) else float(pearsonr(of.gold, of.predicted).statistic)

    def features(self, of: Answers) -> Floats:
        """Both, standardised (which changes the correlation in rounding alone), their squares and their product."""
        columns = (np.asarray(answers, np.float64) for answers in (of.gold, of.predicted))
        x, y = ((each - each.mean()) / (each.std() or 1.0) for each in columns)
        return np.stack([x, y, x * x, y * y, x * y], axis=1)

    @staticmethod
    @averaged
    def statistic(means: Floats) -> Floats:
        """From the means of x, y, their squares and their product."""
        x, y, xx, yy, xy = means.T
        variances = []
        for mean, square in ((x, xx), (y, yy)):
            variance = square - mean * mean
            variances.append(np.where(variance > 1e-13 * square, variance, 0))  # constant but for rounding
        return np.clip(divide(xy - x * y, np.sqrt(variances[0] * variances[1])), -1, 1)


class Spearman(Metric):
    """Spearman's correlation."""

    name, title, library = "spearman", "Spearman", "scipy"
    statistic = staticmethod(spearman)

    def value(self, of: Answers) -> float:
        from scipy.stats import spearmanr

        return 0.0 if _is_constant(of) else float(spearmanr(of.gold, of.predicted).statistic)

    def features(self, of: Answers) -> Floats:
        return np.stack([np.asarray(answers, np.float64) for answers in (of.gold, of.predicted)], axis=1)


class _OfAnswers(Metric):
    """What is common to scores of answers that are text: the mean over questions of the best score of a gold answer."""

    library = ""
    statistic = staticmethod(averaged(lambda means: means[:, 0]))

    @abstractmethod
    def one(self, gold: str, predicted: str) -> float:
        """The score of an answer, if this is the right one."""

    def value(self, of: Answers) -> float:
        return float(self.features(of).mean())

    def features(self, of: Answers) -> Floats:
        pairs = zip(of.gold, of.predicted, strict=True)
        return np.array([[max(self.one(text, answer) for text in gold)] for gold, answer in pairs], np.float64)

    def baseline(self, of: Answers) -> float:
        """Of no answer to any question; a constant other answer is right less often in all sets of data."""
        return self.value(of._replace(predicted=[NO_ANSWER] * len(of.gold)))


class Exact(_OfAnswers):
    """The share of answers that are a gold answer, by the rule of SQuAD's official scripts."""

    name, title = "exact", "exact match"

    def one(self, gold: str, predicted: str) -> float:
        return float(normalized(gold) == normalized(predicted))

    def settings(self, of: Answers) -> list[str]:
        return ["rule:squad"]


class AnswerF1(_OfAnswers):
    """F1 of the words that an answer shares with a gold answer, by the rule of SQuAD's official scripts.

    Version 2.0 counts no answer where there is none as 1; that of version 1.1, which has no such questions, would not.
    """

    name, title = "answer_f1", "answer F1"

    def one(self, gold: str, predicted: str) -> float:
        if gold == NO_ANSWER:
            return float(not normalized(predicted))
        wanted, found = Counter(normalized(gold).split()), Counter(normalized(predicted).split())
        both = (wanted & found).total()
        return 2 * both / (wanted.total() + found.total()) if both else 0.0

    def settings(self, of: Answers) -> list[str]:
        return ["rule:squad"]


class CmrcExact(_OfAnswers):
    """The share of answers that are a gold answer, by the rule of CMRC 2018's official script."""

    name, title = "cmrc_exact", "exact match (CMRC)"

    def one(self, gold: str, predicted: str) -> float:
        return float(cmrc.without_punctuation(gold) == cmrc.without_punctuation(predicted))

    def settings(self, of: Answers) -> list[str]:
        return ["rule:cmrc2018"]


class CmrcF1(_OfAnswers):
    """F1 of the longest run of characters that an answer shares with a gold answer, by the rule of CMRC 2018."""

    name, title = "cmrc_f1", "answer F1 (CMRC)"

    def one(self, gold: str, predicted: str) -> float:
        wanted, found = cmrc.segments(gold), cmrc.segments(predicted)
        both = cmrc.overlap(wanted, found)
        return 2 * both / (len(wanted) + len(found)) if both else 0.0

    def settings(self, of: Answers) -> list[str]:
        return ["rule:cmrc2018"]


class PairAccuracy(Metric):
    """The share of pairs whose good sentence has the strictly higher score; of several groups, the mean of theirs."""

    name, title, library = "pair_accuracy", "accuracy of pairs", ""

    def value(self, of: Answers) -> float:
        rows = self.features(of)
        return float(np.mean([rows[rows[:, 0] == group, 1].mean() for group in np.unique(rows[:, 0])]))

    def features(self, of: Answers) -> Floats:
        """The number of each pair's group, and whether it is right: [n, 2]."""
        number = {name: i for i, name in enumerate(dict.fromkeys(of.gold))}
        right = (good > bad for good, bad in of.predicted)
        return np.array(list(zip(map(number.__getitem__, of.gold), right, strict=True)), np.float64)

    @staticmethod
    def statistic(rows: Floats) -> Callable[[Counts], Floats]:
        """The mean over the groups that occur in a resample, of the share of right pairs in each."""
        member = (rows[:, :1] == np.unique(rows[:, 0])).astype(np.float64)  # [m, groups]

        def values(counts: Counts) -> Floats:
            pairs = counts @ member
            return divide(divide(counts @ (member * rows[:, 1:]), pairs).sum(axis=1), (pairs > 0).sum(axis=1) * 1.0)

        return values

    def baseline(self, of: Answers) -> float:
        """Of a guess: the two sentences are equally many."""
        return 0.5

    def settings(self, of: Answers) -> list[str]:
        return [f"groups:{len(set(of.gold))}", "ties:wrong"]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Accuracy(),
        F1(),
        MacroF1(),
        MicroF1(),
        Matthews(),
        Pearson(),
        Spearman(),
        EntityF1(),
        Exact(),
        AnswerF1(),
        CmrcExact(),
        CmrcF1(),
        PairAccuracy(),
    )
}


def score(
    kind: str,
    metric_names: Sequence[str],
    gold: Sequence[Any],
    predicted: Sequence[Any],
    *,
    task: str,
    split: str,
    labels: Sequence[str],
    positive: str | None = None,
    draws: int = 10_000,
    seed: int = 0,
    extra: Sequence[str] = (),
) -> list[Score]:
    """The scores of the predictions, each with its interval.

    ``labels`` are the outputs of the task; kinds that do not predict labels do not use them. ``positive`` is the label
    whose F1 is f1. ``extra`` is appended to the signatures. What is undefined counts 0: a correlation with a constant,
    an F1 where there is nothing to find and nothing found.

    BadInput where gold and predicted do not fit each other or the task; Failure for an answer that is not a
    finite number.
    """
    scores = []
    answers = Answers(gold, predicted, labels, positive)
    for name in metric_names:
        try:
            rows = features(kind, name, gold, predicted, labels=labels, positive=positive)
            value = METRICS[name].value(answers)
        except (BadInput, Failure) as error:
            raise type(error)(f"{task} {split}: {error}") from None
        low, high = bootstrap(rows, METRICS[name].statistic, draws, seed)
        signature = [name, f"task:{task}", f"split:{split}", f"n:{len(gold)}"]
        signature += [f"ci:bootstrap95x{draws}", f"seed:{seed}", *_computed_by(METRICS[name], answers), *extra]
        scores.append(Score(name, value, low, high, len(gold), "|".join(signature)))
    return scores


def features(
    kind: str,
    metric: str,
    gold: Sequence[Any],
    predicted: Sequence[Any],
    *,
    labels: Sequence[str] = (),
    positive: str | None = None,
) -> Floats:
    """The features of a metric, [n, k], from answers that are checked first. Errors are those of ``score``."""
    allowed = KINDS[kind].metrics
    if metric not in allowed:
        raise BadInput(f"no metric {metric!r} for a {kind} task; there is {', '.join(allowed)}")
    answers = Answers(gold, predicted, labels, positive)
    if METRICS[metric].needs_positive and positive not in labels:
        raise BadInput(f"{metric} needs the label that counts as positive, one of {', '.join(labels)}")
    KINDS[kind].check_answers(gold, predicted, labels)
    return METRICS[metric].features(answers)


def _computed_by(metric: Metric, answers: Answers) -> list[str]:
    """The part of the signature that says how the value is computed, and by which library."""
    said = metric.settings(answers)
    if not metric.library:
        return said
    short = {"scikit-learn": "sklearn"}.get(metric.library, metric.library)
    return [*said, f"{short}:{version(metric.library)}"]


def _library_f1(of: Answers, average: str) -> float:
    from sklearn.metrics import f1_score

    chosen = average if len(of.labels) > 1 else "binary"  # scikit-learn takes one column for two classes
    value = float(f1_score(*_indicators(of), average=chosen, zero_division=np.nan))
    return 0.0 if math.isnan(value) else value


def _indicators(of: Answers) -> tuple[Floats, Floats]:
    """1 where an example has a label, else 0, in the gold answers and in the predictions: [n, labels] each."""
    return _indicator(of.gold, of.labels), _indicator(of.predicted, of.labels)


def _indicator(answers: Sequence[Any], labels: Sequence[str]) -> Floats:
    answer_sets = [{answer} if isinstance(answer, str) else set(answer) for answer in answers]
    return np.array([[label in names for label in labels] for names in answer_sets], np.float64)


def _is_constant(of: Answers) -> bool:
    return bool(np.ptp(of.gold) == 0 or np.ptp(of.predicted) == 0)


def _is_one_label(answers: Sequence[Any]) -> bool:
    """Whether an answer is one label, not a collection of them."""
    return isinstance(answers[0], str)


def _names(answers: Sequence[Any]) -> list[str]:
    """All labels in the answers, each once for each example that has it."""
    return list(answers) if _is_one_label(answers) else [name for answer in answers for name in set(answer)]


def _amounts(gold: Sequence[Any]) -> list[int]:
    """The number of examples that have each label, the most frequent first."""
    return [amount for _, amount in Counter(_names(gold)).most_common()]


def _constant_f1(amount: int, n: int) -> float:
    """F1 of a label that ``amount`` of ``n`` examples have, where it is always answered."""
    return 2 * amount / (n + amount)
