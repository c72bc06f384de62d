"""How gradients differ from those of the reference, and why.

The reasons are those of hidden states (``harness.measure.deviations``), whose plain BERT is differentiated here with a
head on it, and two of training alone: the loss is summed over the batch, or weights are not trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.measure.deviations import DEVIATIONS, On, plain_bert
from harness.measure.parity import CLOSE, EXACT
from harness.port.batch import Array, Batch
from harness.port.hf_folder import read_folder

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 1e-3  # a weight's differences are relative to its largest gradient, or to this share of the largest of all
SEEN = 1e-6  # share of the largest gradient above which a weight's gradient has a direction
ALIKE = 1e-3  # by which two factors of gradients may differ and count as one
DOUBLE = 1e-12  # what float64 may differ by, as for hidden states
NEAR = 0.1  # largest relative difference of gradients that are close
Named = Mapping[str, Array]


def differences(found: Named, exact: Named) -> dict[str, Any]:
    """Largest relative difference and lowest cosine, the weight with the largest difference, and that of each weight.

    A difference is relative to the largest gradient of the weight, or to SMALL times the largest of all: the gradients
    of keys' biases, for one, are rounding around 0. Compared are the weights that both name. ValueError for another
    shape, for numbers that are not finite, or without a common name.
    """
    largest = max(float(np.abs(values).max()) for values in exact.values())
    by_name, cosines = {}, []
    for name in sorted(found.keys() & exact.keys()):
        mine, theirs = found[name].astype(np.float64), exact[name].astype(np.float64)
        if mine.shape != theirs.shape:
            raise ValueError(f"the gradient of {name} has shape {mine.shape}, expected {theirs.shape}")
        if not np.isfinite(mine).all():
            raise ValueError(f"the gradient of {name} has numbers that are not finite")
        own = float(np.abs(theirs).max())
        by_name[name] = float(np.abs(mine - theirs).max()) / max(own, SMALL * largest, np.finfo(float).tiny)
        if own > SEEN * largest:
            norms = np.linalg.norm(mine) * np.linalg.norm(theirs)
            cosines.append(float((mine * theirs).sum() / max(norms, np.finfo(float).tiny)))
    if not cosines:
        raise ValueError("the implementation exports no weight that has a gradient")
    worst = max(by_name, key=lambda name: by_name[name])
    return {"max": by_name[worst], "cosine": min(cosines), "worst": worst, "weights": by_name}


def verdict(by_precision: Mapping[str, Mapping[str, Any]], floor: float, lacking: Sequence[str]) -> str:
    """As for hidden states: exact, close or differs. Their size counts too, and no weight may be left out."""
    single, double = by_precision["fp32"], by_precision.get("fp64")
    if lacking:
        return "differs"
    if single["max"] <= EXACT * floor and (double is None or double["max"] <= DOUBLE):
        return "exact"
    return "close" if single["cosine"] >= CLOSE and single["max"] <= NEAR else "differs"


@dataclass(frozen=True)
class Diagnosis:
    """Why gradients differ, and how near the reference with that comes to them."""

    deviations: tuple[str, ...]  # of the hidden states, keys of ``harness.measure.deviations.DEVIATIONS``
    factor: float  # of all gradients; 1 if the loss is the mean
    summed: bool  # whether the factor is the number of sequences
    untrained: tuple[str, ...]  # weights whose gradients are 0
    reproduced: bool
    remaining: float  # largest relative difference
    beyond: tuple[str, ...]  # weights that are not reproduced


def diagnose(
    folder: Path, batch: Batch, labels: Array, found: Named, exact: Named, known: list[str], tolerance: float
) -> Diagnosis:
    """The smallest explanation within a tolerance; else the nearest. ``known`` deviate the hidden states already.

    ``folder`` has the weights, with a head for classification.
    """
    tried = []
    for on in dict.fromkeys((frozenset[str](), frozenset(known).intersection(DEVIATIONS))):
        theirs = exact if not on else plain_gradients(folder, batch, labels, on)
        tried.append(_explain(found, theirs, len(batch.lengths), on, tolerance))
        if tried[-1].reproduced:
            return tried[-1]
    return min(tried, key=lambda each: each.remaining)


def _explain(found: Named, exact: Named, sequences: int, on: On, tolerance: float) -> Diagnosis:
    common = sorted(found.keys() & exact.keys())
    untrained = tuple(name for name in common if not found[name].any() and exact[name].any())
    rest = [name for name in common if name not in untrained]
    near = _factor(found, exact, rest)
    summed = sequences > 1 and abs(near / sequences - 1) < ALIKE
    near = float(sequences) if summed else near
    if not rest:
        return Diagnosis(tuple(sorted(on)), 1.0, False, untrained, False, float("inf"), tuple(rest))
    scaled = {name: found[name] / near for name in rest}
    left = differences(scaled, exact)
    beyond = tuple(name for name, value in left["weights"].items() if value > tolerance)
    return Diagnosis(tuple(sorted(on)), near, summed, untrained, not beyond, left["max"], beyond)


def _factor(found: Named, exact: Named, names: Sequence[str]) -> float:
    """The factor that most weights' gradients have in common; 1 if there is none."""
    squares = {name: float(np.square(exact[name], dtype=np.float64).sum()) for name in names}
    largest = max(squares.values(), default=0.0)
    factors = np.array(
        [
            float((exact[name] * found[name]).sum()) / squares[name]
            for name in names
            if squares[name] > SEEN**2 * largest
        ]
    )
    middle = float(np.median(factors)) if len(factors) else 1.0
    shared = middle > 0 and (np.abs(factors / middle - 1) < ALIKE).mean() > 0.5
    return middle if shared and abs(middle - 1) >= ALIKE else 1.0


