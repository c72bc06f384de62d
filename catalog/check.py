"""What is wrong between entries: two files for one thing, ids that lead nowhere, dates to come."""

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from catalog import identifiers
from catalog.errors import Problem, printable
from catalog.folding import unaccented
from catalog.load import ENTRIES, Document, read_folder
from catalog.schema import Article, Entry, Paper, Repository
from catalog.values import nearest

IDENTIFYING = ("arxiv", "doi", "url", "renamed_to")
ONE_EACH = ("arXiv id", "ACL Anthology id", "OpenReview id")  # of which a work has one
SIMILAR = 0.9  # of two titles, from 0 to 1; what differs less is taken for the same


def check(folder: Path = ENTRIES) -> list[Problem]:
    """All that is wrong with the entries in ``folder``, by file and line. BadInput if there is no such folder."""
    documents = read_folder(folder)
    for compare in (_ids, _references, _identifiers, _titles, _dates):
        compare(documents)
    return sorted({problem for document in documents for problem in document.problems})


def github_annotation(problem: Problem) -> str:
    """``problem`` as a workflow command of GitHub Actions, which shows it beside the line in a pull request."""

    def escaped(text: str, more: dict[str, str]) -> str:
        for character, code in {"%": "%25", "\r": "%0D", "\n": "%0A", **more}.items():
            text = text.replace(character, code)
        return text

    file = escaped(printable(problem.file), {":": "%3A", ",": "%2C"})
    message = f"{problem.field}: {problem.message}" if problem.field else problem.message
    return f"::error file={file},line={problem.line}::{escaped(message, {})}"


def identities(data: Mapping[str, Any]) -> Iterator[tuple[str, identifiers.Identity]]:
    """(field, identity) of all in an entry's data that names its resource and no other."""
    for name in IDENTIFYING:
        text = data.get(name)
        if isinstance(text, str) and text:
            yield name, identifiers.identify(text)


def same_title(one: Entry, other: Entry) -> bool:
    """Whether the titles of two entries are so near that they may be one thing.

    Two repositories of one name are told apart by their addresses. Names of models and data sets differ in a word
    (base, large), so only equal ones count; so do only equal ones of two kinds. Entries that name each other are
    known to be two things, and so are a paper and a repository that is its code.
    """
    if type(one) is type(other) is Repository or _linked(one.model_dump(), other.model_dump()) or _code(one, other):
        return False
    a, b = _words(one.title), _words(other.title)
    if a == b:
        return bool(a) or one.title == other.title  # of two titles of signs alone, no word is left
    numbers = [[word for word in words if re.fullmatch(r"\d+|[ivx]+", word)] for words in (a, b)]
    if type(one) is not type(other) or not isinstance(one, Paper | Article):
        return False
    if min(len(a), len(b)) < 4 or numbers[0] != numbers[1]:
        return False
    return SequenceMatcher(None, " ".join(a), " ".join(b), autojunk=False).ratio() >= SIMILAR


def _code(one: Entry, other: Entry) -> bool:
    codes = {identifiers.identify(each).normal for entry in (one, other) for each in getattr(entry, "code", [])}
    return any(each.url and identifiers.identify(each.url).normal in codes for each in (one, other))


def _linked(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one entry names the other, and so says that they are two things."""
    return other.get("id") in _named(one) or one.get("id") in _named(other)


def _named(data: Mapping[str, Any]) -> list[Any]:
    lists = [data.get(name) or [] for name in ("relates_to", "implements")]
    return [data.get("supersedes"), *(each for found in lists if isinstance(found, list) for each in found)]


def _words(title: str) -> list[str]:
    """The words of a title as they compare: no case, accents, punctuation; each Chinese character is a word."""
    return re.findall(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+", unaccented(title))


def _valid(documents: Iterable[Document]) -> Iterator[tuple[Document, Entry]]:
    return ((document, document.entry) for document in documents if document.entry)


def _ids(documents: list[Document]) -> None:
    """Ids are unique across kinds; so are the places in the list of 2018."""
    for name, what in (("id", "id"), ("seed", "item of the 2018 list")):
        seen: dict[str, Document] = {}
        for document in documents:
            value = document.data.get(name)
            if isinstance(value, str) and (first := seen.setdefault(value, document)) is not document:
                document.wrong(f"the {what} {value!r} is already in {_near(first, document)}", (name,))


def _references(documents: list[Document]) -> None:
    """What an entry points to exists, and is of the right kind."""
    known = {text: doc for doc in documents for text in (doc.data.get("id"), doc.file.stem) if isinstance(text, str)}
    for document, entry in _valid(documents):
        implements = getattr(entry, "implements", [])
        places = [(("relates_to", at), target) for at, target in enumerate(entry.relates_to)]
        places += [(("implements", at), target) for at, target in enumerate(implements)]
        for place, target in [*places, *([(("supersedes",), entry.supersedes)] if entry.supersedes else [])]:
            if target == entry.id:
                document.wrong("points to itself; remove it", place)
            elif target not in known:
                document.wrong(f"there is no entry {target!r}{nearest(target, known)}", place)
            elif place[0] == "implements" and known[target].data.get("kind") not in ("paper", "model"):
                kind = known[target].data.get("kind")
                document.wrong(f"{target!r} is a {kind}; a paper or model is implemented", place)


def _identifiers(documents: list[Document]) -> None:
    """No work is named by two entries, in whichever fields and by whichever addresses; no entry names two works."""
    seen: dict[tuple[str, str], tuple[Document, str]] = {}
    for document in documents:
        own: dict[str, str] = {}
        for name, found in identities(document.data):
            first, field = seen.setdefault((found.what, found.normal), (document, name))
            renamed = "renamed_to" in (name, field) and _linked(first.data, document.data)
            if first is not document and not renamed:
                document.wrong(f"the {found} is already in {_near(first, document)}", (name,))
            if found.what in ONE_EACH and own.setdefault(found.what, found.normal) != found.normal:
                document.wrong(f"names the {found.what} {found.normal}, another field {own[found.what]}", (name,))


def _titles(documents: list[Document]) -> None:
    """Only titles that share all words but one of each are compared by letters: all with all would be slow."""
    groups: dict[tuple[str, ...], list[tuple[Document, Entry]]] = {}
    reported = set()
    for document, entry in _valid(documents):
        words = sorted(_words(entry.title))
        keys = {tuple(words), *(tuple(words[:at] + words[at + 1 :]) for at in range(len(words)))}
        for key in keys:
            group = groups.setdefault(key, [])
            for first, other in group:
                pair = (other.id, entry.id)
                if pair not in reported and same_title(other, entry):
                    reported.add(pair)
                    document.wrong(
                        f"nearly the title of {_near(first, document)}; if they are two things, name one in the "
                        "`relates_to` of the other",
                        ("title",),
                    )
            group.append((document, entry))


def _dates(documents: list[Document]) -> None:
    tomorrow = datetime.date.today() + datetime.timedelta(days=1)  # it may be tomorrow where the entry was written
    for document, entry in _valid(documents):
        if entry.year > tomorrow.year:
            document.wrong(f"{entry.year} is to come", ("year",))
        for name in ("added", "last_commit"):
            if (getattr(entry, name, None) or "") > tomorrow.isoformat():
                document.wrong(f"{getattr(entry, name)} is to come", (name,))


def _near(file: Document, seen_from: Document) -> str:
    """The folder and name of a file, enough to find it."""
    return file.file.name if file.file.parent == seen_from.file.parent else "/".join(file.file.parts[-2:])
