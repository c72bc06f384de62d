"""Figures over the commits: what was measured again on the same kind of machine, and where it made a step.

A step is a change beyond the noise: both values lie outside the other's interval. For quality that is the 95%
interval of the score; for speed, the range over the rounds of the ratio to the reference, which what slows the whole
machine leaves alone. The reference itself has no such ratio: when it changes, all others step the other way.
"""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from harness.records import record
from harness.records.models import model_of, named_apart
from harness.records.subject import subject


class Figure(NamedTuple):
    """What was measured, and the interval in which it may lie by chance; no values, no steps."""

    shown: str
    values: tuple[float, float, float] | None  # value, low, high: of a score, or of the ratio to the reference


FAILED = Figure("failed", None)


@dataclass(frozen=True)
class Point:
    """One measurement."""

    commit: str  # of BERT Atlas; "+changes" where the tree was not clean
    started: str
    figure: Figure
    step: str  # up, down, failed; empty where nothing happened
    changed: tuple[str, ...]  # what else is not as it was when it was measured before


@dataclass(frozen=True)
class Series:
    """One implementation's figure on one task or shape, on one kind of machine, oldest first."""

    hardware: str
    subject: str  # task or shape, with weights and precision
    implementation: str
    points: list[Point]


@dataclass(frozen=True)
class _Run:
    """What one record says of one implementation; no figures where it failed."""

    record: record.Record
    figures: dict[str, Figure]  # by metric
    conditions: dict[str, Any]  # what may explain a step


def histories(records: list[record.Record]) -> list[Series]:
    """All series, by hardware, subject and implementation. Limited and skipped runs are left out, and parity."""
    groups: dict[tuple[str, ...], list[_Run]] = {}
    for each in sorted(named_apart(_distinct(records)), key=lambda each: each.started):
        for what, implementation, data, run in _quality(each) if isinstance(each, record.Quality) else _speed(each):
            weights = each.checkpoint
            said = f"{what}, {weights['name']}, {each.precision['resolved']}"
            same = (record.hardware(each), said, implementation, model_of(each), data)
            groups.setdefault(same, []).append(run)
    found = [
        Series(hardware, f"{subject}{metric and ', '}{metric}", implementation, _points(runs, metric))
        for (hardware, subject, implementation, *_), runs in groups.items()
        for metric in dict.fromkeys(metric for run in runs for metric in run.figures) or [""]
    ]
    return sorted(found, key=lambda each: (each.hardware, each.subject, each.implementation))


def _distinct(records: list[record.Record]) -> list[record.Record]:
    """Without copies: a published record is in two folders."""
    found = {(each.key, each.started): each for each in records if not isinstance(each, record.Parity)}
    return [each for each in found.values() if each.state != "skipped" and getattr(each, "limit", None) is None]


def _quality(quality: record.Quality) -> list[tuple[str, str, str, _Run]]:
    """Subject, implementation, data, and the run with the main metric of each split."""
    task, implementation = quality.task, quality.implementation
    figures: dict[str, Figure] = {}
    for metric in quality.metrics:
        value, low, high = metric["value"], metric["low"], metric["high"]
        if not any(name.startswith(f"{metric['split']} ") for name in figures):
            shown = f"{value:.3f} ({low:.3f}-{high:.3f})"
            figures[f"{metric['split']} {metric['name']}"] = Figure(shown, (value, low, high))
    own = {name: implementation.get(name) for name in ("version", "code")}
    run = _Run(quality, figures if quality.state == "ok" else {}, own | {"recipe": quality.recipe} | quality.versions)
    data = json.dumps(task["data"], sort_keys=True)
    return [(f"{subject(task['name'], task['context'])}, seed {quality.seed}", implementation["name"], data, run)]


def _speed(speed: record.Record) -> list[tuple[str, str, str, _Run]]:
    """Shape, implementation, sizes of the shape, and the run, for each implementation that was timed."""
    assert isinstance(speed, record.Speed)
    shape, runs = speed.shape, []
    for name, measured in speed.implementations.items():
        conditions = {key: measured.get(key) for key in ("version", "code", "batching")} | speed.versions
        ratio = measured.get("ratio") if name != "reference" else None
        figures = _timing(measured, ratio, shape["latency"]) if measured["state"] == "ok" else {}
        sizes = f"{shape['sequences']} {shape['tokens']}"
        runs.append((shape["name"], name, sizes, _Run(speed, figures, conditions)))
    return runs


def _timing(measured: dict[str, Any], ratio: list[float] | None, latency: bool) -> dict[str, Figure]:
    """The figure by what it is; steps are looked for in the ratio to the reference alone."""
    what, shown = "throughput", f"{measured['sequences_per_second']:.0f} seq/s"
    if latency:
        what, shown = "latency", f"{1000 * measured['p50']:.1f} ms"
    if ratio is None:
        return {what: Figure(shown, None)}
    middle, low, high = ratio
    return {what: Figure(f"{shown}, {middle:.2f}x ({low:.2f}-{high:.2f})", (middle, low, high))}


def _points(runs: list[_Run], metric: str) -> list[Point]:
    points: list[Point] = []
    last: dict[str, Any] | None = None  # the conditions of the last that did not fail
    level: Figure | None = None  # where the last step led: compared with its neighbour, a slow slide would never show
    for run in runs:
        figure = run.figures.get(metric, FAILED)
        step = "failed" if figure is FAILED else _step(level, figure) if level else ""
        changed = _changed(last, run.conditions) if last else ()
        if isinstance(run.record, record.Speed) and run.record.load.get("noisy"):
            changed = (*changed, "the machine was busy")
        points.append(Point(run.record.commit or "", run.record.started, figure, step, changed))
        if figure is not FAILED:
            last = run.conditions
            level = figure if level is None or step else level
    return points


def _step(before: Figure, now: Figure) -> str:
    if before.values is None or now.values is None:
        return ""
    (old, old_low, old_high), (new, low, high) = before.values, now.values
    if old_low <= new <= old_high or low <= old <= high:
        return ""
    return "up" if new > old else "down"


def _changed(before: dict[str, Any], now: dict[str, Any]) -> tuple[str, ...]:
    """Names of what differs; with both values where they are short."""
    said = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old != new:
            short = all(isinstance(value, str) and len(value) < 30 for value in (old, new))
            said.append(f"{name} {old} -> {new}" if short else name)
    return tuple(said)


def history_tables(series: list[Series]) -> list[Table]:
    """One table for each kind of machine."""
    tables: dict[str, Table] = {}
    styles = {"up": "bold green", "down": "bold red", "failed": "bold red"}
    for each in series:
        table = tables.get(each.hardware)
        if table is None:
            table = tables[each.hardware] = Table(title=Text(each.hardware), title_justify="left", header_style="bold")
            for column in ("subject", "implementation", "commit", "date", "figure", "step", "changed meanwhile"):
                table.add_column(column)
        for number, point in enumerate(each.points):
            first = ("", "") if number else (each.subject, each.implementation)
            commit = point.commit[:8] + ("+" if point.commit.endswith("+changes") else "")
            rest = (commit, point.started[:10], point.figure.shown)
            step = Text(point.step, style=styles.get(point.step, ""))
            table.add_row(*map(Text, (*first, *rest)), step, Text(", ".join(point.changed)))
        table.add_section()
    return list(tables.values())
