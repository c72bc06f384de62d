"""The inputs of ``predict``: a file, standard input or texts, read as examples of the model's task.

They are read like the files of the task: with the same columns, separator, encoding and context, as far as a file needs
them. Labels and tags in them are not read, so that none leaves an example out.
"""

import re
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.data.examples import LEFT_OUT, Repairs, TextExample, WordExample
from harness.data.kinds import KINDS
from harness.data.read import decoded, read_content
from harness.data.reading import Reading, SplitFile
from harness.data.sentences import DOCUMENT, Sentence, sentences
from harness.data.spelling import plain
from harness.data.tables import LONE, READERS, WrongWidth, lines_of
from harness.data.tags import Tags
from harness.errors import BadInput

Form = Literal["lines", "tsv", "csv", "jsonl", "conll", "squad"]
SUFFIXES: dict[str, Form] = {
    ".txt": "lines",
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".conll": "conll",
    ".json": "squad",
}
STANDARD_INPUT = Path("-")
SPLIT = "test"  # the split that inputs are read as: it needs no labels


@dataclass(frozen=True)
class Inputs:
    """Examples to be answered, and how they were read."""

    reading: Reading
    examples: list[Any]
    lines: list[str] = field(default_factory=list)  # in tagging: all lines of the file
    words: list[int] = field(default_factory=list)  # in tagging: the 0-based line of each word, in order
    notes: list[str] = field(default_factory=list)  # what the user should know about how they were read


def from_texts(reading: Reading, texts: list[str]) -> Inputs:
    """Texts from the command line; pairs have a tab between the two texts, words for tagging have spaces."""
    if not _reads_words(reading):
        return Inputs(reading, _of_lines(reading, "--text", texts))
    words = [tuple(re.split(r"\s+", text.strip())) if text.strip() else () for text in texts]
    examples = [WordExample(str(i), each, None, i) for i, each in enumerate(words)]
    lines = [line for each in words for line in (*each, "")][:-1]
    return Inputs(reading, examples, lines, [i for i, line in enumerate(lines) if line])


def from_file(
    reading: Reading, file: Path, form: str | None = None, columns: dict[str, str] | None = None, ids: bool = True
) -> Inputs:
    """The examples of a file, or of standard input where it is "-".

    ``form`` replaces the form that the file's name implies; ``columns`` maps roles (text, pair, id; word) to columns,
    instead of those of the task's files, the first of which counts first. Without ``ids`` a column called id is
    ignored. BadInput names the file and the line, and says what would be right.
    """
    chosen = _form(reading, file, form)
    path = Path("standard input") if file == STANDARD_INPUT else file
    raw = _bytes(file)
    encoding, notes = _encoding(reading, path, raw)
    reading = replace(reading, encoding=encoding, download=None)
    content = decoded(reading, path, raw)
    if columns and (unknown := columns.keys() - _roles(reading, chosen)):
        takes = ", ".join(_roles(reading, chosen)) or "none, as its form says where everything is"
        raise BadInput(f"--columns: no role {', '.join(sorted(unknown))}; this file has {takes}")
    if chosen == "lines":
        repairs = Repairs(path.name)
        examples = _of_lines(reading, str(path), lines_of(path, content, repairs))
        return Inputs(reading, examples, notes=notes + _said(repairs.counted()))
    if chosen == "conll":
        return _of_words(reading, path, content, columns or {}, notes)
    reading = replace(reading, format=chosen)
    if chosen == "squad":
        names = {role: name for role, name in (KINDS[reading.kind].usual_columns or {}).items() if role != "label"}
        reading = replace(reading, files={SPLIT: SplitFile(path, True, names)})
    else:
        reading = replace(reading, files={SPLIT: _split_file(reading, path, content, columns or {}, ids)})
    try:
        found = read_content(reading, SPLIT, path, content)
    except BadInput as error:
        if "an id names one example" in str(error):
            raise BadInput(f"{error}; call the column otherwise, and the answers are numbered") from None
        raise
    return Inputs(reading, found.examples, notes=notes + _said(found.repairs))


