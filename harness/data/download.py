"""Downloads: resumed when interrupted, checked by sha256 before use, unpacked safely."""

import email.utils
import re
import shutil
import stat
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from requests.exceptions import ContentDecodingError, RequestException
from urllib3.exceptions import HTTPError

from harness.data.network import hopeless, is_page, offline, proxy_variable, reason
from harness.errors import Failure
from harness.files import disk_errors, sha256_of

WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before the second, third, ... try
LONGEST_WAIT = 120.0  # seconds; a server that asks for more is a Failure, not a command that seems to hang
TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces of an answer
CHUNK = 1 << 16  # bytes; an interrupted chunk is lost, so that whole chunks are resumed


class _TransferError(Exception):
    """This try did not bring the whole file; another may, after ``wait`` seconds (None: the usual wait)."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def download(url: str, target: Path, *, sha256: str | None, size: int | None = None, progress: bool = True) -> Path:
    """Download ``url`` to ``target``, unless it exists already; returns ``target``.

    An interrupted download stays in ``<target>.part`` and the next call resumes it, or starts again where that cannot
    succeed. ``target`` is created or replaced only with bytes of the right ``size`` and ``sha256`` (None: unknown, not
    checked). Several processes may ask for the same target: one downloads it, the others wait.

    Raises:
        Failure: the server does not give the file, the bytes are not the expected ones, nothing may be fetched
            (HF_HUB_OFFLINE), or the disk is full.
        BadInput: the address is not valid, or the folder cannot be written.
    """
    part = target.with_name(target.name + ".part")
    with disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if target.is_file() and _mismatch(target, sha256, size) is None:
                return target
            joined = _fetch(url, part, sha256=sha256, size=size, progress=progress)
            wrong = _mismatch(part, sha256, size)
            if wrong and joined:  # of two versions, or of what was wrong before: once more, in one piece
                _drop(part)
                _fetch(url, part, sha256=sha256, size=size, progress=progress)
                wrong = _mismatch(part, sha256, size)
            if wrong:
                _drop(part)
                raise Failure(
                    f"{url}: {wrong}. The bad download was removed. Run the command again; "
                    f"if it says the same, the file there has changed or is altered on its way: do not use it."
                )
            part.replace(target)
            _drop(part)
    return target


def unzip(archive: Path, folder: Path, members: dict[str, str] | None = None) -> list[Path]:
    """Unpack ``members`` (name in the archive -> path in ``folder``; None: all files) and return their paths.

    A file gets its name only when it is complete and its CRC is right. Nothing is written outside
    ``folder``: absolute names, ``..`` and links are a Failure before the first byte is written.

    Raises:
        Failure: not a zip, damaged, encrypted, a member missing or unsafe, or the disk full.
    """
    try:
        with zipfile.ZipFile(archive) as opened, disk_errors(folder):
            infos = {info.filename: info for info in opened.infolist() if not info.is_dir()}
            chosen = {name: name for name in infos} if members is None else members
            if missing := sorted(set(chosen) - set(infos)):
                raise Failure(f"{archive.name} does not hold {', '.join(missing)}; it holds {', '.join(sorted(infos))}")
            targets = {name: _inside(archive, folder, infos[name], path) for name, path in chosen.items()}
            for name, target in targets.items():
                _write_member(opened, infos[name], target)
            return list(targets.values())
    # RuntimeError: encrypted, or a compression that this Python lacks.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise Failure(f"{archive.name} cannot be unpacked ({error}); delete it and run the command again") from error


def _mismatch(path: Path, sha256: str | None, size: int | None) -> str | None:
    """What is wrong with the bytes of ``path``; None if nothing is."""
    actual_size = path.stat().st_size
    if size is not None and actual_size != size:
        return f"expected {size:,} bytes, got {actual_size:,}"
    if sha256 is not None and (actual := sha256_of(path)) != sha256:
        return f"expected sha256 {sha256}, got {actual}"
    return None


def _fetch(url: str, part: Path, *, sha256: str | None, size: int | None, progress: bool) -> bool:
    """Download ``part`` to its full length, in as many tries as ``WAITS`` allows; returns whether it was resumed."""
    waits, undecodable = list(WAITS), False
    while True:
        online = ""
        try:
            return _try_once(url, part, resumable=sha256 is not None, size=size, progress=progress)
        except _TransferError as error:
            why, wait = str(error), error.wait
        except (OSError, ValueError, HTTPError) as error:  # those of requests, and of its libraries
            if not isinstance(error, RequestException | HTTPError | ValueError) and error.errno is not None:
                raise  # an error of the disk
            if said := hopeless(url, error):
                raise said from error
            why, wait, online = f"{type(error).__name__}: {reason(error)}", None, "Is this machine online? "
            if isinstance(error, ContentDecodingError):
                _drop(part)
                if undecodable:
                    raise Failure(
                        f"{url} could not be downloaded: twice its bytes could not be decoded ({reason(error)}). "
                        "They are altered on their way, or the server is faulty; try another network, or later."
                    ) from error
                undecodable, wait = True, 0.0
        if not waits or (wait or 0) > LONGEST_WAIT:
            tries = len(WAITS) - len(waits) + 1
            asked = f" (the server asks to wait {wait:.0f} seconds)" if wait else ""
            raise Failure(
                f"{url} could not be downloaded, tries: {tries}{asked}; the last one: {why}. "
                f"{online}What has arrived is kept: run the command again to go on."
            )
        usual = waits.pop(0)
        time.sleep(usual if wait is None else wait)


def _try_once(url: str, part: Path, *, resumable: bool, size: int | None, progress: bool) -> bool:
    """One request: append the missing bytes to ``part``, or start again if the server cannot resume.

    Returns whether it was resumed. ``resumable``: bytes of two requests may be joined without an ETag, because a
    checksum will be verified.
    """
    start = part.stat().st_size if part.is_file() else 0
    if size is not None and start == size:
        return True
    if size is not None and start > size:
        _drop(part)
        start = 0
    if variable := offline():
        raise Failure(
            f"{variable} is set, so that nothing is fetched, and {part.stem} is not here yet. Unset it, or put the "
            f"file of {url} at {part.with_suffix('')}."
        )
    kept = _kept_version(part)
    # No compression: it would change the offsets.
    headers = {"Accept-Encoding": "identity", "User-Agent": "bert-atlas"}
    if start and (resumable or kept.startswith('"')):
        headers["Range"] = f"bytes={start}-"
        if kept:
            headers["If-Range"] = kept
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        _check_status(response, part)
        continued = response.status_code == 206 or ("Range" in headers and _is_part(response))
        if continued and (why := _no_continuation(response, start, kept)):
            _drop(part)
            raise _TransferError(f"{why}; starting from the beginning", wait=0.0)
        pieces = response.iter_content(CHUNK)
        first = next(pieces, b"")
        length = response.headers.get("Content-Length", "")
        if not continued:
            if is_page(first) and length != str(size) and not part.stem.endswith((".html", ".htm")):
                raise Failure(_a_page(response, url, part))
            _keep_version(part, response)
            start = 0
        total = size if size is not None else (start + int(length) if length.isdigit() else None)
        with part.open("ab" if continued else "wb") as file, _bar(part.stem, start, total, progress) as bar:
            for piece in chain([first], pieces):
                file.write(piece)
                bar(len(piece))
    # With a Content-Length requests tells a broken connection from a file that is shorter than it should be.
    if not length and size is not None and part.stat().st_size < size:
        raise _TransferError(f"the connection ended after {part.stat().st_size:,} of {size:,} bytes")
    return continued


def _no_continuation(response: requests.Response, start: int, kept: str) -> str | None:
    """Why these bytes must not be appended; None if they may be."""
    if _starts_at(response) != start:
        return "the server continued at another place than asked"
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return "the server continued with compressed bytes"
    if kept and (now := _version_of(response)) and now != kept:
        return "the file on the server has changed"
    return None


def _a_page(response: requests.Response, url: str, part: Path) -> str:
    """The message for a web page instead of a file, as networks and data sets that need a login send it."""
    host = urlsplit(response.url).hostname
    led = f", from {host}" if host != urlsplit(url).hostname else ""
    return (
        f"{url} answered with a web page{led}, and not with {part.stem}: perhaps one to sign in to this network, or to "
        "accept the terms of the data. Open the address with a browser, then run the command again."
    )


def _check_status(response: requests.Response, part: Path) -> None:
    """Raise unless the answer brings bytes: `_TransferError` where another try may help, else Failure."""
    status = response.status_code
    said = f"HTTP {status} {response.reason}"
    if status == 416:  # `part` is longer than the file, or the file has changed
        _drop(part)
        raise _TransferError("the server has no bytes to continue with; starting from the beginning", wait=0.0)
    if status == 511:
        raise Failure(f"{response.url} answered {said}: sign in to this network with a browser, then run it again.")
    if status == 407:
        named = proxy_variable(response.url) or "the configuration of the proxy"
        raise Failure(f"{response.url} answered {said}: {named} must hold the proxy's user name and password.")
    if status in (408, 425, 429) or status >= 500:
        raise _TransferError(said, _retry_after(response.headers.get("Retry-After")))
    if status in (401, 403):
        raise Failure(f"{response.url} answered {said}: one must sign in for it, or this network may not have it.")
    if status not in (200, 206):
        raise Failure(
            f"{response.url} answered {said}; the file may have moved. "
            f"Look for it with a browser, and report the address if it is gone."
        )


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from the header's seconds or date; None if it has neither."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _starts_at(response: requests.Response) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _is_part(response: requests.Response) -> bool:
    """Whether only a part was sent: some servers answer 200 OK with the requested part."""
    found = re.match(r"bytes (\d+)-(\d+)/", response.headers.get("Content-Range", ""))
    if not found or found[1] == "0":
        return False
    return response.headers.get("Content-Length") == str(int(found[2]) - int(found[1]) + 1)


def _version_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _version_of(response: requests.Response) -> str:
    """An identifier of this version of the file: its ETag (a weak one does not promise equal bytes), else its date."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _kept_version(part: Path) -> str:
    """The version that ``part`` was downloaded from; empty if it is unknown or its file is damaged."""
    if not _version_file(part).is_file():
        return ""
    version = _version_file(part).read_text(encoding="utf-8", errors="replace")
    return version if version.isascii() and version.isprintable() else ""


