"""The main path: plan, weights, train, evaluate, time, record."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import BadInput
from harness.measure import parity, plan, quality, speed, training_speed
from harness.measure.bench import find_homes
from harness.measure.client import Show
from harness.measure.concurrent import together
from harness.records import record
from harness.weights.checkpoints import Checkpoints

PREFIX, LOCK, HOUR = "bert-atlas-run-", "lock", 3600.0  # of folders for temporary files; seconds


def run(plans: list[plan.Plan], show: Show) -> Iterator[record.Record]:
    """Everything that was planned, one record at a time, each written before it is given.

    The plans are alike but for the precision of evaluation and timing; each is trained for anew. ``show(what, done,
    total)`` is told of progress. One implementation failing never stops the others.
    """
    first = plans[0]
    with _temporary() as temporary:
        checkpoints = Checkpoints(first, temporary)
        homes = yield from find_homes(first, show)
        trained, encoders = yield from parity.run_parities(first, homes, checkpoints, show)
        if first.options.save_model and not trained:
            names = ", ".join(each.name for each in first.implementations)
            raise BadInput(f"--save-model: nothing that is fine-tuned is among {names}; reference is, for one")
        for made in plans:
            for task in made.tasks:
                for seed in made.options.seeds:
                    for implementation in trained:
                        yield quality.run_trained(
                            made, implementation, homes, task, seed, checkpoints, bool(encoders), show
                        )
                    checkpoints.forget(task, seed)
            # A program of its own computes as it likes, whatever the precision.
            jobs = [each for each in made.implementations if each.job and each.name in homes and made is first]
            yield from together(
                [
                    *(
                        partial(quality.run_job, made, each, homes, checkpoints, show) for each in jobs
                    ),  # they take longest
                    *(partial(quality.run_encoder, made, each, homes, checkpoints, show) for each in encoders),
                ]
            )
            with _alone(made, show):
                yield from speed.run_speed(made, [*trained, *encoders], homes, checkpoints, show)


@contextmanager
def _temporary() -> Iterator[Path]:
    """A folder for as long as this process needs it. One that a killed process left behind is deleted first."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # of another user
            if time.time() - left.stat().st_mtime > HOUR:  # for who made it to have locked it
                with suppress(Timeout), FileLock(left / LOCK, timeout=0):
                    shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, FileLock(Path(folder) / LOCK):
        yield Path(folder)


@contextmanager
def _alone(made: plan.Plan, show: Show) -> Iterator[None]:
    """No other process times with this folder meanwhile."""
    folder = made.options.runs / "speed"
    with record.exclusive(folder, lambda: show("waiting for another process that is timing", 0, 1)):
        record.sweep(folder)
        yield


def run_parity(made: plan.Plan, show: Show) -> Iterator[record.Parity]:
    """Parity alone, measured anew, with its diagnosis: what ``python -m harness parity`` does."""
    made = replace(made, options=replace(made.options, rerun="all"))
    with _temporary() as temporary:
        homes = yield from find_homes(made, show)
        yield from parity.run_parities(made, homes, Checkpoints(made, temporary), show)


def run_time(made: plan.Plan, show: Show) -> Iterator[record.Record]:
    """Timing alone, of the weights as they are, measured anew: what ``python -m harness time`` does."""
    made = replace(made, options=replace(made.options, rerun="all"))
    with _temporary() as temporary:
        homes = yield from find_homes(made, show)
        checkpoints = Checkpoints(made, temporary)
        timed = [each for each in made.implementations if each.name in homes and not each.job]
        run = training_speed.run_training if made.options.training else speed.run_speed
        with _alone(made, show):
            yield from run(made, timed, homes, checkpoints, show)
