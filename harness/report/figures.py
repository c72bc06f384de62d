"""Tables of published figures inside Markdown files, written from the records that they are of.

A comment in the file says which figures a table shows; the table follows it, up to the comment that ends it:

    <!-- figures: speed
    hardware: AMD EPYC with AVX-512, 2 cores
    commit: 294f541
    precision: bf16
    weights: minilm-l6
    of: reference
    rows: [1 x 16, 1 x 128]
    columns: {to transformers: transformers, to OpenVINO: openvino}
    limit: true
    -->
    (the table)
    <!-- end of figures -->

``speed``: how many times as fast ``of`` is as each column's implementation, at each shape: the median over the rounds
of one comparison, and the range. ``limit`` adds the share of the hardware's limit. ``quality``: the mean of the main
metric over seeds, with its deviation, of each column's implementation on each task. ``models``: the same of each row's
weights, with one implementation; where there is one seed, the value with its interval. ``majority`` names a row of the
best constant answers. A cell whose record does not exist yet is empty, so that such a table may come before its
measurements.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import yaml

from harness.errors import BadInput
from harness.records import record
from harness.records.subject import subject
from harness.report.arrange import mean_and_deviation, share_of_limit
from harness.statistics import seeds

BLOCK = re.compile(r"<!-- figures: (?P<kind>\S+)\n(?P<asked>.*?)-->\n.*?<!-- end of figures -->", re.DOTALL)
ABSENT = "-"
COMMON: dict[str, type] = {"hardware": str, "precision": str, "weights": str, "rows": list, "columns": dict}
FIELDS: dict[str, dict[str, type]] = {
    "speed": COMMON | {"commit": str, "of": str, "limit": bool},
    "quality": COMMON,
    "models": {
        "hardware": str,
        "precision": str,
        "implementation": str,
        "rows": dict,
        "columns": dict,
        "majority": str,
    },
}
OPTIONAL = {"speed": {"limit"}, "models": {"hardware", "majority"}}


@dataclass(frozen=True)
class Block:
    """What one table is asked to show."""

    kind: str
    asked: dict[str, Any]

    def is_about(self, each: record.Record) -> bool:
        """Whether a record is of this machine, precision, weights and, where it is named, commit."""
        found = {
            "hardware": record.hardware(each),
            "precision": each.precision["resolved"],
            "weights": each.checkpoint["name"],
        }
        alike = all(self.asked.get(name, value) == value for name, value in found.items())
        return alike and str(each.commit).startswith(self.asked.get("commit", ""))


def with_figures(text: str, records: list[record.Record]) -> str:
    """The text with every table written from the records.

    BadInput names the line of a block that asks for what cannot be understood, or what no record holds.
    """

    def written(found: re.Match[str]) -> str:
        line = text.count("\n", 0, found.start()) + 1
        try:
            block = _block(found["kind"], found["asked"])
            table = TABLES[block.kind](block, [each for each in records if block.is_about(each)])
        except BadInput as error:
            raise BadInput(f"line {line}: {error}") from None
        return f"<!-- figures: {found['kind']}\n{found['asked']}-->\n\n{table}\n\n<!-- end of figures -->"

    return BLOCK.sub(written, text)


def _block(kind: str, asked: str) -> Block:
    if kind not in FIELDS:
        raise BadInput(f"figures of {kind}; there are {' and '.join(FIELDS)}")
    try:
        read = yaml.safe_load(asked)
    except yaml.YAMLError as error:
        raise BadInput(f"not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict):
        raise BadInput("not a list of names and values")
    known = FIELDS[kind]
    if odd := [name for name in read if name not in known]:
        raise BadInput(f"no figures of {kind} have {odd[0]}; they have {', '.join(known)}")
    for name, wanted in known.items():
        if name not in read and name not in OPTIONAL.get(kind, ()):
            raise BadInput(f"{name} is missing")
        if name in read and not isinstance(read[name], wanted):
            raise BadInput(f"{name}: {read[name]!r} should be a {wanted.__name__}; put quotes around a text")
    return Block(kind, read)


def _speed(block: Block, records: list[record.Record]) -> str:
    timings = [each for each in records if isinstance(each, record.Speed) and each.state == "ok"]
    rows = [_timing(block, name, timings) for name in block.asked["rows"]]
    columns, has_limit = block.asked["columns"], block.asked.get("limit", False)
    if idle := [name for name in columns.values() if all(_seconds(each, name) is None for each in rows)]:
        raise BadInput(f"no record that fits holds a timing of {idle[0]}")
    lines = []
    for speed in rows:
        cells = [_times(speed, block.asked["of"], name) for name in columns.values()]
        share = share_of_limit(speed, speed.implementations[block.asked["of"]]) if has_limit else None
        limit = [ABSENT if share is None else f"{share:.0%}"] if has_limit else []
        lines.append([speed.shape["name"] + ("*" if speed.load.get("noisy") else ""), *cells, *limit])
    note = "\n\n\\* The machine was busy during this timing." if any(each.load.get("noisy") for each in rows) else ""
    return _table(["", *columns, *(["of the limit"] if has_limit else [])], lines) + note


def _timing(block: Block, shape: str, timings: list[record.Speed]) -> record.Speed:
    """The comparison at this shape that timed most of what is asked for; of several the last."""
    wanted = {block.asked["of"], *block.asked["columns"].values()}
    found = [each for each in timings if each.shape["name"] == shape and _seconds(each, block.asked["of"]) is not None]
    if not found:
        raise BadInput(f"no record of {block.asked['of']} at {shape} that fits")
    return max(found, key=lambda each: (len(wanted & {*each.implementations}), each.started))


def _times(speed: record.Speed, of: str, than: str) -> str:
    """How many times as fast one is as another: the median over the rounds, and the range."""
    ours, theirs = _seconds(speed, of), _seconds(speed, than)
    if ours is None or theirs is None:
        return ABSENT
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return f"{median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


def _seconds(speed: record.Speed, name: str) -> list[float] | None:
    """Of each round; None where it was not timed."""
    figures = speed.implementations.get(name)
    return record.turn_seconds(speed.shape, figures) if figures and figures["state"] == "ok" else None


def _quality(block: Block, records: list[record.Record]) -> str:
    scores = [score for runs in seeds.group(records) for score in seeds.scores(runs) if score.main]
    columns, lines = block.asked["columns"], []
    if idle := {*columns.values()} - {score.implementation for score in scores}:
        raise BadInput(f"no record that fits holds a score of {min(idle)}")
    for row in block.asked["rows"]:
        found = {s.implementation: s for s in scores if subject(s.task, s.context, s.split) == row}
        if not found.keys() & {*columns.values()}:
            raise BadInput(f"no record of {row} that fits")
        metric = next(iter(found.values())).title
        lines.append([f"{row}, {metric}", *(_score(found.get(name)) for name in columns.values())])
    return _table(["", *columns], lines)


def _models(block: Block, records: list[record.Record]) -> str:
    asked = block.asked
    found: dict[tuple[str, str], seeds.Score] = {}  # by weights and column
    baselines: dict[str, float] = {}  # by column
    for runs in sorted(seeds.group(records), key=lambda runs: runs.any.started):  # of several machines the last
        if runs.any.implementation["name"] != asked["implementation"] or not runs.finished:
            continue
        for score in seeds.scores(runs):
            column = subject(score.task, score.context, score.split)
            if score.main:
                found[runs.any.checkpoint["name"], column] = score
                baselines[column] = seeds.main_metric(runs.finished[-1], score.split)["baseline"]
    columns = asked["columns"].values()
    lines = [
        [row, *(_of_model(found.get((weights, column))) for column in columns)]
        for row, weights in asked["rows"].items()
    ]
    if "majority" in asked:
        constant = (f"{baselines[column]:.3f}" if column in baselines else ABSENT for column in columns)
        lines.insert(0, [asked["majority"], *constant])
    return _table(["", *asked["columns"]], lines)


def _of_model(score: seeds.Score | None) -> str:
    if score is None:
        return ABSENT
    if len(score.counted) == 1:
        return f"{score.mean:.3f} ({score.low:.3f} to {score.high:.3f})"
    counted = f"{len(score.counted)}" if len(score.counted) == score.tried else f"{len(score.counted)}/{score.tried}"
    return f"{mean_and_deviation(score.mean, score.deviation)} ({counted})"


def _score(score: seeds.Score | None) -> str:
    if score is None:
        return ABSENT
    counted = len(score.counted)
    seeds_of = f"{counted} seeds" if counted == score.tried else f"{counted} of {score.tried} seeds"
    return f"{mean_and_deviation(score.mean, score.deviation)} ({seeds_of})"


def _table(head: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


TABLES: dict[str, Callable[[Block, list[record.Record]], str]] = {
    "speed": _speed,
    "quality": _quality,
    "models": _models,
}
