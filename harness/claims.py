"""Claims: which of several processes, on one machine or many, works on a record in a folder that they share.

Locks of the file system do not reach across machines everywhere. A claim is a file beside the record, which only one
process can create. Its owner touches it while it lives; one that no longer does is dead, and another process takes the
claim over by creating the file with the next number. Before it writes the record, the owner creates that next file
itself: where it cannot, the claim was taken over meanwhile, and what it computed is dropped. So of two processes that
both did the work, as when one was suspended, only one records it.
"""

import glob
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import Failure

BEAT = 10.0  # seconds between two signs of life
DEAD = 120.0  # seconds without one, as the waiting process counts them: clocks of machines may differ
POLL = 1.0  # seconds between two looks at another's claim
PROC = Path("/proc")


@dataclass(frozen=True)
class Claim:
    """A claim that this process has."""

    path: Path  # of what is claimed
    number: int
    token: str

    @property
    def file(self) -> Path:
        return _file(self.path, self.number)

    def seal(self) -> bool:
        """Keep others from taking the claim over, for the moment of writing. False: one already has."""
        following = _file(self.path, self.number + 1)
        if not _create(following, self.token):
            return False
        if _token(self.file) == self.token:
            return True
        following.unlink()  # whoever took it over has finished and removed its files
        return False

    def release(self) -> None:
        """Remove the files of the claim and of those that it was taken over from, unless another has it now."""
        following = _file(self.path, self.number + 1)
        if _token(self.file) != self.token or _token(following) not in (None, self.token):
            return
        for number in range(1, self.number + 2):  # the lowest first, which is what `seal` relies on
            _file(self.path, number).unlink(missing_ok=True)


class Claims:
    """The claims of this process, and how often another one took one over."""

    def __init__(self) -> None:
        self._held: set[Claim] = set()
        self._lock = threading.Lock()
        self._heart: threading.Thread | None = None
        self.doubled: list[float] = []  # seconds of work that was done twice, by run

    @contextmanager
    def on(self, path: Path, waiting: Callable[[], None]) -> Iterator[Claim]:
        """Claim the work on ``path``; ``waiting()`` is called before waiting for another process that has claimed it.

        Failure if the folder cannot be written to.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            claim = _take(path, waiting)
        except OSError as error:
            raise Failure(f"{path.parent} cannot be written to: {error.strerror}; name another folder") from error
        with self._lock:
            self._held.add(claim)
            if self._heart is None:
                self._heart = threading.Thread(target=self._beat, daemon=True)
                self._heart.start()
        try:
            yield claim
        finally:
            with self._lock:
                self._held.discard(claim)
            claim.release()

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            with self._lock:
                owned = list(self._held)
            for each in owned:
                with suppress(OSError):  # it was taken over, or the file server is away
                    os.utime(each.file)


def _take(path: Path, waiting: Callable[[], None]) -> Claim:
    """Claim it as soon as nobody else has, or whoever has is dead."""
    token, seen, since, said = uuid.uuid4().hex, None, 0.0, False
    while True:
        number, text, touched = _latest(path)
        if (number, text, touched) != seen:
            seen, since = (number, text, touched), time.monotonic()
        if number == 0 or _has_ended(text) or time.monotonic() - since > DEAD:
            if _create(_file(path, number + 1), token):
                return Claim(path, number + 1, token)
            continue
        if not said:
            waiting()
            said = True
        time.sleep(POLL)


def _file(path: Path, number: int) -> Path:
    return path.with_name(f".{path.name}.claim-{number}")


def _latest(path: Path) -> tuple[int, str, int]:
    """Number, content and time of the claim that counts, the highest; 0 if there is none."""
    prefix = f".{path.name}.claim-"
    found = [each.name.removeprefix(prefix) for each in path.parent.glob(f"{glob.escape(prefix)}*")]
    number = max((int(each) for each in found if each.isdecimal()), default=0)
    try:
        with _file(path, number).open(encoding="utf-8") as file:  # opening asks a file server for what is new
            return number, file.read(), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return 0, "", 0


def _create(file: Path, token: str) -> bool:
    """Create a claim's file; False if it is there."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(json.dumps({"token": token, "owner": _life(os.getpid())}))
    return True


def _token(file: Path) -> str | None:
    """Whose claim a file is; None if it is not there, or only just being written."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["token"])
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError):
        return ""


def _has_ended(text: str) -> bool:
    """Whether the owner was a process of this machine that has ended. False: it lives, or is elsewhere."""
    try:
        owner = json.loads(text)["owner"]
        place, pid = owner["place"], int(owner["pid"])
    except (ValueError, LookupError, TypeError):
        return False
    return place is not None and place == _place() and owner != _life(pid)


def _life(pid: int) -> dict[str, str | int | None] | None:
    """A process with its start, as a later one may have the same number; None if it has ended."""
    place = _place()
    if place is None:
        return {"place": None, "pid": pid}
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else {"place": place, "pid": pid, "start": fields[19]}


def _place() -> str | None:
    """This machine since it started, and the numbering of processes in this container, without naming it.

    None where the system does not say: a dead process is then known by its silence alone.
    """
    try:
        return f"{(PROC / 'sys/kernel/random/boot_id').read_text().strip()} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None