def _form(reading: Reading, file: Path, given: str | None) -> Form:
    """The form of the file: the given one, that of the task's files with this suffix, or that of the suffix."""
    possible: list[Form] = ["conll"] if _reads_words(reading) else ["lines", "tsv", "csv", "jsonl"]
    if "squad" in KINDS[reading.kind].formats:
        possible.append("squad")
    if given is not None:
        if given not in possible:
            raise BadInput(f"--format: {given!r} is not one that this model reads: {', '.join(possible)}")
        return next(form for form in possible if form == given)
    if file == STANDARD_INPUT:
        return possible[0]
    suffix = file.suffix.lower()
    if suffix and suffix in {own.path.suffix.lower() for own in reading.files.values()}:
        return reading.format
    if SUFFIXES.get(suffix) not in possible:
        known = ", ".join(suffix for suffix, form in SUFFIXES.items() if form in possible)
        raise BadInput(f"{file}: this model reads {known}; of another name, say with --format which of these it is")
    return SUFFIXES[suffix]


def _bytes(file: Path) -> bytes:
    if file == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{file} is not there") from None
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from None


def _encoding(reading: Reading, path: Path, raw: bytes) -> tuple[str, list[str]]:
    """The encoding of the task's files, or UTF-8 where the bytes are certainly that; and a note about it."""
    try:
        utf8 = not raw.isascii() and bool(raw.decode("utf-8"))
    except UnicodeDecodeError:
        utf8 = False
    if not utf8 or reading.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig"):
        return reading.encoding, []
    return "utf-8", [f"{path}: read as UTF-8, which it is; the files of the model's task are in {reading.encoding}"]


def _roles(reading: Reading, form: Form) -> list[str]:
    if form in ("lines", "squad"):
        return []
    return ["word"] if form == "conll" else ["text", *(["pair"] if _pairs(reading) else []), "id"]


def _reads_words(reading: Reading) -> bool:
    """Whether inputs are sentences of words, otherwise texts. BadInput for kinds of tasks that it cannot read."""
    inputs = KINDS[reading.kind].inputs
    if inputs is None:
        raise BadInput(f"`predict` cannot read inputs for a task of kind {reading.kind}")
    return inputs == "words"


def _pairs(reading: Reading) -> bool:
    return any("pair" in file.columns for file in reading.files.values())


def _said(repairs: list[dict[str, Any]]) -> list[str]:
    return [f"{each['what']}: {each['count']}, the first at {each['first']}" for each in repairs]


def _of_lines(reading: Reading, where: str, lines: list[str]) -> list[TextExample]:
    pairs = _pairs(reading)
    examples = []
    for number, line in enumerate(lines):
        if "\r" in line and where != "--text":
            raise BadInput(f"{where}:{number + 1}: {LONE}")
        text, *rest = line.split("\t")
        if len(rest) != pairs:
            what = "a text and its pair, with one tab between" if pairs else "one text a line, without tabs"
            more = "; .tsv, .csv and .jsonl may have other columns" if where != "--text" else ""
            raise BadInput(f"{where}:{number + 1}: this model reads {what}{more}")
        examples.append(TextExample(str(number), text, rest[0] if pairs else None, None))
    return examples


def _of_words(reading: Reading, path: Path, content: str, columns: dict[str, str], notes: list[str]) -> Inputs:
    given = columns.get("word")
    if given is not None and not re.fullmatch("-?[0-9]+", given):
        raise BadInput(f"--columns: word={given} should be a number, counted from 0")
    at = {role: int(column) for role, column in next(iter(reading.files.values())).columns.items()}
    at |= {"word": int(given)} if given is not None else {}
    found, repairs = _sentences(reading, at, path, content)
    if not found:
        raise BadInput(f"{path} has no sentences")
    marked = re.search(f"^{DOCUMENT}", content, re.MULTILINE)
    examples = [
        WordExample(str(i), tuple(row[at["word"]] for row in each.rows), None, each.document if marked else i)
        for i, each in enumerate(found)
    ]
    words = [line - 1 for each in found for line in each.lines]
    kept = [each for each in repairs.counted() if not each["what"].endswith(LEFT_OUT)]  # what is, stays in the answers
    return Inputs(reading, examples, lines_of(path, content, Repairs("")), words, notes + _said(kept))


