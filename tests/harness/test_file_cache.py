"""What is kept of a file is kept as long as the file is the same."""

import os
from pathlib import Path

import pytest

from harness.file_cache import per_file

DAY = 24 * 3600.0


def old(path: Path, text: str, age: float = DAY) -> Path:
    """The file, last changed so many seconds ago."""
    path.write_text(text)
    changed = path.stat().st_mtime - age
    os.utime(path, (changed, changed))
    return path


class Reader:
    """Counts how often it reads."""

    def __init__(self) -> None:
        self.calls = 0
        self.read = per_file(self._read)

    def _read(self, path: Path) -> str:
        self.calls += 1
        return path.read_text()


def later(monkeypatch: pytest.MonkeyPatch, seconds: float = DAY) -> None:
    """Let the clock show a later time: the test's files have been there for long then."""
    import time

    now = time.time_ns()
    monkeypatch.setattr("time.time_ns", lambda: now + int(seconds * 1e9))


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch)
    reader, file = Reader(), old(tmp_path / "a", "one")
    assert [reader.read(file) for _ in range(3)] == ["one"] * 3
    assert reader.calls == 1
    old(file, "two", DAY / 2)
    assert [reader.read(file) for _ in range(3)] == ["two"] * 3
    assert reader.calls == 2


def test_another_file_with_the_time_and_size_of_the_first_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch)
    reader, file = Reader(), old(tmp_path / "a", "one")
    reader.read(file)
    before = file.stat()
    other = old(tmp_path / "b", "two")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert (file.stat().st_mtime_ns, file.stat().st_size) == (before.st_mtime_ns, before.st_size)
    assert reader.read(file) == "two"


def test_a_file_that_changed_just_now_may_change_again_within_the_clocks_grain(tmp_path: Path) -> None:
    reader, file = Reader(), tmp_path / "a"
    for text in ("one", "two", "six"):
        file.write_text(text)
        assert reader.read(file) == text


def test_an_error_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch)
    reader = Reader()
    with pytest.raises(FileNotFoundError):
        reader.read(tmp_path / "a")
    assert reader.read(old(tmp_path / "a", "one")) == "one"
