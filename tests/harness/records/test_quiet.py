"""Whether the machine is quiet: what disturbs is named, and waited for."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness.errors import Failure
from harness.records import quiet
from harness.records.load import Stretch

QUIET = Stretch(total=10, busy=1, stolen=0, own=1, periods=0, throttled=0)


def look(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> str | None:
    """What is said of a machine whose counters differ from a quiet one's in these."""

    @contextmanager
    def watched(stretches: list[Stretch]) -> Iterator[None]:
        yield
        stretches.append(QUIET._replace(**fields))

    monkeypatch.setattr(quiet, "watched", watched)
    return quiet.disturbances(seconds=0.01)


def test_a_quiet_machine_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(monkeypatch) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"busy": 6.0}, "others use 50% of the processor"),
        ({"stolen": 1.0}, "other virtual machines take 10% of it"),
        ({"periods": 3}, "a quota of CPU time runs out"),
    ],
)
def test_what_disturbs_is_said(fields: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert message in str(look(monkeypatch, **fields))


def test_the_processes_that_use_most_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([{(1, "idle"): 5.0, (2, "busy"): 1.0}, {(1, "idle"): 5.0, (2, "busy"): 1.008, (3, "new"): 0.002}])
    monkeypatch.setattr(quiet, "_cpu_seconds", lambda: next(seconds))
    assert "(busy 80% of a core, new 20% of a core)" in str(look(monkeypatch, busy=6.0))


def test_our_own_processes_are_not_others() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid not in {number for number, _ in quiet._cpu_seconds()}
    finally:
        child.communicate(b"\n")


def test_it_waits_until_it_is_quiet_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["one", "two", None])
    monkeypatch.setattr(quiet, "disturbances", lambda: next(said))
    heard: list[str] = []
    quiet.wait_until_quiet(1, heard.append)
    assert heard == ["one", "two"]
    monkeypatch.setattr(quiet, "disturbances", lambda: "a compiler")
    with pytest.raises(Failure, match="the machine is busy: a compiler"):
        quiet.wait_until_quiet(0, heard.append)
