"""Load: the numbers of MLPerf, and a queue whose waiting times are known (M/D/1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import exp, factorial, floor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from harness.measure import scenarios
from harness.measure.client import Seconds, Worker, WorkerError
from harness.measure.scenarios import (
    MLPERF_MARGIN,
    SAMPLE_INDEX_SEED,
    Floats,
    highest_rate,
    may_exceed,
    mlperf_queries,
    offline,
    percentile_interval,
    poisson,
    queries_needed,
    run_scenarios,
    server,
    server_of,
)
from harness.port.batch import Array, Batch
from harness.registry.implementations import describe

STUBS = Path(__file__).parents[1] / "stubs"
SERVICE = 0.01  # seconds that the simulated worker takes for each query


def one_by_one(arrivals: Floats, bound: float, allowed: int) -> Floats:
    """A server with one place, in order of arrival, always as fast."""
    free, over, latencies = 0.0, 0, []
    for arrival in arrivals:
        free = max(free, arrival) + SERVICE
        latencies.append(free - arrival)
        over += latencies[-1] > bound
        if over > allowed:
            break
    return np.array(latencies)


def within(latency: float, load: float) -> float:
    """The fraction of queries that an M/D/1 queue answers in that time (Erlang 1909)."""
    wait, total = latency / SERVICE - 1, 0.0
    for k in range(floor(wait) + 1):
        total += (-1) ** k * (load * (wait - k)) ** k / factorial(k) * exp(load * (wait - k))
    return (1 - load) * total


@pytest.mark.parametrize(("percentile", "queries", "rounded"), [(0.9, 23_886, 24_576), (0.99, 262_742, 270_336)])
def test_as_many_queries_as_mlperf_asks_for(percentile: float, queries: int, rounded: int) -> None:
    assert queries_needed(percentile, MLPERF_MARGIN) == queries
    assert mlperf_queries(percentile) == rounded


def test_fewer_queries_than_that_by_default_and_more_for_a_smaller_margin() -> None:
    assert queries_needed() == 2628
    assert queries_needed(margin_of_tail=1 / 4) == pytest.approx(4 * 2628, abs=4)


@pytest.mark.parametrize(
    ("percentile", "queries", "over"),
    [
        (0.99, 458, -1),
        (0.99, 459, 0),  # what MLPerf's load generator says is still to be run after 21: 438
        (0.9, 63, 0),
        (0.9, 64, 1),
        (0.9, 2048, 173),  # it prints how many it would discard: one less
        (0.9, 2116, 179),
        (0.9, 4_776_846, 476_159),
    ],
)
def test_early_stopping_is_mlperfs(percentile: float, queries: int, over: int) -> None:
    assert may_exceed(queries, percentile) == over


@pytest.mark.parametrize("queries", [459, 2628, 20_000])
def test_either_limit_of_a_percentile_holds_with_the_confidence_that_is_said(queries: int) -> None:
    """The exact probability: the percentile of a uniform distribution is a number, its order statistics are Beta."""
    from scipy.stats import beta

    places = percentile_interval(np.arange(queries, dtype=np.float64))  # of the order statistics that are the limits
    low, high = (beta(place + 1, queries - place) for place in places)
    assert places[0] < 0.99 * queries < places[1]
    assert low.cdf(0.99) >= 0.99
    assert high.sf(0.99) >= 0.99
    assert beta(places[0] + 2, queries - places[0] - 1).cdf(0.99) < 0.99, "the next one up would not"
    assert beta(places[1], queries - places[1] + 1).sf(0.99) < 0.99, "nor the next one down"


def test_the_order_of_latencies_does_not_matter() -> None:
    latencies = np.random.default_rng(0).exponential(size=3000)
    low, high = percentile_interval(latencies)
    assert low < np.percentile(latencies, 99) < high
    assert percentile_interval(latencies[::-1]) == [low, high]


def test_arrivals_are_a_poisson_process_that_the_seed_tells() -> None:
    arrivals = poisson(50.0, 20_000, seed=3)
    gaps = np.diff(arrivals, prepend=0.0)
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.03)
    counts = np.bincount(arrivals.astype(int))[:-1]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.2)
    np.testing.assert_array_equal(arrivals, poisson(50.0, 20_000, seed=3))
    assert (arrivals != poisson(50.0, 20_000, seed=4)).all()
    np.testing.assert_allclose(poisson(100.0, 300, seed=3), arrivals[:300] / 2)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_a_queue_that_is_known(load: float) -> None:
    arrivals = poisson(load / SERVICE, 200_000, seed=0)
    latencies = one_by_one(arrivals, 1e9, 10**9)
    assert latencies.mean() == pytest.approx(SERVICE * (1 + load / (2 * (1 - load))), rel=0.05)
    figures = server(one_by_one, load / SERVICE, bound=1.0, seconds=2000.0)
    assert within(figures["p99"], load) == pytest.approx(0.99, abs=0.003)
    assert within(figures["p90"], load) == pytest.approx(0.9, abs=0.01)
    assert figures["held"]


def test_a_run_lasts_a_minute_and_has_the_queries_that_its_claim_needs() -> None:
    slow, fast = server(one_by_one, 1.0, bound=0.5), server(one_by_one, 50.0, bound=0.5)
    assert slow["queries"] == slow["answered"] == queries_needed()
    assert fast["queries"] == pytest.approx(3000, rel=0.1)
    assert 60 <= poisson(50.0, fast["queries"])[-1] <= fast["seconds"] < 61
    assert server(one_by_one, 50.0, bound=0.5) == fast, "the same seed, the same load"
    assert server(one_by_one, 50.0, bound=0.5, seed=1) != fast
    assert fast["p99_interval"][0] <= fast["p99"] <= fast["p99_interval"][1] <= 0.5


def test_a_percentile_within_the_bound_by_luck_alone_is_not_claimed() -> None:
    def with_so_many_over(over: int) -> dict[str, Any]:
        return server(lambda arrivals, *_: np.where(np.arange(len(arrivals)) < over, 2.0, 0.5), 1.0, bound=1.0)

    allowed = with_so_many_over(0)["allowed"]
    assert allowed == may_exceed(2628) == 14
    assert with_so_many_over(allowed)["held"]
    assert with_so_many_over(allowed)["p99_interval"] == [0.5, 0.5]
    lost = with_so_many_over(allowed + 1)
    assert lost["p99"] < 1.0 < lost["p99_interval"][1]
    assert (lost["held"], lost["over"]) == (False, allowed + 1)


def test_a_run_is_long_enough_for_a_queue_to_outgrow_the_bound() -> None:
    """In a minute at 5% above what it can do, queries come to wait 3 s: less than this bound."""
    over = server(one_by_one, 1.06 / SERVICE, bound=10.0)
    assert over["queries"] / over["rate"] == pytest.approx(200, rel=0.05)
    assert not over["held"]


def test_there_are_always_enough_queries_to_prove_something() -> None:
    few = server(one_by_one, 1.0, bound=0.5, seconds=1.0, margin_of_tail=2.0)
    assert (few["queries"], few["allowed"], few["held"]) == (459, 0, True)


def test_a_run_that_is_lost_ends_early() -> None:
    lost = server(one_by_one, 2 / SERVICE, bound=0.1)
    assert not lost["held"]
    assert lost["answered"] < 300 < lost["queries"]
    assert lost["over"] == lost["allowed"] + 1
    assert lost["p99_interval"] is None, "what was not answered may have any latency"


@pytest.mark.parametrize("first", [3.0, 100.0, 1000.0])
def test_the_highest_rate_is_the_one_that_theory_says(first: float) -> None:
    from scipy.optimize import brentq

    bound = 4 * SERVICE
    load = brentq(lambda load: within(bound, load) - 0.99, 0.1, 0.95)
    shown: list[str] = []
    found = highest_rate(one_by_one, bound, first, shown.append, seconds=600.0, margin_of_tail=1 / 10)
    assert found["rate"] == pytest.approx(load / SERVICE, rel=0.08)
    assert shown == [
        f"server, trial {number}, {trial['rate']:.1f} queries/s" for number, trial in enumerate(found["trials"], 1)
    ]
    assert found["trials"][0]["rate"] == first
    met = {trial["rate"]: trial["held"] for trial in found["trials"]}
    assert met[found["rate"]]
    assert min(rate for rate, ok in met.items() if not ok) <= found["rate"] * (1 + found["resolution"])


def test_what_is_claimed_is_said() -> None:
    found = highest_rate(one_by_one, 0.5, 50.0, lambda *_: None)
    said = {key: found[key] for key in ("bound", "percentile", "confidence", "resolution", "mlperf_queries")}
    assert said == {"bound": 0.5, "percentile": 0.99, "confidence": 0.99, "resolution": 0.05, "mlperf_queries": 270_336}
    assert found["schedule_rng_seed"] != found["sample_index_rng_seed"]
    (best,) = [trial for trial in found["trials"] if trial["rate"] == found["rate"]]
    assert best["p99_interval"][1] <= 0.5
    assert best["seconds"] >= 60
    assert best["queries"] >= queries_needed()


def test_no_rate_is_held_where_one_query_takes_longer_than_the_bound() -> None:
    found = highest_rate(one_by_one, SERVICE / 2, 100.0, lambda *_: None)
    assert found["rate"] is None
    assert len(found["trials"]) == 1 + scenarios.HALVINGS
    assert not any(trial["held"] for trial in found["trials"])


BATCH = Batch(np.arange(6), np.zeros(6, np.int64), np.array([0, 1, 3, 6]))


class Simulated:
    """A worker whose passes take as long as it is set to; it is faster once it is warm."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.passes = seconds, 0
        self.asked: list[dict[str, Any]] = []  # the arguments of each call of ``serve``

    def serve(self, batch: Batch, arrivals: Array, picks: Array, together: int, bound: float, allowed: int) -> Array:
        self.asked.append({"arrivals": arrivals, "picks": picks, "bound": bound, "allowed": allowed})
        return one_by_one(arrivals, bound, allowed)

    def time(self, batch: Batch, sequences: int | None, tokens: int | None, repeats: int) -> Seconds:
        wall = np.array([self.seconds * (3 if self.passes + i == 0 else 1) for i in range(repeats)])
        self.passes += repeats
        return Seconds(wall, wall)


