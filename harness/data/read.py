"""Reading a task's files: every split as a list of examples, with labels by name.

Each file is read whole, checked line by line, and what is wrong is named by file, line and column: what stands there
is not quoted, as it may be of a data set that must not be passed on.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from harness.data.cells import Label, LabelColumn, is_ignored, text_of
from harness.data.repairs import LEFT_OUT, Repairs
from harness.data.sentences import DOCUMENT, sentences
from harness.data.spelling import difference, loose, plain, unique
from harness.data.tables import READERS, Rows, WrongWidth
from harness.data.tags import Tags, WrongTag
from harness.data.task import Task, task_files
from harness.errors import BadInput

BOMS = {"utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)}


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


class Read(NamedTuple):
    """A split as it is read."""

    examples: list[TextExample] | list[WordExample]  # in the file's order
    repairs: list[dict[str, Any]]  # what was read otherwise than it is written: what, count, first (file and line)


def read_split(task: Task, split: str, data_folder: Path | None) -> list[TextExample] | list[WordExample]:
    """The examples of one split, in the file's order: WordExample where the task is tagging.

    Text is given as it stands in the file. BadInput says which file and line is wrong, and why.
    """
    return read(task, split, data_folder).examples


def read(task: Task, split: str, data_folder: Path | None) -> Read:
    """The same, with what was repaired on the way."""
    path = _path(task, split, data_folder)
    return read_content(task, split, path, _content(task, path))


def read_content(task: Task, split: str, path: Path, content: str) -> Read:
    """The same of a file's text; ``path`` is what errors name."""
    repairs = Repairs(path.name)
    try:
        examples = (_word_examples if task.format == "conll" else _text_examples)(task, split, path, content, repairs)
    except WrongWidth as error:
        raise BadInput(f"{error}{_another_copy(task)}") from None
    return Read(examples, repairs.counted())


def _another_copy(task: Task) -> str:
    """What to do where a file of a built-in task is damaged."""
    if task.download is None:
        return ""
    if task.name == "qqp":
        return "; the copy of 2018 has such lines, and `python -m harness data get qqp` gets the clean one"
    return f"; `python -m harness data get {task.download}` gets the official file"


def _path(task: Task, split: str, data_folder: Path | None) -> Path:
    files = task_files(task, data_folder)
    if split not in files:
        raise BadInput(f"task {task.name} has no split {split!r}; it has {', '.join(files)}")
    return files[split]


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
        marked = [name for name, marks in BOMS.items() if raw.startswith(marks)]
        remedy = f"declare `encoding: {marked[-1]}`, which it begins as" if marked else "declare its encoding"
        why = f"not {task.encoding} text ({error.reason}); convert the file, or {remedy}"
        raise BadInput(f"{path}:{line}: {why}") from None
    content = content.removeprefix("\ufeff")  # of an encoding whose name says the order of bytes, or a second one
    if "\0" in content:
        line = content[: content.index("\0")].count("\n") + 1
        raise BadInput(f"{path}:{line}: a NUL character: the file is damaged, not text, or utf-16; get it again")
    if not content.strip():
        raise BadInput(f"{path} is empty; get it again")
    return content


# Texts: tsv, csv, jsonl


def _text_examples(task: Task, split: str, path: Path, content: str, repairs: Repairs) -> list[TextExample]:
    line, ignored = 0, 0
    examples: list[TextExample] = []
    seen: dict[str, int] = {}
    unlabelled: list[int] = []  # lines of a test split whose label is null

    def note(what: str) -> None:
        repairs.add(what, line)

    at, rows = _columns(task, split, path, content, repairs)
    column = LabelColumn(task, task.files[split].columns.get("label", ""), note)
    try:
        for place, (line, row) in enumerate(rows):
            if "label" in at and is_ignored(task, row[at["label"]]):
                note(f"examples that `ignore` names, {LEFT_OUT}")
                ignored += 1
                continue
            name = _id(row[at["id"]]) if "id" in at else str(place)
            text, pair = _text_and_pair(row, at)
            label = None
            if "label" in at and row[at["label"]] is None and split.startswith("test"):
                unlabelled.append(line)
            elif "label" in at:
                label = column.read(row[at["label"]])
            if seen.setdefault(name, line) != line:
                said = f"the id, column {task.files[split].columns['id']!r}, is that of line {seen[name]} too"
                raise ValueError(f"{said}; an id names one example")
            examples.append(TextExample(name, text, pair, label))
        if "label" in at and examples and not unlabelled:
            column.finish()
    except ValueError as error:
        raise BadInput(f"{path}:{line}: {error}") from None
    except KeyError as error:
        raise BadInput(f"{path}:{line}: no field {error}, which line 1 has") from None
    if not examples:
        only = "only examples that `ignore` names; if it has no labels, declare no label column"
        raise BadInput(f"{path} has {only if ignored else 'a header and no rows; get it again'}")
    if 0 < len(unlabelled) < len(examples):
        raise BadInput(f"{path}:{unlabelled[0]}: the label is null, and others are not; `ignore: [null]` leaves it out")
    return examples


