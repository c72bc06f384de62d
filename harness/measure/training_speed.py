"""Speed of fine-tuning: implementations that can be trained take turns at an epoch of the same examples."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from harness.data.kinds import KINDS
from harness.data.task import Task
from harness.measure import evaluate, keys, plan, speed
from harness.measure.bench import Homes
from harness.measure.client import Show, Worker, WorkerError
from harness.records import record
from harness.registry.implementations import Implementation
from harness.weights.checkpoints import Checkpoints
from harness.worker.messages import Array

STEPS = 20  # in each turn


def run_training(
    made: plan.Plan, implementations: list[Implementation], homes: Homes, checkpoints: Checkpoints, show: Show
) -> Iterator[record.Speed]:
    """A record for each task, of those that can be trained.

    An implementation that packs gets batches of similar length. One that pads gets random ones, as its users feed
    it, padded to the longest of each; with ``--by-length`` it gets the same as the others.
    """
    comparison = speed.new_comparison()
    made = replace(made, precision=made.training_precision)
    for task in made.tasks:
        result = _time_task(made, task, implementations, homes, checkpoints, comparison, show)
        speed.keep(made, result)
        yield result


def _time_task(
    made: plan.Plan,
    task: Task,
    implementations: list[Implementation],
    homes: Homes,
    checkpoints: Checkpoints,
    comparison: str,
    show: Show,
) -> record.Speed:
    split = evaluate.load_splits(made, task)["train"]
    examples = min(len(split.examples), STEPS * plan.recipe(made, task)["batch_size"])
    batch = split.encoded.batch.select(np.arange(examples))
    name = f"{task.name}, training" + (", by length" if made.options.by_length else "")
    shape = speed.Shape(name, batch, own_lengths=True)

    def load(worker: Worker) -> bool:
        worker.load(checkpoints.bare(), None, made.device, "fp32", made.threads)
        if not worker.info["trainable"]:
            return False
        worker.load(checkpoints.with_head(task, 0), task.kind, made.device, "fp32", made.threads)
        _start(worker, made, task, split.encoded.labels, shape)
        return True

    with ExitStack() as stack:
        workers, failed = speed.load_each(made, implementations, homes, stack, load, show)
        key = keys.speed_key(made, implementations, shape.description(), ["training", plan.recipe(made, task)])
        return speed.time_shape(made, workers, failed, shape, comparison, key, show, timed=_epoch)


def _start(worker: Worker, made: plan.Plan, task: Task, labels: Array | None, shape: speed.Shape) -> None:
    if labels is None:
        raise WorkerError(f"the training split of {task.name} has examples without a label", "data")
    similar = made.options.by_length or worker.info["batching"] == "packed"
    recipe = plan.recipe(made, task) | {
        "epochs": 2 + speed.ROUNDS,  # two to warm up
        "batches": "by length" if similar else "random",
    }
    of_examples = labels[: KINDS[task.kind].rows(shape.batch)]
    arrays = {**shape.batch._asdict(), "labels": of_examples}
    answer, _ = worker.call("start_training", arrays, recipe=recipe, kind=task.kind, seed=0)
    worker.info |= answer | dict.fromkeys(("precision", "computed"), recipe["precision"])


def _epoch(worker: Worker, shape: speed.Shape, repeats: int) -> dict[str, Array]:
    """Seconds of one epoch, which is long enough to be a turn whatever ``repeats`` says."""
    answer = worker.call("train_epoch")[0]
    return {"wall": np.array([answer["wall"]]), "cpu": np.array([answer["cpu"]])}
