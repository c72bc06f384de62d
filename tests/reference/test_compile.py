"""Our C++ is compiled once, and if it is not, the reason is given."""

import ctypes
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reference.compile import Compiled, check_layout, compiled
from reference.processor import AVX2, LEVELS, level
from tests.test_deploy import copied

ROOT = Path(__file__).parents[2]

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


# -- the libraries of a wheel --


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a library of the small source for each level that is named; each answers with its level's place."""
    folder = tmp_path / "compiled"
    monkeypatch.setattr("reference.compile.IN_WHEEL", folder)

    def install(*levels: str) -> None:
        folder.mkdir()
        (folder / "compiler.txt").write_text("g++ 14.2.1\n")
        for name in levels:
            source = tmp_path / f"{name}.cpp"
            source.write_text(SOURCE.replace("42", str(list(LEVELS).index(name))))
            subprocess.run(["g++", "-shared", "-fPIC", source, "-o", folder / f"small-{name}.so"], check=True)

    return install


def features_of(level: str) -> frozenset[str]:
    names = list(LEVELS)
    return AVX2.union(*(LEVELS[name] for name in names[: names.index(level) + 1]))


@pytest.mark.parametrize(
    ("installed", "processor", "used"),
    [
        (list(LEVELS), "AVX2", "AVX2"),
        (list(LEVELS), "AVX512_CORE_BF16", "AVX512_CORE_BF16"),
        (list(LEVELS), "AVX512_CORE_AMX", "AVX512_CORE_AMX"),
        (["AVX2", "AVX512_CORE"], "AVX512_CORE_AMX", "AVX512_CORE"),
    ],
)
def test_a_wheel_has_the_code_for_this_processor(
    installed: list[str],
    processor: str,
    used: str,
    source: Path,
    wheel: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wheel(*installed)
    monkeypatch.setattr("reference.processor._all_features", lambda: features_of(processor))
    monkeypatch.delenv("BERT_ATLAS_MAX_CPU_ISA", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")  # no compiler
    found = compiled(source, (Pair,))
    assert found.library is not None
    assert found.library.answer() == list(LEVELS).index(used)
    assert found.compiler == f"g++ 14.2.1 for {used}, in the wheel"


def test_the_switch_hides_levels_of_a_wheel_too(
    source: Path, wheel: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(*LEVELS)
    monkeypatch.setattr("reference.processor._all_features", lambda: features_of("AVX512_CORE_AMX"))
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    assert str(compiled(source).compiler).endswith("for AVX512_CORE_VNNI, in the wheel")


@pytest.mark.parametrize("lacks", ["avx2", "fma", "f16c"])
def test_a_processor_that_a_wheel_has_no_code_for_compiles(
    lacks: str, source: Path, wheel: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel("AVX2")
    monkeypatch.setattr("reference.processor._all_features", lambda: AVX2 - {lacks})
    monkeypatch.delenv("BERT_ATLAS_MAX_CPU_ISA", raising=False)
    found = compiled(source)
    assert found.library is not None
    assert found.library.answer() == 42


def test_a_compiler_that_is_named_comes_before_the_wheel(
    source: Path, wheel: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(*LEVELS)
    monkeypatch.setenv("CXX", "g++")
    found = compiled(source)
    assert found.library is not None
    assert found.library.answer() == 42
    assert "wheel" not in str(found.compiler)


BUILT = """
import reference
from reference import adamw, native
assert "site-packages" in reference.__file__, reference.__file__
print(native.built().compiler, "|", adamw.built().compiler, "|", native.built().reason)
"""


@pytest.mark.soak
@pytest.mark.parametrize("has_compiler", [True, False])
def test_a_wheel_serves_where_there_is_no_compiler(has_compiler: bool, tmp_path: Path) -> None:
    """One built without a compiler is for all systems, and says what is missing; neither needs one to be installed."""
    tools = tmp_path / "tools"  # all that pip needs, without a compiler
    tools.mkdir()
    own = dict(os.environ) if has_compiler else os.environ | {"PATH": str(tools)}
    own.pop("CXX", None)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    whole, tree = tmp_path / "whole", tmp_path / "tree"
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, whole], check=True)
    tree.mkdir()
    for name in copied():  # no more than the image is made of
        (shutil.copytree if (whole / name).is_dir() else shutil.copyfile)(whole / name, tree / name)
    command = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path / "wheels", tree]
    subprocess.run(command, env=own, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert ("none-any" in wheel.name) is not has_compiler

    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv/bin/python"
    packages = next((tmp_path / "venv").glob("lib/*/site-packages"))
    subprocess.run([*pip, "install", "--no-deps", "--target", packages, wheel], check=True, capture_output=True)
    here = next(path for path in sys.path if path.endswith("site-packages"))
    own = {"PATH": str(tools), "PYTHONPATH": here, "BERT_ATLAS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([python, "-c", BUILT], env=own, cwd=tmp_path, capture_output=True, text=True, check=True)
    layers, step, reason = done.stdout.strip().split(" | ")
    if has_compiler and level():
        assert layers == step
        assert layers.endswith(f"for {level()}, in the wheel")
        assert reason == "None"
        assert not (tmp_path / "cache").exists()
    else:
        assert (layers, step) == ("None", "None")
        assert "no compiler" in reason or "lacks" in reason