def _text_and_pair(row: Any, at: dict[str, Any]) -> tuple[str, str | None]:
    text, pair = row[at["text"]], row[at["pair"]] if "pair" in at else None
    if not isinstance(text, str) or ("pair" in at and not isinstance(pair, str)):
        raise ValueError("text and pair must be strings")
    return text, pair


def _id(cell: Any) -> str:
    try:
        return text_of(cell)
    except ValueError as error:
        raise ValueError(f"the id {error}".replace("label", "id")) from None


def label_cells(task: Task, split: str, data_folder: Path | None) -> Iterator[Any]:
    """The label column of a split as it is written, without what the task ignores; of tags, their entity types."""
    path = _path(task, split, data_folder)
    content, repairs = _content(task, path), Repairs(path.name)
    if task.format == "conll":
        at, tags = _word_columns(task, split), Tags(task, 0, repairs)
        for sentence in sentences(task, at, path, content, tags.has, repairs):
            yield from filter(None, (tags.entity(row[at["tag"]]) for row in sentence.rows))
        return
    at, rows = _columns(task, split, path, content, repairs)
    for line, row in rows:
        if isinstance(row, dict) and at["label"] not in row:
            raise BadInput(f"{path}:{line}: no field {at['label']!r}, which line 1 has")
        if not is_ignored(task, cell := row[at["label"]]):
            yield cell


def _columns(task: Task, split: str, path: Path, content: str, repairs: Repairs) -> tuple[dict[str, Any], Rows]:
    """What indexes a row to get each role's value, from the first row; and the rows that hold examples.

    Only a test split may lack the label column that the task declares: it is unlabelled then.
    """
    rows = READERS[task.format](path, content, repairs)
    try:
        line, first = next(rows)
    except StopIteration:
        raise BadInput(f"{path} is empty; get it again") from None
    file = task.files[split]
    named = file.header and task.format != "jsonl"
    if task.format == "jsonl":
        index = {name: name for name in first}
    elif file.header:
        index = {name: number for number, name in enumerate(first)}
        if twice := sorted({str(name) for name in file.columns.values() if list(first).count(name) > 1}):
            raise BadInput(f"{path}:{line}: more than one column is called {', '.join(twice)}")
    else:
        index = {number: number for number in range(len(first))}
    at = {}
    for role, column in file.columns.items():
        found = column if column in index else _like(column, list(first), line, repairs)
        if found in index:
            at[role] = index[found]
        elif role != "label" or not split.startswith("test") or _near(column, list(index)):
            why = _no_column(column, list(index))
            raise BadInput(f"{path}:{line}: no column {column!r}, the task's {role}, among the {len(index)} there{why}")
    rows = rows if named else chain([(line, first)], rows)
    return at, _filled(rows, repairs) if "label" in at and task.format != "jsonl" else rows


def _like(column: Any, names: list[str], line: int, repairs: Repairs) -> Any:
    """The column that differs from the wanted one in nothing that can be seen; else the wanted one."""
    found = unique(plain, names).get(plain(column)) if isinstance(column, str) else None
    if found is None:
        return column
    repairs.add(f"column names that differ from the task's only {difference(found, column)}, read as those", line)
    return found


def _no_column(column: Any, names: list[Any]) -> str:
    """What is like the column that is not there; or what else may be the matter with the header."""
    if len(names) == 1 and (found := re.search("[;\t,|]| (?=\\S)", str(names[0]))):
        return f"; its one column holds {found[0]!r}: is that what separates them?"
    return "; one differs from it in upper and lower case or width alone" if _near(column, names) else ""


def _near(column: Any, names: list[Any]) -> bool:
    return any(loose(str(name)) == loose(str(column)) for name in names)


def _filled(rows: Rows, repairs: Repairs) -> Rows:
    """The rows that have anything in them: spreadsheets write rows of nothing but separators behind their data."""
    for line, row in rows:
        if any(cell.strip() for cell in row):
            yield line, row
        else:
            repairs.add(f"rows of empty cells, {LEFT_OUT}", line)


# Words: conll


def _word_columns(task: Task, split: str) -> dict[str, int]:
    return {role: int(column) for role, column in task.files[split].columns.items()}


def _word_examples(task: Task, split: str, path: Path, content: str, repairs: Repairs) -> list[WordExample]:
    at = _word_columns(task, split)
    marked = re.search(f"^{DOCUMENT}", content, re.MULTILINE)
    tags = Tags(task, at.get("tag", -1), repairs)
    examples: list[WordExample] = []
    for document, lines, rows in sentences(task, at, path, content, tags.has, repairs):
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
