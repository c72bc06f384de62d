"""A page for each task: what it asks, what is known of its data, and what was measured on it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from catalog.errors import BadInput
from catalog.site.costs import Cost, Quality, on_task, order_of_tasks
from catalog.site.leaderboard import Board, Row, Score
from catalog.site.view import View

FILE = Path(__file__).parents[1] / "tasks.yaml"
REFERENCE = "reference"
PRECISIONS = ("bf16", "int8")  # whose costs the overview shows


class Words(BaseModel):
    """The same in both languages."""

    model_config = ConfigDict(extra="forbid")

    en: str
    zh: str


class Example(BaseModel):
    """One example, made for the page."""

    model_config = ConfigDict(extra="forbid")

    text: str
    pair: str | None = None
    answer: str


class Task(BaseModel):
    """What is known of a task besides our measurements."""

    model_config = ConfigDict(extra="forbid")

    entry: str | None = None  # id of its data set in the catalog
    asks: Words
    example: Example
    metrics: list[str]
    sizes: dict[str, int]
    repeats: dict[str, int] = {}
    licence: Words | None = None
    faults: list[Words] = []


@dataclass(frozen=True)
class Result:
    """The score of implementations that give the same answers, as a strip: places in percent of the scale."""

    names: list[str]
    computes: str
    machine: str
    score: Score
    cost: Cost | None  # None for the reference
    low: float
    high: float
    dots: list[float]


@dataclass(frozen=True)
class Measured:
    """What was measured on one task and split."""

    task: str
    reference: Result | None
    others: list[Result]  # those that give other answers than the reference
    same: list[str]  # implementations with the reference's answers
    least: float
    greatest: float
    by_precision: dict[str, Quality] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)  # caveats, with the implementations that they are of


def read_tasks(path: Path = FILE) -> dict[str, Task]:
    """The tasks by name. BadInput where the file is not right."""
    try:
        values: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        return {name: Task(**each) for name, each in values.items()}
    except (OSError, yaml.YAMLError, ValidationError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: {error}") from error


def task_page(title: str) -> str:
    """The page of a task, from its name with or without a split."""
    return title.partition(",")[0]


def measured(boards: list[Board], costs: list[Cost]) -> dict[str, Measured]:
    """What was measured on each task and split, the embedded tasks last."""
    found: dict[str, dict[str, tuple[Board, Row, Score]]] = {}
    for board in boards:
        for row in board.rows:
            for task, score in row.scores.items():
                best = found.setdefault(task, {}).get(row.implementation)
                if best is None or len(score.seeds) > len(best[2].seeds):
                    found[task][row.implementation] = (board, row, score)
    return {task: _measured(task, found[task], on_task(costs, task)) for task in sorted(found, key=order_of_tasks)}


def _measured(task: str, found: dict[str, tuple[Board, Row, Score]], costs: list[Cost]) -> Measured:
    by_name = {cost.implementation: cost for cost in costs}
    same = sorted(name for name, cost in by_name.items() if cost.same and name in found)
    shown = [name for name in found if name not in same]
    least, greatest = _scale([found[name][2] for name in shown], found[REFERENCE][2] if REFERENCE in shown else None)

    def result(names: list[str]) -> Result:
        board, row, score = found[names[0]]

        def place(value: float) -> float:
            return min(100.0, max(0.0, 100 * (value - least) / (greatest - least)))

        dots = [place(value) for value in score.values]
        where = (place(score.low), place(score.high))
        return Result(names, row.computes, board.machine, score, by_name.get(names[0]), *where, dots)

    alike: dict[tuple[Any, ...], list[str]] = {}
    for name in sorted(shown):
        _, row, score = found[name]
        differing = by_name[name].differing if name in by_name else name
        alike.setdefault((row.computes, tuple(score.seeds), tuple(score.values), differing), []).append(name)
    reference = result([REFERENCE]) if REFERENCE in shown else None
    others = [result(names) for names in alike.values() if REFERENCE not in names]
    others.sort(key=lambda each: (each.cost.difference if each.cost else each.score.value, each.names))
    computes = {name: row.computes for name, (_, row, _) in found.items()}
    by_precision = {
        precision: Quality([cost for cost in costs if computes.get(cost.implementation) == precision])
        for precision in PRECISIONS
    }
    notes: dict[str, list[str]] = {}
    for name, (_, _, score) in found.items():
        for flag in score.flags:
            notes.setdefault(f"{flag['split']}: {flag['text']}" if flag["split"] else str(flag["text"]), []).append(
                name
            )
    return Measured(task, reference, others, same, least, greatest, by_precision, notes)


def _scale(scores: list[Score], reference: Score | None) -> tuple[float, float]:
    """The ends of the scale: what is further off is drawn at its end, so that small differences can be seen."""
    low, high = min((each.low for each in scores), default=0.0), max((each.high for each in scores), default=1.0)
    if reference:
        width = reference.high - reference.low
        low, high = max(low, reference.low - width), min(high, reference.high + width)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def task_pages(
    view: View, boards: list[Board], costs: list[Cost], tasks: dict[str, Task]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """The overview and a page for each task that is described or was measured."""
    on = measured(boards, costs)
    names = sorted({*tasks, *map(task_page, on)}, key=order_of_tasks)
    parts = {name: [each for title, each in on.items() if task_page(title) == name] for name in names}
    pages: dict[str, tuple[str, dict[str, Any]]] = {"quality.md": ("quality", {"parts": parts, "tasks": tasks})}
    for name in names:
        task = tasks.get(name)
        entry = view.by_id.get(task.entry) if task and task.entry else None
        reported = sum(len(rows) for _, _, rows in view.reported(entry)) if entry else 0
        values = {"name": name, "task": task, "entry": entry, "parts": parts[name], "reported": reported}
        pages[f"tasks/{name}.md"] = ("task", values)
    return pages
