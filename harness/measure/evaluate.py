"""One quality run: an implementation is fine-tuned on a task from one seed (or gets fine-tuned weights), and scored."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data import leakage
from harness.data.encode import Encoded
from harness.data.kinds import KINDS, Prediction
from harness.data.read import read
from harness.data.task import Task
from harness.errors import BadInput, Failure
from harness.measure import plan
from harness.measure.client import Worker, WorkerError
from harness.port.batch import Batch, in_order
from harness.predict.saved_model import describe
from harness.records import provenance, record
from harness.statistics.score import Predictions, metrics_of, score
from harness.worker.messages import Array
from reference.tokenizer import Tokenizer

BATCH_TOKENS = 4096  # of one forward pass in evaluation
AT_ONCE = 4096  # sequences that a worker gets together
Show = Callable[..., None]  # progress: what is done, how much of how much
Start = Callable[[], Worker]


@dataclass(frozen=True)
class Split:
    """A split in both forms."""

    examples: list[Any]
    encoded: Encoded
    repairs: list[dict[str, Any]]  # of its file, when it was read


def load_splits(made: plan.Plan, task: Task) -> dict[str, Split]:
    """The training split and those that are scored, encoded."""
    wanted = [("train", plan.training_task(task)), *((split, task) for split in task.evaluate)]
    splits = {}
    for name, owner in wanted:
        found = read(owner, name, made.data)
        examples = found.examples[: made.options.limit]
        encoded = KINDS[owner.kind].encode(owner, examples, made.tokenizer, task.max_length)
        splits[name] = Split(examples, encoded, found.repairs)
    return splits


def _describe(result: record.Quality, task: Task, splits: dict[str, Split], tokenizer: Tokenizer | None) -> None:
    """Put into the record what was repaired in its data, and what of them is cut or seen twice."""
    result.sanity = _examined(task, splits, tokenizer)
    result.repairs = {name: split.repairs for name, split in splits.items() if split.repairs}


def _examined(task: Task, splits: dict[str, Split], tokenizer: Tokenizer | None) -> dict[str, leakage.Counts]:
    """The record's field ``sanity``; without the tokenizer that made the tokens, nothing is said of what was cut."""
    seen = set(leakage.inputs(splits["train"].examples))
    counts = {}
    for name, split in splits.items():
        counts[name] = {"examples": len(split.examples)}
        if tokenizer is not None:
            counts[name] |= leakage.truncation(task, split.examples, split.encoded, tokenizer)
        if name != "train":
            counts[name]["in_train"] = sum(each in seen for each in leakage.inputs(split.examples))
    return counts


def fine_tuned(
    start: Start,
    made: plan.Plan,
    result: record.Quality,
    task: Task,
    folder: Path,
    show: Show,
    *,
    keep: Path | None = None,
    for_encoders: Path | None = None,
) -> Predictions:
    """Fill ``result`` in: train from the checkpoint in ``folder`` (head included), predict, score.

    Gives the predictions by split; the trained weights are written to the folder ``keep``, and with a pooler in any
    case to ``for_encoders``. Out of memory once, each batch is computed in two pieces; that is said in the record.
    Raises WorkerError if the implementation fails.
    """
    splits = load_splits(made, task)
    _describe(result, task, splits, made.tokenizer)
    for micro_batches in (1, 2):
        result.recipe["micro_batches"] = micro_batches
        try:
            with start() as worker:
                worker.load(folder, task.kind, made.device, "fp32", made.threads)
                result.implementation["version"] = worker.info["version"]
                result.training = _train(worker, result, task, splits, show)
                if keep is not None:
                    save_model(worker, made, result, task, keep)
                if for_encoders is not None:
                    save_model(worker, made, result, task, for_encoders, pooler=True)
                if made.precision != "fp32":
                    answer, _ = worker.call("cast", precision=made.precision)
                    result.precision["computed"] = answer["computed"]
                return _answers(worker, result, task, splits, show)
        except WorkerError as error:
            if not error.out_of_memory or micro_batches == 2:
                raise
            result.flags.append(record.flag("out of memory with whole batches; computed in two pieces each"))
    raise AssertionError("unreachable")


def encoded(
    worker: Worker, made: plan.Plan, result: record.Quality, task: Task, folder: Path, show: Show
) -> Predictions:
    """Fill ``result`` in for one that only encodes: with the weights that the reference fine-tuned, in ``folder``."""
    splits = load_splits(made, task)
    _describe(result, task, splits, made.tokenizer)
    worker.load(folder, None, made.device, made.precision, made.threads)
    result.implementation["version"] = worker.info["version"]
    result.implementation["precision"] = worker.info["precision"]
    result.precision["computed"] = worker.info["computed"]
    if "compiled" in worker.info:
        result.implementation["compiled"] = worker.info["compiled"]
    result.training = {"by": "reference", "examples": len(splits["train"].examples)}
    return _answers(worker, result, task, splits, show)


def done_by_itself(
    worker: Worker, made: plan.Plan, result: record.Quality, task: Task, folder: Path, show: Show
) -> Predictions:
    """Fill ``result`` in for one that is a program of its own: it gets the examples, and the weights in ``folder``, and
    gives predictions back.

    It cuts texts in its own way, of which nothing is known. Raises WorkerError if it fails, or answers what is no
    answer to the task.
    """
    splits = load_splits(made, task)
    _describe(result, task, splits, None)

    def show_job(what: str, done: int = 0, total: int = 1) -> None:
        show(what, done, total)

    with tempfile.TemporaryDirectory(prefix="bert-atlas-job-") as out:
        answer, _ = worker.call(
            "job",
            on_progress=show_job,
            threads=made.threads,
            cpus=provenance.cpus_for(made.threads),
            checkout=str(worker.checkout) if worker.checkout else None,
            weights=str(folder),
            task={"name": task.name, "kind": task.kind, "outputs": list(task.outputs), "max_length": task.max_length},
            splits={name: [asdict(example) for example in split.examples] for name, split in splits.items()},
            out=out,
        )
    result.implementation["version"] = answer["version"]
    result.recipe = {"own": answer["recipe"], "select": "last"}
    try:
        return _scored(result, task, splits, {split: answer["predictions"].get(split, []) for split in task.evaluate})
    except (BadInput, Failure) as error:  # its run fails; those of the others go on
        raise WorkerError(str(error), "predictions") from error


