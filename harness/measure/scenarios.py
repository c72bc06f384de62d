"""Latency under load, in MLPerf Inference's terms (Reddi et al. 2020, arXiv:1911.02549).

Offline: all samples are there at once; samples per second. Server: queries of one sample arrive as a Poisson process;
the highest rate at which the 99th percentile of their latency stays within a bound.

The arrival times are generated here before anything is measured; the worker gets them and is the system under test.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.measure import energy
from harness.measure.client import Worker
from harness.port.batch import SEQUENCES, TOKENS, Batch
from harness.progress import Show
from harness.records.load import Stretch, load_of, watched

Floats = NDArray[np.float64]
# Arrivals (seconds), bound (seconds), number that may exceed the bound -> latency of each query (seconds), in order.
# Fewer latencies than arrivals: it stopped early, because more had exceeded the bound.
Serve = Callable[[Floats, float, int], Floats]

SECONDS = 60.0  # shortest run
STEP = 5.0  # seconds between two progress reports of an offline run
PERCENTILE, CONFIDENCE = 0.99, 0.99
# MLPerf's margin is 1/20 of the tail: 262,742 queries for the 99th percentile, more than an hour on a CPU for each rate
# that is tried. Fewer queries do not make a claim wrong (see `may_exceed`), only harder to reach.
MARGIN_OF_TAIL, MLPERF_MARGIN = 1 / 2, 1 / 20
MULTIPLE = 2**13  # MLPerf rounds its number of queries up to a multiple of this
TOLERANCE = 0.05  # relative precision of the highest rate
HALVINGS = 5  # of the first rate, before the search gives up: at 1/32 of the offline rate there is hardly a queue
# MLPerf's seeds of the arrival times and of the samples: mlcommons/inference, loadgen/mlperf.conf, commit 001712e. Its
# generator is another one, so the numbers that it draws differ.
SCHEDULE_SEED, SAMPLE_INDEX_SEED = 18209322760996052031, 14771362308971278857


def run_scenarios(worker: Worker, batch: Batch, device: str, bound: float, show: Show) -> dict[str, Any]:
    """Both scenarios for a worker that has loaded a model: ``scenarios`` in the record of a task's own lengths.

    ``bound`` is the latency bound in seconds. ``load`` in the result says what else the machine did meanwhile.
    WorkerError if the implementation fails.
    """
    stretches: list[Stretch] = []
    with watched(stretches):
        done = offline(worker, batch, device, show, SECONDS)
        server = highest_rate(
            server_of(worker, batch),
            bound,
            done["samples_per_second"],
            show,
            seconds=SECONDS,
        )
    return {"offline": done, "server": server, "load": load_of(stretches)}


def offline(worker: Worker, batch: Batch, device: str, show: Show, seconds: float = SECONDS) -> dict[str, Any]:
    """``samples_per_second`` when all samples are there at once; they are repeated for this many seconds.

    Each implementation is fed as its users feed it (see ``Session.time``). The first pass warms up; ``energy`` is the
    result of ``energy.meter`` for all others.
    """

    def passes(repeats: int) -> list[float]:
        return worker.time(batch, SEQUENCES, TOKENS, repeats).wall.tolist()

    fastest, wall = min(passes(1)), list[float]()
    with energy.meter(device) as taken:
        while (left := seconds - sum(wall)) > 0:
            wall += passes(max(1, math.ceil(min(left, STEP) / max(fastest, 1e-6))))
            fastest = min(wall)
            show("offline", min(sum(wall), seconds), seconds)
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
    """The number of queries with which, with 99% confidence, a measured percentile is off by less than the margin.

    MLPerf's rule (section 3 of the paper): the normal approximation of the binomial distribution. The margin is a
    fraction of the tail ``1 - percentile``.
    """
    from scipy.stats import norm

    margin = margin_of_tail * (1 - percentile)
    return math.ceil(norm.ppf((1 + CONFIDENCE) / 2) ** 2 * percentile * (1 - percentile) / margin**2)


def mlperf_queries(percentile: float = PERCENTILE) -> int:
    """The number of queries that MLPerf's rules require without early stopping."""
    return MULTIPLE * math.ceil(queries_needed(percentile, MLPERF_MARGIN) / MULTIPLE)


