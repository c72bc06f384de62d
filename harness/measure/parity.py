"""Parity: how exactly an implementation computes BERT, compared with the reference in float64."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from harness.errors import Failure
from harness.files import exclusive
from harness.measure import keys, tokenization
from harness.measure.bench import Bench, Missing
from harness.measure.client import Loaded, Worker, WorkerError
from harness.measure.concurrent import together
from harness.measure.plan import Plan
from harness.measure.recording import common_fields, fail, find_kept, identity, now
from harness.port.batch import Array, Batch, from_lists
from harness.port.hf_folder import read_folder
from harness.records import record
from harness.registry.implementations import Implementation

EXACT = 4.0  # times the rounding floor: smaller differences come from another order of summation
CLOSE = 0.999  # lowest cosine between a token's hidden states in both

# The published batch: several lengths, pairs, Chinese, and text that is hard to tokenize.
TEXTS: list[tuple[str, str | None]] = [
    ("Why?", None),
    ("The lock-keeper waved us through before the rain came.", None),
    ("Café prices in Zürich rose by 12.5% last year, didn't they?", None),
    ("Is the ferry late?", "The board says it left at nine."),
    ("她在图书馆里等了一个小时。", None),
    ("这本书多少钱?", "那本书不卖。"),
    (
        "When the committee finally published its report, four hundred pages of tables and footnotes that nobody "
        "had asked for, the only sentence that anyone quoted was the apology at the end, and even that had been "
        "written by an intern who left the week before.",
        None,
    ),
]


@dataclass(frozen=True)
class Outputs:
    """What an implementation computed."""

    hidden: Array  # [tokens, hidden size]
    pooled: Array | None  # [sequences, hidden size]
    layers: list[Array] = field(default_factory=list)  # hidden states of the embeddings and after each layer, if shown


def published_batch(tokenizer: Any, vocabulary: int, longest: int, segments: int = 2) -> Batch:
    """The texts above, and random ids with a fixed seed in four lengths, none longer than ``longest``.

    For a model with one segment type, the second text of a pair gets the first type too.
    """
    encodings = [tokenizer.encode(text, pair, max_length=min(128, longest)) for text, pair in TEXTS]
    generator = np.random.default_rng(20181011)  # the day of the paper
    lengths = [min(length, longest) for length in (1, 17, 64, 200)]
    random = [generator.integers(0, vocabulary, length).tolist() for length in lengths]
    return from_lists(
        [e.ids for e in encodings] + random,
        [[min(segment, segments - 1) for segment in e.segments] for e in encodings]
        + [[0] * len(ids) for ids in random],
    )


def differences(outputs: Outputs, exact: Outputs) -> dict[str, Any]:
    """Largest and mean absolute difference and lowest cosine of hidden states; also of pooled output and layers.

    ValueError for another shape or numbers that are not finite.
    """
    result = _compare(outputs.hidden, exact.hidden)
    if len(outputs.layers) == len(exact.layers):
        result["layers"] = [_compare(mine, theirs) for mine, theirs in zip(outputs.layers, exact.layers, strict=True)]
    if outputs.pooled is not None and exact.pooled is not None:
        result["pooled"] = _compare(outputs.pooled, exact.pooled)
    return result


def _compare(values: Array, exact: Array) -> dict[str, Any]:
    if values.shape != exact.shape:
        raise ValueError(f"the implementation answered with shape {values.shape}, expected {exact.shape}")
    if not np.isfinite(values).all():
        raise ValueError("the implementation answered with numbers that are not finite")
    values, exact = values.astype(np.float64), exact.astype(np.float64)
    norms = np.linalg.norm(values, axis=-1) * np.linalg.norm(exact, axis=-1)
    cosines = (values * exact).sum(-1) / np.maximum(norms, np.finfo(np.float64).tiny)
    absolute = np.abs(values - exact)
    return {"max": float(absolute.max()), "mean": float(absolute.mean()), "cosine": float(cosines.min())}


def verdict(by_precision: dict[str, dict[str, Any]], floor: float) -> str:
    """exact: float32 within a few rounding floors, and float64, if supported, within 1e-12; else close, or differs."""
    single = by_precision["fp32"]
    double = by_precision.get("fp64")
    if single["max"] <= EXACT * floor and (double is None or double["max"] <= 1e-12):
        return "exact"
    return "close" if single["cosine"] >= CLOSE else "differs"


def diagnose(folder: Path, batch: Batch, outputs: Outputs, floor: float) -> dict[str, Any]:
    """Why an implementation differs, for its record: the smallest set of known deviations that reproduces it."""
    from harness.measure.deviations import diagnose, sentence

    weights = read_folder(folder)
    found = diagnose(weights.encoder, weights.config, batch, outputs, floor)
    return asdict(found) | {"sentence": sentence(found)}


class Target(NamedTuple):
    """What all are compared with."""

    batch: Batch  # the published one
    outputs: Outputs  # of the reference in float64
    floor: float  # largest difference of the reference in float32 from that: rounding alone


def measure_parities(bench: Bench, implementations: list[Implementation]) -> Iterator[record.Parity]:
    """The parity of each implementation, in this order; a finished record of the same code and weights is kept."""
    lock = Lock()
    measured = cache(partial(_target, bench))

    def target() -> Target:  # only computed if a record is missing
        with lock:
            return measured()

    return together([partial(_once, bench, each, target) for each in implementations])


def trainable(result: record.Parity) -> bool:
    """Whether the implementation can be trained.

    True if it failed before it said so: its quality run then fails too. Otherwise it would be scored with weights that
    the reference fine-tuned.
    """
    return bool(result.implementation.get("trainable", result.state != "ok"))


def write_missing(plan: Plan, missing: Missing) -> record.Parity:
    """Write the record of an implementation that has no interpreter."""
    result = _empty_record(plan, missing.implementation, starts=False)
    result.state, result.reason = missing.state, missing.reason
    path = path_of(plan, result)
    with exclusive(path, lambda: None):
        record.write(result, path)
    return result


def _empty_record(plan: Plan, implementation: Implementation, starts: bool = True) -> record.Parity:
    key = keys.parity_key(plan, implementation, starts)
    return record.Parity(**common_fields(plan, key, "fp32", "fp32"), implementation=identity(plan, implementation))


def path_of(plan: Plan, result: record.Parity) -> Path:
    """The file of a record."""
    name = result.implementation["name"].replace(":", "-")
    return plan.options.runs / "parity" / f"parity-{name}-{result.key[:12]}.json"


def _once(bench: Bench, implementation: Implementation, target: Callable[[], Target]) -> list[record.Parity]:
    """The record that is kept, else a new one."""
    result = _empty_record(bench.plan, implementation)
    path = path_of(bench.plan, result)
    label = f"{implementation.name}: parity"
    while True:
        with bench.alone_on(path, f"{label}, which another process measures now") as claim:
            kept = find_kept(bench.plan, record.Parity, result.key, path)
            if kept is not None:
                return [kept]
            bench.show(label)
            _measure(bench, implementation, target(), result)
            if claim is None or claim.seal():
                record.write(result, path)
                return [result]
        bench.lost(label, result.seconds)
        result = _empty_record(bench.plan, implementation)


def _target(bench: Bench) -> Target:
    plan = bench.plan
    sizes = (plan.config[name] for name in ("vocab_size", "max_position_embeddings", "type_vocab_size"))
    batch = published_batch(plan.tokenizer, *sizes)
    bench.show("reference in float64")
    try:
        with bench.start(keys.reference()) as worker:
            outputs = {precision: _outputs(worker, bench, batch, precision)[0] for precision in ("fp64", "fp32")}
    except WorkerError as error:
        raise Failure(f"the reference, which all are compared with, does not run: {error}") from error
    return Target(batch, outputs["fp64"], differences(outputs["fp32"], outputs["fp64"])["max"])


def _outputs(worker: Worker, bench: Bench, batch: Batch, precision: str) -> tuple[Outputs, Loaded]:
    """What the worker computes in a precision, and what it says of the model that it has loaded."""
    worker.load(bench.checkpoints.bare(), None, bench.plan.device, precision, bench.plan.threads)
    encoded = worker.encode(batch)
    return Outputs(encoded.hidden, encoded.pooled, worker.layers(batch)), worker.info


def _measure(bench: Bench, implementation: Implementation, target: Target, result: record.Parity) -> None:
    """Fill the record in, also with whether the implementation can be trained."""
    result.floor, result.started = target.floor, now()
    start = time.perf_counter()
    try:
        with bench.start(implementation, beside_others=True) as worker:
            for precision in ("fp32", "fp64"):
                try:
                    outputs, info = _outputs(worker, bench, target.batch, precision)
                except WorkerError as error:
                    if precision == "fp64" and error.kind == "NotImplementedError":
                        continue  # it does not compute in float64; float32 decides
                    raise
                result.differences[precision] = differences(outputs, target.outputs)
                result.implementation |= {name: info[name] for name in ("version", "trainable")}
                if precision == "fp32":
                    result.implementation |= {name: info[name] for name in ("precision", "compiled") if name in info}
                    result.precision["computed"] = info["computed"]
                best = outputs
            result.tokenizer = tokenization.compare(worker, bench.plan.tokenizer)
        result.verdict = verdict(result.differences, target.floor)
        if result.verdict != "exact" and result.implementation["precision"] not in ("fp32", "fp64"):
            rounded, computed = result.implementation["precision"], result.precision["computed"]
            how = f"computes in {rounded}" if computed == rounded else f"computes in {computed}, weights in {rounded}"
            result.diagnosis = {"sentence": how}
        elif result.verdict != "exact":
            bench.show(f"{implementation.name}: why it differs")
            result.diagnosis = diagnose(bench.checkpoints.bare(), target.batch, best, target.floor)
    except (WorkerError, ValueError) as error:
        fail(result, error)
    result.seconds = time.perf_counter() - start
