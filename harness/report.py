"""Records to tables: on the terminal, as Markdown, CSV and JSON, and as a picture."""

import csv
import dataclasses
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.table import Table
from rich.text import Text

from harness import record
from harness.errors import Failure

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


@dataclass(frozen=True)
class Report:
    """Records, arranged: rows are implementations, columns what was measured of them."""

    columns: list[str]
    rows: dict[str, dict[str, list[str]]]  # by implementation and column: the lines of the cell
    notes: list[str]  # flags, failures, and how to read the table
    signatures: list[str]  # of the metrics shown


def arrange(records: list[record.Record]) -> Report:
    """One row for each implementation: parity, main metric of every task and split, speed."""
    rows: dict[str, dict[str, list[str]]] = {}
    notes: list[str] = []
    signatures: dict[str, None] = {}
    latest = _latest(records)
    varied = _varied(latest)
    for each in latest:
        if isinstance(each, record.Parity):
            _add_parity(rows, notes, each, varied)
    for each in latest:
        if isinstance(each, record.Quality):
            _add_quality(rows, notes, signatures, each, varied)
    for each in sorted(latest, key=lambda each: each.started):
        if isinstance(each, record.Speed):
            _add_speed(rows, notes, each, varied)
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    return Report(columns, rows, list(dict.fromkeys(notes)), list(signatures))


def _latest(records: list[record.Record]) -> list[record.Record]:
    """Of records that measured the same thing, the one that was started last; in the order given."""
    found: dict[tuple[Any, ...], record.Record] = {}
    for each in records:
        if isinstance(each, record.Speed):
            same: tuple[Any, ...] = ("speed", each.shape["name"], *sorted(each.implementations))
        elif isinstance(each, record.Quality):
            same = ("quality", each.implementation["name"], each.task["name"], each.task["context"], each.seed)
        else:
            assert isinstance(each, record.Parity)
            same = ("parity", each.implementation["name"])
        same = (*same, each.checkpoint["sha256"], record.hardware(each), each.precision["resolved"])
        if same not in found or found[same].started <= each.started:
            found[same] = each
    return list(found.values())


def _varied(records: list[record.Record]) -> set[str]:
    """What is not the same in all records, so that names of rows, columns and cells must say it."""
    found = {
        "checkpoint": {each.checkpoint["name"] for each in records},
        "hardware": {record.hardware(each) for each in records},
        "precision": {each.precision["resolved"] for each in records if not isinstance(each, record.Parity)},
        "seed": {each.seed for each in records if isinstance(each, record.Quality)},
    }
    return {name for name, values in found.items() if len(values) > 1}


def _row(name: str, each: record.Record, varied: set[str]) -> str:
    said = {"checkpoint": each.checkpoint["name"], "hardware": record.hardware(each)}
    return ", ".join([name, *(value for key, value in said.items() if key in varied)])


def _column(subject: str, each: record.Record, varied: set[str]) -> str:
    return f"{subject}, {each.precision['resolved']}" if "precision" in varied else subject


def _cell(rows: dict[str, dict[str, list[str]]], name: str, column: str, *lines: str) -> None:
    rows.setdefault(name, {}).setdefault(column, []).extend(lines)


def _add_parity(
    rows: dict[str, dict[str, list[str]]], notes: list[str], parity: record.Parity, varied: set[str]
) -> None:
    name, column = _row(parity.implementation["name"], parity, varied), "parity\nto float64"
    if parity.state != "ok":
        _cell(rows, name, column, parity.state)
        notes.append(f"{name}, parity {parity.state}: {parity.reason}")
        return
    single, double = parity.differences["fp32"], parity.differences.get("fp64")
    _cell(rows, name, column, parity.verdict, f"{single['max']:.0e} {parity.implementation.get('precision', 'fp32')}")
    if double is not None:
        _cell(rows, name, column, f"{double['max']:.0e} fp64")
    if parity.tokenizer:
        same, all_of_them = parity.tokenizer["equal"], parity.tokenizer["strings"]
        _cell(rows, name, "own\ntokenizer", f"{same} of {all_of_them}")
        if same < all_of_them:
            notes.append(f"{name}, own tokenizer: otherwise than ours {', '.join(parity.tokenizer['different'])}")
    if parity.diagnosis:
        notes.append(f"{name} {parity.verdict}: {parity.diagnosis['sentence']}")


