"""Latency under load, in MLPerf Inference's terms (Reddi et al. 2020, arXiv:1911.02549).

Offline: all samples are there at once; samples per second. Server: queries of one sample arrive as a Poisson process;
the highest rate at which a percentile of their latency stays within a bound.

The load is made here, before it is measured; the system under test is a worker that is told when what arrives.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import energy
from harness.batch import Batch
from harness.isolate import Worker
from harness.speed import BATCH, TOKENS

Floats = NDArray[np.float64]
# Arrivals (seconds), the bound (seconds), and how many may exceed it -> latency of each query (seconds), in order.
# Fewer latencies than arrivals: it gave up, because more had exceeded the bound.
Serve = Callable[[Floats, float, int], Floats]
Told = Callable[[dict[str, Any]], None]

SECONDS = 60.0  # that a run lasts at least
PERCENTILE, CONFIDENCE = 0.99, 0.99
# MLPerf's margin is 1/20 of the tail: 262,742 queries for the 99th percentile, more than an hour of a CPU at each rate
# that is tried. Fewer make no wrong claim (see `may_exceed`), only one that is harder to reach.
MARGIN_OF_TAIL = 1 / 2
TOLERANCE = 0.05  # the highest rate is known to within
# of the first rate tried, before it is said that none is held: of what is done offline, 1/32 leaves hardly a queue
HALVINGS = 5


def queries_needed(
    percentile: float = PERCENTILE, confidence: float = CONFIDENCE, margin_of_tail: float = MARGIN_OF_TAIL
) -> int:
    """Queries after which, with this confidence, a measured percentile is off by less than the margin.

    MLPerf's rule (section 3 of the paper): with a tail of ``1 - percentile``, of which the margin is a fraction, the
    normal approximation of the binomial distribution.
    """
    from scipy.stats import norm

    margin = margin_of_tail * (1 - percentile)
    return math.ceil(norm.ppf((1 + confidence) / 2) ** 2 * percentile * (1 - percentile) / margin**2)


def may_exceed(queries: int, percentile: float = PERCENTILE, confidence: float = CONFIDENCE) -> int:
    """The most of so many queries that may exceed the bound if the percentile is to be claimed; -1: too few queries.

    MLPerf's early stopping criterion: were the percentile above the bound, so few would have exceeded it with a
    probability of at most ``1 - confidence``. As there, queries count as independent, though those of one busy
    stretch are not: what a rate near the capacity holds is less certain than it says.
    """
    from scipy.stats import binom

    few = int(binom.ppf(1 - confidence, queries, 1 - percentile))  # the first whose probability is too large
    return few if binom.cdf(few, queries, 1 - percentile) <= 1 - confidence else few - 1


def poisson(rate: float, queries: int, seed: int) -> Floats:
    """When queries arrive, in seconds from the start. The same seed gives every rate the same gaps but for scale."""
    return np.cumsum(np.random.default_rng([seed, 0]).exponential(size=queries)) / rate


def offline(worker: Worker, batch: Batch, device: str, seconds: float = SECONDS) -> dict[str, Any]:
    """All samples at once, as fast as possible, again and again for this long: ``samples_per_second``.

    Each implementation is fed as its users feed it (see ``Session.time``); the first pass warms up. ``energy`` is what
    ``energy.meter`` says of all passes but that.
    """

    def passes(repeats: int) -> list[float]:
        return worker.call("time", batch._asdict(), sequences=BATCH, tokens=TOKENS, repeats=repeats)[1]["wall"].tolist()

    fastest, wall = min(passes(1)), list[float]()
    with energy.meter(device) as taken:
        while (left := seconds - sum(wall)) > 0:
            wall += passes(max(1, math.ceil(left / max(fastest, 1e-6))))
            fastest = min(wall)
    samples = len(batch.lengths) * len(wall)
    return {
        "scenario": "offline",
        "samples": samples,
        "seconds": sum(wall),
        "samples_per_second": samples / sum(wall),
        "energy": taken,
    }


def server_of(worker: Worker, batch: Batch, seed: int = 0) -> Serve:
    """Ask a worker that is loaded and warm; each query is one of the batch's sequences, drawn with replacement."""

    def serve(arrivals: Floats, bound: float, allowed: int) -> Floats:
        picks = np.random.default_rng([seed, 1]).integers(len(batch.lengths), size=len(arrivals))
        arrays = batch._asdict() | {"arrivals": arrivals, "picks": picks}
        return worker.call("serve", arrays, together=BATCH, bound=bound, allowed=allowed)[1]["latencies"]

    return serve


def server(
    serve: Serve,
    rate: float,
    bound: float,
    seed: int = 0,
    *,
    seconds: float = SECONDS,
    percentile: float = PERCENTILE,
    confidence: float = CONFIDENCE,
    margin_of_tail: float = MARGIN_OF_TAIL,
) -> dict[str, Any]:
    """Whether the percentile of latency stays within ``bound`` seconds when ``rate`` queries arrive a second.

    ``held`` says it, with the confidence asked for. Percentiles are of what was answered; a run that is lost is ended
    early, so its own are a lower limit, and ``answered`` is less than ``queries``.
    """
    provable = math.ceil(math.log(1 - confidence) / math.log(percentile))  # with fewer, even none over proves nothing
    needed = max(provable, queries_needed(percentile, confidence, margin_of_tail))
    expected = rate * seconds
    arrivals = poisson(rate, needed + math.ceil(expected + 10 * math.sqrt(expected)), seed)  # enough, and more
    queries = max(needed, int(np.searchsorted(arrivals, seconds)) + 1)
    arrivals = arrivals[:queries]
    allowed = may_exceed(queries, percentile, confidence)
    latencies = serve(arrivals, bound, allowed)
    over = int((latencies > bound).sum())
    p50, p90, p99 = np.percentile(latencies, [50, 90, 99]).tolist()
    return {
        "scenario": "server",
        "rate": rate,
        "bound": bound,
        "percentile": percentile,
        "confidence": confidence,
        "seed": seed,
        "queries": queries,
        "answered": len(latencies),
        "seconds": float((arrivals[: len(latencies)] + latencies).max()),
        "over": over,
        "allowed": allowed,
        "held": len(latencies) == queries and over <= allowed,
        "p50": p50,
        "p90": p90,
        "p99": p99,
    }


def highest_rate(
    serve: Serve, bound: float, first: float, seed: int = 0, *, told: Told | None = None, **options: float
) -> dict[str, Any]:
    """The highest rate that the server holds, to within 5%, by bisection; ``options`` are those of ``server``.

    ``first`` is tried first; what it does offline is a good one. ``rate`` is None if even 1/32 of it was not held: a
    single query takes longer than the bound. ``trials`` are the runs in their order; ``told`` hears of each.
    """
    trials: list[dict[str, Any]] = []

    def held(rate: float) -> bool:
        trials.append(server(serve, rate, bound, seed, **options))
        if told is not None:
            told(trials[-1])
        return bool(trials[-1]["held"])

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
            return {"scenario": "server", "bound": bound, "rate": None, "trials": trials}
    while high > (1 + TOLERANCE) * low:
        middle = (low + high) / 2
        low, high = (middle, high) if held(middle) else (low, middle)
    return {"scenario": "server", "bound": bound, "rate": low, "trials": trials}
