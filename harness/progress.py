"""How long work reports its progress."""

from typing import Protocol


class Show(Protocol):
    """Shows what is being done, and how much of how much is done. It may be called from several threads."""

    def __call__(self, what: str, done: float = 0, total: float = 1) -> None: ...


def labelled(show: Show, label: str) -> Show:
    """The same, with a label before what is being done."""

    def show_labelled(what: str, done: float = 0, total: float = 1) -> None:
        show(f"{label}: {what}", done, total)

    return show_labelled
