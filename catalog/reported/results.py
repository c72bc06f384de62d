"""Reported results for people and programs: chosen by data set, printed, and written as JSON, CSV and Parquet."""

import csv
import io
import itertools
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from catalog.errors import BadInput, Failure
from catalog.export import LICENSE, cell, write
from catalog.reported.check import disagreeing
from catalog.reported.tables import Result, Table, address, results
from catalog.schema import Dataset, Entry
from catalog.values import nearest, vocabulary

COLUMNS = (
    *("dataset", "subset", "split", "metric", "model", "parameters", "value", "unit", "as_written", "setting"),
    *("statistic", "runs", "condition", "hardware", "by", "source", "seen", "url", "entry", "disputed", "via"),
)
"""Other programs may count on this order; columns that are new come last."""


def choose(entries: list[Entry], what: str | None, split: str | None) -> list[Result]:
    """The results on a data set (``mnli``), one of a benchmark (``glue/mnli``), or all of a benchmark (``glue``).

    ``test`` as a split also means its parts, such as ``test_matched``. They are sorted by data set, split and metric,
    the best first. BadInput if there is no such data set, or it has no such split.
    """
    rows = results(entries)
    if what is not None:
        chosen = _datasets(entries, what)
        rows = [row for row in rows if row.dataset in chosen]
    if split is not None:
        known = sorted({row.split for row in rows})
        rows = [row for row in rows if row.split == split or row.split.startswith(f"{split}_")]
        if known and not rows:
            raise BadInput(f"--split: no result is on {split!r}{nearest(split, known)}; there are {', '.join(known)}")
    return sorted(rows, key=order)


def order(row: Result) -> tuple[Any, ...]:
    """Sort key: by what was measured, and the best first."""
    lower = vocabulary()["metrics"][row.metric].get("better") == "lower"
    return (
        row.dataset,
        row.subset or "",
        row.split,
        row.metric,
        row.value if lower else -row.value,
        row.model,
        row.seen,
    )


def _datasets(entries: list[Entry], what: str) -> set[str]:
    sets = {each.id: each for each in entries if isinstance(each, Dataset)}
    benchmark, _, name = what.rpartition("/")
    if not benchmark and name in sets and f"{name}-benchmark" not in sets:
        return {name}
    whole = next((each for each in (benchmark or name, f"{benchmark or name}-benchmark") if each in sets), None)
    if whole is None:
        raise BadInput(f"there is no data set {what!r}{nearest(what, sets)}; `python -m catalog results` lists all")
    members = {each.id for each in sets.values() if whole in each.relates_to} | {
        each for each in sets[whole].relates_to if each in sets
    }
    if not benchmark:
        return {whole, *members}
    if name not in members:
        known = ", ".join(sorted(members))
        raise BadInput(f"{whole} has no data set {name!r}{nearest(name, members)}; it has {known}")
    return {name}


def as_row(row: Result, disputed: Iterable[Any] = ()) -> dict[str, Any]:
    """One result as values of JSON, in the order of ``COLUMNS``; scores are in percent."""
    values = {name: getattr(row, name, None) for name in COLUMNS}
    return values | {
        "value": float(row.value),
        "as_written": row.written,
        "setting": list(row.setting),
        "disputed": row.identity in disputed,
    }


def to_json(rows: list[Result]) -> str:
    """All rows as one JSON object, with the licence of the data."""
    disputed = disagreeing(rows)
    listed = [as_row(row, disputed) for row in rows]
    return json.dumps({"license": LICENSE, "count": len(rows), "results": listed}, ensure_ascii=False, indent=1) + "\n"


def to_csv(rows: list[Result]) -> str:
    """One line for each row; settings are joined with "; ", and text is as ``export.cell`` writes it."""
    disputed, out = disagreeing(rows), io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = {name: value for name, value in as_row(row, disputed).items() if value is not None}
        texts = {name: cell(value) for name, value in values.items() if isinstance(value, str | list)}
        numbers = {"value": f"{row.value:f}", "as_written": row.written}
        writer.writerow(values | texts | numbers)
    return out.getvalue()


