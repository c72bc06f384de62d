"""Checks across entries: two files for one resource, ids that do not exist, dates in the future."""

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from catalog import evidence, identifiers
from catalog.errors import Problem, printable
from catalog.folding import unaccented
from catalog.load import ENTRIES, Document, read_folder
from catalog.reported.check import check_reported
from catalog.schema import FACTS, LINKS, Article, Entry, Model, Paper, Repository
from catalog.values import VOCABULARY, nearest, vocabulary

IDENTIFYING = ("arxiv", "doi", "url", "renamed_to")
ONE_EACH = ("arXiv id", "ACL Anthology id", "OpenReview id")  # a work has at most one of each
SIMILAR = 0.9  # similarity from 0 to 1 above which two titles are taken for the same


def check(folder: Path = ENTRIES, whole: bool | None = None) -> list[Problem]:
    """All problems of the entries in ``folder``, by file and line. BadInput if there is no such folder.

    ``whole`` says that the folder is a whole catalog, in which each entry is linked with another and each tag is used;
    without it, only the project's own catalog is taken for one.
    """
    return check_documents(read_folder(folder), folder == ENTRIES if whole is None else whole)


def check_documents(documents: list[Document], whole: bool = False) -> list[Problem]:
    """As ``check``, of files that have been read."""
    for compare in (
        _ids,
        _references,
        _identifiers,
        _titles,
        _dates,
        _sources,
        _venues,
        _wording,
        _code_and_names,
        check_reported,
    ):
        compare(documents)
    if whole:
        _whole(documents)
    return sorted({problem for document in documents for problem in document.problems})


def github_annotation(problem: Problem) -> str:
    """``problem`` as a workflow command of GitHub Actions, which shows it at that line of a pull request."""

    def escaped(text: str, more: dict[str, str]) -> str:
        for character, code in {"%": "%25", "\r": "%0D", "\n": "%0A", **more}.items():
            text = text.replace(character, code)
        return text

    file = escaped(printable(problem.file), {":": "%3A", ",": "%2C"})
    message = f"{problem.field}: {problem.message}" if problem.field else problem.message
    return f"::error file={file},line={problem.line}::{escaped(message, {})}"


def identities(data: Mapping[str, Any]) -> Iterator[tuple[str, identifiers.Identity]]:
    """The (field, identity) pairs of all fields in an entry's data that identify its resource."""
    for name in IDENTIFYING:
        text = data.get(name)
        if isinstance(text, str) and text:
            yield name, identifiers.identify(text)


def same_title(one: Entry, other: Entry) -> bool:
    """Whether the titles of two entries are so similar that both may describe one resource.

    Two repositories of the same name are distinguished by their addresses. Names of models and data sets differ in
    one word (base, large), so only equal names count, and the same holds for entries of different kinds. Entries that
    name each other are known to be different, and so are a paper and the repository of its code.
    """
    if type(one) is type(other) is Repository or _linked(one.model_dump(), other.model_dump()) or _code(one, other):
        return False
    a, b = _words(one.title), _words(other.title)
    if a == b:
        return bool(a) or one.title == other.title  # titles of punctuation alone have no words
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
    """Whether one entry names the other, and thereby says that they are different."""
    return other.get("id") in _named(one) or one.get("id") in _named(other)


def _named(data: Mapping[str, Any]) -> list[Any]:
    found = [data.get(name) or [] for name in LINKS]
    return [each for named in found for each in (named if isinstance(named, list) else [named])]