def layer_tables(records: list[record.Record]) -> list[Table]:
    """For each implementation that shows its layers, how far each is from the reference in float64."""
    tables = []
    for each in records:
        if not isinstance(each, record.Parity):
            continue
        shown = {p: d["layers"] for p, d in each.differences.items() if "layers" in d}
        if not shown:
            continue
        table = Table("after", title=f"{each.implementation['name']}, by layer", title_justify="left")
        for precision in shown:
            for what in ("largest", "mean", "cosine"):
                table.add_column(f"{what}\n{precision}", justify="right")
        for number in range(len(next(iter(shown.values())))):
            cells = [
                text
                for layers in shown.values()
                for text in (
                    f"{layers[number]['max']:.1e}",
                    f"{layers[number]['mean']:.1e}",
                    f"{layers[number]['cosine']:.6f}",
                )
            ]
            table.add_row("embeddings" if number == 0 else f"layer {number}", *cells)
        tables.append(table)
    return tables


def _add_quality(
    rows: dict[str, dict[str, list[str]]],
    notes: list[str],
    signatures: dict[str, None],
    quality: record.Quality,
    varied: set[str],
) -> None:
    name = _row(quality.implementation["name"], quality, varied)
    whole_documents = quality.task["kind"] == "tagging" and quality.task["context"] == "document"
    subject = quality.task["name"] + (", document" if whole_documents else "")
    task = _column(subject, quality, varied)
    if quality.state != "ok":
        _cell(rows, name, task, quality.state)
        notes.append(f"{name} on {task}, seed {quality.seed}, {quality.state}: {quality.reason}")
        return
    seed = f" s{quality.seed}" if "seed" in varied else ""
    for metric in _main_metrics(quality):
        split = "" if metric["split"] == "dev" else f", {metric['split']}"
        mark = "*" if any(flag.startswith(f"{metric['split']}:") for flag in quality.flags) else ""
        interval = f"{metric['low']:.3f}-{metric['high']:.3f}"
        column = f"{task}{split}\n{METRIC_NAMES[metric['name']]}"
        _cell(rows, name, column, f"{metric['value']:.3f}{mark}{seed}", interval)
        signatures[metric["signature"]] = None
    for flag in quality.flags:
        notes.append(f"* {name} on {task}, seed {quality.seed}: {flag}")
    if quality.limit:
        notes.append(f"limited to {quality.limit} examples a split: not a result, and cannot be published")


def _main_metrics(quality: record.Quality) -> list[dict[str, Any]]:
    """The first metric of each split."""
    first: dict[str, dict[str, Any]] = {}
    for metric in quality.metrics:
        first.setdefault(metric["split"], metric)
    return list(first.values())


def _add_speed(rows: dict[str, dict[str, list[str]]], notes: list[str], speed: record.Speed, varied: set[str]) -> None:
    """A later comparison's figures take the place of an earlier one's: ratios hold within one alone."""
    shape = _column(speed.shape["name"], speed, varied)
    for implementation, figures in speed.implementations.items():
        name = _row(implementation, speed, varied)
        cells = rows.setdefault(name, {})
        if figures["state"] != "ok":
            cells["speed"] = [figures["state"]]
            notes.append(f"{name}, timing {figures['state']}: {figures['reason']}")
            continue
        ratio = [f"{figures['ratio'][0]:.2f}x"] if "ratio" in figures else []
        if speed.shape["latency"]:
            percentiles = [f"{1000 * figures[p]:.1f}" for p in ("p50", "p90", "p99")]
            cells[f"{shape}\nms p50/90/99"] = [" / ".join(percentiles), *ratio]
        else:
            unit = "seq/s, own lengths" if speed.shape["own_lengths"] else "seq/s"
            cells[f"{shape}\n{unit}"] = [f"{figures['sequences_per_second']:.0f}", *ratio]
        memory = figures["memory"]["gpu"] or figures["memory"]["resident"]
        cells.pop("peak\nmemory", None)  # of all shapes so far: the last says it
        cells["peak\nmemory"] = [f"{memory / 2**20:.0f} MiB"]
    if speed.load.get("noisy"):
        notes.append(f"timing {shape}: the machine was busy with other work; {_load(speed.load)}")


def _load(load: dict[str, Any]) -> str:
    steal = "" if load.get("steal") is None else f"{load['steal']:.1%} of its time was taken away, "
    slower = f", the reference took {load['quiet']:.2f} times its quiet time" if "quiet" in load else ""
    return f"{steal}{load['others']:.1%} went to other processes{slower}"


