"""What disturbs a timing from outside, watched while it is made: what the kernel counts of it on every machine.

That is what the hypervisor took, what other processes used, and how often a quota of CPU time ran out. The section
"What disturbs a timing" of docs/en/method.md lists what else there is, and how it shows: most of it in the reference's
own seconds, see ``speed.against_quiet``.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil

from harness import affinity
from harness.records import machine

# Fractions of the CPUs' time above which timings are to be doubted. Steal is time that the hypervisor gave to
# other guests while we wanted it: it stretches timings directly, so that 2 % is as much as implementations may
# differ by. Other processes may run on cores that we leave idle; of them more is borne. A quota that runs out stops
# what is timed in the midst of it, some passes and not others: none of that is borne.
NOISY_STEAL, NOISY_OTHERS = 0.02, 0.10


class Stretch(NamedTuple):
    """CPU seconds between two moments, over the CPUs that we may use: in all, those used, and what was not ours."""

    total: float
    busy: float | None  # without what was stolen; None: the system does not show what others do
    stolen: float | None  # None: the system does not tell
    own: float  # of this process and all below it
    periods: int  # at whose end a quota had run out
    throttled: float  # seconds for which it had


@contextmanager
def watched(stretches: list[Stretch]) -> Iterator[None]:
    """Add to ``stretches`` what the machine does meanwhile, even where that fails."""
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
    """What kept the machine from us in these stretches, as records hold it.

    ``load_average``: of the last minute; ``steal``: fraction of the CPUs' time that the hypervisor gave to
    others; ``others``: fraction that went to processes other than this one, its children and theirs (each of
    the three None where the system does not tell); ``throttled``: periods in which a quota of CPU time ran out,
    and the CPU seconds that processes were stopped for; ``noisy``: whether timings made meanwhile are to be doubted.
    """
    total = max(sum(each.total for each in stretches), 1e-9)
    used = [max(0.0, each.busy - each.own) for each in stretches if each.busy is not None]
    taken = [each.stolen for each in stretches if each.stolen is not None]
    others, stolen = (sum(told) / total if told else None for told in (used, taken))
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
    """The same from the machine's start until now."""
    try:
        every = psutil.cpu_times(percpu=True)
    except (OSError, psutil.Error):  # on Android, and in sandboxes
        return Stretch(0.0, None, None, _own_seconds(), *machine.throttled())
    # The list has only CPUs that are online: where numbers and places differ, take them all.
    cpus = [every[cpu] for cpu in affinity.CPUS] if affinity.CPUS[-1] < len(every) else every
    seconds = {name: sum(getattr(cpu, name) for cpu in cpus) for name in every[0]._fields}
    guests = seconds.get("guest", 0.0) + seconds.get("guest_nice", 0.0)  # counted in user and nice already
    total, stolen = sum(seconds.values()) - guests, seconds.get("steal")
    busy = total - seconds["idle"] - seconds.get("iowait", 0.0) - (stolen or 0.0)
    return Stretch(total, busy, stolen, _own_seconds(), *machine.throttled())


def _own_seconds() -> float:
    """CPU seconds of this process and all below it; those that have ended are in their parents' counters."""
    this, seconds = psutil.Process(), 0.0
    for process in [this, *this.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # it ended just now
        seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
