"""What else the machine did, on this one and on imitations of others."""

import math
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from harness import affinity
from harness.records import load, machine
from harness.records.load import Stretch, load_of, watched

BURN = "import time\nwhile time.process_time() < {seconds}: pass"

Times = namedtuple("Times", "user nice system idle iowait irq softirq steal guest guest_nice")
MacTimes = namedtuple("MacTimes", "user nice system idle")


def between(monkeypatch: pytest.MonkeyPatch, before: list[tuple], after: list[tuple], own: float = 0.0) -> dict:
    """The load of a machine whose CPUs' counters were ``before`` and are ``after``."""
    return load_of([stretch(monkeypatch, before, after, own)])


def stretch(monkeypatch: pytest.MonkeyPatch, before: list[tuple], after: list[tuple], own: float = 0.0) -> Stretch:
    monkeypatch.setattr(affinity, "CPUS", list(range(len(before))))
    seconds = iter([0.0, own])
    monkeypatch.setattr(load, "_own_seconds", lambda: next(seconds))
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: before)
    stretches: list[Stretch] = []
    with watched(stretches):
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu: after)
    return stretches[0]


def linux(user: float = 0, idle: float = 0, steal: float = 0, iowait: float = 0, guest: float = 0) -> Times:
    return Times(user, 0, 0, idle, iowait, 0, 0, steal, guest, 0)


def test_an_idle_machine_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    found = between(monkeypatch, [linux()] * 2, [linux(user=10), linux(idle=8, iowait=2)], own=10)

    assert (found["steal"], found["others"], found["noisy"]) == (0, 0, False)


def test_work_of_others_is_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    found = between(monkeypatch, [linux()] * 2, [linux(user=10), linux(user=3, idle=7)], own=10)

    assert (found["others"], found["noisy"]) == (0.15, True)


def test_a_little_of_others_is_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    found = between(monkeypatch, [linux()] * 2, [linux(user=10), linux(user=1, idle=9)], own=10)

    assert (found["others"], found["noisy"]) == (0.05, False)


def test_steal_is_noise_and_not_work_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = between(monkeypatch, [linux(steal=100)], [linux(user=9.7, steal=100.3)], own=9.7)

    assert (found["steal"], found["others"], found["noisy"]) == (0.03, 0, True)


def test_guests_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    found = between(monkeypatch, [linux()], [linux(user=5, guest=5, idle=5)])

    assert found["others"] == 0.5


def test_a_system_that_does_not_tell_of_steal(monkeypatch: pytest.MonkeyPatch) -> None:
    found = between(monkeypatch, [MacTimes(0, 0, 0, 0)], [MacTimes(6, 0, 3, 1)], own=8)

    assert (found["steal"], found["others"], found["noisy"]) == (None, 0.1, False)


def test_a_system_that_shows_nothing_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Android, and sandboxes: what is not reported is unknown, not none."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/proc/stat")

    monkeypatch.setattr(psutil, "cpu_times", refuse)
    monkeypatch.setattr(load.os, "getloadavg", refuse)
    stretches: list[Stretch] = []
    with watched(stretches):
        pass
    found = load_of(stretches)
    assert (found["steal"], found["others"], found["load_average"], found["noisy"]) == (None, None, None, False)


def test_cpus_that_are_not_ours_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "CPUS", [1])
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [linux(), linux()])
    stretches: list[Stretch] = []
    with watched(stretches):
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [linux(user=10), linux(idle=10)])

    assert load_of(stretches)["others"] == 0


def test_no_time_at_all_is_no_division_by_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    found = between(monkeypatch, [linux(user=5)], [linux(user=5)])

    assert all(math.isfinite(found[name]) for name in ("steal", "others", "load_average"))
    assert not found["noisy"]


