"""What an implementation costs in quality: its paired differences to the reference, from the index."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from catalog.site.leaderboard import Row, family_name


@dataclass(frozen=True)
class Cost:
    """The difference to the reference in the main metric of one task and split, from the same seeds and examples."""

    hardware: str
    implementation: str
    precision: str  # as asked for
    same_weights: bool  # it got those that the reference fine-tuned; else a seed more may change the difference
    task: str  # with the split, where it is not dev
    metric: str
    n: int  # examples
    seeds: list[int]
    difference: float
    low: float | None  # the 95% interval; None where it cannot be tested
    high: float | None
    test: str | None  # what the interval is of
    answers: int
    differing: int  # answers that are not the reference's

    @property
    def same(self) -> bool:
        """Whether it gives the reference's answers."""
        return self.differing == 0

    @property
    def tested(self) -> bool:
        """Whether it can be tested if there is a difference: one seed says nothing of what another would give."""
        return self.low is not None and (self.same_weights or len(self.seeds) > 1)

    @property
    def shown(self) -> bool:
        """Whether a difference is shown: the interval is beside 0."""
        return self.tested and self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Quality:
    """The costs of one implementation, one for each task."""

    costs: list[Cost]

    @property
    def same(self) -> list[Cost]:
        """Tasks on which all answers are the reference's."""
        return [cost for cost in self.costs if cost.same]

    @property
    def worst(self) -> Cost | None:
        """The largest loss that is shown."""
        return min((cost for cost in self.costs if cost.shown and cost.difference < 0), key=_size, default=None)

    @property
    def unsure(self) -> list[Cost]:
        """Tasks with other answers and too little to tell."""
        return [cost for cost in self.costs if not cost.same and not cost.tested]

    @property
    def within(self) -> list[Cost]:
        """Tasks with other answers on which no loss is shown."""
        tested = [cost for cost in self.costs if not cost.same and cost.tested]
        return [cost for cost in tested if not (cost.shown and cost.difference < 0)]


def _size(cost: Cost) -> float:
    return cost.difference


def read(values: Iterable[dict[str, Any]]) -> list[Cost]:
    """The costs in an index."""
    names = Cost.__dataclass_fields__
    return [Cost(**{name: each[name] for name in names}) for each in values]


def quality(costs: list[Cost], row: Row, hardware: str) -> Quality:
    """The costs of a row, of each task those from most seeds, and of these from the same machine.

    A row that computes in a lower precision because it was asked to has those of the variant that always does.
    """
    names = {(row.implementation, row.precision)}
    if row.precision != "fp32":
        names.add((f"{family_name(row.implementation)}:{row.computes}", "fp32"))
        if row.computes != row.precision:
            names.add((row.implementation, "fp32"))
    best: dict[str, Cost] = {}
    for cost in (cost for cost in costs if (cost.implementation, cost.precision) in names):
        known = best.get(cost.task)
        rank = (len(cost.seeds), cost.hardware == hardware)
        if known is None or rank > (len(known.seeds), known.hardware == hardware):
            best[cost.task] = cost
    return Quality([best[task] for task in sorted(best, key=order_of_tasks)])


def order_of_tasks(task: str) -> tuple[bool, str]:
    """Sort key: the embedded tasks come last."""
    return (task.startswith("mini-"), task)


def on_task(costs: list[Cost], task: str) -> list[Cost]:
    """The costs on one task, of each implementation that from most seeds; the largest loss first."""
    best: dict[str, Cost] = {}
    for cost in (cost for cost in costs if cost.task == task):
        known = best.get(cost.implementation)
        if known is None or len(cost.seeds) > len(known.seeds):
            best[cost.implementation] = cost
    return sorted(best.values(), key=_size)
