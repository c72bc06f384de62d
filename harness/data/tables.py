"""The rows of tables: tab-separated text, CSV, and JSON lines."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from harness.data.repairs import LEFT_OUT, Repairs
from harness.errors import BadInput

Rows = Iterator[tuple[int, Any]]  # line number from 1, and its columns: a list, or the object of a JSON line
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
        number = reader.line_num + 1  # where the row begins: a quoted line break makes it end further down
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
    """A row without empty cells behind the last column."""
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
            row = _json(line)
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


def _json(line: str) -> Any:
    """A JSON value; numbers with a point or an exponent are exact. ValueError where it is none, or not certain."""
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
