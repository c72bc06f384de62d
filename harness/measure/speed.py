"""Throughput and latency: implementations of one comparison are timed in turn, never at the same time."""

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from filelock import FileLock

from harness.data.download import cache_folder
from harness.data.kinds import KINDS
from harness.data.task import Task
from harness.measure import evaluate, keys, plan, scenarios
from harness.measure.bench import Homes, common, kept, start_worker
from harness.measure.client import Progress, Show, Worker, WorkerError
from harness.measure.load import Stretch, load_of, watched
from harness.port.batch import SEQUENCES, TOKENS, Batch
from harness.records import provenance, record
from harness.records.models import model_of
from harness.registry.implementations import Implementation, find
from harness.weights.checkpoints import Checkpoints
from harness.worker.messages import Array

LATENCY = (1, 128)  # sequences, length
THROUGHPUT = (8, 128)
CONTENDED = 1.25  # times its quiet time: where the reference takes longer, all of the comparison is to be doubted
AT_ONCE = 8  # implementations beside the reference that are loaded for timing: more would not fit the memory
ROUNDS = 5  # each implementation's turns at one shape
Timed = Callable[[Worker, "Shape", int], dict[str, Array]]  # seconds of so many passes
SECONDS = 0.2  # that a turn lasts at least, so that the clock's grain and a start-up do not show


@dataclass(frozen=True)
class Shape:
    """What is fed in one pass."""

    name: str
    batch: Batch
    latency: bool = False  # one sequence at a time: percentiles are reported
    own_lengths: bool = False  # lengths of a task: each implementation is fed as its users feed it
    tokenizer_rate: float | None = None  # sequences a second that the tokenizer makes of the same texts

    def description(self) -> dict[str, Any]:
        """What the record says of it."""
        lengths, counts = np.unique(self.batch.lengths, return_counts=True)
        said = {
            "name": self.name,
            "sequences": len(self.batch.lengths),
            "tokens": len(self.batch.ids),
            "longest": int(lengths[-1]),
            "lengths": np.stack([lengths, counts], axis=1).tolist(),
            "latency": self.latency,
            "own_lengths": self.own_lengths,
        }
        return said if self.tokenizer_rate is None else said | {"tokenizer_sequences_per_second": self.tokenizer_rate}


def fixed(sequences: int, length: int, vocabulary: int) -> Shape:
    """A full rectangle of random ids, the same for everybody."""
    ids = np.random.default_rng(0).integers(0, vocabulary, sequences * length)
    batch = Batch(ids, np.zeros_like(ids), np.arange(sequences + 1) * length)
    return Shape(f"{sequences} x {length}", batch, latency=sequences == 1)


def passes(worker: Worker, shape: Shape, repeats: int) -> dict[str, Array]:
    """Wall and CPU seconds of passes over the shape, one by one.

    Where there are several, one more goes before them: after the others' turns it finds nothing of its own in the
    processor's caches, and would take longer than those that follow.
    """
    sequences = SEQUENCES if shape.own_lengths else None
    tokens = TOKENS if shape.own_lengths else None
    cold = 1 if repeats > 1 else 0
    arrays = shape.batch._asdict()
    seconds = worker.call("time", arrays, sequences=sequences, tokens=tokens, repeats=cold + repeats)[1]
    return {name: each[cold:] for name, each in seconds.items()}


def measure(
    workers: dict[str, Worker],
    shape: Shape,
    on_progress: Progress | None = None,
    timed: Timed = passes,
    stretches: list[Stretch] | None = None,
) -> dict[str, dict[str, Any]]:
    """Time every worker on one shape; by name: raw seconds and what follows from them.

    Each is warmed up on the shape itself; then they take turns, and ratios are of one round. What else the machine
    does meanwhile is added to ``stretches``. A worker that fails is left out from there on; its entry says why.
    """
    results: dict[str, dict[str, Any]] = {}
    repeats: dict[str, int] = {}
    turns: dict[str, list[dict[str, Array]]] = {name: [] for name in workers}

    def each_in_turn(ask: Callable[[str], None], done: int) -> None:
        for name in workers:
            try:
                if name not in results:
                    ask(name)
            except WorkerError as error:
                results[name] = {"state": error.state, "reason": str(error)}
        if on_progress is not None:
            on_progress(done=done, total=ROUNDS)

    def warm_up(name: str) -> None:
        repeats[name] = _warm_up(workers[name], shape, timed)

    def turn(name: str) -> None:
        turns[name].append(timed(workers[name], shape, repeats[name]))

    each_in_turn(warm_up, 0)
    with watched([] if stretches is None else stretches):
        for number in range(ROUNDS):
            each_in_turn(turn, number + 1)
    alive = [name for name in workers if name not in results]
    results |= {name: {"state": "ok", **_summary(shape, turns[name])} for name in alive}
    if "reference" in alive:
        base = _turn_seconds(turns["reference"])
        for name in alive:
            ratios = base / _turn_seconds(turns[name])
            results[name]["ratio"] = [float(np.median(ratios)), float(ratios.min()), float(ratios.max())]
    return results


