"""Exports the catalog as JSON, CSV, BibTeX, Atom, and as one Markdown file for GitHub."""

import csv
import functools
import html
import io
import itertools
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from catalog.errors import Failure
from catalog.schema import FIELDS, FOLDERS, Entry, vocabulary

LICENSE = "CC0-1.0"
FEED_LENGTH = 50
KIND_NAMES = {
    "paper": {"en": "Papers", "zh": "论文"},
    "article": {"en": "Articles", "zh": "文章"},
    "repository": {"en": "Repositories", "zh": "代码仓库"},
    "model": {"en": "Models", "zh": "模型"},
    "dataset": {"en": "Data sets", "zh": "数据集"},
}
_FIRST_COLUMNS = (  # other programs may count on this order; fields that are new in the models come after these
    *("id", "kind", "title", "title_zh", "authors", "and_others", "year", "venue", "venue_year", "arxiv", "doi", "url"),
    *("code", "license", "language", "tags", "implements", "relates_to", "supersedes", "renamed_to", "status"),
    *("last_commit", "archived_url", "seed", "summary_en", "summary_zh", "added"),
)
_NOT_COLUMNS = ("sources", "reported")  # results have a file each: results.csv
COLUMNS = (*_FIRST_COLUMNS, *(name for name in FIELDS if name not in (*_FIRST_COLUMNS, *_NOT_COLUMNS)))
VENUES = Path(__file__).with_name("venues.yaml")
_CONTAINER = {"article": "journal", "inproceedings": "booktitle", "book": "series"}  # BibTeX's field for the venue


def fields(entry: Entry) -> dict[str, Any]:
    """The fields written in an entry, as JSON values; absent fields stay absent."""
    return entry.model_dump(exclude_defaults=True)


