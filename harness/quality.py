"""Quality runs: each task from each seed, by those that are trained, those that only encode, and programs."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import evaluate, plan, record
from harness.begin import Homes, common, fail, start_worker, who
from harness.checkpoints import Checkpoints
from harness.download import cache_folder
from harness.implementation import Implementation, find
from harness.isolate import Show, Worker, WorkerError
from harness.task import Task


def _quality_record(
    made: plan.Plan, implementation: Implementation, task: Task, seed: int, how: plan.How
) -> tuple[record.Quality, Path]:
    """An empty record and its file."""
    key = plan.key(made, implementation, task, seed, how)
    stem = f"{implementation.name.replace(':', '-')}-{task.name}-{seed}-{key[:12]}"
    result = record.Quality(
        **common(made, key, made.options.precision, made.precision),
        implementation=who(made, implementation),
        task={
            **{name: getattr(task, name) for name in ("name", "title", "suite", "kind", "context")},
            "data": plan.data_hashes(made, task),
        },
        recipe=plan.recipe(made, task),
        seed=seed,
        limit=made.options.limit,
        predictions=f"{stem}.predictions.json.gz",
    )
    return result, made.options.runs / "quality" / f"{stem}.json"


def _known(made: plan.Plan, key: str, path: Path) -> record.Quality | None:
    """The record of the same run, where there is one that went well and need not be repeated."""
    if not path.is_file() or made.options.rerun:
        return None
    known = record.read(path)
    return known if isinstance(known, record.Quality) and known.state == "ok" and known.key == key else None


def _score(result: record.Quality, path: Path, work: Callable[[], evaluate.Predictions]) -> record.Quality:
    """Do the work, which fills ``result`` in, and write the record, whatever comes of it."""
    start = time.perf_counter()
    assert result.predictions is not None
    try:
        record.write_predictions(path.with_name(result.predictions), work())
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
    result, path = _quality_record(made, implementation, task, seed, "trained")
    keep = _model_folder(made, implementation, task, seed) if made.options.save_model else None
    tuned = _tuned_folder(made, task, seed) if for_encoders and implementation.name == "reference" else None
    known = _known(made, result.key, path)
    if known is not None and keep is None and (tuned is None or (tuned / "config.json").is_file()):
        return known
    label = f"{implementation.name} on {task.name}, seed {seed}"
    return _score(
        result,
        path,
        lambda: evaluate.fine_tuned(
            lambda: start_worker(made, implementation, homes),
            made,
            result,
            task,
            checkpoints.with_head(task, seed),
            lambda what, *count: show(f"{label}: {what}", *count),
            keep=keep,
            for_encoders=tuned,
        ),
    )


def _model_folder(made: plan.Plan, implementation: Implementation, task: Task, seed: int) -> Path:
    """Where ``--save-model`` goes: that folder itself where there is one model to save."""
    folder = made.options.save_model
    assert folder is not None
    if len(made.implementations) * len(made.tasks) * len(made.options.seeds) == 1:
        return folder
    return folder / f"{implementation.name.replace(':', '-')}-{task.name}-{seed}"


def _tuned_folder(made: plan.Plan, task: Task, seed: int) -> Path:
    """Weights that the reference fine-tuned, kept between runs for implementations that only encode."""
    key = plan.key(made, find("reference"), task, seed, "trained")
    return cache_folder() / "tuned" / f"{task.name}-{seed}-{key[:12]}"


def _tuned(made: plan.Plan, task: Task, seed: int, checkpoints: Checkpoints, show: Show) -> Path:
    """The same, trained now where the reference took no part in this run; WorkerError where it cannot be."""
    folder, reference = _tuned_folder(made, task, seed), find("reference")
    if not (folder / "config.json").is_file():
        result, _ = _quality_record(made, reference, task, seed, "trained")
        label = f"weights for {task.name}, seed {seed}"
        evaluate.fine_tuned(
            lambda: Worker(reference),
            made,
            result,
            task,
            checkpoints.with_head(task, seed),
            lambda what, *count: show(f"{label}: {what}", *count),
            for_encoders=folder,
        )
        checkpoints.forget(task, seed)
    return folder


def run_encoder(
    made: plan.Plan, implementation: Implementation, homes: Homes, checkpoints: Checkpoints, show: Show
) -> Iterator[record.Quality]:
    """All tasks of one that only encodes, in one process, with the weights that the reference fine-tuned."""
    worker: Worker | None = None
    try:
        for task in made.tasks:
            for seed in made.options.seeds:
                result, path = _quality_record(made, implementation, task, seed, "encoded")
                if (known := _known(made, result.key, path)) is not None:
                    yield known
                    continue
                worker = worker if worker is not None and worker.alive else start_worker(made, implementation, homes)
                label = f"{implementation.name} on {task.name}, seed {seed}"
                yield _score(result, path, _encode(worker, made, result, task, checkpoints, label, show))
    finally:
        if worker is not None:
            worker.close()


def _encode(
    worker: Worker,
    made: plan.Plan,
    result: record.Quality,
    task: Task,
    checkpoints: Checkpoints,
    label: str,
    show: Show,
) -> Callable[[], evaluate.Predictions]:
    def work() -> evaluate.Predictions:
        folder = _tuned(made, task, result.seed, checkpoints, show)
        return evaluate.encoded(
            worker, made, result, task, folder, lambda what, *count: show(f"{label}: {what}", *count)
        )

    return work


def run_job(made: plan.Plan, implementation: Implementation, homes: Homes, show: Show) -> Iterator[record.Quality]:
    """The tasks that a program of its own does, of those that were planned."""
    for task in made.tasks:
        if task.name not in implementation.job:
            continue
        for seed in made.options.seeds[:1]:  # it draws its own numbers
            result, path = _quality_record(made, implementation, task, seed, "job")
            if (known := _known(made, result.key, path)) is not None:
                yield known
                continue
            with start_worker(made, implementation, homes) as worker:
                label = f"{implementation.name} on {task.name}"
                work = _do_job(worker, made, result, task, label, show)
                yield _score(result, path, work)


def _do_job(
    worker: Worker, made: plan.Plan, result: record.Quality, task: Task, label: str, show: Show
) -> Callable[[], evaluate.Predictions]:
    return lambda: evaluate.done_by_itself(
        worker, made, result, task, lambda what, *count: show(f"{label}: {what}", *count)
    )
