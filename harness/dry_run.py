"""What ``run`` would do, without doing it: which runs are recorded, which are to do, and about how long these take."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import keys, plan, quality, record
from harness.begin import lacks
from harness.implementation import Implementation
from harness.task import Task


@dataclass(frozen=True)
class Row:
    """The runs of one implementation on one task in one precision, by their seeds."""

    implementation: str
    task: str
    precision: str
    to_do: list[int]
    recorded: list[int]
    failed: list[int]  # before, and are not tried again
    seconds: float | None  # that one run takes, by the records of others; None: nothing is known


def outline(plans: list[plan.Plan], records: list[record.Record]) -> list[Row]:
    """All runs of quality that are planned; ``records`` are those whose seconds are gone by."""
    return [
        _row(made, implementation, task, records)
        for made in plans
        for implementation in made.implementations
        for task in made.tasks
        if plan.seeds_of(made, implementation, task)
        and not lacks(made, implementation)
        and (made is plans[0] or not implementation.job)
    ]


def _row(made: plan.Plan, implementation: Implementation, task: Task, records: list[record.Record]) -> Row:
    seeds: dict[str, list[int]] = {"to do": [], "ok": [], "failed": []}
    for seed in plan.seeds_of(made, implementation, task):
        seeds[_state(made, implementation, task, seed)].append(seed)
    seconds = _seconds(made, implementation, task, records)
    precision = "its own" if implementation.job else made.precision
    return Row(implementation.name, task.name, precision, seeds["to do"], seeds["ok"], seeds["failed"], seconds)


def _state(made: plan.Plan, implementation: Implementation, task: Task, seed: int) -> str:
    """Of the record that would be taken, else "to do". Whether one is trained or encodes shows when it is started."""
    hows: list[keys.How] = ["job"] if implementation.job else ["trained", "encoded"]
    found = [quality.find_kept(made, implementation, task, seed, how) for how in hows]
    states = {known.state for known in found if known is not None}
    return "ok" if "ok" in states else "failed" if states else "to do"


def _seconds(made: plan.Plan, implementation: Implementation, task: Task, records: list[record.Record]) -> float | None:
    """The median of what runs of this task with these weights took: of this implementation, else of those that trained.

    Where none did, of any: those that only score what another trained are so much faster.
    """
    alike = [
        each
        for each in records
        if isinstance(each, record.Quality)
        and each.state == "ok"
        and (each.task["name"], each.limit) == (task.name, made.options.limit)
        and each.checkpoint["sha256"] == made.weights.sha256
        and each.device.split(":")[0] == made.device.split(":")[0]
    ]
    own = [each.seconds for each in alike if each.implementation["name"] == implementation.name]
    trained = [each.seconds for each in alike if "by" not in each.training]
    seconds = own or trained or [each.seconds for each in alike]
    return statistics.median(seconds) if seconds else None


def print_dry_run(plans: list[plan.Plan], console: Console, results: Path = Path("results")) -> None:
    """The plan as a table, how many runs it has, and an estimate of the time; nothing is run and nothing written."""
    folders = [folder for folder in (plans[0].options.runs / "quality", results) if folder.is_dir()]
    rows = outline(plans, record.read_all(folders))
    table = Table(header_style="bold")
    for column in ("implementation", "task", "precision", "to do", "recorded", "failed before", "each takes"):
        table.add_column(column, overflow="fold")
    for row in rows:
        each = "unknown" if row.seconds is None else f"about {duration(row.seconds)}"
        seeds = map(_ranges, (row.to_do, row.recorded, row.failed))
        table.add_row(*map(Text, (row.implementation, row.task, row.precision, *seeds, each)))
    console.print(table)
    for line in [*_totals(rows), *_left_out(plans[0])]:
        console.print(Text(line), soft_wrap=True)


def _totals(rows: list[Row]) -> Iterator[str]:
    to_do, recorded, failed = (sum(len(getattr(row, name)) for row in rows) for name in ("to_do", "recorded", "failed"))
    yield f"{to_do} runs to do, {recorded} recorded, {failed} failed before"
    if failed:
        yield "what failed is kept as it is; --rerun failed tries it again"
    known = sum(len(row.to_do) for row in rows if row.seconds is not None)
    if known:
        seconds = sum(len(row.to_do) * row.seconds for row in rows if row.seconds is not None)
        yield f"about {duration(seconds)} for {known} of the runs to do, as earlier records have it"
    if known < to_do:
        yield f"{to_do - known} of the runs to do have no estimate: there is no earlier record of such a run"
    yield "parity, timing, and fine-tuning by the reference for those that only encode come on top"


def _left_out(made: plan.Plan) -> Iterator[str]:
    for implementation in made.implementations:
        if reason := lacks(made, implementation):
            yield f"{implementation.name}: skipped, {reason}"


def _ranges(numbers: list[int]) -> str:
    """Seeds in short: ``42-46, 50``."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def duration(seconds: float) -> str:
    """Such as ``40 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
