"""Measured results: ``results/index.json``, which the harness writes, arranged for the pages. Nothing is averaged
over tasks: an implementation that was not measured on a task has no number there; where a run was tried and gave
none, its reason stands instead."""

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from catalog.errors import BadInput

SCHEMA = 1
KINDS = ("quality", "speed", "parity")
STATES = ("ok", "failed", "skipped")
PARITY, TIMING = "parity", "timing"  # what can be missing of a row beside a task's score
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


@dataclass(frozen=True)
class Shape:
    """What was timed: so many sequences at once, of fixed length or as long as those of a task."""

    name: str
    sequences: int
    latency: bool
    own_lengths: bool  # of the task that it is named after


@dataclass(frozen=True)
class Missing:
    """A run that gave no number."""

    state: str  # failed, skipped
    reason: str


@dataclass
class Row:
    """All that was measured of one implementation at one precision."""

    implementation: str
    precision: str
    version: str = ""
    catalog_id: str | None = None
    verdict: str | None = None  # of parity: exact, close, differs
    difference: float | None = None  # largest in float32, to the reference in float64
    cause: str = ""  # why it differs
    scores: dict[str, Score] = field(default_factory=dict)  # by task
    speeds: dict[str, Speed] = field(default_factory=dict)  # by shape
    missing: dict[str, Missing] = field(default_factory=dict)  # by task, PARITY or TIMING

    @property
    def measured(self) -> bool:
        """Whether there is any number at all."""
        return bool(self.verdict or self.scores or self.speeds)

    @property
    def memory(self) -> float | None:
        """Bytes at the peak, over all shapes."""
        return max((speed.memory for speed in self.speeds.values()), default=None)


@dataclass
class Board:
    """What may be compared: one machine, one checkpoint."""

    machine: str
    checkpoint: str
    first: str  # day of the first and last measurement
    last: str
    commits: list[str]
    tasks: list[str]
    shapes: dict[str, Shape]  # by name: latency first, then fixed lengths, then those of tasks
    rows: list[Row]  # the fastest first

    @property
    def fixed(self) -> list[Shape]:
        """The shapes that belong to no task."""
        return [shape for shape in self.shapes.values() if not shape.own_lengths]

    @property
    def throughput(self) -> Shape | None:
        """The fixed shape that stands for throughput: the one timed for most rows, of these the largest."""
        counts = {shape: sum(shape.name in row.speeds for row in self.rows) for shape in self.fixed}
        rates = [shape for shape in self.fixed if not shape.latency and counts[shape]]
        return max(rates, key=lambda shape: (counts[shape], shape.sequences), default=None)

    @property
    def groups(self) -> list[list[Row]]:
        """The rows that hold a number: an implementation, then its variants; by the speed of the first."""
        found: dict[str, list[Row]] = {}
        for row in sorted(self.rows, key=lambda row: ":" in row.implementation):
            if row.measured:
                found.setdefault(family_name(row.implementation), []).append(row)
        return sorted(found.values(), key=lambda group: -rate(self, group[0]))

    @property
    def notes(self) -> list[tuple[str, str, list[str]]]:
        """(task, flag, of which rows it is said) of all scores."""
        found: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            for task, score in row.scores.items():
                for flag in score.flags:
                    found.setdefault((task, flag), []).append(f"{row.implementation} {row.precision}")
        return [(task, flag, names) for (task, flag), names in sorted(found.items())]

    @property
    def gaps(self) -> list[tuple[Row, list[str], Missing]]:
        """(row, what was tried, why it gave no number); what is missing for one reason stands together."""
        found = []
        for row in self.rows:
            for missing in dict.fromkeys(row.missing.values()):
                found.append((row, [what for what, each in row.missing.items() if each == missing], missing))
        return found


def family_name(implementation: str) -> str:
    """``transformers`` of ``transformers:eager``."""
    return implementation.partition(":")[0]


