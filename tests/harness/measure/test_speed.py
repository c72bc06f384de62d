"""Timing: turns, ratios and percentiles, on workers whose speed is known; and records of ones that are real."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from harness.measure import scenarios, speed
from harness.measure.bench import Bench
from harness.measure.client import Seconds, Worker, WorkerError
from harness.measure.plan import Options, prepare
from harness.port.batch import SEQUENCES, TOKENS, Batch
from harness.records import machine, record
from harness.records.load import Stretch
from harness.registry.implementations import describe
from harness.weights.checkpoints import Checkpoints

STUBS = Path(__file__).parents[1] / "stubs"


class Clocked:
    """A worker that says how long a pass took; it fails at the given pass."""

    def __init__(
        self, name: str, seconds: list[Any], calls: list[tuple[str, dict[str, Any]]], fails_at: int = -1
    ) -> None:
        self.name, self.seconds, self.calls, self.fails_at = name, seconds, calls, fails_at
        self.passes = 0

    def time(self, batch: Batch, sequences: int | None, tokens: int | None, repeats: int) -> Seconds:
        if self.passes == self.fails_at:
            raise WorkerError("it broke", "died")
        self.calls.append((self.name, {"repeats": repeats, "sequences": sequences, "tokens": tokens}))
        seconds = self.seconds[min(self.passes, len(self.seconds) - 1)]
        wall = np.resize(seconds, repeats)  # a list of them: passes of several kinds, again and again
        self.passes += 1
        return Seconds(wall, 2 * wall)


def measured(
    workers: list[Clocked], shape: speed.Shape, show: Any = lambda *_: None, **arguments: Any
) -> dict[str, dict[str, Any]]:
    by_name = cast(dict[str, Worker], {worker.name: worker for worker in workers})
    return speed.measure(by_name, shape, show, **arguments)


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


@pytest.mark.parametrize(("seconds", "repeats"), [(0.1, 2), (10.0, 1), (0.0001, 2000)])
def test_a_turn_lasts_long_enough(seconds: float, repeats: int) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    results = measured([Clocked("a", [seconds], calls)], SHAPE)
    cold = int(repeats > 1)  # the first of several is not counted
    assert [arguments["repeats"] for _, arguments in calls] == [1, 1] + [cold + repeats] * speed.ROUNDS
    assert np.shape(results["a"]["wall"]) == np.shape(results["a"]["cpu"]) == (speed.ROUNDS, repeats)


def test_the_first_pass_after_the_others_turns_is_not_counted() -> None:
    figures = measured([Clocked("a", [0.05, 0.05] + [[0.3, 0.05, 0.06, 0.05, 0.06]] * 5, [])], SHAPE)["a"]
    assert figures["wall"] == [[0.05, 0.06, 0.05, 0.06]] * 5
    assert figures["sequences_per_second"] == pytest.approx(8 / 0.055)


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


def test_rates_and_ratios_are_of_all_that_was_done_where_passes_are_of_two_kinds() -> None:
    """A quota that runs out stops some passes for most of a period: a median would show only the others."""
    stopped = [0.08, 0.02, 0.02]  # two passes of three are as fast as ever
    half = {"reference": [[0.02]] * 2 + [stopped] * 5, "even": [0.02] * 2 + [0.08] * 5}
    results = measured([Clocked(name, seconds, []) for name, seconds in half.items()], SHAPE)
    figures, even = results["reference"], results["even"]
    turn = figures["wall"][0]
    assert len(turn) == 10
    assert figures["p50"] == 0.02, "which half of the passes took at most, and is right as a percentile"
    assert figures["sequences_per_second"] == pytest.approx(8 * len(turn) / sum(turn))
    assert figures["tokens_per_second"] == pytest.approx(128 * len(turn) / sum(turn))
    assert even["ratio"][0] == pytest.approx(sum(turn) / len(turn) / 0.08)
    assert record.rates({"sequences": 8}, figures) == pytest.approx((figures["sequences_per_second"],) * 3)


def test_one_slow_turn_is_not_the_rate() -> None:
    figures = measured([Clocked("a", [0.1, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1], [])], SHAPE)["a"]
    assert record.rates({"sequences": 8}, figures) == pytest.approx((80.0, 8 / 0.9, 80.0))


def test_what_was_published_by_its_median_pass_stays() -> None:
    """Records of schema 1: the range of the rounds is of the same kind as their rate."""
    figures = {"wall": [[0.1, 0.1, 0.4], [0.2, 0.2, 0.2]], "p50": 0.2, "sequences_per_second": 40.0}
    assert record.rates({"sequences": 8}, figures) == (40.0, 40.0, 80.0)


def test_turns_are_watched_and_the_warm_up_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, stretches = Clocked("a", [1.0], []), list[Stretch]()
    asked: list[int] = []
    monkeypatch.setattr(machine, "throttled", lambda: (asked.append(worker.passes), (len(asked), 0.5))[1])
    measured([worker], SHAPE, stretches=stretches)
    assert asked == [2, 2 + speed.ROUNDS]
    assert [each.periods for each in stretches] == [1]


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
    assert {(each["sequences"], each["tokens"]) for _, each in calls} == {(SEQUENCES, TOKENS)}
    calls.clear()
    measured([Clocked("a", [1.0], calls)], SHAPE)
    assert {(each["sequences"], each["tokens"]) for _, each in calls} == {(None, None)}


def test_each_round_is_shown_as_progress() -> None:
    shown: list[tuple[str, float, float]] = []
    measured([Clocked("a", [1.0], [])], SHAPE, lambda *what: shown.append(what))
    assert shown == [("timing 8 x 16", turn, speed.ROUNDS) for turn in range(speed.ROUNDS + 1)]


# ---- records, of real workers whose implementations need no framework ----

LOADING_FAILS = """
NAME = "broken"
TITLE = "Broken"
CATALOG_ID = "broken"


