"""What to read next after an entry, and why."""

from pathlib import Path

import pytest

from catalog.site.read_next import MOST, read_next
from catalog.site.view import Language
from tests.catalog.conftest import Write
from tests.catalog.site.views import view_of


@pytest.fixture
def catalog(entries: Path, write: Write) -> Path:
    write("gpt", arxiv='"1801.00001"', title="'GPT: the first'")
    write("bert", title="'BERT: two ways'", builds_on="[gpt]")
    write("roberta", arxiv='"1907.00001"', title="RoBERTa", year="2019", builds_on="[bert]")
    write("albert", arxiv='"1909.00001"', title="ALBERT", year="2019", builds_on="[bert]")
    write("camembert", arxiv='"1911.00001"', title="CamemBERT", year="2019", builds_on="[roberta]")
    write("small", arxiv='"1910.00001"', title="Small", year="2019", distils="[bert]")
    write("english", "article", relates_to="[bert]", language="[en]")
    write("chinese", "article", url="https://example.org/zh", title="读懂", relates_to="[bert]", language="[zh]")
    write("alone", arxiv='"1912.00001"')
    return entries


def found(folder: Path, name: str, language: Language = "en") -> dict[str, str]:
    view = view_of(folder, language)
    return {each["id"]: why for why, each in read_next(view, view.by_id[name])}


def test_roots_explanations_and_the_best_known_that_follow(catalog: Path) -> None:
    assert found(catalog, "bert") == {
        "gpt": "It builds on",
        "english": "Explains it",
        "roberta": "Builds on it",
        "small": "Distils it",
    }


def test_a_reader_gets_an_explanation_in_the_language_of_the_page(catalog: Path) -> None:
    assert found(catalog, "bert", "zh")["chinese"] == "解读"


def test_what_else_was_made_of_the_same(catalog: Path) -> None:
    assert found(catalog, "albert") == {"bert": "It builds on", "roberta": "Builds on BERT too"}


def test_what_replaces_an_entry_comes_first_and_nothing_comes_twice(catalog: Path, write: Write) -> None:
    write("new", arxiv='"2001.00001"', year="2020", supersedes="bert", builds_on="[bert]")
    assert next(iter(found(catalog, "bert").items())) == ("new", "Replaces it")
    assert len(found(catalog, "bert")) <= MOST


def test_an_entry_without_links_has_none(catalog: Path) -> None:
    assert found(catalog, "alone") == {}
