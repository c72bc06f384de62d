"""Encoder layers in C++: compiles ``native_layers.cpp`` on first use, and packs weights into the layout it reads.

docs/records.md says how much they gain: most for few sequences, or for sequences of many different lengths.
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
from reference.processor import SWITCH, features, hidden

SOURCE = Path(__file__).with_name("native_layers.cpp")
INCLUDED = (SOURCE.with_name("native_vectors.h"),)


@dataclass(frozen=True)
class Routine:
    """A function of ``native_layers.cpp``."""

    name: str
    precision: str  # of the products
    needs: frozenset[str]  # processor features, by Linux' names
    tile_multiple: int | None  # layer sizes are multiples of this for AMX; None: of ``panel_columns()``
    kr: int  # consecutive inputs that one instruction multiplies in a 32-bit lane
    activations: torch.dtype  # of its input and output

    @property
    def tiles(self) -> bool:
        """Whether it multiplies with AMX tiles, not with vectors."""
        return self.tile_multiple is not None

    @property
    def columns(self) -> int:
        """Hidden size and intermediate size are multiples of this."""
        return self.tile_multiple or panel_columns()

    @property
    def panel(self) -> int:
        """Outputs in a panel of packed weights; the size of a head is a multiple of this."""
        return 32 if self.tiles else panel_columns()


TILES = frozenset({"amx_bf16", "amx_int8"})
AVX2 = frozenset({"avx2", "fma"})
AVX512 = AVX2 | {"avx512f"}
AMX = AVX512 | TILES | {"avx512_bf16"}
ROUTINES = (  # in each precision the fastest first
    Routine("bf16_by_tiles", "bf16", AMX, 32, 2, torch.bfloat16),
    Routine("bf16_by_vectors", "bf16", AVX512 | {"avx512_bf16"}, None, 2, torch.float32),
    Routine("int8_by_tiles", "int8", AMX, 64, 4, torch.bfloat16),
    Routine("int8_by_vectors", "int8", AVX512 | {"avx512_vnni"}, None, 4, torch.float32),
    Routine("int8_by_pairs", "int8", AVX2, None, 2, torch.float32),
    Routine("fp32_by_vectors", "fp32", AVX2, None, 1, torch.float32),
)


class PackedLinear(ctypes.Structure):
    """``struct Linear`` of ``native_layers.cpp``."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("weights", "scale", "compensation", "bias")]
    _fields_ += [(name, ctypes.c_int64) for name in ("inputs", "outputs")]


class PackedNorm(ctypes.Structure):
    """``struct Norm`` of ``native_layers.cpp``."""

    _fields_ = [("gamma", ctypes.c_void_p), ("beta", ctypes.c_void_p), ("epsilon", ctypes.c_float)]


class PackedLayer(ctypes.Structure):
    """``struct Layer`` of ``native_layers.cpp``."""

    _fields_ = [(name, PackedLinear) for name in ("qkv", "output", "up", "down")]
    _fields_ += [(name, PackedNorm) for name in ("attention_norm", "output_norm")]


class PackedLayers:
    """All layers' weights, packed for a routine.

    In int8 the weights are quantised symmetrically for each output, here; the activations for each token, by the
    routine.
    """

    def __init__(self, layers: list[Layer], routine: Routine) -> None:
        self.routine, self.heads = routine, layers[0].attention.heads
        self.hidden_size = layers[0].output_norm.normalized_shape[0]
        self._tensors: list[Tensor] = []  # own the memory that the structs point to
        packed = [
            PackedLayer(
                *map(self._linear, (layer.attention.qkv, layer.attention.output, layer.up, layer.down)),
                *map(self._norm, (layer.attention_norm, layer.output_norm)),
            )
            for layer in layers
        ]
        self._layers = (PackedLayer * len(layers))(*packed)

    def __len__(self) -> int:
        return len(self._layers)

    def encode(self, hidden: Tensor, batch: Packed, first: int, last: int) -> Tensor:
        """Compute the layers ``first`` to ``last - 1``. [T or more, H] -> [T, H], in the type of ``hidden``

        Raises ValueError if the lengths do not add up to the number of tokens, or the hidden size differs.
        """
        tokens, found = batch.ids.numel(), library()
        if sum(batch.lengths) != tokens or min(batch.lengths) < 0 or len(hidden) < tokens:
            raise ValueError(f"the lengths add up to {sum(batch.lengths)}, but there are {tokens} tokens")
        if hidden.shape[1] != self.hidden_size:
            raise ValueError(f"the hidden states have size {hidden.shape[1]}, the layers {self.hidden_size}")
        assert found is not None
        embedded = hidden.to(self.routine.activations).contiguous()
        out = embedded.new_empty(tokens, embedded.shape[1])
        starts = (ctypes.c_int32 * (len(batch.lengths) + 1))(0, *accumulate(batch.lengths))
        found[self.routine.name](
            ctypes.byref(self._layers, first * ctypes.sizeof(PackedLayer)),
            *map(ctypes.c_int64, (last - first, self.heads)),
            ctypes.c_void_p(embedded.data_ptr()),
            starts,
            *map(ctypes.c_int64, (len(batch.lengths), max(batch.lengths), torch.get_num_threads())),
            ctypes.c_void_p(out.data_ptr()),
        )
        return out.to(hidden.dtype)

    def multiply(self, tokens: int) -> None:
        """Compute only the linear layers' products, for this many tokens: to time them."""
        found = library()
        assert found is not None
        numbers = map(ctypes.c_int64, (len(self), tokens, torch.get_num_threads()))
        found[f"{self.routine.name}_gemms"](self._layers, *numbers)

    def _linear(self, linear: nn.Linear) -> PackedLinear:
        weight, kr = linear.weight.detach(), self.routine.kr
        scale, compensation = torch.empty(0), torch.empty(0)
        if self.routine.precision == "int8":
            weight, scale = to_int8(weight)
            # int8_by_vectors multiplies unsigned activations, 128 larger than the signed ones.
            compensation = -128 * weight.sum(1, dtype=torch.int32)
        else:
            weight = weight.to(torch.float32 if kr == 1 else torch.bfloat16)
        if self.routine.tiles:  # [outputs / 32, inputs / 16 KR, 2, 16, 16, KR]: two tiles for each step
            weight = weight.unflatten(1, (-1, 16, kr)).unflatten(0, (-1, 2, 16)).permute(0, 3, 1, 4, 2, 5)
        else:  # [outputs / panel, inputs / KR, panel, KR]
            weight = weight.unflatten(1, (-1, kr)).unflatten(0, (-1, self.routine.panel)).permute(0, 2, 1, 3)
        bias = linear.bias.detach().to(torch.float32, copy=True)
        pointers = map(self._pointer, (weight, scale, compensation, bias))
        return PackedLinear(*pointers, linear.in_features, linear.out_features)

    def _norm(self, norm: nn.LayerNorm) -> PackedNorm:
        gamma, beta = (each.detach().to(torch.float32, copy=True) for each in (norm.weight, norm.bias))
        return PackedNorm(self._pointer(gamma), self._pointer(beta), norm.eps)

    def _pointer(self, tensor: Tensor) -> int:
        self._tensors.append(tensor.contiguous())
        return self._tensors[-1].data_ptr()