def write_parquet(rows: list[Result], path: Path) -> Path:
    """All rows as a Parquet file. Failure if it cannot be written, or pyarrow is not installed."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise Failure("Parquet needs the package pyarrow: pip install pyarrow") from None
    types = {"value": arrow.float64(), "runs": arrow.int32(), "disputed": arrow.bool_()}
    schema = arrow.schema(
        [
            (name, arrow.list_(arrow.string()) if name == "setting" else types.get(name, arrow.string()))
            for name in COLUMNS
        ],
        metadata={"license": LICENSE},
    )
    disputed = disagreeing(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.Table.from_pylist([as_row(row, disputed) for row in rows], schema), path)
    except OSError as error:
        raise Failure(f"{path} could not be written: {error.strerror}") from error
    return path


def export(entries: list[Entry], folder: Path) -> list[Path]:
    """Write all results into ``folder`` as ``results.json``, ``results.csv`` and ``results.parquet``."""
    rows = choose(entries, None, None)
    return [
        write(folder / "results.json", to_json(rows)),
        write(folder / "results.csv", "\ufeff" + to_csv(rows)),  # the byte order mark is for Excel
        write_parquet(rows, folder / "results.parquet"),
    ]


def to_text(rows: list[Result]) -> str:
    """Tables for a terminal: one for each data set, split and metric, so that none mixes dev with test."""
    disputed, parts = disagreeing(rows), []
    for what, group in itertools.groupby(rows, key=lambda row: row.what):
        dataset, subset, split, metric = what
        name = vocabulary()["metrics"][metric]["en"]
        parts.append(f"{dataset}{f' {subset}' if subset else ''}, {split}, {name}")
        found = list(group)
        wide = max(len(row.model) for row in found)
        for row in found:
            notes = "; ".join([*remarks(row), row.source, row.seen, *([f"read in {row.via}"] if row.via else [])])
            mark = "*" if row.identity in disputed else " "
            parts.append(f"  {shown(row):>9}{mark} {row.model:<{wide}}  {notes}")
        parts.append("")
    if disputed:
        parts.append("* sources disagree")
    return "\n".join(parts).rstrip()


def overview(rows: list[Result]) -> str:
    """How many results there are on each data set, and on which splits."""
    lines = []
    for dataset, group in itertools.groupby(rows, key=lambda row: row.dataset):
        found = list(group)
        splits = ", ".join(sorted({row.split for row in found}))
        lines.append(f"{len(found):>6}  {dataset:<28} {splits}")
    sets = len(lines)
    return "\n".join([*lines, f"{len(rows):>6}  on {sets} data sets"])


def shown(row: Result) -> str:
    """The figure with its unit, scores in percent: ``84.6``, ``1416 sequences/s``."""
    return f"{row.value:f}" if row.unit == "percent" else f"{row.written} {row.unit}".strip()


def remarks(row: Result, language: str = "en") -> list[str]:
    """What distinguishes the figure from that of one model, fine-tuned once on the task alone."""
    words = {
        "best": {"en": "best", "zh": "最好成绩"},
        "mean": {"en": "mean", "zh": "平均"},
        "median": {"en": "median", "zh": "中位数"},
    }
    found = [vocabulary()["settings"][each][language] for each in row.setting]
    if row.statistic or (row.runs or 1) > 1:
        kind = words[row.statistic or "mean"][language]
        many = row.runs or 1
        of_runs = {"en": f"{kind} of {many} runs", "zh": f"{many} 次运行{kind}"}[language]
        found.append(of_runs if many > 1 else kind)
    return [*found, *filter(None, (row.condition, row.hardware))]


def anchors(entries: Iterable[Entry]) -> str:
    """The tables that name weights of the harness, as the JSON that it compares its own results with.

    The harness imports nothing of the catalog; it reads this file, which is committed.
    """
    found = [
        {
            "source": table.source,
            "url": address(table),
            "checkpoints": table.weights,
            "protocol": _protocol(table),
            "figures": [
                {"dataset": f.dataset, "split": f.split, "metric": f.metric, "value": float(_fraction(table, f.value))}
                for f in table.figures
            ],
        }
        for entry in entries
        for table in getattr(entry, "reported", [])
        if table.weights
    ]
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def _protocol(table: Table) -> dict[str, Any]:
    return table.recipe.model_dump(exclude_none=True) if table.recipe else {}


def _fraction(table: Table, value: str) -> Decimal:
    return Decimal(value).scaleb(-2 if table.unit == "percent" else 0)
