"""What is computed from one file, kept until the file changes."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
State = tuple[int, ...]  # by which a file is known again
# Nanoseconds in which a file may change twice without another time of modification; the coarsest clock, FAT's, has 2 s.
GRAIN = 2_000_000_000


def per_file(function: Callable[[Path], T]) -> Callable[[Path], T]:
    """The function of a file's path, called again only where another file is there than at the call before.

    That is seen by the file's time of modification, size and inode, as git does. Nothing is kept of a file that
    changed just now, nor where the function raises. OSError where the file cannot be looked at.
    """
    kept: dict[Path, tuple[State, T]] = {}

    @functools.wraps(function)
    def looked_up(path: Path) -> T:
        seen = state_of(path)
        if path in kept and kept[path][0] == seen:
            return kept[path][1]
        found = function(path)
        if is_settled(seen):
            kept[path] = seen, found
        return found

    return looked_up


def state_of(path: Path) -> State:
    """Time of modification, time of any other change, size and inode. OSError where it cannot be looked at."""
    found = path.stat()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


def is_settled(state: State) -> bool:
    """Whether a further change to the file would be seen in its times."""
    return time.time_ns() - max(state[:2]) > GRAIN
