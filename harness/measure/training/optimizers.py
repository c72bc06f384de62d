"""Why an optimizer differs from AdamW as the harness fine-tunes with it: the smallest set of deviations that does.

The first part is a plain AdamW with a switch for every deviation. The second part searches for the switches that turn
the gradients that an implementation had into the weights that it got. Both see a few entries of every weight, so that
no model is needed.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.measure.client import Trace
from harness.port.batch import Array

DEVIATIONS = {  # name: "title: description."
    "no-bias-correction": "no bias correction: the moments are not divided by 1 - beta^t.",
    "epsilon-1e-7": "epsilon 1e-7: as much is added to the root of the second moment, not 1e-8.",
    "epsilon-1e-6": "epsilon 1e-6: as much is added to the root of the second moment, not 1e-8.",
    "epsilon-hat": "epsilon before bias correction: it is added to the root of the uncorrected second moment.",
    "beta-2-0.98": "beta2 0.98: the second moment forgets faster than with 0.999.",
    "decay-all": "decay of biases and LayerNorm: weight decay leaves out no weight.",
    "no-decay": "no weight decay: the setting has no effect.",
    "decay-in-gradient": "decay in the gradient: it passes through the moments, as L2 regularization.",
    "decay-with-correction": "decay with bias correction: its rate is multiplied by the factor of the correction.",
    "no-clipping": "no clipping: the setting has no effect.",
    "clip-each": "clipping one by one: the norm of each weight's gradient is limited, not that of all together.",
    "no-warm-up": "no warm-up: the first step has the full learning rate.",
    "warm-up-from-zero": "warm-up from zero: the first step has a learning rate of 0 and changes nothing.",
    "constant-rate": "constant rate: the learning rate does not fall after the warm-up.",
    "decay-from-start": "rate falls from the first step on: after the warm-up it is lower by as much.",
    "ends-at-zero": "rate ends at zero: the last step has a learning rate of 0 and changes nothing.",
    "noam": "Noam's schedule: the rate is hidden size^-0.5 x min(t^-0.5, t x warm-up^-1.5), whatever was set.",
}
GROUPS = (  # an optimizer has at most one of each group
    ("no-bias-correction", "epsilon-hat"),
    ("epsilon-1e-7", "epsilon-1e-6"),
    ("beta-2-0.98",),
    ("decay-all", "no-decay"),
    ("decay-in-gradient", "decay-with-correction"),
    ("no-clipping", "clip-each"),
    ("no-warm-up", "warm-up-from-zero", "noam"),
    ("constant-rate", "decay-from-start"),
    ("ends-at-zero",),
)
NEEDS_RATE = frozenset({"constant-rate", "decay-from-start", "ends-at-zero"})  # of the usual schedule
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
CLIP_EPSILON = 1e-6  # added to the norm, as torch does
TOLERANCE = 1e-6  # of a step, as a share of the largest: far below any deviation, and above how norms are rounded
PARTLY = 0.1  # share of the largest change: if more remains, nothing is explained
On = frozenset[str]  # the deviations that are switched on


# -- AdamW, with switches --


def rate(step: int, recipe: Mapping[str, Any], on: On) -> float:
    """The learning rate of a step, counted from 0: up over the warm-up, then down in a line; no step has 0."""
    steps, warmup = recipe["steps"], recipe["warmup"]
    if "noam" in on:
        count = step + 1
        return float(recipe["hidden_size"] ** -0.5 * min(count**-0.5, count * max(1, warmup) ** -1.5))
    if step < warmup and "no-warm-up" not in on:
        return float(recipe["learning_rate"] * (step if "warm-up-from-zero" in on else step + 1) / warmup)
    if "constant-rate" in on:
        return float(recipe["learning_rate"])
    left = steps - step - ("ends-at-zero" in on)
    whole = steps if on & {"decay-from-start", "no-warm-up"} else steps - warmup
    return float(recipe["learning_rate"] * left / max(1, whole))


def changes(trace: Trace, recipe: Mapping[str, Any], on: On) -> Iterator[Array]:
    """The change of the traced entries in each step, by AdamW with these deviations, from the observed gradients."""
    counts = [entries for entries, _ in trace.weights.values()]
    decayed = np.repeat([dimensions > 1 or "decay-all" in on for _, dimensions in trace.weights.values()], counts)
    decay = recipe["weight_decay"] * decayed * ("no-decay" not in on)
    beta_2 = 0.98 if "beta-2-0.98" in on else BETA_2
    epsilon = next((float(name.removeprefix("epsilon-")) for name in on & set(GROUPS[1])), EPSILON)
    first = second = np.zeros(sum(counts))
    for step in range(recipe["steps"]):
        weights = trace.entries[step]
        gradient = trace.gradients[step] * np.repeat(_clipping(trace, step, recipe["max_grad_norm"], on), counts)
        if "decay-in-gradient" in on:
            gradient = gradient + decay * weights
        first = BETA_1 * first + (1 - BETA_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        one, two = 1 - BETA_1 ** (step + 1), 1 - beta_2 ** (step + 1)
        if "no-bias-correction" in on:
            update = first / (np.sqrt(second) + epsilon)
        elif "epsilon-hat" in on:
            update = math.sqrt(two) / one * first / (np.sqrt(second) + epsilon)
        else:
            update = first / one / (np.sqrt(second / two) + epsilon)
        if "decay-in-gradient" not in on:
            factor = math.sqrt(two) / one if "decay-with-correction" in on else 1.0
            update = update + factor * decay * weights
        yield -rate(step, recipe, on) * update


def _clipping(trace: Trace, step: int, limit: float, on: On) -> Array:
    """The factor of each weight's gradient."""
    if "no-clipping" in on:
        return np.ones(len(trace.weights))
    norms = trace.norms[step] if "clip-each" in on else np.full(len(trace.weights), trace.norm[step])
    factors: Array = np.minimum(1.0, limit / (norms + CLIP_EPSILON))
    return factors


