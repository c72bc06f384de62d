"""Claims: one process at a time works on a record, a dead one's work is taken over, and nothing is recorded twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import claims
from harness.claims import Claim, Claims
from harness.errors import Failure

ROOT = Path(__file__).parents[2]
OWNER = """
import sys, time
from pathlib import Path
from harness import claims

claims.BEAT = 0.05
with claims.Claims().on(Path(sys.argv[1]), lambda: None) as claim:
    print("claimed", flush=True)
    sys.stdin.readline()
    print(claim.seal(), flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quality" / "reference-rte-42-0123456789ab.json"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "POLL", 0.01)
    monkeypatch.setattr(claims, "BEAT", 0.05)


@contextmanager
def owner(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has claimed the path."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def sealed(process: subprocess.Popen[str]) -> bool:
    """Let the other process go on to its end; whether it could seal its claim."""
    out, _ = process.communicate("\n", timeout=60)
    return out == "True\n"


def not_waiting() -> None:
    raise AssertionError("it waits")


def move_elsewhere(path: Path) -> None:
    """Make the claim one of another machine: nobody here can see whether its process lives."""
    file = path.with_name(f".{path.name}.claim-1")
    content = json.loads(file.read_text())
    content["owner"]["place"] = "another machine"
    beaten = file.stat().st_mtime_ns
    file.write_text(json.dumps(content))
    os.utime(file, ns=(beaten, beaten))


def test_a_claim_leaves_nothing_behind(path: Path) -> None:
    for seals in (True, False):
        with Claims().on(path, not_waiting) as claim:
            assert len(list(path.parent.iterdir())) == 1
            assert not seals or claim.seal()
        assert not list(path.parent.iterdir())


def test_the_second_waits_until_the_first_is_done(path: Path) -> None:
    with owner(path) as first:
        waits: list[bool] = []

        def end_first() -> None:
            waits.append(sealed(first))

        with Claims().on(path, end_first) as claim:
            assert waits == [True]
            assert claim.seal()
    assert not list(path.parent.iterdir())


def test_the_claim_of_a_killed_process_is_taken_over_at_once(path: Path) -> None:
    with owner(path) as first:
        first.send_signal(signal.SIGKILL)
        with Claims().on(path, lambda: None) as claim:  # though DEAD is two minutes
            assert claim.number == 2
            assert claim.seal()
    assert not list(path.parent.iterdir())


def test_of_another_machine_the_silent_are_dead_and_the_living_are_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "DEAD", 0.5)
    with owner(path) as first:
        move_elsewhere(path)
        began = time.monotonic()
        waited: list[float] = []

        def later() -> None:
            time.sleep(3 * claims.DEAD)
            move_elsewhere(path)  # with the time of its last sign of life
            first.send_signal(signal.SIGSTOP)
            waited.append(time.monotonic() - began)

        with Claims().on(path, later) as claim:
            assert claim.number == 2
            assert time.monotonic() - began > waited[0], "it had not been dead before"
            assert claim.seal()
            first.send_signal(signal.SIGCONT)
            assert not sealed(first), "the first was taken over while the second works"
    assert not list(path.parent.iterdir())


def test_who_wakes_up_after_the_other_has_finished_records_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "DEAD", 0.1)
    with owner(path) as first:
        first.send_signal(signal.SIGSTOP)
        with Claims().on(path, lambda: None) as claim:
            assert claim.seal()
        assert not list(path.parent.iterdir())
        first.send_signal(signal.SIGCONT)
        assert not sealed(first)
    assert not list(path.parent.iterdir())


def test_a_half_written_claim_is_somebodys(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    path.with_name(f".{path.name}.claim-1").touch()
    path.with_name(f".{path.name}.claim-note").touch()
    monkeypatch.setattr(claims, "DEAD", 0.1)
    waits: list[int] = []
    with Claims().on(path, lambda: waits.append(1)) as claim:
        assert waits == [1]
        assert claim.number == 2


def test_a_number_of_a_process_that_another_program_has_now_is_no_sign_of_life(path: Path) -> None:
    with Claims().on(path, not_waiting) as claim:
        content = json.loads(claim.file.read_text())
        content["owner"]["start"] = "1"
        claim.file.write_text(json.dumps(content))
        with Claims().on(path, not_waiting) as second:
            assert second.number == 2
            assert not claim.seal()


def test_a_folder_that_cannot_be_written_to_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="cannot be written to"), Claims().on(tmp_path / "file" / "x.json", not_waiting):
        pass


def test_many_that_are_killed_and_suspended_record_everything_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve processes, and half of them are killed or suspended; whoever writes a record twice fails on it."""
    items, chance = 40, random.Random(20181011)
    begun, folder = [], tmp_path / "records"
    monkeypatch.setattr(claims, "DEAD", 0.3)
    for number in range(12):
        pid = os.fork()
        if pid == 0:
            os._exit(_work(folder, items, random.Random(number)))
        begun.append(pid)
    for pid in begun[:6]:
        time.sleep(chance.uniform(0, 0.1))
        os.kill(pid, chance.choice([signal.SIGKILL, signal.SIGSTOP]))
    time.sleep(1)
    for pid in begun[:6]:
        os.kill(pid, signal.SIGCONT)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in begun]
    assert set(codes) <= {0, -signal.SIGKILL}, codes
    assert codes[6:] == [0] * 6
    assert sorted(int(each.name) for each in folder.iterdir()) == list(range(items)), "records and no claims"


def _work(folder: Path, items: int, chance: random.Random) -> int:
    mine = Claims()
    for item in chance.sample(range(items), items):
        path = folder / str(item)
        while not path.exists():
            with mine.on(path, lambda: None) as claim:
                if path.exists():
                    break
                time.sleep(chance.uniform(0, 0.02))
                if claim.seal() and not _recorded(claim):
                    return 3
    return 0


def _recorded(claim: Claim) -> bool:
    try:
        os.close(os.open(claim.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True
