"""Folders and files as users name them."""

from pathlib import Path

from harness.errors import BadInput


def expanded(text: str | Path) -> Path:
    """The path, with the home folder for a ``~`` at its beginning; BadInput where there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise BadInput(f"{text}: no home folder is known for {Path(text).parts[0]}; write the path out") from None
