"""Titles against a local server that answers as arXiv does."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog.add import fetch, titles
from catalog.add.sources import Endpoints
from catalog.add.titles import compare, similarity
from catalog.cli import app
from catalog.errors import Failure, Problem
from tests.catalog.conftest import Write
from tests.harness.server import Fault, Server

PATH = "/api/query"


def feed(**papers: str) -> bytes:
    """An answer with these titles, by id written as ``_1810_04805``; the newest version is named, as arXiv does."""
    entries = "".join(
        f"<entry><id>http://arxiv.org/abs/{name[1:].replace('_', '.')}v3</id><title>{title}</title></entry>"
        for name, title in papers.items()
    )
    return f'<feed xmlns="http://www.w3.org/2005/Atom">{entries}</feed>'.encode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "WAITS", (0.01, 0.02))
    monkeypatch.setattr(titles, "PAUSE", 0.2)
    with Server() as running:
        yield running


def asked(server: Server, entries: Path) -> list[str]:
    return [str(problem) for problem in compare(entries, Endpoints(arxiv=server.address))]


def test_another_paper_under_the_id_is_found(server: Server, entries: Path, write: Write) -> None:
    write("bert")  # "Masked words, a study"
    file = write("albert", arxiv='"1909.11942"', title="'ALBERT: A Lite BERT'")
    server.files[PATH] = feed(_1810_04805="Masked Words -\n  a study", _1909_11942="On the spectra of black holes")
    (problem,) = asked(server, entries)
    assert problem.startswith(f"{file}:3: title: 'ALBERT: A Lite BERT' is 'On the spectra of black holes' on arXiv")


def test_a_paper_that_arxiv_does_not_know_is_named(server: Server, entries: Path, write: Write) -> None:
    write("bert")
    file = write("albert", arxiv='"1909.11942"', title="'ALBERT: A Lite BERT'")
    server.files[PATH] = feed(_1810_04805="Masked words, a study")
    assert asked(server, entries) == [f"{file}:6: arxiv: arXiv has no '1909.11942'"]


def test_many_papers_are_asked_for_in_few_requests_slowly(server: Server, entries: Path, write: Write) -> None:
    papers = {f"_2001_{n:05}": f"Paper of the number {n * 1234567}" for n in range(1, 121)}
    for name, title in papers.items():
        write(name[1:].replace("_", "-"), arxiv=f'"{name[1:].replace("_", ".")}"', title=title, year="2020")
    write("without", arxiv=None, doi="10.1000/1")
    server.files[PATH] = feed(**papers)
    started = time.monotonic()
    assert asked(server, entries) == []
    assert len(server.requests) == 3
    assert time.monotonic() - started >= 2 * titles.PAUSE


@pytest.mark.parametrize("answer", [b"<feed", feed(), b"<!DOCTYPE x [<!ENTITY a 'b'>]><feed/>"])
def test_an_answer_that_says_nothing_accuses_nobody(answer: bytes, server: Server, entries: Path, write: Write) -> None:
    write("bert")
    server.files[PATH] = answer
    with pytest.raises(Failure, match="not as documented"):
        asked(server, entries)


def test_a_busy_server_is_asked_again(server: Server, entries: Path, write: Write) -> None:
    write("bert")
    server.files[PATH] = feed(_1810_04805="Masked words, a study")
    server.faults[PATH] = [Fault(503)]
    assert asked(server, entries) == []


@pytest.mark.parametrize("problems", [[], [Problem(Path("bert.yaml"), 3, "title", "is another")]])
def test_the_command_exits_1_where_a_title_differs(
    problems: list[Problem], monkeypatch: pytest.MonkeyPatch, entries: Path
) -> None:
    monkeypatch.setattr(titles, "compare", lambda folder: problems)
    done = CliRunner().invoke(app, ["titles", "--entries", str(entries)])
    assert done.exit_code == len(problems)
    assert done.output == ("bert.yaml:3: title: is another\n" if problems else "all titles agree with arXiv\n")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("BERT: Pre-training of Deep Transformers", "BERT – pre-training of deep transformers.", True),
        ("RoBERTa: A Robustly Optimized BERT Approach", "RoBERTa: A Robustly Optimised BERT Approach", True),
        ("RoBERTa: A Robustly Optimized BERT Approach", "DeBERTa: Decoding-enhanced BERT", False),
        ("", "BERT", False),
    ],
)
def test_titles_are_compared_by_their_words(one: str, other: str, same: bool) -> None:
    assert (similarity(one, other) >= titles.ALIKE) is same
