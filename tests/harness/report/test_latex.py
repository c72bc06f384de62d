"""LaTeX for a paper: read back by a parser, and by LaTeX itself where it is installed."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pybtex.database
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker

from harness.records import provenance
from harness.records.record import Parity, Quality, Record, Speed
from harness.report.latex import citation, escaped, to_latex

Main = Callable[..., tuple[int, str, str]]
MARKUP = "a_b & 50% of #1, $x {y} ~tilde ^hat \\back <tag> | --option ± – × é"


@pytest.fixture
def records(
    quality_record: Callable[..., Quality],
    speed_record: Callable[..., Speed],
    parity_record: Callable[..., Parity],
) -> list[Record]:
    """Two seeds with a flag full of markup, parity, and a timing whose rounds differ."""
    flags = [{"split": "dev", "text": MARKUP}]
    timed = speed_record()
    for name, rounds in {"reference": [0.04, 0.05, 0.08], "transformers": [0.08, 0.08, 0.1]}.items():
        seconds = sorted(rounds)[1]
        timed.implementations[name] |= {"wall": [[each] for each in rounds], "sequences_per_second": 8 / seconds}
        timed.implementations[name]["p50"] = seconds
    timed.implementations["transformers"]["ratio"] = [0.625, 0.5, 0.8]
    scored = [quality_record("reference", "my_task", seed=seed, flags=flags, key=f"key {seed}") for seed in (42, 43)]
    return [parity_record(), *scored, timed]


def tables(latex: str) -> list[list[list[str]]]:
    """The cells of each tabular, as text, by row and column; the parser refuses what is not LaTeX."""
    nodes, _, _ = LatexWalker(latex, tolerant_parsing=False).get_latex_nodes()
    found, waiting = [], [*nodes]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, LatexEnvironmentNode) and node.environmentname == "tabular":
            body = "".join(each.latex_verbatim() for each in node.nodelist)
            rows = re.sub(r"\{[lr]+\}|\\(top|mid|bottom)rule|\\addlinespace", "", body).split("\\\\")
            found.append([[plain(cell) for cell in re.split(r"(?<!\\)&", row)] for row in rows if row.strip()])
        waiting = [*(getattr(node, "nodelist", None) or []), *waiting]
    return found


def plain(latex: str) -> str:
    """As LaTeX prints it; of two macros the parser knows less."""
    text = LatexNodes2Text().latex_to_text(latex.replace(r"\textbar{}", "|")).replace("ˆ", "^")
    return " ".join(text.split())


def test_scores_have_their_seeds_and_intervals(records: list[Record]) -> None:
    quality, _ = tables(to_latex(records))
    assert quality[0] == ["", "parity", "my_task"]
    assert quality[1] == ["", "to float64", "accuracy"]
    assert quality[2] == ["reference", "exact", "0.812 ± 0.000* (2 seeds)"]
    assert quality[4] == ["", "3e-15 fp64", "95% 0.750–0.875"]


def test_speeds_have_the_range_of_their_rounds(records: list[Record]) -> None:
    _, speed = tables(to_latex(records))
    assert speed[:2] == [["", "8 x 128", "peak"], ["", "seq/s", "memory"]]
    assert speed[2:5] == [
        ["reference", "160", "300 MiB"],
        ["", "rounds 100–200", ""],
        ["", "1.00x (1.00–1.00)", ""],
    ]
    assert speed[5:] == [
        ["transformers", "100", "300 MiB"],
        ["", "rounds 80–100", ""],
        ["", "0.62x (0.50–0.80)", ""],
    ]


def test_caption_and_small_print_say_what_a_reader_needs(records: list[Record]) -> None:
    latex = to_latex(records)
    text = plain(latex)
    assert latex.count(r"\begin{table}") == 2
    assert latex.count(r"\cite{bert-atlas}") == 2
    for fact in ("Weights: minilm-l6.", "Seeds: 42, 43.", "Torch: 2.13.0.", "Commit: 000000000000.", "2026-01-02"):
        assert fact in text
    assert r"accuracy|\allowbreak task:my\_task|\allowbreak split:dev" in latex
    assert "the 95% interval within one seed (bootstrap over examples" in text


def test_a_task_with_many_columns_goes_below_itself(quality_record: Callable[..., Quality]) -> None:
    scored: list[Record] = [quality_record("reference", f"task-{i}", key=f"key {i}") for i in range(9)]
    first, second = tables(to_latex(scored))
    assert len(first[0]) == 6
    assert len(second[0]) == 5
    assert first[2][0] == second[2][0] == "reference"


def test_only_what_there_is_gets_a_table(records: list[Record]) -> None:
    assert "tab:bert-atlas-speed" not in to_latex(records[:-1])
    assert "tab:bert-atlas-quality" not in to_latex(records[-1:])


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="'\"`"), max_size=40))
def test_ascii_is_read_back_as_it_was(text: str) -> None:
    """But for quotes, which LaTeX curls."""
    assert plain(escaped(text)) == " ".join(text.split())
    assert "--" not in escaped(text), "LaTeX would join them to a dash"


@given(st.text(max_size=40))
def test_any_text_is_latex_on_one_line(text: str) -> None:
    latex = escaped(text)
    LatexWalker(latex, tolerant_parsing=False).get_latex_nodes()
    assert len(latex.splitlines()) <= 1


def test_markup_is_escaped() -> None:
    assert plain(escaped(MARKUP)) == MARKUP


def test_the_citation_is_that_of_the_repository(records: list[Record]) -> None:
    entry = pybtex.database.parse_string(citation(records), "bibtex").entries["bert-atlas"]
    assert entry.type == "misc"
    assert entry.fields["title"] == "{BERT Atlas}"
    assert str(entry.persons["author"][0]) == "{The BERT Atlas authors}"
    assert entry.fields["year"] == "2026"
    assert "records of commit 000000000000" in entry.fields["note"]


def test_people_are_cited_by_their_names(
    records: list[Record], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = "authors:\n  - {given-names: Ada, family-names: Lovelace}\n  - {name: A & B}\n"
    (tmp_path / "CITATION.cff").write_text(f"title: T_1\nversion: 1.0\ndate-released: 2027-01-01\n{said}")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    entry = pybtex.database.parse_string(citation(records), "bibtex").entries["bert-atlas"]
    assert [str(person) for person in entry.persons["author"]] == ["Lovelace, Ada", r"{A \& B}"]
    assert entry.fields["title"] == r"{T\_1}"


def test_without_the_repository_the_tables_are_whole(
    records: list[Record], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    latex = to_latex(records)
    assert "CITATION.cff" in latex
    assert len(tables(latex)) == 2


def test_the_command_prints_it_alone(
    main: Main, put: Callable[[Record, Path], Path], records: list[Record], tmp_path: Path
) -> None:
    for number, each in enumerate(records):
        put(each, tmp_path / f"runs/{number}.json")
    code, out, _ = main("report", tmp_path / "runs", "--latex")
    assert code == 0
    assert out.startswith("% Needs ")
    assert out.endswith("\\end{table}\n")
    assert len(tables(out)) == 2


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_latex_takes_it(records: list[Record], tmp_path: Path) -> None:
    document: Any = "\\documentclass{article}\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "paper.tex").write_text(f"{document}{to_latex(records)}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