def print_report(report: Report, console: Console) -> None:
    """The tables, then what a reader must know: quality and parity in one, speed below it if both do not fit."""
    for columns in _split_to_fit(report, console.width):
        table = Table(show_lines=True, header_style="bold", title_justify="left")
        table.add_column("implementation")
        for column in columns:
            table.add_column(Text(column), justify="right")
        for name, cells in report.rows.items():
            table.add_row(Text(name), *(_styled(cells.get(column, ["-"])) for column in columns))
        console.print(table)
    for note in report.notes:
        console.print(Text(note), style="yellow" if note.startswith("*") else None)
    if report.signatures:
        console.print(Text("under each score its 95% interval; signatures:"), style="dim")
        for signature in report.signatures:
            console.print(Text(f"  {signature}"), style="dim", soft_wrap=True)


def _styled(lines: list[str]) -> Text:
    text = Text(lines[0], style="red" if lines[0] in ("failed", "skipped", "differs") else "bold")
    for line in lines[1:]:
        text.append(f"\n{line}", style="not bold dim")
    return text


def _split_to_fit(report: Report, width: int) -> list[list[str]]:
    """Columns for one table after another, as many in each as the terminal has room for."""
    room = width - 4 - max([14, *(len(name) for name in report.rows)])
    tables: list[list[str]] = [[]]
    used = 0
    for column in report.columns:
        lines = [*column.split("\n"), *(line for cells in report.rows.values() for line in cells.get(column, []))]
        size = 3 + max(map(len, lines))
        if used + size > room and tables[-1]:
            tables.append([])
            used = 0
        tables[-1].append(column)
        used += size
    return tables


def to_markdown(report: Report) -> str:
    """The same as one Markdown table with the notes below."""

    def line(cells: list[list[str]]) -> str:
        return f"| {' | '.join('<br>'.join(map(_escaped, lines)) for lines in cells)} |"

    rows = [
        line([[name], *(cells.get(column, ["-"]) for column in report.columns)]) for name, cells in report.rows.items()
    ]
    header = line([["implementation"], *(column.split("\n") for column in report.columns)])
    parts = [header, f"| --- |{' ---: |' * len(report.columns)}", *rows, ""]
    parts += [f"- {_escaped(note)}" for note in report.notes]
    parts += ["", "Signatures:", "", *(f"- `{signature}`" for signature in report.signatures)]
    return "\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    """On one line, and without what Markdown or HTML would take for markup."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(text.split()))


def to_csv(records: list[record.Record]) -> str:
    """Long form: one line for each number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["kind", "implementation", "subject", "split", "seed", "name", "value", "low", "high", "state"])
    for each in records:
        writer.writerows(_csv_lines(each))
    return out.getvalue()


def _csv_lines(each: record.Record) -> list[list[Any]]:
    if isinstance(each, record.Quality):
        head: list[Any] = ["quality", each.implementation["name"], each.task["name"]]
        if each.state != "ok":
            return [[*head, "", each.seed, "", "", "", "", each.state]]
        return [
            [*head, m["split"], each.seed, m["name"], m["value"], m["low"], m["high"], each.state] for m in each.metrics
        ]
    if isinstance(each, record.Parity):
        head = ["parity", each.implementation["name"], each.checkpoint["name"], "", ""]
        lines = [[*head, f"max_{p}", d["max"], "", "", each.state] for p, d in each.differences.items()]
        return lines or [[*head, "", "", "", "", each.state]]
    assert isinstance(each, record.Speed)
    lines = []
    for name, figures in each.implementations.items():
        head = ["speed", name, each.shape["name"], "", ""]
        if figures["state"] != "ok":
            lines.append([*head, "", "", "", "", figures["state"]])
            continue
        names = ("sequences_per_second", "tokens_per_second", "p50", "p90", "p99")
        lines += [[*head, key, figures[key], "", "", "ok"] for key in names]
    return lines


def to_json(records: list[record.Record]) -> str:
    """All records as one list."""
    return json.dumps([{"kind": each.kind, **dataclasses.asdict(each)} for each in records], indent=1) + "\n"


def to_svg(report: Report) -> str:
    """The tables as a picture of a terminal, in fonts that the reader has."""
    console = Console(record=True, width=150, file=io.StringIO())
    print_report(dataclasses.replace(report, signatures=[]), console)
    no_foreign_fonts = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="python -m harness report", code_format=no_foreign_fonts)


def write_report(records: list[record.Record], folder: Path) -> list[Path]:
    """``report.md``, ``report.csv``, ``report.json`` and ``report.svg``."""
    report = arrange(records)
    texts = {
        "report.md": to_markdown(report),
        "report.svg": to_svg(report),
        "report.csv": to_csv(records),
        "report.json": to_json(records),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{folder}: the report could not be written: {error.strerror}") from error
    return [folder / name for name in texts]
