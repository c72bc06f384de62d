"""What a comparison says: sentences, the examples that differ, a JSON file, and whether one is worse."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.compare.result import Comparison, Difference, Disagreement, Ratio
from harness.data.kinds import KINDS
from harness.errors import BadInput
from harness.files import write_json

if TYPE_CHECKING:
    from rich.console import Console


def verdicts(comparison: Comparison) -> list[str]:
    """One sentence for each task and split, and each shape: size, uncertainty, and what is shown."""
    tests = sum(each.p is not None for each in comparison.differences)
    scores = [_verdict(comparison, each, tests) for each in comparison.differences]
    return scores + [_speed_verdict(comparison, each) for each in comparison.ratios]


def _verdict(comparison: Comparison, each: Difference, tests: int) -> str:
    points = f"{abs(100 * each.value):.1f}"
    size = f"{points} points {'better' if each.value > 0 else 'worse'} than" if float(points) else "0.0 points from"
    said = f"{comparison.b} is {size} {comparison.a} on {each.subject}"
    seeds = f"{len(each.by_seed)} seeds" if len(each.by_seed) > 1 else "one seed"
    if each.p_holm is None or each.low is None or each.high is None:
        return f"{said} ({each.metric}, {each.n} examples, {seeds}, no interval): too little to tell"
    interval = f"95% interval {100 * each.low:.1f} to {100 * each.high:.1f}, {_p(each.p_holm, tests)}"
    alone = ", which says nothing of other seeds" if len(each.by_seed) == 1 else ""
    shown = "a difference is" if each.p_holm < 0.05 and not each.low <= 0 <= each.high else "no difference"
    return f"{said} ({each.metric}, {interval}): {shown} shown by {each.n} examples and {seeds}{alone}"


def _speed_verdict(comparison: Comparison, each: Ratio) -> str:
    size = f"{comparison.b} is {each.ratio:.2f} times as fast as {comparison.a} at {each.shape}"
    if each.p_holm is None or each.low is None or each.high is None:
        return f"{size} (one round, no interval): too little to tell"
    tests = sum(other.p is not None for other in comparison.ratios)
    interval = f"95% interval {each.low:.2f} to {each.high:.2f}, {_p(each.p_holm, tests)}"
    shown = "a difference is" if each.p_holm < 0.05 else "no difference"
    return f"{size} ({interval}): {shown} shown by {each.rounds} rounds"


def _p(p: float, tests: int) -> str:
    value = "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"
    return f"p {value}" + (f" after Holm's correction over {tests} tests" if tests > 1 else "")


def print_comparison(comparison: Comparison, console: "Console", examples: int = 10) -> None:
    """The sentences, what to know besides, and on each task the first examples that are answered differently."""

    def line(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    for sentence in verdicts(comparison):
        line(sentence)
    for note in comparison.notes:
        line(note, "yellow")
    for each in comparison.differences:
        seeds = ", ".join(f"seed {seed} {100 * value:+.1f}" for seed, value in each.by_seed.items())
        test = f"; {each.test} p {each.p:.3g}, bootstrap p {each.p_bootstrap:.3g}, uncorrected" if each.test else ""
        line(f"\n{each.subject}: {each.metric} {each.a:.4f}, {each.b:.4f}; {seeds}{test}")
        line(f"{len(each.disagreements)} answers differ ({len(each.by_seed)} x {each.n} examples)")
        for one in each.disagreements[:examples]:
            where, a, b, gold = _shown(each.kind, one)
            right = "" if gold is None else f"; gold {gold}"
            line(f"  seed {one.seed}, example {one.id}{where}: {comparison.a} {a}, {comparison.b} {b}{right}")


def _shown(kind: str, one: Disagreement) -> tuple[str, str, str, str | None]:
    """Which words, and the answers as text; of two sequences of tags only the words where they differ."""
    a, b, gold = one.a, one.b, one.gold
    where = ""
    places = KINDS[kind].places(a, b)
    if places is not None:
        where = f", place {', '.join(map(str, places))}"
        a, b, gold = (tags if tags is None else tuple(tags[place] for place in places) for tags in (a, b, gold))
    return where, _text(a), _text(b), None if gold is None else _text(gold)


def _text(answer: Any) -> str:
    if isinstance(answer, tuple):
        return " ".join(answer) or "none"
    return f"{answer:.4g}" if isinstance(answer, float) else str(answer)


def write(comparison: Comparison, path: Path) -> None:
    """Everything as JSON, but gold answers, which a file that is passed on must not hold."""
    values = asdict(comparison) | {"verdicts": verdicts(comparison)}
    for each in values["differences"]:
        for one in each["disagreements"]:
            del one["gold"]
    write_json(values, path)


def judge(comparison: Comparison, margin: float) -> tuple[list[str], list[str]]:
    """Where B is shown to be worse than A by more than ``margin`` points, and where that is not ruled out.

    Shown: the whole 95% interval is below -margin, or B has no score where A has one, as it lacks the
    task or its run failed (seeds that B was not run with are no sign of anything). Not ruled out: a part of it is.
    The intervals are not corrected for several tasks: of an equal B each one cries wolf at most 2.5% of the time, far
    less with a margin; but one seed of each says nothing of what another fine-tuning would give. BadInput for a
    negative margin, and where there is no interval to tell by.
    """
    check_margin(margin)
    intervals = {each.subject: (each.low, each.high) for each in comparison.differences}
    unknown = [subject for subject, (low, _) in intervals.items() if low is None]
    if unknown or not intervals:
        raise BadInput(
            f"--fail-if-worse cannot tell of {', '.join(unknown) or 'speed alone'}: it needs scores and data"
        )
    worse = [subject for subject, (_, high) in intervals.items() if high is not None and 100 * high < -margin]
    unsure = [subject for subject, (low, _) in intervals.items() if low is not None and 100 * low < -margin]
    unsure = [subject for subject in unsure if subject not in worse]
    return worse + [f"{subject} (no score of {comparison.b})" for subject in comparison.lacking], unsure


def check_margin(margin: float) -> None:
    """BadInput unless it is a number of points."""
    if not 0 <= margin < math.inf:
        raise BadInput(f"--fail-if-worse: {margin} is no margin; give points from 0 on, such as 1.5")
