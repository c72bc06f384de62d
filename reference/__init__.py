"""The reference: BERT in PyTorch, readable in one sitting, numerically exact.

>>> import reference
>>> model = reference.load("path/to/a/checkpoint")
"""

import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from reference.model import BertConfig


def load(
    folder: Path | str,
    head: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    frozen: bool = False,
) -> "torch.nn.Module":
    """A ``reference.model.Bert``, or a head of ``reference.heads.HEADS`` on one, ready to use.

    ``folder`` is a Hugging Face folder, a folder of Google's or a TensorFlow checkpoint. ``device`` "auto" is
    CUDA where there is one. ``frozen`` is for inference alone and faster on a CPU (``reference.frozen``).
    ``precision`` "auto" is bf16 where the device is fast at it (on a CPU only if frozen) and fp32 elsewhere; what
    was chosen is in the module's attributes ``device_used`` and ``precision_used``. "int8" is for frozen models on a
    CPU where it is faster than float32. Of bf16 and fp16, on a CPU without such instructions, the module has the
    rounded weights, in float32; ``precision_computed`` says what products are computed in, and a warning once.
    With a model on the CPU this process keeps the memory that it frees.
    Raises CheckpointError, naming the tensors, where the checkpoint does not hold what was asked for, and ValueError
    for a device or precision that is not to be had.
    """
    from reference.checkpoint import build, read
    from reference.frozen import freeze, keep_freed_memory

    device = resolve_device(device)
    if precision == "auto" and frozen and device == "cpu" and fast_bf16():
        precision = "bf16"
    precision = resolve_precision(precision, device)
    int8 = precision == "int8"
    if int8 and not (frozen and device == "cpu"):
        raise ValueError("precision 'int8' is for frozen models on a CPU")
    checkpoint = read(folder)
    if int8 and (reason := no_int8(checkpoint.config)):
        raise ValueError(reason)
    stored = computed_precision("bf16", device) if int8 else precision  # what is not multiplied, in int8
    module = build(checkpoint, head, torch_dtype(stored)).to(device)
    if frozen:
        freeze(module, int8)
    computed = precision if int8 else cast(module, precision, device, frozen)
    if device == "cpu":
        keep_freed_memory()
    module.device_used, module.precision_used = device, precision  # type: ignore[assignment]
    module.precision_computed = computed  # type: ignore[assignment]
    return module


def cast(module: "torch.nn.Module", precision: str, device: str, frozen: bool = False) -> str:
    """Give a module's weights this precision, as ``load`` does; what products are computed in then.

    One that is ``frozen`` has it already.
    """
    computed = computed_precision(precision, device)
    if computed != precision:
        _say_once(f"products in {precision} are computed in float32, of rounded weights: this processor has none")
    if not frozen:
        module.to(torch_dtype(precision)).to(torch_dtype(computed))
    return computed


def fast_bf16() -> bool:
    """Whether this processor multiplies bf16 itself: AMX, or AVX-512 with BF16."""
    from reference.processor import seen_by_torch

    return not seen_by_torch().isdisjoint({"amx_bf16", "avx512_bf16"})


def computed_precision(precision: str, device: str) -> str:
    """What products are computed in: as asked, but float32 on a CPU that has no instructions for bf16 or fp16."""
    from reference.processor import multiplies

    return "fp32" if device == "cpu" and precision in ("bf16", "fp16") and not multiplies(precision) else precision


def no_int8(config: "BertConfig") -> str | None:
    """Why int8 would be slower than float32 on this machine, for such a model; None where it is faster."""
    from reference.native import routine_of_sizes
    from reference.processor import multiplies

    routine, reason = routine_of_sizes(config, "int8")
    if routine or multiplies("int8"):
        return None
    return f"precision 'int8' would be slower than float32 here: {reason}"


@cache
def _say_once(text: str) -> None:
    logging.getLogger(__name__).warning(text)


def resolve_device(device: str) -> str:
    """What "auto" means on this machine: cuda, else cpu."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        known = torch.device(device).type != "meta"  # has shapes, but no numbers
    except RuntimeError:
        known = False
    if not known:
        raise ValueError(f"device {device!r} is not one that torch computes on, such as cpu, cuda or cuda:1")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: this machine has no CUDA device that torch can use")
    return device


def resolve_precision(precision: str, device: str) -> str:
    """What "auto" means on this device: bf16 on a GPU that has it, else fp32."""
    import torch

    if precision == "auto":
        return "bf16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "fp32"
    return precision


def torch_dtype(precision: str) -> "torch.dtype":
    """The torch type of "fp64", "fp32", "bf16" or "fp16"; ValueError for anything else."""
    import torch

    names = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in names:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(names)}")
    return names[precision]
