"""Why an implementation differs from BERT: the smallest set of known deviations that reproduces its numbers.

The first part is a plain BERT with a switch for every deviation; it shares no code with ``reference`` and computes one
sequence at a time. The second part searches for the switches that give the observed hidden states.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from time import process_time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.measure.parity import EXACT, Outputs, differences
from harness.port.batch import Array, Batch

if TYPE_CHECKING:
    from torch import Tensor

DEVIATIONS = {  # name: "title: description."
    "gelu-tanh": "tanh gelu: the feed-forward's x Phi(x) is approximated by tanh.",
    "relu": "ReLU: the feed-forward's activation is not gelu.",
    "layer-norm-epsilon-1e-14": "LayerNorm epsilon 1e-14: as much is added to the variance.",
    "layer-norm-epsilon-1e-6": "LayerNorm epsilon 1e-6: as much is added to the variance.",
    "layer-norm-epsilon-1e-5": "LayerNorm epsilon 1e-5: as much is added to the variance.",
    "layer-norm-epsilon-1e-3": "LayerNorm epsilon 1e-3: as much is added to the variance.",
    "layer-norm-unbiased": "unbiased LayerNorm: the standard deviation is over n - 1, and epsilon is added to it.",
    "pre-norm": "pre-norm: LayerNorm comes before attention and feed-forward, not after the residual sum.",
    "no-embedding-norm": "no embedding LayerNorm: the embeddings are not normalised.",
    "no-padding-mask": "no padding mask: padding is attended to like text.",
    "padding-mask-from-ids": "padding mask from ids: token id 0 counts as padding even where it is text.",
    "mask-constant": "mask constant: padding is masked by adding -10000 to its scores, which large scores overcome.",
    "sinusoidal-positions": "sinusoidal positions: fixed sines and cosines, not the learned vectors.",
    "segment-ids": "segment ids off by one: segment 0 adds nothing and segment 1 the vector of segment 0.",
    "no-segments": "one segment: every token gets the vector of segment 0.",
    "head-transposition": "heads not transposed back: the contexts [heads, tokens, size] are joined in that order.",
}
On = frozenset[str]  # the deviations that are switched on
NONE: On = frozenset()

EPSILONS = tuple(name for name in DEVIATIONS if name.startswith("layer-norm-epsilon"))
EXCLUSIVE = (  # an implementation has at most one of each group
    ("gelu-tanh", "relu"),
    EPSILONS,
    ("segment-ids", "no-segments"),
    ("no-padding-mask", "padding-mask-from-ids"),
    ("no-padding-mask", "mask-constant"),
)
# The search tries all sets of deviations with a large effect, and then adds sets of those with a small one to the best.
COARSE = (
    ("pre-norm",),
    ("no-embedding-norm",),
    ("sinusoidal-positions",),
    ("segment-ids", "no-segments"),
    ("relu",),
)
PADDED = (("no-padding-mask",), ("head-transposition",))  # as large, but slow: padding has to be computed
FINE = (("gelu-tanh",), ("layer-norm-unbiased",), EPSILONS)
SEES_PADDING = frozenset({"no-padding-mask", "padding-mask-from-ids", "mask-constant", "head-transposition"})
KEPT = 4  # number of coarse sets that are tried with all fine ones
HELPS, CLEARLY = 1.1, 2.0  # factors by which the root mean square must fall for a deviation to help, or to help clearly
ALIKE = 0.99  # lowest cosine that reduced precision explains
BUDGET = 60.0  # CPU seconds for one search


# -- BERT, with switches --


def plain_bert(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    batch: Batch,
    on: Iterable[str] = (),
    depth: int = -1,
    width: int = 0,
) -> list[Tensor]:
    """The hidden states of the embeddings and after each layer, each [tokens, hidden size], in the tensors' type.

    ``tensors`` has Hugging Face's names without ``bert.``. ``depth`` is the number of layers to compute, -1 for all.
    ``width`` is the length that sequences are padded to, if padding matters and it exceeds the longest sequence.
    """
    import torch

    on, width = frozenset(on), max(width, int(batch.lengths.max()))
    by_sequence = []
    for number, length in enumerate(batch.lengths.tolist()):
        one = batch.select(np.array([number]))
        padding = width - length if on & SEES_PADDING else 0  # otherwise padding changes nothing
        ids, segments = (torch.from_numpy(np.pad(values, (0, padding))) for values in (one.ids, one.segments))
        states = _sequence(tensors, config, ids, segments, length, on, depth)
        by_sequence.append([hidden[:length] for hidden in states])
    return [torch.cat(hidden) for hidden in zip(*by_sequence, strict=True)]


def _sequence(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    ids: Tensor,  # [S]
    segments: Tensor,  # [S]
    length: int,  # the rest is padding
    on: On,
    depth: int,
) -> list[Tensor]:
    """One sequence through the model: the embeddings and each layer's hidden states, [S, H]."""
    import torch
    import torch.nn.functional as F

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        if "layer-norm-unbiased" in on:
            scale = x.std(-1, keepdim=True) + epsilon
        else:
            scale = (centered.square().mean(-1, keepdim=True) + epsilon).sqrt()
        return centered / scale * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def attend(name: str, x: Tensor) -> Tensor:
        q, k, v = (linear(f"{name}.self.{each}", x).unflatten(-1, (heads, -1)) for each in ("query", "key", "value"))
        scores = torch.einsum("qnd,knd->nqk", q, k) / math.sqrt(q.shape[-1])  # [N, S, S]
        context = torch.einsum("nqk,knd->nqd", mask(scores).softmax(-1), v)  # [N, S, D]
        if "head-transposition" not in on:
            context = context.transpose(0, 1)
        return linear(f"{name}.output.dense", context.reshape(x.shape))

    def mask(scores: Tensor) -> Tensor:
        if "mask-constant" in on:
            return scores - 10000.0 * unseen
        return scores.masked_fill(unseen, torch.finfo(scores.dtype).min)

    def feed_forward(name: str, x: Tensor) -> Tensor:
        return linear(f"{name}.output.dense", activation(linear(f"{name}.intermediate.dense", x)))

    heads, epsilon, activation = config["num_attention_heads"], _epsilon(config, on), _activation(config, on)
    unseen = _unseen(ids, length, on)
    hidden = _embed(tensors, ids, segments, on)
    if "no-embedding-norm" not in on:
        hidden = norm("embeddings.LayerNorm", hidden)
    states = [hidden]
    for number in range(config["num_hidden_layers"] if depth < 0 else depth):
        layer = f"encoder.layer.{number}"
        first, second = f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"
        if "pre-norm" in on:
            hidden = hidden + attend(f"{layer}.attention", norm(first, hidden))
            hidden = hidden + feed_forward(layer, norm(second, hidden))
        else:
            hidden = norm(first, hidden + attend(f"{layer}.attention", hidden))
            hidden = norm(second, hidden + feed_forward(layer, hidden))
        states.append(hidden)
    return states


