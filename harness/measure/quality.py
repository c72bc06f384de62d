"""Quality runs: each task from each seed, by those that are trained, those that only encode, and programs."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.data.download import cache_folder
from harness.data.task import Task
from harness.measure import evaluate, keys, plan
from harness.measure.bench import Homes, common, fail, kept, start_worker, who
from harness.measure.client import Show, Worker, WorkerError
from harness.predict.saved_model import DESCRIPTION
from harness.records import record
from harness.registry.implementations import Implementation
from harness.statistics.score import Predictions
from harness.weights.checkpoints import Checkpoints
from harness.weights.examine import drawn_at_random

UNUSED = 7 * 24 * 3600  # seconds, after which fine-tuned weights in the cache are deleted


def find_kept(
    made: plan.Plan, implementation: Implementation, task: Task, seed: int, how: keys.How
) -> record.Quality | None:
    """The record of this run, where there is one that is not to be made anew."""
    key = keys.quality_key(made, implementation, task, seed, how)
    known = kept(made, record.Quality, key, _path(made, implementation, task, seed, key))
    if known is None or how != "trained" or made.options.save_model is None or known.state != "ok":
        return known
    return known if _saved(_model_folder(made, implementation, task, seed)) == key else None


def _path(made: plan.Plan, implementation: Implementation, task: Task, seed: int, key: str) -> Path:
    name = f"{implementation.name.replace(':', '-')}-{task.name}-{seed}-{key[:12]}.json"
    return made.options.runs / "quality" / name


def _quality_record(made: plan.Plan, implementation: Implementation, task: Task, seed: int, key: str) -> record.Quality:
    """An empty record."""
    start = common(made, key, made.options.precision, made.precision)
    drawn, told = ([], "") if implementation.job else drawn_at_random(made.weights, made.pooler, task.kind)
    start["checkpoint"]["initialised"] = drawn
    return record.Quality(
        **start,
        implementation=who(made, implementation),
        task={
            **{name: getattr(task, name) for name in ("name", "title", "suite", "kind", "context")},
            "data": keys.data_hashes(made, task),
        },
        recipe=plan.recipe(made, task),
        seed=seed,
        limit=made.options.limit,
        predictions=f"{_path(made, implementation, task, seed, key).stem}.predictions.json.gz",
        flags=[record.flag(told)] if told else [],
    )


def _label(implementation: Implementation, task: Task, seed: int) -> str:
    return f"{implementation.name} on {task.name}, seed {seed}"


def _once(
    made: plan.Plan,
    implementation: Implementation,
    task: Task,
    seed: int,
    how: keys.How,
    show: Show,
    work: Callable[[record.Quality], Predictions],
    tuned: Path | None = None,
) -> record.Quality:
    """The record that is kept, else that of the work done now, which fills it in; it is written whatever comes of it.

    ``tuned`` is a model that must be there too. Predictions are written first: no record is ever without them.
    """
    key = keys.quality_key(made, implementation, task, seed, how)
    path = _path(made, implementation, task, seed, key)
    label = _label(implementation, task, seed)
    with record.exclusive(path, partial(show, f"{label}, which another process does now", 0, 1)):
        known = find_kept(made, implementation, task, seed, how)
        if known is not None and (tuned is None or known.state == "failed" or _saved(tuned)):
            return known
        result, start = _quality_record(made, implementation, task, seed, key), time.perf_counter()
        assert result.predictions is not None
        try:
            record.write_predictions(path.with_name(result.predictions), work(result))
        except WorkerError as error:
            fail(result, error)
            result.predictions = None
        result.seconds = time.perf_counter() - start
        record.write(result, path)
        return result


def run_trained(
    made: plan.Plan,
    implementation: Implementation,
    homes: Homes,
    task: Task,
    seed: int,
    checkpoints: Checkpoints,
    for_encoders: bool,
    show: Show,
) -> record.Quality:
    """Fine-tune and score; the reference's weights are kept where others encode with them."""
    keep = _model_folder(made, implementation, task, seed) if made.options.save_model else None
    tuned = _tuned_folder(made, task, seed) if for_encoders and implementation.name == "reference" else None
    label = _label(implementation, task, seed)

    def work(result: record.Quality) -> Predictions:
        with ExitStack() as folders:
            return evaluate.fine_tuned(
                lambda: start_worker(made, implementation, homes),
                made,
                result,
                task,
                checkpoints.with_head(task, seed),
                lambda what, *count: show(f"{label}: {what}", *count),
                keep=folders.enter_context(_whole(keep)) if keep else None,
                for_encoders=folders.enter_context(_whole(tuned)) if tuned and not _use(tuned) else None,
            )

    with ExitStack() as stack:
        if tuned is not None:
            waiting = partial(show, f"{label}, whose weights another process makes now", 0, 1)
            stack.enter_context(record.exclusive(tuned, waiting))
        return _once(made, implementation, task, seed, "trained", show, work, tuned)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write a model to, which is moved to ``folder`` once it is whole; its description comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".part-*"):  # by one that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as unfinished:
        yield Path(unfinished)
        (folder / DESCRIPTION).unlink(missing_ok=True)
        for file in sorted(Path(unfinished).iterdir(), key=lambda file: file.name == DESCRIPTION):
            file.replace(folder / file.name)


