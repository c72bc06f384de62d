"""Reads a folder's vocabulary and decides whether its tokenizer lower-cases.

It needs only the standard library, because environments with an old Python load this file by its path
(``read_vocabulary`` in the harness).
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

# Google's released folders, from the lists in its tokenization.py (``validate_case_matches_checkpoint``).
LOWER_CASED = (
    "uncased_L-24_H-1024_A-16",
    "uncased_L-12_H-768_A-12",
    "multilingual_L-12_H-768_A-12",
    "chinese_L-12_H-768_A-12",
)
CASED = ("cased_L-12_H-768_A-12", "cased_L-24_H-1024_A-16", "multi_cased_L-12_H-768_A-12")
# A vocabulary is cased if more than this share of its words has capitals: over a third have in cased ones, else none.
SHARE = 0.05
# Unicode's white space, which the tokenizers library strips from a line's end; Python strips more.
WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
NO_PIECE = re.compile(r"\[no piece \d+\]")  # the name of an unused id
WHOLE_FILE = ("PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend")  # they use all of tokenizer.json


class Case(NamedTuple):
    """Whether a tokenizer lower-cases, and why."""

    lower: bool
    because: str
    stated: bool  # the files or transformers' defaults decide it; False: inferred from the name or the vocabulary


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is no file. Raises ValueError, which names it, for anything else."""
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file}: not a JSON object")
    return values


def tokenizer_class(folder: Path) -> tuple[str, str]:
    """The tokenizer class that transformers would load, and the file that names it; "" if none does."""
    for name in ("tokenizer_config.json", "config.json"):
        if said := read_json(folder / name).get("tokenizer_class"):
            return str(said), name
    return "", ""


def vocabulary_of(folder: Path) -> dict[str, int]:
    """The id of each word piece, from ``tokenizer.json`` or else from ``vocab.txt``, as transformers reads them."""
    file = folder / "tokenizer.json"
    if file.is_file():
        model = read_json(file).get("model")
        numbers = model.get("vocab") if isinstance(model, dict) else None
        if not isinstance(numbers, dict):
            raise ValueError(f"{file}: its model has no vocabulary of word pieces")
        return numbers
    return read_lines(folder / "vocab.txt")


def read_lines(file: Path) -> dict[str, int]:
    """The id of each line of a ``vocab.txt``; the last id if a line is repeated. Raises UnicodeDecodeError."""
    lines = file.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    return {line.rstrip(WHITE): number for number, line in enumerate(lines)}


def by_id(numbers: dict[str, int]) -> list[str]:
    """The word pieces in the order of their ids; an unused id gets a name that no text contains."""
    pieces = [f"[no piece {number}]" for number in range(max(numbers.values(), default=-1) + 1)]
    for piece, number in numbers.items():
        pieces[number] = piece
    return pieces


def case_of(folder: Path, pieces: Iterable[str]) -> Case:
    """Whether the folder's tokenizer lower-cases: as in transformers, if any of the folder's files decides it.

    For a folder with only ``vocab.txt``, as Google released them, transformers always lower-cases. Here its name
    decides, if it is in Google's own lists, else the vocabulary, ``pieces``.
    """
    said = read_json(folder / "tokenizer_config.json").get("do_lower_case")
    whole = read_json(folder / "tokenizer.json")
    if whole and tokenizer_class(folder)[0] in WHOLE_FILE:
        return Case(lowers(whole.get("normalizer")), "tokenizer.json says so", True)
    if said is not None:
        if not isinstance(said, bool):
            raise ValueError(f"{folder / 'tokenizer_config.json'}: do_lower_case is {said!r}; it is true or false")
        return Case(said, "tokenizer_config.json says so", True)
    if whole:
        return Case(True, "do_lower_case is not in tokenizer_config.json, and true by default in transformers", True)
    name = folder.resolve().name
    if name in LOWER_CASED + CASED:
        return Case(name in LOWER_CASED, f"Google's code says so of {name}", False)
    lower = not has_capitals(pieces)
    return Case(lower, f"its vocabulary has {'no words' if lower else 'words'} with capitals", False)


def has_capitals(pieces: Iterable[str]) -> bool:
    """Whether a vocabulary is cased: more than SHARE of its words, or of its letters if it has none, have capitals.

    Markers such as [CLS], <S> and <T> are not words, and an uncased vocabulary may have a few words with capitals.
    """
    letters = [piece for piece in pieces if piece.isalpha() and piece.lower() != piece.upper()]
    words = [piece for piece in letters if len(piece) > 1] or letters
    return sum(word != word.lower() for word in words) > SHARE * len(words)


def lowers(normalizer: Any) -> bool:
    """Whether a normalizer of tokenizer.json, or one inside a sequence, lower-cases."""
    if not isinstance(normalizer, dict):
        return False
    parts = normalizer.get("normalizers", ())
    return normalizer.get("type") == "Lowercase" or bool(normalizer.get("lowercase")) or any(map(lowers, parts))
