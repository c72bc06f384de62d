"""Errors of libraries and of the system, as a command ends with them: a sentence, and the right exit code."""

import errno
import os
import pickle
import resource
import signal
import sqlite3
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from harness.errors import BadInput, Failure, ours

LARGE = 300_000  # bytes
WRITERS: dict[str, Callable[[Path], object]] = {
    "safetensors": lambda file: save_file({"a": torch.zeros(LARGE // 4)}, file),
    "torch": lambda file: torch.save({"a": torch.zeros(LARGE // 4)}, file),
    "torch, old form": lambda file: torch.save(torch.zeros(LARGE // 4), file, _use_new_zipfile_serialization=False),
    "numpy": lambda file: np.zeros(LARGE // 8).tofile(file),
    "numpy, zipped": lambda file: np.savez(file, a=np.zeros(LARGE // 8)),
    "zipfile": lambda file: zipfile.ZipFile(file, "w").writestr("a", os.urandom(LARGE)),
    "pickle": lambda file: pickle.dump(os.urandom(LARGE), file.open("wb", buffering=0)),
    "tokenizers": lambda file: Tokenizer(models.WordLevel({str(i): i for i in range(20_000)}, "0")).save(str(file)),
    "pathlib": lambda file: file.write_bytes(bytes(LARGE)),
}


@pytest.mark.parametrize("library", WRITERS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a zip that is closed unwritten
def test_a_file_for_which_there_is_no_room_is_a_failure_that_says_so(library: str, tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGE // 8, limit[1]))
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever class the library has for it
            WRITERS[library](tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    found = ours(caught.value)
    assert isinstance(found, Failure)
    assert str(found).startswith("the disk is full (")
    assert "make room" in str(found)
    assert "TMPDIR" in str(found)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/data/file"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:595] . PytorchStreamWriter failed writing file data/0"),
        sqlite3.OperationalError("database or disk is full"),
        OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
    ],
)
def test_other_words_for_a_full_disk(error: Exception) -> None:
    assert str(ours(error)).startswith("the disk is full (")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: torch.empty(2**46), "machine"),
        (lambda: np.empty(2**46), "machine"),
        (lambda: bytearray(2**60), "machine"),
        (lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")), "GPU"),
        (lambda: _raise(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")), "GPU"),
        (lambda: _raise(RuntimeError("std::bad_alloc")), "machine"),
        (lambda: _raise(OSError(errno.ENOMEM, "Cannot allocate memory")), "machine"),
    ],
)
def test_memory_that_does_not_suffice_is_a_failure_that_says_so(make: Callable[[], object], what: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever class the library has for it
        make()
    found = ours(caught.value)
    assert isinstance(found, Failure)
    assert str(found).startswith(f"the {what} has not enough memory (")


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/data/file"), "read-only (/data/file: Read-only file system)"),
        (RuntimeError("I/O error: Read-only file system (os error 30)"), "a file system is read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/some/x"), "/some/x: Permission denied"),
        (RuntimeError("Permission denied (os error 13)"), "Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/t']"), "set TMPDIR"),
        (RuntimeError("Could not determine home directory."), "BERT_ATLAS_CACHE"),
        (KeyError("getpwuid(): uid not found: 12345"), "set LOGNAME"),
        (UnicodeEncodeError(sys.getfilesystemencoding(), "\udc80", 0, 1, "no"), "PYTHONUTF8=1"),
    ],
)
def test_what_the_user_can_put_right_is_bad_input(error: Exception, message: str) -> None:
    found = ours(error)
    assert isinstance(found, BadInput)
    assert message in str(found)


def test_an_error_that_a_library_raised_from_one_of_the_system_counts() -> None:
    def wrapped() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/data/x")
        except OSError as error:
            raise RuntimeError("saving failed") from error

    with pytest.raises(RuntimeError) as caught:
        wrapped()
    assert "/data/x: No space left on device" in str(ours(caught.value))


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), KeyError("name"), AssertionError(), ZeroDivisionError()]
)
def test_a_fault_of_ours_stays_what_it_is(error: Exception) -> None:
    assert ours(error) is None


def test_ours_stay_themselves() -> None:
    for error in (BadInput("no space left on device"), Failure("out of memory")):
        assert ours(error) is error


def test_messages_are_one_line_of_bounded_length() -> None:
    text = str(ours(RuntimeError("CUDA out of memory.\n" + "many words " * 1000)))
    assert "\n" not in text
    assert len(text) < 600