def _answers(worker: Worker, result: record.Quality, task: Task, splits: dict[str, Split], show: Show) -> Predictions:
    """Predict and score all splits that the task says; peak memory goes into the record."""
    predictions = {split: _predict(worker, task, splits[split], split, show) for split in task.evaluate}
    result.training["memory"] = worker.call("memory")[0]
    return _scored(result, task, splits, predictions)


def _scored(
    result: record.Quality, task: Task, splits: dict[str, Split], predictions: dict[str, list[Prediction]]
) -> Predictions:
    """Put the scores of all splits into the record; the predictions with the examples' ids."""
    answers = {
        split: leakage.paired(splits[split].examples, each, f"{task.name} {split}")
        for split, each in predictions.items()
    }
    examples = {split: splits[split].examples for split in answers}
    result.metrics, result.flags = score(result, task, examples, answers)
    return answers


def _train(worker: Worker, result: record.Quality, task: Task, splits: dict[str, Split], show: Show) -> dict[str, Any]:
    """All epochs; with ``select: dev`` the weights of the epoch that was best on the first scored split."""
    recipe, train = result.recipe, splits["train"]
    labels = train.encoded.labels
    if labels is None:
        raise WorkerError(f"the training split of {task.name} has examples without a label", "data")
    start, losses, scores = time.perf_counter(), [], []
    arrays = {**train.encoded.batch._asdict(), "labels": labels}
    answer, _ = worker.call("start_training", arrays, recipe=recipe, kind=task.kind, seed=result.seed)
    if "compiled" in answer:
        result.implementation["compiled"] = answer["compiled"]
    for epoch in range(recipe["epochs"]):

        def show_epoch(done: int, total: int, loss: float, epoch: int = epoch) -> None:
            show(
                f"epoch {epoch + 1} of {recipe['epochs']}, loss {loss:.3f}",
                epoch * total + done,
                recipe["epochs"] * total,
            )

        losses.append(worker.call("train_epoch", on_progress=show_epoch)[0]["loss"])
        if recipe["select"] == "dev":
            split = task.evaluate[0]
            answers = _predict(worker, task, splits[split], split, show)
            right = KINDS[task.kind].gold(splits[split].examples)
            if right is None:
                raise WorkerError(f"--select dev needs labels, and {split} of {task.name} has none", "data")
            scores.append(metrics_of(task, split, right, answers, task.metrics[:1], draws=1)[0].value)
            if scores[-1] == max(scores):
                worker.call("keep")
    if recipe["select"] == "dev":
        worker.call("restore")
    seconds = time.perf_counter() - start
    return {"examples": len(train.examples), "seconds": seconds, "losses": losses, "dev_by_epoch": scores}


def logits_of(worker: Worker, batch: Batch, kind: str, told: Callable[[int], None]) -> Array:
    """What a worker predicts for every sequence (or token), in the order given; ``told`` hears of how many.

    It gets a part at a time, so that its memory does not grow with the data.
    """
    parts = []
    for piece in in_order(batch.lengths, AT_ONCE):
        arrays, before = batch.select(piece)._asdict(), int(piece[0])
        _, answer = worker.call(
            "predict",
            arrays,
            kind=kind,
            batch_tokens=BATCH_TOKENS,
            on_progress=lambda done, total, before=before: told(before + done),
        )
        parts.append(answer["logits"])
    return np.concatenate(parts)


def _predict(worker: Worker, task: Task, split: Split, name: str, show: Show) -> list[Prediction]:
    kind, batch = KINDS[task.kind], split.encoded.batch
    logits = logits_of(worker, batch, task.kind, lambda done: show(f"scoring {name}", done, len(batch.lengths)))
    try:
        kind.check_shape(task, batch, logits)
    except ValueError as error:
        raise WorkerError(f"{task.name} {name}: {error}", "shape") from error
    if not np.isfinite(logits).all():
        raise WorkerError("the model answered with numbers that are not finite", "not finite")
    return kind.decode(task, logits, split.encoded, split.examples)


def save_model(
    worker: Worker, made: plan.Plan, result: record.Quality, task: Task, folder: Path, pooler: bool = False
) -> None:
    """A folder that transformers loads, that ``python -m harness predict`` uses, and that ports encode with.

    A tagging model has no pooler; ``pooler`` adds that of the pre-trained weights, for ports that always load one.
    """
    import torch

    from reference.checkpoint import Checkpoint, read, save, standard_names
    from reference.model import BertConfig

    _, arrays = worker.call("export")
    tensors = standard_names({name: torch.from_numpy(array) for name, array in arrays.items()})
    if pooler:
        original = read(made.weights.folder).tensors
        tensors = {name: tensor for name, tensor in original.items() if name.startswith("bert.pooler.")} | tensors
    folder.mkdir(parents=True, exist_ok=True)
    made.tokenizer.save(folder, task.max_length)
    describe(task, result.key, made.device, made.precision, folder)
    save(Checkpoint(BertConfig(**made.config), tensors, task.outputs), folder, task.kind)
