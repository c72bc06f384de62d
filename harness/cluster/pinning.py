"""CPUs for one piece of work on this machine, which no other piece of ours computes on meanwhile.

Engines count CPUs, but let every process run on all of them. GPUs need nothing of this: the engine names those of a
piece of work in CUDA_VISIBLE_DEVICES, which its processes inherit.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness import affinity

POLL = 0.2  # seconds between two looks for free CPUs


@contextmanager
def pinned(count: int) -> Iterator[list[int]]:
    """Run this thread, and the processes that it starts, on this many free CPUs; waits until there are as many.

    A killed process frees its CPUs. Where the system cannot pin, or has fewer CPUs, there is no limit: an empty list.
    """
    if not hasattr(os, "sched_setaffinity") or count > len(affinity.CPUS):
        yield []
        return
    with ExitStack() as stack:
        cpus = _free(stack, count)
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)
        stack.callback(os.sched_setaffinity, 0, before)
        yield cpus


def _free(stack: ExitStack, count: int) -> list[int]:
    """Lock this many CPUs until the stack ends. Those that do not suffice are let go, so that nobody waits for ever."""
    folder = Path(tempfile.gettempdir()) / f"bert-atlas-cpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        with ExitStack() as attempt:
            cpus: list[int] = []
            for cpu in affinity.CPUS:
                lock = FileLock(folder / f"cpu-{cpu}.lock")
                try:
                    attempt.enter_context(lock.acquire(timeout=0))
                except Timeout:
                    continue
                cpus.append(cpu)
                if len(cpus) == count:
                    stack.push(attempt.pop_all())
                    return cpus
        time.sleep(POLL)