def _warm_up(worker: Worker, shape: Shape, timed: Timed) -> int:
    """Run the shape until it is warm; how many passes fill a turn."""
    timed(worker, shape, 1)
    fastest = float(timed(worker, shape, 1)["wall"].min())
    return max(1, round(SECONDS / max(fastest, 1e-6)))


def _turn_seconds(turns: list[dict[str, Array]]) -> Array:
    """Seconds of a pass, by turn: all of a turn's over its passes, so that rates are of what was really done.

    Where passes are of two kinds, as when a quota of CPU time runs out in some of them, a median shows one kind alone.
    """
    return np.array([turn["wall"].mean() for turn in turns])


def _summary(shape: Shape, turns: list[dict[str, Array]]) -> dict[str, Any]:
    p50, p90, p99 = np.percentile(np.concatenate([turn["wall"] for turn in turns]), [50, 90, 99]).tolist()
    seconds = float(np.median(_turn_seconds(turns)))
    return {
        "wall": [np.round(turn["wall"], 7).tolist() for turn in turns],
        "cpu": [np.round(turn["cpu"], 7).tolist() for turn in turns],
        "sequences_per_second": len(shape.batch.lengths) / seconds,
        "tokens_per_second": len(shape.batch.ids) / seconds,
        "p50": p50,
        "p90": p90,
        "p99": p99,
    }


def against_quiet(result: record.Speed) -> float:
    """The reference's time for a pass of this shape over the fastest ever seen of it here; kept in the cache.

    Other work on the machine slows implementations unequally, so that even ratios taken in turn are then wrong. Its
    time is that of the median pass, or, where something stops it now and then, so that passes take far longer on the
    whole, of the mean one.
    """
    figures = result.implementations["reference"]
    fastest = min(seconds for turn in figures["wall"] for seconds in turn)
    conditions = [record.hardware(result), model_of(result), result.precision["resolved"], result.versions]
    shape = {name: result.shape[name] for name in ("name", "sequences", "tokens", "longest")}
    key = json.dumps([*conditions, shape], sort_keys=True)
    file = cache_folder() / "calibration.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        known = _fastest(file)
        known[key] = min(fastest, known.get(key, fastest))
        record.write_json(known, file)
    usual, mean = float(figures["p50"]), median(map(fmean, figures["wall"]))
    return round((mean if mean > CONTENDED * usual else usual) / known[key], 3)


