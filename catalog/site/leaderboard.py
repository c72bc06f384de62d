"""The published results, read from the harness's ``results/index.json`` and arranged for the pages.

Nothing is averaged over tasks: an implementation that was not measured on a task has no number there, and a run that
failed or was skipped shows its reason instead. Statistics over seeds are computed by the harness alone.
"""

import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from catalog.errors import BadInput

SCHEMA = 2
KINDS = ("quality", "speed", "parity", "service", "pretraining")
TIMED = ("speed", "service", "pretraining")  # kinds with a shape, and figures by implementation
STATES = ("ok", "failed", "skipped")
PARITY, TIMING = "parity", "timing"  # what a row can lack besides the score of a task


@dataclass
class Score:
    """The main metric of one implementation on one split of a task, over the seeds."""

    metric: str
    value: float  # mean of the seeds that did not collapse, or of all if all did
    deviation: float | None  # sample standard deviation of the same seeds; None for one seed
    least: float  # lowest and highest of the same seeds
    greatest: float
    low: float  # the 95% interval within one seed
    high: float
    n: int  # examples
    seeds: list[int]  # seeds whose runs finished
    values: list[float]  # for each of these seeds
    collapsed: list[int]  # seeds no better than a constant answer
    failed: list[int]  # seeds without a figure
    with_collapsed: list[float | None] | None  # mean and deviation of all seeds, if they differ
    published: list[dict[str, Any]] = field(default_factory=list)  # figures of others for the same: value, source, url
    # caveats, each with a split (None for all splits) and a text
    flags: list[dict[str, str | None]] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """The number of seeds, including those that failed."""
        return len(self.seeds) + len(self.failed)

    @property
    def counted(self) -> int:
        """The number of seeds in the mean."""
        return len(self.seeds) - (len(self.collapsed) if self.with_collapsed else 0)


@dataclass
class Speed:
    """One implementation at one shape."""

    sequences_per_second: float
    slowest: float  # sequences a second in the slowest round
    fastest: float
    p50: float  # seconds
    p99: float
    ratio: list[float] | None  # speed divided by the reference's, and its range
    memory: float  # bytes at the peak
    noisy: bool  # the machine was busy with other work


@dataclass(frozen=True)
class Shape:
    """A shape that was timed: the number of sequences in a batch, of fixed length or of the lengths in a task."""

    name: str
    sequences: int
    tokens: int  # in all sequences together
    latency: bool
    own_lengths: bool  # the lengths are those of the task that `name` is
    activity: str = "inference"  # what was timed: inference, training, service, pretraining


@dataclass(frozen=True)
class Missing:
    """A run that gave no number."""

    state: str  # failed, skipped
    reason: str


@dataclass(frozen=True)
class Training:
    """How an implementation trains, against the reference in float64."""

    gradients: str  # verdict: exact, close, differs
    difference: float  # largest relative one of gradients in float32
    gradients_cause: str
    steps: int
    weights: str  # verdict on the weights after these steps
    own: bool  # whether the steps were by its own optimizer
    weights_cause: str


@dataclass
class Row:
    """All that was measured of one implementation at one precision."""

    implementation: str
    precision: str  # as asked for
    computes: str = ""  # precision of the products; a variant may have a fixed one, whatever is asked for
    version: str = ""
    catalog_id: str | None = None
    verdict: str | None = None  # parity: exact, close, differs
    difference: float | None = None  # largest difference of float32 hidden states to the reference in float64
    cause: str = ""  # why parity is not exact
    training: Training | None = None  # how it trains, compared with the reference
    scores: dict[str, Score] = field(default_factory=dict)  # by task
    speeds: dict[str, Speed] = field(default_factory=dict)  # by shape
    missing: dict[str, Missing] = field(default_factory=dict)  # by task, PARITY or TIMING

    @property
    def measured(self) -> bool:
        """Whether there is any number at all."""
        return bool(self.verdict or self.scores or self.speeds)


