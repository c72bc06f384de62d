"""``native_layers.cpp``, compiled for this processor on first use, and the layout that its weights are packed into.

What it brings stands in docs/records.md: most where sequences are few or of many lengths.
"""

import ctypes
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn

from reference.compile import Compiled, compiled
from reference.model import BertConfig, Layer, Packed, attention
from reference.processor import features, hidden

SOURCE = Path(__file__).with_name("native_layers.cpp")
INCLUDED = (SOURCE.with_name("native_vectors.h"),)


@dataclass(frozen=True)
class Routine:
    """One of the functions of ``native_layers.cpp``."""

    name: str
    precision: str  # of the products
    needs: frozenset[str]  # what the processor must have, in Linux' words
    tile: int | None  # sizes of layers are multiples of this, for tiles; for vectors of ``block()``
    together: int  # numbers in the 4 bytes that are multiplied at once
    rows: torch.dtype  # of what it is given and returns

    @property
    def tiles(self) -> bool:
        return self.tile is not None

    @property
    def columns(self) -> int:
        """Sizes of layers are multiples of this."""
        return self.tile or block()

    @property
    def block(self) -> int:
        """Outputs that are computed together, and whose weights are side by side."""
        return 32 if self.tiles else block()


TILES = frozenset({"amx_bf16", "amx_int8"})
AVX2 = frozenset({"avx2", "fma"})
AVX512 = AVX2 | {"avx512f"}
AMX = AVX512 | TILES | {"avx512_bf16"}
ROUTINES = (  # of a precision the fastest first
    Routine("bf16_by_tiles", "bf16", AMX, 32, 2, torch.bfloat16),
    Routine("bf16_by_vectors", "bf16", AVX512 | {"avx512_bf16"}, None, 2, torch.float32),
    Routine("int8_by_tiles", "int8", AMX, 64, 4, torch.bfloat16),
    Routine("int8_by_vectors", "int8", AVX512 | {"avx512_vnni"}, None, 4, torch.float32),
    Routine("int8_by_pairs", "int8", AVX2, None, 2, torch.float32),
    Routine("fp32_by_vectors", "fp32", AVX2, None, 1, torch.float32),
)


class Linear(ctypes.Structure):
    """The struct of that name in ``native_layers.cpp``; so are the next two."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("weights", "scale", "offset", "bias")]
    _fields_ += [(name, ctypes.c_int64) for name in ("inputs", "outputs")]


class Norm(ctypes.Structure):
    _fields_ = [("gain", ctypes.c_void_p), ("shift", ctypes.c_void_p), ("epsilon", ctypes.c_float)]


class LaidOutLayer(ctypes.Structure):
    _fields_ = [(name, Linear) for name in ("qkv", "output", "up", "down")]
    _fields_ += [(name, Norm) for name in ("attention_norm", "output_norm")]


class LaidOut:
    """Weights of layers in the order in which a routine reads them.

    In int8 weights have 255 steps for each output, and rows 255 steps for each token when they get there.
    """

    def __init__(self, layers: list[Layer], routine: Routine) -> None:
        self.routine, self.heads = routine, layers[0].attention.heads
        self.width = layers[0].output_norm.normalized_shape[0]
        self._kept: list[Tensor] = []  # what the structs point to
        described = [
            LaidOutLayer(
                *map(self._linear, (layer.attention.qkv, layer.attention.output, layer.up, layer.down)),
                *map(self._norm, (layer.attention_norm, layer.output_norm)),
            )
            for layer in layers
        ]
        self._layers = (LaidOutLayer * len(layers))(*described)

    def __len__(self) -> int:
        return len(self._layers)

    def encode(self, hidden: Tensor, batch: Packed, first: int, last: int) -> Tensor:
        """Through the layers from ``first`` to before ``last``. [T or more, H] -> [T, H], of the same type

        ValueError where the lengths are not those of the tokens.
        """
        tokens, found = batch.ids.numel(), library()
        if sum(batch.lengths) != tokens or min(batch.lengths) < 0 or len(hidden) < tokens:
            raise ValueError(f"the lengths add up to {sum(batch.lengths)}, but there are {tokens} tokens")
        if hidden.shape[1] != self.width:
            raise ValueError(f"hidden states of {hidden.shape[1]} numbers for layers of {self.width}")
        assert found is not None
        rows = hidden.to(self.routine.rows).contiguous()
        out = rows.new_empty(tokens, rows.shape[1])
        starts = (ctypes.c_int32 * (len(batch.lengths) + 1))(0, *accumulate(batch.lengths))
        found[self.routine.name](
            ctypes.byref(self._layers, first * ctypes.sizeof(LaidOutLayer)),
            *map(ctypes.c_int64, (last - first, self.heads)),
            ctypes.c_void_p(rows.data_ptr()),
            starts,
            *map(ctypes.c_int64, (len(batch.lengths), max(batch.lengths), torch.get_num_threads())),
            ctypes.c_void_p(out.data_ptr()),
        )
        return out.to(hidden.dtype)

    def multiply(self, tokens: int) -> None:
        """The products of all layers for so many tokens, and nothing else: to see what they take."""
        found = library()
        assert found is not None
        numbers = map(ctypes.c_int64, (len(self), tokens, torch.get_num_threads()))
        found[f"{self.routine.name}_products"](self._layers, *numbers)

    def _linear(self, linear: nn.Linear) -> Linear:
        weight, together = linear.weight.detach(), self.routine.together
        scale, offset = torch.empty(0), torch.empty(0)
        if self.routine.precision == "int8":
            weight, scale = to_int8(weight)
            offset = -128 * weight.sum(1, dtype=torch.int32)  # where 128 is added to what they are multiplied by
        else:
            weight = weight.to(torch.float32 if self.routine.together == 1 else torch.bfloat16)
        if self.routine.tiles:  # two side by side for each step: [outputs / 32, inputs / 16 K, 2, 16, 16, K]
            weight = weight.unflatten(1, (-1, 16, together)).unflatten(0, (-1, 2, 16)).permute(0, 3, 1, 4, 2, 5)
        else:  # [outputs / block, inputs / K, block, K]
            weight = weight.unflatten(1, (-1, together)).unflatten(0, (-1, self.routine.block)).permute(0, 2, 1, 3)
        pointers = map(self._keep, (weight, scale, offset, linear.bias.detach().to(torch.float32, copy=True)))
        return Linear(*pointers, linear.in_features, linear.out_features)

    def _norm(self, norm: nn.LayerNorm) -> Norm:
        gain, shift = (each.detach().to(torch.float32, copy=True) for each in (norm.weight, norm.bias))
        return Norm(self._keep(gain), self._keep(shift), norm.eps)

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()


def to_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers from -127 to 127, and what a step is worth in each row. [R, C] -> [R, C] int8, [R, 1] float32"""
    scale = rows.abs().amax(1, keepdim=True).float().clamp_min(1e-12) / 127
    return (rows / scale).round().nan_to_num().to(torch.int8), scale


