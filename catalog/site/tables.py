"""All figures as one long table, for other programs, and the records in parts that a page can hold."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.errors import Failure
from catalog.export import LICENSE, cell, write
from catalog.site.choices import machine_of
from catalog.site.costs import Cost
from catalog.site.leaderboard import Board, Row, Source

COLUMNS = (
    *("machine", "kind_of_machine", "checkpoint", "implementation", "precision", "computes", "version"),
    *("what", "subject", "metric", "value", "low", "high", "n", "seeds", "note"),
)
PART = 200  # records on a page


def figures(boards: list[Board], costs: list[Cost]) -> list[dict[str, Any]]:
    """One row for each figure, with COLUMNS; None where there is nothing to say."""
    found = []
    for board in boards:
        where = {
            "machine": board.machine,
            "kind_of_machine": machine_of(board.flags, board.gpu),
            "checkpoint": board.checkpoint,
        }
        for row in board.rows:
            who: dict[str, Any] = {"implementation": row.implementation, "precision": row.precision}
            who |= {"computes": row.computes, "version": row.version}
            found += [dict.fromkeys(COLUMNS) | where | who | each for each in _of_row(board, row)]
    for cost in costs:
        each = {
            **{"machine": cost.hardware, "implementation": cost.implementation, "precision": cost.precision},
            **{"what": "difference to the reference", "subject": cost.task, "metric": cost.metric},
            **{"value": cost.difference, "low": cost.low, "high": cost.high, "n": cost.n},
            **{"seeds": len(cost.seeds), "note": f"{cost.differing} answers differ; {cost.test or 'no test'}"},
        }
        found.append(dict.fromkeys(COLUMNS) | each)
    return found


def _of_row(board: Board, row: Row) -> Iterator[dict[str, Any]]:
    if row.verdict:
        note = f"{row.verdict}: {row.cause}" if row.cause else row.verdict
        yield {"what": "parity", "metric": "largest difference", "value": row.difference, "note": note}
    if row.training:
        each, note = row.training, row.training.gradients_cause
        note = f"{each.gradients}: {note}" if note else each.gradients
        yield {"what": "gradients", "metric": "largest relative difference", "value": each.difference, "note": note}
    for name, speed in row.speeds.items():
        timed = {"what": board.shapes[name].activity, "subject": name, "note": "doubtful" if speed.noisy else None}
        rates = {"value": speed.sequences_per_second, "low": speed.slowest, "high": speed.fastest}
        yield timed | {"metric": "sequences a second"} | rates
        yield timed | {"metric": "median seconds", "value": speed.p50}
        yield timed | {"metric": "99% of seconds", "value": speed.p99}
        yield timed | {"metric": "peak bytes", "value": speed.memory}
        if speed.ratio:
            middle, low, high = speed.ratio
            yield timed | {"metric": "times the reference", "value": middle, "low": low, "high": high}
    for task, score in row.scores.items():
        counted = {"low": score.low, "high": score.high, "n": score.n, "seeds": score.counted}
        flags = "; ".join(str(flag["text"]) for flag in score.flags) or None
        yield {"what": "score", "subject": task, "metric": score.metric, "value": score.value, "note": flags} | counted
    for what, missing in row.missing.items():
        yield {"what": missing.state, "subject": what, "note": missing.reason}


def write_figures(boards: list[Board], costs: list[Cost], folder: Path) -> list[Path]:
    """Write measured.csv, .json and .parquet, and return their paths."""
    rows = figures(boards, costs)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                name: "" if value is None else cell(value) if isinstance(value, str) else value
                for name, value in row.items()
            }
        )
    short = [{name: value for name, value in row.items() if value is not None} for row in rows]
    text = json.dumps({"license": LICENSE, "figures": short}, ensure_ascii=False) + "\n"
    written = [write(folder / "measured.csv", out.getvalue()), write(folder / "measured.json", text)]
    return [*written, _write_parquet(rows, folder / "measured.parquet")]


def _written(value: Any) -> Any:
    """A value as CSV has it; numbers stay numbers, since a negative one is no formula."""
    return "" if value is None else cell(value) if isinstance(value, str) else value


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    numbers = {"value": pa.float64(), "low": pa.float64(), "high": pa.float64(), "n": pa.int64(), "seeds": pa.int64()}
    schema = pa.schema([(name, numbers.get(name, pa.string())) for name in COLUMNS])
    try:
        parquet.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")
    except OSError as error:
        raise Failure(f"{path} could not be written: {error}") from error
    return path


def record_parts(boards: list[Board]) -> dict[str, list[tuple[Board, Source]]]:
    """The records of each page, by its name: ``records``, ``records-2``, and so on."""
    every = [(board, source) for board in boards for source in board.sources]
    parts = [every[start : start + PART] for start in range(0, len(every), PART)] or [[]]
    return {"records" if not number else f"records-{number + 1}": part for number, part in enumerate(parts)}
