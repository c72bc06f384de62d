"""Disturbances during a timing, as the kernel counts them on every machine.

These are the time that the hypervisor took, the time that other processes used, and how often a quota of CPU time ran
out. The section "What disturbs a timing" of docs/en/method.md lists other disturbances and how they show: most of them
in the reference's seconds, see ``speed.against_quiet``.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil

from harness import affinity
from harness.records import machine

# Fractions of the CPUs' time above which timings are doubtful. Steal is time that the hypervisor gave to other guests
# while we were ready to run: it stretches timings directly, and implementations may differ by as little as 2%. Other
# processes may run on cores that we leave idle, so they may take more. A quota that runs out interrupts some passes and
# not others, so any such period makes timings doubtful.
NOISY_STEAL, NOISY_OTHERS = 0.02, 0.10


class Stretch(NamedTuple):
    """CPU seconds between two moments, summed over the CPUs that we may use."""

    total: float
    busy: float | None  # used by anyone, without stolen time; None: the system does not show what others do
    stolen: float | None  # given to other guests; None: unknown
    own: float  # used by this process and all its descendants
    periods: int  # number of periods in which a quota ran out
    throttled: float  # seconds for which quotas stopped processes


@contextmanager
def watched(stretches: list[Stretch]) -> Iterator[None]:
    """Add to ``stretches`` what the machine does during the ``with`` block, even if the block raises."""
    before = _counters()
    try:
        yield
    finally:
        now = _counters()
        stolen = _less(now.stolen, before.stolen)
        stretches.append(
            Stretch(
                total=now.total - before.total,
                busy=_less(now.busy, before.busy),
                stolen=None if stolen is None else max(0.0, stolen),
                own=now.own - before.own,
                periods=now.periods - before.periods,
                throttled=now.throttled - before.throttled,
            )
        )


def load_of(stretches: Sequence[Stretch]) -> dict[str, Any]:
    """What disturbed us in these stretches: the field ``load`` of a record.

    ``load_average``: of the last minute; ``steal``: fraction of the CPUs' time that the hypervisor gave to others;
    ``others``: fraction that other processes used, not counting our descendants (each of these is None if unknown);
    ``throttled``: periods in which a quota of CPU time ran out, and the CPU seconds for which processes were stopped;
    ``noisy``: whether timings from these stretches are doubtful.
    """
    total = max(sum(each.total for each in stretches), 1e-9)
    used = [max(0.0, each.busy - each.own) for each in stretches if each.busy is not None]
    taken = [each.stolen for each in stretches if each.stolen is not None]
    others, stolen = (sum(seconds) / total if seconds else None for seconds in (used, taken))
    periods = sum(each.periods for each in stretches)
    return {
        "load_average": _load_average(),
        "steal": None if stolen is None else round(stolen, 4),
        "others": None if others is None else round(others, 4),
        "throttled": {"periods": periods, "seconds": round(sum(each.throttled for each in stretches), 4)},
        "noisy": (stolen or 0.0) > NOISY_STEAL or (others or 0.0) > NOISY_OTHERS or periods > 0,
    }


def _less(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _counters() -> Stretch:
    """The counters since the machine's start."""
    try:
        every = psutil.cpu_times(percpu=True)
    except (OSError, psutil.Error):  # on Android, and in sandboxes
        return Stretch(0.0, None, None, _own_seconds(), *machine.throttled())
    # The list has only CPUs that are online: if numbers and places differ, take them all.
    cpus = [every[cpu] for cpu in affinity.CPUS] if affinity.CPUS[-1] < len(every) else every
    seconds = {name: sum(getattr(cpu, name) for cpu in cpus) for name in every[0]._fields}
    guests = seconds.get("guest", 0.0) + seconds.get("guest_nice", 0.0)  # counted in user and nice already
    total, stolen = sum(seconds.values()) - guests, seconds.get("steal")
    busy = total - seconds["idle"] - seconds.get("iowait", 0.0) - (stolen or 0.0)
    return Stretch(total, busy, stolen, _own_seconds(), *machine.throttled())


def _own_seconds() -> float:
    """CPU seconds of this process and its descendants; those that have ended are in their parents' counters."""
    this, seconds = psutil.Process(), 0.0
    for process in [this, *this.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # it has just ended
        seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
