"""Reads what arXiv, Crossref and GitHub say about a resource, as fields of an entry.

The endpoints are the documented ones: arXiv's Atom API, Crossref's REST API (`/works/{doi}`) and GitHub's REST API
(`/repos/{owner}/{name}`). Abstracts and descriptions are not used: summaries are in our own words.
"""

import html
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from catalog.add.fetch import ADVICE, NotFound, fetch
from catalog.errors import BadInput, Failure
from catalog.evidence import meeting_of

_ATOM = {"atom": "http://www.w3.org/2005/Atom", "arxiv": "http://arxiv.org/schemas/atom"}


@dataclass(frozen=True)
class Endpoints:
    """The base addresses of the three APIs."""

    arxiv: str = "https://export.arxiv.org"
    crossref: str = "https://api.crossref.org"
    github: str = "https://api.github.com"


@dataclass
class Found:
    """The fields that a source gives, and notes for the person who adds the entry."""

    fields: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def from_arxiv(identifier: str, endpoints: Endpoints) -> Found:
    """Title, authors, year and DOI of a paper on arXiv; the venue from Crossref if there is a DOI.

    Raises:
        BadInput: arXiv has no such paper.
        Failure: no usable answer.
    """
    url = f"{endpoints.arxiv}/api/query?id_list={quote(identifier, safe='/')}&max_results=1"
    entry = _atom_entry(url, identifier)
    title, published = _atom_text(entry, "title"), _atom_text(entry, "published")
    if not re.match(r"\d{4}-", published):
        raise _strange(url, "no date")
    names = [" ".join((each.text or "").split()) for each in entry.iterfind("atom:author/atom:name", _ATOM)]
    found = Found({"title": title, "authors": names, "year": int(published[:4]), "arxiv": identifier})
    if doi := _atom_text(entry, "doi", "arxiv"):
        found.fields["doi"] = doi
        try:
            published_as = from_crossref(doi, endpoints)
        except (BadInput, Failure) as error:
            found.notes.append(f"the venue is not filled in: {error}")
        else:
            found.fields |= {k: v for k, v in published_as.fields.items() if k in ("venue", "venue_year")}
    return found


def arxiv_titles(identifiers: list[str], endpoints: Endpoints) -> dict[str, str]:
    """The titles of many papers on arXiv, by id, in one request; ids that arXiv does not know are left out.

    Raises:
        Failure: no usable answer, or one with none of the papers, as arXiv sometimes gives under load.
    """
    listed = ",".join(quote(each, safe="/") for each in identifiers)
    url = f"{endpoints.arxiv}/api/query?id_list={listed}&max_results={len(identifiers)}"
    try:
        entries = _atom_entries(url)
    except NotFound:
        raise _strange(url, "not found") from None
    found = {_atom_text(entry, "id").partition("/abs/")[2]: _atom_text(entry, "title") for entry in entries}
    titles = {re.sub(r"v\d+$", "", name): title for name, title in found.items()}
    if not titles.keys() & set(identifiers):
        raise _strange(url, "none of these papers")
    return {name: titles[name] for name in identifiers if name in titles}


def _atom_entries(url: str) -> list[ET.Element]:
    text = fetch(url)
    if re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):  # a feed has none, and entities can expand without bound
        raise _strange(url, "a document type")
    try:
        return ET.fromstring(text).findall("atom:entry", _ATOM)  # noqa: S314 - safe without entities
    except ET.ParseError as error:
        raise _strange(url, f"no XML, {error}") from None


def _atom_entry(url: str, identifier: str) -> ET.Element:
    try:
        entry = next(iter(_atom_entries(url)), None)
    except NotFound:
        raise _unknown("arXiv", identifier) from None
    if entry is None or f"/abs/{identifier}" not in _atom_text(entry, "id"):  # arXiv answers errors as entries
        raise _unknown("arXiv", identifier)
    return entry


def _atom_text(entry: ET.Element, name: str, space: str = "atom") -> str:
    return " ".join((entry.findtext(f"{space}:{name}", "", _ATOM)).split())