@dataclass(frozen=True)
class Source:
    """A record behind the figures: the file ``*-<key>.json`` below ``results/``."""

    key: str
    kind: str
    subject: str  # the task, the shape that was timed; empty for parity
    implementations: list[str]
    precision: str
    seed: int | None
    state: str
    day: str
    commit: str
    command: str  # reproduces the record


@dataclass
class Board:
    """The results that may be compared: those of one machine and one checkpoint."""

    machine: str
    hardware: str  # the machine as scores name it
    flags: list[str]  # instructions of its processor
    gpu: str  # empty on a processor
    checkpoint: str
    first: str  # day of the first and last measurement
    last: str
    commits: list[str]
    tasks: list[str]
    shapes: dict[str, Shape]  # by name: latency first, then fixed lengths, then those of tasks
    rows: list[Row]  # the fastest first
    sources: list[Source]  # the records that the board is computed from

    @property
    def fixed(self) -> list[Shape]:
        """The shapes that belong to no task."""
        return [shape for shape in self.shapes.values() if shape.activity == "inference" and not shape.own_lengths]

    @property
    def throughput(self) -> Shape | None:
        """The fixed shape that represents throughput: the one timed for most rows, and of these the largest."""
        counts = {shape: sum(shape.name in row.speeds for row in self.rows) for shape in self.fixed}
        rates = [shape for shape in self.fixed if not shape.latency and counts[shape]]
        return max(rates, key=lambda shape: (counts[shape], shape.sequences), default=None)

    @property
    def gaps(self) -> list[tuple[Row, list[str], Missing]]:
        """What gave no number: (row, list of what was tried, reason), one item for each reason of a row."""
        found = []
        for row in self.rows:
            for missing in dict.fromkeys(row.missing.values()):
                found.append((row, [what for what, each in row.missing.items() if each == missing], missing))
        return found


def family_name(implementation: str) -> str:
    """``transformers`` of ``transformers:eager``."""
    return implementation.partition(":")[0]


Index = dict[str, list[dict[str, Any]]]


def read_index(path: Path) -> Index:
    """The published ``records`` and their ``scores`` over all seeds; none if the file does not exist.

    BadInput for another schema version, an unknown kind or state of record, or a number that is not finite.
    """
    if not path.exists():
        return {"records": [], "scores": [], "against": []}

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number that a record may hold")

    try:
        index = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse, parse_float=_finite)
        schema, records, scores = index["schema"], index["records"], index.get("scores", [])
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
    if not scores and any(each["kind"] == "quality" and each.get("metrics") for each in records):
        raise BadInput(f"{path}: has runs and no scores; make it again with the harness")
    return {"records": records, "scores": scores, "against": index.get("against", [])}


def _finite(text: str) -> float:
    """The number that JSON writes so; ValueError where it is infinite, as 1e999 is without saying so."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


def boards(index: Index, path: Path) -> list[Board]:
    """One board for each machine and checkpoint, the one with most records first.

    BadInput, naming ``path``, if a record lacks a field.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    scores: dict[tuple[str, str], list[dict[str, Any]]] = {}
    try:
        for each in index["records"]:
            groups.setdefault((each["hardware"], each["model"]), []).append(each)
        for each in index["scores"]:
            scores.setdefault((each["hardware"], each["checkpoint"]), []).append(each)
        fullest = sorted(groups, key=lambda key: -len(groups[key]))
        return [_board(groups[key], scores.get(key, [])) for key in fullest]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise BadInput(f"{path}: a record lacks or misuses {error}; make the index again with the harness") from error


def _machine(record: dict[str, Any]) -> str:
    """The name of the hardware, with the memory unless it is a GPU."""
    memory = "" if _gpu(record) else f", {record['machine']['memory'] / 2**30:.0f} GiB"
    return str(record["hardware"]) + memory


def _gpu(record: dict[str, Any]) -> str:
    gpus = record["machine"]["gpus"]
    return str(gpus[0]["name"]) if record["device"].startswith("cuda") and gpus else ""


