"""Which reported results an entry's page shows first, and where the others are."""

from pathlib import Path

import pytest

from catalog.site import reported as module
from catalog.site.reported import reported, reported_pages
from catalog.site.view import View
from tests.catalog.conftest import Write
from tests.catalog.reported.test_tables import table
from tests.catalog.site.views import view_of


@pytest.fixture
def view(entries: Path, write: Write) -> View:
    """Two works report on MNLI, one on Amazon, whose name comes first."""
    for name, title in (("amazon", "Amazon"), ("mnli", "MNLI")):
        write(name, "dataset", title=title, url=f"https://example.org/{name}", splits="[dev, test]")
    mnli = [{"dataset": "mnli", "split": split, "value": value} for split, value in (("dev", "84.4"), ("test", "84.0"))]
    write("bert", reported=table({"dataset": "amazon", "split": "test"}, *mnli))
    write("other", arxiv='"1901.00001"', reported=table(mnli[1], model="Other"))
    return view_of(entries)


def test_the_data_set_that_most_works_report_on_comes_first(view: View) -> None:
    found = reported(view, view.by_id["bert"])
    assert [(dataset["id"], name) for dataset, name, _ in found.first if dataset] == [
        ("mnli", "test, accuracy"),  # more results than dev has
        ("amazon", "test, accuracy"),
    ]
    assert [name for _, name, _ in found.folded] == ["dev, accuracy"]
    assert (found.tables, found.results, found.page) == (3, 3, "")


def test_many_results_have_pages_that_together_have_all(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reported_pages(view) == {}
    monkeypatch.setattr(module, "FOLDED", 0)
    monkeypatch.setattr(module, "PER_PAGE", 2)
    found = reported(view, view.by_id["bert"])
    assert (found.page, found.folded) == ("reported/bert", [])
    pages = reported_pages(view)
    assert list(pages) == ["reported/bert.md", "reported/bert-2.md"]
    assert sum(len(rows) for _, part in pages.values() for _, _, rows in part["tables"]) == 3


def test_a_long_table_is_cut_and_is_whole_among_the_folded(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.ROWS, True, 1)
    found = reported(view, view.by_id["mnli"])
    assert [len(rows) for _, _, rows in found.first] == [1, 1]
    assert [len(rows) for _, _, rows in found.folded] == [2]
