"""The two ways a command ends badly, and the exit code of each; and which of them an error of a library is.

Libraries say in words of their own, and in classes of their own, that the disk is full or the memory does not suffice.
"""

import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress

AGAIN = "start again: finished runs are kept"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KNOWN = (*FULL, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.EIO)
UNWRITTEN = (  # what is most often a full disk, though no number says so
    r"unexpected pos \d+ vs \d+",  # torch.save
    "PytorchStreamWriter failed",
    r"\d+ requested and \d+ written",  # numpy
    "database or disk is full",
)
NO_MEMORY = ("can't allocate memory", "out of memory", "unable to allocate", "bad_alloc", "alloc_failed")
DISK, MEMORY = "disk full", "out of memory"  # kinds of errors of a worker
CUT = 300  # letters of what a library says that are passed on


class BadInput(Exception):
    """What the user gave cannot be used; the message says what is wrong and what to do. Exit code 2."""


class Failure(Exception):
    """The input was good, but the work could not be done. Exit code 1."""


def ours(error: BaseException) -> BadInput | Failure | None:
    """What an error of the system or of a library comes to, in words that say what to do; None: it is unknown.

    An error that another one was raised from counts too: many libraries wrap those of the system.
    """
    if isinstance(error, BadInput | Failure):
        return error
    for each in _chain(error):
        if full_disk(each):
            return Failure(f"the disk is full ({_said(each)}); make room{_temporary()}, and {AGAIN}")
        if no_memory(each):
            what = "GPU" if "cuda" in _said(each).lower() or "cublas" in _said(each).lower() else "machine"
            advice = "close other programs, or give a smaller --batch-size, --max-length, shapes or weights"
            return Failure(f"the {what} has not enough memory ({_said(each)}); {advice}, and {AGAIN}")
    cause: BaseException | None = error
    while cause is not None:
        if found := _of_the_system(cause):
            return found
        cause = cause.__cause__
    return None


def kind_of(error: BaseException) -> str:
    """One word for an error of a worker: what it lacked, else its class."""
    if any(map(full_disk, _chain(error))):
        return DISK
    return MEMORY if any(map(no_memory, _chain(error))) else type(error).__name__


def full_disk(error: BaseException) -> bool:
    """Whether a file could not be written for lack of room: none on the disk, none left of a quota or limit."""
    return _number(error) in FULL or any(re.search(words, str(error)) for words in UNWRITTEN)


def no_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, of the machine or of a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return _number(error) == errno.ENOMEM or any(words in str(error).lower() for words in NO_MEMORY)


def _of_the_system(error: BaseException) -> BadInput | Failure | None:
    """What else the system refuses: a file, a folder for temporary ones, a name, a letter."""
    text = str(error)
    if "No usable temporary directory" in text:
        return BadInput("no folder for temporary files can be written to; set TMPDIR to one that has room")
    if isinstance(error, RuntimeError) and "home directory" in text:
        return BadInput("no home folder is known; set HOME, or BERT_ATLAS_CACHE to a folder that you may write in")
    if "uid not found" in text or "No username set" in text:
        return BadInput("the user's number has no name here; set LOGNAME to any name")
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding():
        return BadInput(f"a file's name has letters that {error.encoding} lacks; set PYTHONUTF8=1")
    if _number(error) == errno.EROFS:
        return BadInput(f"a file system is read-only ({_said(error)}); name a folder that you may write in")
    if isinstance(error, OSError):
        if error.filename is not None:
            return BadInput(f"{os.fsdecode(error.filename)}: {error.strerror}")
        return Failure(_said(error))
    if _number(error) in (errno.EACCES, errno.ENOENT, errno.EPERM):
        return BadInput(_said(error))
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, that which it was raised from or which was being handled, and so on."""
    seen: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in seen:
        seen.append(each)
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _number(error: BaseException) -> int | None:
    """The system's number of the error, which libraries in other languages have in their text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, BadInput | Failure):
        return None
    text = str(error)
    if found := re.search(r"\b(?:os error|errno)[ =:]*(\d+)", text, re.IGNORECASE):
        return int(found[1])
    return next((number for number in KNOWN if os.strerror(number) in text), None)


def _said(error: BaseException) -> str:
    """What the error says, in one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    text = " ".join((error.strerror if isinstance(error, OSError) and error.strerror else str(error)).split())
    return (text or type(error).__name__)[:CUT]


def _temporary() -> str:
    """Where temporary files go, which fill a disk that the user does not think of."""
    with suppress(OSError):
        return f" (temporary files are in {tempfile.gettempdir()}: TMPDIR names another folder)"
    return " (TMPDIR names the folder of temporary files)"
