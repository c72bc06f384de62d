"""Evaluation of one run: get fine-tuned weights in one of three ways, predict, and score."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.data import leakage
from harness.data.encode import Encoded
from harness.data.kinds import KINDS, Prediction
from harness.data.read import read
from harness.data.task import Task
from harness.errors import BadInput, Failure
from harness.measure.bench import Bench
from harness.measure.client import Worker, WorkerError
from harness.measure.plan import Plan, splits_read
from harness.measure.run import Run
from harness.port.batch import Array, Batch, by_tokens, in_given_order, in_order
from harness.port.model import MASKED_LM
from harness.progress import Show
from harness.records import record
from harness.statistics.score import Predictions, metrics_of, score
from harness.weights.find import Weights
from harness.weights.saved_model import describe
from harness.weights.sentences import sentence_folder
from reference.tokenizer import Tokenizer

BATCH_TOKENS = 4096  # tokens in one forward pass of evaluation
AT_ONCE = 4096  # sequences in one request to a worker


@dataclass(frozen=True)
class Split:
    """A split, as read and as encoded."""

    examples: list[Any]
    encoded: Encoded
    repairs: list[dict[str, Any]]  # what was wrong in its file, and how it was read


def load_splits(plan: Plan, task: Task) -> dict[str, Split]:
    """The training split, if there is one, and those that are scored, by name."""
    splits = {}
    for name, owner in splits_read(task).items():
        found = read(owner, name, plan.data)
        examples = found.examples[: plan.options.limit]
        encoded = KINDS[owner.kind].encode(owner, examples, plan.tokenizer, task.max_length)
        splits[name] = Split(examples, encoded, found.repairs)
    return splits


def fine_tuned(
    bench: Bench, run: Run, result: record.Quality, *, keep: Path | None = None, for_encoders: Path | None = None
) -> Predictions:
    """Train, predict and score; fill ``result`` in. Returns the predictions by split.

    The trained model is written to the folder ``keep``, and, always with a pooler, to ``for_encoders``. If memory runs
    out, the run is repeated once with each batch in two pieces, and the record says so. WorkerError if the
    implementation fails.
    """
    splits = load_splits(run.plan, run.task)
    _describe(result, run.task, splits, run.plan.tokenizer)
    try:
        return _fine_tune(bench, run, result, splits, keep, for_encoders)
    except WorkerError as error:
        if not error.out_of_memory:
            raise
    result.flags.append(record.flag("out of memory with whole batches; computed in two pieces each"))
    result.recipe["micro_batches"] = 2
    return _fine_tune(bench, run, result, splits, keep, for_encoders)


def encoded(bench: Bench, run: Run, result: record.Quality, worker: Worker, folder: Path) -> Predictions:
    """Predict and score with the model in ``folder``, which the reference fine-tuned; fill ``result`` in.

    For an implementation that only encodes. Returns the predictions by split. WorkerError if it fails.
    """
    plan, task = run.plan, run.task
    splits = load_splits(plan, task)
    _describe(result, task, splits, plan.tokenizer)
    _load(worker, plan, folder, result)
    result.training = {"by": "reference", "examples": len(splits["train"].examples)}
    return _answers(worker, result, task, splits, bench.show)


def zero_shot(bench: Bench, run: Run, result: record.Quality, worker: Worker) -> Predictions:
    """Predict with vectors, or masked words, of the weights as they are, and score; fill ``result`` in.

    Returns the predictions by split. WorkerError if the implementation fails.
    """
    plan, task = run.plan, run.task
    splits = load_splits(plan, task)
    _describe(result, task, splits, plan.tokenizer)
    words = KINDS[task.kind].words
    _load(worker, plan, bench.checkpoints.bare(), result, MASKED_LM if words else None)

    def answers(split: str) -> list[Prediction]:
        batch = splits[split].encoded.batch
        show = partial(bench.show, f"{'masked words' if words else 'vectors'} of {split}")
        numbers = logarithms_of(worker, plan, batch, show) if words else vectors_of(worker, plan.weights, batch, show)
        return _decoded(task, splits[split], split, numbers)

    predictions = {split: answers(split) for split in task.evaluate}
    result.training["memory"] = worker.memory()
    return _scored(result, task, splits, predictions)


def _load(worker: Worker, plan: Plan, folder: Path, result: record.Quality, head: str | None = None) -> None:
    """Load the encoder in a folder, or with its head, and put what the implementation says of it into the record."""
    worker.load(folder, head, plan.device, plan.precision, plan.threads)
    result.implementation["version"] = worker.info["version"]
    result.implementation["precision"] = worker.info["precision"]
    result.precision["computed"] = worker.info["computed"]
    if "compiled" in worker.info:
        result.implementation["compiled"] = worker.info["compiled"]


def done_by_itself(bench: Bench, run: Run, result: record.Quality) -> Predictions:
    """Run a program that does the whole task, and score its predictions; fill ``result`` in.

    The program gets the examples and the pre-trained weights. How it truncates texts is unknown. Returns the
    predictions by split. WorkerError if it fails, or if its predictions do not fit the task.
    """
    plan, task = run.plan, run.task
    splits = load_splits(plan, task)
    _describe(result, task, splits, None)
    with (
        bench.start(run.implementation, beside_others=True) as worker,
        tempfile.TemporaryDirectory(prefix="bert-atlas-job-") as out,
    ):
        done = worker.job(
            bench.checkpoints.bare(),
            {"name": task.name, "kind": task.kind, "outputs": list(task.outputs), "max_length": task.max_length},
            {name: [asdict(example) for example in split.examples] for name, split in splits.items()},
            Path(out),
            plan.threads,
            bench.show,
        )
    result.implementation["version"] = done.version
    result.recipe = {"own": done.recipe, "select": "last"}
    try:
        return _scored(result, task, splits, {split: done.predictions.get(split, []) for split in task.evaluate})
    except (BadInput, Failure) as error:  # this run fails, the others go on
        raise WorkerError(str(error), "predictions") from error


def _describe(result: record.Quality, task: Task, splits: dict[str, Split], tokenizer: Tokenizer | None) -> None:
    """Put into the record what was repaired in the data, how much is truncated, and how much is in two splits."""
    result.sanity = _examined(task, splits, tokenizer)
    result.repairs = {name: split.repairs for name, split in splits.items() if split.repairs}


def _examined(task: Task, splits: dict[str, Split], tokenizer: Tokenizer | None) -> dict[str, leakage.Counts]:
    """The record's field ``sanity``; without a tokenizer it does not say how much is truncated."""
    seen = set(leakage.inputs(splits["train"].examples)) if "train" in splits else set()
    counts = {}
    for name, split in splits.items():
        counts[name] = {"examples": len(split.examples)}
        if tokenizer is not None:
            counts[name] |= leakage.truncation(task, split.examples, split.encoded, tokenizer)
        if name != "train" and "train" in splits:
            counts[name]["in_train"] = sum(each in seen for each in leakage.inputs(split.examples))
    return counts


