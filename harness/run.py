"""The main path: plan, weights, train, evaluate, time, record."""

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from harness import parity, plan, provenance, record, speed
from harness.errors import Failure
from harness.evaluate import load_splits, quality
from harness.implementation import Implementation, find
from harness.isolate import Worker, WorkerError
from harness.task import Task

LATENCY = (1, 128)  # sequences, length
THROUGHPUT = ((8, 128), (32, 128))
Show = Callable[..., None]


def run(made: plan.Plan, show: Show) -> Iterator[record.Record]:
    """Everything that was planned, one record at a time, each written before it is given.

    ``show(what, done, total)`` is told of progress. One implementation failing never stops the others.
    """
    with tempfile.TemporaryDirectory(prefix="bert-atlas-") as temporary:
        checkpoints = Checkpoints(made, Path(temporary))
        exact = _exact(made, checkpoints, show)
        for implementation in made.implementations:
            yield _run_parity(made, implementation, checkpoints, exact, show)
        for task in made.tasks:
            for seed in made.options.seeds:
                for implementation in made.implementations:
                    yield _run_quality(made, implementation, task, seed, checkpoints, show)
        yield from _run_speed(made, checkpoints, show)


class Checkpoints:
    """The weights as Hugging Face folders: bare, and under the new heads that tasks need.

    All implementations of a run load the same files, so that they start from the same numbers.
    """

    def __init__(self, made: plan.Plan, folder: Path) -> None:
        self.made, self.folder = made, folder

    def bare(self) -> Path:
        """The encoder; a TensorFlow checkpoint is written out first."""
        from reference.checkpoint import read, save

        weights = self.made.weights.folder
        if (weights / "config.json").is_file():
            return weights
        target = self.folder / "bare"
        if not target.exists():
            save(read(weights), target)
        return target

    def with_head(self, task: Task, seed: int) -> Path:
        """The encoder under a new head for this task, drawn from this seed."""
        from reference.checkpoint import add_head, read, save

        target = self.folder / f"{task.name}-{seed}"
        if not target.exists():
            save(add_head(read(self.made.weights.folder), task.kind, list(task.outputs), seed), target, task.kind)
        return target

    def forget(self, task: Task, seed: int) -> None:
        """Give the disk back."""
        import shutil

        shutil.rmtree(self.folder / f"{task.name}-{seed}", ignore_errors=True)


