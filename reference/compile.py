"""Our C++ for this processor: from the wheel, or compiled on first use and kept in the user's cache.

A wheel for this system contains a library for each level of the processor (setup.py). A clone contains none, and needs
a compiler. With ``CXX`` set, the libraries of a wheel are not used.
"""

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

from reference.processor import compiler_flags, features, level

OPTIONS = ["-std=c++20", "-O3", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC"]
X86_OPTIONS = ["-mprefer-vector-width=512"]
# What the libraries in a wheel may use, by level; -march=native is for this machine alone.
LEVEL_OPTIONS = {
    "AVX2": ["-march=x86-64-v3"],
    "AVX512_CORE": ["-march=x86-64-v4"],
    "AVX512_CORE_VNNI": ["-march=x86-64-v4", "-mavx512vnni"],
    "AVX512_CORE_BF16": ["-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16"],
    "AVX512_CORE_AMX": [
        *("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16", "-mavx512fp16"),
        *("-mamx-tile", "-mamx-bf16", "-mamx-int8"),
    ],
}
IN_WHEEL = Path(__file__).with_name("compiled")
COMPILER = re.compile(r"(.*-)?(g\+\+|c\+\+|clang\+\+|gcc|cc|clang|icpx|icx)(-[\d.]+)?")
INSTALL = "install g++, or set CXX to a C++ compiler"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compiled:
    """A source's functions on this machine, or why there are none."""

    library: ctypes.CDLL | None = None
    compiler: str | None = None  # name and version, such as "g++ 12.2.0"
    reason: str | None = None  # why there is no library; records hold it, so it contains no path


class NotCompiled(Exception):
    """Why a source cannot be compiled here, and what the user can do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


@cache
def compiled(
    source: Path, structs: tuple[type[ctypes.Structure], ...] = (), included: tuple[Path, ...] = ()
) -> Compiled:
    """Load a source's functions; where no wheel has them, compile it. If that fails, a warning says why and what to do.

    ``structs`` mirror the structs that the functions take, in the order of ``layout`` in the source. ``included`` are
    our own files that it includes. Raises RuntimeError if the structs differ from the source's.
    """
    if platform.system() != "Linux":
        return Compiled(reason="our C++ is compiled only on Linux")
    file, name = None, None
    if not os.environ.get("CXX", "").strip():
        file, name = in_wheel(source)
    try:
        if file is None:
            command, name = compiler()
            file = _build(command, name, source, included)
        library = _load(file, source)
    except NotCompiled as error:
        log.warning("PyTorch's slower code is used instead of %s: %s; %s", source.name, error, error.remedy)
        return Compiled(compiler=name, reason=str(error))
    check_layout(library, structs, source.name)
    return Compiled(library, name)


def in_wheel(source: Path) -> tuple[Path | None, str | None]:
    """The library of a source that the wheel has for this processor, and what compiled it; None, None without one."""
    known = level()
    levels = list(LEVEL_OPTIONS)[: list(LEVEL_OPTIONS).index(known) + 1] if known else []
    for name in reversed(levels):  # the compiler of the wheel may not have known the highest
        file = IN_WHEEL / f"{source.stem}-{name}.so"
        if file.is_file():
            made_by = (IN_WHEEL / "compiler.txt").read_text(encoding="utf-8").strip()
            return file, f"{made_by} for {name}, in the wheel"
    return None, None


class LayoutEntry(ctypes.Structure):
    """``struct LayoutEntry`` of our sources: a struct's size, or the offset of the field of that name."""

    _fields_ = [("name", ctypes.c_char_p), ("value", ctypes.c_int64)]


def check_layout(library: ctypes.CDLL, structs: tuple[type[ctypes.Structure], ...], name: str) -> None:
    """Raise RuntimeError if ``layout``, the source's struct sizes and field offsets, differs from these structs'."""
    ours: list[tuple[bytes | None, int]] = []
    for struct in structs:
        fields = [each[0] for each in struct._fields_]
        ours += [(b"size", ctypes.sizeof(struct))]
        ours += [(field.encode(), getattr(struct, field).offset) for field in fields]
    if not structs:
        return
    start = ctypes.cast(ctypes.addressof(LayoutEntry.in_dll(library, "layout")), ctypes.POINTER(LayoutEntry))
    theirs = [(each.name, each.value) for each in takewhile(lambda each: each.name, map(start.__getitem__, count()))]
    if ours != theirs:
        raise RuntimeError(f"the structs of {name} differ from their Python mirrors: {theirs}, not {ours}")


def compiler() -> tuple[list[str], str]:
    """The command in ``CXX``, or g++, and the compiler's name and version. Raises NotCompiled if there is none."""
    given = os.environ.get("CXX", "").strip()
    try:
        command = shlex.split(given) or ["g++"]
    except ValueError as error:
        raise NotCompiled(f"CXX cannot be read as a command: {error}", "correct CXX, or unset it") from None
    name = Path(command[0]).name
    if shutil.which(command[0]) is None:
        reason = f"CXX names {name}, which is not there" if given else "no compiler: g++ is not installed"
        raise NotCompiled(reason, INSTALL)
    name = next((word for word in (Path(each).name for each in command) if COMPILER.fullmatch(word)), name)
    try:
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise NotCompiled(f"{name} cannot be started: {error.strerror}", INSTALL) from None
    version = re.search(r"\d+(\.\d+)+", said.stdout.partition("\n")[0].rpartition(")")[2] or said.stdout)
    return command, f"{name} {version[0]}" if version else name


def _build(command: list[str], name: str, source: Path, included: tuple[Path, ...]) -> Path:
    """The library in the user's cache; compiled in seconds if the cache has none of the same code and processor."""
    x86 = X86_OPTIONS if platform.machine() in ("x86_64", "AMD64") else []
    command = [*command, *OPTIONS, "-march=native", *x86, *compiler_flags()]
    texts = [each.read_text(encoding="utf-8") for each in (source, *included)]
    key = "\0".join([*texts, name, *command, *sorted(features())])
    given = os.environ.get("BERT_ATLAS_CACHE")
    try:
        folder = (Path(given).expanduser() if given else platformdirs.user_cache_path("bert-atlas")) / "compiled"
        target = folder / f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
        if target.is_file():
            return target
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            partial = Path(unfinished) / target.name
            _compile([*command, str(source), "-o", str(partial)], name)
            partial.replace(target)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        reason = f"the cache cannot be written: {getattr(error, 'strerror', None) or error}"
        raise NotCompiled(reason, "set BERT_ATLAS_CACHE to a folder that can be written") from None
    return target


def _compile(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        log.warning("%s:\n%s", shlex.join(command), done.stderr.strip())
        raise NotCompiled(f"{name} does not compile it (exit code {done.returncode})", "set CXX to another compiler")
    if not Path(command[-1]).is_file():
        raise NotCompiled(f"{name} exited without an error but wrote no library", "set CXX to another compiler")


def _load(library: Path, source: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        log.warning("%s: %s", source.name, error)
        raise NotCompiled("the compiled library cannot be loaded", "set CXX to another compiler") from None
