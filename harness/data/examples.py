"""What reading a file gives: its examples, and the repairs that were counted on the way."""

from dataclasses import dataclass
from typing import Any, NamedTuple

LEFT_OUT = "left out"  # how a repair ends that changes nothing in what is read

Label = str | float | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text or a pair of texts."""

    id: str  # from its id column, else its 0-based row
    text: str
    pair: str | None
    label: Label | None  # a name, a number in regression, names in multi-label; None where unlabelled

    @property
    def texts(self) -> tuple[str, ...]:
        """All that a model reads."""
        return self.text, self.pair or ""


@dataclass(frozen=True, slots=True)
class WordExample:
    """A sentence as its words."""

    id: str  # its 0-based place in the file
    words: tuple[str, ...]
    tags: tuple[str, ...] | None  # IOB2, one for each word; None where unlabelled
    document: int  # number of its document; in a file that marks none each sentence is one

    @property
    def texts(self) -> tuple[str, ...]:
        """All that a model reads."""
        return (" ".join(self.words),)


class Read(NamedTuple):
    """A split as it was read."""

    examples: list[Any]  # in the file's order
    repairs: list[dict[str, Any]]  # what was read otherwise than it is written: what, count, first (file and line)


class Repairs:
    """Counts what in one file was read otherwise than it is written, where only one reading is possible."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[str, tuple[int, int | str]] = {}  # what -> how many, and the first line

    def add(self, what: str, line: int | str) -> None:
        """Count one; ``what`` is a plural such as "blank lines, left out". Instead of a line an example's id."""
        count, first = self._found.get(what, (0, line))
        self._found[what] = count + 1, first

    def counted(self) -> list[dict[str, Any]]:
        """As a record has them: what, count, and the file and line of the first."""
        return [
            {"what": what, "count": count, "first": f"{self._file}:{line}"}
            for what, (count, line) in self._found.items()
        ]


def repair_text(repair: dict[str, Any]) -> str | None:
    """The sentence that a reader of a score needs; None where only lines without content were left out."""
    if repair["what"].endswith(LEFT_OUT):
        return None
    return f"{repair['what']}: {repair['count']}, the first at {repair['first']}"
