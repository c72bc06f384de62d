"""The label column of a table: what each cell means, given the file's format and the task's labels."""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from harness.data.examples import Label
from harness.data.reading import Reading
from harness.data.spelling import caseless, difference, narrow, plain, unique

Note = Callable[[str], None]  # called with each repair

NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")
NO_GOLD = ("-", "-1", "_", "?", "")  # what data sets write where annotators did not agree or there were none
MOST_DIGITS = 28  # of a number that is a label


def text_of(cell: Any) -> str:
    """A cell as labels are declared: text as it is, true and false, and a number without superfluous zeros.

    ValueError for JSON's null, lists and objects.
    """
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, Decimal):
        if len(cell.as_tuple().digits) > MOST_DIGITS or abs(cell.adjusted()) > MOST_DIGITS:
            return str(cell)  # in Decimal's arithmetic it would be rounded, or overflow
        return str(int(cell)) if cell == cell.to_integral_value() else str(cell.normalize())
    if cell is None:
        raise ValueError("is null, which is no label")
    raise ValueError(f"is {'a list' if isinstance(cell, list) else 'an object'}, not one label")


class LabelColumn:
    """Reads the cells of one split's label column; a subclass for each form of label.

    ``note`` is called with each repair: a label that is not written as it is declared.
    """

    def __init__(self, reading: Reading, column: str | int, note: Note) -> None:
        self._reading, self._where, self._note = reading, f"the label, column {column!r},", note
        self._header = str(column)
        self._plain = unique(plain, reading.labels)
        self._numbers = unique(_number_text, reading.labels)

    def read(self, cell: Any) -> Label:
        """The label in a cell; ValueError, with the reason, if the task declares no such label."""
        try:
            return self._read(cell)
        except ValueError as error:
            raise ValueError(f"{self._where} {error}") from None

    def _read(self, cell: Any) -> Label:
        raise NotImplementedError

    def finish(self) -> None:
        """Called when all cells are read; ValueError where together they are ambiguous."""

    def ignores(self, cell: Any) -> bool:
        """Whether the task leaves out the examples that have this cell."""
        if not self._reading.ignore or isinstance(cell, list | dict):
            return False
        if cell is None:
            return None in self._reading.ignore
        text = plain(text_of(cell))
        return any(self._is_same(text, value) for value in self._reading.ignore if value is not None)

    def _is_same(self, text: str, value: str) -> bool:
        return text == value

    def names(self, cell: Any) -> list[str]:
        """The labels that a cell names, for `labels: auto`, where none are declared."""
        return [text_of(cell)]

    def _value(self, cell: Any) -> str:
        """The declared value that this one label is."""
        text, labels = text_of(cell), self._reading.labels
        if isinstance(cell, int | Decimal) and not isinstance(cell, bool):
            value = text if text in labels else self._numbers.get(_number_text(text), text)
            if value != str(cell) and value in labels:
                self._note("numbers that are those of a label, though not written so, such as 1.0 for 1")
            text = value
        if text in labels:
            return text
        value = self._plain.get(plain(text), "")
        if value not in labels:
            raise ValueError(self._undeclared(text))
        self._note(f"labels that differ from the declared ones only {difference(text, value)}, read as those")
        return value

    def _undeclared(self, text: str) -> str:
        reading = self._reading
        which = (
            "the training split, where `labels: auto` takes them, has"
            if reading.auto_labels
            else f"task {reading.name} has"
        )
        why = "This line is the header once more" if text == self._header else _why(text, list(reading.labels))
        return f"is not declared; {which} {', '.join(reading.labels)}" + (f". {why}" if why else "")


class OneLabel(LabelColumn):
    """One of the task's labels in each cell."""

    def _read(self, cell: Any) -> str:
        return self._reading.labels[self._value(cell)]


class Group(LabelColumn):
    """The name of a group of examples in each cell, any text."""

    def _read(self, cell: Any) -> str:
        return text_of(cell)


class Number(LabelColumn):
    """A finite number in each cell."""

    def _is_same(self, text: str, value: str) -> bool:
        return text == value or _same_number(text, value)

    def _read(self, cell: Any) -> float:
        if isinstance(cell, bool) or not isinstance(cell, str | int | Decimal):
            raise ValueError("must be a number")
        text = str(cell).strip()
        if not NUMBER.fullmatch(text):
            raise ValueError(f"must be a number{_no_number(text)}")
        if isinstance(cell, str) and self._reading.format == "jsonl":
            self._note("numbers that are JSON strings, read as numbers")
        if text != str(cell):
            self._note("numbers with white space around them, read without it")
        try:
            number = float(text)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueError("must be a number that float64 can hold")
        return number