def _words(title: str) -> list[str]:
    """The words of a title without case, accents and punctuation; each Chinese character is a word."""
    return re.findall(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+", unaccented(title))


def _valid(documents: Iterable[Document]) -> Iterator[tuple[Document, Entry]]:
    return ((document, document.entry) for document in documents if document.entry)


def _ids(documents: list[Document]) -> None:
    """Check that ids are unique across kinds, and so are the places in the 2018 list."""
    for name, what in (("id", "id"), ("seed", "item of the 2018 list")):
        seen: dict[str, Document] = {}
        for document in documents:
            value = document.data.get(name)
            if isinstance(value, str) and (first := seen.setdefault(value, document)) is not document:
                document.wrong(f"the {what} {value!r} is already in {_near(first, document)}", (name,))


def _references(documents: list[Document]) -> None:
    """Check that the entries that an entry points to exist and are of the right kind."""
    known = {text: doc for doc in documents for text in (doc.data.get("id"), doc.file.stem) if isinstance(text, str)}
    for document, entry in _valid(documents):
        for place, target in _links(entry):
            if target == entry.id:
                document.wrong("points to itself; remove it", place)
            elif target not in known:
                document.wrong(f"there is no entry {target!r}{nearest(target, known)}", place)
            elif place[0] in _TARGETS and known[target].data.get("kind") not in _TARGETS[place[0]][0]:
                kind = known[target].data.get("kind")
                document.wrong(f"{target!r} is a {kind}; {_TARGETS[place[0]][1]}", place)


_MODEL = ("paper", "model")
_TARGETS = {
    "implements": (_MODEL, "a paper or model is implemented"),
    "base_model": (_MODEL, "a paper or model is built on"),
    "builds_on": (_MODEL, "a paper or model is built on; write other entries in `relates_to`"),
    "distils": (_MODEL, "a paper or model is distilled"),
    "compresses": (_MODEL, "a paper or model is compressed"),
    "analyses": (_MODEL, "a paper or model is analysed; write other entries in `relates_to`"),
    "evaluates_on": (("dataset",), "a data set is evaluated on"),
    "translates": (("paper", "article"), "a paper or article is translated"),
}


def _links(entry: Entry) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The (place, id) pairs of all entries that an entry names."""
    fields = vars(entry)
    for name in LINKS:
        found = fields.get(name)
        if isinstance(found, str):
            yield (name,), found
        else:
            yield from (((name, at), target) for at, target in enumerate(found or []))


def _identifiers(documents: list[Document]) -> None:
    """Check that no two entries identify one work, by whichever fields and addresses, and no entry identifies two."""
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
    """Find similar titles. Only titles that share all words but one are compared letter by letter, for speed."""
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
    tomorrow = datetime.date.today() + datetime.timedelta(
        days=1
    )  # where the entry was written, it may be tomorrow already
    for document, entry in _valid(documents):
        if entry.year > tomorrow.year:
            document.wrong(f"{entry.year} is in the future", ("year",))
        for name in ("added", "last_commit"):
            if (getattr(entry, name, None) or "") > tomorrow.isoformat():
                document.wrong(f"{getattr(entry, name)} is in the future", (name,))


def _sources(documents: list[Document]) -> None:
    """Check that each source names a place, and each fact of a model a source."""
    for document, entry in _valid(documents):
        for at, source in enumerate(entry.sources):
            if not evidence.names_a_place(source):
                document.wrong(f"{source!r} names no place to look; write {evidence.FORMS}", ("sources", at))
        if isinstance(entry, Model):
            said = " ".join(found for source in entry.sources for found in re.findall(r"\(([^()]*)\)", source))
            for name, words in FACTS.items():
                if getattr(entry, name) and words not in said:
                    document.wrong(f"no source states it; write ({words}) after the source that does", (name,))


def _venues(documents: list[Document]) -> None:
    """Check that a paper's venue is the meeting that its ids in the ACL Anthology name."""
    for document, entry in _valid(documents):
        for name in ("doi", "url"):
            meeting = evidence.meeting_of(getattr(entry, name) or "")
            venue = getattr(entry, "venue", None)
            if meeting and venue and not re.match(rf"{meeting}\b", venue):
                document.wrong(f"is {venue!r}, but the Anthology's {name} is of {meeting}", ("venue",))


def _wording(documents: list[Document]) -> None:
    """Check summaries for ranks without a date, and Chinese text for words that the glossary replaces."""
    for document, entry in _valid(documents):
        for language in ("en", "zh"):
            name = f"summary_{language}"
            if claim := evidence.undated_rank(getattr(entry, name) or "", language):
                remedy = "say since or until which year in that sentence, with a source, or leave it out"
                document.wrong(f"{claim!r} claims a rank without a date; {remedy}", (name,))
        if times := evidence.ambiguous_times(entry.summary_zh or ""):
            remedy = "say which share or multiple: 速度是……的 N 倍, 降至 1/N"
            document.wrong(f"{times!r} can be read in two ways; {remedy}", ("summary_zh",))
        for name in ("title_zh", "summary_zh"):
            if wrong := evidence.wrong_term(getattr(entry, name) or ""):
                document.wrong(f"{wrong[0]!r} is {wrong[1]!r} here; see the glossary in vocabulary.yaml", (name,))


_RENAMED = re.compile(r"\bis (?:now )?called\b|\b(?:was |now )renamed\b|现名|更名为|改名为")


def _code_and_names(documents: list[Document]) -> None:
    """Check that code which is an entry implements its paper, and that renamed repositories give their new name."""
    repositories: dict[str, tuple[Document, Repository]] = {}
    for document, entry in _valid(documents):
        if isinstance(entry, Repository):
            for address in filter(None, (entry.url, entry.renamed_to)):
                repositories[identifiers.identify(address).normal] = (document, entry)
    for document, entry in _valid(documents):
        for at, address in enumerate(getattr(entry, "code", [])):
            file, code = repositories.get(identifiers.identify(address).normal, (None, None))
            if file and code and entry.id not in code.implements:
                document.wrong(f"is {_near(file, document)}; add {entry.id!r} to its `implements`", ("code", at))
        if isinstance(entry, Repository) and not entry.renamed_to:
            for name in ("summary_en", "summary_zh"):
                if found := _RENAMED.search(getattr(entry, name) or ""):
                    message = f"says that it was renamed ({found[0]!r}); add `renamed_to`, its present address"
                    document.wrong(message, (name,))


def _whole(documents: list[Document]) -> None:
    """Check what holds for the whole catalog: each entry is linked with another, and each tag is used."""
    linked: set[str] = set()
    used: set[str] = set()
    for _, entry in _valid(documents):
        used.update(entry.tags)
        for _, target in _links(entry):
            linked |= {entry.id, target}
    for document, entry in _valid(documents):
        if entry.id not in linked:
            document.wrong("is linked with no other entry; name one in `builds_on`, `relates_to` or the like", ("id",))
    if unused := [tag for tag in vocabulary()["tags"] if tag not in used]:
        documents[0].problems.append(
            Problem(VOCABULARY, 1, "tags", f"{', '.join(unused)}: no entry has it; remove it, or tag an entry with it")
        )


def _near(file: Document, seen_from: Document) -> str:
    """The file's name, with its folder if that is another one than that of ``seen_from``."""
    return file.file.name if file.file.parent == seen_from.file.parent else "/".join(file.file.parts[-2:])
