"""Between torch and numpy, for the implementations that compute with torch."""

from typing import Any

import numpy as np

from harness.port.batch import Batch
from harness.worker.messages import Array


def to_numpy(tensor: Any) -> Array:
    """A torch tensor as numpy: float64 stays, every other float becomes float32."""
    tensor = tensor.detach().cpu()
    array: Array = tensor.numpy() if tensor.dtype.itemsize == 8 else tensor.float().numpy()
    return array


def to_device(batch: Batch, device: str) -> tuple[Any, Any]:
    """Ids and segments of a batch as torch tensors on the device."""
    import torch

    return torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.segments).to(device)


def dtype(precision: str) -> Any:
    """The torch type of "fp64", "fp32", "bf16" or "fp16"; ValueError for anything else.

    The same as ``reference.torch_dtype``, for environments that ``reference`` is not in.
    """
    import torch

    names = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in names:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(names)}")
    return names[precision]


def synchronize(device: str) -> None:
    """Wait for a GPU; the CPU is never behind."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


def parameters_by_name(module: Any) -> dict[str, Array]:
    """Every weight of a module, float32 (float64 stays)."""
    return {name: np.ascontiguousarray(to_numpy(tensor)) for name, tensor in module.state_dict().items()}
