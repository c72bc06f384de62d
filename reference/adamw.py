"""AdamW (Loshchilov and Hutter 2019) in mixed precision on a CPU: ``adamw.cpp`` computes a step in one pass."""

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
    """``struct Weight`` of ``adamw.cpp``."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("master", "exp_avg", "exp_avg_sq", "rounded", "gradient")]
    _fields_ += [("size", ctypes.c_int64), ("lr", ctypes.c_float), ("weight_decay", ctypes.c_float)]


def built() -> Compiled:
    """The compiled functions with their compiler, or the reason why there are none."""
    return compiled(SOURCE, (Weight,))


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None if they could not be compiled."""
    found = built().library
    if found is not None:
        number, real, weights = ctypes.c_int64, ctypes.c_double, ctypes.POINTER(Weight)
        found.norm.restype, found.norm.argtypes = real, [weights, number, number]
        found.step.restype, found.step.argtypes = None, [weights, number, number, real, real, real, real, number]
    return found


class MixedAdamW(torch.optim.Optimizer):
    """Trains a module that multiplies in bfloat16, with master weights in float32.

    It computes what autocast, ``clip_grad_norm_`` and torch's AdamW compute together, up to rounding. Within
    ``rounded`` the module's linear layers have bfloat16 copies of their weights; ``step`` uses the copies' gradients.
    """

    def __init__(self, module: nn.Module, groups: list[dict[str, Any]], lr: float, max_grad_norm: float) -> None:
        """``groups``: the module's parameters, as for ``torch.optim.AdamW``, each group with its ``weight_decay``."""
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
        """Give the linear layers their weights in bfloat16; on exit, the float32 master weights, as trained."""
        masters = [linear.weight for linear in self._linears]
        for linear, weight in zip(self._linears, masters, strict=True):
            linear.weight = self._rounded[weight]
            linear.weight.data.copy_(weight)
        try:
            yield
        finally:
            for linear, weight in zip(self._linears, masters, strict=True):
                linear.weight = weight

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Also reset the gradients of the bfloat16 weights."""
        super().zero_grad(set_to_none)
        for weight in self._rounded.values():
            weight.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the weights, with the gradients scaled so that their norm is at most ``max_grad_norm``."""
        found, weights, threads = library(), list(self._with_gradients()), torch.get_num_threads()
        assert found is not None
        array = (Weight * len(weights))(*weights)
        ratio = self.max_grad_norm / (found.norm(array, len(weights), threads) + 1e-6)
        scale = 1.0 if ratio > 1 else ratio  # NaN stays NaN, as in torch
        self.steps += 1
        found.step(array, len(weights), self.steps, *BETAS, EPSILON, scale, threads)

    def _with_gradients(self) -> Iterator[Weight]:
        """The struct of each parameter that has a gradient."""
        self._gradients = []  # keeps alive the memory that the structs point to
        for group in self.param_groups:
            for master in group["params"]:
                rounded = self._rounded.get(master)
                gradient = master.grad if rounded is None else rounded.grad
                if gradient is None:
                    continue
                self._gradients.append(gradient.contiguous())
                weight = self._weights.get(master) or self._weight(master, rounded)
                weight.gradient = self._gradients[-1].data_ptr()
                weight.lr, weight.weight_decay = group["lr"], group["weight_decay"]
                yield weight

    def _weight(self, master: Tensor, rounded: Tensor | None) -> Weight:
        state = self.state[master] = {name: torch.zeros_like(master) for name in ("exp_avg", "exp_avg_sq")}
        tensors = (master, state["exp_avg"], state["exp_avg_sq"], rounded)
        pointers = (None if each is None else each.data_ptr() for each in tensors)
        self._weights[master] = Weight(*pointers, size=master.numel())
        return self._weights[master]