def load(folder, head, device, precision, variant=""):
    raise RuntimeError("no such kernel")
"""
# Encodes a task's own lengths until it has been asked for something under load.
BREAKS_UNDER_LOAD = """
import inspect

NAME = "breaks"
TITLE = "Breaks under load"
CATALOG_ID = "breaks"


class Model:
    version, batching = "1", "packed"

    def encode(self, batch):
        if any(frame.function == "serve" and "picks" in frame.frame.f_locals for frame in inspect.stack()):
            raise RuntimeError("too many at once")
        return batch.ids

    def synchronize(self):
        pass


def load(folder, head, device, precision, variant=""):
    return Model()
"""


@pytest.fixture
def timed(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[record.Speed]]:
    """A function that times the stub ``plain`` and the given files on two tasks."""

    def run(*sources: str, **options: Any) -> list[record.Speed]:
        monkeypatch.setattr(speed, "SECONDS", 0.01)
        monkeypatch.setattr(speed, "cache_folder", lambda: tmp_path / "cache")
        made = prepare(
            Options(
                implementations=["reference"],
                tasks=["mini-sentiment", "mini-ner"],
                weights=str(tiny_checkpoint),
                runs=tmp_path / "runs",
                device="cpu",
                threads=1,
                limit=40,
                **options,
            )
        )
        files = [STUBS / "plain.py"]
        for number, source in enumerate(sources):
            files.append(tmp_path / f"stub{number}.py")
            files[-1].write_text(source)
        stubs = [describe(file)[0] for file in files]
        interpreters = {stub.name: Path(sys.executable) for stub in stubs}
        checkpoints = Checkpoints(made.weights.folder, made.tokenizer, tmp_path)
        done = list(speed.run_speed(Bench(made, interpreters, checkpoints, lambda *_: None), stubs))
        written = record.read_all([tmp_path / "runs"])
        assert all(each in written for each in done), "as it is written, so it is given"
        return done

    return run


def test_a_shape_is_described_by_its_lengths_and_a_task_by_its_tokenizer_too(
    timed: Callable[..., list[record.Speed]],
) -> None:
    records = {each.shape["name"]: each for each in timed()}
    assert list(records) == ["1 x 128", "8 x 128", "mini-sentiment", "mini-ner"]
    assert records["8 x 128"].shape["lengths"] == [[128, 8]]
    assert "tokenizer_sequences_per_second" not in records["8 x 128"].shape
    for name in ("mini-sentiment", "mini-ner"):
        shape = records[name].shape
        lengths, counts = np.array(shape["lengths"]).T
        assert lengths.tolist() == sorted(set(lengths))
        assert (counts.sum(), lengths @ counts, lengths[-1]) == (shape["sequences"], shape["tokens"], shape["longest"])
        assert shape["tokenizer_sequences_per_second"] > 100
    assert "scenarios" not in records["mini-ner"].implementations["stub"], "nobody asked for load"


def test_what_the_same_code_was_timed_on_is_not_timed_again(
    timed: Callable[..., list[record.Speed]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = timed()
    second = timed()
    assert sorted(map(repr, second)) == sorted(map(repr, first))

    (lost,) = (tmp_path / "runs" / "speed").glob("*-8x128-*.json")
    lost.unlink()
    third = {each.shape["name"]: each for each in timed()}
    repeated = [each.shape["name"] for each in first if third[each.shape["name"]] != each]
    assert repeated == ["8 x 128"]

    other = timed(shapes=((1, 128),), precision="bf16")
    assert not {each.key for each in other} & {each.key for each in first}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": "fast"}', "[" * 100_000])
def test_quiet_times_that_are_damaged_are_collected_anew(
    speed_record: Callable[..., record.Speed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(speed, "cache_folder", lambda: tmp_path)
    (tmp_path / "calibration.json").write_text(text)
    assert speed.against_quiet(speed_record()) == 1.0
    assert len(json.loads((tmp_path / "calibration.json").read_text())) == 1


def test_what_disturbs_the_measuring_of_the_limits_is_in_the_load(
    timed: Callable[..., list[record.Speed]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits that came out too low make shares of them too high, and need not exceed 100%."""
    periods = 0

    def limits(*_: Any) -> dict[str, Any]:
        nonlocal periods
        periods += 7
        return {}

    monkeypatch.setattr(speed, "_limits", limits)
    monkeypatch.setattr(machine, "throttled", lambda: (periods, periods / 2))
    for each in timed(shapes=((1, 16), (2, 16)))[:2]:
        assert each.load["throttled"] == {"periods": 14, "seconds": 7.0}, "before the turns and after them"
        assert each.load["noisy"]