def read_index(path: Path) -> list[dict[str, Any]]:
    """The published records: ``{"schema": 1, "records": [...]}``; none where the file does not exist.

    BadInput for another schema version, an unknown kind or state of record, or a number that is not finite.
    """
    if not path.exists():
        return []

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number that a record may hold")

    try:
        index = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
        schema, records = index["schema"], index["records"]
        odd = [each for each in records if each["schema"] != SCHEMA or each["kind"] not in KINDS]
        states = {str(each["state"]) for each in records if each not in odd} - set(STATES)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: not an index of results: {error}; make it again with the harness") from error
    if schema != SCHEMA or odd:
        what = f"schema {schema}" if schema != SCHEMA else f"a record of schema {odd[0]['schema']}, {odd[0]['kind']!r}"
        raise BadInput(f"{path}: {what}; this version of BERT Atlas reads schema {SCHEMA} of {', '.join(KINDS)}")
    if states:
        raise BadInput(f"{path}: a record in state {min(states)!r}, which is none of {', '.join(STATES)}")
    if not all(math.isfinite(number) for number in _numbers(records)):
        raise BadInput(f"{path}: holds a number that is not finite")
    found: list[dict[str, Any]] = records
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
        _add_speed(rows, each)
    _add_scores(rows, [r for r in records if r["kind"] == "quality"])
    for each in (r for r in records if r["kind"] == "parity"):
        _add_parity(rows, each)
    ids = {family_name(row.implementation): row.catalog_id for row in rows.values() if row.catalog_id}
    for row in rows.values():  # records of speed do not name the catalog's id
        row.catalog_id = row.catalog_id or ids.get(family_name(row.implementation))
    timed = [r["shape"] for r in records if r["kind"] == "speed"]
    shapes = {Shape(**{each.name: shape[each.name] for each in fields(Shape)}) for shape in timed}
    board = Board(
        machine=machine,
        checkpoint=str(records[0]["checkpoint"]["name"]),
        first=str(records[0]["started"])[:10],
        last=str(records[-1]["started"])[:10],
        commits=sorted({str(r["commit"])[:12] for r in records if r["commit"]}),
        tasks=sorted({task for row in rows.values() for task in row.scores}),
        shapes={shape.name: shape for shape in sorted(shapes, key=_order)},
        rows=list(rows.values()),
    )
    # Not sort(): it would hide the rows from `rate` meanwhile.
    board.rows = sorted(
        board.rows, key=lambda row: (not row.measured, -rate(board, row), row.implementation, row.precision)
    )
    return board


def _order(shape: Shape) -> tuple[Any, ...]:
    return (shape.own_lengths, not shape.latency, shape.name if shape.own_lengths else "", shape.sequences, shape.name)


def _row(rows: dict[tuple[str, str], Row], name: str, record: dict[str, Any], described: dict[str, Any]) -> Row:
    precision = record["precision"]["resolved"]
    row = rows.setdefault((name, precision), Row(name, precision))
    row.version = described.get("version") or row.version
    row.catalog_id = described.get("catalog_id") or row.catalog_id
    return row


def _missing(state: str, reason: Any) -> Missing:
    return Missing(state, " ".join(str(reason or "").split()))


def _add_speed(rows: dict[tuple[str, str], Row], record: dict[str, Any]) -> None:
    """A later comparison's figures take the place of an earlier one's, failures among them."""
    for name, figures in record["implementations"].items():
        row = _row(rows, name, record, figures)
        if figures["state"] == "ok":
            row.speeds[record["shape"]["name"]] = _speed(figures, record)
            row.missing.pop(TIMING, None)
        else:
            row.missing[TIMING] = _missing(figures["state"], figures.get("reason"))


def _add_scores(rows: dict[tuple[str, str], Row], records: list[dict[str, Any]]) -> None:
    """Of one seed the last run that went well counts; a failure is kept where there is none."""
    runs: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = {}
    for each in records:
        key = (each["implementation"]["name"], each["precision"]["resolved"], each["task"]["name"])
        by_seed = runs.setdefault(key, {})
        if each["state"] == "ok" or each["seed"] not in by_seed:
            by_seed[each["seed"]] = each
    for (name, _, task), by_seed in runs.items():
        good = {seed: run for seed, run in by_seed.items() if run["state"] == "ok" and run["metrics"]}
        for run in by_seed.values():
            row = _row(rows, name, run, run["implementation"])
            if run["state"] != "ok":
                row.missing[task] = _missing(run["state"], run["reason"])
        if good:
            row.scores[task] = _score(good)


def _add_parity(rows: dict[tuple[str, str], Row], record: dict[str, Any]) -> None:
    """Parity is of an implementation at all its precisions."""
    described = record["implementation"]
    same = [row for row in rows.values() if row.implementation == described["name"]]
    for row in same or [_row(rows, described["name"], record, described)]:
        row.catalog_id = row.catalog_id or described.get("catalog_id")
        if record["state"] == "ok":
            row.verdict, row.difference = record["verdict"], record["differences"]["fp32"]["max"]
            row.cause = str(record.get("diagnosis", {}).get("sentence") or "")
            row.missing.pop(PARITY, None)
        elif not row.verdict:
            row.missing[PARITY] = _missing(record["state"], record["reason"])


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


def rate(board: Board, row: Row) -> float:
    """Sequences a second at the shape that stands for throughput; 0 where the row was not timed there."""
    shape = board.throughput
    return row.speeds[shape.name].sequences_per_second if shape and shape.name in row.speeds else 0.0


@dataclass
class Point:
    """One implementation in the plot of a task: how right, and how fast."""

    row: Row
    score: Score
    rate: float  # sequences a second


def points(board: Board, task: str) -> tuple[Shape | None, list[Point]]:
    """The shape whose throughput stands for a task, and a point for each row that has both numbers.

    It is that of the task's own lengths where they were timed, otherwise the board's.
    """
    own = board.shapes.get(task)
    shape = own if own and own.own_lengths else board.throughput
    chosen = [row for row in board.rows if shape and task in row.scores and shape.name in row.speeds]
    return shape, [Point(row, row.scores[task], row.speeds[shape.name].sequences_per_second) for row in chosen if shape]