def _fine_tune(
    bench: Bench,
    run: Run,
    result: record.Quality,
    splits: dict[str, Split],
    keep: Path | None,
    for_encoders: Path | None,
) -> Predictions:
    """One attempt, with the ``micro_batches`` of the record's recipe."""
    plan, task = run.plan, run.task
    with bench.start_training(run.implementation) as worker:
        folder = bench.checkpoints.with_head(task, run.seed)
        worker.load(folder, task.kind, plan.device, "fp32", plan.threads)
        result.implementation["version"] = worker.info["version"]
        result.training = _train(worker, result, task, splits, bench.show)
        if keep is not None:
            save_model(worker, run, keep)
        if for_encoders is not None:
            save_model(worker, run, for_encoders, pooler=True)
        if plan.precision != "fp32":
            result.precision["computed"] = worker.cast(plan.precision)
        return _answers(worker, result, task, splits, bench.show)


def _answers(worker: Worker, result: record.Quality, task: Task, splits: dict[str, Split], show: Show) -> Predictions:
    """Predict and score all splits of the task; put the peak memory into the record."""
    predictions = {split: _predict(worker, task, splits[split], split, show) for split in task.evaluate}
    result.training["memory"] = worker.memory()
    return _scored(result, task, splits, predictions)


def _scored(
    result: record.Quality, task: Task, splits: dict[str, Split], predictions: dict[str, list[Prediction]]
) -> Predictions:
    """Put the scores of all splits into the record. Returns the predictions with the ids of the examples."""
    answers = {
        split: leakage.paired(splits[split].examples, each, f"{task.name} {split}")
        for split, each in predictions.items()
    }
    examples = {split: splits[split].examples for split in answers}
    result.metrics, result.flags = score(result, task, examples, answers)
    return answers


def _train(worker: Worker, result: record.Quality, task: Task, splits: dict[str, Split], show: Show) -> dict[str, Any]:
    """Train all epochs; ``select: dev`` then restores the weights of the best epoch on the first scored split."""
    recipe, train = result.recipe, splits["train"]
    labels = train.encoded.labels
    if labels is None:
        raise WorkerError(f"the training split of {task.name} has examples without a label", "data")
    start, losses, scores = time.perf_counter(), [], []
    compiled = worker.start_training(train.encoded.batch, labels, recipe, task.kind, result.seed)
    if compiled is not None:
        result.implementation["compiled"] = compiled
    for epoch in range(recipe["epochs"]):

        def show_epoch(done: int, total: int, loss: float, epoch: int = epoch) -> None:
            show(
                f"epoch {epoch + 1} of {recipe['epochs']}, loss {loss:.3f}",
                epoch * total + done,
                recipe["epochs"] * total,
            )

        losses.append(worker.train_epoch(show_epoch).loss)
        if recipe["select"] == "dev":
            split = task.evaluate[0]
            answers = _predict(worker, task, splits[split], split, show)
            right = KINDS[task.kind].gold(splits[split].examples)
            if right is None:
                raise WorkerError(f"--select dev needs labels, and {split} of {task.name} has none", "data")
            scores.append(metrics_of(task, split, right, answers, task.metrics[:1], draws=1)[0].value)
            if scores[-1] == max(scores):
                worker.keep()
    if recipe["select"] == "dev":
        worker.restore()
    seconds = time.perf_counter() - start
    return {"examples": len(train.examples), "seconds": seconds, "losses": losses, "dev_by_epoch": scores}


