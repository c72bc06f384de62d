"""Inference on the CPU: the layers of ``reference.model`` with their weights laid out once, and steps put together.

``freeze`` puts them in place. What they save (docs/records.md has the figures): PyTorch lays a weight out anew
at every product; gelu and the residual are added to the sums of a product while these are in the cache; and memory
that was freed is not given back to the system, which would clear it page by page before the next layer gets it.
``FrozenLayer`` does that by oneDNN. With a compiler, and a processor with AVX2 or more, all layers are one call
of our own (``reference.native``), which also saves what lies between a product and the next.
"""

import ctypes
import sys
from collections.abc import Iterable
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from reference.model import ACTIVATIONS, Bert, BertConfig, Layer, Layers, Packed, fill
from reference.native import LaidOut, built, routine_for, to_int8, why_none
from reference.processor import multiplies

# Activations that oneDNN computes behind a product: its name for the operation, and for the algorithm.
FUSED = {"gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh"), "gelu_pytorch_tanh": ("gelu", "tanh")}
FUSED |= {"relu": ("relu", "")}
NAMES = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
KEEP = {-1: 2**31 - 1, -3: 2**30}  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3), in bytes; it takes an int


def freeze(module: nn.Module, int8: bool = False) -> nn.Module:
    """Change a ``Bert``, or a head on one, for inference alone: the same function, faster.

    It can no longer be trained, moved or saved. Where nothing would be gained (on a GPU, in float64, without oneDNN)
    the layers stay as they are. Of bfloat16 and float16, where the processor has no such products, all becomes
    float32, with the weights that it has. With ``int8`` the linear layers multiply 8-bit integers: weights scaled for
    each output, and rows for each token as they come.
    """
    bert = cast(Bert, getattr(module, "bert", module))
    layers, weight = [cast(Layer, layer) for layer in bert.layers], bert.embeddings.word.weight
    widened = not int8 and weight.is_cpu and lacks_products(weight.dtype)
    precision = "int8" if int8 else NAMES[torch.float32 if widened else weight.dtype]
    routine = routine_for(bert.config, layers, precision) if weight.is_cpu else None
    if routine:
        bert.layers = CompiledLayers(LaidOut(layers, routine))
    elif int8 or fits(weight.device, precision):
        reason = why_none(bert.config, layers, precision)
        made = (FrozenLayer(layer.float() if widened else layer, bert.config, int8) for layer in layers)
        bert.layers = FrozenLayers(made, reason)
    if widened:
        frozen, bert.layers = bert.layers, Layers()
        module.float()
        bert.layers = frozen if layers and isinstance(frozen[0], Frozen) else frozen.float()
    return module.eval().requires_grad_(False)


def lacks_products(dtype: torch.dtype) -> bool:
    """Whether this processor computes products of such numbers only in float32, or slowly."""
    return dtype in (torch.bfloat16, torch.float16) and not multiplies(NAMES[dtype])


def fits(device: torch.device, precision: str) -> bool:
    """Whether oneDNN computes products in this precision there."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if precision == "bf16":
        return multiplies(precision) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return precision == "fp32"


def computed_by(module: nn.Module) -> dict[str, str | None]:
    """Which of the compiled functions a frozen module computes with, of which compiler; or the reason why of none.

    There is no reason for one that is not frozen: nothing is compiled for it.
    """
    layers = getattr(module, "bert", module).layers
    if isinstance(layers, CompiledLayers):
        return {"functions": layers.laid_out.routine.name, "compiler": built().compiler, "reason": None}
    reason = layers.reason if isinstance(layers, FrozenLayers) else None
    return {"functions": None, "compiler": built().compiler, "reason": reason}


class FrozenLinear:
    """x W^T + b and what follows it. Rows [T, inputs] -> [T, outputs]"""

    def __init__(self, linear: nn.Linear, activation: str = "") -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = linear.bias.detach()
        self.operation, self.algorithm = FUSED[activation] if activation else ("none", "")

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, self.operation, [], self.algorithm)

    def plus(self, rows: Tensor, residual: Tensor) -> Tensor:
        """The product and bias added to ``residual`` [T, outputs]."""
        return torch.ops.mkldnn._linear_pointwise.binary(rows, residual, self.weight, self.bias, "add")


class Int8Linear:
    """The same in 8-bit integers, as ``native_layers.cpp`` computes it; for where that does not."""

    def __init__(self, linear: nn.Linear, activation: str = "") -> None:
        self.weight, self.scale = to_int8(linear.weight.detach())
        self.bias, self.activation = linear.bias.detach(), ACTIVATIONS.get(activation)

    def __call__(self, rows: Tensor) -> Tensor:
        whole, scale = to_int8(rows)
        product = torch._int_mm(whole, self.weight.t()) * (scale * self.scale.t()) + self.bias.float()
        return (self.activation(product) if self.activation else product).to(rows.dtype)

    def plus(self, rows: Tensor, residual: Tensor) -> Tensor:
        """The product and bias added to ``residual`` [T, outputs]."""
        return self(rows) + residual


class Frozen(nn.Module):
    """A layer whose weights are no longer where PyTorch finds them."""

    def _apply(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("a frozen model cannot be moved or cast; load it anew")

    def _save_to_state_dict(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("a frozen model has no weights to save; load it unfrozen")


class FrozenLayer(Frozen):
    """What ``Layer`` computes when it is not trained."""

    def __init__(self, layer: Layer, config: BertConfig, int8: bool) -> None:
        super().__init__()
        linear = Int8Linear if int8 else FrozenLinear
        self.heads, self.attend = layer.attention.heads, layer.attention.attend
        self.qkv, self.output = linear(layer.attention.qkv), linear(layer.attention.output)
        self.up, self.down = linear(layer.up, config.hidden_act), linear(layer.down)
        self.attention_norm, self.output_norm = layer.attention_norm, layer.output_norm

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        qkv = self.qkv(hidden).unflatten(-1, (3, self.heads, -1))  # [T, 3, N, D]
        context = self.attend(qkv[: batch.ids.numel()], batch, 0.0).flatten(1)  # [T, H]
        hidden = self.attention_norm(self.output.plus(fill(context, len(hidden)), hidden))
        return self.output_norm(self.down.plus(self.up(hidden), hidden))


class FrozenLayers(Layers):
    """All of them, where nothing compiled is made for them; ``reason`` says why."""

    def __init__(self, layers: Iterable[nn.Module], reason: str | None) -> None:
        super().__init__(layers)
        self.reason = reason


class CompiledLayer(Frozen):
    """One of the layers of ``laid_out``."""

    def __init__(self, laid_out: LaidOut, number: int) -> None:
        super().__init__()
        self.laid_out, self.number = laid_out, number

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        return self.laid_out.encode(hidden, batch, self.number, self.number + 1)


class CompiledLayers(Layers):
    """All of them in one call."""

    def __init__(self, laid_out: LaidOut) -> None:
        super().__init__(CompiledLayer(laid_out, number) for number in range(len(laid_out)))
        self.laid_out = laid_out

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        return self.laid_out.encode(hidden, batch, 0, len(self))


def keep_freed_memory() -> None:
    """Tell the C library to reuse large blocks instead of returning them to the system; glibc alone can be told.

    It helps training too, as every step frees what the next one needs.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
        for parameter, size in KEEP.items():
            libc.mallopt(parameter, size)