def routine_for(config: BertConfig, layers: list[Layer], precision: str) -> Routine | None:
    """What computes such layers on this processor; None where nothing of ``native_layers.cpp`` is made for them."""
    return _choice(config, layers, precision)[0]


def why_none(config: BertConfig, layers: list[Layer], precision: str) -> str | None:
    """Why nothing of ``native_layers.cpp`` computes such layers here; None where something does."""
    return _choice(config, layers, precision)[1]


def _choice(config: BertConfig, layers: list[Layer], precision: str) -> tuple[Routine | None, str | None]:
    if not layers:
        return None, "there are no layers"
    if not all(layer.attention.attend is attention for layer in layers):
        return None, "nothing is made for another attention"
    return routine_of_sizes(config, precision)


def routine_of_sizes(config: BertConfig, precision: str) -> tuple[Routine | None, str | None]:
    """What computes layers of such a model on this processor, or why nothing does."""
    if config.hidden_act != "gelu":
        return None, f"nothing is made for the activation {config.hidden_act}"
    possible = routines_here(precision)
    if not possible:
        return None, why_none_here(precision)
    size, wide = config.hidden_size // config.num_attention_heads, config.intermediate_size
    for each in possible:
        if config.hidden_size % each.columns == wide % each.columns == size % each.block == 0:
            return each, None
    return None, f"nothing is made for sizes of {config.hidden_size}, {wide} and, of a head, {size}"


def routines_here(precision: str) -> list[Routine]:
    """Those that this processor has in a precision, the fastest first."""
    found = library()
    return [r for r in ROUTINES if r.precision == precision and r.needs <= abilities() and hasattr(found, r.name)]


def why_none_here(precision: str) -> str:
    """Why this processor has none in a precision."""
    needs = [each.needs for each in ROUTINES if each.precision == precision]
    if not needs:
        return f"nothing is made for {precision}"
    if any(each <= features() for each in needs):
        return built().reason or "the compiler knows no such instructions"
    return processor_lacks(needs[-1])


def processor_lacks(needs: frozenset[str]) -> str:
    """Which of these features the processor has not, or has and hides."""
    lacking = sorted(needs - features())
    where = "the processor's are hidden:" if hidden() >= set(lacking) else "the processor lacks"
    return f"{where} {', '.join(lacking)}"


@cache
def abilities() -> frozenset[str]:
    """What the compiled functions may use of this processor, in Linux' words; nothing where they are not compiled."""
    found, of_processor = library(), features()
    if found is None:
        return frozenset()
    tiles = of_processor >= AMX and hasattr(found, "ask_for_tiles") and found.ask_for_tiles() == 0
    return of_processor if tiles else of_processor - TILES


def block() -> int:
    """Outputs whose weights are side by side for vectors: as many as two or four vectors of this processor have."""
    found = library()
    assert found is not None
    return ctypes.c_int64.in_dll(found, "block").value


def library() -> ctypes.CDLL | None:
    """The compiled functions; None without a compiler, or on a processor without AVX2."""
    return built().library


def built() -> Compiled:
    """The same, with what made it or why there is none."""
    if not features() >= AVX2:
        return Compiled(reason=processor_lacks(AVX2))
    return compiled(SOURCE, (Linear, Norm, LaidOutLayer), INCLUDED)
