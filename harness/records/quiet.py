"""Whether the machine does nothing else, before a timing: what disturbs it, and waiting for it to end."""

import time
from collections.abc import Callable

import psutil

from harness.errors import Failure
from harness.records.load import NOISY_OTHERS, NOISY_STEAL, Stretch, load_of, watched

LOOK = 5.0  # seconds of one look
LEAST, MOST = 0.05, 3  # a process is named if it uses this share of a core, and at most so many are


def disturbances(seconds: float = LOOK) -> str | None:
    """What would make a timing doubtful now, with the processes that use most; None: nothing.

    The limits are those by which a record is marked as doubtful (``harness.records.load``).
    """
    stretches: list[Stretch] = []
    before = _cpu_seconds()
    with watched(stretches):
        time.sleep(seconds)
    after, load = _cpu_seconds(), load_of(stretches)
    if not load["noisy"]:
        return None
    said = []
    if (load["others"] or 0) > NOISY_OTHERS:
        used = {each: (cpu - before.get(each, 0.0)) / seconds for each, cpu in after.items()}
        most = sorted(((share, name) for (_, name), share in used.items() if share >= LEAST), reverse=True)[:MOST]
        named = ", ".join(f"{name} {share:.0%} of a core" for share, name in most)
        said.append(
            f"others use {load['others']:.0%} of the processor ({named or 'no process that is seen from here'})"
        )
    if (load["steal"] or 0) > NOISY_STEAL:
        said.append(f"other virtual machines take {load['steal']:.0%} of it")
    if load["throttled"]["periods"]:
        said.append("a quota of CPU time runs out")
    return "; ".join(said)


def wait_until_quiet(minutes: float, waiting: Callable[[str], None]) -> None:
    """Return when nothing disturbs. ``waiting`` is called with what still does, after each look.

    Failure, with what keeps the machine busy, if it is still so after this time.
    """
    start = time.monotonic()
    while (what := disturbances()) is not None:
        if time.monotonic() - start >= 60 * minutes:
            raise Failure(
                f"the machine is busy: {what}. Timings would be doubtful: stop that, or let --wait MINUTES wait for it"
            )
        waiting(what)


def _cpu_seconds() -> dict[tuple[int, str], float]:
    """CPU seconds of the processes that are not ours, by number and name."""
    this, seconds = psutil.Process(), {}
    ours = {this.pid, *(child.pid for child in this.children(recursive=True))}
    for process in psutil.process_iter():
        try:
            if process.pid not in ours:
                times = process.cpu_times()
                seconds[process.pid, process.name()] = times.user + times.system
        except psutil.Error:  # it has just ended, or is not to be seen
            continue
    return seconds
