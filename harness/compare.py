"""Two implementations compared from their stored records: quality example by example, speed round by round.

Quality: the interval of the difference is a paired bootstrap over examples. From one seed p is McNemar's exact test
for accuracy and approximate randomisation for other metrics, and says nothing of other seeds. From several, the seeds
are a sample too: Student's t of their differences is added to each bootstrap draw, and p is read from the draws.

Speed: passes of one round are alike, so that a round counts once, by its median. Interval and p are of Student's t of
the logarithms of the rounds' ratios.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness import record
from harness.errors import BadInput
from harness.intervals import Floats
from harness.seeds import has_collapsed
from harness.significance import SEED, holm, mcnemar, paired_bootstrap, randomisation
from harness.task import Task, load_task, task_files

Run = tuple[Path, record.Quality]  # a record and its file
Runs = dict[int, Run]  # by seed


@dataclass(frozen=True)
class Disagreement:
    """An example that the two answer differently."""

    seed: int
    id: str
    a: Any
    b: Any
    gold: Any = None  # None where the data is not at hand


@dataclass(frozen=True)
class Difference:
    """B's main metric less A's on one split, the mean over seeds."""

    subject: str  # task, and what of split and setting must be said
    kind: str  # of the task
    metric: str
    n: int  # examples, or sentences
    a: float
    b: float
    by_seed: dict[int, float]
    disagreements: list[Disagreement]
    low: float | None = None  # the 95% interval; None, like p, where examples could not be compared
    high: float | None = None
    test: str | None = None  # what p is of
    p: float | None = None
    p_bootstrap: float | None = None
    p_holm: float | None = None  # corrected over all tasks and splits

    @property
    def value(self) -> float:
        """The difference."""
        return self.b - self.a


@dataclass(frozen=True)
class Ratio:
    """B's speed over A's at one shape, from one comparison in which they took turns."""

    shape: str
    ratio: float  # the median of the rounds' ratios
    low: float | None  # the 95% interval; None, like p, of a single round
    high: float | None
    p: float | None  # Student's t
    p_mann_whitney: float | None  # of the rounds' medians, which does not see that rounds are pairs
    rounds: int
    p_holm: float | None = None


Tested = TypeVar("Tested", Difference, Ratio)


@dataclass
class Comparison:
    """All that two implementations can be compared in."""

    a: str  # what to call them
    b: str
    differences: list[Difference] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was left out, what differs besides, what lacks
    lacking: list[str] = field(default_factory=list)  # what A has a score of and B has none of


def compare(a: str, b: str, runs: Path, data: Path | None = None, own_tasks: Sequence[Path] = ()) -> Comparison:
    """Compare B with A: each an implementation recorded in ``runs``, FOLDER/NAME, a record file or a folder.

    Gold answers come from the data folder; without them there are differences but no intervals. BadInput where
    the two were not measured on the same data, splits, metrics and checkpoint, and where nothing is in both.
    """
    sides = [_find(text, runs) for text in (a, b)]
    (name_a, found_a), (name_b, found_b) = sides
    names = (name_a, name_b) if name_a != name_b else (a, b)
    if names[0] == names[1]:
        raise BadInput(f"{a} and {b} are the same; name two implementations, or two folders of records")
    made = Comparison(*names)
    tasks = {task.name: task for task in (load_task(str(path)) for path in own_tasks)}
    pairs = _pairs(made, *(_grouped(made, name, found) for name, (_, found) in zip(names, sides, strict=True)))
    for what, runs_a, runs_b in pairs:
        made.differences += _differences(made, what, runs_a, runs_b, data, tasks)
    speeds = {path.resolve(): each for path, each in [*found_a, *found_b] if isinstance(each, record.Speed)}
    made.ratios = _ratios(made, list(speeds.values()), name_a, name_b)
    if not made.differences and not made.ratios:
        raise BadInput(f"{a} and {b}: no task and no timing is in both; {'; '.join(made.notes) or 'run both first'}")
    made.differences, made.ratios = _corrected(made.differences), _corrected(made.ratios)
    return made


def _corrected(tested: list[Tested]) -> list[Tested]:
    """With p corrected over all that were tested."""
    corrected = iter(holm([each.p for each in tested if each.p is not None]))
    return [each if each.p is None else replace(each, p_holm=next(corrected)) for each in tested]


# Which records


def _find(text: str, runs: Path) -> tuple[str, list[tuple[Path, record.Record]]]:
    """The name of the implementation that is meant, and records among which are its own."""
    in_runs = _read(runs) if runs.exists() else []
    if text in _names(in_runs):  # first: a folder of the same name may lie here
        return text, _of(text, in_runs)
    path = Path(text).expanduser()
    if path.exists():
        found = _read(path)
        names = _names(found)
        if not names and not runs.exists():
            raise BadInput(f"{text} holds no records, and {runs} does not exist; say where they are with --runs")
        if len(names) != 1:
            several = f"records of {', '.join(names)}; name one as {path}/{names[0]}" if names else "nothing to compare"
            raise BadInput(f"{text} holds {several}")
        return names[0], found
    if path.parent != Path() and path.parent.exists() and path.name in _names(found := _read(path.parent)):
        return path.name, _of(path.name, found)
    known = ", ".join(_names(in_runs)) or "none"
    raise BadInput(
        f"{text} is no record, no folder of records, no FOLDER/NAME, and no implementation recorded in {runs} "
        f"(there: {known}); see --runs"
    )


def _read(path: Path) -> list[tuple[Path, record.Record]]:
    return [(file, record.read(file)) for file in record.files(path)]


def _names(found: list[tuple[Path, record.Record]]) -> list[str]:
    """Implementations with scores here; with timings, where there are no scores."""
    scored = {each.implementation["name"] for _, each in found if isinstance(each, record.Quality)}
    timed = {name for _, each in found if isinstance(each, record.Speed) for name in each.implementations}
    return sorted(scored or timed)


def _of(name: str, found: list[tuple[Path, record.Record]]) -> list[tuple[Path, record.Record]]:
    return [
        (path, each)
        for path, each in found
        if not isinstance(each, record.Quality) or each.implementation["name"] == name
    ]


def _setting(each: record.Quality) -> dict[str, Any]:
    """What was done, besides by whom, on what task and with which seed."""
    recipe = {key: value for key, value in each.recipe.items() if key != "micro_batches"}  # changes no result
    return {
        "checkpoint": f"{each.checkpoint['name']}, {each.checkpoint['sha256'][:12]}",
        "limit": each.limit,
        **{f"data of {split}": sha256[:12] for split, sha256 in each.task["data"].items()},
        "precision": each.precision["resolved"],
        "hardware": record.hardware(each),
        **{f"recipe: {key}": value for key, value in recipe.items()},
    }


def _grouped(
    made: Comparison, name: str, found: list[tuple[Path, record.Record]]
) -> dict[str, dict[str, dict[int, Run]]]:
    """Runs by task, setting and seed; of the same the one that was started last."""
    groups: dict[str, dict[str, Runs]] = {}
    for path, each in sorted(found, key=lambda pair: pair[1].started):
        if not isinstance(each, record.Quality):
            continue
        if each.state != "ok":
            made.notes.append(f"{name} on {each.task['name']}, seed {each.seed}, {each.state}: {each.reason}")
            continue
        whole = each.task["kind"] == "tagging" and each.task["context"] == "document"
        task = each.task["name"] + (", document" if whole else "")
        setting = json.dumps(_setting(each), sort_keys=True)
        groups.setdefault(task, {}).setdefault(setting, {})[each.seed] = (path, each)
    return groups


def _pairs(
    made: Comparison, side_a: dict[str, dict[str, Runs]], side_b: dict[str, dict[str, Runs]]
) -> list[tuple[str, Runs, Runs]]:
    """What each pair is to be called, and its runs by the seeds that both have."""
    pairs = []
    for task in [*side_a, *(task for task in side_b if task not in side_a)]:
        settings_a, settings_b = side_a.get(task, {}), side_b.get(task, {})
        if not settings_a or not settings_b:
            made.notes.append(f"{task}: only {made.a if settings_a else made.b} has it")
            made.lacking += [task] if settings_a else []
            continue
        same = [(each, each) for each in settings_a if each in settings_b]
        if not same:
            if len(settings_a) > 1 or len(settings_b) > 1:
                raise BadInput(
                    f"{task}: {len(settings_a)} kinds of runs of {made.a}, {len(settings_b)} of {made.b}, none alike: "
                    f"{_apart([*settings_a, *settings_b])}; name the record files to compare"
                )
            same = [(next(iter(settings_a)), next(iter(settings_b)))]
        elif alone := len({*settings_a} ^ {*settings_b}):
            made.notes.append(f"{task}: {alone} kinds of runs have no counterpart and are left out")
        for one, other in same:
            what = task + (f" ({_apart(list(settings_a), one)})" if len(same) > 1 else "")
            pairs.append((what, *_same_seeds(made, what, settings_a[one], settings_b[other])))
    return pairs


def _apart(settings: list[str], of: str | None = None) -> str:
    """In what the settings are not alike; the values of one, or all values."""
    read = [json.loads(each) for each in settings]
    keys = sorted({key for each in read for key in each if any(other.get(key) != each[key] for other in read)})
    if of is not None:
        return "; ".join(f"{key} {json.loads(of).get(key)}" for key in keys)
    return "; ".join(f"{key} {' / '.join(dict.fromkeys(str(each.get(key)) for each in read))}" for key in keys)


def _same_seeds(made: Comparison, what: str, runs_a: Runs, runs_b: Runs) -> tuple[Runs, Runs]:
    both = sorted(runs_a.keys() & runs_b.keys())
    said = " against ".join(", ".join(map(str, sorted(runs))) for runs in (runs_a, runs_b))
    if not both:
        raise BadInput(f"{what}: the seeds differ ({said}); run both with the same")
    if len(both) < max(len(runs_a), len(runs_b)):
        made.notes.append(f"{what}: seeds {said}; only those of both are compared")
    made.lacking += [f"{what}, seed {seed}" for seed in sorted(runs_a.keys() - runs_b.keys())]
    for seed in both:
        _check_same(made, what, runs_a[seed][1], runs_b[seed][1])
    return {seed: runs_a[seed] for seed in both}, {seed: runs_b[seed] for seed in both}


def _check_same(made: Comparison, what: str, a: record.Quality, b: record.Quality) -> None:
    """BadInput where the numbers are not of the same thing; a note where something else may explain a difference."""
    measured = [
        {
            **_setting(each),
            **{f"data of {split}": sha256 for split, sha256 in each.task["data"].items()},
            "checkpoint": f"{each.checkpoint['name']}, {each.checkpoint['sha256']}",
            "splits": ", ".join(dict.fromkeys(m["split"] for m in each.metrics)),
            "metrics": ", ".join(dict.fromkeys(m["name"] for m in each.metrics)),
        }
        for each in (a, b)
    ]
    differ = {
        key: f"{key} ({measured[0].get(key)} against {measured[1].get(key)})"
        for key in dict.fromkeys([*measured[0], *measured[1]])
        if measured[0].get(key) != measured[1].get(key)
    }
    wrong = [
        said for key, said in differ.items() if key.startswith(("checkpoint", "limit", "data", "splits", "metrics"))
    ]
    if wrong:
        raise BadInput(f"{what}: not comparable, these differ: {'; '.join(wrong)}; run both on the same")
    if differ:
        note = f"{what}: these differ too, and may be the reason: {'; '.join(differ.values())}"
        made.notes += [note] if note not in made.notes else []


# Quality


def _differences(
    made: Comparison, what: str, runs_a: Runs, runs_b: Runs, data: Path | None, own_tasks: dict[str, Task]
) -> list[Difference]:
    """One for each split, in its first metric."""
    first = next(iter(runs_a.values()))[1]
    main: dict[str, dict[str, Any]] = {}
    for metric in first.metrics:
        main.setdefault(metric["split"], metric)
    if not main:
        made.notes.append(f"{what}: no scored split")
    return [_difference(made, what, split, runs_a, runs_b, data, own_tasks) for split in main]


def _difference(
    made: Comparison, what: str, split: str, runs_a: Runs, runs_b: Runs, data: Path | None, own_tasks: dict[str, Task]
) -> Difference:
    first = next(iter(runs_a.values()))[1]
    metric = next(m["name"] for m in first.metrics if m["split"] == split)
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
            if _differ(answers[0][seed][each], answers[1][seed][each])
        ],
    )
    for name, runs in ((made.a, runs_a), (made.b, runs_b)):
        if collapsed := [str(seed) for seed, (_, run) in runs.items() if has_collapsed(run, split)]:
            seeds = ", ".join(collapsed)
            made.notes.append(f"{found.subject}: collapsed, and compared like the others: {name}, seed {seeds}")
    if found.kind == "regression":
        found.disagreements.sort(key=lambda each: -abs(each.a - each.b))
    if isinstance(known, str):
        made.notes.append(f"{found.subject}: recorded values alone, no interval and no test: {known}")
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


def _differ(a: Any, b: Any) -> bool:
    """Scores do beyond what rounding makes of them."""
    return not math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-4) if isinstance(a, float) else a != b


def _recorded(run: Run, split: str, metric: str) -> float:
    return float(next(m["value"] for m in run[1].metrics if (m["split"], m["name"]) == (split, metric)))


def _answers(run: Run, split: str) -> dict[str, Any]:
    """Predictions by example id; BadInput where they are not beside the record."""
    path, each = run
    file = path.parent / (each.predictions or "")
    if not file.is_file():
        raise BadInput(f"{path}: its predictions are not beside it ({each.predictions}); copy both, or run it again")
    pairs = record.read_predictions(file).get(split)
    if not pairs:
        raise BadInput(f"{file}: no predictions of the split {split}; run it again")
    return {str(name): tuple(answer) if isinstance(answer, list) else answer for name, answer in pairs}


def _gold(
    each: record.Quality, split: str, data: Path | None, own_tasks: dict[str, Task]
) -> tuple[Task, dict[str, Any]] | str:
    """The task and the right answers by example id; or why they cannot be known."""
    from harness.data import data_folder
    from harness.download import sha256_of
    from harness.encode import gold
    from harness.read import read_split

    name = each.task["name"]
    try:
        task = own_tasks.get(name) or load_task(name)
    except BadInput:
        return f"task {name} is not built in; name its YAML file with --task"
    folder = data_folder(data)
    file = task_files(task, folder).get(split)
    if file is None or not file.is_file():
        return "its data is not at hand; say where with --data"
    if sha256_of(file) != each.task["data"].get(split):
        return f"{file.name} here is not the file that the records were made with (another sha256)"
    examples: list[Any] = [*read_split(task, split, folder)]
    answers = gold(task, examples)
    if answers is None:
        return f"{split} has no labels"
    return task, {example.id: answer for example, answer in zip(examples, answers, strict=True)}


def _features(task: Task, metric: str, gold: list[Any], predicted: list[Any]) -> Floats:
    from harness.metrics import features

    return features(task.kind, metric, gold, predicted, labels=task.outputs, positive=task.positive)


def _check_value(path: Path, metric: str, rows: Floats, recorded: float) -> None:
    from harness.metrics import STATISTICS

    value = float(STATISTICS[metric](rows)(np.ones((1, len(rows)), np.int64))[0])
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


# Speed


def _ratios(made: Comparison, speeds: list[record.Speed], a: str, b: str) -> list[Ratio]:
    """One for each shape at which both were timed in turn; the last of those timed under the same conditions."""
    last: dict[tuple[str, ...], record.Speed] = {}
    for each in sorted(speeds, key=lambda each: each.started):
        states = [each.implementations.get(name, {}).get("state") for name in (a, b)]
        if a != b and states == ["ok", "ok"]:
            conditions = (each.checkpoint["name"], each.precision["resolved"], record.hardware(each))
            last[each.shape["name"], *conditions, each.checkpoint["sha256"]] = each
    if not last:
        made.notes.append("speed: the two were not timed in turn in one comparison; `run --impl A,B` does that")
    varied = [len({key[number] for key in last}) > 1 for number in range(1, 4)]
    ratios = []
    for (shape, *timed, _), each in last.items():
        name = ", ".join([shape, *(said for said, differs in zip(timed, varied, strict=True) if differs)])
        walls = [each.implementations[who]["wall"] for who in (a, b)]
        ratios.append(speed_ratio(name, *walls))
        if each.load.get("noisy"):
            made.notes.append(f"{name}: unreliable, as the machine was busy or slow while it was timed")
    return ratios


def speed_ratio(shape: str, wall_a: list[list[float]], wall_b: list[list[float]]) -> Ratio:
    """From the seconds of each pass, by round."""
    from scipy.stats import mannwhitneyu, ttest_1samp

    a, b = (np.array([np.median(turn) for turn in wall]) for wall in (wall_a, wall_b))
    ratios = a / b  # how many times as fast B is, in each round
    if len(ratios) < 2:
        return Ratio(shape, float(ratios[0]), None, None, None, None, len(ratios))
    tested = ttest_1samp(np.log(ratios), 0)
    low, high = np.exp(tested.confidence_interval(0.95))
    mann_whitney = float(mannwhitneyu(a, b).pvalue)
    return Ratio(
        shape, float(np.median(ratios)), float(low), float(high), float(tested.pvalue), mann_whitney, len(ratios)
    )