@pytest.mark.parametrize(("seconds", "passes"), [(7.0, 9), (0.25, 240), (100.0, 1)])
def test_offline_goes_on_for_a_minute_after_the_warm_up(
    seconds: float, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, metered = Simulated(seconds), list[tuple[str, int]]()

    @contextmanager
    def meter(device: str) -> Iterator[dict[str, Any]]:
        before, result = worker.passes, dict[str, Any]()
        yield result
        metered.append((device, worker.passes - before))
        result["joules"] = 42.0

    monkeypatch.setattr(scenarios.energy, "meter", meter)
    shown: list[tuple[str, float, float]] = []
    figures = offline(cast(Worker, worker), BATCH, "cuda", lambda *what: shown.append(what))
    assert metered == [("cuda", passes)], "the warm-up takes no part"
    assert figures["energy"] == {"joules": 42.0, "joules_per_1000_samples": pytest.approx(14_000 / passes)}
    assert {(what, total) for what, _, total in shown} == {("offline", 60.0)}
    done = [each for _, each, _ in shown]
    assert done == sorted(done)
    assert done[-1] == 60.0
    assert max(np.diff(done, prepend=0.0)) <= max(scenarios.STEP + seconds, seconds), "it is shown in between"
    assert figures["samples"] == 3 * passes
    assert figures["seconds"] == pytest.approx(seconds * passes)
    assert figures["seconds"] >= 60
    assert figures["samples_per_second"] == pytest.approx(3 / seconds)
    assert worker.passes == passes + 1


def test_a_worker_is_told_when_which_sequence_comes() -> None:
    worker = Simulated(1.0)
    figures = server(server_of(cast(Worker, worker), BATCH, seed=6), 60.0, bound=0.1, seed=5)
    assert figures == server(one_by_one, 60.0, bound=0.1, seed=5)
    (asked,) = worker.asked
    assert (asked["bound"], asked["allowed"]) == (0.1, figures["allowed"])
    np.testing.assert_array_equal(asked["arrivals"], poisson(60.0, figures["queries"], 5))
    assert np.bincount(asked["picks"]) == pytest.approx([figures["queries"] / 3] * 3, rel=0.1)


def test_where_energy_cannot_be_had_the_reason_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios.energy, "POWERCAP", tmp_path)
    figures = offline(cast(Worker, Simulated(1.0)), BATCH, "cpu", lambda *_: None, 5.0)
    assert list(figures["energy"]) == ["absent"]
    assert "RAPL" in figures["energy"]["absent"]


def test_both_scenarios_of_a_real_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "SECONDS", 0.2)
    shown: list[str] = []
    (plain,) = [each for each in describe(STUBS / "plain.py") if not each.variant]
    with Worker(plain) as worker:
        worker.load(Path("f"), None, "cpu", "fp32", 1)
        found = run_scenarios(worker, BATCH, "cpu", 0.02, lambda what, *_: shown.append(what))
    assert found["offline"]["seconds"] >= 0.2
    assert found["server"]["trials"][0]["rate"] == found["offline"]["samples_per_second"]
    assert any(trial["held"] for trial in found["server"]["trials"]) == (found["server"]["rate"] is not None)
    assert found["server"]["sample_index_rng_seed"] == SAMPLE_INDEX_SEED
    assert "noisy" in found["load"]
    assert shown[0] == "offline"
    assert shown[-1].startswith(f"server, trial {len(found['server']['trials'])}, ")


def test_a_worker_that_dies_under_load_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying(Simulated):
        def serve(self, *_: Any, **__: Any) -> Array:
            raise WorkerError("it broke", "died")

    with pytest.raises(WorkerError, match="it broke"):
        run_scenarios(cast(Worker, Dying(20.0)), BATCH, "cpu", 1.0, lambda *_: None)