def _fastest(file: Path) -> dict[str, float]:
    """The fastest passes that were seen so far; none where the file is damaged: it begins anew."""
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return {key: seconds for key, seconds in known.items() if 0 < seconds < math.inf}
    except (FileNotFoundError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _shapes(made: plan.Plan) -> list[Shape]:
    """Fixed shapes, and the lengths of each task's first scored split."""
    positions, vocabulary = made.config["max_position_embeddings"], made.config["vocab_size"]
    wanted = made.options.shapes or (LATENCY, THROUGHPUT)
    shapes = [fixed(n, min(length, positions), vocabulary) for n, length in wanted]
    for task in made.tasks:
        split = evaluate.load_splits(made, task)[task.evaluate[0]]
        batch = split.encoded.batch
        order = np.arange(min(len(batch.lengths), made.options.sentences))
        name = task.name
        if made.options.by_length:
            order, name = order[np.argsort(-batch.lengths[order], kind="stable")], f"{name}, by length"
        rate = tokenizer_rate(made, task, split.examples[: made.options.sentences])
        shapes.append(Shape(name, batch.select(order), own_lengths=True, tokenizer_rate=rate))
    return shapes


def tokenizer_rate(made: plan.Plan, task: Task, examples: list[Any]) -> float:
    """Sequences a second that are made of these examples, on as many cores as the tokenizer takes, when it is warm."""

    def all_of_them() -> int:
        return len(KINDS[task.kind].encode(task, examples, made.tokenizer, task.max_length).batch.lengths)

    all_of_them()  # warms up
    sequences, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SECONDS:
        sequences += all_of_them()
    return sequences / seconds


def run_speed(
    made: plan.Plan, implementations: list[Implementation], homes: Homes, checkpoints: Checkpoints, show: Show
) -> Iterator[record.Speed]:
    """Time all in turn, a few at a time, each few beside the reference where it takes part.

    A few that were timed on a shape before, by the same code, are not timed again, unless ``--rerun`` says so.
    """
    shapes = _shapes(made) if implementations else []
    reference = [each for each in implementations if each.name == "reference"]
    others = [each for each in implementations if each.name != "reference"]
    groups = [others[i : i + AT_ONCE] for i in range(0, len(others), AT_ONCE)] or [[]]
    comparison = new_comparison()
    for number, group in enumerate(groups):
        name = comparison if len(groups) == 1 else f"{comparison}-{number + 1}"
        done = [known(made, [*reference, *group], shape) for shape in shapes]
        missing = [shape for shape, result in zip(shapes, done, strict=True) if result is None]
        yield from filter(None, done)
        for result in _time_group(made, [*reference, *group], homes, checkpoints, missing, name, show):
            keep(made, result)
            yield result


def new_comparison() -> str:
    """A name for what is timed together: when it began."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def known(made: plan.Plan, group: list[Implementation], shape: Shape, doing: str = "inference") -> record.Speed | None:
    """The last record of the same, where there is one that ``--rerun`` does not say to make anew."""
    key = keys.speed_key(made, group, shape.description(), doing)
    paths = sorted((made.options.runs / "speed").glob(f"*-{key[:12]}.json"))
    return kept(made, record.Speed, key, paths[-1]) if paths else None


def keep(made: plan.Plan, result: record.Speed) -> None:
    """Write the record, beside those of earlier times."""
    shape = re.sub(r"[^\w]+", "-", result.shape["name"].replace(" x ", "x"))
    record.write(result, made.options.runs / "speed" / f"{result.comparison}-{shape}-{result.key[:12]}.json")


def _time_group(
    made: plan.Plan,
    group: list[Implementation],
    homes: Homes,
    checkpoints: Checkpoints,
    shapes: list[Shape],
    comparison: str,
    show: Show,
) -> Iterator[record.Speed]:
    """Shape by shape; one that fails is left out of the rest, and said."""
    if not shapes:
        return

    def load(worker: Worker) -> bool:
        worker.load(checkpoints.bare(), None, made.device, made.precision, made.threads)
        return True

    with ExitStack() as stack:
        workers, failed = load_each(made, group, homes, stack, load, show)
        # In a worker of its own, as it takes memory.
        beside = stack.enter_context(start_worker(made, find("reference"), homes)) if "reference" in homes else None
        for shape in shapes:
            key = keys.speed_key(made, group, shape.description(), "inference")
            precisions = sorted({worker.info["computed"] for worker in workers.values()})
            stretches: list[Stretch] = []
            with watched(stretches):
                before = _limits(made, beside, shape, precisions)
            result = time_shape(made, workers, failed, shape, comparison, key, show, stretches=stretches)
            with watched(stretches):
                after = _limits(made, beside, shape, precisions)
            add_load(result, stretches)
            add_limits(result, before, after)
            yield result


def load_each(
    made: plan.Plan,
    implementations: list[Implementation],
    homes: Homes,
    stack: ExitStack,
    load: Callable[[Worker], bool],
    show: Show,
) -> tuple[dict[str, Worker], dict[str, dict[str, Any]]]:
    """Workers that take part, as ``load`` says of each when it is loaded, and those that failed, with the reason."""
    workers: dict[str, Worker] = {}
    failed: dict[str, dict[str, Any]] = {}
    for each in implementations:
        show(f"{each.name}: loading for timing", 0, 1)
        worker = None
        try:
            worker = stack.enter_context(start_worker(made, each, homes))
            if load(worker):
                workers[each.name] = worker
                continue
        except WorkerError as error:
            failed[each.name] = {"state": error.state, "reason": str(error)}
        if worker is not None:
            worker.close()
    return workers, failed


def time_shape(
    made: plan.Plan,
    workers: dict[str, Worker],
    failed: dict[str, dict[str, Any]],
    shape: Shape,
    comparison: str,
    key: str,
    show: Show,
    timed: Timed = passes,
    stretches: list[Stretch] | None = None,
) -> record.Speed:
    """The record of one shape. A worker that fails is closed, and goes from ``workers`` to ``failed``.

    ``stretches`` are those in which what else it holds was measured; that of the turns is added.
    """
    result = record.Speed(
        **common(made, key, made.options.precision, made.precision),
        comparison=comparison,
        shape=shape.description(),
        load={},
    )
    start, during = time.perf_counter(), [] if stretches is None else stretches
    measured = measure(workers, shape, lambda done, total: show(f"timing {shape.name}", done, total), timed, during)
    result.implementations = failed | measured
    add_load(result, during)
    _add(measured, workers, failed, _said_by)
    bound = made.options.bound
    if shape.own_lengths and bound is not None:
        _add(measured, workers, failed, lambda worker: _under_load(worker, shape, made.device, bound, show))
    states = {figures["state"] for figures in result.implementations.values()}
    if "ok" not in states:
        result.state, result.reason = min(states), "no implementation could be timed"  # failed before skipped
    result.seconds = time.perf_counter() - start
    return result


def add_load(result: record.Speed, stretches: list[Stretch]) -> None:
    """Put into the record what else the machine did, and how much slower the reference was than it can be."""
    result.load = load_of(stretches)
    if result.implementations.get("reference", {}).get("state") == "ok":
        result.load["quiet"] = against_quiet(result)
        result.load["noisy"] |= result.load["quiet"] > CONTENDED


def _add(
    measured: dict[str, dict[str, Any]],
    workers: dict[str, Worker],
    failed: dict[str, dict[str, Any]],
    ask: Callable[[Worker], dict[str, Any]],
) -> None:
    """Add to the figures of each what its worker answers; one that failed takes no part in what is to come."""
    for name, figures in measured.items():
        try:
            if figures["state"] == "ok":
                figures |= ask(workers[name])
        except WorkerError as error:
            figures |= {"state": error.state, "reason": str(error)}
        if figures["state"] != "ok" and name in workers:
            workers.pop(name).close()
            failed[name] = {"state": figures["state"], "reason": figures["reason"]}


def _said_by(worker: Worker) -> dict[str, Any]:
    """What is loaded there, and how much memory it has needed."""
    said = ("version", "batching", "precision", "computed", "compiled")
    info = {key: worker.info[key] for key in said if key in worker.info}
    return info | {"catalog_id": worker.implementation.catalog_id, "memory": worker.call("memory")[0]}


def _limits(made: plan.Plan, worker: Worker | None, shape: Shape, precisions: list[str]) -> dict[str, dict[str, Any]]:
    """What the machine can do at most at this moment, in each precision; nothing without a worker to find out."""
    if worker is None:
        return {}
    arguments: dict[str, Any] = {"config": made.config, "tokens": len(shape.batch.ids), "precisions": precisions}
    arguments |= {"device": made.device, "threads": made.threads, "cpus": provenance.cpus_for(made.threads)}
    try:
        return worker.call("limits", **arguments)[0]
    except WorkerError as error:
        return {precision: {"absent": str(error)} for precision in precisions}


def add_limits(result: record.Speed, *measured: dict[str, dict[str, Any]]) -> None:
    """Put the fastest of what was measured into the record: in what the reference computes in, and, beside the
    figures of those that compute in something else, in that.
    """
    fastest: dict[str, dict[str, Any]] = {}
    for precision, found in ((name, each) for those in measured for name, each in those.items()):
        known = fastest.get(precision, found)
        fastest[precision] = min(known, found, key=lambda each: each.get("seconds", math.inf))
    copying = fastest.pop("copying", {})
    if computed := result.implementations.get("reference", {}).get("computed"):
        result.precision["computed"] = computed
    usual = result.precision["computed"]
    if usual in fastest:
        result.limits = {"precision": usual, **fastest[usual], **copying}
    for figures in result.implementations.values():
        other = figures.get("computed", usual)
        if other != usual and other in fastest:
            figures["limits"] = {"precision": other, **fastest[other]}


def _under_load(worker: Worker, shape: Shape, device: str, bound: float, show: Show) -> dict[str, Any]:
    def show_scenario(what: str, done: float, total: float) -> None:
        show(f"{worker.implementation.name}, {shape.name}, {what}", done, total)

    return {"scenarios": scenarios.run_scenarios(worker, shape.batch, device, bound, show_scenario)}
