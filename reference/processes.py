"""Several processes that train one model. With one process, nothing here does anything.

Every process knows the whole batch, as it is a function of the seed, and takes its share of the sequences. Gradients
are sums divided by the counts of the whole batch: a mean of the processes' means would weigh tokens unequally.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor


def join(device: torch.device) -> tuple[int, int]:
    """The rank of this process and the number of processes, as torchrun says; joins them."""
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size()


def meet(file: Path, rank: int, world: int, device: torch.device) -> None:
    """Join the other processes of this machine that name the same new file. They talk over the loopback interface."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=file.resolve().as_uri(), rank=rank, world_size=world)


def leave() -> None:
    """The end of the work of all processes."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def share(lengths: NDArray[np.int64], rank: int, world: int) -> NDArray[np.int64]:
    """The indices of this process's sequences: the longest first, each to the process with the fewest tokens."""
    by_length = np.argsort(-lengths, kind="stable")
    if world == 1:
        return by_length
    loads = np.zeros(world, np.int64)
    mine = []
    for index in by_length:
        target = int(np.argmin(loads))
        loads[target] += lengths[index]
        if target == rank:
            mine.append(index)
    return np.array(mine, np.int64)


def summed(values: list[float], device: torch.device) -> list[float]:
    """The sums of these numbers over all processes."""
    if not dist.is_available() or not dist.is_initialized():
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return [float(each) for each in tensor]


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Add the gradients of all processes, in one message; a process without sequences adds zeros."""
    if not dist.is_available() or not dist.is_initialized():
        return
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
