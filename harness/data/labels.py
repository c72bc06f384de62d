"""`labels: auto`: the labels that a training split has."""

import re
from collections.abc import Iterator
from pathlib import Path

from harness.data.cells import NO_GOLD, text_of
from harness.data.read import label_cells
from harness.data.spelling import alike, plain
from harness.data.task import Task
from harness.errors import BadInput

MOST_SHOWN = 20


def training_labels(task: Task, data_folder: Path | None = None) -> list[str]:
    """Labels, or entity types, by name (numbers by value), without differences that cannot be seen.

    BadInput where a cell is no label at all.
    """
    found: set[str] = set()
    try:
        for cell in label_cells(task, "train", data_folder):
            found.update(plain(text) for text in _texts(task, cell))
    except ValueError as error:
        raise BadInput(f"labels: auto: a label of the training split {error}") from None
    found.discard("")  # reading says where one is empty
    if not found:
        raise BadInput("labels: auto: the training split has none; name them")
    numbers = all(re.fullmatch("-?[1-9][0-9]{0,17}|0", text) for text in found)
    return sorted(found, key=int) if numbers else sorted(found)


def _texts(task: Task, cell: object) -> list[str]:
    if task.kind != "multi-label":
        return [text_of(cell)]
    if isinstance(cell, list):
        return [text_of(each) for each in cell]
    return text_of(cell).split(task.label_separator)


def told(task: Task) -> Iterator[str]:
    """What a reader must know of labels that nobody declared: which they are, and which may be the same."""
    if not task.auto_labels:
        return
    shown, more = list(task.labels)[:MOST_SHOWN], len(task.labels) - MOST_SHOWN
    names = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    yield f"`labels: auto` takes {len(task.labels)} labels from the training split: {names}"
    for group in alike(task.labels):
        yield f"{' and '.join(map(repr, group))} are labels that differ only in case or width; is one a mistake?"
    for label in sorted({*NO_GOLD} & {*task.labels}):
        question = "are its examples without gold labels?"
        yield f'{label!r} is one of the labels; {question} Then declare `ignore: ["{label}"]`'
