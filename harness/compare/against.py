"""Every published implementation against the reference: what it costs in quality to choose it.

Each pair has the same checkpoint, data, seeds and machine, and where there is a choice the same commit, since other
code may have fine-tuned another model. The interval is that of ``compare`` where the right answers are at hand, and
Student's t over the seeds where they are not.
"""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.compare.pairing import Run, Runs, grouped, pairs
from harness.compare.quality import differ, differences
from harness.compare.result import Comparison
from harness.errors import BadInput
from harness.files import sha256_of
from harness.records import record
from harness.records.models import model_of

REFERENCE = "reference"
LEAST_SEEDS = 3  # for an interval over seeds alone
Values = list[dict[str, Any]]


def against_reference(results: Path, data: Path | None = None) -> Values:
    """The paired differences in the first metric of each split, as plain values.

    Of implementations that were not run on what the reference was run on there is none.
    """
    groups: dict[tuple[str, str, str], dict[str, list[Run]]] = {}
    for path in record.files(results):
        each = record.read(path)
        if isinstance(each, record.Quality) and each.state == "ok" and _predictions((path, each)).is_file():
            key = (record.hardware(each), model_of(each), each.precision["resolved"])
            groups.setdefault(key, {}).setdefault(each.implementation["name"], []).append((path, each))
    tested: dict[tuple[str, ...], Values] = {}  # of the same answers once: most implementations give the same
    found = []
    for (hardware, model, precision), by_name in groups.items():
        base = by_name.get(REFERENCE, [])
        for name, runs in by_name.items():
            if name == REFERENCE:
                continue
            where = {"hardware": hardware, "checkpoint": model, "precision": precision, "implementation": name}
            for what, runs_a, runs_b in _pairs(name, base, runs):
                answers = (what, *(sha256_of(_predictions(run)) for side in (runs_a, runs_b) for run in side.values()))
                if answers not in tested:
                    tested[answers] = _differences(what, runs_a, runs_b, data)
                same = all(run.training.get("by") == REFERENCE for _, run in runs_b.values())
                found += [where | {"same_weights": same} | values for values in tested[answers]]
    return found


def _pairs(name: str, base: list[Run], runs: list[Run]) -> list[tuple[str, Runs, Runs]]:
    found = []
    for task in sorted({run.task["name"] for _, run in runs}):
        comparison = Comparison(REFERENCE, name)
        ours, theirs = ([(path, run) for path, run in side if run.task["name"] == task] for side in (runs, base))
        commits = {run.commit for _, run in ours}
        theirs = [(path, run) for path, run in theirs if run.commit in commits] or theirs
        try:
            sides = grouped(comparison, REFERENCE, [*theirs]), grouped(comparison, name, [*ours])
            found += pairs(comparison, *sides, set())
        except BadInput:  # other data, recipe or seeds: nothing that could be paired
            continue
    return found


def _predictions(run: Run) -> Path:
    path, each = run
    return path.parent / (each.predictions or "")


def _differences(what: str, runs_a: Runs, runs_b: Runs, data: Path | None) -> Values:
    try:
        if same := _same(what, runs_a, runs_b):
            return same
        comparison = Comparison(REFERENCE, "")
        found = differences(comparison, what, runs_a, runs_b, data, {})
    except BadInput:  # predictions that are not there, or a metric of another version
        return []
    return [
        _values(
            {"task": each.subject, "metric": each.metric, "n": each.n, "test": each.test},
            each.by_seed,
            (each.low, each.high),
            len(each.disagreements),
        )
        for each in found
    ]


def _same(what: str, runs_a: Runs, runs_b: Runs) -> Values:
    """The differences where both give the same answers, which need no test; empty where they do not."""
    first = next(iter(runs_a.values()))[1]
    found = []
    for split in dict.fromkeys(each["split"] for each in first.metrics):
        answers = [
            [pair for run in side.values() for pair in record.predictions_of(*run, split)[split]]
            for side in (runs_a, runs_b)
        ]
        if len(answers[0]) != len(answers[1]) or any(
            one[0] != other[0] or differ(one[1], other[1]) for one, other in zip(*answers, strict=True)
        ):
            return []
        metric = next(each for each in first.metrics if each["split"] == split)
        subject = what if split == "dev" else f"{what}, {split}"
        known = {"task": subject, "metric": metric["name"], "n": metric["n"], "test": "same answers"}
        found.append(_values(known, dict.fromkeys(runs_a, 0.0), (0.0, 0.0), 0))
    return found


def _values(
    known: dict[str, Any], by_seed: dict[int, float], bounds: tuple[float | None, float | None], differing: int
) -> dict[str, Any]:
    differences = list(by_seed.values())
    value = sum(differences) / len(differences)
    low, high = bounds
    if low is None and len(differences) >= LEAST_SEEDS:
        half = _t(len(differences) - 1) * float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
        low, high, known = value - half, value + half, known | {"test": "t of seeds"}
    return known | {
        "seeds": sorted(by_seed),
        "difference": value,
        "low": low,
        "high": high,
        "answers": known["n"] * len(differences),
        "differing": differing,  # answers that are not the reference's
    }


@cache
def _t(freedom: int) -> float:
    from scipy.stats import t

    quantile: Callable[[float, int], float] = t.ppf
    return float(quantile(0.975, freedom))
