"""AdamW (Loshchilov and Hutter 2019) in mixed precision on a CPU; ``adamw.cpp`` does a step in one pass over memory."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reference.compile import Compiled, compiled

SOURCE = Path(__file__).with_name("adamw.cpp")
BETAS, EPSILON = (0.9, 0.999), 1e-8


class Weight(ctypes.Structure):
    """The struct of that name in ``adamw.cpp``."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("master", "mean", "square", "rounded", "gradient")]
    _fields_ += [("size", ctypes.c_int64), ("rate", ctypes.c_float), ("decay", ctypes.c_float)]


def built() -> Compiled:
    """The compiled functions, or why there are none."""
    return compiled(SOURCE, (Weight,))


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they are not."""
    found = built().library
    if found is not None:
        number, real, weights = ctypes.c_int64, ctypes.c_double, ctypes.POINTER(Weight)
        found.norm.restype, found.norm.argtypes = real, [weights, number, number]
        found.step.restype, found.step.argtypes = None, [weights, number, number, real, real, real, real, number]
    return found


class MixedAdamW(torch.optim.Optimizer):
    """For a module whose matrices are multiplied in bfloat16, while they are learned in float32.

    What autocast, ``clip_grad_norm_`` and torch's AdamW do together, down to rounding. Within ``rounded`` the module
    has its matrices in bfloat16, and ``step`` goes by their gradients.
    """

    def __init__(self, module: nn.Module, groups: list[dict[str, Any]], lr: float, max_grad_norm: float) -> None:
        """``groups`` are of parameters of the module, each with its ``weight_decay``."""
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.max_grad_norm, self.steps = max_grad_norm, 0
        self._linears = [each for each in module.modules() if isinstance(each, nn.Linear)]
        self._rounded = {each.weight: nn.Parameter(each.weight.detach().bfloat16()) for each in self._linears}
        self._weights: dict[Tensor, Weight] = {}
        self._gradients: list[Tensor] = []

    @staticmethod
    def available() -> bool:
        """Whether ``adamw.cpp`` could be compiled."""
        return library() is not None

    @contextmanager
    def rounded(self) -> Iterator[None]:
        """Meanwhile the module has matrices in bfloat16; afterwards its own again, with what was learned."""
        own = [linear.weight for linear in self._linears]
        for linear, weight in zip(self._linears, own, strict=True):
            linear.weight = self._rounded[weight]
            linear.weight.data.copy_(weight)
        try:
            yield
        finally:
            for linear, weight in zip(self._linears, own, strict=True):
                linear.weight = weight

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Also of the matrices in bfloat16."""
        super().zero_grad(set_to_none)
        for weight in self._rounded.values():
            weight.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Learn from the gradients, which are scaled first so that their norm is at most ``max_grad_norm``."""
        found, weights, threads = library(), list(self._with_gradients()), torch.get_num_threads()
        assert found is not None
        array = (Weight * len(weights))(*weights)
        ratio = self.max_grad_norm / (found.norm(array, len(weights), threads) + 1e-6)
        factor = 1.0 if ratio > 1 else ratio  # what is not a number stays so, as in torch
        self.steps += 1
        found.step(array, len(weights), self.steps, *BETAS, EPSILON, factor, threads)

    def _with_gradients(self) -> Iterator[Weight]:
        """Each parameter that has a gradient, as ``adamw.cpp`` takes it."""
        self._gradients = []  # kept as long as they are pointed to
        for group in self.param_groups:
            for master in group["params"]:
                rounded = self._rounded.get(master)
                gradient = master.grad if rounded is None else rounded.grad
                if gradient is None:
                    continue
                self._gradients.append(gradient.contiguous())
                weight = self._weights.get(master) or self._weight(master, rounded)
                weight.gradient = self._gradients[-1].data_ptr()
                weight.rate, weight.decay = group["lr"], group["weight_decay"]
                yield weight

    def _weight(self, master: Tensor, rounded: Tensor | None) -> Weight:
        state = self.state[master] = {name: torch.zeros_like(master) for name in ("mean", "square")}
        tensors = (master, state["mean"], state["square"], rounded)
        pointers = (None if each is None else each.data_ptr() for each in tensors)
        self._weights[master] = Weight(*pointers, size=master.numel())
        return self._weights[master]