def _sentences(reading: Reading, at: dict[str, int], path: Path, content: str) -> tuple[list[Sentence], Repairs]:
    """The sentences of a file that has a tag for each word, like the task's files; or of words alone."""
    if "tag" in at:
        repairs = Repairs(path.name)
        is_tag = Tags(reading, at["tag"], repairs).is_tag
        with suppress(WrongWidth):
            found = [*sentences(reading, at, path, content, is_tag, repairs)]
            if all(is_tag(row[at["tag"]]) for each in found for row in each.rows):
                return found, repairs
    repairs = Repairs(path.name)
    return [*sentences(reading, {"word": at["word"]}, path, content, lambda _: False, repairs)], repairs


def _split_file(reading: Reading, path: Path, content: str, given: dict[str, str], ids: bool) -> SplitFile:
    """The columns of the texts: the given ones, else those of a file of the task, else columns called text and pair."""
    line, first = next(READERS[reading.format](path, content, Repairs(path.name)))
    names = list(first)
    needed = ["text", "pair"] if _pairs(reading) else ["text"]
    if _numbered(reading, path, line, names, given):
        numbers: dict[str, str | int] = {role: int(column) for role, column in given.items()}
        return _checked(SplitFile(path, False, numbers), needed, path, line, len(names))
    plain: dict[str, str | int] = {role: role for role in needed}
    for file in [*reading.files.values(), SplitFile(path, True, plain)]:
        columns = {role: file.columns[role] for role in needed} | given
        if (file.header or reading.format == "jsonl" or given) and _named(columns, names):
            own_id = _id(columns.get("id") or file.columns.get("id"), names) if ids else {}
            return SplitFile(path, True, columns | own_id)
    for file in reading.files.values():
        if not file.header and not given and reading.format != "jsonl":
            columns = {role: file.columns[role] for role in (*needed, "id") if role in file.columns}
            return _checked(SplitFile(path, False, columns), needed, path, line, len(names))
    own = {role: next(iter(reading.files.values())).columns[role] for role in needed}
    wanted = (own if all(isinstance(column, str) for column in own.values()) else plain) | given
    role, missing = next((role, column) for role, column in wanted.items() if not _named({role: column}, names))
    raise BadInput(
        f"{path}:{line}: no column {missing!r}, the task's {role}, among the {len(names)} there; "
        f"`--columns {role}=NAME` says which it is"
    )


def _numbered(reading: Reading, path: Path, line: int, names: list[str], given: dict[str, str]) -> bool:
    """Whether the columns that are given are numbers of columns; BadInput where they may be names as well.

    Where the first line holds numbers alone, as that of a table without names of columns, these are names.
    """
    if not given or reading.format == "jsonl" or not all(each.isdigit() for each in given.values()):
        return False
    if not _named(given, names):
        return True
    if all(name.isdigit() or not name for name in names):
        return False
    role, column = next(iter(given.items()))
    raise BadInput(
        f"{path}:{line}: {column!r} is in the first line, so --columns {role}={column} may mean a column of this name "
        "or of this number; add a first line with the names of the columns, without numbers, and give the name"
    )


def _id(column: str | int | None, names: list[str]) -> dict[str, str | int]:
    """The role of the id, where this column is among the names, or else one called so."""
    return (
        {"id": column}
        if column is not None and _named({"id": column}, names)
        else {"id": "id"}
        if "id" in names
        else {}
    )


def _named(columns: dict[str, Any], names: Collection[str]) -> bool:
    """Whether all of these columns are among the names, but for differences that cannot be seen."""
    seen = {*names, *map(plain, names)}
    return all(column in seen or plain(str(column)) in seen for column in columns.values())


def _checked(file: SplitFile, needed: list[str], path: Path, line: int, width: int) -> SplitFile:
    """The file, whose columns are numbers, where a row has so many."""
    for role in needed:
        if role not in file.columns:
            raise BadInput(f"--columns: which is {role}? This model needs {' and '.join(needed)}")
        if not int(file.columns[role]) < width:
            raise BadInput(
                f"{path}:{line}: no column {file.columns[role]}, the task's {role}, among the {width} there "
                f"(counted from 0, without a header); `--columns {role}=NUMBER` says which it is"
            )
    return file
