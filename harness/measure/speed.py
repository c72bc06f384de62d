"""Throughput and latency: the implementations of a comparison take turns and are never timed at the same time."""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from filelock import FileLock

from harness.data.kinds import KINDS
from harness.data.task import Task
from harness.files import cache_folder, write_json
from harness.measure import evaluate, keys, scenarios
from harness.measure.bench import Bench
from harness.measure.client import Seconds, Worker, WorkerError
from harness.measure.plan import Plan
from harness.measure.recording import common_fields, find_kept
from harness.port.batch import SEQUENCES, TOKENS, Array, Batch, from_lists
from harness.progress import Show, labelled
from harness.records import record
from harness.records.load import Stretch, load_of, watched
from harness.records.models import model_of
from harness.registry.implementations import Implementation
from harness.weights.sentences import as_read

LATENCY = (1, 128)  # sequences, length
THROUGHPUT = (8, 128)
CONTENDED = 1.25  # if the reference takes this many times its quiet time, the whole comparison is doubtful
AT_ONCE = 8  # implementations that are loaded beside the reference; more would not fit into memory
ROUNDS = 5  # turns of each implementation at one shape
SECONDS = 0.2  # shortest turn, so that neither the clock's resolution nor a start-up matters


@dataclass(frozen=True)
class Shape:
    """The input of one pass."""

    name: str
    batch: Batch
    latency: bool = False  # one sequence at a time: percentiles are reported
    own_lengths: bool = False  # lengths of a task: each implementation is fed as its users feed it
    tokenizer_rate: float | None = None  # sequences per second that the tokenizer makes of the same texts
    sha256: str | None = None  # of texts of the user, of which records contain nothing else
    compare: "Compare | None" = None  # what is asked of each worker after the timing

    def description(self) -> dict[str, Any]:
        """The record's field ``shape``."""
        lengths, counts = np.unique(self.batch.lengths, return_counts=True)
        fields = {
            "name": self.name,
            "sequences": len(self.batch.lengths),
            "tokens": len(self.batch.ids),
            "longest": int(lengths[-1]),
            "lengths": np.stack([lengths, counts], axis=1).tolist(),
            "latency": self.latency,
            "own_lengths": self.own_lengths,
        }
        if self.tokenizer_rate is not None:
            fields["tokenizer_sequences_per_second"] = self.tokenizer_rate
        if self.sha256 is not None:
            fields["sha256"] = self.sha256
        return fields


@dataclass(frozen=True)
class Group:
    """The workers that take turns, by name of implementation, and the implementations that have failed."""

    workers: dict[str, Worker]
    failed: dict[str, dict[str, Any]]  # state and reason
    loading: dict[str, float]  # seconds from the start of the process until it could compute

    def ask(self, figures: dict[str, dict[str, Any]], question: Callable[[Worker], dict[str, Any]]) -> None:
        """Add each worker's answer to its figures. A worker that has failed or fails now is closed and left out."""
        for name, each in figures.items():
            try:
                if each["state"] == "ok":
                    each |= question(self.workers[name])
            except WorkerError as error:
                each |= {"state": error.state, "reason": str(error)}
            if each["state"] != "ok" and name in self.workers:
                self.workers.pop(name).close()
                self.failed[name] = {"state": each["state"], "reason": each["reason"]}


# -- taking turns --

Compare = Callable[[Worker, Batch], Callable[[Worker], dict[str, Any]]]  # the reference, its input -> a question
Turn = Callable[[], Seconds]  # lets a worker take one turn; the seconds of each of its passes
WarmUp = Callable[[Worker], Turn]  # runs a worker until it is warm


def fixed(sequences: int, length: int, vocabulary: int) -> Shape:
    """A full rectangle of random ids, always the same ones."""
    ids = np.random.default_rng(0).integers(0, vocabulary, sequences * length)
    batch = Batch(ids, np.zeros_like(ids), np.arange(sequences + 1) * length)
    return Shape(f"{sequences} x {length}", batch, latency=sequences == 1)


def warm_up(shape: Shape, worker: Worker) -> Turn:
    """Run the shape twice, and give a worker's turn: as many passes as fill SECONDS."""
    _passes(shape, worker, 1)
    fastest = float(_passes(shape, worker, 1).wall.min())
    return partial(_passes, shape, worker, max(1, round(SECONDS / max(fastest, 1e-6))))


