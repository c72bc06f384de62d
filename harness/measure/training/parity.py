"""Parity of training: the gradients of one batch, and the weights after 20 steps, against the reference in float64.

The steps are by the implementation's own optimizer and schedule, if its file has one, else by the harness's loop.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from harness.errors import Failure
from harness.measure import keys
from harness.measure.bench import Bench
from harness.measure.client import Trained, Worker, WorkerError
from harness.measure.concurrent import together
from harness.measure.parity import CLOSE, EXACT, TEXTS, path_of
from harness.measure.training import dropout, gradients, optimizers
from harness.port.batch import Array, Batch, from_lists
from harness.records import record
from harness.registry.implementations import Implementation

KIND, LABELS = "classification", 3
LONGEST = 32  # tokens of a sequence
STEPS, WARM_UP = 20, 2
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01
CLIPPED = 0.5  # the limit of the gradients' norm, as a share of the reference's at the first step
# Largest difference of a weight after all steps in float64, as a share of the largest change: Adam divides gradients
# by their size, so the rounding of those around 0 counts for more than in the gradients themselves.
TOLERANCE = 1e-6
REPRODUCED = 1e-9  # relative difference of gradients from those of the plain BERT, whose numbers deviations enlarge


class Target(NamedTuple):
    """What all are compared with."""

    folder: Path  # the weights, with a head and without dropout
    dropping: Path  # the same with dropout
    batch: Batch
    labels: Array
    recipe: dict[str, Any]
    gradients: dict[str, Array]  # of the reference in float64
    floor: float  # largest relative difference of the reference's gradients in float32 from these
    before: dict[str, Array]  # the weights
    after: dict[str, Array]  # those of the reference in float64 after all steps


def training_batch(tokenizer: Any, longest: int, segments: int) -> tuple[Batch, Array]:
    """The short texts of parity and their labels, which are arbitrary.

    No id is 0, that of padding: several frameworks never train its vector, which only a text with "[PAD]" would show.
    """
    encodings = [tokenizer.encode(text, pair, max_length=min(LONGEST, longest)) for text, pair in TEXTS]
    batch = from_lists(
        [encoding.ids for encoding in encodings],
        [[min(segment, segments - 1) for segment in encoding.segments] for encoding in encodings],
    )
    return batch, np.arange(len(encodings)) % LABELS


def measure_training(bench: Bench, parities: list[record.Parity]) -> Iterator[record.Parity]:
    """The records of parity with that of training, of the implementations that can be trained; the others unchanged."""
    lock = Lock()
    measured = cache(partial(_target, bench))

    def target() -> Target:
        with lock:
            return measured()

    def one(result: record.Parity) -> list[record.Parity]:
        if result.state == "ok" and result.implementation.get("trainable"):
            named = {each.name: each for each in bench.plan.implementations}
            result = replace(result, training=_measure(bench, named[result.implementation["name"]], target(), result))
            record.write(result, path_of(bench.plan, result))
        return [result]

    return together([partial(one, each) for each in parities])


def _target(bench: Bench) -> Target:
    plan = bench.plan
    bench.show("reference, training in float64")
    weights = bench.checkpoints.bare()
    folder = _with_head(weights, bench.checkpoints.folder / "training-parity", 0.0)
    dropping = _with_head(weights, bench.checkpoints.folder / "training-dropout", dropout.PROBABILITY)
    batch, labels = training_batch(
        plan.tokenizer, plan.config["max_position_embeddings"], plan.config["type_vocab_size"]
    )
    recipe = {"steps": STEPS, "warmup": WARM_UP, "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
    try:
        with bench.start(keys.reference()) as worker:
            found = {}
            for precision in ("fp32", "fp64"):
                _load(worker, bench, folder, precision)
                found[precision] = _named(worker.gradients(batch, labels, KIND).arrays)
            exact = found["fp64"]
            norm = sum(float(np.square(values).sum()) for values in exact.values()) ** 0.5
            recipe |= {"max_grad_norm": CLIPPED * norm, "hidden_size": plan.config["hidden_size"]}
            before = _named(worker.export())
            after = _named(worker.train_steps(batch, labels, KIND, recipe).weights)
    except WorkerError as error:
        raise Failure(f"the reference, which all are compared with, does not train: {error}") from error
    floor = gradients.differences(found["fp32"], exact)["max"]
    return Target(folder, dropping, batch, labels, recipe, exact, floor, before, after)


def _with_head(weights: Path, target: Path, probability: float) -> Path:
    """A folder of these weights with a new head, whose configuration has this probability of dropout."""
    from reference.checkpoint import add_head, read, save

    found = add_head(read(weights, values=False), KIND, [str(label) for label in range(LABELS)], seed=0)
    config = replace(found.config, hidden_dropout_prob=probability, attention_probs_dropout_prob=probability)
    save(replace(found, config=config), target, KIND)
    return target


def _load(worker: Worker, bench: Bench, folder: Path, precision: str) -> None:
    worker.load(folder, KIND, bench.plan.device, precision, bench.plan.threads)


def _named(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix("bert."): values for name, values in arrays.items()}


def _measure(bench: Bench, implementation: Implementation, target: Target, result: record.Parity) -> dict[str, Any]:
    """The field ``training`` of a record of parity."""
    start = time.perf_counter()
    found: dict[str, Any] = {"state": "ok", "reason": None, "code": keys.training_code(implementation)}
    bench.show(f"{implementation.name}: gradients")
    try:
        with bench.start(implementation, beside_others=True) as worker:
            _load(worker, bench, target.dropping, "fp32")
            places = worker.dropouts(target.batch)
            found["dropout"] = dropout.compare(places, bench.plan.config["num_hidden_layers"])
            slopes, drops, precision = _gradients(worker, bench, target)
            found["gradients"] = _compare_gradients(target, slopes, drops, result)
            bench.show(f"{implementation.name}: {STEPS} steps")
            trained = worker.train_steps(target.batch, target.labels, KIND, target.recipe)
        found["weights"] = _compare_weights(target, trained, precision)
    except (WorkerError, ValueError) as error:
        found |= {"state": "failed", "reason": str(error)}
    return found | {"seconds": time.perf_counter() - start}


def _gradients(worker: Worker, bench: Bench, target: Target) -> tuple[dict[str, dict[str, Array]], bool, str]:
    """The gradients by precision, whether training applies dropout, and the precision of the model that is loaded."""
    slopes: dict[str, dict[str, Array]] = {}
    drops, precision = False, "fp32"
    for asked in ("fp32", "fp64"):
        try:
            _load(worker, bench, target.folder, asked)
        except WorkerError as error:
            if asked == "fp64" and error.kind == "NotImplementedError":
                _load(worker, bench, target.folder, "fp32")
                break
            raise
        answer = worker.gradients(target.batch, target.labels, KIND)
        slopes[asked], drops, precision = _named(answer.arrays), answer.dropout, asked
    return slopes, drops, precision


def _compare_gradients(
    target: Target, slopes: dict[str, dict[str, Array]], drops: bool, result: record.Parity
) -> dict[str, Any]:
    by_precision = {precision: gradients.differences(found, target.gradients) for precision, found in slopes.items()}
    best = "fp64" if "fp64" in slopes else "fp32"
    lacking = sorted(target.gradients.keys() - slopes[best].keys())
    said = gradients.verdict(by_precision, target.floor, lacking)
    compared: dict[str, Any] = {
        "verdict": said,
        "floor": target.floor,
        "differences": {name: {k: v for k, v in each.items() if k != "weights"} for name, each in by_precision.items()},
        "weights": by_precision[best]["weights"],
        "lacking": lacking,
        "dropout": drops,
        "diagnosis": {},
    }
    if said != "exact":
        known = [each["name"] for each in result.diagnosis.get("deviations", ())]
        tolerance = REPRODUCED if best == "fp64" else EXACT * target.floor
        why = gradients.diagnose(
            target.folder, target.batch, target.labels, slopes[best], target.gradients, known, tolerance
        )
        compared["diagnosis"] = _plain(asdict(why)) | {"sentence": gradients.sentence(why, lacking)}
    return compared


def _compare_weights(target: Target, trained: Trained, precision: str) -> dict[str, Any]:
    weights = _named(trained.weights)
    moved = {name: values - target.before[name] for name, values in target.after.items()}
    largest = max(float(np.abs(values).max()) for values in moved.values())
    differences, products = {}, np.zeros(3)
    for name in sorted(weights.keys() & moved.keys()):
        own = weights[name].astype(np.float64)
        if not np.isfinite(own).all():
            raise ValueError(f"{name} is not finite after {STEPS} steps")
        mine, theirs = own - target.before[name], moved[name]
        differences[name] = float(np.abs(mine - theirs).max()) / largest
        products += [(mine * theirs).sum(), np.square(mine).sum(), np.square(theirs).sum()]
    cosine = float(products[0] / max(np.sqrt(products[1] * products[2]), np.finfo(float).tiny))
    worst = max(differences, key=lambda name: differences[name])
    lacking = moved.keys() - weights.keys()
    exact = differences[worst] <= TOLERANCE and precision == "fp64" and not lacking
    compared: dict[str, Any] = {
        "verdict": "exact" if exact else "close" if cosine >= CLOSE and not lacking else "differs",
        "optimizer": "own" if trained.trace else "harness",
        "steps": STEPS,
        "precision": precision,
        "differences": {"max": differences[worst], "cosine": cosine, "worst": worst},
        "diagnosis": {},
    }
    if trained.trace is not None and precision == "fp64":
        why = optimizers.diagnose(trained.trace, target.recipe)
        compared["diagnosis"] = _plain(asdict(why)) | {"sentence": optimizers.sentence(why)}
    return compared


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Without numbers that a record may not hold."""
    return {name: None if isinstance(each, float) and not np.isfinite(each) else each for name, each in values.items()}
