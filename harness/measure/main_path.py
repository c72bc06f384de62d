"""The main path: what the commands ``run``, ``parity`` and ``time`` do, in order."""

import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from harness.claims import Claims
from harness.data.kinds import KINDS
from harness.errors import BadInput
from harness.files import exclusive, sweep
from harness.measure import parity, quality, speed, training_speed
from harness.measure.bench import Bench, find_interpreters
from harness.measure.concurrent import together
from harness.measure.plan import Plan
from harness.measure.run import Run
from harness.measure.training import parity as training_parity
from harness.progress import Show
from harness.records import record
from harness.registry.implementations import Implementation
from harness.shares import Share
from harness.weights.checkpoints import Checkpoints

PREFIX, LOCK, HOUR = "bert-atlas-run-", "lock", 3600.0  # of folders for temporary files; seconds


def run(plans: list[Plan], show: Show) -> Generator[record.Record, None, None]:
    """All that was planned, one record at a time, each written before it is returned.

    The plans are equal except for the precision of evaluation and timing; fine-tuning is repeated for each. An
    implementation that fails never stops the others.
    """
    with _temporary_folder() as folder:
        bench, missing = _set_up(plans[0], folder, show)
        yield from missing
        startable, parities = _startable(bench), []
        for result in parity.measure_parities(bench, startable):
            parities.append(result)
            yield result
        trained = [each for each, result in zip(startable, parities, strict=True) if parity.trainable(result)]
        encoders = [each for each in startable if each not in trained]
        if plans[0].options.save_model and plans[0].implementations and not trained:
            names = ", ".join(each.name for each in plans[0].implementations)
            raise BadInput(f"--save-model: nothing that is fine-tuned is among {names}; reference is, for one")
        for plan in plans:
            bench = replace(bench, plan=plan)
            for task in plan.tasks:
                if not KINDS[task.kind].trained:
                    continue
                for seed in plan.options.seeds:
                    for implementation in trained:
                        if seed in plan.seeds_of(implementation, task):
                            yield quality.run_trained(bench, Run(plan, implementation, task, seed), bool(encoders))
                    bench.checkpoints.forget(task, seed)
            # A program computes in the precision that it likes, so it is run for the first plan only.
            jobs = [each for each in _startable(bench, jobs=True) if plan is plans[0]]
            yield from together(
                [
                    *(partial(quality.run_job, bench, each) for each in jobs),  # these take longest
                    *(partial(quality.run_encoder, bench, each) for each in encoders),
                    *(partial(quality.run_zero_shot, bench, each) for each in [*trained, *encoders]),
                ]
            )
            if plan.times:
                with _alone(bench):
                    yield from speed.run_speed(bench, [*trained, *encoders])


def run_parity(plan: Plan, show: Show) -> Generator[record.Record, None, None]:
    """Parity alone, always measured again: what ``python -m harness parity`` does."""
    plan = replace(plan, options=replace(plan.options, rerun="all"))
    with _temporary_folder() as folder:
        bench, missing = _set_up(plan, folder, show)
        yield from missing
        measured = parity.measure_parities(bench, _startable(bench))
        yield from training_parity.measure_training(bench, list(measured)) if plan.options.training else measured


def run_time(plan: Plan, show: Show) -> Generator[record.Record, None, None]:
    """Timing alone, of the weights as they are, always measured again: what ``python -m harness time`` does."""
    plan = replace(plan, options=replace(plan.options, rerun="all"))
    with _temporary_folder() as folder:
        bench, missing = _set_up(plan, folder, show)
        yield from missing
        measure = training_speed.run_training if plan.options.training else speed.run_speed
        with _alone(bench):
            yield from measure(bench, _startable(bench))


def run_choice(
    plan: Plan, shapes: list[speed.Shape] | None, show: Show
) -> Generator[record.Parity | record.Speed, None, None]:
    """Parity, then timing of these shapes, or of the plan's; finished records are kept.

    What ``python -m harness choose`` and ``contribute`` do.
    """
    with _temporary_folder() as folder:
        bench, missing = _set_up(plan, folder, show)
        yield from missing
        startable = _startable(bench)
        yield from parity.measure_parities(bench, startable)
        with _alone(bench):
            yield from speed.run_speed(bench, startable, shapes)


def _set_up(plan: Plan, folder: Path, show: Show) -> tuple[Bench, list[record.Parity]]:
    """The bench, and records of the implementations that cannot be started."""
    interpreters, missing = find_interpreters(plan, show)
    checkpoints = Checkpoints(plan.weights.folder, plan.tokenizer, folder)
    claims = Claims() if isinstance(plan.options.share, Share) else None
    return Bench(plan, interpreters, checkpoints, show, claims), [parity.write_missing(plan, each) for each in missing]


def _startable(bench: Bench, jobs: bool = False) -> list[Implementation]:
    """The implementations that can be started: the encoders, or the programs that do whole tasks."""
    return [each for each in bench.plan.implementations if each.name in bench.interpreters and bool(each.job) == jobs]


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for as long as this process needs it. Folders of killed processes are deleted first."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # it belongs to another user
            if time.time() - left.stat().st_mtime > HOUR:  # its process has had the time to lock it
                with suppress(Timeout), FileLock(left / LOCK, timeout=0):
                    shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, FileLock(Path(folder) / LOCK):
        yield Path(folder)


@contextmanager
def _alone(bench: Bench) -> Iterator[None]:
    """No other process that writes to the same folder times anything meanwhile."""
    folder = bench.plan.options.runs / "speed"
    with exclusive(folder, partial(bench.show, "waiting for another process that is timing")):
        sweep(folder)
        yield
