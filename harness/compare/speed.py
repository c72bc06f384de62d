"""The ratio of two implementations' speeds, from timings in which they took turns.

Passes of one round are alike, so that a round counts once, by the mean of its passes (see ``record.turn_seconds``).
Interval and p are of Student's t of the logarithms of the rounds' ratios.
"""

import numpy as np

from harness.compare.result import Comparison, Ratio
from harness.records import record
from harness.records.models import model_of, named_apart


def ratios(comparison: Comparison, speeds: list[record.Speed], a: str, b: str) -> list[Ratio]:
    """One for each shape at which both were timed in turn; the last of those timed under the same conditions."""
    last: dict[tuple[str, ...], record.Speed] = {}
    for each in sorted(named_apart(speeds), key=lambda each: each.started):
        states = [each.implementations.get(name, {}).get("state") for name in (a, b)]
        if a != b and states == ["ok", "ok"]:
            conditions = (each.checkpoint["name"], each.precision["resolved"], record.hardware(each))
            last[each.shape["name"], *conditions, model_of(each)] = each
    if not last:
        comparison.notes.append("speed: the two were not timed in turn in one comparison; `run --impl A,B` does that")
    varied = [len({key[number] for key in last}) > 1 for number in range(1, 4)]
    found = []
    for (shape, *timed, _), each in last.items():
        name = ", ".join([shape, *(said for said, differs in zip(timed, varied, strict=True) if differs)])
        turns = [record.turn_seconds(each.shape, each.implementations[who]) for who in (a, b)]
        found.append(speed_ratio(name, *turns))
        if each.load.get("noisy"):
            comparison.notes.append(f"{name}: unreliable, as the machine was busy or slow while it was timed")
    return found


def speed_ratio(shape: str, turns_a: list[float], turns_b: list[float]) -> Ratio:
    """From the seconds of a pass in each round."""
    from scipy.stats import mannwhitneyu, ttest_1samp

    a, b = np.array(turns_a), np.array(turns_b)
    ratios = a / b  # how many times as fast B is, in each round
    if len(ratios) < 2:
        return Ratio(shape, float(ratios[0]), None, None, None, None, len(ratios))
    tested = ttest_1samp(np.log(ratios), 0)
    low, high = np.exp(tested.confidence_interval(0.95))
    mann_whitney = float(mannwhitneyu(a, b).pvalue)
    return Ratio(
        shape, float(np.median(ratios)), float(low), float(high), float(tested.pvalue), mann_whitney, len(ratios)
    )
