"""Timing: turns, ratios and percentiles, on workers whose speed is known."""

from typing import Any, cast

import numpy as np
import pytest

from harness import speed
from harness.isolate import Worker, WorkerError
from harness.protocol import Array


class Clocked:
    """A worker that says how long a pass took; it fails at the given pass."""

    def __init__(self, name: str, seconds: list[float], calls: list[tuple[str, dict[str, Any]]], fails_at: int = -1):
        self.name, self.seconds, self.calls, self.fails_at = name, seconds, calls, fails_at
        self.passes = 0

    def call(
        self, command: str, arrays: dict[str, Array], *, repeats: int, **arguments: Any
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        assert command == "time"
        assert set(arrays) == {"ids", "segments", "cu_seqlens"}
        if self.passes == self.fails_at:
            raise WorkerError("it broke", "died")
        self.calls.append((self.name, {"repeats": repeats, **arguments}))
        wall = np.full(repeats, self.seconds[min(self.passes, len(self.seconds) - 1)])
        self.passes += 1
        return {}, {"wall": wall, "cpu": 2 * wall}


def measured(workers: list[Clocked], shape: speed.Shape, **arguments: Any) -> dict[str, dict[str, Any]]:
    return speed.measure(cast(dict[str, Worker], {worker.name: worker for worker in workers}), shape, **arguments)


SHAPE = speed.fixed(8, 16, 100)


def test_a_fixed_shape_is_a_full_rectangle_the_same_for_everybody() -> None:
    shape, again = speed.fixed(4, 32, 50), speed.fixed(4, 32, 50)
    assert shape.name == "4 x 32"
    assert shape.batch.lengths.tolist() == [32] * 4
    assert len(shape.batch.ids) == len(shape.batch.segments) == 128
    assert 0 <= shape.batch.ids.min() <= shape.batch.ids.max() < 50
    np.testing.assert_array_equal(shape.batch.ids, again.batch.ids)
    assert (shape.latency, speed.fixed(1, 32, 50).latency) == (False, True)


def test_implementations_take_turns_after_a_warm_up() -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    measured([Clocked("a", [0.1], calls), Clocked("b", [0.1], calls)], SHAPE)
    warm_up, turns = calls[:4], calls[4:]
    assert [name for name, _ in warm_up] == ["a", "a", "b", "b"]
    assert [name for name, _ in turns] == ["a", "b"] * speed.ROUNDS


@pytest.mark.parametrize(("seconds", "repeats"), [(0.1, 4), (10.0, 1), (0.0001, 4000)])
def test_a_turn_lasts_long_enough(seconds: float, repeats: int) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    results = measured([Clocked("a", [seconds], calls)], SHAPE)
    assert [arguments["repeats"] for _, arguments in calls] == [1, 2] + [repeats] * speed.ROUNDS
    assert np.shape(results["a"]["wall"]) == np.shape(results["a"]["cpu"]) == (speed.ROUNDS, repeats)


def test_figures_follow_from_the_seconds() -> None:
    turns = [9.9, 9.9, 0.5, 0.4, 0.6, 0.5, 0.5]  # the warm-up's two passes are not counted
    figures = measured([Clocked("a", turns, [])], SHAPE)["a"]
    assert figures["state"] == "ok"
    assert figures["wall"] == [[0.5], [0.4], [0.6], [0.5], [0.5]]
    assert figures["cpu"] == [[1.0], [0.8], [1.2], [1.0], [1.0]]
    assert figures["p50"] == 0.5
    assert figures["p50"] < figures["p90"] < figures["p99"] < 0.6
    assert figures["sequences_per_second"] == 8 / 0.5
    assert figures["tokens_per_second"] == 128 / 0.5
    assert "ratio" not in figures, "there is no reference to compare with"


def test_ratios_are_of_the_same_round() -> None:
    """A machine that slows down for a while slows both: the ratio stays."""
    slowing = [1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 1.0]
    workers = [Clocked("reference", slowing, []), Clocked("twice", [2 * each for each in slowing], [])]
    results = measured(workers, SHAPE)
    assert results["reference"]["ratio"] == [1, 1, 1]
    assert results["twice"]["ratio"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("fails_at", [0, 1, 4])
def test_one_that_fails_is_left_out_and_said(fails_at: int) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    results = measured([Clocked("a", [1.0], calls, fails_at), Clocked("reference", [1.0], calls)], SHAPE)
    assert results["a"] == {"state": "failed", "reason": "it broke"}
    assert results["reference"]["state"] == "ok"
    assert len(results["reference"]["wall"]) == speed.ROUNDS
    assert sum(name == "a" for name, _ in calls) == fails_at, "it is not asked again"


def test_without_the_reference_there_are_no_ratios() -> None:
    results = measured([Clocked("reference", [1.0], [], 3), Clocked("b", [1.0], [])], SHAPE)
    assert "ratio" not in results["b"]


def test_own_lengths_are_fed_as_users_feed_them_and_rectangles_whole() -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    measured([Clocked("a", [1.0], calls)], speed.Shape("rte", SHAPE.batch, own_lengths=True))
    assert {(each["sequences"], each["tokens"]) for _, each in calls} == {(speed.BATCH, speed.TOKENS)}
    calls.clear()
    measured([Clocked("a", [1.0], calls)], SHAPE)
    assert {(each["sequences"], each["tokens"]) for _, each in calls} == {(None, None)}


def test_progress_is_told_of_each_round() -> None:
    told: list[tuple[int, int]] = []
    measured([Clocked("a", [1.0], [])], SHAPE, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(turn, speed.ROUNDS) for turn in range(speed.ROUNDS + 1)]
