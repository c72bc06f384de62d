"""What this processor can do, less what the user hides of it, as on a smaller one: for tests, and for comparisons.

Libraries have switches of the same kind: ``ONEDNN_MAX_CPU_ISA``, whose words ours takes, and ``ATEN_CPU_CAPABILITY``
of PyTorch. To see what a smaller processor does, set all three.
"""

import os
import platform
from collections.abc import Iterable
from pathlib import Path

SWITCH = "BERT_ATLAS_MAX_CPU_ISA"
# What each level adds to those before it, in Linux' words.
LEVELS: dict[str, frozenset[str]] = {
    "AVX2": frozenset(),
    "AVX512_CORE": frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    "AVX512_CORE_VNNI": frozenset({"avx512_vnni"}),
    "AVX512_CORE_BF16": frozenset({"avx512_bf16"}),
    "AVX512_CORE_AMX": frozenset({"avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"}),
}
BEYOND_AVX2 = ("avx512", "avx10", "avx_", "amx_")  # how the names of all that came later begin
# Instructions for products, of which one is enough; on Arm they are called bf16, asimdhp and i8mm.
PRODUCTS = {
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "fp16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
    "int8": frozenset({"avx512_vnni", "amx_int8"}),
}
# What compilers must be kept from where it is hidden.
FLAGS = {
    "avx512f": "-mno-avx512f",  # and with it all of AVX-512
    "avx512_vnni": "-mno-avx512vnni",
    "avx512_bf16": "-mno-avx512bf16",
    "avx512_fp16": "-mno-avx512fp16",
    "amx_tile": "-mno-amx-tile",
    "amx_bf16": "-mno-amx-bf16",
    "amx_int8": "-mno-amx-int8",
    "avx_vnni": "-mno-avxvnni",
}


def features() -> frozenset[str]:
    """What may be used of the processor, in Linux' words; nothing on other systems.

    ValueError where ``BERT_ATLAS_MAX_CPU_ISA`` is none of the levels.
    """
    found = _all_features()
    return found - hidden(found)


def hidden(found: Iterable[str] | None = None) -> frozenset[str]:
    """Those of these features (of this processor's) that ``BERT_ATLAS_MAX_CPU_ISA`` hides; ValueError as above."""
    level = os.environ.get(SWITCH, "").upper()
    if not level:
        return frozenset()
    if level not in LEVELS:
        raise ValueError(f"{SWITCH}={level} is not one of {', '.join(LEVELS)}")
    names = list(LEVELS)
    kept = frozenset().union(*(LEVELS[name] for name in names[: names.index(level) + 1]))
    everything = _all_features() if found is None else found
    return frozenset(each for each in everything if each.startswith(BEYOND_AVX2)) - kept


def compiler_flags() -> list[str]:
    """What keeps a compiler from instructions that are hidden."""
    return [FLAGS[name] for name in sorted(hidden()) if name in FLAGS]


def multiplies(precision: str) -> bool:
    """Whether this processor has instructions for products in "bf16", "fp16" or "int8"."""
    return not PRODUCTS[precision].isdisjoint(features() | seen_by_torch())


def seen_by_torch() -> frozenset[str]:
    """What PyTorch knows of the processor, on other systems too."""
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