def _passes(shape: Shape, worker: Worker, repeats: int) -> Seconds:
    """Wall and CPU seconds of each pass over the shape.

    Several passes are preceded by one that does not count: the others' turns have evicted the worker's data from the
    processor's caches, so that the first pass takes longer.
    """
    sequences = SEQUENCES if shape.own_lengths else None
    tokens = TOKENS if shape.own_lengths else None
    cold = 1 if repeats > 1 else 0
    seconds = worker.time(shape.batch, sequences, tokens, cold + repeats)
    return Seconds(seconds.wall[cold:], seconds.cpu[cold:])


def measure(
    workers: dict[str, Worker],
    shape: Shape,
    show: Show,
    warm_up_worker: WarmUp | None = None,
    stretches: list[Stretch] | None = None,
) -> dict[str, dict[str, Any]]:
    """Time every worker on one shape. Returns by name the raw seconds and the figures that follow from them.

    Each worker is warmed up; then they take turns, and ratios are between turns of one round. The load of the machine
    during the rounds is added to ``stretches``. A worker that fails takes no further turn, and its entry has the
    reason. ``warm_up_worker`` is ``warm_up`` on the shape unless given.
    """
    results: dict[str, dict[str, Any]] = {}
    turn_of: dict[str, Turn] = {}
    turns: dict[str, list[Seconds]] = {name: [] for name in workers}

    def for_each(action: Callable[[str], None], rounds_done: int) -> None:
        for name in workers:
            try:
                if name not in results:
                    action(name)
            except WorkerError as error:
                results[name] = {"state": error.state, "reason": str(error)}
        show(f"timing {shape.name}", rounds_done, ROUNDS)

    def prepare(name: str) -> None:
        turn_of[name] = (warm_up_worker or partial(warm_up, shape))(workers[name])

    def take_turn(name: str) -> None:
        turns[name].append(turn_of[name]())

    for_each(prepare, 0)
    with watched([] if stretches is None else stretches):
        for number in range(ROUNDS):
            for_each(take_turn, number + 1)
    alive = [name for name in workers if name not in results]
    results |= {name: {"state": "ok", **_summary(shape, turns[name])} for name in alive}
    if "reference" in alive:
        base = _turn_seconds(turns["reference"])
        for name in alive:
            ratios = base / _turn_seconds(turns[name])
            results[name]["ratio"] = [float(np.median(ratios)), float(ratios.min()), float(ratios.max())]
    return results


def _turn_seconds(turns: list[Seconds]) -> Array:
    """Seconds of a pass, by turn: the mean over all passes of a turn, so that rates describe the work really done.

    If passes are of two kinds, as when a quota of CPU time runs out in some of them, a median would show one kind only.
    """
    return np.array([turn.wall.mean() for turn in turns])


def _summary(shape: Shape, turns: list[Seconds]) -> dict[str, Any]:
    p50, p90, p99 = np.percentile(np.concatenate([turn.wall for turn in turns]), [50, 90, 99]).tolist()
    seconds = float(np.median(_turn_seconds(turns)))
    return {
        "wall": [np.round(turn.wall, 7).tolist() for turn in turns],
        "cpu": [np.round(turn.cpu, 7).tolist() for turn in turns],
        "sequences_per_second": len(shape.batch.lengths) / seconds,
        "tokens_per_second": len(shape.batch.ids) / seconds,
        "p50": p50,
        "p90": p90,
        "p99": p99,
    }


# -- how quiet the machine is --


def against_quiet(result: record.Speed) -> float:
    """The reference's time for a pass of this shape, divided by its fastest ever on this machine, kept in the cache.

    Other work slows implementations by different factors, so that even ratios between turns are then wrong. The time
    is that of the median pass; if interruptions make passes much longer on average, it is that of the mean pass.
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
        write_json(known, file)
    usual, mean = float(figures["p50"]), median(map(fmean, figures["wall"]))
    return round((mean if mean > CONTENDED * usual else usual) / known[key], 3)


def _fastest(file: Path) -> dict[str, float]:
    """The fastest passes so far; none if the file is damaged, and it then starts afresh."""
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return {key: seconds for key, seconds in known.items() if 0 < seconds < math.inf}
    except (FileNotFoundError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


# -- records --


def run_speed(
    bench: Bench, implementations: list[Implementation], shapes: list[Shape] | None = None
) -> Iterator[record.Speed]:
    """Time all implementations in turn, in groups of AT_ONCE, each with the reference if it takes part.

    ``shapes`` are those of the plan unless given. The finished record of a group and shape is kept, unless ``--rerun``
    says otherwise.
    """
    if shapes is None:
        shapes = _shapes(bench.plan) if implementations else []
    reference = [each for each in implementations if each.name == "reference"]
    others = [each for each in implementations if each.name != "reference"]
    groups = [others[i : i + AT_ONCE] for i in range(0, len(others), AT_ONCE)] or [[]]
    comparison = new_comparison()
    for number, group in enumerate(groups):
        name = comparison if len(groups) == 1 else f"{comparison}-{number + 1}"
        kept = [_find_kept(bench.plan, [*reference, *group], shape) for shape in shapes]
        missing = [shape for shape, result in zip(shapes, kept, strict=True) if result is None]
        yield from filter(None, kept)
        for result in _time_group(bench, [*reference, *group], missing, name):
            write(bench.plan, result)
            yield result


def new_comparison() -> str:
    """A name for what is timed together: the time at which it begins."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def write(plan: Plan, result: record.Speed) -> None:
    """Write the record; earlier ones of the same comparison stay."""
    shape = re.sub(r"[^\w]+", "-", result.shape["name"].replace(" x ", "x"))
    record.write(result, plan.options.runs / "speed" / f"{result.comparison}-{shape}-{result.key[:12]}.json")


