"""Measured results: ``results/index.json``, which the harness writes, arranged for the pages. Nothing is averaged
over tasks: an implementation that was not measured on a task has no number there."""

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog.errors import BadInput

SCHEMA = 1
KINDS = ("quality", "speed", "parity")
METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "entity_f1": "entity F1",
}


@dataclass
class Score:
    """The main metric of one implementation on the dev set of one task."""

    metric: str
    value: float  # mean over the seeds
    low: float  # of one seed: its 95% interval; of several: the lowest of the seeds
    high: float
    n: int  # examples
    seeds: list[int]
    flags: list[str] = field(default_factory=list)  # what a reader must know before believing the number


@dataclass
class Speed:
    """One implementation at one shape."""

    sequences_per_second: float
    p50: float  # seconds
    p99: float
    ratio: list[float] | None  # to the reference, with its range
    memory: float  # bytes at the peak
    noisy: bool  # the machine was busy with other work


@dataclass
class Row:
    """All that was measured of one implementation at one precision."""

    implementation: str
    precision: str
    version: str = ""
    catalog_id: str | None = None
    verdict: str | None = None  # of parity: exact, close, differs
    difference: float | None = None  # largest in float32, to the reference in float64
    scores: dict[str, Score] = field(default_factory=dict)  # by task
    speeds: dict[str, Speed] = field(default_factory=dict)  # by shape


@dataclass
class Board:
    """What may be compared: one machine, one checkpoint."""

    machine: str
    checkpoint: str
    first: str  # day of the first and last measurement
    last: str
    commits: list[str]
    tasks: list[str]
    shapes: dict[str, bool]  # by name: whether it is a latency
    rows: list[Row]

    @property
    def notes(self) -> list[str]:
        """The flags of all scores, each with what it is said of."""
        return [
            f"{row.implementation} {row.precision}, {task}: {flag}"
            for row in self.rows
            for task, score in row.scores.items()
            for flag in score.flags
        ]


def read_index(path: Path) -> list[dict[str, Any]]:
    """The published records: ``{"schema": 1, "records": [...]}``; none where the file does not exist.

    BadInput for another schema version, an unknown kind of record, or a number that is not finite.
    """
    if not path.exists():
        return []

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number that a record may hold")

    try:
        index = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
        schema, records = index["schema"], index["records"]
        odd = [each for each in records if each["schema"] != SCHEMA or each["kind"] not in KINDS]
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: not an index of results: {error}; make it again with the harness") from error
    if schema != SCHEMA or odd:
        what = f"schema {schema}" if schema != SCHEMA else f"a record of schema {odd[0]['schema']}, {odd[0]['kind']!r}"
        raise BadInput(f"{path}: {what}; this version of BERT Atlas reads schema {SCHEMA} of {', '.join(KINDS)}")
    found: list[dict[str, Any]] = [each for each in records if each.get("state") == "ok"]
    if not all(math.isfinite(number) for number in _numbers(found)):
        raise BadInput(f"{path}: holds a number that is not finite")
    return found


def _numbers(value: Any) -> Iterable[float]:
    """All floats anywhere in a JSON value; 1e999 reads as infinity without being named so."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _numbers(child)


def boards(records: list[dict[str, Any]], path: Path) -> list[Board]:
    """One board for each machine and checkpoint. BadInput naming ``path`` where a record lacks a field."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    try:
        for each in records:
            key = (_machine(each), each["checkpoint"]["sha256"])
            groups.setdefault(key, []).append(each)
        return [_board(machine, group) for (machine, _), group in groups.items()]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise BadInput(f"{path}: a record lacks or misuses {error}; make the index again with the harness") from error


def _machine(record: dict[str, Any]) -> str:
    """Such as ``Intel(R) Xeon(R) Processor, 2 cores, 24 GiB`` or ``NVIDIA H100 80GB HBM3``."""
    machine = record["machine"]
    if record["device"].startswith("cuda") and machine["gpus"]:
        return str(machine["gpus"][0]["name"])
    return f"{machine['cpu']}, {record['threads']} cores, {machine['memory'] / 2**30:.0f} GiB"


