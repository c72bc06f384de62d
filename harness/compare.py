"""Two implementations compared from their stored records: quality example by example, speed pass by pass.

Quality: the interval of the difference is a paired bootstrap over examples. From one seed p is McNemar's exact test
for accuracy and approximate randomisation for other metrics, and says nothing of other seeds. From several, the seeds
are a sample too: Student's t of their differences is added to each bootstrap draw, and p is read from the draws.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import record
from harness.errors import BadInput
from harness.intervals import CHUNK, Counts, Floats, resampled
from harness.publish import record_files
from harness.task import Task, load_task, task_files

if TYPE_CHECKING:
    from rich.console import Console

DRAWS = 10_000
SEED = 0

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
    ratio: float
    low: float
    high: float
    p: float  # Mann-Whitney over all passes, taken as independent
    rounds: int
    p_holm: float = 1.0


@dataclass
class Comparison:
    """All that two implementations can be compared in."""

    a: str  # what to call them
    b: str
    differences: list[Difference] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was left out, what differs besides, what lacks


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
    tested = [each.p for each in made.differences if each.p is not None]
    corrected = iter(holm(tested))
    made.differences = [each if each.p is None else replace(each, p_holm=next(corrected)) for each in made.differences]
    shapes = holm([each.p for each in made.ratios])
    made.ratios = [replace(each, p_holm=p) for each, p in zip(made.ratios, shapes, strict=True)]
    return made


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
    return [(file, record.read(file)) for file in record_files(path)]


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
            if answers[0][seed][each] != answers[1][seed][each]
        ],
    )
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
    draws = _paired(found.metric, list(rows.values()))
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


def _paired(metric: str, rows: list[tuple[Floats, Floats]]) -> Floats:
    """The difference, the mean over seeds, in resamples of examples: [draws]."""
    from harness.metrics import STATISTICS

    joint = np.hstack([side for pair in rows for side in pair])
    parts = 2 * len(rows)

    def statistic(distinct: Floats) -> Callable[[Counts], Floats]:
        sides = [STATISTICS[metric](part) for part in np.split(distinct, parts, axis=1)]

        def difference(counts: Counts) -> Floats:
            values = [side(counts) for side in sides]
            return np.mean([b - a for a, b in zip(values[::2], values[1::2], strict=True)], axis=0)

        return difference

    return resampled(joint, statistic, DRAWS, SEED)


def mcnemar(right_a: Floats, right_b: Floats) -> float:
    """p of McNemar's exact test, from 1 or 0 for each example that is right or wrong: [n] each."""
    from scipy.stats import binomtest

    only_a, only_b = int((right_a > right_b).sum()), int((right_b > right_a).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def randomisation(metric: str, rows_a: Floats, rows_b: Floats, draws: int = DRAWS) -> float:
    """p of the approximate randomisation test: how often answers, swapped at random, are as far apart.

    ``rows_a`` and ``rows_b`` [n, k] are the metric's features. Of examples with the same features it is enough to
    draw how many are swapped.
    """
    from harness.metrics import STATISTICS

    distinct, repeats = np.unique(np.hstack([rows_a, rows_b]), axis=0, return_counts=True)
    values = STATISTICS[metric](np.vstack(np.split(distinct, 2, axis=1)))
    rng = np.random.default_rng(SEED)

    def apart(swapped: Counts) -> Floats:
        kept = repeats - swapped
        return np.abs(values(np.hstack([swapped, kept])) - values(np.hstack([kept, swapped])))

    observed = apart(np.zeros((1, len(repeats)), np.int64))[0]
    size = max(1, CHUNK // len(repeats))
    as_far = 0
    for start in range(0, draws, size):
        swapped = rng.binomial(repeats, 0.5, (min(size, draws - start), len(repeats)))
        as_far += int((apart(swapped) >= observed - 1e-12).sum())
    return (as_far + 1) / (draws + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's correction: each p such that the chance of any false alarm among all stays below it."""
    order = np.argsort(ps)
    factors = np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.asarray(ps)[order] * factors)) if len(ps) else []
    return [float(p) for p in corrected]


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
            made.notes.append(f"{name}: the machine was busy with other work while it was timed")
    return ratios


def speed_ratio(shape: str, wall_a: list[list[float]], wall_b: list[list[float]]) -> Ratio:
    """From the seconds of each pass, by round. The interval resamples rounds, and the passes within them."""
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(SEED)
    rounds = min(len(wall_a), len(wall_b))
    medians = [np.array([np.median(turn) for turn in wall[:rounds]]) for wall in (wall_a, wall_b)]

    def drawn(turn: list[float]) -> Floats:
        """Medians of resamples of one round: [draws, rounds]."""
        passes = np.asarray(turn)
        picks = rng.integers(len(passes), size=(DRAWS, rounds, len(passes)))
        return np.asarray(np.median(passes[picks], axis=2), np.float64)

    by_round = np.stack([drawn(a) / drawn(b) for a, b in zip(wall_a, wall_b, strict=False)])  # [rounds, draws, rounds]
    picked = np.take_along_axis(by_round, rng.integers(rounds, size=(1, DRAWS, rounds)), axis=0)[0]
    low, high = np.quantile(np.median(picked, axis=1), [0.025, 0.975])
    p = float(mannwhitneyu(np.concatenate(wall_a), np.concatenate(wall_b)).pvalue)
    return Ratio(shape, float(np.median(medians[0] / medians[1])), float(low), float(high), p, rounds)


# What is said


def verdicts(made: Comparison) -> list[str]:
    """One sentence for each task and split, and each shape: size, uncertainty, and what is shown."""
    tests = sum(each.p is not None for each in made.differences)
    scores = [_verdict(made, each, tests) for each in made.differences]
    return scores + [_speed_verdict(made, each) for each in made.ratios]


def _verdict(made: Comparison, each: Difference, tests: int) -> str:
    points = f"{abs(100 * each.value):.1f}"
    size = f"{points} points {'better' if each.value > 0 else 'worse'} than" if float(points) else "0.0 points from"
    said = f"{made.b} is {size} {made.a} on {each.subject}"
    seeds = f"{len(each.by_seed)} seeds" if len(each.by_seed) > 1 else "one seed"
    if each.p_holm is None or each.low is None or each.high is None:
        return f"{said} ({each.metric}, {each.n} examples, {seeds}, no interval): nothing is shown"
    interval = f"95% interval {100 * each.low:.1f} to {100 * each.high:.1f}, {_p(each.p_holm, tests)}"
    shown = "a difference is shown" if each.p_holm < 0.05 else "no difference shown"
    return f"{said} ({each.metric}, {interval}): {shown} by {each.n} examples and {seeds}"


def _speed_verdict(made: Comparison, each: Ratio) -> str:
    size = f"{made.b} is {each.ratio:.2f} times as fast as {made.a} at {each.shape}"
    interval = f"95% interval {each.low:.2f} to {each.high:.2f}, {_p(each.p_holm, len(made.ratios))}"
    shown = each.p_holm < 0.05 and not each.low <= 1 <= each.high  # passes of one round are alike: p alone is too small
    return f"{size} ({interval}): {'a difference is' if shown else 'no difference'} shown by {each.rounds} rounds"


def _p(p: float, tests: int) -> str:
    value = "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"
    return f"p {value}" + (f" after Holm's correction over {tests} tests" if tests > 1 else "")


def print_comparison(made: Comparison, console: "Console", examples: int = 10) -> None:
    """The sentences, what to know besides, and on each task the first examples that are answered differently."""

    def line(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    for sentence in verdicts(made):
        line(sentence)
    for note in made.notes:
        line(note, "yellow")
    for each in made.differences:
        seeds = ", ".join(f"seed {seed} {100 * value:+.1f}" for seed, value in each.by_seed.items())
        test = f"; {each.test} p {each.p:.3g}, bootstrap p {each.p_bootstrap:.3g}, uncorrected" if each.test else ""
        line(f"\n{each.subject}: {each.metric} {each.a:.4f}, {each.b:.4f}; {seeds}{test}")
        line(f"{len(each.disagreements)} answers differ ({len(each.by_seed)} x {each.n} examples)")
        for one in each.disagreements[:examples]:
            where, a, b, gold = _shown(each.kind, one)
            right = "" if gold is None else f"; gold {gold}"
            line(f"  seed {one.seed}, example {one.id}{where}: {made.a} {a}, {made.b} {b}{right}")


def _shown(kind: str, one: Disagreement) -> tuple[str, str, str, str | None]:
    """Which words, and the answers as text; of two sequences of tags only the words where they differ."""
    a, b, gold = one.a, one.b, one.gold
    where = ""
    if kind == "tagging":
        places = [place for place, (tag, other) in enumerate(zip(a, b, strict=False)) if tag != other]
        where = f", place {', '.join(map(str, places))}"
        a, b, gold = (tags if tags is None else tuple(tags[place] for place in places) for tags in (a, b, gold))
    return where, _text(a), _text(b), None if gold is None else _text(gold)


def _text(answer: Any) -> str:
    if isinstance(answer, tuple):
        return " ".join(answer) or "none"
    return f"{answer:.4g}" if isinstance(answer, float) else str(answer)


def write(made: Comparison, path: Path) -> None:
    """Everything as JSON, but gold answers, which a file that is passed on must not hold."""
    values = asdict(made) | {"verdicts": verdicts(made)}
    for each in values["differences"]:
        for one in each["disagreements"]:
            del one["gold"]
    record.write_json(values, path)


def judge(made: Comparison, margin: float) -> tuple[list[str], list[str]]:
    """Where B is shown to be worse than A by more than ``margin`` points, and where that is not ruled out.

    Shown: the whole 95% interval is below -margin. Not ruled out: a part of it is. The intervals are not corrected
    for several tasks: of an equal B each one cries wolf at most 2.5% of the time, far less with a margin. BadInput
    for a negative margin, and where there is no interval to tell by.
    """
    if not 0 <= margin < math.inf:
        raise BadInput(f"--fail-if-worse: {margin} is no margin; give points from 0 on, such as 1.5")
    intervals = {each.subject: (each.low, each.high) for each in made.differences}
    untold = [subject for subject, (low, _) in intervals.items() if low is None]
    if untold or not intervals:
        raise BadInput(f"--fail-if-worse cannot tell of {', '.join(untold) or 'speed alone'}: it needs scores and data")
    worse = [subject for subject, (_, high) in intervals.items() if high is not None and 100 * high < -margin]
    unsure = [subject for subject, (low, _) in intervals.items() if low is not None and 100 * low < -margin]
    return worse, [subject for subject in unsure if subject not in worse]
