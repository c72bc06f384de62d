"""Folders and files as users name them."""

from collections.abc import Callable
from pathlib import Path

from harness.errors import BadInput


def home_folder() -> Path | None:
    """The user's home folder; None where there is no such, as in a container whose user has no name."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def user_folder(find: Callable[[str], Path]) -> Path | None:
    """The program's folder that this function of platformdirs finds; None where no home folder is known."""
    try:
        folder = find("bert-atlas")
    except (RuntimeError, KeyError):
        return None
    return folder if folder.is_absolute() else None  # else "~/...", which would be a folder of that name here


def expanded(text: str | Path) -> Path:
    """The path, with the home folder for a ``~`` at its beginning; BadInput where there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise BadInput(f"{text}: no home folder is known for {Path(text).parts[0]}; write the path out") from None