def from_crossref(doi: str, endpoints: Endpoints) -> Found:
    """Title, authors, year and venue of a work with a Crossref DOI.

    Raises:
        BadInput: Crossref has no such DOI.
        Failure: no usable answer.
    """
    url = f"{endpoints.crossref}/works/{quote(doi, safe='')}"
    answer = _json(url, "Crossref", doi)
    work = answer.get("message") if isinstance(answer, dict) else None
    if not isinstance(work, dict):
        raise _strange(url, "no message")
    found = Found({"doi": doi})
    if titles := _texts(work.get("title")):
        found.fields["title"] = titles[0]
    if names := [name for each in work.get("author") or [] if (name := _name(each))]:
        found.fields["authors"] = names
    years = [
        year for kind in ("published-print", "published-online", "posted", "issued") if (year := _year(work, kind))
    ]
    if years:
        found.fields["year"] = min(years)
        found.notes.append("`year` is the year of publication; if there was an earlier preprint, write its year")
    if work.get("type") != "posted-content" and (venues := _texts(work.get("container-title"))):
        found.fields["venue"] = meeting_of(doi) or venues[0]
        if years:
            found.fields["venue_year"] = min(years)
    return found


def _texts(values: Any) -> list[str]:
    """Crossref's texts without their markup."""
    plain = (re.sub(r"</?\w+[^<>]*>", "", value) for value in values or [] if isinstance(value, str))
    return [text for each in plain if (text := " ".join(html.unescape(each).split()))]


def _name(author: Any) -> str:
    if not isinstance(author, dict):
        return ""
    parts = [author.get("given"), author.get("family")] if author.get("family") else [author.get("name")]
    return " ".join(" ".join(_texts(parts)).split())


def _year(work: dict[str, Any], kind: str) -> int | None:
    try:
        year = work[kind]["date-parts"][0][0]
    except (KeyError, IndexError, TypeError):
        return None
    return year if isinstance(year, int) else None


def from_github(name: str, endpoints: Endpoints) -> Found:
    """Name, year, licence, state and last commit of ``owner/name``, under its current address.

    Raises:
        BadInput: GitHub has no such repository.
        Failure: no usable answer.
    """
    url = f"{endpoints.github}/repos/{name}"
    answer = _json(url, "GitHub", name)
    try:
        today, branch, created = str(answer["full_name"]), str(answer["default_branch"]), str(answer["created_at"])
        licence = answer["license"]["spdx_id"] if answer["license"] else "none-found"
        year = int(created[:4])
    except (KeyError, TypeError, ValueError) as error:
        raise _strange(url, f"no {error}") from None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", today):
        raise _strange(url, f"full_name {today!r}")
    found = Found({"title": today.partition("/")[2], "year": year, "url": f"https://github.com/{today}"})
    if today.lower() != name.lower():
        found.notes.append(f"{name} is now {today}")
    if licence == "NOASSERTION":
        found.notes.append("GitHub does not recognise the licence; read its file and write the SPDX id")
    else:
        found.fields["license"] = licence
    found.fields["status"] = "archived" if answer.get("archived") is True else "active"
    commits = _json(f"{endpoints.github}/repos/{today}/commits?per_page=1&sha={quote(branch)}", "GitHub", today)
    try:
        found.fields["last_commit"] = str(commits[0]["commit"]["committer"]["date"])[:10]
    except (KeyError, IndexError, TypeError):
        found.notes.append("GitHub shows no commit")
    return found


def _json(url: str, who: str, what: str) -> Any:
    try:
        return json.loads(fetch(url))
    except NotFound:
        raise _unknown(who, what) from None
    except json.JSONDecodeError as error:
        raise _strange(url, f"no JSON, {error}") from None


def _unknown(who: str, what: str) -> BadInput:
    return BadInput(f"{who} knows no {what!r}; is it spelled correctly? --offline writes a skeleton anyway")


def _strange(url: str, why: str) -> Failure:
    return Failure(f"{url}: the answer is not as documented ({why}); {ADVICE}")