def _board(machine: str, records: list[dict[str, Any]]) -> Board:
    records = sorted(records, key=lambda each: str(each["started"]))
    rows: dict[tuple[str, str], Row] = {}
    for each in (r for r in records if r["kind"] == "speed"):
        for name, figures in each["implementations"].items():
            if figures["state"] == "ok":
                _row(rows, name, each, figures).speeds[each["shape"]["name"]] = _speed(figures, each)
    qualities: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = {}
    for each in (r for r in records if r["kind"] == "quality" and r["metrics"]):
        key = (each["implementation"]["name"], each["precision"]["resolved"], each["task"]["name"])
        qualities.setdefault(key, {})[each["seed"]] = each  # of one seed, the last
    for (name, _, task), by_seed in qualities.items():
        last = list(by_seed.values())[-1]
        _row(rows, name, last, last["implementation"]).scores[task] = _score(by_seed)
    for each in (r for r in records if r["kind"] == "parity"):
        name = each["implementation"]["name"]
        for row in [row for row in rows.values() if row.implementation == name] or [
            _row(rows, name, each, each["implementation"])
        ]:
            row.verdict, row.difference = each["verdict"], each["differences"]["fp32"]["max"]
            row.catalog_id = row.catalog_id or each["implementation"].get("catalog_id")
    ids = {row.implementation: row.catalog_id for row in rows.values() if row.catalog_id}
    for row in rows.values():  # records of speed do not name the catalog's id
        row.catalog_id = ids.get(row.implementation)
    shapes = [r["shape"] for r in records if r["kind"] == "speed"]
    shapes.sort(key=lambda shape: (not shape["latency"], shape["own_lengths"], shape["sequences"], shape["name"]))
    return Board(
        machine=machine,
        checkpoint=str(records[0]["checkpoint"]["name"]),
        first=str(records[0]["started"])[:10],
        last=str(records[-1]["started"])[:10],
        commits=sorted({str(r["commit"])[:12] for r in records if r["commit"]}),
        tasks=sorted({task for row in rows.values() for task in row.scores}),
        shapes={shape["name"]: bool(shape["latency"]) for shape in shapes},
        rows=sorted(rows.values(), key=lambda row: (-fastest(row), row.implementation)),
    )


def _row(rows: dict[tuple[str, str], Row], name: str, record: dict[str, Any], described: dict[str, Any]) -> Row:
    precision = record["precision"]["resolved"]
    row = rows.setdefault((name, precision), Row(name, precision))
    row.version = described.get("version") or row.version
    row.catalog_id = described.get("catalog_id") or row.catalog_id
    return row


def _speed(figures: dict[str, Any], record: dict[str, Any]) -> Speed:
    memory = figures["memory"]
    return Speed(
        sequences_per_second=figures["sequences_per_second"],
        p50=figures["p50"],
        p99=figures["p99"],
        ratio=figures.get("ratio"),
        memory=memory["gpu"] or memory["resident"],
        noisy=bool(record["load"].get("noisy")),
    )


def _score(by_seed: dict[int, dict[str, Any]]) -> Score:
    """The first metric of the dev set, which is the task's main one."""
    runs = list(by_seed.values())
    metrics = [next((m for m in run["metrics"] if m["split"] == "dev"), run["metrics"][0]) for run in runs]
    values = [metric["value"] for metric in metrics]
    single = len(values) == 1
    return Score(
        metric=METRIC_NAMES.get(metrics[0]["name"], str(metrics[0]["name"])),
        value=statistics.fmean(values),
        low=metrics[0]["low"] if single else min(values),
        high=metrics[0]["high"] if single else max(values),
        n=metrics[0]["n"],
        seeds=sorted(by_seed),
        flags=list(dict.fromkeys(str(flag) for run in runs for flag in run["flags"])),
    )


def fastest(row: Row) -> float:
    """The highest throughput at any shape, in sequences a second; 0 where none was timed."""
    return max((speed.sequences_per_second for speed in row.speeds.values()), default=0.0)


@dataclass
class Point:
    """One implementation in the plot of a task: how right, and how fast."""

    row: Row
    score: Score
    rate: float  # sequences a second


def points(board: Board, task: str) -> tuple[str, list[Point]]:
    """The shape whose throughput stands for a task, and a point for each row that has both numbers.

    The task's own lengths where they were timed, otherwise the throughput shape most rows have; with no such shape
    the name is empty.
    """
    rates = [name for name, latency in board.shapes.items() if not latency]
    own = f"lengths of {task}"
    count = {name: sum(name in row.speeds and task in row.scores for row in board.rows) for name in rates}
    shape = own if count.get(own) else max(rates, key=lambda name: count[name], default="")
    chosen = [row for row in board.rows if task in row.scores and shape in row.speeds]
    return shape, [Point(row, row.scores[task], row.speeds[shape].sequences_per_second) for row in chosen]