def _embed(tensors: Mapping[str, Tensor], ids: Tensor, segments: Tensor, on: On) -> Tensor:
    """Word piece + position + segment, [S, H]."""
    import torch

    words, positions, table = (
        tensors[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
    )
    if "sinusoidal-positions" in on:
        positions = _sinusoids(len(ids), words.shape[1]).to(words.dtype)
    if "segment-ids" in on:
        table = torch.cat([torch.zeros_like(table[:1]), table])
    if "no-segments" in on:
        segments = torch.zeros_like(segments)
    return words[ids] + positions[: len(ids)] + table[segments]


def _unseen(ids: Tensor, length: int, on: On) -> Tensor:
    """[S] True for the tokens that no token attends to."""
    import torch

    if "no-padding-mask" in on:
        return torch.zeros_like(ids, dtype=torch.bool)
    return ids == 0 if "padding-mask-from-ids" in on else torch.arange(len(ids)) >= length


def _sinusoids(length: int, width: int) -> Tensor:
    """Sines in the even columns, cosines in the odd ones, in float32: all implementations have the same rounding."""
    import torch

    table = torch.zeros(length, width)
    rates = torch.exp(torch.arange(0, width, 2).float() * -(math.log(10000.0) / width))
    angles = torch.arange(length).float()[:, None] * rates
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()[:, : width // 2]
    return table


def _epsilon(config: Mapping[str, Any], on: On) -> float:
    prefix = "layer-norm-epsilon-"
    named = [float(name.removeprefix(prefix)) for name in on if name.startswith(prefix)]
    return named[0] if named else float(config.get("layer_norm_eps", 1e-12))


def _activation(config: Mapping[str, Any], on: On) -> Callable[[Tensor], Tensor]:
    import torch.nn.functional as F

    if "relu" in on or config["hidden_act"] == "relu":
        return F.relu
    if "gelu-tanh" in on or config["hidden_act"] != "gelu":
        return lambda x: F.gelu(x, approximate="tanh")
    return F.gelu


# -- the diagnosis --


@dataclass(frozen=True)
class Found:
    """One deviation of a diagnosis. A difference is the largest absolute one of hidden states."""

    name: str  # a key of DEVIATIONS
    alone: float  # between BERT and BERT with only this deviation
    left_off: float  # between what was observed and BERT with all other deviations of the diagnosis


@dataclass(frozen=True)
class Diagnosis:
    """Deviations, the one with the largest effect first, and how near BERT with all of them is to the observation."""

    deviations: tuple[Found, ...]
    reproduced: bool  # the remaining difference is rounding
    complete: bool  # the search ended within BUDGET
    difference: float  # largest remaining absolute difference of hidden states
    tolerance: float  # largest difference that counts as rounding
    cosine: float  # lowest between a token's hidden states as observed and with the deviations
    layers: tuple[float, ...]  # remaining difference in the embeddings and after each layer, if observed
    pooled: float | None  # remaining difference of the pooled output, if observed


def diagnose(
    tensors: Mapping[str, Any], config: Mapping[str, Any], batch: Batch, observed: Outputs, floor: float
) -> Diagnosis:
    """The smallest set of DEVIATIONS with which BERT gives the observed hidden states, within a few rounding floors.

    ``tensors`` are arrays with Hugging Face's names without ``bert.``; ``floor`` is the distance of BERT in float32
    from exact BERT. ``observed.layers``, if present, make the search faster. If no set reproduces the observation, or
    none is found within BUDGET, the diagnosis has the nearest one. ValueError if ``observed`` has another shape or is
    not finite.
    """
    import torch

    weights = {name: torch.from_numpy(np.array(values, dtype=np.float64)) for name, values in tensors.items()}
    bert = Bert(weights, config)
    differences(observed, bert.outputs(batch, NONE))  # raises ValueError if they cannot be compared
    deadline = process_time() + BUDGET
    full = Trial(bert, batch, observed.hidden, -1, floor, deadline)
    on, complete = _explain(full, list(_probes(bert, batch, observed, floor, deadline)))
    exact, found = bert.outputs(batch, NONE), differences(observed, bert.outputs(batch, on))
    costs = [
        Found(
            name,
            alone=differences(bert.outputs(batch, frozenset({name})), exact)["max"],
            left_off=full.distance(on - {name}).max,
        )
        for name in on
    ]
    return Diagnosis(
        deviations=tuple(sorted(costs, key=lambda each: -each.alone)),
        reproduced=full.fits(on),
        complete=complete,
        difference=found["max"],
        tolerance=full.tolerance(on),
        cosine=found["cosine"],
        layers=tuple(layer["max"] for layer in found.get("layers", ())),
        pooled=found["pooled"]["max"] if "pooled" in found else None,
    )


def sentence(diagnosis: Diagnosis) -> str:
    """A diagnosis in one line: each deviation with its effect alone, and what is not explained."""
    parts = [f"{DEVIATIONS[each.name].split(':')[0]} ({_short(each.alone)})" for each in diagnosis.deviations]
    if diagnosis.reproduced:
        parts = parts or ["no deviation: what differs is rounding"]
        if diagnosis.pooled is not None and diagnosis.pooled > diagnosis.tolerance:
            parts.append(f"the pooled output differs for a reason not known ({_short(diagnosis.pooled)})")
    else:
        parts.append(_unexplained(diagnosis))
    if not diagnosis.complete:
        parts.append(f"the search was stopped after {BUDGET:.0f} s of CPU")
    return "; ".join(parts)


def _unexplained(diagnosis: Diagnosis) -> str:
    """The remaining difference, and the layer at which it begins."""
    start = next((number for number, value in enumerate(diagnosis.layers) if value > diagnosis.tolerance), None)
    where = "" if start is None else " from the embeddings on" if start == 0 else f" from layer {start} on"
    what = "reduced precision" if diagnosis.cosine >= ALIKE else "not reproduced by known deviations"
    return f"{what} ({_short(diagnosis.difference)} remains{where}, cosine {diagnosis.cosine:.5g})"


def _short(value: float) -> str:
    """4.6e-3, 0.35, 147"""
    if value >= 0.1:
        return f"{value:.2g}" if value < 100 else f"{value:.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


# -- the search --


@dataclass(frozen=True)
class Bert:
    """The weights of one model, in float64."""

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    width: int = 0  # of the rectangle that implementations pad to

    @cached_property
    def rounded(self) -> Mapping[str, Tensor]:
        """The weights in float32."""
        return {name: tensor.float() for name, tensor in self.tensors.items()}

    def outputs(self, batch: Batch, on: On, depth: int = -1, single: bool = False) -> Outputs:
        """The result of ``plain_bert`` with these deviations; ``single``: in float32."""
        tensors = self.rounded if single else self.tensors
        layers = [hidden.numpy() for hidden in plain_bert(tensors, self.config, batch, on, depth, self.width)]
        pooled = None
        if "pooler.dense.weight" in tensors:
            weight, bias = (self.tensors[f"pooler.dense.{name}"].numpy() for name in ("weight", "bias"))
            pooled = np.tanh(layers[-1][batch.cu_seqlens[:-1]] @ weight.T + bias)
        return Outputs(layers[-1], pooled, layers)


class Distance(NamedTuple):
    """Between two arrays of hidden states."""

    rms: float  # root mean square, which guides the search
    max: float  # which decides


class Trial:
    """Observed hidden states of a batch after some layer, and the distance of BERT with given deviations from them."""

    def __init__(self, bert: Bert, batch: Batch, observed: Array, depth: int, floor: float, deadline: float) -> None:
        """``deadline``: CPU seconds of this process; later computations raise TimeoutError."""
        self.bert, self.batch, self.depth, self.floor, self.deadline = bert, batch, depth, floor, deadline
        self.observed = observed.astype(np.float64)
        self.known: dict[On, Distance] = {}
        self.rounding = cache(self._rounding)

    def hidden(self, on: On, single: bool = False) -> Array:
        if process_time() > self.deadline:
            raise TimeoutError
        return self.bert.outputs(self.batch, on, self.depth, single).hidden

    def distance(self, on: On) -> Distance:
        if on not in self.known:
            self.known[on] = _distance(self.hidden(on), self.observed)
        return self.known[on]

    def nearest(self) -> On:
        """The set with the smallest distance so far."""
        return min(self.known, key=self.distance, default=NONE)

    def rough(self, on: On) -> Distance:
        """``distance`` in float32: twice as fast, and precise enough for deviations with a large effect."""
        return _distance(self.hidden(on, single=True), self.observed)

    def _rounding(self, on: On) -> float:
        """Largest difference between float32 and float64."""
        return _distance(self.hidden(on), self.hidden(on, single=True)).max

    def tolerance(self, on: On) -> float:
        """A few rounding floors; more if the deviations make the numbers, and so their rounding, larger."""
        return EXACT * self.floor * max(1.0, self.rounding(on) / self.rounding(NONE))

    def fits(self, on: On) -> bool:
        """Whether BERT with these deviations reproduces the observation."""
        difference = self.distance(on).max
        return difference <= EXACT * self.floor or difference <= self.tolerance(on)

    def replaces(self, on: On, other: On) -> bool:
        """Whether ``on`` explains the observation as well as ``other``, or not clearly worse."""
        return self.distance(on).rms <= CLEARLY * self.distance(other).rms and (self.fits(on) or not self.fits(other))


def _distance(values: Array, others: Array) -> Distance:
    difference = values - others
    return Distance(float(np.sqrt(np.square(difference).mean())), float(np.abs(difference).max()))


def _probes(bert: Bert, batch: Batch, observed: Outputs, floor: float, deadline: float) -> Iterator[Trial]:
    """Trials on one short sequence that shows most deviations: after the first layer, if observed, and the last."""

    def dullness(number: int) -> tuple[int, bool, bool, int]:
        one = batch.select(np.array([number]))
        return -len(set(one.segments.tolist())), 0 in one.ids, len(one.ids) == 1, len(one.ids)

    number = np.array([min(range(len(batch.lengths)), key=dullness)])
    sequence, tokens = batch.select(number), batch.tokens_of(number)
    # Attention to padding and heads that are not transposed depend on the width of the batch.
    bert = replace(bert, width=int(batch.lengths.max()))
    if len(observed.layers) == bert.config["num_hidden_layers"] + 1:
        yield Trial(bert, sequence, observed.layers[1][tokens], 1, floor, deadline)
    yield Trial(bert, sequence, observed.hidden[tokens], -1, floor, deadline)


def _explain(full: Trial, probes: list[Trial]) -> tuple[On, bool]:
    """A minimal set that reproduces the observation, else the nearest; and whether the search was completed.

    ``full`` is the trial of all sequences; it has no deadline afterwards.
    """
    tried, shown, complete = [NONE], [], True
    try:
        for probe in probes:
            for on in _proposals(probe):
                if probe.fits(on) and not full.fits(on):
                    shown.append(_without_idle(probe, on))
                    on = _climb(full, on)  # the other sequences may show more
                tried.append(on)
                if full.fits(on):
                    return _without_idle(full, on), complete
    except TimeoutError:
        complete = False
        tried += [trial.nearest() for trial in (*probes, full)]
    finally:
        full.deadline = math.inf  # the result is still to be measured
    nearest = min(tried, key=full.distance)
    # Deviations that the first layer showed are real, even if an unknown one has a larger effect.
    certain = next((on for on in shown if full.replaces(on, nearest)), None)
    return certain if certain is not None else _without_idle(full, nearest), complete


def _proposals(trial: Trial) -> Iterator[On]:
    """Sets that may explain the observation, those that are cheap to find first."""
    yield _climb(trial, NONE)
    for groups in (COARSE, COARSE + PADDED):  # climbing fails if several large ones hide each other
        coarse = sorted(_products(groups), key=trial.rough)[:KEPT]
        sets = {_with(on, fine) for on in coarse for fine in _products(FINE)}
        yield _climb(trial, _without_idle(trial, min(sets, key=trial.distance)))


def _climb(trial: Trial, on: On) -> On:
    """Switch one deviation at a time, always the one that reduces the distance most, until none helps."""
    while True:
        nearer = min((on - {name} if name in on else _with(on, {name}) for name in DEVIATIONS), key=trial.distance)
        needed = CLEARLY if trial.fits(on) else HELPS
        if trial.distance(nearer).rms * needed >= trial.distance(on).rms:
            return on
        on = nearer


def _without_idle(trial: Trial, on: On) -> On:
    """Leave off one deviation after the other, as long as the rest explains the observation as well."""
    best = on
    for name in sorted(on, key=lambda name: trial.distance(on - {name})):
        if trial.replaces(on - {name}, best):
            on -= {name}
    return on


def _products(groups: Iterable[tuple[str, ...]]) -> list[On]:
    """Every choice of at most one from each group."""
    choices = itertools.product(*((None, *group) for group in groups))
    return [frozenset(name for name in choice if name) for choice in choices]


def _with(on: On, names: Iterable[str]) -> On:
    """``on`` with these, which replace those that they exclude."""
    for name in names:
        rivals = frozenset(rival for group in EXCLUSIVE if name in group for rival in group)
        on = on - rivals | {name}
    return on
