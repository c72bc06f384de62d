"""Summarises runs that differ only in the seed: the spread over seeds, and the interval within one seed.

The two answer different questions: the standard deviation over seeds says what another fine-tuning would give, the
bootstrap interval what other examples would give. A seed that ends no better than a constant answer has collapsed: it
is counted and shown separately, not hidden in the mean.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.records import record
from harness.records.models import model_of
from harness.statistics.metrics import METRICS


@dataclass(frozen=True)
class Runs:
    """The quality runs with one implementation, checkpoint, task, precision and machine, one for each seed."""

    finished: list[record.Quality]  # in order of their seeds; all with the recipe and data of the newest run
    failed: list[record.Quality]  # of seeds for which no run finished
    left_out: int  # runs with another recipe or other data

    @property
    def any(self) -> record.Quality:
        """One of the runs, for the fields that they have in common."""
        return [*self.finished, *self.failed][0]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric on one split, over the seeds of one implementation."""

    implementation: str
    checkpoint: str  # the model, from ``harness.records.models.model_of``
    hardware: str
    precision: str
    task: str
    context: str  # sentence or document
    split: str
    metric: str
    main: bool  # the first metric of its split
    n: int  # examples
    seeds: list[int]  # of the runs that finished
    values: list[float]  # for each of these seeds
    collapsed: list[int]  # seeds that are no better than a constant answer
    failed: list[int]  # seeds without a value
    # Over the seeds that did not collapse, or over all if all did:
    mean: float
    deviation: float | None  # sample standard deviation; None for one seed
    least: float
    greatest: float
    low: float  # the 95% bootstrap interval within one seed: the mean of the seeds' bounds
    high: float
    # Mean and deviation over all seeds, if some collapsed:
    with_collapsed: tuple[float, float | None] | None
    flags: list[record.Flag]  # caveats

    @property
    def title(self) -> str:
        """The metric in tables: its title, or its name if only another version of BERT Atlas has it."""
        return METRICS[self.metric].title if self.metric in METRICS else self.metric

    @property
    def counted(self) -> list[float]:
        """The values that ``mean`` is taken over."""
        alive = [v for seed, v in zip(self.seeds, self.values, strict=True) if seed not in self.collapsed]
        return alive or self.values

    @property
    def tried(self) -> int:
        """The number of seeds, including failed ones."""
        return len(self.seeds) + len(self.failed)


def group(records: Iterable[record.Record]) -> list[Runs]:
    """Groups of quality records that differ only in the seed, in the order of each group's first record.

    If a seed has several runs, the last that finished counts; one that failed counts only if none finished.
    """
    groups: dict[tuple[str, ...], list[record.Quality]] = {}
    for each in records:
        if isinstance(each, record.Quality):
            groups.setdefault(_subject(each), []).append(each)
    return [_runs(runs) for runs in groups.values()]


def _subject(run: record.Quality) -> tuple[str, ...]:
    task = (run.task["name"], run.task["context"])
    where = (model_of(run), record.hardware(run), run.precision["resolved"])
    return (run.implementation["name"], *task, *where)


def _runs(runs: list[record.Quality]) -> Runs:
    runs = sorted(runs, key=lambda each: each.started)
    good = [each for each in runs if each.state == "ok"]
    same = {each.seed: each for each in good if _comparable(each, good[-1])}
    bad = [each for each in runs if each.state != "ok" and each.seed not in same]
    # A program that trains itself reports its recipe only when it has finished.
    comparable = [each for each in bad if not good or "own" in good[-1].recipe or _comparable(each, good[-1])]
    failed = {each.seed: each for each in comparable}
    left_out = sum(not _comparable(each, good[-1]) for each in good) + len(bad) - len(comparable)
    return Runs([same[seed] for seed in sorted(same)], [failed[seed] for seed in sorted(failed)], left_out)


def _comparable(a: record.Quality, b: record.Quality) -> bool:
    """Whether two runs had the same recipe and data. Micro-batches depend on memory and do not count."""
    recipes = [{name: value for name, value in each.recipe.items() if name != "micro_batches"} for each in (a, b)]
    data, other = a.task["data"], b.task["data"]
    same_data = all(data[split] == other[split] for split in data.keys() & other.keys())
    return recipes[0] == recipes[1] and same_data and a.limit == b.limit


def scores(runs: Runs) -> list[Score]:
    """A score for each split and metric; empty if no run finished."""
    by_metric: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for run in runs.finished:
        for metric in run.metrics:
            by_metric.setdefault((metric["split"], metric["name"]), {})[run.seed] = metric
    return [_score(runs, *which, metrics) for which, metrics in by_metric.items()]


def _score(runs: Runs, split: str, name: str, by_seed: dict[int, dict[str, Any]]) -> Score:
    having = [run for run in runs.finished if run.seed in by_seed]
    collapsed = [run.seed for run in having if has_collapsed(run, split)]
    counted = [by_seed[seed] for seed in by_seed if seed not in collapsed] or list(by_seed.values())
    values = [metric["value"] for metric in counted]
    everything = [metric["value"] for metric in by_seed.values()]
    flags = [flag for run in having for flag in run.flags if _concerns(flag, split, run)]
    first, task = having[0], having[0].task
    return Score(
        implementation=first.implementation["name"],
        checkpoint=model_of(first),
        hardware=record.hardware(first),
        precision=first.precision["resolved"],
        task=task["name"],
        context=task["context"],
        split=split,
        metric=name,
        main=name == main_metric(first, split)["name"],
        n=by_seed[first.seed]["n"],
        seeds=list(by_seed),
        values=everything,
        collapsed=collapsed,
        failed=[run.seed for run in runs.failed],
        mean=statistics.fmean(values),
        deviation=_deviation(values),
        least=min(values),
        greatest=max(values),
        low=statistics.fmean(metric["low"] for metric in counted),
        high=statistics.fmean(metric["high"] for metric in counted),
        with_collapsed=(
            (statistics.fmean(everything), _deviation(everything)) if len(values) < len(everything) else None
        ),
        flags=[flag for place, flag in enumerate(flags) if flag not in flags[:place]],
    )


def _deviation(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def main_metric(run: record.Quality, split: str) -> dict[str, Any]:
    """The first metric of a split that the run scored."""
    return next(metric for metric in run.metrics if metric["split"] == split)


def has_collapsed(run: record.Quality, split: str) -> bool:
    """Whether a run's main metric, and its accuracy, are no better than those of a constant answer.

    This is how a fine-tuning ends that failed to learn (the failed runs of Mosbach et al. 2021, arXiv 2006.04884).
    """
    of_split = [metric for metric in run.metrics if metric["split"] == split]
    judged = of_split[:1] + [metric for metric in of_split[1:] if metric["name"] == "accuracy"]
    return all(metric["value"] <= metric["baseline"] + 1e-9 for metric in judged)  # for rounding


def _concerns(flag: record.Flag, split: str, run: record.Quality) -> bool:
    """Whether a flag is about this split, or about no scored split in particular."""
    others = {metric["split"] for metric in run.metrics} - {split}
    return flag["split"] not in others
