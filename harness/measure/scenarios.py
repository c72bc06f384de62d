"""Latency under load, in MLPerf Inference's terms (Reddi et al. 2020, arXiv:1911.02549).

Offline: all samples are there at once; samples per second. Server: queries of one sample arrive as a Poisson process;
the highest rate at which the 99th percentile of their latency stays within a bound.

The load is made here, before it is measured; the system under test is a worker that is told when what arrives.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.measure import energy
from harness.measure.client import Worker
from harness.measure.load import Stretch, load_of, watched
from harness.port.batch import SEQUENCES, TOKENS, Batch
from harness.progress import Show

Floats = NDArray[np.float64]
# Arrivals (seconds), the bound (seconds), and how many may exceed it -> latency of each query (seconds), in order.
# Fewer latencies than arrivals: it gave up, because more had exceeded the bound.
Serve = Callable[[Floats, float, int], Floats]

SECONDS = 60.0  # that a run lasts at least
STEP = 5.0  # after so many of them it is said how far an offline run is
PERCENTILE, CONFIDENCE = 0.99, 0.99
# MLPerf's margin is 1/20 of the tail: 262,742 queries for the 99th percentile, more than an hour of a CPU at each rate
# that is tried. Fewer make no wrong claim (see `may_exceed`), only one that is harder to reach.
MARGIN_OF_TAIL, MLPERF_MARGIN = 1 / 2, 1 / 20
MULTIPLE = 2**13  # MLPerf rounds its number of queries up to one of this
TOLERANCE = 0.05  # the highest rate is known to within
# of the first rate tried, before it is said that none is held: of what is done offline, 1/32 leaves hardly a queue
HALVINGS = 5
# MLPerf's of the times and of the samples: mlcommons/inference, loadgen/mlperf.conf, commit 001712e. Its generator is
# another, so that what it draws differs.
SCHEDULE_SEED, SAMPLE_INDEX_SEED = 18209322760996052031, 14771362308971278857


def run_scenarios(worker: Worker, batch: Batch, device: str, bound: float, show: Show) -> dict[str, Any]:
    """Both scenarios of a worker that is loaded: its ``scenarios`` in the record of a task's own lengths.

    ``bound`` is of the latency, in seconds; ``load`` says what else the machine did meanwhile.
    Raises WorkerError if the implementation fails.
    """
    stretches: list[Stretch] = []
    with watched(stretches):
        done = offline(worker, batch, device, SECONDS, lambda seconds: show("offline", min(seconds, SECONDS), SECONDS))
        held = highest_rate(
            server_of(worker, batch),
            bound,
            done["samples_per_second"],
            lambda number, rate: show(f"server, trial {number}, {rate:.1f} queries/s", 0, 1),
            seconds=SECONDS,
        )
    return {"offline": done, "server": held, "load": load_of(stretches)}


def offline(
    worker: Worker, batch: Batch, device: str, seconds: float = SECONDS, told: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """All samples at once, as fast as possible, again and again for this long: ``samples_per_second``.

    Each implementation is fed as its users feed it (see ``Session.time``); the first pass warms up. ``energy`` is what
    ``energy.meter`` says of all passes but that. ``told`` hears how many seconds are done.
    """

    def passes(repeats: int) -> list[float]:
        return worker.time(batch, SEQUENCES, TOKENS, repeats).wall.tolist()

    fastest, wall = min(passes(1)), list[float]()
    with energy.meter(device) as taken:
        while (left := seconds - sum(wall)) > 0:
            wall += passes(max(1, math.ceil(min(left, STEP) / max(fastest, 1e-6))))
            fastest = min(wall)
            if told is not None:
                told(sum(wall))
    samples = len(batch.lengths) * len(wall)
    if "joules" in taken:
        taken["joules_per_1000_samples"] = 1000 * taken["joules"] / samples
    return {
        "samples": samples,
        "seconds": sum(wall),
        "samples_per_second": samples / sum(wall),
        "energy": taken,
    }


def queries_needed(percentile: float = PERCENTILE, margin_of_tail: float = MARGIN_OF_TAIL) -> int:
    """Queries after which, with 99% confidence, a measured percentile is off by less than the margin.

    MLPerf's rule (section 3 of the paper): with a tail of ``1 - percentile``, of which the margin is a fraction, the
    normal approximation of the binomial distribution.
    """
    from scipy.stats import norm

    margin = margin_of_tail * (1 - percentile)
    return math.ceil(norm.ppf((1 + CONFIDENCE) / 2) ** 2 * percentile * (1 - percentile) / margin**2)


def mlperf_queries(percentile: float = PERCENTILE) -> int:
    """As many as MLPerf's rules ask for where its early stopping is not used."""
    return MULTIPLE * math.ceil(queries_needed(percentile, MLPERF_MARGIN) / MULTIPLE)


def may_exceed(queries: int, percentile: float = PERCENTILE) -> int:
    """The most of so many queries that may exceed the bound if the percentile is to be claimed; -1: too few queries.

    MLPerf's early stopping criterion: were the percentile above the bound, so few would have exceeded it with a
    probability of at most 1%. As there, queries count as independent, though those of one busy stretch are not: what
    a rate near the capacity holds is less certain than it says.
    """
    from scipy.stats import binom

    few = int(binom.ppf(1 - CONFIDENCE, queries, 1 - percentile))  # the first whose probability is too large
    return few if binom.cdf(few, queries, 1 - percentile) <= 1 - CONFIDENCE else few - 1


