"""``amx.cpp``, compiled for this processor when it is first wanted, where that can be done, and what it is given.

What it brings stands in docs/records.md: most where sequences are few or of many lengths.
"""

import ctypes
import platform
from functools import cache
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn

from reference.compiled import compiled, processor_features
from reference.model import BertConfig, Layer, Packed, attention

SOURCE = Path(__file__).with_name("amx.cpp")
COLUMNS = {"bf16": 32, "int8": 64}  # of a tile, which has rows of 64 bytes


class Linear(ctypes.Structure):
    """The struct of that name in ``amx.cpp``; so are the next two."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("tiles", "scale", "bias")]
    _fields_ += [(name, ctypes.c_int64) for name in ("inputs", "outputs")]


class Norm(ctypes.Structure):
    _fields_ = [("gain", ctypes.c_void_p), ("shift", ctypes.c_void_p), ("epsilon", ctypes.c_float)]


class LayerTiles(ctypes.Structure):
    _fields_ = [(name, Linear) for name in ("qkv", "output", "up", "down")]
    _fields_ += [(name, Norm) for name in ("attention_norm", "output_norm")]


class Tiles:
    """Weights of layers in the order in which they are read.

    ``precision`` of the products is "bf16", or "int8": weights in 255 steps for each output, and rows in 255 steps for
    each token when they get there.
    """

    def __init__(self, layers: list[Layer], precision: str) -> None:
        self.precision, self.heads = precision, layers[0].attention.heads
        self._kept: list[Tensor] = []  # what the structs point to
        described = [
            LayerTiles(
                *map(self._linear, (layer.attention.qkv, layer.attention.output, layer.up, layer.down)),
                *map(self._norm, (layer.attention_norm, layer.output_norm)),
            )
            for layer in layers
        ]
        self._layers = (LayerTiles * len(layers))(*described)

    def __len__(self) -> int:
        return len(self._layers)

    def encode(self, hidden: Tensor, batch: Packed, first: int, last: int) -> Tensor:
        """Through the layers from ``first`` to before ``last``. [T or more, H] -> [T, H], in bfloat16

        ValueError where the lengths are not those of the tokens.
        """
        tokens, found = batch.ids.numel(), library()
        if sum(batch.lengths) != tokens or len(hidden) < tokens:
            raise ValueError(f"the lengths add up to {sum(batch.lengths)}, but there are {tokens} tokens")
        assert found is not None
        hidden, out = hidden.contiguous(), hidden.new_empty(tokens, hidden.shape[1])
        starts = (ctypes.c_int32 * (len(batch.lengths) + 1))(0, *accumulate(batch.lengths))
        found[f"encode_{self.precision}"](
            ctypes.byref(self._layers, first * ctypes.sizeof(LayerTiles)),
            *map(ctypes.c_int64, (last - first, self.heads)),
            ctypes.c_void_p(hidden.data_ptr()),
            starts,
            *map(ctypes.c_int64, (len(batch.lengths), max(batch.lengths), torch.get_num_threads())),
            ctypes.c_void_p(out.data_ptr()),
        )
        return out

    def _linear(self, linear: nn.Linear) -> Linear:
        weight, columns = linear.weight.detach(), COLUMNS[self.precision]
        weight, scale = to_int8(weight) if self.precision == "int8" else (weight.bfloat16(), torch.ones(len(weight)))
        # Two tiles side by side for each step: [outputs / 32, inputs / columns, 2, 16, 16, 4 bytes].
        tiles = weight.unflatten(1, (-1, 16, columns // 16)).unflatten(0, (-1, 2, 16)).permute(0, 3, 1, 4, 2, 5)
        pointers = map(self._keep, (tiles, scale, linear.bias.detach().float()))
        return Linear(*pointers, linear.in_features, linear.out_features)

    def _norm(self, norm: nn.LayerNorm) -> Norm:
        return Norm(*map(self._keep, (norm.weight.detach().float(), norm.bias.detach().float())), norm.eps)

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()


def to_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers from -127 to 127, and what a step is worth in each row. [R, C] -> [R, C] int8, [R, 1] float32"""
    scale = rows.abs().amax(1, keepdim=True).float().clamp_min(1e-12) / 127
    return (rows / scale).round().nan_to_num().to(torch.int8), scale


def tiles_fit(config: BertConfig, layers: list[Layer], precision: str) -> bool:
    """Whether ``amx.cpp`` is made for such layers, and could be compiled for this machine."""
    columns, size = COLUMNS[precision], config.hidden_size // config.num_attention_heads
    sizes_fit = config.hidden_size % columns == config.intermediate_size % columns == size % 32 == 0
    usual = config.hidden_act == "gelu" and all(layer.attention.attend is attention for layer in layers)
    return sizes_fit and usual and library() is not None


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None without a compiler, or on a processor without AMX."""
    if platform.system() != "Linux" or not {"amx_bf16", "amx_int8"} <= set(processor_features()):
        return None
    found = compiled(SOURCE)
    return found if found is not None and found.ask_for_tiles() == 0 else None
