"""What is wrong between entries, and how fast that is found."""

import datetime
import re
import time
from pathlib import Path

import pytest
import yaml

from catalog.check import check, github_annotation
from catalog.errors import Problem
from catalog.load import ENTRIES
from tests.catalog.conftest import Write

LONG = "Distilling the Knowledge of a Large Encoder into Small Ones"


def said(entries: Path) -> list[str]:
    return [str(problem).removeprefix(f"{entries}/") for problem in check(entries)]


def test_the_real_catalog_has_no_problems() -> None:
    assert [str(problem) for problem in check(ENTRIES)] == []


def test_two_files_with_one_id(entries: Path, write: Write) -> None:
    write("bert")
    write("bert", "model")
    assert said(entries) == ["papers/bert.yaml:1: id: the id 'bert' is already in models/bert.yaml"]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"arxiv": "1810.04805"}, {"arxiv": "'1810.04805'"}, "6: arxiv: the arXiv id 1810.04805 is already in a.yaml"),
        (
            {"arxiv": "1810.04805"},
            {"arxiv": None, "url": "https://arxiv.org/pdf/1810.04805v2"},
            "6: url: the arXiv id 1810.04805 is already in a.yaml",
        ),
        (
            {"arxiv": None, "doi": "10.18653/v1/N19-1423"},
            {"arxiv": None, "doi": "10.18653/V1/n19-1423"},
            "6: doi: the DOI 10.18653/v1/n19-1423 is already in a.yaml",
        ),
        (
            {"arxiv": None, "doi": "10.18653/v1/N19-1423"},
            {"arxiv": None, "url": "https://doi.org/10.18653/v1/N19-1423"},
            "6: url: the DOI 10.18653/v1/n19-1423 is already in a.yaml",
        ),
        (
            {"arxiv": None, "url": "http://www.example.org/a/"},
            {"arxiv": None, "url": "https://example.org/a#intro"},
            "6: url: the address example.org/a is already in a.yaml",
        ),
    ],
)
def test_two_entries_of_one_paper(
    first: dict[str, str | None], second: dict[str, str | None], message: str, entries: Path, write: Write
) -> None:
    write("a", title="The first title", **first)
    write("b", title="Another name altogether", **second)
    assert said(entries) == [f"papers/b.yaml:{message}"]


@pytest.mark.parametrize(
    ("paper", "article", "problem"),
    [
        (
            {"doi": "10.18653/v1/N19-1423"},
            "https://aclanthology.org/N19-1423.pdf",
            "6: doi: the DOI 10.18653/v1/n19-1423",
        ),
        (
            {"arxiv": "1810.04805"},
            "https://huggingface.co/papers/1810.04805",
            "6: arxiv: the arXiv id 1810.04805",
        ),
        (
            {"url": "https://openreview.net/forum?id=SyxS0T4tvS"},
            "https://openreview.net/pdf?id=SyxS0T4tvS",
            "6: url: the OpenReview id SyxS0T4tvS",
        ),
    ],
)
def test_one_work_in_two_kinds(paper: dict[str, str], article: str, problem: str, entries: Path, write: Write) -> None:
    fields: dict[str, str | None] = {"arxiv": None, **paper}
    write("a", title="The first title", **fields)
    write("b", "article", title="Another name altogether", url=article)
    assert said(entries) == [f"papers/a.yaml:{problem} is already in articles/b.yaml"]


def test_an_entry_that_names_two_works(entries: Path, write: Write) -> None:
    write("a", arxiv="1810.04805", url="https://arxiv.org/abs/1907.11692")
    assert said(entries) == ["papers/a.yaml:7: url: names the arXiv id 1907.11692, another field 1810.04805"]


def test_an_address_that_was_renamed_to_one_of_another_entry(entries: Path, write: Write) -> None:
    write("a", "repository", title="old", url="https://github.com/a/old", renamed_to="https://github.com/a/new")
    write("b", "repository", title="new", url="https://github.com/a/new")
    assert said(entries) == ["repositories/b.yaml:6: url: the repository github.com/a/new is already in a.yaml"]
    write("b", "repository", title="new", url="https://github.com/a/new", supersedes="a")
    assert said(entries) == []


def test_one_title_in_two_kinds_is_asked_about(entries: Path, write: Write) -> None:
    write("a", title="'Masked Words: a study'")
    write("b", "article", title="Masked words, a study")
    assert said(entries) == [
        "papers/a.yaml:3: title: nearly the title of articles/b.yaml; if they are two things, name one in the "
        "`relates_to` of the other"
    ]
    write("b", "article", title="Masked words, a study", relates_to="[a]")
    assert said(entries) == []


def test_a_paper_and_its_code_may_have_one_title(entries: Path, write: Write) -> None:
    write("a", title="MaskedBERT", code="[https://github.com/someone/masked]")
    write("b", "repository", title="MaskedBERT", url="https://github.com/Someone/masked.git", implements="[a]")
    write("c", "model", title="MaskedBERT", implements="[a]", relates_to="[b]")
    assert said(entries) == []