def percentile_interval(latencies: Floats, percentile: float = PERCENTILE) -> list[float]:
    """Latencies between which the percentile lies; either limit holds with 99% confidence, and of any distribution.

    Order statistics: at most ``may_exceed`` of the latencies are above the upper limit, so that a bound is held where
    this limit is within it. There must be enough of them for ``may_exceed`` on both sides.
    """
    above, below = may_exceed(len(latencies), percentile), may_exceed(len(latencies), 1 - percentile)
    ordered = np.sort(latencies)
    return [float(ordered[below]), float(ordered[len(ordered) - 1 - above])]


def poisson(rate: float, queries: int, seed: int = SCHEDULE_SEED) -> Floats:
    """When queries arrive, in seconds from the start. The same seed gives every rate the same gaps but for scale."""
    return np.cumsum(np.random.default_rng(seed).exponential(size=queries)) / rate


def server_of(worker: Worker, batch: Batch, seed: int = SAMPLE_INDEX_SEED) -> Serve:
    """Ask a worker that is loaded and warm; each query is one of the batch's sequences, drawn with replacement."""

    def serve(arrivals: Floats, bound: float, allowed: int) -> Floats:
        picks = np.random.default_rng(seed).integers(len(batch.lengths), size=len(arrivals))
        return worker.serve(batch, arrivals, picks, SEQUENCES, bound, allowed)

    return serve


def server(
    serve: Serve,
    rate: float,
    bound: float,
    *,
    seed: int = SCHEDULE_SEED,
    seconds: float = SECONDS,
    margin_of_tail: float = MARGIN_OF_TAIL,
) -> dict[str, Any]:
    """Whether the 99th percentile of latency stays within ``bound`` seconds when ``rate`` queries arrive a second.

    ``held`` says it, with 99% confidence. Percentiles are of what was answered; a run that is lost is ended early, so
    its own are a lower limit, it has no ``p99_interval``, and ``answered`` is less than ``queries``.
    """
    provable = math.ceil(math.log(1 - CONFIDENCE) / math.log(PERCENTILE))  # with fewer, even none over proves nothing
    needed = max(provable, queries_needed(PERCENTILE, margin_of_tail))
    seconds = max(seconds, bound / TOLERANCE)  # for a queue at 5% above the capacity to outgrow the bound
    expected = rate * seconds
    arrivals = poisson(rate, needed + math.ceil(expected + 10 * math.sqrt(expected)), seed)  # enough, and more
    queries = max(needed, int(np.searchsorted(arrivals, seconds)) + 1)
    arrivals = arrivals[:queries]
    allowed = may_exceed(queries)
    latencies = serve(arrivals, bound, allowed)
    over = int((latencies > bound).sum())
    p50, p90, p99 = np.percentile(latencies, [50, 90, 99]).tolist()
    return {
        "rate": rate,
        "queries": queries,
        "answered": len(latencies),
        "seconds": float((arrivals[: len(latencies)] + latencies).max()),
        "over": over,
        "allowed": allowed,
        "held": len(latencies) == queries and over <= allowed,
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "p99_interval": percentile_interval(latencies) if len(latencies) == queries else None,
    }


def highest_rate(
    serve: Serve,
    bound: float,
    first: float,
    told: Callable[[int, float], None] | None = None,
    *,
    seconds: float = SECONDS,
    margin_of_tail: float = MARGIN_OF_TAIL,
) -> dict[str, Any]:
    """The highest rate that the server holds, to within 5%, by bisection.

    ``first`` is tried first; what it does offline is a good one. ``rate`` is None if even 1/32 of it was not held: a
    single query takes longer than the bound. ``trials`` are the runs in their order; ``told`` hears of each before it
    starts. Beside them stands what was claimed, and how many queries MLPerf asks for.
    """
    trials: list[dict[str, Any]] = []

    def held(rate: float) -> bool:
        if told is not None:
            told(len(trials) + 1, rate)
        trials.append(server(serve, rate, bound, seconds=seconds, margin_of_tail=margin_of_tail))
        return bool(trials[-1]["held"])

    return {
        "rate": _bisect(held, first),
        "resolution": TOLERANCE,
        "bound": bound,
        "percentile": PERCENTILE,
        "confidence": CONFIDENCE,
        "mlperf_queries": mlperf_queries(),
        "schedule_rng_seed": SCHEDULE_SEED,
        "sample_index_rng_seed": SAMPLE_INDEX_SEED,
        "trials": trials,
    }


def _bisect(held: Callable[[float], bool], first: float) -> float | None:
    low = high = first
    if held(first):
        while held(high := 2 * low):
            low = high
    else:
        for _ in range(HALVINGS):
            low = high / 2
            if held(low):
                break
            high = low
        else:
            return None
    while high > (1 + TOLERANCE) * low:
        middle = (low + high) / 2
        low, high = (middle, high) if held(middle) else (low, middle)
    return low
