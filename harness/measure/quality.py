"""Quality records: of implementations that are trained, of those that only encode, and of programs."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.files import cache_folder
from harness.measure import evaluate, keys
from harness.measure.bench import Bench
from harness.measure.client import Worker, WorkerError
from harness.measure.recording import common_fields, fail, identity
from harness.measure.run import Run, runs_of
from harness.records import record
from harness.registry.implementations import Implementation
from harness.statistics.score import Predictions
from harness.weights.examine import drawn_at_random
from harness.weights.saved_model import key_of, replaced_folder

UNUSED = 7 * 24 * 3600  # seconds, after which fine-tuned weights in the cache are deleted
Work = Callable[[record.Quality], Predictions]  # fills the record in and returns the predictions


def run_trained(bench: Bench, run: Run, for_encoders: bool) -> record.Quality:
    """Fine-tune and score; ``for_encoders``: the reference's weights are kept for implementations that only encode."""
    with ExitStack() as stack:
        tuned = None
        if for_encoders and run.implementation.name == "reference":
            tuned = _tuned_folder(run)
            stack.enter_context(bench.alone_on(tuned, f"{run.label}, whose weights another process makes now"))
        return _once(bench, run, partial(_fine_tune, bench, run, tuned), tuned)


def run_encoder(bench: Bench, implementation: Implementation) -> Iterator[record.Quality]:
    """All tasks of an implementation that only encodes, in one process, with weights that the reference fine-tuned."""
    with closing(_OnDemand(bench, implementation)) as worker:
        for run in runs_of(bench.plan, implementation, "encoded"):
            yield _once(bench, run, partial(_encode, bench, run, worker))


def run_zero_shot(bench: Bench, implementation: Implementation) -> Iterator[record.Quality]:
    """All tasks that need no training, in one process, with the weights as they are."""
    with closing(_OnDemand(bench, implementation)) as worker:
        for run in runs_of(bench.plan, implementation, "zero-shot"):
            yield _once(bench, run, partial(_zero_shot, bench, run, worker))


def run_job(bench: Bench, implementation: Implementation) -> Iterator[record.Quality]:
    """Those of the planned tasks that a program does."""
    for run in runs_of(bench.plan, implementation, "job"):
        yield _once(bench, run, partial(evaluate.done_by_itself, bench.labelled(run.label), run))


def _once(bench: Bench, run: Run, work: Work, tuned: Path | None = None) -> record.Quality:
    """The record that is kept, else a new one, which is written whether the work succeeds or fails.

    ``tuned`` is a folder whose model must exist too. Predictions are written first: no record is ever without them.
    """
    while True:
        with bench.alone_on(run.path, f"{run.label}, which another process does now") as claim:
            kept = run.kept()
            if kept is not None and (tuned is None or kept.state == "failed" or key_of(tuned)):
                return kept
            result, start = _empty_record(run), time.perf_counter()
            predictions = None
            try:
                predictions = work(result)
            except WorkerError as error:
                fail(result, error)
                result.predictions = None
            result.seconds = time.perf_counter() - start
            if claim is None or claim.seal():
                if predictions is not None and result.predictions is not None:
                    record.write_predictions(run.path.with_name(result.predictions), predictions)
                record.write(result, run.path)
                return result
        bench.lost(run.label, result.seconds)


def _empty_record(run: Run) -> record.Quality:
    plan, task = run.plan, run.task
    fields = common_fields(plan, run.key, plan.options.precision, plan.precision)
    drawn, note = ([], "") if run.implementation.job else drawn_at_random(plan.weights, plan.pooler, task.kind)
    fields["checkpoint"]["initialised"] = drawn
    return record.Quality(
        **fields,
        implementation=identity(plan, run.implementation),
        task={
            **{name: getattr(task, name) for name in ("name", "title", "suite", "kind", "context")},
            "data": keys.data_hashes(plan, task),
        },
        recipe=plan.recipe(task),
        seed=run.seed,
        limit=plan.options.limit,
        predictions=f"{run.path.stem}.predictions.json.gz",
        flags=[record.flag(note)] if note else [],
    )


def _fine_tune(bench: Bench, run: Run, tuned: Path | None, result: record.Quality) -> Predictions:
    with ExitStack() as stack:
        keep, for_encoders = run.model_folder, None if tuned is None or _use(tuned) else tuned
        return evaluate.fine_tuned(
            bench.labelled(run.label),
            run,
            result,
            keep=stack.enter_context(replaced_folder(keep)) if keep else None,
            for_encoders=stack.enter_context(replaced_folder(for_encoders)) if for_encoders else None,
        )


def _encode(bench: Bench, run: Run, worker: "_OnDemand", result: record.Quality) -> Predictions:
    started = worker.started()
    return evaluate.encoded(bench.labelled(run.label), run, result, started, _tuned(bench, run))


def _zero_shot(bench: Bench, run: Run, worker: "_OnDemand", result: record.Quality) -> Predictions:
    return evaluate.zero_shot(bench.labelled(run.label), run, result, worker.started())


class _OnDemand:
    """The worker of several runs: started when the first of them needs it, and again if it has died."""

    def __init__(self, bench: Bench, implementation: Implementation) -> None:
        self.bench, self.implementation = bench, implementation
        self.worker: Worker | None = None

    def started(self) -> Worker:
        if self.worker is None or not self.worker.alive:
            self.worker = self.bench.start(self.implementation, beside_others=True)
        return self.worker

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()


# -- weights that the reference fine-tunes for implementations that only encode; they are kept between commands --


def _training_run(run: Run) -> Run:
    """The run of the reference that trains the weights for ``run``."""
    return replace(run, implementation=keys.reference(), how="trained")


def _tuned_folder(run: Run) -> Path:
    """The folder of the weights for ``run``: the same for every precision and for all splits but the first."""
    task = replace(run.task, evaluate=run.task.evaluate[:1])
    key = replace(_training_run(run), plan=replace(run.plan, precision="fp32"), task=task).key
    return cache_folder() / "tuned" / f"{task.name}-{run.seed}-{key[:12]}"


def _tuned(bench: Bench, run: Run) -> Path:
    """The same folder, trained now if no run of the reference did it; WorkerError if the reference fails."""
    folder, training = _tuned_folder(run), _training_run(run)
    label = f"weights for {run.task.name}, seed {run.seed}"
    with bench.alone_on(folder, f"{label}, which another process makes now"):
        if not _use(folder):
            with replaced_folder(folder) as unfinished:
                result = _empty_record(training)
                evaluate.fine_tuned(bench.labelled(label), training, result, for_encoders=unfinished)
            bench.checkpoints.forget(run.task, run.seed)
    return folder


def _use(tuned: Path) -> bool:
    """Whether these weights exist. If so, note that they are in use; if not, delete those that nobody uses any more.

    Keys change with the code, so weights that have not been used for long will never be asked for again.
    """
    if key_of(tuned):
        os.utime(tuned)
        return True
    for other in tuned.parent.iterdir():
        if other.is_dir() and time.time() - other.stat().st_mtime > UNUSED:
            shutil.rmtree(other, ignore_errors=True)
    return False
