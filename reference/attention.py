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
# What -ffast-math allows, but for what it would do to the whole process: numbers near zero stay as they are.
FLAGS = [
    "-std=c++20",
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fopenmp",
    "-shared",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
    "-ffinite-math-only",
]
FUNCTIONS = {torch.float32: "attention_fp32", torch.bfloat16: "attention_bf16"}


def compiled_attention(qkv: Tensor, batch: Packed, drop: float) -> Tensor:
    """What ``reference.model.attention`` computes, and by it where this was not compiled for the case at hand.

    qkv [T, 3, N, D] -> [T, N, D]. ValueError where the lengths are not those of the tokens.
    """
    tokens, _, heads, size = qkv.shape
    if sum(batch.lengths) != tokens:
        raise ValueError(f"the lengths add up to {sum(batch.lengths)}, but there are {tokens} tokens")
    found = library()
    if found is None or drop or not qkv.is_cpu or qkv.dtype not in FUNCTIONS or size % 2:
        return attention(qkv, batch, drop)
    qkv, context = qkv.contiguous(), qkv.new_empty(tokens, heads, size)
    getattr(found, FUNCTIONS[qkv.dtype])(
        qkv.data_ptr(), batch.cu_seqlens.data_ptr(), len(batch.lengths), max(batch.lengths), heads, size,
        context.data_ptr(),
    )  # fmt: skip
    return context


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None on a processor without AVX-512, or where there is no compiler."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    suits = platform.system() == "Linux" and torch.backends.cpu.get_cpu_capability() == "AVX512"
    if compiler is None or not suits or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    try:
        found = ctypes.CDLL(str(_build(compiler)))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        logging.getLogger(__name__).warning("attention is PyTorch's own: %s could not be compiled: %s", SOURCE, said)
        return None
    numbers = [ctypes.c_int64] * 4
    for name in FUNCTIONS.values():
        getattr(found, name).argtypes = [ctypes.c_void_p, ctypes.c_void_p, *numbers, ctypes.c_void_p]
        getattr(found, name).restype = None
    return found


def _build(compiler: str) -> Path:
    """The library in the user's cache; compiled in a second where the same was not before, on the same processor."""
    torch_libraries = Path(torch.__file__).parent / "lib"
    command = [compiler, *FLAGS, str(SOURCE), f"-L{torch_libraries}", "-ltorch_cpu", f"-Wl,-rpath,{torch_libraries}"]
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")][:1]
    made_of = "\0".join([SOURCE.read_text(), *command, torch.__version__, *processor])
    given = os.environ.get("BERT_ATLAS_CACHE")
    folder = (Path(given).expanduser() if given else platformdirs.user_cache_path("bert-atlas")) / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"attention-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            partial = Path(unfinished) / target.name
            subprocess.run([*command, "-o", str(partial)], check=True, capture_output=True, text=True)
            partial.replace(target)
    return target
