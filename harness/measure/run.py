"""A run: one implementation on one task from one seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.data.kinds import KINDS
from harness.data.task import Task
from harness.measure import keys
from harness.measure.plan import Plan
from harness.measure.recording import find_kept
from harness.records.record import Quality
from harness.registry.implementations import Implementation
from harness.weights import saved_model


@dataclass(frozen=True)
class Run:
    """One implementation on one task from one seed. ``how`` says what fine-tunes the weights that are scored."""

    plan: Plan
    implementation: Implementation
    task: Task
    seed: int
    how: keys.How = "trained"

    @property
    def label(self) -> str:
        """The run in progress messages."""
        return f"{self.implementation.name} on {self.task.name}, seed {self.seed}"

    @cached_property
    def key(self) -> str:
        """Hash of all that determines the result."""
        return keys.quality_key(self)

    @property
    def path(self) -> Path:
        """The file of the record."""
        return self.plan.options.runs / "quality" / f"{self._stem}-{self.key[:12]}.json"

    @property
    def model_folder(self) -> Path | None:
        """The folder for ``--save-model``: the one that was named, or one in it for each of several runs."""
        folder, plan = self.plan.options.save_model, self.plan
        if folder is None or self.how != "trained":
            return None
        alone = plan.options.share is None
        only = alone and len(plan.implementations) * len(plan.tasks) * len(plan.options.seeds) == 1
        return folder if only else folder / self._stem

    @property
    def _stem(self) -> str:
        return f"{self.implementation.name.replace(':', '-')}-{self.task.name}-{self.seed}"

    def kept(self) -> Quality | None:
        """The finished record of this run; None if there is none, its model is missing, or it is to be replaced."""
        found = find_kept(self.plan, Quality, self.key, self.path)
        if found is None or found.state != "ok" or self.model_folder is None:
            return found
        return found if saved_model.key_of(self.model_folder) == self.key else None


def runs_of(plan: Plan, implementation: Implementation, how: keys.How) -> Iterator[Run]:
    """The runs of an implementation, task by task: those that are trained, or for zero-shot those that are not."""
    for task in plan.tasks:
        if KINDS[task.kind].trained == (how == "zero-shot"):
            continue
        for seed in plan.seeds_of(implementation, task):
            yield Run(plan, implementation, task, seed, how)