def _board(records: list[dict[str, Any]], scores: list[dict[str, Any]]) -> Board:
    records = sorted(records, key=lambda each: str(each["started"]))
    rows: dict[tuple[str, str], Row] = {}
    for each in (r for r in records if r["kind"] in TIMED):
        _add_speed(rows, each)
    _add_runs(rows, [r for r in records if r["kind"] == "quality"])
    _add_scores(rows, scores)
    for each in (r for r in records if r["kind"] == "parity"):
        _add_parity(rows, each)
    ids = {family_name(row.implementation): row.catalog_id for row in rows.values() if row.catalog_id}
    for row in rows.values():  # records of speed do not name the catalog's id
        row.catalog_id = row.catalog_id or ids.get(family_name(row.implementation))
    shapes = {_shape(r) for r in records if r["kind"] in TIMED}
    board = Board(
        machine=_machine(records[-1]),
        hardware=str(records[-1]["hardware"]),
        flags=sorted({flag for r in records for flag in r["machine"]["flags"]}),
        gpu=_gpu(records[-1]),
        checkpoint=str(records[0]["checkpoint"]["name"]),
        first=str(records[0]["started"])[:10],
        last=str(records[-1]["started"])[:10],
        commits=sorted({str(r["commit"])[:12] for r in records if r["commit"]}),
        tasks=sorted({task for row in rows.values() for task in row.scores}),
        shapes={shape.name: shape for shape in sorted(shapes, key=_order)},
        rows=list(rows.values()),
        sources=sorted(map(_source, records), key=lambda each: (each.kind, each.implementations, each.subject)),
    )
    # sorted() and not sort(), which empties the list that `rate` reads while it sorts
    board.rows = sorted(
        board.rows, key=lambda row: (not row.measured, -rate(board, row), row.implementation, row.precision)
    )
    return board


def _shape(record: dict[str, Any]) -> Shape:
    timed = record["shape"]
    known = {each.name: timed[each.name] for each in fields(Shape) if each.name != "activity"}
    training = str(timed["name"]).endswith(", training")
    return Shape(
        **known, activity=record["kind"] if record["kind"] != "speed" else "training" if training else "inference"
    )


def _source(record: dict[str, Any]) -> Source:
    timed = record["kind"] in TIMED
    return Source(
        key=str(record["key"])[:12],
        kind=record["kind"],
        subject=str(record["shape" if timed else "task"]["name"]) if record["kind"] != "parity" else "",
        implementations=sorted(record["implementations"]) if timed else [record["implementation"]["name"]],
        precision=record["precision"]["resolved"],
        seed=record.get("seed"),
        state=record["state"],
        day=str(record["started"])[:10],
        commit=str(record["commit"] or "")[:12],
        command=str(record["command"]),
    )


def _order(shape: Shape) -> tuple[Any, ...]:
    task = shape.name if shape.own_lengths else ""
    return (shape.own_lengths, not shape.latency, task, shape.sequences, shape.tokens)


def _row(rows: dict[tuple[str, str], Row], name: str, record: dict[str, Any], described: dict[str, Any]) -> Row:
    precision = record["precision"]["resolved"]
    row = rows.setdefault((name, precision), Row(name, precision))
    row.version = described.get("version") or row.version
    row.computes = row.computes or precision
    row.catalog_id = described.get("catalog_id") or row.catalog_id
    return row


def _missing(state: str, reason: Any) -> Missing:
    return Missing(state, " ".join(str(reason or "").split()))


def _add_speed(rows: dict[tuple[str, str], Row], record: dict[str, Any]) -> None:
    """Add one timing. Later figures replace earlier ones and failures, but noisy ones replace only noisy ones."""
    for name, figures in record["implementations"].items():
        row = _row(rows, name, record, figures)
        if figures["state"] == "ok":
            if not str(record["shape"]["name"]).endswith(", training"):  # whose figures do not say what is multiplied
                row.computes = figures.get("precision") or row.computes
            speed, known = _speed(figures, record), row.speeds.get(record["shape"]["name"])
            if known is None or known.noisy or not speed.noisy:
                row.speeds[record["shape"]["name"]] = speed
            row.missing.pop(TIMING, None)
        else:
            row.missing[TIMING] = _missing(figures["state"], figures.get("reason"))


