"""What can be wrong: with an entry (a Problem, of which there may be many), or with a command."""

from dataclasses import dataclass
from pathlib import Path


class BadInput(Exception):
    """What the user gave cannot be used; the message says what is wrong and what to do. Exit code 2."""


class Failure(Exception):
    """The input was good, but the work could not be done. Exit code 1."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in one file; ``field`` is empty where the file as a whole is meant."""

    file: Path
    line: int  # from 1
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{printable(self.file)}:{self.line}"
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


def printable(path: Path) -> str:
    """``path`` as seen from the working folder, without characters that would steer a terminal."""
    near = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in str(near))
