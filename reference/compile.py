"""C++ of ours, compiled for this processor when it is first wanted, where there is a compiler."""

import ctypes
import hashlib
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from itertools import count, takewhile
from pathlib import Path

import platformdirs

from reference.processor import compiler_flags, features

OPTIONS = ["-std=c++20", "-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC"]
X86_OPTIONS = ["-mprefer-vector-width=512"]
COMPILER = re.compile(r"(.*-)?(g\+\+|c\+\+|clang\+\+|gcc|cc|clang|icpx|icx)(-[\d.]+)?")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compiled:
    """A source of ours as this machine has it."""

    library: ctypes.CDLL | None = None  # its functions
    compiler: str | None = None  # that made it, such as "g++ 12.2.0"
    reason: str | None = None  # why there are none; without a path, as records hold it


class NotCompiled(Exception):
    """Why a source is not compiled here."""


@cache
def compiled(
    source: Path, structs: tuple[type[ctypes.Structure], ...] = (), included: tuple[Path, ...] = ()
) -> Compiled:
    """Its functions, or why there are none; which a warning says too, where something could be done about it.

    ``structs`` are those that the functions are given, in the order of ``layout`` in the source. RuntimeError where
    they are not the same on both sides. ``included`` are the files of ours that it includes.
    """
    if platform.system() != "Linux":
        return Compiled(reason="our C++ is compiled on Linux alone")
    name = None
    try:
        command, name = compiler()
        library = _load(_build(command, name, source, included), source)
    except NotCompiled as error:
        log.warning("PyTorch's own code is used instead of %s: %s", source.name, error)
        return Compiled(compiler=name, reason=str(error))
    check_layout(library, structs, source.name)
    return Compiled(library, name)


class Place(ctypes.Structure):
    """The struct of that name in our sources."""

    _fields_ = [("name", ctypes.c_char_p), ("number", ctypes.c_int64)]


def check_layout(library: ctypes.CDLL, structs: tuple[type[ctypes.Structure], ...], name: str) -> None:
    """RuntimeError where ``layout``, the size of each struct and the places of its fields, is not that of ours."""
    ours: list[tuple[bytes | None, int]] = []
    for struct in structs:
        fields = [each[0] for each in struct._fields_]
        ours += [(b"size", ctypes.sizeof(struct))]
        ours += [(field.encode(), getattr(struct, field).offset) for field in fields]
    if not structs:
        return
    there = ctypes.cast(ctypes.addressof(Place.in_dll(library, "layout")), ctypes.POINTER(Place))
    theirs = [(each.name, each.number) for each in takewhile(lambda each: each.name, map(there.__getitem__, count()))]
    if ours != theirs:
        raise RuntimeError(f"{name} has structs of another layout than its Python side: {theirs}, not {ours}")


def compiler() -> tuple[list[str], str]:
    """The command that ``CXX`` is, or g++; and its name and version."""
    given = os.environ.get("CXX", "").strip()
    try:
        command = shlex.split(given) or ["g++"]
    except ValueError as error:
        raise NotCompiled(f"CXX cannot be read as a command: {error}") from None
    name = Path(command[0]).name
    if shutil.which(command[0]) is None:
        raise NotCompiled(f"CXX names {name}, which is not there" if given else "no compiler: g++ is not installed")
    name = next((word for word in (Path(each).name for each in command) if COMPILER.fullmatch(word)), name)
    try:
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise NotCompiled(f"{name} cannot be started: {error.strerror}") from None
    version = re.search(r"\d+(\.\d+)+", said.stdout.partition("\n")[0].rpartition(")")[2] or said.stdout)
    return command, f"{name} {version[0]}" if version else name


def _build(command: list[str], name: str, source: Path, included: tuple[Path, ...]) -> Path:
    """The library in the user's cache; compiled in seconds where the same was not before, on the same processor."""
    x86 = X86_OPTIONS if platform.machine() in ("x86_64", "AMD64") else []
    command = [*command, *OPTIONS, *x86, *compiler_flags()]
    texts = [each.read_text(encoding="utf-8") for each in (source, *included)]
    made_of = "\0".join([*texts, name, *command, *sorted(features())])
    given = os.environ.get("BERT_ATLAS_CACHE")
    try:
        folder = (Path(given).expanduser() if given else platformdirs.user_cache_path("bert-atlas")) / "compiled"
        target = folder / f"{source.stem}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
        if target.is_file():
            return target
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            partial = Path(unfinished) / target.name
            _compile([*command, str(source), "-o", str(partial)], name)
            partial.replace(target)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        raise NotCompiled(f"the cache cannot be written: {getattr(error, 'strerror', None) or error}") from None
    return target


def _compile(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        log.warning("%s:\n%s", shlex.join(command), done.stderr.strip())
        raise NotCompiled(f"{name} does not compile it (exit code {done.returncode})")
    if not Path(command[-1]).is_file():
        raise NotCompiled(f"{name} ended without an error and made nothing")


def _load(library: Path, source: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        log.warning("%s: %s", source.name, error)
        raise NotCompiled("what was compiled cannot be loaded") from None
