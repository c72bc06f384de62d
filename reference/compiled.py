"""C++ of ours, compiled for this processor when it is first wanted, where there is a compiler."""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import platformdirs

COMMAND = [
    "-std=c++20",
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fno-math-errno",
    "-fopenmp",
    "-shared",
    "-fPIC",
]


@cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """Its functions; None without a compiler, or where it does not compile, which is logged."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None or platform.system() != "Linux":
        return None
    try:
        return ctypes.CDLL(str(_build(compiler, source)))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        logging.getLogger(__name__).warning("PyTorch's own code is used: %s is not compiled: %s", source, said)
        return None


def processor_features() -> list[str]:
    """What the processor can do, in Linux' words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split() for line in lines if line.startswith("flags")), [])


def _build(compiler: str, source: Path) -> Path:
    """The library in the user's cache; compiled in seconds where the same was not before, on the same processor."""
    made_of = "\0".join([source.read_text(), compiler, *COMMAND, *processor_features()])
    given = os.environ.get("BERT_ATLAS_CACHE")
    folder = (Path(given).expanduser() if given else platformdirs.user_cache_path("bert-atlas")) / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{source.stem}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            partial = Path(unfinished) / target.name
            command = [compiler, *COMMAND, str(source), "-o", str(partial)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            partial.replace(target)
    return target