def test_two_entries_of_one_repository(entries: Path, write: Write) -> None:
    write("a", "repository", url="https://github.com/Google-Research/BERT")
    write("b", "repository", url="https://github.com/google-research/bert.git")
    assert said(entries) == [
        "repositories/b.yaml:6: url: the repository github.com/google-research/bert is already in a.yaml"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (LONG, LONG.upper()),
        (LONG, LONG.replace("Knowledge of a", "Knowledge of the")),
        (LONG, LONG.replace("Distilling", "Distiling")),
        (LONG, LONG.replace("Encoder", "Encoder -")),
        ("Étude des modèles préentraînés", "Etude des modeles preentraines"),
        ("自然语言处理中的预训练技术发展史", "《自然语言处理中的预训练技术发展史》"),
        ("自然语言处理中的预训练技术发展史", "自然语言处理的预训练技术发展史"),
    ],
)
def test_titles_that_are_nearly_the_same(first: str, second: str, entries: Path, write: Write) -> None:
    write("a", title=f'"{first}"', arxiv="'1801.00001'")
    write("b", title=f'"{second}"', arxiv="'1801.00002'")
    assert said(entries) == [
        "papers/b.yaml:3: title: nearly the title of a.yaml; if they are two things, name one in the `relates_to` of "
        "the other"
    ]


def test_titles_of_two_things(entries: Path, write: Write) -> None:
    write("a", title=LONG, arxiv="'1801.00001'")
    write("b", title=LONG, arxiv="'1801.00002'", relates_to="[a]")  # known to be two things
    write("c", title="Notes on pre-training for beginners part 1", arxiv="'1801.00003'")
    write("d", title="Notes on pre-training for beginners part 2", arxiv="'1801.00004'")
    write("part-i", title="Desingularising deep language models, part I", arxiv="'1801.00007'")
    write("part-ii", title="Desingularising deep language models, part II", arxiv="'1801.00008'")
    write("e", title="BERT for Chinese", arxiv="'1801.00005'")
    write("f", title="BERT for Czech", arxiv="'1801.00006'")
    write("g", "repository", title="BERT-tensorflow", url="https://github.com/one/BERT-tensorflow")
    write("h", "repository", title="BERT-tensorflow", url="https://github.com/two/BERT-tensorflow")
    write("i", "model", title="chinese roberta wwm ext base", url="https://example.org/i")
    write("j", "model", title="chinese roberta wwm ext large", url="https://example.org/j")
    assert said(entries) == []


def test_ids_that_lead_nowhere(entries: Path, write: Write) -> None:
    write("roberta")
    write("code", "repository", implements="[robrta, glue]", relates_to="[nothing-like-it, code]", supersedes="old")
    write("glue", "dataset")
    assert said(entries) == [
        "repositories/code.yaml:7: implements[0]: there is no entry 'robrta' - did you mean 'roberta'?",
        "repositories/code.yaml:7: implements[1]: 'glue' is a dataset; a paper or model is implemented",
        "repositories/code.yaml:8: relates_to[0]: there is no entry 'nothing-like-it'",
        "repositories/code.yaml:8: relates_to[1]: points to itself; remove it",
        "repositories/code.yaml:9: supersedes: there is no entry 'old'",
    ]


def test_an_id_of_a_broken_entry_leads_somewhere(entries: Path, write: Write) -> None:
    write("bert", year="x")
    write("code", "repository", implements="[bert]")
    assert said(entries) == ["papers/bert.yaml:4: year: 'x' is not a year of four digits"]


def test_two_entries_of_one_item_of_the_list(entries: Path, write: Write) -> None:
    write("a", "article", seed="'2.1'")
    write("b", "repository", seed="'2.1'")
    assert said(entries) == [
        "repositories/b.yaml:7: seed: the item of the 2018 list '2.1' is already in articles/a.yaml"
    ]


def test_dates_to_come(entries: Path, write: Write) -> None:
    today = datetime.date.today()
    write("a", "repository", year=f"{today.year + 2}", last_commit=f"{today.year + 2}-01-01", added=f"{today}")
    assert said(entries) == [
        f"repositories/a.yaml:4: year: {today.year + 2} is in the future",
        f"repositories/a.yaml:7: last_commit: {today.year + 2}-01-01 is in the future",
    ]


def test_annotations_cannot_be_broken_out_of() -> None:
    problem = Problem(Path("papers/a,b:c\n::warning::.yaml"), 3, "title", "100%\r\n::error::'x'")
    assert github_annotation(problem) == (
        "::error file=papers/a%2Cb%3Ac\\x0a%3A%3Awarning%3A%3A.yaml,line=3::title: 100%25%0D%0A::error::'x'"
    )


def test_a_thousand_entries_cost_a_few_times_what_loading_their_yaml_does(entries: Path, write: Write) -> None:
    """Comparing all pairs of titles would cost hundreds of times as much."""
    words = re.findall(
        r"\w+", "deep robust masked sparse small large quiet early late plain mixed gated soft hard joint"
    )
    for n in range(1000):
        title = (
            " ".join(words[(n // 15**k) % 15] for k in range(3)) + f" encoders of kind {n} for language understanding"
        )
        write(
            f"entry-{n}",
            title=title,
            authors="[Jacob Devlin, Ming-Wei Chang, Kenton Lee, Kristina Toutanova]",
            arxiv=f"1801.{n:05}",
            doi=f"10.1234/{n}",
            url=f"https://example.org/papers/{n}",
            relates_to=f"[entry-{(n + 1) % 1000}, entry-{(n + 2) % 1000}]",
            summary_en="Says in a sentence what it is, " * 5,
            summary_zh="用一句话说明它是什么，" * 5,
            sources="[arXiv 1810.04805 section 3, somewhere/else@0123456 README.md:12]",
        )
    files = [file.read_bytes() for file in entries.rglob("*.yaml")]
    ratios = []
    for _ in range(3):
        start = time.process_time()
        for content in files:
            yaml.load(content, Loader=yaml.CSafeLoader)
        loaded = time.process_time()
        problems = check(entries)
        ratios.append((time.process_time() - loaded) / (loaded - start))
    assert problems == []
    assert min(ratios) < 12, ratios
