"""Problems of entries, of which `check` reports many at once, and the exceptions that end a command."""

from dataclasses import dataclass
from pathlib import Path


class BadInput(Exception):
    """The input cannot be used; the message says what is wrong and what to do. Exit code 2."""


class Failure(Exception):
    """The input is good, but the work could not be done. Exit code 1."""


@dataclass(frozen=True, order=True)
class Problem:
    """One problem in one file; ``field`` is empty if it concerns the whole file."""

    file: Path
    line: int  # from 1
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{printable(self.file)}:{self.line}"
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


def printable(path: Path) -> str:
    """``path`` relative to the working folder, with control characters escaped."""
    near = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in str(near))
