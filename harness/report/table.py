"""A report on the terminal, as Markdown, as a picture, and as files. (The HTML page is in ``page.py``.)"""

import dataclasses
import io
import json
import re
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.table import Table
from rich.text import Text

from harness.files import write_whole
from harness.records import record
from harness.report.arrange import Report, arrange


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


def without_layers(records: list[record.Record]) -> list[str]:
    """The implementations whose hidden states were compared, but only those of the last layer."""
    compared = (each for each in records if isinstance(each, record.Parity) and each.differences)
    return [
        each.implementation["name"] for each in compared if not any("layers" in d for d in each.differences.values())
    ]


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
    for text in report.legend:
        console.print(Text(text), style="dim")
    if report.signatures:
        console.print(Text("signatures:"), style="dim")
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
    parts += [f"- {_escaped(note)}" for note in [*report.legend, *report.notes]]
    if report.signatures:
        parts += ["", "Signatures:", "", *(f"- `{signature}`" for signature in report.signatures)]
    return "\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    """On one line, and without what Markdown or HTML would take for markup."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(text.split()))


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
    """``report.html``, ``report.md``, ``report.csv``, ``report.json`` and ``report.svg``, each replaced as a whole."""
    from harness.report.csv_table import to_csv
    from harness.report.page import to_html

    report = arrange(records)
    texts = {
        "report.html": to_html(records),
        "report.md": to_markdown(report),
        "report.svg": to_svg(report),
        "report.csv": to_csv(records),
        "report.json": to_json(records),
    }
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
    return [folder / name for name in texts]
