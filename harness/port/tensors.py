"""Conversions between torch and numpy. torch is imported inside the functions: not every environment has it."""

from typing import Any

import numpy as np

from harness.port.batch import Array, Batch


def to_numpy(tensor: Any) -> Array:
    """A torch tensor as a numpy array; float64 stays, every other float becomes float32."""
    tensor = tensor.detach().cpu()
    array: Array = tensor.numpy() if tensor.dtype.itemsize == 8 else tensor.float().numpy()
    return array


def to_device(batch: Batch, device: str) -> tuple[Any, Any]:
    """Ids and segments of a batch as torch tensors on the device."""
    import torch

    return torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.segments).to(device)


def dtype(precision: str) -> Any:
    """The torch type of "fp64", "fp32", "bf16" or "fp16"; ValueError for anything else.

    The same as ``reference.torch_dtype``, for environments without ``reference``.
    """
    import torch

    names = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in names:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(names)}")
    return names[precision]


def synchronize(device: str) -> None:
    """Wait until a GPU has finished; on the CPU, torch is synchronous."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


def parameters_by_name(module: Any) -> dict[str, Array]:
    """All weights of a module as float32 (float64 stays)."""
    return {name: np.ascontiguousarray(to_numpy(tensor)) for name, tensor in module.state_dict().items()}