def _keep_version(part: Path, response: requests.Response) -> None:
    """Save the version that ``part`` is downloaded from."""
    if version := _version_of(response):
        _version_file(part).write_text(version, encoding="utf-8")
    else:
        _version_file(part).unlink(missing_ok=True)


def _drop(part: Path) -> None:
    """Delete what has been downloaded."""
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


@contextmanager
def _bar(name: str, start: int, total: int | None, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the size of each piece; it draws on standard error if that is a terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as shown:
        task = shown.add_task(name, total=total, completed=start)
        yield lambda count: shown.advance(task, count)


def _inside(archive: Path, folder: Path, info: zipfile.ZipInfo, path: str) -> Path:
    """The path of a member in ``folder``; Failure if the member, or this path, leads out of it."""
    names = (PurePosixPath(info.filename), PurePosixPath(path))
    unsafe = any(name.is_absolute() or ".." in name.parts or "\\" in str(name) or ":" in str(name) for name in names)
    # The parent is resolved too: a link that is already in the folder could lead elsewhere.
    escapes = unsafe or not (folder / path).parent.resolve().is_relative_to(folder.resolve())
    if escapes or stat.S_ISLNK(info.external_attr >> 16):
        raise Failure(f"{archive.name} holds {info.filename!r}, which leads out of the folder: do not trust it")
    return folder / path


def _write_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Unpack one file under a temporary name, and rename it when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        with opened.open(info) as source, part.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
