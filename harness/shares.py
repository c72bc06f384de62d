"""Shares: how the runs of one command are divided among processes that know nothing of each other."""

import hashlib
import re
from typing import NamedTuple, Self

from harness.errors import BadInput


class Share(NamedTuple):
    """One of several shares, counted from 1.

    The share of a run follows from its implementation, task and seed alone: it is the same on every machine, and
    further implementations, tasks or seeds move no run to another share. It cannot follow from the run's key, which
    differs between processors (the precision of training, what is compiled) and is known only after parity.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """``3/16``. BadInput for anything else."""
        found = re.fullmatch(r"0*(\d{1,9})/0*(\d{1,9})", text, re.ASCII)
        if found is None:
            raise BadInput(f"--shard {text!r:.40} is not of the form NUMBER/ALL, such as 3/16")
        share = cls(int(found[1]), int(found[2]))
        if not 1 <= share.number <= share.of:
            raise BadInput(
                f"--shard {text}: shares are numbered from 1 to {share.of}"
                if share.of
                else f"--shard {text}: there must be one share at least, such as 1/1"
            )
        return share

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, implementation: str, task: str, seed: int) -> bool:
        """Whether the run belongs to this share. Consecutive seeds, whose runs take equally long, are dealt in turn."""
        digest = hashlib.sha256(f"{implementation} {task}".encode()).digest()
        return (int.from_bytes(digest[:8], "big") + seed) % self.of == self.number - 1

    @property
    def times(self) -> bool:
        """Whether timing belongs to this share: it compares all implementations on one machine, so one share has it."""
        return self.number == 1


class Only(NamedTuple):
    """One run alone, or none and the timing: what a machine of a cluster is asked for at a time."""

    implementation: str | None = None  # None: the timing
    task: str = ""
    seed: int = 0

    def holds(self, implementation: str, task: str, seed: int) -> bool:
        """Whether it is this run."""
        return (implementation, task, seed) == (self.implementation, self.task, self.seed)

    @property
    def times(self) -> bool:
        """Whether it is the timing."""
        return self.implementation is None
