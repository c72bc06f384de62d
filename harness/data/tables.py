"""Tables of texts and labels: tab-separated text, CSV, and JSON lines."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from itertools import chain
from pathlib import Path
from typing import Any

from harness.data.cells import LabelColumn, text_of
from harness.data.examples import LEFT_OUT, Repairs, TextExample
from harness.data.reading import Reading
from harness.data.spelling import caseless, difference, plain, unique
from harness.errors import BadInput

Rows = Iterator[tuple[int, Any]]  # line number from 1, and its columns as a list, or the object of a JSON line
BLANK = f"blank lines, {LEFT_OUT}"
LONE = (
    "a carriage return inside the line; as the end of a line it is that of old Macs: save the file with line feeds "
    "(LF or CRLF)"
)


class WrongWidth(BadInput):
    """A line with more or fewer columns than those before it."""


def lines_of(path: Path, content: str, repairs: Repairs) -> list[str]:
    """Split at line feeds alone: str.splitlines also does at characters that occur inside a text."""
    lines = content.split("\n")
    if not lines[-1]:
        lines.pop()
    if "\r" not in content:
        return lines
    if "\n" not in content:
        raise BadInput(
            f"{path}:1: all its lines end in a carriage return, as on old Macs; save the file with line feeds "
            "(LF or CRLF)"
        )
    for number, line in enumerate(lines, 1):
        if line.endswith("\r\r"):
            repairs.add("lines that end in two or more carriage returns, read without them", number)
    return [line.rstrip("\r") for line in lines]


def _tsv(path: Path, content: str, repairs: Repairs) -> Rows:
    width, one_column = 0, "\t" not in content  # then a blank line is an empty text
    for number, line in enumerate(lines_of(path, content, repairs), 1):
        if not one_column and "\t" not in line and not line.strip():
            repairs.add(BLANK, number)
            continue
        row = line.split("\t")
        width = width or len(row)
        row = _within(row, width, number, repairs)
        if "\r" in line:
            if one_column or len(row) != width:
                raise BadInput(f"{path}:{number}: {LONE}")
            repairs.add("carriage returns inside a text, read as white space", number)
        _check_width(path, number, row, width)
        yield number, row


def _csv(path: Path, content: str, repairs: Repairs) -> Rows:
    csv.field_size_limit(2**31 - 1)  # the default of 128 KiB is less than a long document
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    width = 0
    while True:
        number = reader.line_num + 1  # where the row begins; with a quoted line break it ends on a later line
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise BadInput(f"{path}:{number}: not valid CSV: {error}") from None
        if row is None:
            return
        if not row or (len(row) == 1 < width and not row[0].strip()):
            repairs.add(BLANK, number)
            continue
        width = width or len(row)
        row = _within(row, width, number, repairs)
        _check_width(path, number, row, width)
        yield number, row


def _within(row: list[str], width: int, number: int, repairs: Repairs) -> list[str]:
    """The row without empty cells after the last column."""
    if len(row) > width and not any(cell.strip() for cell in row[width:]):
        repairs.add(f"empty cells behind the last column, {LEFT_OUT}", number)
        return row[:width]
    return row


def _check_width(path: Path, number: int, row: list[str], width: int) -> None:
    if len(row) != width:
        raise WrongWidth(f"{path}:{number}: expected {width} columns as in line 1, got {len(row)}")


def _jsonl(path: Path, content: str, repairs: Repairs) -> Rows:
    for number, line in enumerate(lines_of(path, content, repairs), 1):
        if not line.strip():
            repairs.add(BLANK, number)
            continue
        try:
            row = json_value(line)
            if "\\u" in line:
                # An escape may be half a character, which is no text.
                json.dumps(row, ensure_ascii=False, default=str).encode()
        except json.JSONDecodeError as error:
            why = LONE if "\r" in line else _no_json(line, error)
            raise BadInput(f"{path}:{number}: not valid JSON: {why}") from None
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}:{number}: not valid JSON: {error}") from None
        if not isinstance(row, dict):
            list_of_all = "; the file is one JSON list, write each of its objects on a line" if number == 1 else ""
            raise BadInput(f"{path}:{number}: each line must be one JSON object{list_of_all}")
        yield number, row


def json_value(line: str) -> Any:
    """A JSON value, with exact decimal numbers. ValueError where it is not JSON, or ambiguous."""
    return json.loads(line, parse_float=_decimal, parse_constant=_no_constant, object_pairs_hook=_object)


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("a number that is too large, or too small") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value; null says that there is none")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} occurs twice")
    return found


def _no_json(line: str, error: json.JSONDecodeError) -> str:
    broken = "; an object must be whole on its line" if line.strip() in ("{", "[", "[{") else ""
    return f"{error.msg}, at character {error.pos + 1}{broken}"


READERS: dict[str, Callable[[Path, str, Repairs], Rows]] = {"tsv": _tsv, "csv": _csv, "jsonl": _jsonl}


def text_examples(
    reading: Reading, split: str, path: Path, content: str, repairs: Repairs, labels: type[LabelColumn]
) -> list[TextExample]:
    """The examples in a table's rows; ``labels`` reads the label column. BadInput names the file and the line."""
    line, ignored = 0, 0
    examples: list[TextExample] = []
    seen: dict[str, int] = {}
    unlabelled: list[int] = []  # lines of a test split whose label is null

    def note(what: str) -> None:
        repairs.add(what, line)

    at, rows = _columns(reading, split, path, content, repairs)
    column = labels(reading, reading.files[split].columns.get("label", ""), note)
    try:
        for place, (line, row) in enumerate(rows):
            if "label" in at and column.ignores(row[at["label"]]):
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
                said = f"the id, column {reading.files[split].columns['id']!r}, is that of line {seen[name]} too"
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


