"""Ratios of speed from stored timings: the interval, the test, and what is said of them."""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

import numpy as np
import pytest

from harness.compare.compare import compare
from harness.compare.judge import judge, verdicts
from harness.compare.result import Comparison
from harness.compare.speed import speed_ratio
from harness.errors import BadInput
from harness.records import record

Speeds: TypeAlias = Callable[..., record.Speed]


def passes(seconds: float, seed: int, rounds: int = 5) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    return (seconds * rng.lognormal(0, 0.05, (rounds, 8))).tolist()


def test_speed(tmp_path: Path, speed_record: Speeds) -> None:
    runs = tmp_path / "runs"
    made = speed_record()
    one, other = made.implementations["reference"], made.implementations["transformers"]
    figures = {"a": one | {"wall": passes(0.1, 1)}, "b": other | {"wall": passes(0.05, 2)}}
    record.write(speed_record(implementations=figures, load={"noisy": True}), runs / "twice.json")
    alike = {"a": one | {"wall": passes(0.1, 3)}, "b": other | {"wall": passes(0.1, 4)}}
    record.write(speed_record("1 x 128", implementations=alike), runs / "alike.json")
    old = {"a": one | {"wall": passes(0.1, 3)}, "b": other | {"wall": passes(9.0, 4)}}
    record.write(speed_record(implementations=old, started="2025-01-01"), runs / "old.json")
    failed = {"a": one, "b": {"state": "failed", "reason": "it hung"}}
    record.write(speed_record("32 x 128", implementations=failed), runs / "failed.json")
    found = compare("a", "b", runs)
    ratios = {each.shape: each for each in found.ratios}
    assert ratios.keys() == {"8 x 128", "1 x 128"}
    fast, same = ratios["8 x 128"], ratios["1 x 128"]
    assert fast.low is not None
    assert fast.high is not None
    assert fast.low < 2 < fast.high < fast.low + 0.4
    assert same.low is not None
    assert same.high is not None
    assert same.low < 1 < same.high
    assert fast.p is not None
    assert fast.p_holm == pytest.approx(2 * fast.p)
    assert fast.p_mann_whitney == pytest.approx(2 / math.comb(10, 5))  # no round of one is as slow as any of the other
    sentences = "\n".join(verdicts(found))
    assert f"b is {fast.ratio:.2f} times as fast as a at 8 x 128 (95% interval" in sentences
    assert "a difference is shown by 5 rounds" in sentences
    assert "no difference shown by 5 rounds" in sentences
    assert any("8 x 128: unreliable, as the machine was busy" in note for note in found.notes)
    with pytest.raises(BadInput, match="cannot tell of speed alone"):
        judge(found, 1)


def test_a_slow_round_does_not_make_a_difference() -> None:
    """A machine that is slowed down for a round slows both: their ratio within each round stays."""
    factors = (1, 3, 1, 2, 1)
    a, b = ([factor * fmean(turn) for factor, turn in zip(factors, passes(0.1, s), strict=True)] for s in (1, 2))
    found = speed_ratio("8 x 128", a, b)
    assert found.low is not None
    assert found.high is not None
    assert 0.9 < found.low <= found.ratio <= found.high < 1.1


def test_few_alarms_of_speed_are_false_where_rounds_differ() -> None:
    """Passes within a round are far more alike than rounds are: forty of them are no forty observations."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(400):
        rounds = rng.lognormal(0, 0.03, (2, 5, 1)) * rng.lognormal(0, 0.01, (2, 5, 8))
        found = speed_ratio("8 x 128", *rounds.mean(axis=2).tolist())
        assert found.p is not None
        alarms += found.p < 0.05
    assert 8 <= alarms <= 36  # 20 are expected


def test_one_round_shows_nothing(speed_record: Speeds) -> None:
    made = Comparison("a", "b", ratios=[speed_ratio("8 x 128", [0.2], [0.1])])
    assert verdicts(made) == ["b is 2.00 times as fast as a at 8 x 128 (one round, no interval): too little to tell"]
