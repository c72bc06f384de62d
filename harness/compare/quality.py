"""The difference in quality between paired runs, from their predictions, example by example.

Its interval is a paired bootstrap over examples. From one seed p is McNemar's exact test for accuracy and approximate
randomisation for other metrics, and says nothing of other seeds. From several, the seeds are a sample too: Student's t
of their differences is added to each bootstrap draw, and p is read from the draws.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.compare.pairing import Run, Runs
from harness.compare.result import Comparison, Difference, Disagreement
from harness.data.kinds import KINDS
from harness.data.reading import all_files
from harness.data.task import Task, load_task
from harness.errors import BadInput
from harness.records import record
from harness.statistics.intervals import Floats
from harness.statistics.seeds import has_collapsed
from harness.statistics.significance import SEED, mcnemar, paired_bootstrap, randomisation


def differences(
    comparison: Comparison, what: str, runs_a: Runs, runs_b: Runs, data: Path | None, own_tasks: dict[str, Task]
) -> list[Difference]:
    """One for each split, in its first metric."""
    first = next(iter(runs_a.values()))[1]
    main: dict[str, dict[str, Any]] = {}
    for metric in first.metrics:
        main.setdefault(metric["split"], metric)
    if not main:
        comparison.notes.append(f"{what}: no scored split")
    return [_difference(comparison, what, split, runs_a, runs_b, data, own_tasks) for split in main]


def _difference(
    comparison: Comparison,
    what: str,
    split: str,
    runs_a: Runs,
    runs_b: Runs,
    data: Path | None,
    own_tasks: dict[str, Task],
) -> Difference:
    first = next(iter(runs_a.values()))[1]
    metric = next(m["name"] for m in first.metrics if m["split"] == split)
    if first.task["kind"] not in KINDS or metric not in KINDS[first.task["kind"]].metrics:
        path = next(iter(runs_a.values()))[0]
        raise BadInput(f"{path}: this version has no metric {metric!r} for tasks of kind {first.task['kind']!r}")
    values = [{seed: _recorded(run, split, metric) for seed, run in runs.items()} for runs in (runs_a, runs_b)]
    answers = [{seed: _answers(run, split) for seed, run in runs.items()} for runs in (runs_a, runs_b)]
    ids = list(next(iter(answers[0].values())))
    for seed in runs_a:
        for (path, _), answered in ((runs_a[seed], answers[0][seed]), (runs_b[seed], answers[1][seed])):
            if list(answered) != ids:
                raise BadInput(
                    f"{path}: its predictions on {split} are not of the examples of the others; run it again"
                )
    known = _gold(first, split, data, own_tasks)
    gold = {} if isinstance(known, str) else known[1]
    found = Difference(
        subject=what if split == "dev" else f"{what}, {split}",
        kind=first.task["kind"],
        metric=metric,
        n=len(ids),
        a=float(np.mean(list(values[0].values()))),
        b=float(np.mean(list(values[1].values()))),
        by_seed={seed: values[1][seed] - values[0][seed] for seed in runs_a},
        disagreements=[
            Disagreement(seed, each, answers[0][seed][each], answers[1][seed][each], gold.get(each))
            for seed in runs_a
            for each in ids
            if differ(answers[0][seed][each], answers[1][seed][each])
        ],
    )
    for name, runs in ((comparison.a, runs_a), (comparison.b, runs_b)):
        if collapsed := [str(seed) for seed, (_, run) in runs.items() if has_collapsed(run, split)]:
            seeds = ", ".join(collapsed)
            comparison.notes.append(f"{found.subject}: collapsed, and compared like the others: {name}, seed {seeds}")
    found.disagreements.sort(key=lambda each: -KINDS[found.kind].distance(each.a, each.b))
    if isinstance(known, str):
        comparison.notes.append(f"{found.subject}: recorded values alone, no interval and no test: {known}")
        return found
    task, right = known
    if not set(ids) <= right.keys():
        raise BadInput(f"{found.subject}: predictions of examples that the data does not have; run both again")
    rows: dict[int, tuple[Floats, Floats]] = {}
    for seed in runs_a:
        both = [answers[side][seed][each] for side in (0, 1) for each in ids]
        # of both at once, because correlations scale what they are given
        features = _features(task, metric, [right[each] for each in ids] * 2, both)
        rows[seed] = features[: len(ids)], features[len(ids) :]
        for (path, _), side, recorded in zip((runs_a[seed], runs_b[seed]), rows[seed], values, strict=True):
            _check_value(path, metric, side, recorded[seed])
    return _tested(found, rows)


def differ(a: Any, b: Any) -> bool:
    """Scores do beyond what rounding makes of them."""
    return not math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-4) if isinstance(a, float) else a != b


def _recorded(run: Run, split: str, metric: str) -> float:
    return float(next(m["value"] for m in run[1].metrics if (m["split"], m["name"]) == (split, metric)))


def _answers(run: Run, split: str) -> dict[str, Any]:
    """Predictions by example id; BadInput where they are not beside the record."""
    pairs = record.predictions_of(*run, split)[split]
    return {str(name): tuple(answer) if isinstance(answer, list) else answer for name, answer in pairs}


def _gold(
    each: record.Quality, split: str, data: Path | None, own_tasks: dict[str, Task]
) -> tuple[Task, dict[str, Any]] | str:
    """The task and the right answers by example id; or why they cannot be known."""
    from harness.data.fetch import data_folder
    from harness.data.read import read_split
    from harness.measure.keys import sha256_of_all

    name = each.task["name"]
    try:
        task = own_tasks.get(name) or load_task(name)
    except BadInput:
        return f"task {name} is not built in; name its YAML file with --task"
    folder = data_folder(data)
    files = all_files(task, split, folder) if split in task.files else []
    if not files or not all(file.is_file() for file in files):
        return "its data is not at hand; say where with --data"
    if sha256_of_all(files) != each.task["data"].get(split):
        return f"{files[0].name} here is not the file that the records were made with (another sha256)"
    examples: list[Any] = [*read_split(task, split, folder)]
    answers = KINDS[task.kind].gold(examples)
    if answers is None:
        return f"{split} has no labels"
    return task, {example.id: answer for example, answer in zip(examples, answers, strict=True)}


def _features(task: Task, metric: str, gold: list[Any], predicted: list[Any]) -> Floats:
    from harness.statistics.metrics import features

    return features(task.kind, metric, gold, predicted, labels=task.outputs, positive=task.positive)


def _check_value(path: Path, metric: str, rows: Floats, recorded: float) -> None:
    from harness.statistics.metrics import METRICS

    value = float(METRICS[metric].statistic(rows)(np.ones((1, len(rows)), np.int64))[0])
    if not math.isclose(value, recorded, abs_tol=1e-6):
        raise BadInput(f"{path}: {metric} is {recorded:.6f} there, but {value:.6f} of its predictions; run it again")


def _tested(found: Difference, rows: dict[int, tuple[Floats, Floats]]) -> Difference:
    """With interval and p; ``rows`` are the features of A and of B, [n, k] each, by seed."""
    draws = paired_bootstrap(found.metric, list(rows.values()))
    differences = np.array(list(found.by_seed.values()))
    seeds = len(differences)
    if seeds > 1:
        error = float(differences.std(ddof=1)) / math.sqrt(seeds)
        draws = draws + error * np.random.default_rng(SEED + 1).standard_t(seeds - 1, len(draws))
    low, high = np.quantile(draws, [0.025, 0.975])
    # Counts are of ties too, so that two that are the same get p = 1.
    beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    p_bootstrap = min(1.0, 2 * (beyond + 1) / (len(draws) + 1))
    one_seed = next(iter(rows.values()))
    if seeds > 1:
        test, p = "bootstrap of examples, t of seeds", p_bootstrap
    elif found.metric == "accuracy":
        test, p = "McNemar", mcnemar(*(side[:, 0] for side in one_seed))
    else:
        test, p = "randomisation", randomisation(found.metric, *one_seed)
    return replace(found, low=float(low), high=float(high), test=test, p=p, p_bootstrap=p_bootstrap)
