"""What ``run`` would do: which runs are recorded, which are still to do, and about how long these take.

Nothing is measured: times are those of earlier runs on such a machine, in proportion to the number of examples.
"""

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.data.kinds import KINDS
from harness.data.task import Task
from harness.measure import keys
from harness.measure.plan import Plan
from harness.measure.run import Run, runs_of
from harness.records import machine, record


@dataclass(frozen=True)
class Row:
    """The seeds of one implementation on one task in one precision, by the state of their runs."""

    implementation: str
    task: str
    precision: str
    reads: str  # number of examples in the training split, and of epochs; or "none"
    to_do: list[int]
    recorded: list[int]
    failed: list[int]  # in an earlier command; they are not tried again
    skipped: list[int]  # likewise
    seconds: float | None  # estimate for one run; None: unknown
    basis: str  # the earlier runs that the estimate comes from


def outline(plans: list[Plan], records: list[record.Record]) -> list[Row]:
    """All quality runs that are planned; ``records`` are those that estimates come from."""
    rows = []
    for plan in plans:
        for implementation in plan.implementations:
            # A program computes in the precision that it likes, so it is run for the first plan only.
            if plan.lacks(implementation) or (implementation.job and plan is not plans[0]):
                continue
            hows: list[keys.How] = ["job"] if implementation.job else ["trained", "zero-shot"]
            for how in hows:
                for _, runs in groupby(runs_of(plan, implementation, how), lambda run: run.task.name):
                    rows.append(_row(list(runs), records))
    return rows


def _row(runs: list[Run], records: list[record.Record]) -> Row:
    """The runs are alike but for their seeds."""
    seeds: dict[str, list[int]] = {"to do": [], "ok": [], "failed": [], "skipped": []}
    for run in runs:
        seeds[_state(run)].append(run.seed)
    plan, task, job = runs[0].plan, runs[0].task, runs[0].how == "job"
    seconds, basis = _seconds(runs[0], records)
    precision = "its own" if job else plan.precision
    if KINDS[task.kind].trained:
        epochs = "" if job else f" x {plan.recipe(task)['epochs']}"
        reads = f"{_examples(plan, task)['train']}{epochs}"
    else:
        reads = "none"
    by_state = seeds["to do"], seeds["ok"], seeds["failed"], seeds["skipped"]
    return Row(runs[0].implementation.name, task.name, precision, reads, *by_state, seconds, basis)


def _state(run: Run) -> str:
    """The state of the record that would be kept, else "to do".

    An implementation says whether it can be trained only after it has been started, so both keys are tried.
    """
    hows: list[keys.How] = ["trained", "encoded"] if run.how == "trained" else [run.how]
    found = [replace(run, how=how).kept() for how in hows]
    states = {kept.state for kept in found if kept is not None}
    return next((state for state in ("ok", "failed", "skipped") if state in states), "to do")


def _examples(plan: Plan, task: Task) -> dict[str, int]:
    """Number of examples of each split that a run reads."""
    limit = plan.options.limit or sys.maxsize
    return {split: min(number, limit) for split, number in plan.examples[task.name].items()}


def _seconds(run: Run, records: list[record.Record]) -> tuple[float | None, str]:
    """The median time of comparable runs, each in proportion; and which runs these are.

    Comparable are runs on the same task with the same weights and maximum length, on the same hardware with as many
    threads: those of this implementation, else those that trained, else any (runs that only score what another one
    trained are much faster).
    """
    plan, task = run.plan, run.task
    alike = [
        each
        for each in records
        if isinstance(each, record.Quality)
        and each.state == "ok"
        and each.task["name"] == task.name
        and each.recipe.get("max_length", task.max_length) == task.max_length  # records of programs have no length
        and each.checkpoint["sha256"] == plan.weights.sha256
        and record.hardware(each) == _hardware(plan)
    ]
    own = [each for each in alike if each.implementation["name"] == run.implementation.name]
    chosen = own or [each for each in alike if "by" not in each.training] or alike
    if not chosen:
        return None, ""
    seconds = statistics.median(_in_proportion(plan, task, each) for each in chosen)
    return seconds, f"{len(chosen)} {'run' if len(chosen) == 1 else 'runs'} of {'its own' if own else 'others'}"


def _in_proportion(plan: Plan, task: Task, each: record.Quality) -> float:
    """The time that a recorded run would take with the planned epochs and examples."""
    planned = _examples(plan, task)
    training = each.training.get("seconds", 0.0)
    scoring = each.seconds - training  # and all else
    if training:
        epochs = plan.recipe(task)["epochs"] / each.recipe["epochs"]
        training *= epochs * planned["train"] / each.training["examples"]
    if scored := sum(counts["examples"] for split, counts in each.sanity.items() if split != "train"):
        scoring *= sum(number for split, number in planned.items() if split != "train") / scored
    return float(training + scoring)


def _hardware(plan: Plan) -> str:
    return record.hardware_of(machine.describe(), plan.device, plan.threads)


def print_dry_run(plans: list[Plan], console: Console, results: Path = Path("results")) -> None:
    """Print the plan as a table, the number of runs and an estimate of the time; run and write nothing."""
    folders = [folder for folder in (plans[0].options.runs / "quality", results) if folder.is_dir()]
    rows = outline(plans, record.read_all(folders))
    table = Table(header_style="bold")
    columns = ["implementation", "task", "precision", "trains on"]
    columns += ["seeds to do", "recorded", "kept as it is", "each takes"]
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        each = "unknown" if row.seconds is None else f"about {duration(row.seconds)}, by {row.basis}"
        tried = {"failed": row.failed, "skipped": row.skipped}
        kept = "; ".join(f"{what} {_ranges(seeds)}" for what, seeds in tried.items() if seeds)
        cells = (row.reads, _ranges(row.to_do), _ranges(row.recorded), kept, each)
        table.add_row(*map(Text, (row.implementation, row.task, row.precision, *cells)))
    console.print(table)
    for line in [*_totals(rows, plans[0]), *_left_out(plans[0])]:
        console.print(Text(line), soft_wrap=True)


def _totals(rows: list[Row], plan: Plan) -> Iterator[str]:
    names = ("to_do", "recorded", "failed", "skipped")
    to_do, recorded, failed, skipped = (sum(len(getattr(row, name)) for row in rows) for name in names)
    runs = "run" if to_do == 1 else "runs"
    yield f"{to_do} {runs} to do, {recorded} recorded, {failed} failed before, {skipped} skipped before"
    if failed:
        yield "what failed is kept as it is; --rerun failed tries it again"
    if skipped:
        yield "what was skipped is kept as it is; --rerun all tries it again, with all others"
    known = sum(len(row.to_do) for row in rows if row.seconds is not None)
    if known:
        seconds = sum(len(row.to_do) * row.seconds for row in rows if row.seconds is not None)
        yield (
            f"about {duration(seconds)} for {known} of the runs to do, by earlier runs on {_hardware(plan)}, "
            "in proportion to examples and epochs"
        )
    if known < to_do:
        yield (
            f"{to_do - known} of the runs to do have no estimate: there is no earlier record of such a run "
            f"on {_hardware(plan)}"
        )
    yield "parity, timing, and fine-tuning by the reference for those that only encode come on top"


def _left_out(plan: Plan) -> Iterator[str]:
    for implementation in plan.implementations:
        if reason := plan.lacks(implementation):
            yield f"{implementation.name}: skipped, {reason}"


def _ranges(numbers: list[int]) -> str:
    """Seeds in short form, such as ``42-46, 50``."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def duration(seconds: float) -> str:
    """Such as ``40 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