# -- the diagnosis --


@dataclass(frozen=True)
class Diagnosis:
    """Deviations, and how near AdamW with them is to what was observed."""

    deviations: tuple[str, ...]  # keys of DEVIATIONS
    reproduced: bool
    remaining: float  # largest difference of a step's change, as a share of the largest change
    rates: tuple[float, ...]  # learning rate of each step under these deviations


def diagnose(trace: Trace, recipe: Mapping[str, Any]) -> Diagnosis:
    """The smallest set of DEVIATIONS with which AdamW makes the observed changes from the observed gradients.

    If there is none, the set that a search by single switches ends at, if it explains most. ValueError if the trace is
    not finite.
    """
    if not all(np.isfinite(each).all() for each in (trace.entries, trace.gradients, trace.norm, trace.norms)):
        raise ValueError("weights or gradients became infinite or NaN in training")
    found = next((on for on in _sets() if _fits(trace, recipe, on)), None)
    on = found if found is not None else _climb(trace, recipe)
    if found is None and _largest(trace, recipe, on) > PARTLY:
        on = frozenset()  # another rule, which these only imitate
    return Diagnosis(
        deviations=tuple(name for name in DEVIATIONS if name in on),
        reproduced=found is not None,
        remaining=_largest(trace, recipe, on),
        rates=tuple(rate(step, recipe, on) for step in range(recipe["steps"])),
    )


def sentence(diagnosis: Diagnosis) -> str:
    """A diagnosis in one line."""
    titles = [DEVIATIONS[name].partition(":")[0] for name in diagnosis.deviations]
    if diagnosis.reproduced:
        return "; ".join(titles) or "the optimizer is the harness's AdamW and schedule"
    return "; ".join([*titles, f"not reproduced by known deviations ({diagnosis.remaining:.1e} of a step remains)"])


def _sets() -> list[On]:
    """All sets of deviations, the smallest first."""
    choices = itertools.product(*((None, *group) for group in GROUPS))
    sets = (frozenset(name for name in choice if name) for choice in choices)
    return sorted((on for on in sets if _sensible(on)), key=len)


def _sensible(on: On) -> bool:
    """Whether every deviation can have an effect beside the others."""
    if "noam" in on and on & NEEDS_RATE:
        return False
    if "no-decay" in on and on & {"decay-in-gradient", "decay-with-correction"}:
        return False
    if {"no-warm-up", "decay-from-start"} <= on or {"constant-rate", "ends-at-zero"} <= on:
        return False
    return not {"no-bias-correction", "decay-with-correction"} <= on


def _fits(trace: Trace, recipe: Mapping[str, Any], on: On) -> bool:
    """Whether all steps are reproduced; most sets are ruled out by the first."""
    observed = np.diff(trace.entries, axis=0)
    largest = TOLERANCE * np.abs(observed).max()
    return all(
        bool((np.abs(change - seen) <= largest).all())
        for change, seen in zip(changes(trace, recipe, on), observed, strict=True)
    )


def _largest(trace: Trace, recipe: Mapping[str, Any], on: On) -> float:
    observed = np.diff(trace.entries, axis=0)
    differences = np.abs(np.stack(list(changes(trace, recipe, on))) - observed)
    return float(differences.max() / max(np.abs(observed).max(), np.finfo(float).tiny))


def _climb(trace: Trace, recipe: Mapping[str, Any]) -> On:
    """Switch one deviation at a time, always the one that leaves least of the changes, until none helps."""
    observed = np.diff(trace.entries, axis=0)

    def distance(on: On) -> float:
        return float(np.square(np.stack(list(changes(trace, recipe, on))) - observed).sum())

    sets, on = set(_sets()), frozenset[str]()
    while True:
        nearer = min((other for other in sets if len(other ^ on) <= 2 and other != on), key=distance)
        if distance(nearer) * 1.1 >= distance(on):
            return on
        on = nearer