def _find_kept(plan: Plan, implementations: list[Implementation], shape: Shape) -> record.Speed | None:
    """The last finished record of these implementations on this shape; None if ``--rerun`` says to replace it."""
    key = keys.speed_key(plan, implementations, shape.description(), "inference")
    paths = sorted((plan.options.runs / "speed").glob(f"*-{key[:12]}.json"))
    return find_kept(plan, record.Speed, key, paths[-1]) if paths else None


def _shapes(plan: Plan) -> list[Shape]:
    """Fixed shapes, and the lengths of each task's first scored split."""
    positions, vocabulary = plan.config["max_position_embeddings"], plan.config["vocab_size"]
    wanted = plan.options.shapes or (LATENCY, THROUGHPUT)
    shapes = [fixed(n, min(length, positions), vocabulary) for n, length in wanted]
    for task in plan.tasks:
        split = evaluate.load_splits(plan, task)[task.evaluate[0]]
        batch = split.encoded.batch
        order = np.arange(min(len(batch.lengths), plan.options.sentences))
        name = task.name
        if plan.options.by_length:
            order, name = order[np.argsort(-batch.lengths[order], kind="stable")], f"{name}, by length"
        rate = tokenizer_rate(plan, task, split.examples[: plan.options.sentences])
        shapes.append(Shape(name, batch.select(order), own_lengths=True, tokenizer_rate=rate))
    if plan.options.texts:
        shapes.append(of_texts(plan))
    return shapes


def of_texts(plan: Plan) -> Shape:
    """At most ``--sentences`` of the user's texts, drawn evenly from all, as the weights' folder has them read."""
    given, name = plan.options.texts, "your texts"
    chosen = np.linspace(0, len(given) - 1, min(len(given), plan.options.sentences)).round().astype(int)
    usual, positions = plan.tokenizer.max_length, plan.config["max_position_embeddings"]
    texts, longest = as_read(plan.weights, [given[i] for i in chosen], usual, positions)

    def encode() -> Batch:
        encodings = plan.tokenizer.encode_batch(texts, None, longest)
        return from_lists([each.ids for each in encodings], [each.segments for each in encodings])

    batch = encode()
    sha256 = hashlib.sha256(batch.ids.astype("<i8").tobytes() + batch.cu_seqlens.astype("<i8").tobytes()).hexdigest()
    if plan.options.by_length:
        batch, name = batch.select(np.argsort(-batch.lengths, kind="stable")), f"{name}, by length"
    return Shape(name, batch, own_lengths=True, tokenizer_rate=rate_of(lambda: len(encode().lengths)), sha256=sha256)


def tokenizer_rate(plan: Plan, task: Task, examples: list[Any]) -> float:
    """Sequences per second that the tokenizer makes of these examples when it is warm, on all cores that it uses."""
    return rate_of(lambda: len(KINDS[task.kind].encode(task, examples, plan.tokenizer, task.max_length).batch.lengths))


def rate_of(encode_all: Callable[[], int]) -> float:
    """Sequences per second of a function that makes as many as it returns."""
    encode_all()  # warms up
    sequences, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SECONDS:
        sequences += encode_all()
    return sequences / seconds


