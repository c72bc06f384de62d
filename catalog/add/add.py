"""Writes a new entry for an arXiv id, a DOI or an address, filled in from public sources."""

import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from catalog import identifiers
from catalog.add.sources import Endpoints, Found, from_arxiv, from_crossref, from_github
from catalog.addresses import wrong_address
from catalog.check import identities, same_title
from catalog.errors import BadInput, printable
from catalog.load import ENTRIES, Document, read_folder
from catalog.schema import FOLDERS, KINDS, MODELS, Kind
from catalog.values import nearest

HEADER = "# yaml-language-server: $schema=../../entry.schema.json\n"
WANTED = (
    "authors",
    "venue",
    "license",
    "language",
    "summary_en",
    "summary_zh",
)  # good to have, beyond the required fields
_SMALL_WORDS = {"a", "an", "the", "of", "for", "and", "in", "on", "to", "with", "via", "by", "from", "is", "are"}


_KINDS: dict[str, Kind] = {"repository": "repository", "model": "model", "data set": "dataset"}
_PROCEEDINGS = (
    *("proceedings.mlr.press", "proceedings.neurips.cc", "papers.nips.cc", "openaccess.thecvf.com", "ojs.aaai.org"),
    *("jmlr.org", "isca-speech.org", "isca-archive.org"),
)


@dataclass
class Added:
    """The file that was written, and what is left for a person to do."""

    file: Path
    required: list[str]  # missing fields without which `check` refuses the entry
    wanted: list[str]  # missing fields that a good entry has
    notes: list[str] = field(default_factory=list)


def add(
    what: str,
    *,
    kind: str | None = None,
    name: str | None = None,
    offline: bool = False,
    entries: Path = ENTRIES,
    endpoints: Endpoints | None = None,
) -> Added:
    """Write the file of a new entry for ``what``: an arXiv id, a DOI, a repository's address or any other address.

    Args:
        kind: the kind of the entry, if ``what`` does not show it; an address counts as an article.
        name: the id of the entry; made from the title if None.
        offline: contact no server; write only what ``what`` itself says.

    Raises:
        BadInput: ``what`` is not an identifier, no source knows it, or it is in the catalog already.
        Failure: a source gave no usable answer.
    """
    chosen, known = identify(what, kind)
    documents = read_folder(entries)
    _refuse_known(known, documents)
    found = Found(known) if offline else _ask(known, chosen, endpoints or Endpoints())
    fields = {key: value for key, value in found.fields.items() if key in MODELS[chosen].model_fields and value}
    _refuse_known(fields, documents)
    _refuse_same_title(fields, chosen, documents)
    fields["id"] = _free_id(name, fields, known, documents)
    fields["kind"] = chosen
    fields["added"] = datetime.date.today().isoformat()
    file = entries / next(folder for folder, each in FOLDERS.items() if each == chosen) / f"{fields['id']}.yaml"
    file.parent.mkdir(exist_ok=True)
    with file.open("x", encoding="utf-8") as opened:
        opened.write(_written(fields, chosen))
    return Added(
        file,
        [key for key in ("title", "year", "tags") if key not in fields],
        [key for key in WANTED if key in MODELS[chosen].model_fields and key not in fields],
        found.notes,
    )


def identify(what: str, kind: str | None = None) -> tuple[Kind, dict[str, str]]:
    """The kind of entry and the identifying field that ``what`` gives.

    >>> identify("https://arxiv.org/abs/1810.04805v2")
    ('paper', {'arxiv': '1810.04805'})
    """
    named = identifiers.identify(what.strip())
    likely, known = _KINDS.get(named.what, "paper"), {"url": named.address}
    if named.what == "arXiv id":
        known = {"arxiv": named.normal}
    elif written := identifiers.doi_as_written(what):
        known = {"doi": written}
    elif named.what == "address":
        what = what.strip()
        if wrong := wrong_address(what):
            raise BadInput(f"{what!r} is not an arXiv id (1810.04805), DOI (10.18653/v1/N19-1423) or address: {wrong}")
        likely, known = _kind_of_page(what), {"url": what}
    chosen = next((each for each in KINDS if each == kind), likely)
    if kind not in (None, *KINDS):
        raise BadInput(f"--kind {kind!r} is none of {', '.join(KINDS)}{nearest(str(kind), KINDS)}")
    if not set(known) <= set(MODELS[chosen].identified_by):
        raise BadInput(f"{what!r} does not identify a {chosen}; leave out --kind, or give its address")
    return chosen, known


