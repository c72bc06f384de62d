"""Reading a task's files: every split as a list of examples, with labels by name.

Each file is read whole, checked line by line, and what is wrong is named by file, line and column: what stands there
is not quoted, as it may be of a data set that must not be passed on.
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.task import Task, task_files

Label = str | float | tuple[str, ...]
DOCUMENT = "-DOCSTART-"  # begins the line that begins a document
PREFIXES = {
    "iob1": ("I", "B", "O"),  # B only where an entity follows another of its type
    "iob2": ("B", "I", "O"),  # B wherever an entity begins
    "iob": ("B", "I", "O"),  # either of these, as conlleval reads it: an I that continues nothing begins
    "bmes": ("B", "M", "I", "E", "S", "O"),  # M and I are the same: also known as BIOES
}
Sentence = tuple[int, int, list[list[str]]]  # its first line, its document, and the columns of each word
Rows = Iterator[tuple[int, Any]]  # line number from 1, and its columns: a list, or the object of a JSON line


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text or a pair of texts."""

    id: str  # of its id column, else its 0-based row
    text: str
    pair: str | None
    label: Label | None  # a name, a number in regression, names in multi-label; None where unlabelled


@dataclass(frozen=True, slots=True)
class WordExample:
    """A sentence as its words."""

    id: str  # its 0-based place in the file
    words: tuple[str, ...]
    tags: tuple[str, ...] | None  # IOB2, one for each word; None where unlabelled
    document: int  # which document it stands in; a file that marks none has one for each sentence


def read_split(task: Task, split: str, data_folder: Path | None) -> list[TextExample] | list[WordExample]:
    """The examples of one split, in the file's order: WordExample where the task is tagging.

    Text is given as it stands in the file. BadInput says which file and line is wrong, and why.
    """
    files = task_files(task, data_folder)
    if split not in files:
        raise BadInput(f"task {task.name} has no split {split!r}; it has {', '.join(files)}")
    return examples_in(task, split, files[split], _content(task, files[split]))


def examples_in(task: Task, split: str, path: Path, content: str) -> list[TextExample] | list[WordExample]:
    """The examples in a file's text; ``path`` is what errors name."""
    if task.format == "conll":
        return _word_examples(task, split, path, content)
    return _text_examples(task, split, path, content)


def word_lines(task: Task, split: str, path: Path, content: str) -> list[list[int]]:
    """Of each sentence in a file's text, the line of each word, from 1."""
    at = {"word": int(task.files[split].columns["word"])}
    return [[*range(line, line + len(rows))] for line, _, rows in _sentences(task, at, path, content)]


