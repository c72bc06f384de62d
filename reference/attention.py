"""``attention.cpp``, compiled for this processor when it is first wanted, where that can be done.

What it brings stands in docs/records.md: most where a batch has sequences of many lengths, nothing where all are long.
"""

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
import torch
from torch import Tensor

from reference.model import Packed, attention

SOURCE = Path(__file__).with_name("attention.cpp")
COMMAND = ["-std=c++20", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", str(SOURCE)]


def compiled_attention(qkv: Tensor, batch: Packed, drop: float) -> Tensor:
    """What ``reference.model.attention`` computes, and by it where this was not compiled for the case at hand.

    qkv [T, 3, N, D] -> [T, N, D]. ValueError where the lengths are not those of the tokens.
    """
    tokens, _, heads, size = qkv.shape
    if sum(batch.lengths) != tokens:
        raise ValueError(f"the lengths add up to {sum(batch.lengths)}, but there are {tokens} tokens")
    fits = qkv.is_cpu and qkv.dtype == torch.bfloat16 and size % 32 == 0 and not drop
    found = library() if fits else None
    if found is None:
        return attention(qkv, batch, drop)
    qkv, context = qkv.contiguous(), qkv.new_empty(tokens, heads, size)
    starts, sizes = batch.cu_seqlens.data_ptr(), (len(batch.lengths), max(batch.lengths), heads, size)
    found.attention(qkv.data_ptr(), starts, *sizes, context.data_ptr())
    return context


@cache
def library() -> ctypes.CDLL | None:
    """The compiled function; None without a compiler, or on a processor without AMX."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None or not (platform.system() == "Linux" and "amx_bf16" in _features()):
        return None
    try:
        found = ctypes.CDLL(str(_build(compiler)))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        logging.getLogger(__name__).warning("attention is PyTorch's own: %s could not be compiled: %s", SOURCE, said)
        return None
    found.attention.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 4, ctypes.c_void_p]
    found.attention.restype = None
    return found if found.ask_for_tiles() == 0 else None


def _features() -> list[str]:
    """What the processor can do, in Linux' words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split() for line in lines if line.startswith("flags")), [])


def _build(compiler: str) -> Path:
    """The library in the user's cache; compiled in a second where the same was not before, on the same processor."""
    made_of = "\0".join([SOURCE.read_text(), compiler, *COMMAND, *_features()])
    given = os.environ.get("BERT_ATLAS_CACHE")
    folder = (Path(given).expanduser() if given else platformdirs.user_cache_path("bert-atlas")) / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"attention-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            partial = Path(unfinished) / target.name
            subprocess.run([compiler, *COMMAND, "-o", str(partial)], check=True, capture_output=True, text=True)
            partial.replace(target)
    return target
