"""Dropout with cheap random numbers: on a CPU, PyTorch's own dropout takes a fifth of a training step."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dropout(values: Tensor, p: float) -> Tensor:
    """Zero each value with probability ``p``, and scale the others by 1 / (1 - p), so that the mean stays the same.

    On the CPU, PyTorch draws a 64-bit number for each value, on one core. Here one draw serves four values, 16 bits
    each, which rounds ``p`` to a multiple of 2^-16. The draws come from torch's default generator, so
    ``torch.manual_seed`` determines them.
    """
    if not values.is_cpu or p > 1 - 2**-16:
        return F.dropout(values, p)
    draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: values.numel()].view(values.shape)  # uniform from -2^15 to 2^15 - 1
    dropped = round(p * 2**16)  # this many of the 2^16 numbers
    keep = bits >= dropped - 2**15
    return values * (keep.to(values.dtype) * (2**16 / (2**16 - dropped)))


class Dropout(nn.Module):
    """The same as a module: the identity unless the model is in training."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        return dropout(values, self.p) if self.training and self.p else values