def test_the_reference_is_compared_with_its_best_by_all_that_it_did(
    speed_record: Callable[..., record.Speed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "cache_folder", lambda: tmp_path)
    stopped = speed_record()
    stopped.implementations["reference"] |= {
        "wall": [[0.02, 0.02, 0.08]] * 5,
        "p50": 0.02,
        "sequences_per_second": 8 / 0.04,
    }
    assert speed.against_quiet(stopped) == 2.0


def test_where_nothing_can_be_loaded_that_is_said(
    timed: Callable[..., list[record.Speed]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Worker, *_: Any) -> None:
        raise WorkerError("no such kernel", "RuntimeError")

    monkeypatch.setattr(Worker, "load", fail)
    for each in timed(shapes=((1, 16),)):
        assert (each.state, each.reason) == ("failed", "no implementation could be timed")
        assert each.implementations["stub"] == {"state": "failed", "reason": "no such kernel"}


def test_shapes_that_are_asked_for_and_batches_sorted_by_length(timed: Callable[..., list[record.Speed]]) -> None:
    records = {each.shape["name"]: each for each in timed(shapes=((1, 16), (3, 200)), by_length=True)}
    names = ["1 x 16", "3 x 200", "mini-sentiment, by length", "mini-ner, by length"]
    assert list(records) == names
    assert [records[name].shape["latency"] for name in names] == [True, False, False, False]


def test_under_load_each_task_is_measured_and_what_fails_is_left_out_of_the_rest(
    timed: Callable[..., list[record.Speed]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios, "SECONDS", 0.1)
    records = {each.shape["name"]: each.implementations for each in timed(LOADING_FAILS, BREAKS_UNDER_LOAD, bound=0.01)}
    for name, figures in records.items():
        assert figures["stub"]["state"] == "ok"
        assert ("scenarios" in figures["stub"]) == name.startswith("mini-"), "fixed shapes are not lengths of users"
        assert figures["broken"] == {"state": "failed", "reason": "no such kernel"}
    found = records["mini-ner"]["stub"]["scenarios"]
    assert found["offline"]["seconds"] >= 0.1
    assert found["server"]["bound"] == 0.01
    assert records["8 x 128"]["breaks"]["state"] == "ok"
    assert (records["mini-sentiment"]["breaks"]["state"], len(records["mini-sentiment"]["breaks"]["wall"])) == (
        "failed",
        speed.ROUNDS,
    )
    assert records["mini-ner"]["breaks"] == {"state": "failed", "reason": "too many at once"}


# ---- limits ----


def test_the_faster_of_both_measurements_is_the_limit_of_what_computed(
    speed_record: Callable[..., record.Speed],
) -> None:
    timed = speed_record()
    timed.implementations["reference"] |= {"precision": "bf16", "computed": "fp32"}
    timed.implementations["transformers"] |= {"computed": "bf16"}
    timed.implementations["gone"] = {"state": "failed", "reason": "it broke"}
    before = {
        "fp32": {"seconds": 2.0, "by": "ours"},
        "bf16": {"absent": "no"},
        "copying": {"bytes_per_second": 1e9},
    }
    after = {"fp32": {"seconds": 1.5, "by": "oneDNN"}, "bf16": {"seconds": 9.0, "by": "PyTorch"}}
    speed.add_limits(timed, before, after)
    assert timed.precision["computed"] == "fp32"
    assert timed.limits == {"precision": "fp32", "seconds": 1.5, "by": "oneDNN", "bytes_per_second": 1e9}
    assert timed.implementations["transformers"]["limits"] == {"precision": "bf16", "seconds": 9.0, "by": "PyTorch"}
    assert "limits" not in timed.implementations["reference"]
    assert timed.implementations["gone"] == {"state": "failed", "reason": "it broke"}


def test_without_a_measurement_there_is_no_limit(speed_record: Callable[..., record.Speed]) -> None:
    timed = speed_record()
    speed.add_limits(timed, {}, {})
    assert timed.limits == {}
