"""What of a file was read otherwise than it is written, as only one reading is possible; counted for the record."""

from typing import Any

LEFT_OUT = "left out"  # how a repair ends that changes nothing of what is read


class Repairs:
    """The repairs of one file: how many of each kind, and where the first is."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[str, list[int]] = {}  # what -> how many, and the first line

    def add(self, what: str, line: int) -> None:
        """Count one; ``what`` is a plural such as "blank lines, left out"."""
        self._found.setdefault(what, [0, line])[0] += 1

    def counted(self) -> list[dict[str, Any]]:
        """As a record has them: what, count, and the file and line of the first."""
        return [
            {"what": what, "count": count, "first": f"{self._file}:{line}"}
            for what, (count, line) in self._found.items()
        ]


def sentence(repair: dict[str, Any]) -> str | None:
    """The sentence that a reader of a score needs to know; None where lines without content were left out."""
    if repair["what"].endswith(LEFT_OUT):
        return None
    return f"{repair['what']}: {repair['count']}, the first at {repair['first']}"
