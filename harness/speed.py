"""Throughput and latency: implementations of one comparison are timed in turn, never at the same time."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.batch import Batch
from harness.isolate import Progress, Worker, WorkerError
from harness.protocol import Array

ROUNDS = 5  # each implementation's turns at one shape
SECONDS = 0.4  # that a turn lasts at least, so that the clock's grain and a start-up do not show
BATCH = 32  # sequences that a user of a padded implementation feeds at a time, in the order given
TOKENS = 4096  # that a packed one gets at a time: as many as 32 x 128


@dataclass(frozen=True)
class Shape:
    """What is fed in one pass."""

    name: str
    batch: Batch
    latency: bool = False  # one sequence at a time: percentiles are reported
    own_lengths: bool = False  # lengths of a task: each implementation is fed as its users feed it


def fixed(sequences: int, length: int, vocabulary: int) -> Shape:
    """A full rectangle of random ids, the same for everybody."""
    ids = np.random.default_rng(0).integers(0, vocabulary, sequences * length)
    batch = Batch(ids, np.zeros_like(ids), np.arange(sequences + 1) * length)
    return Shape(f"{sequences} x {length}", batch, latency=sequences == 1)


def measure(workers: dict[str, Worker], shape: Shape, on_progress: Progress | None = None) -> dict[str, dict[str, Any]]:
    """Time every worker on one shape; by name: raw seconds and what follows from them.

    Each is warmed up on the shape itself; then they take turns, and ratios are of medians within a round.
    A worker that fails is left out from there on; its entry says why.
    """
    results: dict[str, dict[str, Any]] = {}
    repeats: dict[str, int] = {}
    wall: dict[str, list[Array]] = {name: [] for name in workers}
    cpu: dict[str, list[Array]] = {name: [] for name in workers}
    for turn in range(-1, ROUNDS):  # the turn before the first is the warm-up
        for name, worker in workers.items():
            if name in results:
                continue
            try:
                if turn < 0:
                    repeats[name] = _warm_up(worker, shape)
                    continue
                seconds = _pass(worker, shape, repeats[name])
            except WorkerError as error:
                results[name] = {"state": "failed", "reason": str(error)}
                continue
            wall[name].append(seconds["wall"])
            cpu[name].append(seconds["cpu"])
        if on_progress is not None:
            on_progress(done=turn + 1, total=ROUNDS)
    alive = [name for name in workers if name not in results]
    results |= {name: {"state": "ok", **_summary(shape, wall[name], cpu[name])} for name in alive}
    if "reference" in alive:
        base = np.array([np.median(turn) for turn in wall["reference"]])
        for name in alive:
            ratios = base / np.array([np.median(turn) for turn in wall[name]])
            results[name]["ratio"] = [float(np.median(ratios)), float(ratios.min()), float(ratios.max())]
    return results


def _pass(worker: Worker, shape: Shape, repeats: int) -> dict[str, Array]:
    sequences = BATCH if shape.own_lengths else None
    tokens = TOKENS if shape.own_lengths else None
    return worker.call("time", shape.batch._asdict(), sequences=sequences, tokens=tokens, repeats=repeats)[1]


def _warm_up(worker: Worker, shape: Shape) -> int:
    """Run the shape until it is warm; how many passes fill a turn."""
    _pass(worker, shape, 1)
    fastest = float(_pass(worker, shape, 2)["wall"].min())
    return max(1, round(SECONDS / max(fastest, 1e-6)))


def _summary(shape: Shape, wall: list[Array], cpu: list[Array]) -> dict[str, Any]:
    seconds = np.concatenate(wall)
    p50, p90, p99 = np.percentile(seconds, [50, 90, 99]).tolist()
    return {
        "wall": [np.round(turn, 7).tolist() for turn in wall],
        "cpu": [np.round(turn, 7).tolist() for turn in cpu],
        "sequences_per_second": len(shape.batch.lengths) / p50,
        "tokens_per_second": len(shape.batch.ids) / p50,
        "p50": p50,
        "p90": p90,
        "p99": p99,
    }