def _saved(folder: Path) -> str | None:
    """The key of the run whose model is in this folder; None where there is none, not all of it, or it is damaged."""
    try:
        return str(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["record"])
    except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _model_folder(made: plan.Plan, implementation: Implementation, task: Task, seed: int) -> Path:
    """Where ``--save-model`` goes: that folder itself where there is one model to save."""
    folder = made.options.save_model
    assert folder is not None
    if len(made.implementations) * len(made.tasks) * len(made.options.seeds) == 1:
        return folder
    return folder / f"{implementation.name.replace(':', '-')}-{task.name}-{seed}"


def _tuned_folder(made: plan.Plan, task: Task, seed: int) -> Path:
    """Weights that the reference fine-tuned, kept between runs for implementations that only encode.

    They are the same in whatever precision and on whatever further splits they are scored.
    """
    alike = replace(made, precision="fp32")
    key = keys.quality_key(alike, keys.reference(), replace(task, evaluate=task.evaluate[:1]), seed)
    return cache_folder() / "tuned" / f"{task.name}-{seed}-{key[:12]}"


def _use(tuned: Path) -> bool:
    """Whether these weights are there; if so, they count as used now, and otherwise room is made for them.

    Keys change with the code, so that weights which were not used for long will never be asked for again.
    """
    if _saved(tuned):
        os.utime(tuned)
        return True
    for other in tuned.parent.iterdir():
        if other.is_dir() and time.time() - other.stat().st_mtime > UNUSED:
            shutil.rmtree(other, ignore_errors=True)
    return False


def _tuned(made: plan.Plan, task: Task, seed: int, checkpoints: Checkpoints, show: Show) -> Path:
    """The same, trained now where the reference took no part in this run; WorkerError where it cannot be."""
    folder, reference = _tuned_folder(made, task, seed), keys.reference()
    label = f"weights for {task.name}, seed {seed}"
    with record.exclusive(folder, partial(show, f"{label}, which another process makes now", 0, 1)):
        if not _use(folder):
            with _whole(folder) as unfinished:
                evaluate.fine_tuned(
                    lambda: Worker(reference),
                    made,
                    _quality_record(made, reference, task, seed, keys.quality_key(made, reference, task, seed)),
                    task,
                    checkpoints.with_head(task, seed),
                    lambda what, *count: show(f"{label}: {what}", *count),
                    for_encoders=unfinished,
                )
            checkpoints.forget(task, seed)
    return folder


def run_encoder(
    made: plan.Plan, implementation: Implementation, homes: Homes, checkpoints: Checkpoints, show: Show
) -> Iterator[record.Quality]:
    """All tasks of one that only encodes, in one process, with the weights that the reference fine-tuned."""
    worker: Worker | None = None

    def work(task: Task, label: str, result: record.Quality) -> Predictions:
        nonlocal worker
        if worker is None or not worker.alive:
            worker = start_worker(made, implementation, homes, beside_others=True)
        folder = _tuned(made, task, result.seed, checkpoints, show)
        return evaluate.encoded(
            worker, made, result, task, folder, lambda what, *count: show(f"{label}: {what}", *count)
        )

    try:
        for task in made.tasks:
            for seed in plan.seeds_of(made, implementation, task):
                label = _label(implementation, task, seed)
                yield _once(made, implementation, task, seed, "encoded", show, partial(work, task, label))
    finally:
        if worker is not None:
            worker.close()


def run_job(
    made: plan.Plan, implementation: Implementation, homes: Homes, checkpoints: Checkpoints, show: Show
) -> Iterator[record.Quality]:
    """The tasks that a program of its own does, of those that were planned."""

    def work(task: Task, label: str, result: record.Quality) -> Predictions:
        with start_worker(made, implementation, homes, beside_others=True) as worker:
            return evaluate.done_by_itself(
                worker, made, result, task, checkpoints.bare(), lambda what, *count: show(f"{label}: {what}", *count)
            )

    for task in made.tasks:
        for seed in plan.seeds_of(made, implementation, task):
            label = _label(implementation, task, seed)
            yield _once(made, implementation, task, seed, "job", show, partial(work, task, label))
