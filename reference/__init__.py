"""The reference: BERT in PyTorch, readable in one sitting, numerically exact.

>>> import reference
>>> model = reference.load("path/to/a/checkpoint")
>>> vectors = reference.SentenceEncoder("minilm-l6").encode(["a sentence", "another"])
"""

import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from reference.encoder import SentenceEncoder as SentenceEncoder
    from reference.heads import Head
    from reference.model import Bert, BertConfig


def __getattr__(name: str) -> Any:
    """``SentenceEncoder``, imported when it is first asked for: importing torch takes a second."""
    if name != "SentenceEncoder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reference.encoder import SentenceEncoder

    return SentenceEncoder


def load(
    folder: Path | str,
    head: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    frozen: bool = False,
) -> "Bert | Head":
    """Load a ``reference.model.Bert``, or with ``head`` one of ``reference.heads.HEADS``, in eval mode.

    ``folder``: a Hugging Face folder, a folder of Google's, one file of weights or a TensorFlow checkpoint's prefix.
    ``device``: "auto" is CUDA if there is one, else the CPU. ``frozen``: only for inference, and faster on a CPU
    (``reference.frozen``).

    ``precision``: "auto" is bf16 where the device is fast at it (on a CPU only if frozen), else fp32. "int8" is for
    frozen models on a CPU that computes it faster than float32. On a CPU without instructions for bf16 or fp16, these
    mean rounded weights in float32, and a warning says so once.

    The module's attributes say what was chosen: ``device_used``, ``precision_used``, and ``precision_computed``, in
    which the products are computed. With a model on the CPU this process keeps the memory that it frees.

    Raises CheckpointError, which names the tensors, if the checkpoint lacks what was asked for, and ValueError for a
    device or precision that is not available.
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
    stored = computed_precision("bf16", device) if int8 else precision  # of the weights that are not quantised
    module = build(checkpoint, head, torch_dtype(stored)).to(device)
    if frozen:
        freeze(module, int8)
    computed = precision if int8 else cast(module, precision, device, frozen)
    if device == "cpu":
        keep_freed_memory()
    module.device_used, module.precision_used, module.precision_computed = device, precision, computed
    return module


def cast(module: "torch.nn.Module", precision: str, device: str, frozen: bool = False) -> str:
    """Cast a module's weights to a precision, as ``load`` does, and return the precision of its products.

    A ``frozen`` module already has the precision, and is left as it is.
    """
    computed = computed_precision(precision, device)
    if computed != precision:
        _warn_once(f"this processor has no instructions for {precision}: computing in float32 with rounded weights")
    if not frozen:
        module.to(torch_dtype(precision)).to(torch_dtype(computed))
    return computed


def fast_bf16() -> bool:
    """Whether this processor has instructions for products in bf16: AMX or AVX-512 BF16."""
    from reference.processor import seen_by_torch

    return not seen_by_torch().isdisjoint({"amx_bf16", "avx512_bf16"})


def computed_precision(precision: str, device: str) -> str:
    """The precision of products: as asked, but "fp32" on a CPU without instructions for bf16 or fp16."""
    from reference.processor import multiplies

    return "fp32" if device == "cpu" and precision in ("bf16", "fp16") and not multiplies(precision) else precision


def no_int8(config: "BertConfig") -> str | None:
    """Why int8 would be slower than float32 for such a model on this machine; None if it is faster."""
    from reference.native import routine_of_sizes
    from reference.processor import multiplies

    routine, reason = routine_of_sizes(config, "int8")
    if routine or multiplies("int8"):
        return None
    return f"precision 'int8' would be slower than float32 here: {reason}"


@cache
def _warn_once(text: str) -> None:
    logging.getLogger(__name__).warning(text)


def resolve_device(device: str) -> str:
    """The device to use: "auto" is "cuda" if there is one, else "cpu".

    Raises ValueError for a device that torch cannot use.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        known = torch.device(device).type != "meta"  # a device of shapes without numbers
    except RuntimeError:
        known = False
    if not known:
        raise ValueError(f"device {device!r} is not one that torch computes on, such as cpu, cuda or cuda:1")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: this machine has no CUDA device that torch can use")
    return device


def resolve_precision(precision: str, device: str) -> str:
    """The precision to use: "auto" is "bf16" on a GPU that supports it, else "fp32"."""
    import torch

    if precision == "auto":
        return "bf16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "fp32"
    return precision


def torch_dtype(precision: str) -> "torch.dtype":
    """The torch type of "fp64", "fp32", "bf16" or "fp16". Raises ValueError for anything else."""
    import torch

    names = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in names:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(names)}")
    return names[precision]