def label_names(reading: Reading, split: str, path: Path, content: str, labels: type[LabelColumn]) -> Iterator[str]:
    """All labels that the label column of a table names, without those that the task ignores, for `labels: auto`."""
    at, rows = _columns(reading, split, path, content, Repairs(path.name))
    column = labels(reading, reading.files[split].columns["label"], lambda _: None)
    for line, row in rows:
        if isinstance(row, dict) and at["label"] not in row:
            raise BadInput(f"{path}:{line}: no field {at['label']!r}, which line 1 has")
        if not column.ignores(cell := row[at["label"]]):
            yield from column.names(cell)


def _columns(reading: Reading, split: str, path: Path, content: str, repairs: Repairs) -> tuple[dict[str, Any], Rows]:
    """The index of each role's value in a row, from the first row; and the rows that hold examples.

    Only a test split may lack the label column that the task declares: it is unlabelled then.
    """
    rows = READERS[reading.format](path, content, repairs)
    try:
        line, first = next(rows)
    except StopIteration:
        raise BadInput(f"{path} is empty; get it again") from None
    file = reading.files[split]
    named = file.header and reading.format != "jsonl"
    if reading.format == "jsonl":
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
    return at, _filled(rows, repairs) if "label" in at and reading.format != "jsonl" else rows


def _like(column: Any, names: list[str], line: int, repairs: Repairs) -> Any:
    """The column that differs from the wanted one only in what cannot be seen; else the wanted one."""
    found = unique(plain, names).get(plain(column)) if isinstance(column, str) else None
    if found is None:
        return column
    repairs.add(f"column names that differ from the task's only {difference(found, column)}, read as those", line)
    return found


def _no_column(column: Any, names: list[Any]) -> str:
    """A possible reason why a column is missing: one that is similar, or a wrong separator."""
    if len(names) == 1 and (found := re.search("[;\t,|]| (?=\\S)", str(names[0]))):
        return f"; its one column holds {found[0]!r}: is that what separates them?"
    return "; one differs from it in upper and lower case or width alone" if _near(column, names) else ""


def _near(column: Any, names: list[Any]) -> bool:
    return any(caseless(str(name)) == caseless(str(column)) for name in names)


def _filled(rows: Rows, repairs: Repairs) -> Rows:
    """The rows that are not empty: spreadsheets write rows of separators after their data."""
    for line, row in rows:
        if any(cell.strip() for cell in row):
            yield line, row
        else:
            repairs.add(f"rows of empty cells, {LEFT_OUT}", line)
