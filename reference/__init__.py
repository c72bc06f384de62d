"""The reference: BERT in PyTorch, readable in one sitting, numerically exact.

>>> import reference
>>> model = reference.load("path/to/a/checkpoint")
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def load(
    folder: Path | str,
    head: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    frozen: bool = False,
) -> "torch.nn.Module":
    """A ``reference.model.Bert``, or a head of ``reference.heads.HEADS`` on one, ready to use.

    ``folder`` is a Hugging Face folder, a folder of Google's or a TensorFlow checkpoint. ``device`` "auto" is
    CUDA where there is one. ``frozen`` is for inference alone and faster on a CPU (``reference.kernels``).
    ``precision`` "auto" is bf16 where the device is fast at it (on a CPU only if frozen) and fp32 elsewhere; what
    was chosen stands in the module's attributes ``device_used`` and ``precision_used``. "int8" is for frozen models
    on a CPU. With a model on the CPU this process keeps the memory that it frees.
    Raises CheckpointError, naming the tensors, where the checkpoint does not hold what was asked for, and ValueError
    for a device or precision that is not to be had.
    """
    from reference.checkpoint import build, read
    from reference.kernels import freeze, keep_freed_memory

    device = resolve_device(device)
    if precision == "auto" and frozen and device == "cpu" and fast_bf16():
        precision = "bf16"
    precision = resolve_precision(precision, device)
    int8 = precision == "int8"
    if int8 and not (frozen and device == "cpu"):
        raise ValueError("precision 'int8' is for frozen models on a CPU")
    module = build(read(folder), head, torch_dtype("bf16" if int8 else precision)).to(device)
    if frozen:
        freeze(module, int8)
    if device == "cpu":
        keep_freed_memory()
    module.device_used, module.precision_used = device, precision  # type: ignore[assignment]
    return module


def fast_bf16() -> bool:
    """Whether this processor multiplies bf16 itself: AMX, or AVX-512 with BF16."""
    import torch

    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


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
