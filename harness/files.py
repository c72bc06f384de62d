"""Files and folders: as users name them, the cache, checksums, atomic writes and locks."""

import errno
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from harness.errors import BadInput, Failure


def home_folder() -> Path | None:
    """The user's home folder; None where there is no such, as in a container whose user has no name."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def user_folder(find: Callable[[str], Path]) -> Path | None:
    """The program's folder that this function of platformdirs finds; None where no home folder is known."""
    try:
        folder = find("bert-atlas")
    except (RuntimeError, KeyError):
        return None
    return folder if folder.is_absolute() else None  # else "~/...", which would be a folder of that name here


def expanded(text: str | Path) -> Path:
    """The path, with the home folder for a ``~`` at its beginning; BadInput where there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise BadInput(f"{text}: no home folder is known for {Path(text).parts[0]}; write the path out") from None


def cache_folder() -> Path:
    """The folder for what can be downloaded again: ``BERT_ATLAS_CACHE``, else the platform's cache.

    BadInput where neither is known.
    """
    given = os.environ.get("BERT_ATLAS_CACHE")
    if given:
        return expanded(given)
    folder = user_folder(platformdirs.user_cache_path)
    if folder is None:
        raise BadInput("no home folder is known; set BERT_ATLAS_CACHE to a folder that you may write in")
    return folder


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn errors of writing in ``folder`` into Failure or BadInput with a clear message."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Failure(
                f"the disk is full: {folder} has no room for more. "
                f"Free some space and run the command again; it goes on where it stopped."
            ) from error
        if isinstance(error, PermissionError | FileExistsError | NotADirectoryError) or error.errno == errno.EROFS:
            raise BadInput(f"cannot write in {folder} ({error.strerror}); choose another folder") from error
        raise


def write_json(values: dict[str, Any], path: Path) -> None:
    """Write a JSON file atomically. ValueError for a number that is not finite."""
    write_whole(path, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write or replace a file atomically. Failure, with advice, if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).chmod(0o644)
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failure(f"{path} could not be written: {error.strerror}; make room or name another folder") from error


@contextmanager
def exclusive(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Work on a record, or any other file, while no other process does; ``waiting()`` is called before waiting for one.

    The lock of a killed process is free at once; the ``.part`` file that it left of this record is deleted. Failure if
    the folder cannot be written to.
    """
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
    except OSError as error:
        raise Failure(f"{path.parent} cannot be written to: {error.strerror}; name another folder") from error
    try:
        sweep(path.parent, path.stem)
        yield
    finally:
        lock.release()


def sweep(folder: Path, stem: str = "") -> None:
    """Delete half-written files of killed processes; only for the process that holds the lock (``exclusive``)."""
    for partial in folder.glob(f"{glob.escape(stem)}*.part"):
        partial.unlink()