def _common(made: plan.Plan, key: str, asked: str, resolved: str) -> dict[str, Any]:
    """The fields that every record has."""
    return {
        "key": key,
        "state": "ok",
        "checkpoint": {"name": made.weights.name, "sha256": made.weights.sha256, "source": made.weights.source},
        "device": made.device,
        "precision": {"asked": asked, "resolved": resolved},
        "threads": made.threads,
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "commit": provenance.git_commit(),
        "command": made.options.command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _who(implementation: Implementation) -> dict[str, Any]:
    return {
        "name": implementation.name,
        "catalog_id": implementation.catalog_id,
        "code": plan.code_of(implementation),
    }


def _fail(result: record.Record, error: Exception) -> None:
    result.state = "failed"
    result.reason = str(error)


def _run_quality(
    made: plan.Plan, implementation: Implementation, task: Task, seed: int, checkpoints: Checkpoints, show: Show
) -> record.Quality:
    key = plan.key(made, implementation, task, seed)
    stem = f"{implementation.name.replace(':', '-')}-{task.name}-{seed}-{key[:12]}"
    path = made.options.runs / "quality" / f"{stem}.json"
    if path.is_file() and not made.options.rerun and made.options.save_model is None:
        known = record.read(path)
        if isinstance(known, record.Quality) and known.state == "ok" and known.key == key:
            return known
    result = record.Quality(
        **_common(made, key, made.options.precision, made.precision),
        implementation=_who(implementation),
        task={
            **{name: getattr(task, name) for name in ("name", "title", "suite", "kind", "context")},
            "data": plan.data_hashes(made, task),
        },
        recipe=plan.recipe(made, task),
        seed=seed,
        limit=made.options.limit,
    )
    start = time.perf_counter()
    label = f"{implementation.name} on {task.name}, seed {seed}"
    try:
        folder = checkpoints.with_head(task, seed)
        predictions = quality(
            made, result, implementation, task, folder, lambda what, *count: show(f"{label}: {what}", *count)
        )
        result.predictions = f"{stem}.predictions.json.gz"
        record.write_predictions(path.with_name(result.predictions), predictions)
    except WorkerError as error:
        _fail(result, error)
    if implementation is made.implementations[-1]:
        checkpoints.forget(task, seed)
    result.seconds = time.perf_counter() - start
    record.write(result, path)
    return result


def _exact(made: plan.Plan, checkpoints: Checkpoints, show: Show) -> tuple[Any, parity.Outputs, float]:
    """The published batch, the reference's outputs in float64, and how far float32 rounding is from them."""
    batch = parity.published_batch(made.tokenizer, made.config["vocab_size"], made.config["max_position_embeddings"])
    show("reference in float64", 0, 1)
    reference = find("reference")
    try:
        outputs = {p: _outputs(made, reference, checkpoints, batch, p) for p in ("fp64", "fp32")}
    except WorkerError as error:
        raise Failure(f"the reference, which all are compared with, does not run: {error}\n{error.stderr}") from error
    floor = parity.differences(outputs["fp32"], outputs["fp64"])["max"]
    return batch, outputs["fp64"], floor


def _outputs(
    made: plan.Plan, implementation: Implementation, checkpoints: Checkpoints, batch: Any, precision: str
) -> parity.Outputs:
    with Worker(implementation) as worker:
        worker.load(checkpoints.bare(), None, made.device, precision, made.threads)
        _, arrays = worker.call("encode", batch._asdict())
    return parity.Outputs(arrays["hidden"], arrays.get("pooled"))


def _run_parity(
    made: plan.Plan,
    implementation: Implementation,
    checkpoints: Checkpoints,
    exact: tuple[Any, parity.Outputs, float],
    show: Show,
) -> record.Parity:
    batch, target, floor = exact
    key = f"parity-{implementation.name.replace(':', '-')}-{made.weights.sha256[:12]}"
    result = record.Parity(**_common(made, key, "fp32", "fp32"), implementation=_who(implementation), floor=floor)
    start = time.perf_counter()
    show(f"{implementation.name}: parity", 0, 1)
    try:
        for precision in ("fp64", "fp32"):
            outputs = _outputs(made, implementation, checkpoints, batch, precision)
            result.differences[precision] = parity.differences(outputs, target)
        result.verdict = parity.verdict(result.differences, floor)
    except (WorkerError, ValueError) as error:
        _fail(result, error)
    result.seconds = time.perf_counter() - start
    record.write(result, made.options.runs / "parity" / f"{key}.json")
    return result


def _shapes(made: plan.Plan) -> list[speed.Shape]:
    """Fixed shapes, and the lengths of each task's first scored split."""
    positions, vocabulary = made.config["max_position_embeddings"], made.config["vocab_size"]
    shapes = [speed.fixed(n, min(length, positions), vocabulary) for n, length in (LATENCY, *THROUGHPUT)]
    for task in made.tasks:
        batch = load_splits(made, task)[task.evaluate[0]].encoded.batch
        first = batch.select(np.arange(min(len(batch.lengths), 512)))
        shapes.append(speed.Shape(task.name, first, own_lengths=True))
    return shapes


def _run_speed(made: plan.Plan, checkpoints: Checkpoints, show: Show) -> Iterator[record.Speed]:
    """Time all implementations in turn, shape by shape; one that fails is left out of the rest, and said."""
    comparison = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    workers: dict[str, Worker] = {}
    failed: dict[str, dict[str, Any]] = {}
    try:
        for implementation in made.implementations:
            worker = workers[implementation.name] = Worker(implementation)
            show(f"{implementation.name}: loading for timing", 0, 1)
            try:
                worker.load(checkpoints.bare(), None, made.device, made.precision, made.threads)
            except WorkerError as error:
                failed[implementation.name] = {"state": "failed", "reason": str(error)}
                workers.pop(implementation.name).close()
        for shape in _shapes(made) if workers else []:
            yield _time_shape(made, workers, failed, shape, comparison, show)
    finally:
        for worker in workers.values():
            worker.close()


def _time_shape(
    made: plan.Plan,
    workers: dict[str, Worker],
    failed: dict[str, dict[str, Any]],
    shape: speed.Shape,
    comparison: str,
    show: Show,
) -> record.Speed:
    key = f"{comparison}-{shape.name.replace(' ', '')}"
    result = record.Speed(
        **_common(made, key, made.options.precision, made.precision),
        comparison=comparison,
        shape={
            "name": shape.name,
            "sequences": len(shape.batch.lengths),
            "tokens": len(shape.batch.ids),
            "longest": int(shape.batch.lengths.max()),
            "latency": shape.latency,
            "own_lengths": shape.own_lengths,
        },
        load={},
        implementations=dict(failed),
    )
    before, start = provenance.load_snapshot(), time.perf_counter()
    measured = speed.measure(workers, shape, lambda done, total: show(f"timing {shape.name}", done, total))
    for name, figures in measured.items():
        try:
            if figures["state"] == "ok":
                info = {key: workers[name].info[key] for key in ("version", "batching")}
                figures |= info | {"memory": workers[name].call("memory")[0]}
        except WorkerError as error:
            figures |= {"state": "failed", "reason": str(error)}
        if figures["state"] == "failed":  # it takes no part in the shapes to come
            workers.pop(name).close()
            failed[name] = figures
    result.implementations |= measured
    if all(figures["state"] == "failed" for figures in result.implementations.values()):
        result.state, result.reason = "failed", "no implementation could be timed"
    result.load = provenance.load_between(before)
    result.seconds = time.perf_counter() - start
    record.write(result, made.options.runs / "speed" / f"{key}.json")
    return result