class SeveralLabels(LabelColumn):
    """Any number of the task's labels in each cell, by name or with a 0 or 1 for each."""

    def __init__(self, reading: Reading, column: str | int, note: Note) -> None:
        super().__init__(reading, column, note)
        self._only_digits = reading.label == "names" and _are_numbered(reading)

    def names(self, cell: Any) -> list[str]:
        if isinstance(cell, list):
            return [text_of(each) for each in cell]
        return text_of(cell).split(self._reading.label_separator)

    def finish(self) -> None:
        """ValueError where every list of names read could as well be a 0 or 1 for each label."""
        if self._only_digits:
            raise ValueError(
                f"{self._where} has in every line a 0 or 1 for each of the {len(self._reading.labels)} labels, which "
                "are numbers too: declare `label: multi-hot`, or give the labels names"
            )

    def _read(self, cell: Any) -> tuple[str, ...]:
        cells = cell if isinstance(cell, list) else self._split(text_of(cell))
        if self._reading.label == "multi-hot":
            return self._hot(cells)
        digits = _zeros_and_ones(cells)
        hint = "; for a 0 or 1 for each label, declare `label: multi-hot`" if digits and len(cells) > 1 else ""
        self._only_digits &= digits and len(cells) == len(self._reading.labels)
        try:
            values = [self._value(each) for each in cells]
        except ValueError as error:
            raise ValueError(f"{error}{hint}") from None
        if len(set(values)) < len(values):
            raise ValueError(f"names a label twice{hint}")
        return tuple(dict.fromkeys(self._reading.labels[value] for value in values))

    def _split(self, text: str) -> list[str]:
        if text == "" or text in self._reading.labels:
            return [text] if text else []
        printed = text.strip().startswith("[") and text.strip().endswith("]")  # a list, as programs write it
        if self._reading.label == "multi-hot" and printed:
            text = text.strip()[1:-1]
        elif printed:
            raise ValueError(
                "is a list as a program prints it; write the labels alone, with the label_separator between them"
            )
        cells = text.split(self._reading.label_separator)
        if not all(cell.strip() for cell in cells):
            raise ValueError("has nothing before, behind or between its separators; an example without labels is empty")
        return cells

    def _hot(self, cells: list[Any]) -> tuple[str, ...]:
        """The labels whose entry is 1."""
        names = list(self._reading.labels.values())
        if len(cells) != len(names):
            raise ValueError(f"has {len(cells)} entries; multi-hot, it has one for each of the {len(names)} labels")
        on = [cell if isinstance(cell, bool) else text_of(cell).strip() for cell in cells]
        if any(each not in (True, False, "0", "1") for each in on):
            raise ValueError("has entries other than 0 and 1; multi-hot, it has one of these for each label")
        return tuple(dict.fromkeys(name for name, each in zip(names, on, strict=True) if each in (True, "1")))


def _are_numbered(reading: Reading) -> bool:
    return list(reading.labels) == [str(i) for i in range(len(reading.labels))]


def _zeros_and_ones(cells: list[Any]) -> bool:
    return all(not isinstance(cell, bool) and cell in (0, 1, "0", "1") for cell in cells)


def _why(text: str, values: list[str]) -> str:
    """A possible reason why a label is not declared; without quoting the label."""
    if plain(text) == "" and text:
        return "This one is white space"
    if text in NO_GOLD:
        what = "empty" if text == "" else f"{text!r}, as examples without a gold label have"
        return f"This one is {what}; `ignore: [{_quoted(text)}]` leaves such examples out"
    if len(same := [value for value in values if _same_number(text, value)]) == 1:
        return f"As a number this one is {same[0]}, but 1.0 or 01 is not the text 1"
    close = [value for value in values if caseless(value) == caseless(text)]
    if close and narrow(text) == narrow(close[0]):
        return f"But for full-width letters, or other forms of the same, this one would be {close[0]}"
    if close:
        return f"But for upper and lower case this one would be {close[0]}"
    return ""


def _number_text(text: str) -> str:
    """The same text for all spellings of a number; any other text unchanged."""
    return text_of(Decimal(text)) if NUMBER.fullmatch(text) else text


def _quoted(text: str) -> str:
    return f'"{text}"'


def _same_number(text: str, value: str) -> bool:
    return all(NUMBER.fullmatch(each) for each in (text, value)) and Decimal(text) == Decimal(value)


def _no_number(text: str) -> str:
    """A possible reason why this text is not a number; without quoting it."""
    if text in NO_GOLD:
        return f", and is {repr(text) if text else 'empty'}; `ignore: [{_quoted(text)}]` leaves such examples out"
    if re.fullmatch(r"[-+]?[0-9.]*,[0-9,.]*", text):
        return "; it has a comma: decimals are written with a point, and nothing between thousands"
    if "_" in text:
        return "; it has an underscore"
    if not text.isascii() and any(character.isdecimal() for character in text):
        return "; its digits are not 0 to 9 but those of another script, or full-width"
    if text.casefold().lstrip("+-") in ("nan", "inf", "infinity"):
        return "; this one is not finite"
    return ""
