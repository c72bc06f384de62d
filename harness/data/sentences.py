"""The sentences of a CoNLL file: one word a line, blank lines between sentences."""

import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from harness.data.examples import LEFT_OUT, Repairs, WordExample
from harness.data.reading import Reading
from harness.data.spelling import INVISIBLE, plain
from harness.data.tables import LONE, WrongWidth, lines_of
from harness.data.tags import Tags, WrongTag
from harness.errors import BadInput

DOCUMENT = "-DOCSTART-"  # begins the line that begins a document
COMMENT = re.compile(r"# +((id|newdoc|newpar)\b|[\w.:-]+ ?=)")  # as MultiCoNER and CoNLL-U have them
SPACES = re.compile("[ \t]+")


class Sentence(NamedTuple):
    """The lines of one sentence."""

    document: int
    lines: list[int]  # the number of each word's line, from 1
    rows: list[list[str]]  # the columns of each word


def sentences(
    reading: Reading, at: dict[str, int], path: Path, content: str, is_tag: Callable[[str], bool], repairs: Repairs
) -> Iterator[Sentence]:
    """The sentences in order; ``at`` has the columns of word and tag. BadInput for a line that cannot be a word."""
    least = max(len(at), *(column + 1 if column >= 0 else -column for column in at.values()))
    width, document, any_before = 0, 0, False
    sentence = Sentence(document, [], [])
    for number, line in enumerate(chain(lines_of(path, content, repairs), [""]), 1):
        starts_document = line.startswith(DOCUMENT)
        if starts_document or (not line[:1].isalnum() and _is_blank(line, at)):  # the first half spares most lines
            if sentence.rows:
                yield sentence
                any_before = True
            document += starts_document and any_before
            sentence = Sentence(document, [], [])
            continue
        row = _cut(reading, at, line)
        if line.startswith("# ") and _is_comment(line, row, at, width, is_tag):
            repairs.add(f"comment lines, {LEFT_OUT}", number)
            continue
        width = width or max(len(row), least)
        if len(row) == width - 1 and (spaced := _space_as_word(line, at)):
            row = [spaced, *row]
            repairs.add("words that are white space, read as such", number)
        if len(row) != width or not row[at["word"]] or "\r" in line:
            raise _wrong(path, number, line, row, width, at)
        sentence.lines.append(number)
        sentence.rows.append(row)


def entity_types(reading: Reading, split: str, path: Path, content: str) -> Iterator[str]:
    """The entity types of all tags in a file, for `labels: auto`."""
    at, repairs = _columns(reading, split), Repairs(path.name)
    tags = Tags(reading, at.get("tag", -1), repairs)
    for sentence in sentences(reading, at, path, content, tags.is_tag, repairs):
        yield from filter(None, (tags.entity(row[at["tag"]]) for row in sentence.rows))


def _columns(reading: Reading, split: str) -> dict[str, int]:
    return {role: int(column) for role, column in reading.files[split].columns.items()}


def word_examples(reading: Reading, split: str, path: Path, content: str, repairs: Repairs) -> list[WordExample]:
    """The sentences of a file, with their tags in IOB2. BadInput names the file and the line."""
    at = _columns(reading, split)
    marked = re.search(f"^{DOCUMENT}", content, re.MULTILINE)
    tags = Tags(reading, at.get("tag", -1), repairs)
    examples: list[WordExample] = []
    for document, lines, rows in sentences(reading, at, path, content, tags.is_tag, repairs):
        words = tuple(row[at["word"]] for row in rows)
        try:
            found = tags.iob2([row[at["tag"]] for row in rows], lines) if "tag" in at else None
        except WrongTag as error:
            raise BadInput(f"{path}:{error.line}: {error}") from None
        place = len(examples)
        examples.append(WordExample(str(place), words, found, document if marked else place))
    if not examples:
        raise BadInput(f"{path} has no sentences; get it again")
    return examples


def _is_blank(line: str, at: dict[str, int]) -> bool:
    """Whether a line ends a sentence. In a file without tags, white space other than spaces and tabs may be a word."""
    text = line.strip() if "tag" in at else line.strip(" \t")
    return not text or ("tag" in at and INVISIBLE.match(text) is not None and not plain(text))


def _cut(reading: Reading, at: dict[str, int], line: str) -> list[str]:
    if reading.separator == "whitespace":
        return SPACES.split(line.strip(" \t"))
    row = line.split("\t")
    while at.get("tag", 0) < 0 and len(row) > 1 and not row[-1].strip():  # tabs at the end of the line
        row.pop()
    return row


def _is_comment(line: str, row: list[str], at: dict[str, int], width: int, is_tag: Callable[[str], bool]) -> bool:
    """Whether a line that begins with "# " is a comment and not a word: it has no tag."""
    fits = not width or len(row) == width
    if "tag" not in at:
        return not fits or COMMENT.match(line) is not None
    return not fits or not -len(row) <= at["tag"] < len(row) or not is_tag(row[at["tag"]])


def _space_as_word(line: str, at: dict[str, int]) -> str:
    """The white space at the beginning of a line, if it is a word: all but its last character, which separates."""
    start = line[: len(line) - len(line.lstrip(" \t"))]
    return start[:-1] if "tag" in at and at["word"] == 0 else ""


def _wrong(path: Path, number: int, line: str, row: list[str], width: int, at: dict[str, int]) -> BadInput:
    if "\r" in line:
        return BadInput(f"{path}:{number}: {LONE}")
    if len(row) != width:
        return WrongWidth(f"{path}:{number}: expected {width} columns, got {len(row)}{_why(line)}")
    return BadInput(f"{path}:{number}: the word, column {at['word']}, is empty")


def _why(line: str) -> str:
    """A possible reason for a wrong number of columns."""
    if line.startswith("#"):
        return "; is it a comment? Such a line begins with # and a space"
    if line[0] in " \t":
        return "; it begins with white space: is its word missing?"
    if odd := re.search(r"[^\S \t]", line):
        return f"; it has the white space U+{ord(odd[0]):04X}, and only spaces and tabs part columns"
    return "; if words hold spaces, declare `separator: tab`" if " " in line.strip() and "\t" in line else ""
