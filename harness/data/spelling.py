"""Differences that cannot be seen between a label in a file and the label that the task declares."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

# Characters without width, and marks of direction. The joiners U+200C and U+200D are not among them: inside a word
# they have a meaning, in Persian and in emoji; at its ends they have none.
INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")
JOINERS = "\u200c\u200d"
HYPHENS = re.compile("[\u2010-\u2013\u2212]")  # and dashes, which programs write for a hyphen


def plain(text: str) -> str:
    """The text without what cannot be seen: composed, without invisible characters, single spaces between words."""
    text = INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    return " ".join(text.strip(JOINERS).split()).strip(JOINERS)


def narrow(text: str) -> str:
    """The plain text in Unicode's compatibility form, without full-width letters and the like, with plain hyphens."""
    return plain(HYPHENS.sub("-", unicodedata.normalize("NFKC", text)))


def caseless(text: str) -> str:
    """The narrow text without differences in case."""
    return narrow(text).casefold()


def unique(form: Callable[[str], str], texts: Iterable[str]) -> dict[str, str]:
    """The texts by their form, without those that share one."""
    known = list(texts)
    shared = Counter(map(form, known))
    return {form(text): text for text in known if shared[form(text)] == 1}


def difference(text: str, wanted: str) -> str:
    """How ``text`` differs from a text of the same plain form."""
    if unicodedata.normalize("NFC", text) == unicodedata.normalize("NFC", wanted):
        return "in their Unicode form"
    if " ".join(text.split()) == " ".join(wanted.split()):
        return "in white space"
    return "in characters that cannot be seen"


def lookalikes(texts: Iterable[str]) -> list[list[str]]:
    """Groups of texts that differ only in case, white space, width, or in what a reader hardly sees."""
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(re.sub(f"[{JOINERS}]", "", caseless(text)), []).append(text)
    return [group for group in groups.values() if len(group) > 1]
