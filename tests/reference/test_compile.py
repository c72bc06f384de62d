"""Our C++ is compiled once, and if it is not, the reason is given."""

import ctypes
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reference.compile import Compiled, check_layout, compiled

SOURCE = """
#include <cstdint>
struct Pair { int64_t one; float other; };
struct LayoutEntry { const char* name; int64_t value; };
extern "C" const LayoutEntry layout[] = {{"size", sizeof(Pair)}, {"one", 0}, {"other", 8}, {nullptr, 0}};
extern "C" int64_t answer() { return 42; }
"""


class Pair(ctypes.Structure):
    _fields_ = [("one", ctypes.c_int64), ("other", ctypes.c_float)]


class Longer(ctypes.Structure):
    _fields_ = [("one", ctypes.c_int64), ("other", ctypes.c_double), ("third", ctypes.c_int64)]


class Swapped(ctypes.Structure):
    _fields_ = [("other", ctypes.c_float), ("one", ctypes.c_int64)]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small source, and a cache where nothing is compiled."""
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    compiled.cache_clear()
    file = tmp_path / "small.cpp"
    file.write_text(SOURCE)
    yield file
    compiled.cache_clear()


@pytest.fixture
def cached(tmp_path: Path) -> Callable[[], list[tuple[str, int]]]:
    """A function: the files in the cache, with their times."""
    return lambda: sorted((f.name, f.stat().st_mtime_ns) for f in (tmp_path / "cache/compiled").iterdir())


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def test_it_is_compiled_once(source: Path, cached: Callable[[], list[tuple[str, int]]]) -> None:
    first = compiled(source, (Pair,))
    assert first.library is not None
    assert first.library.answer() == 42
    assert first.reason is None
    before = cached()
    assert len(before) == 1
    compiled.cache_clear()  # like a new process
    assert compiled(source, (Pair,)).library is not None
    assert cached() == before


def test_the_compiler_is_named_with_its_version(source: Path) -> None:
    name, version = str(compiled(source).compiler).split()
    assert name == "g++"
    assert version.split(".")[0].isdigit()


@pytest.mark.parametrize("level", ["AVX2", "AVX512_CORE_AMX"])
def test_what_is_hidden_is_not_compiled_for(
    level: str, source: Path, cached: Callable[[], list[tuple[str, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library for the whole processor is not used when a part of it is hidden."""
    monkeypatch.setattr("reference.processor._all_features", lambda: frozenset({"avx2", "avx512f", "amx_tile"}))
    source.write_text(SOURCE.replace("42", "\n#ifdef __AVX512F__\n512\n#else\n2\n#endif\n"))
    monkeypatch.delenv("BERT_ATLAS_MAX_CPU_ISA", raising=False)
    whole = compiled(source)
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", level)
    compiled.cache_clear()
    part = compiled(source)
    assert whole.library is not None
    assert part.library is not None
    if level == "AVX2":
        assert part.library.answer() == 2
        assert len(cached()) == 2
    else:
        assert part.library.answer() == whole.library.answer()
        assert len(cached()) == 1


@pytest.mark.parametrize("words", ["{0} g++", "g++ -m64", "{0} g++ -O1", '"{0}" g++'])
def test_a_compiler_may_be_several_words(
    words: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = program(tmp_path / "launcher", 'exec "$@"')
    monkeypatch.setenv("CXX", words.format(launcher))
    found = compiled(source)
    assert found.library is not None
    assert str(found.compiler).startswith("g++ ")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/no/such/compiler", "CXX names compiler, which is not there"),
        ("ccache-of-nobody g++", "CXX names ccache-of-nobody, which is not there"),
        ("'g++", "CXX cannot be read as a command: No closing quotation"),
        ("g++ --no-such-option", r"g\+\+ [\d.]+ does not compile it \(exit code 1\)"),
        ("true", "true( [\\d.]+)? exited without an error but wrote no library"),
        ("false", r"false( [\d.]+)? does not compile it \(exit code 1\)"),
    ],
)
def test_a_compiler_that_does_not_is_said_once(
    command: str, reason: str, source: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", command)
    found = compiled(source)
    assert found.library is None
    assert found.reason is not None
    assert re.fullmatch(reason, found.reason)
    assert "/" not in found.reason, "records hold it"
    compiled(source)
    last = [each for each in warned(caplog) if each.startswith("PyTorch's slower code is used instead of small.cpp: ")]
    assert len(last) == 1


def test_without_a_compiler_that_is_said(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert compiled(source) == Compiled(reason="no compiler: g++ is not installed")
    assert warned(caplog) == [
        "PyTorch's slower code is used instead of small.cpp: no compiler: g++ is not installed; "
        "install g++, or set CXX to a C++ compiler"
    ]


def test_a_cache_that_cannot_be_written_is_said(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "file/in/the/way"))
    found = compiled(source)
    assert found.library is None
    assert found.reason == f"the cache cannot be written: {os.strerror(20)}"
    assert len(warned(caplog)) == 1


def test_a_library_that_cannot_be_loaded_is_said(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example from a compiler for another machine."""
    gcc = shutil.which("g++")
    script = f'[ "$1" = --version ] && exec {gcc} --version; for last; do :; done; echo nonsense > "$last"'
    monkeypatch.setenv("CXX", str(program(tmp_path / "g++", script)))
    found = compiled(source)
    assert (found.library, found.reason) == (None, "the compiled library cannot be loaded")
    assert found.compiler is not None
    assert len(warned(caplog)) == 2


def test_another_version_of_the_compiler_makes_another_library(
    source: Path, tmp_path: Path, cached: Callable[[], list[tuple[str, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gcc = shutil.which("g++")
    for version in ("12.1.0", "13.2.0"):
        script = f'[ "$1" = --version ] && {{ echo "g++ (Distribution 1.0) {version}"; exit; }}; exec {gcc} "$@"'
        monkeypatch.setenv("CXX", str(program(tmp_path / "g++", script)))
        compiled.cache_clear()
        assert compiled(source).compiler == f"g++ {version}"
    assert len(cached()) == 2


@pytest.mark.parametrize("structs", [(Longer,), (Swapped,), (Pair, Pair)])
def test_structs_that_are_not_the_same_on_both_sides_are_an_error(
    structs: tuple[type[ctypes.Structure], ...], source: Path
) -> None:
    with pytest.raises(RuntimeError, match=r"the structs of small\.cpp differ from their Python mirrors"):
        compiled(source, structs)


def test_a_source_that_says_nothing_of_its_structs_is_an_error(source: Path) -> None:
    source.write_text('extern "C" int answer() { return 42; }\n')
    found = compiled(source)
    assert found.library is not None
    with pytest.raises(ValueError, match="layout"):
        check_layout(found.library, (Pair,), "small.cpp")
