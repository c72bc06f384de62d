"""Which records of two implementations are of the same thing, so that they may be compared."""

import json
from pathlib import Path
from typing import Any

from harness.compare.result import Comparison
from harness.errors import BadInput
from harness.files import expanded
from harness.records import record
from harness.records.models import configuration_of
from harness.records.subject import subject

Run = tuple[Path, record.Quality]  # a record and its file
Runs = dict[int, Run]  # by seed


def find(text: str, runs: Path) -> tuple[str, list[tuple[Path, record.Record]]]:
    """The name of the implementation that is meant, and records among which are its own."""
    in_runs = _read(runs) if runs.exists() else []
    if text in _names(in_runs):  # first: a folder of the same name may lie here
        return text, _of(text, in_runs)
    path = expanded(text)
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
        **configuration_of(each),
        "limit": each.limit,
        **{f"data of {split}": sha256[:12] for split, sha256 in each.task["data"].items()},
        "precision": each.precision["resolved"],
        "hardware": record.hardware(each),
        **{f"recipe: {key}": value for key, value in recipe.items()},
    }


def grouped(
    comparison: Comparison, name: str, found: list[tuple[Path, record.Record]]
) -> dict[str, dict[str, dict[int, Run]]]:
    """Runs by task, setting and seed; of the same the one that was started last. Those that failed are in the notes."""
    groups: dict[str, dict[str, Runs]] = {}
    for path, each in sorted(found, key=lambda pair: pair[1].started):
        if not isinstance(each, record.Quality):
            continue
        if each.state != "ok":
            comparison.notes.append(f"{name} on {each.task['name']}, seed {each.seed}, {each.state}: {each.reason}")
            continue
        setting = json.dumps(_setting(each), sort_keys=True)
        groups.setdefault(_task(each), {}).setdefault(setting, {})[each.seed] = (path, each)
    return groups


def failed(found: list[tuple[Path, record.Record]]) -> set[tuple[str, int]]:
    """Task and seed of runs that failed."""
    runs = [each for _, each in found if isinstance(each, record.Quality)]
    return {(_task(each), each.seed) for each in runs if each.state == "failed"}


def _task(each: record.Quality) -> str:
    return subject(each.task["name"], each.task["context"])


def pairs(
    comparison: Comparison,
    side_a: dict[str, dict[str, Runs]],
    side_b: dict[str, dict[str, Runs]],
    failed_b: set[tuple[str, int]],
) -> list[tuple[str, Runs, Runs]]:
    """What each pair is to be called, and its runs by the seeds that both have.

    Of a seed that A has alone, B lacks the score where its run failed; one that B was not run with says nothing of it.
    """
    found = []
    for task in [*side_a, *(task for task in side_b if task not in side_a)]:
        settings_a, settings_b = side_a.get(task, {}), side_b.get(task, {})
        if not settings_a or not settings_b:
            comparison.notes.append(f"{task}: only {comparison.a if settings_a else comparison.b} has it")
            comparison.lacking += [task] if settings_a else []
            continue
        same = [(each, each) for each in settings_a if each in settings_b]
        if not same:
            if len(settings_a) > 1 or len(settings_b) > 1:
                raise BadInput(
                    f"{task}: {len(settings_a)} kinds of runs of {comparison.a}, {len(settings_b)} of {comparison.b}, "
                    f"none alike: {_apart([*settings_a, *settings_b])}; name the record files to compare"
                )
            same = [(next(iter(settings_a)), next(iter(settings_b)))]
        elif others := len({*settings_a} ^ {*settings_b}):
            comparison.notes.append(f"{task}: {others} kinds of runs have no counterpart and are left out")
        for one, other in same:
            what = task + (f" ({_apart(list(settings_a), one)})" if len(same) > 1 else "")
            alone = sorted(settings_a[one].keys() - settings_b[other].keys())
            comparison.lacking += [f"{what}, seed {seed}" for seed in alone if (task, seed) in failed_b]
            found.append((what, *_same_seeds(comparison, what, settings_a[one], settings_b[other])))
    return found


def _apart(settings: list[str], of: str | None = None) -> str:
    """In what the settings are not alike; the values of one, or all values."""
    read = [json.loads(each) for each in settings]
    keys = sorted({key for each in read for key in each if any(other.get(key) != each[key] for other in read)})
    if of is not None:
        return "; ".join(f"{key} {json.loads(of).get(key)}" for key in keys)
    return "; ".join(f"{key} {' / '.join(dict.fromkeys(str(each.get(key)) for each in read))}" for key in keys)


def _same_seeds(comparison: Comparison, what: str, runs_a: Runs, runs_b: Runs) -> tuple[Runs, Runs]:
    both = sorted(runs_a.keys() & runs_b.keys())
    said = " against ".join(", ".join(map(str, sorted(runs))) for runs in (runs_a, runs_b))
    if not both:
        raise BadInput(f"{what}: the seeds differ ({said}); run both with the same")
    if len(both) < max(len(runs_a), len(runs_b)):
        comparison.notes.append(f"{what}: seeds {said}; only those of both are compared")
    for seed in both:
        _check_same(comparison, what, runs_a[seed][1], runs_b[seed][1])
    return {seed: runs_a[seed] for seed in both}, {seed: runs_b[seed] for seed in both}


def _check_same(comparison: Comparison, what: str, a: record.Quality, b: record.Quality) -> None:
    """BadInput where the numbers are not of the same thing; a note where something else may explain a difference."""
    measured = [
        {
            **_setting(each),
            **{f"data of {split}": sha256 for split, sha256 in each.task["data"].items()},
            "checkpoint": f"{each.checkpoint['name']}, {each.checkpoint['sha256']}",
            **configuration_of(each),
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
        said
        for key, said in differ.items()
        if key.startswith(("checkpoint", "configuration", "limit", "data", "splits", "metrics"))
    ]
    if wrong:
        raise BadInput(f"{what}: not comparable, these differ: {'; '.join(wrong)}; run both on the same")
    if differ:
        note = f"{what}: these differ too, and may be the reason: {'; '.join(differ.values())}"
        comparison.notes += [note] if note not in comparison.notes else []