def _kind_of_page(address: str) -> Kind:
    parts = urlsplit(address)
    host = (parts.hostname or "").removeprefix("www.")
    if host in ("github.com", "gitlab.com") and re.match("/[^/]+/[^/]+/(-/)?tree/", parts.path):
        return "repository"
    return "paper" if host in _PROCEEDINGS else "article"


def _ask(known: dict[str, str], kind: Kind, endpoints: Endpoints) -> Found:
    if "arxiv" in known:
        return from_arxiv(known["arxiv"], endpoints)
    if "doi" in known:
        return from_crossref(known["doi"], endpoints)
    named = identifiers.identify(known["url"])
    if named.what == "ACL Anthology id":
        return _from_anthology(named, endpoints)
    repository = identifiers.repository(known["url"])
    if kind == "repository" and repository and repository.startswith("github.com/"):
        return from_github(repository.removeprefix("github.com/"), endpoints)
    return Found(dict(known), ["no source knows such an address: write title, year and authors yourself"])


def _from_anthology(named: identifiers.Identity, endpoints: Endpoints) -> Found:
    """Crossref's record of a paper in the ACL Anthology, or its page: most since 2016 have a DOI made from their id."""
    try:
        return from_crossref(f"10.18653/v1/{named.address.strip('/').rpartition('/')[2]}", endpoints)
    except BadInput:
        return Found(
            {"url": named.address}, ["Crossref has no DOI made from this id: write title, year and authors yourself"]
        )


def _refuse_known(fields: dict[str, Any], documents: list[Document]) -> None:
    wanted = {(found.what, found.normal): found for _, found in identities(fields)}
    for document in documents:
        for _, each in identities(document.data):
            if found := wanted.get((each.what, each.normal)):
                raise BadInput(f"the {found} is already in the catalog: {printable(document.file)}")


def _refuse_same_title(fields: dict[str, Any], kind: Kind, documents: list[Document]) -> None:
    new = MODELS[kind].model_construct(**{"id": "", "title": "", **fields})
    for document in documents if new.title else []:
        if document.entry and same_title(document.entry, new):
            raise BadInput(
                f"nearly the title of {printable(document.file)}: {new.title!r}. If they are different, write the new "
                "file by hand and name the other in its `relates_to`"
            )


def _free_id(name: str | None, fields: dict[str, Any], known: dict[str, str], documents: list[Document]) -> str:
    """``name``, or the first free id made from the title or the identifier."""
    taken = {document.file.stem: document.file for document in documents}
    if name is not None:
        if not re.fullmatch(identifiers.ENTRY_ID, name):
            raise BadInput(f"--id {name!r}: an id has lower case, digits and single hyphens")
        if name in taken:
            raise BadInput(f"--id {name}: {printable(taken[name])} has it; choose another")
        return name
    title, identifier = fields.get("title", ""), next(iter(known.values()))
    suggestions = [_short_name(title), f"{_short_name(title)}-{fields.get('year', '')}".strip("-"), _slug(identifier)]
    for suggestion in suggestions:
        if re.fullmatch(identifiers.ENTRY_ID, suggestion) and suggestion not in taken:
            return suggestion
    names = sorted(set(filter(None, suggestions)) & taken.keys())
    why = (
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} taken"
        if names
        else "it has no Latin letters or digits"
    )
    raise BadInput(f"no id can be made from {title or identifier!r}: {why}; choose one, such as --id author-subject")


def _short_name(title: str) -> str:
    """``bert`` from "BERT: Pre-training of ...", else the first four words without articles and prepositions."""
    name, colon, _ = title.partition(":")
    if colon and len(name.split()) <= 3:
        return _slug(name)
    return _slug(" ".join([word for word in title.split() if word.lower() not in _SMALL_WORDS][:4]))


def _slug(text: str) -> str:
    plain = re.sub(r"^https?://(www\.)?(github\.com/)?", "", text.lower())
    return "-".join(re.findall("[a-z0-9]+", plain))[:80].strip("-")


def _written(fields: dict[str, Any], kind: Kind) -> str:
    """The text of the file, with empty values for the required fields that are missing."""
    empty: dict[str, Any] = {"title": "", "year": "", "tags": []}
    order = ["id", "kind", *(key for key in MODELS[kind].model_fields if key not in ("id", "kind"))]
    data = {key: fields.get(key, empty.get(key)) for key in order if key in fields or key in empty}
    return HEADER + yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=2000)  # each value on one line