def _time_group(
    bench: Bench, implementations: list[Implementation], shapes: list[Shape], comparison: str
) -> Iterator[record.Speed]:
    """A record for each shape; an implementation that fails is left out of the following ones."""
    if not shapes:
        return
    plan = bench.plan

    def load(worker: Worker) -> bool:
        worker.load(bench.checkpoints.bare(), None, plan.device, plan.precision, plan.threads)
        return True

    with ExitStack() as stack:
        group = load_each(bench, implementations, stack, load)
        limits_worker = None  # a worker that does nothing else, because measuring limits takes memory
        if any(each.name == "reference" for each in implementations):
            limits_worker = stack.enter_context(bench.start(keys.reference()))
        for shape in shapes:
            key = keys.speed_key(plan, implementations, shape.description(), "inference")
            precisions = sorted({worker.info["computed"] for worker in group.workers.values()})
            stretches: list[Stretch] = []
            with watched(stretches):
                before = _limits(plan, limits_worker, shape, precisions)
            result = time_shape(bench, group, shape, comparison, key, stretches=stretches)
            with watched(stretches):
                after = _limits(plan, limits_worker, shape, precisions)
            add_load(result, stretches)
            add_limits(result, before, after)
            yield result


def load_each(
    bench: Bench, implementations: list[Implementation], stack: ExitStack, load: Callable[[Worker], bool]
) -> Group:
    """Start and load all implementations; ``load`` returns whether an implementation takes part."""
    group = Group({}, {}, {})
    for each in implementations:
        bench.show(f"{each.name}: loading for timing")
        worker, start = None, time.perf_counter()
        try:
            worker = stack.enter_context(bench.start(each))
            if load(worker):
                group.workers[each.name] = worker
                group.loading[each.name] = round(time.perf_counter() - start, 3)
                continue
        except WorkerError as error:
            group.failed[each.name] = {"state": error.state, "reason": str(error)}
        if worker is not None:
            worker.close()
    return group


def time_shape(
    bench: Bench,
    group: Group,
    shape: Shape,
    comparison: str,
    key: str,
    warm_up_worker: WarmUp | None = None,
    stretches: list[Stretch] | None = None,
) -> record.Speed:
    """The record of one shape.

    ``stretches`` holds the load while the limits were measured; that of the turns is added.
    """
    plan = bench.plan
    result = record.Speed(
        **common_fields(plan, key, plan.options.precision, plan.precision),
        comparison=comparison,
        shape=shape.description(),
        load={},
    )
    start, during = time.perf_counter(), [] if stretches is None else stretches
    figures = measure(group.workers, shape, bench.show, warm_up_worker, during)
    result.implementations = group.failed | figures
    add_load(result, during)
    group.ask(figures, _said_by)
    group.ask(figures, lambda worker: {"loading": group.loading[worker.implementation.name]})
    if shape.compare is not None and "reference" in group.workers:
        group.ask(figures, shape.compare(group.workers["reference"], shape.batch))
    bound = plan.options.bound
    if shape.own_lengths and bound is not None:
        group.ask(figures, partial(_under_load, shape, plan.device, bound, bench.show))
    states = {each["state"] for each in result.implementations.values()}
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


def _said_by(worker: Worker) -> dict[str, Any]:
    """What a worker has loaded, and its peak memory."""
    said = ("version", "batching", "precision", "computed", "compiled")
    loaded: dict[str, Any] = {**worker.info}
    info = {key: loaded[key] for key in said if key in loaded}
    return info | {"catalog_id": worker.implementation.catalog_id, "memory": worker.memory()}


def _limits(plan: Plan, worker: Worker | None, shape: Shape, precisions: list[str]) -> dict[str, dict[str, Any]]:
    """The most that the machine can do now, by precision; empty without a worker that measures it."""
    if worker is None:
        return {}
    try:
        return worker.limits(plan.config, len(shape.batch.ids), precisions, plan.device, plan.threads)
    except WorkerError as error:
        return {precision: {"absent": str(error)} for precision in precisions}


def add_limits(result: record.Speed, *measured: dict[str, dict[str, Any]]) -> None:
    """Put the fastest of these measurements into the record.

    The record has the limit in the precision that the reference computes in; an implementation that computes in
    another one has that limit among its figures.
    """
    fastest: dict[str, dict[str, Any]] = {}
    for precision, found in ((name, each) for limits in measured for name, each in limits.items()):
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


def _under_load(shape: Shape, device: str, bound: float, show: Show, worker: Worker) -> dict[str, Any]:
    label = f"{worker.implementation.name}, {shape.name}"
    return {"scenarios": scenarios.run_scenarios(worker, shape.batch, device, bound, labelled(show, label))}
