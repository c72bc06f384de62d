"""Reported results on the pages of entries: a few tables first, the rest folded, or on pages apart if they are many."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from catalog.reported.tables import Result
from catalog.site.lists import Page
from catalog.site.view import Fields, View

FIRST = 3  # tables that are shown first
ROWS = {True: 8, False: 3}  # of each of these, on the page of a data set and of others
FOLDED = 120  # results that the entry's page folds; if there are more, separate pages have them
PER_PAGE = 300  # results

Table = tuple[Fields | None, str, list[Result]]  # data set (None on its own page); split and metric; results


@dataclass(frozen=True)
class Reported:
    """The tables of an entry."""

    first: list[Table]
    folded: list[Table]
    page: str  # where all are, if they are too many to fold
    tables: int
    results: int


def reported(view: View, entry: Fields) -> Reported:
    """The tables of an entry: first the fullest one of each of the data sets that most works report on."""
    tables = view.reported(entry)
    rows = sum(len(found) for _, _, found in tables)
    everywhere = Counter(row.what for row in view.reported_results)
    fullest: dict[str, Table] = {}
    for table in sorted(tables, key=lambda table: -everywhere[table[2][0].what]):
        what = table[2][0].what
        fullest.setdefault(table[0]["id"] if table[0] else str(what), table)
    order = {id(table): place for place, table in enumerate(tables)}
    leading = (
        list(fullest.values()) if entry["kind"] == "dataset" else sorted(fullest.values(), key=lambda t: order[id(t)])
    )
    leading = leading[:FIRST]
    rows_shown = ROWS[entry["kind"] == "dataset"]
    first = [(dataset, name, found[:rows_shown]) for dataset, name, found in leading]
    whole = {id(table) for table in leading if len(table[2]) <= rows_shown}
    rest = [table for table in tables if id(table) not in whole]
    many = sum(len(found) for _, _, found in rest) > FOLDED
    return Reported(first, [] if many else rest, f"reported/{entry['id']}" if many else "", len(tables), rows)


def reported_pages(view: View) -> dict[str, Page]:
    """The pages of entries with many reported results, by file name."""
    pages: dict[str, Page] = {}
    named = {row.entry for row in view.reported_results} | {row.dataset for row in view.reported_results}
    for entry in view.entries:
        if entry["id"] not in named or not (page := reported(view, entry).page):
            continue
        parts = _parts(view.reported(entry))
        names = [page if number == 1 else f"{page}-{number}" for number in range(1, len(parts) + 1)]
        same: dict[str, Any] = {"e": entry, "parts": [name.rpartition("/")[2] for name in names]}
        for number, (name, tables) in enumerate(zip(names, parts, strict=True), 1):
            pages[f"{name}.md"] = ("reported", {**same, "tables": tables, "number": number})
    return pages


def _parts(tables: list[Table]) -> list[list[Table]]:
    """The tables in parts of at most PER_PAGE results, where a single table is not longer."""
    parts: list[list[Table]] = [[]]
    room = PER_PAGE
    for table in tables:
        if len(table[2]) > room and parts[-1]:
            parts.append([])
            room = PER_PAGE
        parts[-1].append(table)
        room -= len(table[2])
    return parts