def logits_of(worker: Worker, batch: Batch, kind: str, show_done: Callable[[int], None]) -> Array:
    """Logits [sequences or tokens, outputs], in the order of the batch; calls ``show_done`` with the sequences so far.

    The worker gets AT_ONCE sequences at a time, so that its memory does not grow with the data.
    """
    parts = []
    for piece in in_order(batch.lengths, AT_ONCE):
        before = int(piece[0])

        def show_part(done: int, total: int, before: int = before) -> None:
            show_done(before + done)

        parts.append(worker.predict(batch.select(piece), kind, BATCH_TOKENS, show_part))
    return np.concatenate(parts)


def _predict(worker: Worker, task: Task, split: Split, name: str, show: Show) -> list[Prediction]:
    batch = split.encoded.batch
    logits = logits_of(worker, batch, task.kind, lambda done: show(f"scoring {name}", done, len(batch.lengths)))
    return _decoded(task, split, name, logits)


def logarithms_of(worker: Worker, plan: Plan, batch: Batch, show: Callable[[int, int], None]) -> Array:
    """The logarithm of each token's probability where it alone is masked [tokens], in the order of the batch.

    The worker gets AT_ONCE sequences at a time. ``show(done, total)`` counts sequences.
    """
    assert plan.tokenizer.mask_id is not None
    parts = []
    for piece in in_order(batch.lengths, AT_ONCE):
        before = int(piece[0])

        def show_part(done: int, total: int, before: int = before) -> None:
            show(before + done, len(batch.lengths))

        parts.append(worker.log_probabilities(batch.select(piece), plan.tokenizer.mask_id, BATCH_TOKENS, show_part))
    return np.concatenate(parts)


def vectors_of(worker: Worker, weights: Weights, batch: Batch, show: Callable[[int, int], None]) -> Array:
    """The vector of each sequence [sequences, size], in their order, pooled as the folder of the weights says.

    They are those of sentence-transformers for the folder. ``show(done, total)`` counts sequences.
    """
    import torch

    from reference.model import Packed
    from reference.pooling import pool

    said = sentence_folder(weights)
    parts, orders, done = [], [], 0
    with torch.inference_mode():
        for piece in by_tokens(batch.lengths, BATCH_TOKENS):
            part = batch.select(piece)
            encoded = worker.encode(part)
            if said.pooling == ("pooler",):
                if encoded.pooled is None:
                    raise WorkerError("these vectors are the pooler's output, which it does not give", "vectors")
                rows = torch.from_numpy(encoded.pooled).float()
            else:
                hidden = torch.from_numpy(encoded.hidden).float()
                for module in said.of_tokens:
                    hidden = module(hidden)
                packed = Packed.from_lengths(torch.from_numpy(part.ids), part.lengths.tolist())
                rows = pool(hidden, packed, said.pooling)
            for module in said.of_sentences:
                rows = module(rows)
            parts.append(rows.numpy())
            orders.append(piece)
            done += len(piece)
            show(done, len(batch.lengths))
    return in_given_order(parts, orders)


def _decoded(task: Task, split: Split, name: str, logits: Array) -> list[Prediction]:
    """The answers that logits, or vectors, give; WorkerError for some that no answer can be read from."""
    kind = KINDS[task.kind]
    try:
        kind.check_shape(task, split.encoded.batch, logits)
    except ValueError as error:
        raise WorkerError(f"{task.name} {name}: {error}", "shape") from error
    if not np.isfinite(logits).all():
        raise WorkerError("the model answered with numbers that are not finite", "not finite")
    return kind.decode(task, logits, split.encoded, split.examples)


def save_model(worker: Worker, run: Run, folder: Path, pooler: bool = False) -> None:
    """Write the worker's model, for transformers, ``python -m harness predict`` and the ports that only encode.

    A tagging model has no pooler; ``pooler`` adds that of the pre-trained weights, for ports that always load one.
    """
    import torch

    from reference.checkpoint import Checkpoint, read, save, standard_names
    from reference.model import BertConfig

    plan, task = run.plan, run.task
    tensors = standard_names({name: torch.from_numpy(array) for name, array in worker.export().items()})
    if pooler:
        original = read(plan.weights.folder).tensors
        tensors = {name: tensor for name, tensor in original.items() if name.startswith("bert.pooler.")} | tensors
    folder.mkdir(parents=True, exist_ok=True)
    plan.tokenizer.save(folder, task.max_length)
    describe(task, run.key, plan.device, plan.precision, folder)
    save(Checkpoint(BertConfig(**plan.config), tensors, task.outputs), folder, task.kind)
