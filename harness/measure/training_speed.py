"""Speed of fine-tuning: implementations that can be trained take turns at an epoch of the same examples."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from harness.data.kinds import KINDS
from harness.data.task import Task
from harness.errors import BadInput
from harness.measure import evaluate, keys, speed
from harness.measure.bench import Bench
from harness.measure.client import Seconds, Worker, WorkerError
from harness.measure.plan import Plan
from harness.port.batch import Array
from harness.records import record
from harness.registry.implementations import Implementation

STEPS = 20  # steps of fine-tuning in each turn
WARM_UP = 2  # epochs


def run_training(bench: Bench, implementations: list[Implementation]) -> Iterator[record.Speed]:
    """A record for each task, of the implementations that can be trained.

    An implementation that packs gets batches of similar length. One that pads gets random batches, as its users feed
    it, each padded to its longest sequence; with ``--by-length`` it gets the same batches as the others.
    """
    comparison = speed.new_comparison()
    bench = replace(bench, plan=replace(bench.plan, precision=bench.plan.training_precision))
    for task in bench.plan.tasks:
        if not KINDS[task.kind].trained:
            raise BadInput(f"--training: there is none on task {task.name}; name others")
        result = _time_task(bench, task, implementations, comparison)
        speed.write(bench.plan, result)
        yield result


def _time_task(bench: Bench, task: Task, implementations: list[Implementation], comparison: str) -> record.Speed:
    plan = bench.plan
    split = evaluate.load_splits(plan, task)["train"]
    examples = min(len(split.examples), STEPS * plan.recipe(task)["batch_size"])
    batch = split.encoded.batch.select(np.arange(examples))
    name = f"{task.name}, training" + (", by length" if plan.options.by_length else "")
    shape = speed.Shape(name, batch, own_lengths=True)

    def load(worker: Worker) -> bool:
        worker.load(bench.checkpoints.bare(), None, plan.device, "fp32", plan.threads)
        if not worker.info["trainable"]:
            return False
        worker.load(bench.checkpoints.with_head(task, 0), task.kind, plan.device, "fp32", plan.threads)
        _start(worker, plan, task, split.encoded.labels, shape)
        return True

    with ExitStack() as stack:
        group = speed.load_each(bench, implementations, stack, load)
        key = keys.speed_key(plan, implementations, shape.description(), ["training", plan.recipe(task)])
        return speed.time_shape(bench, group, shape, comparison, key, _warm_up)


def _start(worker: Worker, plan: Plan, task: Task, labels: Array | None, shape: speed.Shape) -> None:
    if labels is None:
        raise WorkerError(f"the training split of {task.name} has examples without a label", "data")
    similar = plan.options.by_length or worker.info["batching"] == "packed"
    recipe = plan.recipe(task) | {
        "epochs": WARM_UP + speed.ROUNDS,
        "batches": "by length" if similar else "random",
    }
    of_examples = labels[: KINDS[task.kind].rows(shape.batch)]
    compiled = worker.start_training(shape.batch, of_examples, recipe, task.kind, seed=0)
    if compiled is not None:
        worker.info["compiled"] = compiled
    worker.info["precision"] = worker.info["computed"] = recipe["precision"]


def _warm_up(worker: Worker) -> speed.Turn:
    """Train the first epochs. A turn is one epoch, which is long enough."""

    def turn() -> Seconds:
        epoch = worker.train_epoch()
        return Seconds(np.array([epoch.wall]), np.array([epoch.cpu]))

    for _ in range(WARM_UP):
        turn()
    return turn
