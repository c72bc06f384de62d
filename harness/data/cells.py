"""What a cell of the label column means: its format says what it is, the task which label that stands for."""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from harness.data.spelling import difference, loose, narrow, plain, unique
from harness.data.task import Task

Label = str | float | tuple[str, ...]
Note = Callable[[str], None]  # called with each repair

NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")
NO_GOLD = ("-", "-1", "_", "?", "")  # what data sets write where annotators did not agree, or nobody asked them
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


def is_ignored(task: Task, cell: Any) -> bool:
    """Whether the task leaves out the examples with this in their label column."""
    if not task.ignore or isinstance(cell, list | dict):
        return False
    if cell is None:
        return None in task.ignore
    text = plain(text_of(cell))
    numbers = task.kind == "regression"
    return any(text == value or (numbers and _same_number(text, value)) for value in task.ignore if value is not None)


class LabelColumn:
    """Reads the cells of one split's label column; ``note`` hears of each that is not written as declared."""

    def __init__(self, task: Task, column: str | int, note: Note) -> None:
        self._task, self._where, self._note = task, f"the label, column {column!r},", note
        self._header = str(column)
        self._plain = unique(plain, task.labels)
        self._numbers = unique(_number_text, task.labels)
        self._only_digits = task.kind == "multi-label" and task.label == "names" and _numbered(task)

    def read(self, cell: Any) -> Label:
        """What the cell stands for; ValueError, with the reason, if that is nothing the task declares."""
        try:
            if self._task.kind == "regression":
                return self._number(cell)
            if self._task.kind == "multi-label":
                return self._several(cell)
            return self._task.labels[self._value(cell)]
        except ValueError as error:
            raise ValueError(f"{self._where} {error}") from None

    def finish(self) -> None:
        """ValueError where every list of names read could as well be a 0 or 1 for each label."""
        if self._only_digits:
            raise ValueError(
                f"{self._where} has in every line a 0 or 1 for each of the {len(self._task.labels)} labels, which are "
                "numbers too: declare `label: multi-hot`, or give the labels names"
            )

    def _value(self, cell: Any) -> str:
        """The declared value that this one label is."""
        text = text_of(cell)
        if isinstance(cell, int | Decimal) and not isinstance(cell, bool):
            value = text if text in self._task.labels else self._numbers.get(_number_text(text), text)
            if value != str(cell) and value in self._task.labels:
                self._note("numbers that are those of a label, though not written so, such as 1.0 for 1")
            text = value
        if text in self._task.labels:
            return text
        value = self._plain.get(plain(text), "")
        if value not in self._task.labels:
            raise ValueError(self._undeclared(text))
        self._note(f"labels that differ from the declared ones only {difference(text, value)}, read as those")
        return value

    def _undeclared(self, text: str) -> str:
        task = self._task
        which = (
            "the training split, where `labels: auto` takes them, has" if task.auto_labels else f"task {task.name} has"
        )
        why = "This line is the header once more" if text == self._header else _why(text, list(task.labels))
        return f"is not declared; {which} {', '.join(task.labels)}" + (f". {why}" if why else "")

    def _several(self, cell: Any) -> tuple[str, ...]:
        cells = cell if isinstance(cell, list) else self._split(text_of(cell))
        if self._task.label == "multi-hot":
            return self._hot(cells)
        digits = _zeros_and_ones(cells)
        hint = "; for a 0 or 1 for each label, declare `label: multi-hot`" if digits and len(cells) > 1 else ""
        self._only_digits &= digits and len(cells) == len(self._task.labels)
        try:
            values = [self._value(each) for each in cells]
        except ValueError as error:
            raise ValueError(f"{error}{hint}") from None
        if len(set(values)) < len(values):
            raise ValueError(f"names a label twice{hint}")
        return tuple(dict.fromkeys(self._task.labels[value] for value in values))

    def _split(self, text: str) -> list[str]:
        if text == "" or text in self._task.labels:
            return [text] if text else []
        printed = text.strip().startswith("[") and text.strip().endswith("]")  # a list, as programs write it
        if self._task.label == "multi-hot" and printed:
            text = text.strip()[1:-1]
        elif printed:
            raise ValueError(
                "is a list as a program prints it; write the labels alone, with the label_separator between them"
            )
        cells = text.split(self._task.label_separator)
        if not all(cell.strip() for cell in cells):
            raise ValueError("has nothing before, behind or between its separators; an example without labels is empty")
        return cells

    def _hot(self, cells: list[Any]) -> tuple[str, ...]:
        """The labels at whose places there is a 1."""
        names = list(self._task.labels.values())
        if len(cells) != len(names):
            raise ValueError(f"has {len(cells)} entries; multi-hot, it has one for each of the {len(names)} labels")
        on = [cell if isinstance(cell, bool) else text_of(cell).strip() for cell in cells]
        if any(each not in (True, False, "0", "1") for each in on):
            raise ValueError("has entries other than 0 and 1; multi-hot, it has one of these for each label")
        return tuple(dict.fromkeys(name for name, each in zip(names, on, strict=True) if each in (True, "1")))

    def _number(self, cell: Any) -> float:
        if isinstance(cell, bool) or not isinstance(cell, str | int | Decimal):
            raise ValueError("must be a number")
        text = str(cell).strip()
        if not NUMBER.fullmatch(text):
            raise ValueError(f"must be a number{_no_number(text)}")
        if isinstance(cell, str) and self._task.format == "jsonl":
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


def _numbered(task: Task) -> bool:
    return list(task.labels) == [str(i) for i in range(len(task.labels))]


def _zeros_and_ones(cells: list[Any]) -> bool:
    return all(not isinstance(cell, bool) and cell in (0, 1, "0", "1") for cell in cells)


def _why(text: str, values: list[str]) -> str:
    """What is different, or usual, about a label that is not declared; it is not quoted."""
    if plain(text) == "" and text:
        return "This one is white space"
    if text in NO_GOLD:
        what = "empty" if text == "" else f"{text!r}, as examples without a gold label have"
        return f"This one is {what}; `ignore: [{_quoted(text)}]` leaves such examples out"
    if len(same := [value for value in values if _same_number(text, value)]) == 1:
        return f"As a number this one is {same[0]}, but 1.0 or 01 is not the text 1"
    close = [value for value in values if loose(value) == loose(text)]
    if close and narrow(text) == narrow(close[0]):
        return f"But for full-width letters, or other forms of the same, this one would be {close[0]}"
    if close:
        return f"But for upper and lower case this one would be {close[0]}"
    return ""


def _number_text(text: str) -> str:
    """The same for texts that are the same number, as JSON writes one; any other text as it is."""
    return text_of(Decimal(text)) if NUMBER.fullmatch(text) else text


def _quoted(text: str) -> str:
    return f'"{text}"'


def _same_number(text: str, value: str) -> bool:
    return all(NUMBER.fullmatch(each) for each in (text, value)) and Decimal(text) == Decimal(value)


def _no_number(text: str) -> str:
    """Why this text is none; it is not quoted."""
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
