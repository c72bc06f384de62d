"""What ``run`` would do, without doing it: which runs are recorded, which are to do, and about how long these take.

Nothing is tried out for that: the seconds are those of earlier runs on such a machine, in proportion to what is read.
"""

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.data.task import Task
from harness.measure import keys, plan, quality
from harness.measure.bench import lacks
from harness.records import provenance, record
from harness.registry.implementations import Implementation


@dataclass(frozen=True)
class Row:
    """The runs of one implementation on one task in one precision, by their seeds."""

    implementation: str
    task: str
    precision: str
    reads: str  # examples of the training split, and how often
    to_do: list[int]
    recorded: list[int]
    failed: list[int]  # before, and are not tried again
    skipped: list[int]  # likewise
    seconds: float | None  # that one run takes, by earlier ones; None: nothing is known
    basis: str  # of the seconds: which runs


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
    seeds: dict[str, list[int]] = {"to do": [], "ok": [], "failed": [], "skipped": []}
    for seed in plan.seeds_of(made, implementation, task):
        seeds[_state(made, implementation, task, seed)].append(seed)
    seconds, basis = _seconds(made, implementation, task, records)
    precision = "its own" if implementation.job else made.precision
    epochs = "" if implementation.job else f" x {plan.recipe(made, task)['epochs']}"
    reads = f"{_read(made, task)['train']}{epochs}"
    runs = seeds["to do"], seeds["ok"], seeds["failed"], seeds["skipped"]
    return Row(implementation.name, task.name, precision, reads, *runs, seconds, basis)


def _state(made: plan.Plan, implementation: Implementation, task: Task, seed: int) -> str:
    """Of the record that would be taken, else "to do". Whether one is trained or encodes shows when it is started."""
    hows: list[keys.How] = ["job"] if implementation.job else ["trained", "encoded"]
    found = [quality.find_kept(made, implementation, task, seed, how) for how in hows]
    states = {known.state for known in found if known is not None}
    return next((state for state in ("ok", "failed", "skipped") if state in states), "to do")


def _read(made: plan.Plan, task: Task) -> dict[str, int]:
    """How many examples of each split the run reads."""
    limit = made.options.limit or sys.maxsize
    return {split: min(number, limit) for split, number in made.examples[task.name].items()}


def _seconds(
    made: plan.Plan, implementation: Implementation, task: Task, records: list[record.Record]
) -> tuple[float | None, str]:
    """The median of what such runs took, each in proportion; and which runs these are.

    Such are runs of this task with these weights, cut at the same length, on such hardware with as many threads: of
    this implementation, else of those that trained. Where none did, of any: those that only score what another trained
    are so much faster.
    """
    alike = [
        each
        for each in records
        if isinstance(each, record.Quality)
        and each.state == "ok"
        and each.task["name"] == task.name
        and each.recipe.get("max_length", task.max_length) == task.max_length  # a program does not say how it cuts
        and each.checkpoint["sha256"] == made.weights.sha256
        and record.hardware(each) == _hardware(made)
    ]
    own = [each for each in alike if each.implementation["name"] == implementation.name]
    chosen = own or [each for each in alike if "by" not in each.training] or alike
    if not chosen:
        return None, ""
    seconds = statistics.median(_in_proportion(made, task, each) for each in chosen)
    return seconds, f"{len(chosen)} {'run' if len(chosen) == 1 else 'runs'} of {'its own' if own else 'others'}"


def _in_proportion(made: plan.Plan, task: Task, each: record.Quality) -> float:
    """What a recorded run would take with the epochs and the examples that are planned."""
    planned = _read(made, task)
    training = each.training.get("seconds", 0.0)
    scoring = each.seconds - training  # and all else
    if training:
        epochs = plan.recipe(made, task)["epochs"] / each.recipe["epochs"]
        training *= epochs * planned["train"] / each.training["examples"]
    if scored := sum(counts["examples"] for split, counts in each.sanity.items() if split != "train"):
        scoring *= sum(number for split, number in planned.items() if split != "train") / scored
    return float(training + scoring)


def _hardware(made: plan.Plan) -> str:
    return record.hardware_of(provenance.machine(), made.device, made.threads)


def print_dry_run(plans: list[plan.Plan], console: Console, results: Path = Path("results")) -> None:
    """The plan as a table, how many runs it has, and an estimate of the time; nothing is run and nothing written."""
    folders = [folder for folder in (plans[0].options.runs / "quality", results) if folder.is_dir()]
    rows = outline(plans, record.read_all(folders))
    table = Table(header_style="bold")
    columns = ["implementation", "task", "precision", "trains on", "to do", "recorded", "kept as it is", "each takes"]
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        each = "unknown" if row.seconds is None else f"about {duration(row.seconds)}, by {row.basis}"
        tried = {"failed": row.failed, "skipped": row.skipped}
        kept = "; ".join(f"{what} {_ranges(seeds)}" for what, seeds in tried.items() if seeds)
        cells = (row.reads, _ranges(row.to_do), _ranges(row.recorded), kept, each)
        table.add_row(*map(Text, (row.implementation, row.task, row.precision, *cells)))
    console.print(table)
    notes = (f"tokenizer: {note}" for note in plans[0].tokenizer.notes)
    for line in [*_totals(rows, plans[0]), *_left_out(plans[0]), *notes]:
        console.print(Text(line), soft_wrap=True)


def _totals(rows: list[Row], made: plan.Plan) -> Iterator[str]:
    names = ("to_do", "recorded", "failed", "skipped")
    to_do, recorded, failed, skipped = (sum(len(getattr(row, name)) for row in rows) for name in names)
    yield f"{to_do} runs to do, {recorded} recorded, {failed} failed before, {skipped} skipped before"
    if failed:
        yield "what failed is kept as it is; --rerun failed tries it again"
    if skipped:
        yield "what was skipped is kept as it is; --rerun all tries it again, with all others"
    known = sum(len(row.to_do) for row in rows if row.seconds is not None)
    if known:
        seconds = sum(len(row.to_do) * row.seconds for row in rows if row.seconds is not None)
        yield (
            f"about {duration(seconds)} for {known} of the runs to do, by earlier runs on {_hardware(made)}, "
            "in proportion to examples and epochs"
        )
    if known < to_do:
        yield (
            f"{to_do - known} of the runs to do have no estimate: there is no earlier record of such a run "
            f"on {_hardware(made)}"
        )
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
