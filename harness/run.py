"""The main path: plan, weights, train, evaluate, time, record."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import parity, plan, quality, record, speed
from harness.begin import find_homes
from harness.checkpoints import Checkpoints
from harness.isolate import Show


def run(made: plan.Plan, show: Show) -> Iterator[record.Record]:
    """Everything that was planned, one record at a time, each written before it is given.

    ``show(what, done, total)`` is told of progress. One implementation failing never stops the others.
    """
    with tempfile.TemporaryDirectory(prefix="bert-atlas-") as temporary:
        checkpoints = Checkpoints(made, Path(temporary))
        homes = yield from find_homes(made, show)
        trained, encoders = yield from parity.run_parities(made, homes, checkpoints, show)
        for task in made.tasks:
            for seed in made.options.seeds:
                for implementation in trained:
                    yield quality.run_trained(
                        made, implementation, homes, task, seed, checkpoints, bool(encoders), show
                    )
                checkpoints.forget(task, seed)
        for implementation in encoders:
            yield from quality.run_encoder(made, implementation, homes, checkpoints, show)
        for implementation in made.implementations:
            if implementation.job and implementation.name in homes:
                yield from quality.run_job(made, implementation, homes, show)
        yield from speed.run_speed(made, [*trained, *encoders], homes, checkpoints, show)


def run_parity(made: plan.Plan, show: Show) -> Iterator[record.Parity]:
    """Parity alone, with its diagnosis: what ``python -m harness parity`` does."""
    with tempfile.TemporaryDirectory(prefix="bert-atlas-") as temporary:
        homes = yield from find_homes(made, show)
        yield from parity.run_parities(made, homes, Checkpoints(made, Path(temporary)), show)


def run_time(made: plan.Plan, show: Show) -> Iterator[record.Record]:
    """Timing alone, of the weights as they are: what ``python -m harness time`` does."""
    with tempfile.TemporaryDirectory(prefix="bert-atlas-") as temporary:
        homes = yield from find_homes(made, show)
        timed = [each for each in made.implementations if each.name in homes and not each.job]
        yield from speed.run_speed(made, timed, homes, Checkpoints(made, Path(temporary)), show)
