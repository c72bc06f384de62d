"""Characters that are invisible or not allowed in XML, and the places where they are correct.

Joiners and variation selectors belong to the writing of some languages and of emoji. Anywhere else they are left over
from copying, and no search finds the word that contains them.
"""

import re
import unicodedata

_JOINED = (  # scripts whose letters change form at a joiner or non-joiner, as Unicode names begin
    *("ARABIC", "SYRIAC", "MANDAIC", "NKO", "MONGOLIAN", "PHAGS-PA", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI"),
    *("ORIYA", "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "KHMER", "MYANMAR", "TIBETAN"),
)
_SEEN = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2\U000110bd\U000110cd"  # visible although of category Cf
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\uffa0\ufffc]"
)  # invisible although of other categories
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f]")
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{2,6}\U000e007f")  # flag of a part of a country, such as Scotland
_KEYCAP = re.compile("[0-9#*]\ufe0f?\u20e3")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_MONGOLIAN = "\u180b\u180c\u180d\u180f"
_PRINTABLE = re.compile(
    f"{_UNSEEN.pattern}|{_SELECTORS.pattern}|[{_MONGOLIAN}\ufffd]"
)  # forbidden here although Python's isprintable accepts them
_NONJOINER, _JOINER = "\u200c", "\u200d"


def wrong_character(text: str) -> tuple[str, str] | None:
    """The first character of ``text`` that is not allowed there, and why; None if there is none.

    >>> wrong_character("soft\u00adhyphen")[1]
    'contains the invisible character U+00AD (soft hyphen); remove it'
    """
    if text.replace("\n", "").isprintable() and not _PRINTABLE.search(text):
        return None
    text = _KEYCAP.sub(lambda found: " " * len(found[0]), _FLAG.sub(lambda found: " " * len(found[0]), text))
    for place, letter in enumerate(text):
        if letter not in " \n" and (why := _wrong(letter, text[:place], text[place + 1 :])):
            return letter, why
    return None


def _wrong(letter: str, before: str, after: str) -> str | None:
    code = f"U+{ord(letter):04X}"
    category = unicodedata.category(letter)
    if letter in (_NONJOINER, _JOINER):
        right = _joins(letter, before, after)
        return None if right else f"contains {code} ({_name(letter)}) where nothing is joined; remove it"
    if _SELECTORS.fullmatch(letter):
        right = _selects(letter, before)
        return None if right else f"contains the invisible character {code} ({_name(letter)}); remove it"
    if letter in _MONGOLIAN and _script(before[-1:]) == "MONGOLIAN":
        return None
    if letter == "\ufffd":
        return f"contains {code}, which replaces a character lost in decoding; write the right one"
    if category == "Co":
        return f"contains the private character {code}, which others do not see as you do; write the right one"
    if category == "Cs" or (category == "Cn" and (0xFDD0 <= ord(letter) <= 0xFDEF or ord(letter) & 0xFFFE == 0xFFFE)):
        return f"contains {code}, which is not a character and may not be in XML; remove it"
    if _SPACES.fullmatch(letter):
        return f"contains the space {code} ({_name(letter)}); write a plain space"
    if letter not in _SEEN and (category in ("Cc", "Cf", "Zl", "Zp") or _UNSEEN.fullmatch(letter)):
        return f"contains the invisible character {code}{f' ({_name(letter)})' if _name(letter) else ''}; remove it"
    return None


def _joins(letter: str, before: str, after: str) -> bool:
    """Whether a joiner or non-joiner is between letters of a script that uses them, or a joiner inside an emoji."""
    if letter == _JOINER and _pictures(before.rstrip("\ufe0f")[-1:]) and _pictures(after[:1]):
        return True
    if _script(before[-1:]) not in _JOINED:
        return False
    return _script(after[:1]) in _JOINED or letter == _JOINER  # a joiner may end a word, as in Sinhala


def _selects(letter: str, before: str) -> bool:
    """Whether a variation selector follows a character with variants: an emoji, a sign or a Chinese character."""
    last = before[-1:]
    if letter in "\ufe0e\ufe0f":
        return _pictures(last)
    return bool(last) and unicodedata.name(last, "").startswith("CJK ")


def _pictures(letter: str) -> bool:
    return bool(letter) and (unicodedata.category(letter) in ("So", "Sm", "Sk") or letter in "‼⁉〰〽")


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0] if letter else ""


def _name(letter: str) -> str:
    return unicodedata.name(letter, "").lower()
