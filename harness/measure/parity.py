"""How exactly an implementation computes BERT: its hidden states against the reference in float64."""

import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from harness.errors import Failure
from harness.measure import plan, tokenization
from harness.measure.bench import Homes, fail, kept, now, parity_path, parity_record, start_worker
from harness.measure.client import Loaded, Show, Worker, WorkerError
from harness.measure.concurrent import together
from harness.port.batch import Batch, from_lists
from harness.port.hf_folder import read_folder
from harness.records import record
from harness.registry.implementations import Implementation, find
from harness.weights.checkpoints import Checkpoints
from harness.worker.messages import Array

EXACT = 4.0  # times the rounding floor: below it, differences are those of another order of summation
CLOSE = 0.999  # lowest cosine of a token's hidden states

# The published batch: several lengths, pairs, Chinese, what tokenizers find hard.
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
    """What an implementation answered."""

    hidden: Array  # [tokens, hidden size]
    pooled: Array | None  # [sequences, hidden size]
    layers: list[Array] = field(default_factory=list)  # of the embeddings and after each layer; empty: not shown


def published_batch(tokenizer: Any, vocabulary: int, longest: int, segments: int = 2) -> Batch:
    """The texts above, and random ids of fixed seed in four lengths up to the position table's end.

    For a model of one segment, the second text of a pair is in the first.
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
    """Largest and mean absolute difference and lowest cosine of hidden states; also of pooled output and layers."""
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
    """exact: float32 within a few rounding floors, float64 (where it runs) to 1e-12; close; differs."""
    single = by_precision["fp32"]
    double = by_precision.get("fp64")
    if single["max"] <= EXACT * floor and (double is None or double["max"] <= 1e-12):
        return "exact"
    return "close" if single["cosine"] >= CLOSE else "differs"


def diagnose(folder: Path, batch: Batch, outputs: Outputs, floor: float) -> dict[str, Any]:
    """Why an implementation differs: the smallest set of known deviations that reproduces it, as a record holds it."""
    from harness.measure.deviations import diagnose, sentence

    weights = read_folder(folder)
    found = diagnose(weights.encoder, weights.config, batch, outputs, floor)
    return asdict(found) | {"sentence": sentence(found)}


def run_parities(
    made: plan.Plan, homes: Homes, checkpoints: Checkpoints, show: Show
) -> Generator[record.Parity, None, tuple[list[Implementation], list[Implementation]]]:
    """Parity of all that have a home; gives back which can be trained and which only encode.

    One that failed before it said so is among the former: if it cannot be trained, its score fails too, and is not
    taken for one of weights that the reference fine-tuned. What is recorded of the same code, versions and weights is
    not measured again.
    """
    lock = Lock()
    measured = cache(lambda: _exact(made, checkpoints, show))

    def exact() -> tuple[Any, Outputs, float]:  # not needed where all is recorded
        with lock:
            return measured()

    chosen = [each for each in made.implementations if each.name in homes and not each.job]
    trained: list[Implementation] = []
    encoders: list[Implementation] = []
    results = together([partial(_once, made, each, homes, checkpoints, exact, show) for each in chosen])
    for implementation, result in zip(chosen, results, strict=True):
        trainable = result.implementation.get("trainable", result.state != "ok")
        (trained if trainable else encoders).append(implementation)
        yield result
    return trained, encoders


def _once(
    made: plan.Plan,
    implementation: Implementation,
    homes: Homes,
    checkpoints: Checkpoints,
    exact: Callable[[], tuple[Any, Outputs, float]],
    show: Show,
) -> list[record.Parity]:
    """The record that is kept, else that of a measurement."""
    result = parity_record(made, implementation)
    path = parity_path(made, result)
    label = f"{implementation.name}: parity"
    with record.exclusive(path, partial(show, f"{label}, which another process measures now", 0, 1)):
        known = kept(made, record.Parity, result.key, path)
        if known is None:
            show(label, 0, 1)
            _measure(made, implementation, homes, checkpoints, exact(), result, show)
            record.write(result, path)
    return [known or result]


def _exact(made: plan.Plan, checkpoints: Checkpoints, show: Show) -> tuple[Any, Outputs, float]:
    """The published batch, the reference's outputs in float64, and how far float32 rounding is from them."""
    sizes = (made.config[name] for name in ("vocab_size", "max_position_embeddings", "type_vocab_size"))
    batch = published_batch(made.tokenizer, *sizes)
    show("reference in float64", 0, 1)
    try:
        with Worker(find("reference")) as worker:
            outputs = {
                precision: _outputs(worker, made, checkpoints, batch, precision)[0] for precision in ("fp64", "fp32")
            }
    except WorkerError as error:
        raise Failure(f"the reference, which all are compared with, does not run: {error}") from error
    floor = differences(outputs["fp32"], outputs["fp64"])["max"]
    return batch, outputs["fp64"], floor


def _outputs(
    worker: Worker, made: plan.Plan, checkpoints: Checkpoints, batch: Any, precision: str
) -> tuple[Outputs, Loaded]:
    """Hidden states (per layer where they are shown) and pooled output; and what the worker says of itself."""
    worker.load(checkpoints.bare(), None, made.device, precision, made.threads)
    encoded = worker.encode(batch)
    return Outputs(encoded.hidden, encoded.pooled, worker.layers(batch)), worker.info


def _measure(
    made: plan.Plan,
    implementation: Implementation,
    homes: Homes,
    checkpoints: Checkpoints,
    exact: tuple[Any, Outputs, float],
    result: record.Parity,
    show: Show,
) -> None:
    """Fill the record in, also with whether the implementation can be trained."""
    batch, target, floor = exact
    result.floor, result.started = floor, now()
    start = time.perf_counter()
    try:
        with start_worker(made, implementation, homes, beside_others=True) as worker:
            for precision in ("fp32", "fp64"):
                try:
                    outputs, info = _outputs(worker, made, checkpoints, batch, precision)
                except WorkerError as error:
                    if precision == "fp64" and error.kind == "NotImplementedError":
                        continue  # it does not compute in float64; float32 decides
                    raise
                result.differences[precision] = differences(outputs, target)
                result.implementation |= {name: info[name] for name in ("version", "trainable")}
                if precision == "fp32":
                    result.implementation |= {name: info[name] for name in ("precision", "compiled") if name in info}
                    result.precision["computed"] = info["computed"]
                best = outputs
            result.tokenizer = tokenization.compare(worker, made.tokenizer)
        result.verdict = verdict(result.differences, floor)
        if result.verdict != "exact" and result.implementation["precision"] not in ("fp32", "fp64"):
            rounded, computed = result.implementation["precision"], result.precision["computed"]
            how = f"computes in {rounded}" if computed == rounded else f"computes in {computed}, weights in {rounded}"
            result.diagnosis = {"sentence": how}
        elif result.verdict != "exact":
            show(f"{implementation.name}: why it differs", 0, 1)
            result.diagnosis = diagnose(checkpoints.bare(), batch, best, floor)
    except (WorkerError, ValueError) as error:
        fail(result, error)
    result.seconds = time.perf_counter() - start
