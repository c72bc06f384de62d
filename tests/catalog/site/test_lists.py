"""Lists of entries in parts, and the latest."""

from pathlib import Path

import pytest

from catalog import export
from catalog.load import load
from catalog.site import lists
from catalog.site.lists import list_pages, related_pages
from tests.catalog.conftest import Write
from tests.catalog.site.views import view_of


@pytest.fixture
def many(entries: Path, write: Write) -> Path:
    write("bert", added='"2026-11-01"')
    for number in range(7):
        write(f"p{number}", arxiv=f'"1901.{number:05}"', title=f"Paper {number}", year="2019", relates_to="[bert]",
              language="[en]", added=f'"2026-11-0{2 + number // 4}"')  # fmt: skip
    write("undated", "repository")
    return entries


def pages(folder: Path) -> dict[str, lists.Page]:
    return list_pages(view_of(folder), [each.id for each in export.newest(load(folder))])


def test_a_long_list_has_parts_that_together_have_all(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "PER_PAGE", 3)
    found = pages(many)
    parts = [found[name][1] for name in ("papers.md", "papers-2.md", "papers-3.md")]
    assert "papers-4.md" not in found
    assert [len(part["found"]) for part in parts] == [3, 3, 2]
    assert {each["id"] for part in parts for each in part["found"]} == {"bert", *(f"p{n}" for n in range(7))}
    assert all(part["parts"] == ["papers", "papers-2", "papers-3"] and part["count"] == 8 for part in parts)
    assert found["tags/pretraining-2.md"][1]["parts"][1] == "pretraining-2", "links within the folder"
    assert parts[1]["heading"] == "Papers, page 2"


def test_each_year_and_language_has_a_list(many: Path) -> None:
    found = pages(many)
    assert len(found["years/2019.md"][1]["found"]) == 7
    assert found["languages/en.md"][1]["query"] == "language=en"
    assert found["timeline.md"][1]["groups"][0][:3] == ("y2019", "2019", "years/2019")


def test_the_latest_are_by_day_and_those_without_one_are_not_there(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LATEST", 5)
    days = pages(many)["recent.md"][1]["days"]
    assert [(day, len(found)) for day, found in days] == [("2026-11-03", 3), ("2026-11-02", 2)]


def test_all_that_is_linked_has_a_page_where_it_is_too_much(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert related_pages(view_of(many)) == {}
    monkeypatch.setattr(lists, "RELATED", 4)
    monkeypatch.setattr(lists, "PER_PAGE", 1)  # six lines on a page
    found = related_pages(view_of(many))
    assert list(found) == ["related/bert.md", "related/bert-2.md"]
    listed = [each["id"] for _, part in found.values() for _, group in part["groups"] for each in group]
    assert sorted(listed) == [f"p{number}" for number in range(7)]
