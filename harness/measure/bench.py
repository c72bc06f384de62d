"""What the runs of a command share: plan, interpreters, checkpoints and progress."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

from harness import claims
from harness.claims import Claim, Claims
from harness.errors import Failure
from harness.files import exclusive, sweep
from harness.measure.client import DataParallel, Worker, WorkerError
from harness.measure.plan import Plan
from harness.progress import Show, labelled
from harness.registry.environments import python_of
from harness.registry.implementations import Implementation
from harness.weights.checkpoints import Checkpoints


@dataclass(frozen=True)
class Bench:
    """Plan, interpreters, checkpoints and progress; it starts workers."""

    plan: Plan
    interpreters: dict[str, Path]  # by name, of all implementations that can be started
    checkpoints: Checkpoints
    show: Show
    claims: Claims | None = None  # where other machines may write to the same folders

    def start(self, implementation: Implementation, beside_others: bool = False) -> Worker:
        """A worker in the implementation's interpreter, with its repository; see ``Worker``.

        The reference can always be started, since others are compared with it and use its weights.
        """
        return Worker(implementation, self._python(implementation), self._checkout(implementation), beside_others)

    def start_training(self, implementation: Implementation) -> Worker:
        """The same, to train: in several processes if the user asked for it."""
        python, processes = self._python(implementation), self.plan.options.nproc
        if processes == 1:
            return self.start(implementation)
        if python != Path(sys.executable):  # its environment lacks the package ``reference``, which joins processes
            said = "it runs in an environment of its own, where a model is trained in one process; leave --nproc out"
            raise WorkerError(said, NotImplementedError.__name__, doing="load")
        return DataParallel(implementation, python, self._checkout(implementation), processes)

    def _python(self, implementation: Implementation) -> Path:
        return {"reference": Path(sys.executable), **self.interpreters}[implementation.name]

    def _checkout(self, implementation: Implementation) -> Path | None:
        return self.plan.checkouts.get(implementation.name)

    @contextmanager
    def alone_on(self, path: Path, waiting: str) -> Iterator[Claim | None]:
        """Work on a record or a folder while no other process does; ``waiting`` is shown before waiting for one.

        A claim, if there is one, must be sealed before the record is written.
        """
        show = partial(self.show, waiting)
        if self.claims is None:
            with exclusive(path, show):
                yield None
            return
        with self.claims.on(path, show) as claim:  # and no lock: a suspended process would keep it
            sweep(path.parent, path.stem)
            yield claim

    def lost(self, label: str, seconds: float) -> None:
        """Say that a claim was taken over, so that what this process computed meanwhile is not recorded."""
        assert self.claims is not None
        self.claims.doubled.append(seconds)
        count, total = len(self.claims.doubled), sum(self.claims.doubled)
        logging.getLogger(__name__).warning(
            f"{label}: this process showed no sign of life for {claims.DEAD:.0f} s, and another took the work over; "
            f"what was computed here is not recorded (work done twice so far: {count}, {total:.0f} s)"
        )

    def labelled(self, label: str) -> Self:
        """The same bench, whose progress begins with this label."""
        return replace(self, show=labelled(self.show, label))


class Missing(NamedTuple):
    """An implementation without an interpreter."""

    implementation: Implementation
    state: str  # of its record: skipped if the user has to provide something, failed if an attempt failed
    reason: str


def find_interpreters(plan: Plan, show: Show) -> tuple[dict[str, Path], list[Missing]]:
    """The interpreter of each implementation, by name, and those without; creates environments that do not exist yet.

    Nothing is remembered of failures, because what else is on the machine may change.
    """
    interpreters: dict[str, Path] = {}
    missing: list[Missing] = []
    for implementation in plan.implementations:
        if lacking := plan.lacks(implementation):
            missing.append(Missing(implementation, "skipped", lacking))
            continue
        try:
            interpreters[implementation.name] = python_of(implementation, labelled(show, implementation.name))
        except Failure as error:
            missing.append(Missing(implementation, "failed", str(error)))
    return interpreters, missing