def test_children_are_ours_alive_or_ended() -> None:
    ended: list[Stretch] = []
    with watched(ended):
        subprocess.run([sys.executable, "-c", BURN.format(seconds=0.3)], check=True)
    assert 0.25 < ended[0].own < 5

    alive: list[Stretch] = []
    with (
        watched(ended),
        subprocess.Popen(
            [sys.executable, "-c", BURN.format(seconds=0.3) + "\nprint(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # as the harness starts its workers
        ) as child,
    ):
        assert child.stdout is not None
        with watched(alive):
            child.stdout.readline()
        child.communicate(b"\n")
    assert alive[0].own < ended[1].own < alive[0].own + 1, "its end is not counted again"
    assert 0.25 < ended[1].own < 5


def test_a_stranger_is_not_ours() -> None:
    stretches: list[Stretch] = []
    with watched(stretches):
        # The shell ends at once, so that the process is nobody's child here.
        burn = BURN.format(seconds=0.5)
        subprocess.run(["sh", "-c", '"$0" -c "$1" >/dev/null 2>&1 &', sys.executable, burn], check=True)
        deadline = time.monotonic() + 30
        passed: list[Stretch] = []
        while sum(each.total for each in passed) < 1.2 and time.monotonic() < deadline:
            with watched(passed):
                time.sleep(0.1)

    assert stretches[0].own < 0.4
    assert load_of(stretches)["others"] * stretches[0].total > 0.3


def test_stretches_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What disturbed a part of what a record holds disturbed the record."""
    quiet = stretch(monkeypatch, [linux()], [linux(user=10)], own=10)
    busy = stretch(monkeypatch, [linux()], [linux(user=7, steal=3)], own=2)
    found = load_of([quiet, busy])

    assert (found["others"], found["steal"], found["noisy"]) == (0.25, 0.15, True)
    assert not load_of([quiet])["noisy"]


def test_what_fails_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stretches: list[Stretch] = []
    with pytest.raises(RuntimeError), watched(stretches):
        raise RuntimeError("it broke")
    assert len(stretches) == 1


# -- quotas of CPU time --

V1 = "nr_periods {all}\nnr_throttled {periods}\nthrottled_time {nanoseconds}\n"
V2 = "usage_usec 1\nuser_usec 1\nnr_periods {all}\nnr_throttled {periods}\nthrottled_usec {microseconds}\n"


@pytest.mark.parametrize(
    ("own_group", "file", "form"),
    [
        ("0::/", "cpu.stat", V2),
        ("0::/pod/box", "pod/box/cpu.stat", V2),
        ("0::/pod/box", "pod/cpu.stat", V2),  # the quota is of a group above ours
        ("4:cpu,cpuacct:/box", "cpu/box/cpu.stat", V1),
        ("4:cpu,cpuacct:/docker/0123", "cpu/cpu.stat", V1),  # a container sees its own group at the top
    ],
)
def test_a_quota_that_runs_out_is_counted_and_said_to_disturb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_group: str, file: str, form: str
) -> None:
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "cgroup")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"{own_group}\n")
    stat = tmp_path / "cgroup" / file
    stat.parent.mkdir(parents=True, exist_ok=True)

    def throttled_until_now(periods: int, seconds: float) -> None:
        counted = {"nanoseconds": int(1e9 * seconds), "microseconds": int(1e6 * seconds)}
        stat.write_text(form.format(all=1000, periods=periods, **counted))

    throttled_until_now(7, 1.25)
    before: list[Stretch] = []
    with watched(before):
        pass
    meanwhile: list[Stretch] = []
    with watched(meanwhile):
        throttled_until_now(90, 7.15)

    assert load_of(before)["throttled"] == {"periods": 0, "seconds": 0}
    assert load_of(meanwhile)["throttled"] == {"periods": 83, "seconds": 5.9}
    assert load_of(meanwhile)["noisy"]


def test_without_a_quota_nothing_is_throttled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    stretches: list[Stretch] = []
    with watched(stretches):
        pass
    assert load_of(stretches)["throttled"] == {"periods": 0, "seconds": 0}