def may_exceed(queries: int, percentile: float = PERCENTILE) -> int:
    """How many of these queries may exceed the bound, if the percentile is to be within it; -1: too few queries.

    MLPerf's early stopping criterion: if the percentile were above the bound, so few would exceed it with a probability
    of at most 1%. As in MLPerf, queries count as independent, although those of one busy period are not: near the
    capacity, the claim is less certain than it says.
    """
    from scipy.stats import binom

    few = int(binom.ppf(1 - CONFIDENCE, queries, 1 - percentile))  # the first whose probability is too large
    return few if binom.cdf(few, queries, 1 - percentile) <= 1 - CONFIDENCE else few - 1


def percentile_interval(latencies: Floats, percentile: float = PERCENTILE) -> list[float]:
    """An interval for the percentile; each limit holds with 99% confidence, for any distribution.

    Order statistics: at most ``may_exceed`` of the latencies are above the upper limit, so a bound that is at least
    this limit is met. There must be enough latencies for ``may_exceed`` on both sides.
    """
    from scipy.stats import quantile_test

    interval = quantile_test(latencies, p=percentile).confidence_interval(2 * CONFIDENCE - 1)
    return [float(interval.low), float(interval.high)]


def poisson(rate: float, queries: int, seed: int = SCHEDULE_SEED) -> Floats:
    """Arrival times [queries] in seconds from the start. For one seed, all rates have the same gaps up to scale."""
    return np.cumsum(np.random.default_rng(seed).exponential(size=queries)) / rate


def server_of(worker: Worker, batch: Batch, seed: int = SAMPLE_INDEX_SEED) -> Serve:
    """The server of a worker that is loaded and warm; a query is a sequence of the batch, drawn with replacement."""

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
    """Whether the 99th percentile of latency stays within ``bound`` seconds when ``rate`` queries arrive per second.

    "held" is the answer, with 99% confidence. A run that cannot hold the bound any more stops early: then its
    percentiles, those of the answered queries, are lower limits, it has no ``p99_interval``, and ``answered`` is less
    than ``queries``.
    """
    provable = math.ceil(math.log(1 - CONFIDENCE) / math.log(PERCENTILE))  # with fewer, not even 0 over is a proof
    needed = max(provable, queries_needed(PERCENTILE, margin_of_tail))
    seconds = max(seconds, bound / TOLERANCE)  # long enough for a queue to outgrow the bound 5% above the capacity
    expected = rate * seconds
    arrivals = poisson(rate, needed + math.ceil(expected + 10 * math.sqrt(expected)), seed)  # a few too many
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
    show: Show,
    *,
    seconds: float = SECONDS,
    margin_of_tail: float = MARGIN_OF_TAIL,
) -> dict[str, Any]:
    """The highest rate that the server holds, to within 5%, by bisection.

    The search starts with ``first``; the offline rate is a good choice. ``rate`` is None if even 1/32 of it was not
    met: then a single query takes longer than the bound. ``trials`` are the runs in order. The result also states the
    claim, and how many queries MLPerf requires.
    """
    trials: list[dict[str, Any]] = []

    def is_met(rate: float) -> bool:
        show(f"server, trial {len(trials) + 1}, {rate:.1f} queries/s")
        trials.append(server(serve, rate, bound, seconds=seconds, margin_of_tail=margin_of_tail))
        return bool(trials[-1]["held"])

    return {
        "rate": _bisect(is_met, first),
        "resolution": TOLERANCE,
        "bound": bound,
        "percentile": PERCENTILE,
        "confidence": CONFIDENCE,
        "mlperf_queries": mlperf_queries(),
        "schedule_rng_seed": SCHEDULE_SEED,
        "sample_index_rng_seed": SAMPLE_INDEX_SEED,
        "trials": trials,
    }


def _bisect(is_met: Callable[[float], bool], first: float) -> float | None:
    low = high = first
    if is_met(first):
        while is_met(high := 2 * low):
            low = high
    else:
        for _ in range(HALVINGS):
            low = high / 2
            if is_met(low):
                break
            high = low
        else:
            return None
    while high > (1 + TOLERANCE) * low:
        middle = (low + high) / 2
        low, high = (middle, high) if is_met(middle) else (low, middle)
    return low
