"""What comparing two implementations gives: a difference for each score, a ratio for each timing."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Disagreement:
    """An example that the two answer differently."""

    seed: int
    id: str
    a: Any
    b: Any
    gold: Any = None  # None where the data is not at hand


@dataclass(frozen=True)
class Difference:
    """B's main metric less A's on one split, the mean over seeds."""

    subject: str  # task, and what of split and setting must be said
    kind: str  # of the task
    metric: str
    n: int  # examples, or sentences
    a: float
    b: float
    by_seed: dict[int, float]
    disagreements: list[Disagreement]
    low: float | None = None  # the 95% interval; None, like p, where examples could not be compared
    high: float | None = None
    test: str | None = None  # what p is of
    p: float | None = None
    p_bootstrap: float | None = None
    p_holm: float | None = None  # corrected over all tasks and splits

    @property
    def value(self) -> float:
        """The difference."""
        return self.b - self.a


@dataclass(frozen=True)
class Ratio:
    """B's speed over A's at one shape, from one comparison in which they took turns."""

    shape: str
    ratio: float  # the median of the rounds' ratios
    low: float | None  # the 95% interval; None, like p, of a single round
    high: float | None
    p: float | None  # Student's t
    p_mann_whitney: float | None  # of the rounds' medians, which does not see that rounds are pairs
    rounds: int
    p_holm: float | None = None


@dataclass
class Comparison:
    """All that two implementations can be compared in."""

    a: str  # what to call them
    b: str
    differences: list[Difference] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was left out, what differs besides, what lacks
    lacking: list[str] = field(default_factory=list)  # tasks that A alone has, seeds that A has and B failed with
