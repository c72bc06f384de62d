"""Letters in the form that searches compare: one width, no accents, simplified Chinese characters.

The searches in the pages fold their queries by the same rules (``site/templates/search.js.j2``).
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

_PLAIN = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ł": "l", "þ": "th"}
_PLAIN_TABLE = str.maketrans(_PLAIN)


def fold(text: str) -> str:
    """``text`` in the form that searches compare.

    >>> fold("Núñez, ＢＥＲＴ, Straße, 命名實體識別")
    'nunez, bert, strasse, 命名实体识别'
    """
    return unaccented(text).translate(_table())


def unaccented(text: str) -> str:
    """``text`` in lower case, of one width and without accents; marks that make other letters, as in Hindi, stay."""
    apart = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).lower())
    plain = unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", apart))
    return plain.translate(_PLAIN_TABLE)


def replaced(texts: Iterable[str]) -> dict[str, str]:
    """The letters that ``fold`` replaces, limited to those that a search of ``texts`` needs."""
    letters = {letter for text in texts for letter in text}  # each is folded once: the texts are megabytes
    used = {other for letter in letters for other in fold(letter)}
    return _PLAIN | {letter: simple for letter, simple in _simplified().items() if simple in used}


def otherwise(text: str) -> list[str]:
    """Other spellings of the words of ``text``: with folded letters, or without a hyphen.

    >>> otherwise("Fine-tuning by Núñez")
    ['finetuning', 'nunez']
    """
    words = re.findall(r"[^\s,.:;()/、。，．：；？！（）《》]+", text)
    folded = [(word, fold(word)) for word in words]
    parts = [part for word, plain in folded if plain != word.lower() for part in plain.split("-")]
    joined = [plain.replace("-", "") for _, plain in folded if re.fullmatch(r"[^\W\d_]+(-[^\W\d_]+)+", plain)]
    return sorted({*filter(None, parts), *joined})


@cache
def _table() -> dict[int, str]:
    return {ord(letter): simple for letter, simple in _simplified().items()}


@cache
def _simplified() -> dict[str, str]:
    """The simplified form of each traditional character that differs from it."""
    import opencc  # imported here because `check` needs only unaccented()

    letters = [chr(code) for code in (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000))]
    simple = opencc.OpenCC("t2s").convert("\n".join(letters)).split("\n")
    return {one: other for one, other in zip(letters, simple, strict=True) if one != other}