def links(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """The links of an entry as (name, address) pairs, the most useful first. All are http or https addresses."""
    found = []
    if entry.get("renamed_to"):
        found.append(("today", entry["renamed_to"]))
    if entry.get("arxiv"):
        found.append(("arXiv", f"https://arxiv.org/abs/{entry['arxiv']}"))
    if entry.get("url"):
        found.append((re.sub(r"^https?://(www\.)?|[/?#].*$", "", entry["url"]), entry["url"]))
    if entry.get("doi"):
        found.append(("DOI", f"https://doi.org/{quote(entry['doi'], safe='/:;().')}"))
    found += [("code", address) for address in entry.get("code") or []]
    if entry.get("archived_url"):
        found.append(("archived copy", entry["archived_url"]))
    return [(name, address) for name, address in found if re.match("https?://", address)]


# --- JSON and CSV -----------------------------------------------------------------------------------------------------


def to_json(entries: Iterable[Entry]) -> str:
    """All entries as one JSON object, with the licence of the data."""
    listed = [fields(entry) for entry in entries]
    return (
        json.dumps({"license": LICENSE, "count": len(listed), "entries": listed}, ensure_ascii=False, indent=1) + "\n"
    )


def to_csv(entries: Iterable[Entry]) -> str:
    """One line for each entry; lists are joined with "; ".

    A spreadsheet would run a cell that begins with ``=`` as a formula. Such a cell gets an apostrophe in front, and so
    does one that already begins with an apostrophe, so that removing one gives the value back.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in entries:
        writer.writerow({name: cell(value) for name, value in fields(entry).items() if name in COLUMNS})
    return out.getvalue()


_FORMULA = re.compile(
    "'*[=+@＝＋＠\\-－\t\r\n]"
)  # how formulas begin; in East Asian Windows full-width signs count too


def cell(value: Any) -> str:
    """A value as the text of a cell, which no spreadsheet takes for a formula."""
    text = "; ".join(value) if isinstance(value, list) else str(value)
    return f"'{text}" if _FORMULA.match(text) else text


# --- BibTeX -----------------------------------------------------------------------------------------------------------

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\textbraceleft{}",
        "}": r"\textbraceright{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{letter: f"\\{letter}" for letter in "&%$#_"},
    }
)


def to_bibtex(entries: Iterable[Entry]) -> str:
    """All entries as BibTeX (UTF-8), keyed by their ids."""
    return "\n".join(bibtex(fields(entry)) for entry in entries)


def bibtex(entry: dict[str, Any]) -> str:
    """One entry as BibTeX; the double braces keep the capitals of a title."""
    venue = entry.get("venue")
    kind, container = "misc", "howpublished"
    if venue and entry["kind"] == "paper":
        kind, container = _published_as(venue)
    lines = {"title": f"{{{_latex(entry['title'])}}}"}
    if entry.get("authors"):
        lines["author"] = _authors(entry)
    lines["year"] = str(entry.get("venue_year") or entry["year"])
    if venue:
        lines[container] = _latex(venue)
    if entry.get("arxiv"):
        lines |= {"eprint": entry["arxiv"], "archiveprefix": "arXiv"}
    if entry.get("doi"):
        lines["doi"] = _verbatim(entry["doi"])
    if address := next((address for _, address in links(entry)), None):
        lines["url"] = _verbatim(address)
    body = "".join(f"  {name} = {{{value}}},\n" for name, value in lines.items())
    return f"@{kind}{{{entry['id']},\n{body}}}\n"


def _published_as(venue: str) -> tuple[str, str]:
    """BibTeX's type of a paper in this venue, and its field for the venue."""
    name = venue.lower()
    words = set(re.findall(r"\w+", name))
    for rule in _venues():
        begins = any(name.startswith(f"{each.lower()} ") for each in rule.get("beginnings", []))
        named = name in (each.lower() for each in rule.get("names", []))
        if begins or named or not words.isdisjoint(rule.get("words", [])):
            return rule["type"], _CONTAINER[rule["type"]]
    return "inproceedings", _CONTAINER["inproceedings"]


@functools.cache
def _venues() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = yaml.load(VENUES.read_text(encoding="utf-8"), yaml.CSafeLoader)
    return rules


def _authors(entry: dict[str, Any]) -> str:
    """Names joined by ``and``; braces protect a name that BibTeX would split."""
    names = []
    for name in entry["authors"]:
        text = _latex(name)
        names.append(f"{{{text}}}" if "," in name or re.search(r"\band\b", name, re.IGNORECASE) else text)
    return " and ".join([*names, "others"] if entry.get("and_others") else names)


def _verbatim(identifier: str) -> str:
    """An identifier without LaTeX escapes, which BibTeX does not apply to such fields; braces would end the field."""
    return identifier.replace("{", "%7B").replace("}", "%7D").replace("\\", "%5C")


def _latex(text: str) -> str:
    return text.translate(_LATEX)


# --- Atom -------------------------------------------------------------------------------------------------------------


def newest(entries: Iterable[Entry]) -> list[Entry]:
    """The entries by the day they were added, the newest first."""
    return sorted(entries, key=lambda entry: (entry.added or "", entry.year, entry.id), reverse=True)


def to_atom(entries: Iterable[Entry], site: str, language: str, page: str = "", subject: str = "") -> str:
    """An Atom feed of the newest entries; ``site`` is the address of this language's home page, with a slash.

    A feed of the entries of one list has the name of its ``page``, such as tags/ner, and says its ``subject``.
    """
    home = f"{site}{page}.html" if page else site
    name = {"en": "BERT Atlas: new entries", "zh": "BERT Atlas：新条目"}[language]
    ET.register_namespace("", "http://www.w3.org/2005/Atom")
    recent = [entry for entry in newest(entries) if entry.added][:FEED_LENGTH]
    feed = _element(None, "feed", {"{http://www.w3.org/XML/1998/namespace}lang": language})
    _element(feed, "id", text=home)
    _element(feed, "title", text=name + ({"en": f", {subject}", "zh": f"，{subject}"}[language] if subject else ""))
    _element(feed, "updated", text=_moment(recent[0].added if recent else None))
    _element(feed, "link", {"rel": "self", "href": f"{site}{page or 'feed'}.xml"})
    _element(feed, "link", {"rel": "alternate", "href": home})
    _element(_element(feed, "author"), "name", text="BERT Atlas")
    _element(feed, "rights", text=LICENSE)
    for entry in recent:
        item = _element(feed, "entry")
        page = f"{site}entries/{entry.id}.html"
        _element(item, "id", text=page)
        _element(item, "title", text=(language == "zh" and entry.title_zh) or entry.title)
        _element(item, "updated", text=_moment(entry.added))
        _element(item, "link", {"href": page})
        _element(item, "summary", text=(entry.summary_zh if language == "zh" else entry.summary_en) or entry.title)
    ET.indent(feed)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(feed, encoding="unicode") + "\n"


def _element(
    parent: ET.Element | None, name: str, attributes: dict[str, str] | None = None, text: str = ""
) -> ET.Element:
    tag = f"{{http://www.w3.org/2005/Atom}}{name}"
    element = ET.Element(tag, attributes or {}) if parent is None else ET.SubElement(parent, tag, attributes or {})
    element.text = text or None
    return element


def _moment(day: str | None) -> str:
    return f"{day or '1970-01-01'}T00:00:00Z"


# --- Markdown for GitHub ----------------------------------------------------------------------------------------------


def to_markdown(entries: Iterable[Entry]) -> str:
    """The whole catalog as one Markdown file, in both languages: by kind, and by year, the newest first."""
    listed = sorted(entries, key=lambda e: (-e.year, e.title.lower()))
    kinds = {folder: [e for e in listed if e.kind == kind] for folder, kind in FOLDERS.items()}
    parts = [
        "<!-- Generated by `python -m catalog export` from catalog/entries; change the entries, not this file. -->",
        "# The catalog · 目录",
        " · ".join(f"[{_kind_name(folder)}](#{folder}) {len(found)}" for folder, found in kinds.items() if found),
    ]
    for folder, found in kinds.items():
        if found:
            parts.append(f'<a id="{folder}"></a>\n\n## {_kind_name(folder)}')
        for year, same in itertools.groupby(found, key=lambda e: e.year):
            parts += [f"### {year}", "\n".join(_markdown_line(fields(entry), folder) for entry in same)]
    return "\n\n".join(parts) + "\n"


def _kind_name(folder: str) -> str:
    name = KIND_NAMES[FOLDERS[folder]]
    return f"{name['en']} · {name['zh']}"


def _markdown_line(entry: dict[str, Any], folder: str) -> str:
    address = links(entry)[0][1].replace("(", "%28").replace(")", "%29")
    title = escape_markdown(entry["title"])
    chinese = f" · {escape_markdown(entry['title_zh'])}" if entry.get("title_zh") else ""
    tags = ", ".join(vocabulary()["tags"][tag]["en"] for tag in entry["tags"])
    summaries = "".join(f"<br>{escape_markdown(entry[s])}" for s in ("summary_en", "summary_zh") if entry.get(s))
    source = f"[`{entry['id']}`](catalog/entries/{folder}/{entry['id']}.yaml)"
    return f"- **[{title}]({address})**{chinese} · {tags} · {source}{summaries}"


def escape_markdown(text: str) -> str:
    """``text`` for a line of Markdown, escaped so that neither HTML nor Markdown in it has an effect."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"[\\`*_\[\]{}|#~!$^]", lambda found: f"&#{ord(found[0])};", plain)


# --- all of them ------------------------------------------------------------------------------------------------------


def export(entries: list[Entry], folder: Path, site: str) -> list[Path]:
    """Write ``catalog.json``, ``.csv``, ``.bib`` and ``feed.xml`` into ``folder`` and return the files.

    Failure if one cannot be written.
    """
    texts = {
        "catalog.json": to_json(entries),
        "catalog.csv": "\ufeff" + to_csv(entries),  # without the byte order mark, Excel assumes the system's encoding
        "catalog.bib": to_bibtex(entries),
        "feed.xml": to_atom(entries, site, "en"),
    }
    return [write(folder / name, text) for name, text in texts.items()]


def write(path: Path, text: str) -> Path:
    """Write one file, and its folder if missing. Failure if that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise Failure(f"{path} could not be written: {error.strerror}") from error
    return path
