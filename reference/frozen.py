"""Inference on the CPU: ``freeze`` replaces the layers of ``reference.model`` by faster ones with packed weights.

PyTorch repacks a weight at every product. Frozen layers pack it once, and apply gelu and add the residual while a
product is in the cache. They also reuse freed memory, which the system would otherwise clear page by page before the
next layer gets it. docs/records.md has the figures.

There are two kinds. ``NativeLayers`` compute all layers in one call of our C++ (``reference.native``), which needs a
compiler and a processor with AVX2, and also saves the time between the products. ``FrozenLayer`` is for all other
cases: it calls oneDNN's fused linear layers, or PyTorch's product of 8-bit integers.
"""

import ctypes
import logging
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from reference.model import ACTIVATIONS, Bert, BertConfig, Layer, Layers, Packed, fill
from reference.native import PackedLayers, built, routine_for, to_int8, why_none
from reference.processor import multiplies

# Activations that oneDNN fuses with a product: its names for the operation and for the algorithm.
FUSED = {"gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh"), "gelu_pytorch_tanh": ("gelu", "tanh")}
FUSED |= {"relu": ("relu", "")}
NAMES = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
KEEP = {-1: 2**31 - 1, -3: 2**30}  # bytes, as an int, for mallopt(3)'s M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
log = logging.getLogger(__name__)


def freeze(module: nn.Module, int8: bool = False) -> nn.Module:
    """Change a ``Bert``, or a head on one, for inference: it computes the same, faster, and is returned.

    It can no longer be trained, moved, cast or saved. The layers stay as they are where nothing is gained: on a GPU, in
    float64, without oneDNN. If the processor has no instructions for products in bfloat16 or float16, a module in these
    becomes float32, with its rounded weights. With ``int8``, linear layers multiply 8-bit integers: the weights are
    quantised for each output, the activations for each token when they are computed.

    If the layers of a model on the CPU cannot be computed by compiled code, the log says why, once, at level INFO. If
    the user can do something about it, a warning of ``reference.compile`` says what.
    """
    bert = cast(Bert, getattr(module, "bert", module))
    layers, weight = [cast(Layer, layer) for layer in bert.layers], bert.embeddings.word.weight
    widened = not int8 and weight.is_cpu and lacks_products(weight.dtype)
    precision = "int8" if int8 else NAMES[torch.float32 if widened else weight.dtype]
    routine = routine_for(bert.config, layers, precision) if weight.is_cpu else None
    if routine:
        bert.layers = NativeLayers(PackedLayers(layers, routine))
    elif weight.is_cpu:
        reason, by_onednn = why_none(bert.config, layers, precision), fits(weight.device, precision)
        if int8 or by_onednn:
            replaced = (FrozenLayer(layer.float() if widened else layer, bert.config, int8) for layer in layers)
            bert.layers = FrozenLayers(replaced, reason)
        _log_slower_layers("oneDNN" if by_onednn else "PyTorch", reason)
    if widened:  # all but the layers, which are frozen by now
        frozen, bert.layers = bert.layers, Layers()
        module.float()
        bert.layers = frozen if layers and isinstance(frozen[0], Frozen) else frozen.float()
    return module.eval().requires_grad_(False)


@cache
def _log_slower_layers(instead: str, reason: str | None) -> None:
    log.info("the layers are computed by %s, more slowly than by native_layers.cpp: %s", instead, reason)


def lacks_products(dtype: torch.dtype) -> bool:
    """Whether the type is bfloat16 or float16 and this processor has no instructions for products in it."""
    return dtype in (torch.bfloat16, torch.float16) and not multiplies(NAMES[dtype])


def fits(device: torch.device, precision: str) -> bool:
    """Whether oneDNN computes products in this precision on the device."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if precision == "bf16":
        return multiplies(precision) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return precision == "fp32"


def computed_by(module: nn.Module) -> dict[str, str | None]:
    """The compiled function that a module's layers call ("functions"), its compiler, or the reason why they call none.

    Without a function there is a reason only for a frozen module: nothing is compiled for others.
    """
    layers = getattr(module, "bert", module).layers
    if isinstance(layers, NativeLayers):
        return {"functions": layers.packed.routine.name, "compiler": built().compiler, "reason": None}
    reason = layers.reason if isinstance(layers, FrozenLayers) else None
    return {"functions": None, "compiler": built().compiler, "reason": reason}


class OneDNNLinear:
    """A linear layer, with the activation that follows it if there is one. [T, inputs] -> [T, outputs]"""

    def __init__(self, linear: nn.Linear, activation: str = "") -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = linear.bias.detach()
        self.operation, self.algorithm = FUSED[activation] if activation else ("none", "")

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, self.operation, [], self.algorithm)

    def plus(self, rows: Tensor, residual: Tensor) -> Tensor:
        """The linear layer's output added to ``residual`` [T, outputs]."""
        return torch.ops.mkldnn._linear_pointwise.binary(rows, residual, self.weight, self.bias, "add")


class Int8Linear:
    """The same in 8-bit integers, by PyTorch. It quantises as ``native_layers.cpp`` does."""

    def __init__(self, linear: nn.Linear, activation: str = "") -> None:
        self.weight, self.scale = to_int8(linear.weight.detach())
        self.bias, self.activation = linear.bias.detach(), ACTIVATIONS.get(activation)

    def __call__(self, rows: Tensor) -> Tensor:
        quantised, scale = to_int8(rows)
        product = torch._int_mm(quantised, self.weight.t()) * (scale * self.scale.t()) + self.bias.float()
        return (self.activation(product) if self.activation else product).to(rows.dtype)

    def plus(self, rows: Tensor, residual: Tensor) -> Tensor:
        """The linear layer's output added to ``residual`` [T, outputs]."""
        return self(rows) + residual


class Frozen(nn.Module):
    """A layer whose weights are packed, out of PyTorch's sight, so that PyTorch can neither change nor save them."""

    def _apply(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("a frozen model cannot be moved or cast; load it again")

    def _save_to_state_dict(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("a frozen model has no weights to save; load it unfrozen")


class FrozenLayer(Frozen):
    """``Layer`` for inference, product by product."""

    def __init__(self, layer: Layer, config: BertConfig, int8: bool) -> None:
        super().__init__()
        linear = Int8Linear if int8 else OneDNNLinear
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
    """All layers, product by product; ``reason`` says why the compiled layers cannot compute them."""

    def __init__(self, layers: Iterable[nn.Module], reason: str | None) -> None:
        super().__init__(layers)
        self.reason = reason


class NativeLayer(Frozen):
    """One of the packed layers, for ``Bert.all_hidden_states``."""

    def __init__(self, packed: PackedLayers, number: int) -> None:
        super().__init__()
        self.packed, self.number = packed, number

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        return self.packed.encode(hidden, batch, self.number, self.number + 1)


class NativeLayers(Layers):
    """All layers in one call of a compiled function."""

    def __init__(self, packed: PackedLayers) -> None:
        super().__init__(NativeLayer(packed, number) for number in range(len(packed)))
        self.packed = packed

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        return self.packed.encode(hidden, batch, 0, len(self))


def keep_freed_memory() -> None:
    """Make glibc reuse large blocks of memory instead of returning them to the system; does nothing elsewhere.

    It speeds up training too, where every step frees what the next one allocates.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
        for parameter, size in KEEP.items():
            libc.mallopt(parameter, size)
