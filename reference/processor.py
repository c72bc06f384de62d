"""The instruction sets of this processor, except those that the user hides, for tests and comparisons.

``BERT_ATLAS_MAX_CPU_ISA`` hides them from our code, as ``ONEDNN_MAX_CPU_ISA``, which has the same values, does from
oneDNN and ``ATEN_CPU_CAPABILITY`` from PyTorch. Set all three to emulate a smaller processor.
"""

import os
import platform
from collections.abc import Iterable
from pathlib import Path

SWITCH = "BERT_ATLAS_MAX_CPU_ISA"
# The features that each level adds to those before it, by Linux' names.
LEVELS: dict[str, frozenset[str]] = {
    "AVX2": frozenset(),
    "AVX512_CORE": frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    "AVX512_CORE_VNNI": frozenset({"avx512_vnni"}),
    "AVX512_CORE_BF16": frozenset({"avx512_bf16"}),
    "AVX512_CORE_AMX": frozenset({"avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"}),
}
# What compilers assume of a processor of level AVX2, which they call x86-64-v3.
AVX2 = frozenset({"avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe"})
BEYOND_AVX2 = ("avx512", "avx10", "avx_", "amx_")  # prefixes of all later features
# Features with instructions for products, any of which is enough; bf16 and asimdhp are Arm's.
PRODUCTS = {
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "fp16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
    "int8": frozenset({"avx512_vnni", "amx_int8"}),
}
# The compiler flags that disable hidden features.
FLAGS = {
    "avx512f": "-mno-avx512f",  # disables all of AVX-512
    "avx512_vnni": "-mno-avx512vnni",
    "avx512_bf16": "-mno-avx512bf16",
    "avx512_fp16": "-mno-avx512fp16",
    "amx_tile": "-mno-amx-tile",
    "amx_bf16": "-mno-amx-bf16",
    "amx_int8": "-mno-amx-int8",
    "avx_vnni": "-mno-avxvnni",
}


def features() -> frozenset[str]:
    """The processor's features that may be used, by Linux' names; none on other systems.

    Raises ValueError if ``BERT_ATLAS_MAX_CPU_ISA`` is not one of the levels.
    """
    found = _all_features()
    return found - hidden(found)


def hidden(found: Iterable[str] | None = None) -> frozenset[str]:
    """The features among ``found``, or this processor's, that ``BERT_ATLAS_MAX_CPU_ISA`` hides.

    Raises ValueError as ``features`` does.
    """
    level = os.environ.get(SWITCH, "").upper()
    if not level:
        return frozenset()
    if level not in LEVELS:
        raise ValueError(f"{SWITCH}={level} is not one of {', '.join(LEVELS)}")
    names = list(LEVELS)
    kept = frozenset().union(*(LEVELS[name] for name in names[: names.index(level) + 1]))
    everything = _all_features() if found is None else found
    return frozenset(each for each in everything if each.startswith(BEYOND_AVX2)) - kept


def level() -> str | None:
    """The highest level all of whose features may be used; None if AVX2 is not there. Raises ValueError likewise."""
    found, highest = features(), None
    if found >= AVX2:
        for name, added in LEVELS.items():
            if not found >= added:
                break
            highest = name
    return highest


def compiler_flags() -> list[str]:
    """The flags that keep a compiler from using hidden features."""
    return [FLAGS[name] for name in sorted(hidden()) if name in FLAGS]


def multiplies(precision: str) -> bool:
    """Whether this processor has instructions for products in "bf16", "fp16" or "int8"."""
    return not PRODUCTS[precision].isdisjoint(features() | seen_by_torch())


def seen_by_torch() -> frozenset[str]:
    """The processor's features as PyTorch reports them, also on other systems than Linux."""
    import torch

    asked = {
        "amx_bf16": torch.cpu._is_amx_tile_supported,
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported,
        "avx512_vnni": torch.cpu._is_vnni_supported,
    }
    found = frozenset(name for name, is_there in asked.items() if is_there())
    return found - hidden(found)


def _all_features() -> frozenset[str]:
    if platform.system() != "Linux":
        return frozenset()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((frozenset(line.split()) for line in lines if line.startswith(("flags", "Features"))), frozenset())
