"""What the catalog's page narrows by: the facets with their values, and each entry's values, as data for its script."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from catalog.site.view import KIND, Fields, View
from catalog.values import vocabulary

SIZES: tuple[tuple[str, int, tuple[str, str]], ...] = (  # name, most parameters, words
    ("50m", 50_000_000, ("up to 50 million", "5000 万以下")),
    ("150m", 150_000_000, ("50 to 150 million (BERT-base)", "5000 万至 1.5 亿（BERT-base）")),
    ("300m", 300_000_000, ("150 to 300 million", "1.5 亿至 3 亿")),
    ("500m", 500_000_000, ("300 to 500 million (BERT-large)", "3 亿至 5 亿（BERT-large）")),
    ("more", 10**15, ("more", "更大")),
)


@dataclass(frozen=True)
class Facet:
    """One way to narrow: entries have none, one or several of its values."""

    name: str
    parameter: str  # its name in addresses; tags share one
    title: tuple[str, str]
    values: Callable[[Fields], list[str]]  # of an entry
    label: Callable[[str], str]
    all: bool = False  # whether several chosen values must all be there, or one of them
    ordered: bool = False  # whether values are in their own order, not by number of entries


def facets(view: View) -> list[Facet]:
    """The facets, in the order of the page."""
    sizes = {name: words for name, _, words in SIZES}
    results = {"measured": ("measured here", "本站已测"), "reported": ("reported by others", "有他人报告的成绩")}
    reported = {row.entry for row in view.reported_results} | {row.dataset for row in view.reported_results}

    def found(entry: Fields) -> list[str]:
        return [name for name, ids in (("measured", view.measured), ("reported", reported)) if entry["id"] in ids]

    def tags(facet: str | None) -> Callable[[Fields], list[str]]:
        return lambda entry: [tag for tag in entry["tags"] if vocabulary()["tags"][tag].get("facet") == facet]

    return [
        Facet("kind", "kind", ("Kind", "类型"), lambda e: [e["kind"]], lambda kind: view.t(*KIND[kind])),
        Facet("task", "tag", ("Task", "任务"), tags("task"), view.tag_name, all=True),
        Facet("language", "language", ("For texts in", "适用语言"), languages, view.language_name),
        Facet("results", "results", ("Results", "成绩"), found, lambda name: view.t(*results[name])),
        Facet("year", "year", ("Year", "年份"), lambda e: [str(e["year"])], str, ordered=True),
        Facet("subject", "tag", ("Subject", "主题"), tags(None), view.tag_name, all=True),
        Facet("size", "size", ("Parameters", "参数量"), size, lambda name: view.t(*sizes[name]), ordered=True),
        Facet("license", "license", ("Licence", "许可证"), licence, view.licence_name),
        Facet("framework", "tag", ("Framework", "框架"), tags("framework"), view.tag_name, all=True),
    ]


def languages(entry: Fields) -> list[str]:
    """The languages that an entry is for; of one that does not say, the language it is written in."""
    return list(entry["for_language"] or entry["language"] or [])


def size(entry: Fields) -> list[str]:
    """The class of a model's size, where its number of parameters is known."""
    count = entry["parameters"]
    return [] if count is None else [next(name for name, most, _ in SIZES if count <= most)]


def licence(entry: Fields) -> list[str]:
    """The licence of what has one field for it."""
    return [entry["license"]] if entry["license"] else []


def values(facet: Facet, entries: list[Fields]) -> list[str]:
    """The values that some entry has: the most frequent first, or in their own order (years: the latest first)."""
    counts = Counter(value for entry in entries for value in facet.values(entry))
    if facet.name == "size":
        return [name for name, _, _ in SIZES if name in counts]
    if facet.ordered:
        return sorted(counts, reverse=True)
    return sorted(counts, key=lambda value: (-counts[value], value))


def data(view: View) -> Markup:
    """All that the script of the catalog's page shows, as JSON; empty fields of entries are left out."""
    chosen = facets(view)
    named = {
        facet.name: {
            "parameter": facet.parameter,
            "title": view.t(*facet.title),
            "all": facet.all,
            "values": [[value, facet.label(value)] for value in values(facet, view.entries)],
        }
        for facet in chosen
    }
    listed = [_entry(view, chosen, entry) for entry in view.entries]
    whole = {"facets": named, "entries": listed}
    return Markup(json.dumps(whole, ensure_ascii=False, separators=(",", ":")))  # noqa: S704 - a script, not HTML


def _entry(view: View, chosen: list[Facet], entry: Fields) -> dict[str, Any]:
    people = (entry["authors"] or [])[:3]
    more = entry["and_others"] or len(entry["authors"] or []) > len(people)
    shown = {
        "id": entry["id"],
        "title": view.title(entry),
        "people": view.t(", ", "、").join(people) + (view.t(" and others", " 等") if more else ""),
        "venue": entry["venue"],
        "summary": view.summary(entry),
        "words": view.words(entry),
        "added": entry["added"],
        "links": view.fame[entry["id"]],
    }
    kept = {name: value for name, value in shown.items() if value}
    return kept | {facet.name: found for facet in chosen if (found := facet.values(entry))}
