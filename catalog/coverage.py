"""Compares another list of works with the catalog: which works of it have no entry here.

A work of a list is a line that has an arXiv id, a DOI or an address. It is in the catalog if any of these identifies an
entry, or is the address of an entry's code; titles are not compared.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from catalog.check import identities
from catalog.errors import BadInput
from catalog.identifiers import Identity, identify
from catalog.schema import Entry

LARGEST = 20_000_000  # bytes of a list; the largest of the lists that are compared has about 400,000
_LINK = re.compile(
    r"https?://[^\s<>\[\]\"'|`()]+(?:\([^\s()]*\)[^\s<>\[\]\"'|`()]*)*"  # an address may have brackets in pairs
    r"|\barxiv[:\s]\s*\d{4}\.\d{4,5}"
    r"|\bdoi[:\s]\s*10\.\d{4,9}/[^\s<>\"'|`)\]]+",
    re.IGNORECASE,
)
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)|<img\b[^>]*>", re.IGNORECASE)
_MARKS = re.compile(r"\[([^\]]*)\]\([^)]*\)|https?://\S+|[*_`|#>]+")


@dataclass(frozen=True)
class Work:
    """One line of a list that names a work."""

    line: int
    text: str  # of the line, without links
    identities: tuple[Identity, ...]
    ours: bool  # whether the catalog has it


def works(text: str, entries: Iterable[Entry]) -> list[Work]:
    """The works of a list in the order of its lines; a work that is named again counts once."""
    known = known_identities(entries)
    found: list[Work] = []
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(text.splitlines(), 1):
        named = tuple(dict.fromkeys(identify(link) for link in _LINK.findall(_PICTURE.sub("", line))))
        keys = {(each.what, each.normal) for each in named}
        if not named or keys <= seen:
            continue
        seen |= keys
        plain = " ".join(_MARKS.sub(lambda found: found[1] or " ", line).split()).strip("-+.,:; ")
        found.append(Work(number, plain, named, not keys.isdisjoint(known)))
    return found


def known_identities(entries: Iterable[Entry]) -> set[tuple[str, str]]:
    """What identifies the works of the catalog, and the code of its papers."""
    known: set[tuple[str, str]] = set()
    for entry in entries:
        known |= {(found.what, found.normal) for _, found in identities(entry.model_dump())}
        for address in getattr(entry, "code", []):
            found = identify(address)
            known.add((found.what, found.normal))
    return known


def read_list(path: Path) -> str:
    """The text of a list. BadInput if it cannot be read, or has no link at all."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text; save the list as Markdown or plain text") from error
    if len(content) > LARGEST:
        raise BadInput(f"{path} has more than {LARGEST // 1_000_000} MB; give the list alone")
    if not _LINK.search(text):
        raise BadInput(f"{path} has no arXiv id, DOI or address, so no work of it can be looked up")
    return text


def summary(found: list[Work]) -> str:
    """How many works of a list the catalog has, in all and by kind of identifier."""
    kinds: dict[str, list[bool]] = {}
    for work in found:
        kinds.setdefault(work.identities[0].what, []).append(work.ours)
    parts = ", ".join(f"{what} {sum(ours)} of {len(ours)}" for what, ours in sorted(kinds.items()))
    ours = sum(work.ours for work in found)
    return f"{ours} of {len(found)} works are in the catalog ({100 * ours / len(found):.0f}%): {parts}"