def to_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise each row symmetrically to -127..127. [R, C] -> [R, C] int8 and the scales [R, 1] float32"""
    scale = rows.abs().amax(1, keepdim=True).float().clamp_min(1e-12) / 127
    return (rows / scale).round().nan_to_num().to(torch.int8), scale


def routine_for(config: BertConfig, layers: list[Layer], precision: str) -> Routine | None:
    """The fastest routine that computes these layers on this processor; None if there is none."""
    return _choice(config, layers, precision)[0]


def why_none(config: BertConfig, layers: list[Layer], precision: str) -> str | None:
    """Why no routine computes these layers here; None if one does."""
    return _choice(config, layers, precision)[1]


def _choice(config: BertConfig, layers: list[Layer], precision: str) -> tuple[Routine | None, str | None]:
    if not layers:
        return None, "the model has no layers"
    if not all(layer.attention.attend is attention for layer in layers):
        return None, "no compiled layers for another attention function"
    return routine_of_sizes(config, precision)


def routine_of_sizes(config: BertConfig, precision: str) -> tuple[Routine | None, str | None]:
    """The fastest routine for a model of this configuration on this processor, or the reason why there is none."""
    if config.hidden_act != "gelu":
        return None, f"no compiled layers for the activation {config.hidden_act}"
    possible = routines_here(precision)
    if not possible:
        return None, why_none_here(precision)
    hidden_size, intermediate, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    for each in possible:
        if hidden_size % each.columns == intermediate % each.columns == hidden_size // heads % each.panel == 0:
            return each, None
    sizes = f"hidden size {hidden_size}, intermediate size {intermediate} and head size {hidden_size // heads}"
    return None, f"no compiled layers for {sizes}"


def routines_here(precision: str) -> list[Routine]:
    """The routines of a precision that this processor can run, the fastest first."""
    found = library()
    return [r for r in ROUTINES if r.precision == precision and r.needs <= abilities() and hasattr(found, r.name)]


def why_none_here(precision: str) -> str:
    """Why this processor can run no routine of a precision."""
    needs = [each.needs for each in ROUTINES if each.precision == precision]
    if not needs:
        return f"no compiled layers for {precision}"
    if any(each <= features() for each in needs):
        return built().reason or "the compiler does not support the instructions"
    return processor_lacks(needs[-1])


def processor_lacks(needs: frozenset[str]) -> str:
    """Which of these features the processor lacks, or has but ``BERT_ATLAS_MAX_CPU_ISA`` hides."""
    lacking = sorted(needs - features())
    how = f"{SWITCH} hides" if hidden() >= set(lacking) else "the processor lacks"
    return f"{how} {', '.join(lacking)}"


@cache
def abilities() -> frozenset[str]:
    """Processor features, by Linux' names, that the compiled functions may use; none if they are not compiled."""
    found, of_processor = library(), features()
    if found is None:
        return frozenset()
    tiles = of_processor >= AMX and hasattr(found, "request_tiles") and found.request_tiles() == 0
    return of_processor if tiles else of_processor - TILES


def panel_columns() -> int:
    """Outputs in a panel of weights packed for vectors, which depends on the width of this processor's vectors."""
    found = library()
    assert found is not None
    return ctypes.c_int64.in_dll(found, "panel_columns").value


def library() -> ctypes.CDLL | None:
    """The compiled functions; None without a compiler, or on a processor without AVX2."""
    return built().library


def built() -> Compiled:
    """The compiled functions with their compiler, or the reason why there are none."""
    if not features() >= AVX2:
        return Compiled(reason=processor_lacks(AVX2))
    return compiled(SOURCE, (PackedLinear, PackedNorm, PackedLayer), INCLUDED)