def sentence(diagnosis: Diagnosis, lacking: Sequence[str] = ()) -> str:
    """A diagnosis in one line; ``lacking`` are weights that the model has no place for."""
    parts = [DEVIATIONS[name].partition(":")[0] for name in diagnosis.deviations]
    if diagnosis.summed:
        parts.append("the loss is summed over the batch, not averaged")
    elif diagnosis.factor != 1:
        parts.append(f"all gradients are {diagnosis.factor:.4g} times the reference's")
    if diagnosis.untrained:
        parts.append(f"not trained: {_some(diagnosis.untrained)}")
    if lacking:
        parts.append(f"no place for {_some(lacking)}")
    if not diagnosis.reproduced:
        parts.append(
            f"not reproduced by known deviations ({diagnosis.remaining:.1e} remains, {_some(diagnosis.beyond)})"
        )
    return "; ".join(parts) or "no deviation: what differs is rounding"


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "") if names else "no weight in particular"


def plain_gradients(folder: Path, batch: Batch, labels: Array, on: On) -> dict[str, Array]:
    """The gradients of the mean cross-entropy of a classifier on the plain BERT with deviations, in float64."""
    import torch
    import torch.nn.functional as F

    config, encoder, head = read_folder(folder)

    def leaf(values: Array) -> Tensor:
        return torch.from_numpy(values.astype(np.float64)).requires_grad_()

    tensors = {name: leaf(values) for name, values in (encoder | head).items()}
    hidden = plain_bert(tensors, config, batch, on)[-1][torch.from_numpy(batch.cu_seqlens[:-1]).long()]
    pooled = F.linear(hidden, tensors["pooler.dense.weight"], tensors["pooler.dense.bias"]).tanh()
    logits = F.linear(pooled, tensors["classifier.weight"], tensors["classifier.bias"])
    F.cross_entropy(logits, torch.from_numpy(labels)).backward()
    return {
        name: (torch.zeros_like(tensor) if tensor.grad is None else tensor.grad).numpy()
        for name, tensor in tensors.items()
    }