def _add_runs(rows: dict[tuple[str, str], Row], records: list[dict[str, Any]]) -> None:
    """Add the rows of quality runs, with the reason of each failure unless another run of the same seed finished."""
    finished = {_run(each) for each in records if each["state"] == "ok"}
    for each in records:
        row = _row(rows, each["implementation"]["name"], each, each["implementation"])
        if each["state"] != "ok" and _run(each) not in finished:
            row.missing[each["task"]["name"]] = _missing(each["state"], each["reason"])


def _run(record: dict[str, Any]) -> tuple[str, str, str, int]:
    return (
        record["implementation"]["name"],
        record["precision"]["resolved"],
        record["task"]["name"],
        record["seed"],
    )


def _add_scores(rows: dict[tuple[str, str], Row], scores: list[dict[str, Any]]) -> None:
    """Add the main metric of each split. The first split of a task, mostly dev, is named by the task alone."""
    main = [each for each in scores if each["main"]]
    first: dict[tuple[str, ...], str] = {}
    for each in sorted(main, key=lambda each: each["split"] != "dev"):
        first.setdefault((each["implementation"], each["precision"], each["task"], each["context"]), each["split"])
    for each in main:
        name = (each["implementation"], each["precision"])
        title = each["task"] + (", document" if each["context"] == "document" else "")
        if each["split"] != first[(*name, each["task"], each["context"])]:
            title += f", {each['split']}"
        rows[name].scores[title] = _score(each)


def _add_parity(rows: dict[tuple[str, str], Row], record: dict[str, Any]) -> None:
    """Add parity, which is measured in float32 or in a variant's fixed precision; rows in other precisions get none."""
    described = record["implementation"]
    own = described.get("precision", "fp32") != "fp32"
    same = [
        row for row in rows.values() if row.implementation == described["name"] and (own or row.precision == "fp32")
    ]
    for row in same or [_row(rows, described["name"], record, described)]:
        row.catalog_id = row.catalog_id or described.get("catalog_id")
        row.computes = described["precision"] if own else row.computes
        if record["state"] == "ok":
            row.verdict, row.difference = record["verdict"], record["differences"]["fp32"]["max"]
            row.cause = str(record.get("diagnosis", {}).get("sentence") or "")
            row.training = _training(record.get("training") or {}) or row.training
            row.missing.pop(PARITY, None)
        elif not row.verdict:
            row.missing[PARITY] = _missing(record["state"], record["reason"])


def _training(found: dict[str, Any]) -> Training | None:
    """None if it was not measured, or failed."""
    if found.get("state") != "ok":
        return None
    gradients, weights = found["gradients"], found["weights"]
    return Training(
        gradients=gradients["verdict"],
        difference=gradients["differences"]["fp32"]["max"],
        gradients_cause=str(gradients["diagnosis"].get("sentence") or ""),
        steps=weights["steps"],
        weights=weights["verdict"],
        own=weights["optimizer"] == "own",
        weights_cause=str(weights["diagnosis"].get("sentence") or "") if weights["verdict"] != "exact" else "",
    )


def _speed(figures: dict[str, Any], record: dict[str, Any]) -> Speed:
    memory = figures["memory"]
    return Speed(
        sequences_per_second=figures["sequences_per_second"],
        slowest=figures["slowest"],
        fastest=figures["fastest"],
        p50=figures["p50"],
        p99=figures["p99"],
        ratio=figures.get("ratio"),
        memory=memory["gpu"] or memory["resident"],
        noisy=bool(record["load"].get("noisy")),
    )


def _score(values: dict[str, Any]) -> Score:
    own = {
        "metric": str(values["metric"]),
        "value": values["mean"],
        "published": [each for each in values["published"] if each["url"].startswith("https://")],
    }
    return Score(**own, **{each.name: values[each.name] for each in fields(Score) if each.name not in own})


def rate(board: Board, row: Row) -> float:
    """Sequences a second at the shape that represents throughput; 0 if the row was not timed there."""
    shape = board.throughput
    return row.speeds[shape.name].sequences_per_second if shape and shape.name in row.speeds else 0.0
