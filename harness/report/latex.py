"""Records as tables for a paper: LaTeX, with all that a reader needs to judge the figures and to cite them."""

import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import yaml
from pylatexenc.latexencode import unicode_to_latex

from harness.printable import printable
from harness.records import provenance, record
from harness.report.arrange import Report, arrange

KEY, COLUMNS = "bert-atlas", 5  # of the BibTeX entry; more columns go below each other
# As wide as the text at most; smaller tables keep their size.
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def to_latex(records: list[record.Record]) -> str:
    """One table of parity and quality, one of speed, each where there is any; above them the BibTeX entry.

    Speeds and their ratios have the range of the rounds, scores their 95% interval and the spread of the seeds.
    """
    timed: list[record.Record] = [each for each in records if isinstance(each, record.Speed)]
    others = [each for each in records if not isinstance(each, record.Speed)]
    parts = [
        "% Needs \\usepackage{booktabs,graphicx}. For the references:",
        *(f"% {line}" for line in citation(records).splitlines()),
    ]
    if others:
        parts.append(_table("quality", "Parity and scores of BERT implementations", others))
    if timed:
        parts.append(_table("speed", "Speed of BERT implementations, timed in turn", timed))
    return "\n".join(parts)


def citation(records: Iterable[record.Record]) -> str:
    """The BibTeX entry of BERT Atlas, as its CITATION.cff says, with the commits of these records."""
    file = provenance.ROOT / "CITATION.cff"
    if not file.is_file():  # installed as a package
        return "(see CITATION.cff in the repository of BERT Atlas)"
    said: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    commits = ", ".join(sorted({str(each.commit)[:12] for each in records if each.commit}))
    fields = {
        "title": f"{{{escaped(said['title'])}}}",
        "author": " and ".join(map(_author, said["authors"])),
        "year": str(said["date-released"])[:4],
        "note": f"Version {escaped(str(said['version']))}" + (f"; records of commit {commits}" if commits else ""),
    }
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@misc{{{KEY},\n{lines}}}"


def _author(said: dict[str, str]) -> str:
    """A person as ``family, given``; the braces keep the name of a group whole."""
    if "name" in said:
        return f"{{{escaped(said['name'])}}}"
    return escaped(", ".join(said[part] for part in ("family-names", "given-names") if part in said))


def escaped(text: str) -> str:
    """The text as LaTeX prints it: letters that are markup escaped, on one line, without ligatures of hyphens."""
    line = " ".join(printable(text).split())
    latex = unicode_to_latex(line, unknown_char_policy="keep", unknown_char_warning=False)
    return re.sub("-(?=-)", "-{}", latex.replace("|", r"\textbar{}"))


def _table(name: str, what: str, records: list[record.Record]) -> str:
    report = arrange(records, ranges=True)
    starts = range(0, len(report.columns), COLUMNS)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(what)}, measured with BERT Atlas~\cite{{{KEY}}}. {escaped(_circumstances(records))}}}",
        rf"  \label{{tab:{KEY}-{name}}}",
        *(line for start in starts for line in _tabular(report, report.columns[start : start + COLUMNS])),
        *_small_print(report),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tabular(report: Report, columns: list[str]) -> list[str]:
    """These columns, of the implementations that have something in any of them."""
    heads = [[""], *(column.split("\n") for column in columns)]
    bodies = [
        [[name], *(cells.get(column, ["–"]) for column in columns)]
        for name, cells in report.rows.items()
        if not cells.keys().isdisjoint(columns)
    ]
    spaced = [line for body in bodies for line in (r"    \addlinespace", *_rows(body))][1:]
    return [
        rf"  {FIT}",
        rf"  \begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"    \toprule",
        *_rows(heads),
        r"    \midrule",
        *spaced,
        r"    \bottomrule",
        r"  \end{tabular}}\par\medskip",
    ]


def _rows(cells: list[list[str]]) -> list[str]:
    """Cells of several lines, side by side: as many rows as the fullest has lines."""
    lines = zip_longest(*cells, fillvalue="")
    return [rf"    {' & '.join(escaped(_dashes(text)) for text in line)} \\" for line in lines]


def _dashes(text: str) -> str:
    """With a dash between numbers."""
    return re.sub(r"(?<=\d)-(?=\d)", "–", text)


def _circumstances(records: list[record.Record]) -> str:
    """What all figures share, or what there is of it: names of rows and columns say only what differs."""
    seeds = sorted({each.seed for each in records if isinstance(each, record.Quality)})
    found = {
        "Weights": [each.checkpoint["name"] for each in records],
        "Precision": [each.precision["resolved"] for each in records if not isinstance(each, record.Parity)],
        "Machine": [record.hardware(each) for each in records],
        "Seeds" if len(seeds) > 1 else "Seed": map(str, seeds),
        "Torch": [each.versions["torch"] for each in records if "torch" in each.versions],
        "Commit": [str(each.commit)[:12] for each in records if each.commit],
        "Measured": sorted(each.started[:10] for each in records),
    }
    said = {name: list(dict.fromkeys(values)) for name, values in found.items()}
    return " ".join(f"{name}: {', '.join(values)}." for name, values in said.items() if values)


def _small_print(report: Report) -> list[str]:
    """How to read the figures, what must be known of them, and the signatures of the metrics."""
    lines = [*report.legend, *report.notes]
    if any("rounds " in line for cells in report.rows.values() for cell in cells.values() for line in cell):
        lines.insert(
            0,
            "x: times the speed of the reference, the median over the rounds; in brackets and under rounds: the range",
        )
    signed = [rf"\texttt{{{_breakable(escaped(each))}}}" for each in report.signatures]
    if not lines and not signed:
        return []
    return [
        r"  \par\smallskip\raggedright\scriptsize",
        *(f"  {escaped(line)}.\\par" for line in lines),
        *([f"  Signatures: {'; '.join(signed)}.\\par"] if signed else []),
    ]


def _breakable(signature: str) -> str:
    """With places where a line may end; a typewriter font has the bar itself."""
    return signature.replace(r"\textbar{}", r"|\allowbreak ")
