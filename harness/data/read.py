"""Reading a task's files: every split as a list of examples, with labels by name.

Each file is read as a whole and checked line by line. Errors name file, line and column, but do not quote the content,
which may belong to a data set that must not be passed on.
"""

import codecs
import re
from collections import Counter
from pathlib import Path
from typing import Any

from harness.data.examples import Read, Repairs
from harness.data.kinds import KINDS
from harness.data.reading import Reading, all_files, task_files
from harness.data.spelling import plain
from harness.data.tables import WrongWidth
from harness.errors import BadInput

BOMS = {"utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)}


def read_split(reading: Reading, split: str, data_folder: Path | None) -> list[Any]:
    """The examples of one split, in the file's order; their type depends on the kind of task.

    Text is unchanged from the file. BadInput says which file and line is wrong, and why.
    """
    return read(reading, split, data_folder).examples


def read(reading: Reading, split: str, data_folder: Path | None) -> Read:
    """The examples of one split, and the repairs that reading them took."""
    found = Read([], [])
    _path(reading, split, data_folder)
    for path in all_files(reading, split, data_folder):
        examples, repairs = read_content(reading, split, path, _content(reading, path))
        found.examples.extend(examples)
        found.repairs.extend(repairs)
    if reading.files[split].more:
        _check_ids(reading, split, found)
    return found


def _check_ids(reading: Reading, split: str, found: Read) -> None:
    """BadInput where two files of a split have an example of the same id."""
    ids = Counter(example.id for example in found.examples)
    if twice := next((name for name, count in ids.items() if count > 1), None):
        raise BadInput(f"task {reading.name}: two files of {split} have an example {twice}; an id names one example")


def read_content(reading: Reading, split: str, path: Path, content: str) -> Read:
    """The same for the text of a file; ``path`` is for messages."""
    repairs = Repairs(path.name)
    try:
        examples = KINDS[reading.kind].read(reading, split, path, content, repairs)
    except WrongWidth as error:
        raise BadInput(f"{error}{_another_copy(reading)}") from None
    return Read(examples, repairs.counted())


def training_labels(reading: Reading, data_folder: Path | None = None) -> list[str]:
    """For `labels: auto`, the labels or entity types of the training split, sorted by name; numbers by value.

    Labels that differ only in characters that cannot be seen count as one. BadInput where a cell holds no label.
    """
    path = _path(reading, "train", data_folder)
    content = _content(reading, path)
    try:
        found = {plain(name) for name in KINDS[reading.kind].label_names(reading, "train", path, content)}
    except ValueError as error:
        raise BadInput(f"labels: auto: a label of the training split {error}") from None
    found.discard("")  # reading says where one is empty
    if not found:
        raise BadInput("labels: auto: the training split has none; name them")
    numbers = all(re.fullmatch("-?[1-9][0-9]{0,17}|0", text) for text in found)
    return sorted(found, key=int) if numbers else sorted(found)


def _another_copy(reading: Reading) -> str:
    """Where to get an undamaged copy of a built-in task's file."""
    if reading.download is None:
        return ""
    if reading.name == "qqp":
        return "; the copy of 2018 has such lines, and `python -m harness data get qqp` gets the clean one"
    return f"; `python -m harness data get {reading.download}` gets the official file"


def _path(reading: Reading, split: str, data_folder: Path | None) -> Path:
    files = task_files(reading, data_folder)
    if split not in files:
        raise BadInput(f"task {reading.name} has no split {split!r}; it has {', '.join(files)}")
    return files[split]


def _content(reading: Reading, path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        get = f"; `python -m harness data get {reading.download}` gets it" if reading.download else ""
        raise BadInput(f"{path} is not there{get}") from None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    return decoded(reading, path, raw)


def decoded(reading: Reading, path: Path, raw: bytes) -> str:
    """The text of a file's bytes, in the task's encoding. BadInput where they are not such text, or empty."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")  # the byte order mark of MRPC's files
    try:
        content = raw.decode(reading.encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        marked = [name for name, marks in BOMS.items() if raw.startswith(marks)]
        remedy = f"declare `encoding: {marked[-1]}`, which it begins as" if marked else "declare its encoding"
        why = f"not {reading.encoding} text ({error.reason}); convert the file, or {remedy}"
        raise BadInput(f"{path}:{line}: {why}") from None
    content = content.removeprefix("\ufeff")  # in an encoding whose name gives the byte order, or a second mark
    if "\0" in content:
        line = content[: content.index("\0")].count("\n") + 1
        raise BadInput(f"{path}:{line}: a NUL character: the file is damaged, not text, or utf-16; get it again")
    if not content.strip():
        raise BadInput(f"{path} is empty; get it again")
    return content