def _content(task: Task, path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        get = f"; `python -m harness data get {task.download}` gets it" if task.download else ""
        raise BadInput(f"{path} is not there{get}") from None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    return decoded(task, path, raw)


def decoded(task: Task, path: Path, raw: bytes) -> str:
    """The text of a file's bytes, in the task's encoding. BadInput where they are not such text, or none at all."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")  # the byte order mark of MRPC's files
    try:
        content = raw.decode(task.encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        why = f"not {task.encoding} text ({error.reason}); convert the file, or declare its encoding"
        raise BadInput(f"{path}:{line}: {why}") from None
    if "\0" in content:
        line = content[: content.index("\0")].count("\n") + 1
        raise BadInput(f"{path}:{line}: a NUL character: the file is damaged, or not text; get it again")
    if not content.strip():
        raise BadInput(f"{path} is empty; get it again")
    return content


def _lines(content: str) -> list[str]:
    """Split at line feeds alone: str.splitlines also does at characters that occur inside a text."""
    lines = content.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


# Texts: tsv, csv, jsonl


def _text_examples(task: Task, split: str, path: Path, content: str) -> list[TextExample]:
    at, rows = _columns(task, split, path, READERS[task.format](path, content))
    columns = task.files[split].columns
    examples: list[TextExample] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        try:
            name = str(row[at["id"]]) if "id" in at else str(len(examples))
            text, pair = row[at["text"]], row[at["pair"]] if "pair" in at else None
            label = _label(task, row[at["label"]], columns["label"]) if "label" in at else None
            if not isinstance(text, str) or ("pair" in at and not isinstance(pair, str)):
                raise ValueError("text and pair must be strings")
            if seen.setdefault(name, line) != line:
                said = f"the id, column {columns['id']!r}, is that of line {seen[name]} too"
                raise ValueError(f"{said}; an id names one example")
        except ValueError as error:
            raise BadInput(f"{path}:{line}: {error}") from None
        except KeyError as error:
            raise BadInput(f"{path}:{line}: no field {error}, which line 1 has") from None
        examples.append(TextExample(name, text, pair, label))
    if not examples:
        raise BadInput(f"{path} has a header and no rows; get it again")
    return examples


def _columns(task: Task, split: str, path: Path, rows: Rows) -> tuple[dict[str, Any], Rows]:
    """What indexes a row to get each role's value, from the first row; and the rows that hold examples.

    Only a test split may lack the label column that the task declares: it is unlabelled then.
    """
    line, first = next(rows)
    file = task.files[split]
    if task.format == "jsonl":
        index = {name: name for name in first}
    elif file.header:
        index = {name: number for number, name in enumerate(first)}
        if twice := sorted({str(name) for name in file.columns.values() if list(first).count(name) > 1}):
            raise BadInput(f"{path}:{line}: more than one column is called {', '.join(twice)}")
    else:
        index = {number: number for number in range(len(first))}
    at = {role: index[column] for role, column in file.columns.items() if column in index}
    for role, column in file.columns.items():
        if role not in at and not (role == "label" and split.startswith("test")):
            raise BadInput(f"{path}:{line}: no column {column!r}, the task's {role}, among the {len(index)} there")
    named = file.header and task.format != "jsonl"
    return at, rows if named else chain([(line, first)], rows)


def _tsv(path: Path, content: str) -> Rows:
    width = 0
    for number, line in enumerate(_lines(content), 1):
        row = line.split("\t")
        width = width or len(row)
        if len(row) != width:
            raise BadInput(f"{path}:{number}: expected {width} columns as in line 1, got {len(row)}")
        yield number, row


def _csv(path: Path, content: str) -> Rows:
    csv.field_size_limit(2**31 - 1)  # the default of 128 KiB is less than a long document
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    width = 0
    while True:
        number = reader.line_num + 1  # where the row begins: a quoted line break makes it end further down
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise BadInput(f"{path}:{number}: not valid CSV: {error}") from None
        if row is None:
            return
        if not row:  # a blank line, as many programs leave one at the end
            continue
        width = width or len(row)
        if len(row) != width:
            raise BadInput(f"{path}:{number}: expected {width} columns as in line 1, got {len(row)}")
        yield number, row


def _jsonl(path: Path, content: str) -> Rows:
    for number, line in enumerate(_lines(content), 1):
        try:
            row = json.loads(line)
            if "\\u" in line:
                json.dumps(row, ensure_ascii=False).encode()  # an escape may be half a character, which is no text
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}:{number}: not valid JSON: {error}") from None
        if not isinstance(row, dict):
            raise BadInput(f"{path}:{number}: each line must be one JSON object")
        yield number, row


READERS: dict[str, Callable[[Path, str], Rows]] = {"tsv": _tsv, "csv": _csv, "jsonl": _jsonl}


def _label(task: Task, value: Any, column: str | int) -> Label:
    """What a value in this column stands for; ValueError if that is nothing the task declares."""
    if task.kind == "regression":
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"the label, column {column!r}, must be a number")
        return number
    if task.kind == "multi-label":
        if not isinstance(value, list):  # a list is what a JSON line has
            value = str(value).split(task.label_separator) if value != "" else []
        return tuple(_name(task, each, column) for each in value)
    return _name(task, value, column)


def _name(task: Task, value: Any, column: str | int) -> str:
    name = task.labels.get(str(value))
    if name is None:
        known = ", ".join(task.labels)
        raise ValueError(f"the label, column {column!r}, is not declared; task {task.name} has {known}")
    return name


# Words: conll


def _word_examples(task: Task, split: str, path: Path, content: str) -> list[WordExample]:
    at = {role: int(column) for role, column in task.files[split].columns.items()}
    marked = re.search(f"^{DOCUMENT}", content, re.MULTILINE)
    iob2: dict[tuple[str, str], str] = {}  # what a tag becomes depends on it and the one before it alone
    examples: list[WordExample] = []
    for line, document, rows in _sentences(task, at, path, content):
        words = tuple(row[at["word"]] for row in rows)
        tags = None
        if "tag" in at:
            tags = _iob2_tags(task, [row[at["tag"]] for row in rows], at["tag"], iob2, path, line)
        place = len(examples)
        examples.append(WordExample(str(place), words, tags, document if marked else place))
    if not examples:
        raise BadInput(f"{path} has no sentences; get it again")
    return examples


def _sentences(task: Task, at: dict[str, int], path: Path, content: str) -> Iterator[Sentence]:
    cut = re.compile("\t" if task.separator == "tab" else "[ \t]+").split
    least = max(len(at), *(column + 1 if column >= 0 else -column for column in at.values()))
    width, document, any_before = 0, 0, False
    rows: list[list[str]] = []
    for number, line in enumerate(chain(_lines(content), [""]), 1):
        starts_document = line.startswith(DOCUMENT)
        if starts_document or not line.strip(" \t"):
            if rows:
                yield number - len(rows), document, rows
                rows, any_before = [], True
            document += starts_document and any_before
            continue
        row = cut(line if task.separator == "tab" else line.strip(" \t"))
        width = width or max(len(row), least)
        if len(row) != width:
            raise BadInput(f"{path}:{number}: expected {width} columns, got {len(row)}")
        if not row[at["word"]]:
            raise BadInput(f"{path}:{number}: the word, column {at['word']}, is empty")
        rows.append(row)


def _iob2_tags(
    task: Task, raw: list[str], column: int, known: dict[tuple[str, str], str], path: Path, line: int
) -> tuple[str, ...]:
    tags = []
    for number, step in enumerate(pairwise(["O", *raw, "O"])):
        try:
            tags.append(known.get(step) or known.setdefault(step, _iob2(task, *step)))
        except ValueError as error:
            wrong = line + min(number, len(raw) - 1)
            raise BadInput(f"{path}:{wrong}: the tag, column {column}: {error}") from None
    return tuple(tags[:-1])


def _iob2(task: Task, before: str, tag: str) -> str:
    """A tag in IOB2, by the tag before it; "O" also stands for both ends of a sentence.

    ValueError if the task declares no such tag, or its scheme has none there.
    """
    prefix, _, entity = tag.partition("-")
    last, _, last_entity = before.partition("-")
    same = entity == last_entity
    if prefix not in PREFIXES[task.scheme] or (prefix == "O") != (tag == "O"):
        known = ", ".join(PREFIXES[task.scheme])
        raise ValueError(f"no {task.scheme} tag; they begin with {known}")
    if tag != "O" and entity not in task.labels:
        known = ", ".join(task.labels)
        raise ValueError(f"its entity type is not declared; task {task.name} has {known}")
    inside = prefix in ("I", "M", "E")
    if task.scheme == "bmes":
        impossible = (inside and same) != (last in ("B", "I", "M")) or (inside and not same)
    else:
        impossible = prefix == {"iob1": "B", "iob2": "I", "iob": ""}[task.scheme] and not same
    if impossible:
        raise ValueError(f"{tag} cannot follow {before} in {task.scheme}; is another scheme meant?")
    if tag == "O":
        return tag
    begins = prefix in ("B", "S") or not same
    return f"{'B' if begins else 'I'}-{task.labels[entity]}"
