"""A task as JSON, as a saved model keeps the task that it was trained on."""

from collections.abc import Iterable
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from harness.data.kinds import KINDS
from harness.data.reading import SplitFile
from harness.data.task import Recipe, Task
from harness.errors import BadInput


def declared(task: Task) -> dict[str, Any]:
    """The whole task as JSON can hold it, for ``from_declared``; of an absolute path only the file's name."""
    said = asdict(task)
    said["labels"] = list(task.labels.items())  # their order is that of the outputs
    for split, file in task.files.items():
        said["files"][split]["path"] = _short(file.path)
        said["files"][split]["more"] = list(map(_short, file.more))
    return said


def _short(path: Path) -> str:
    return path.name if path.is_absolute() else path.as_posix()


def _paths(said: Iterable[str]) -> tuple[Path, ...]:
    return tuple(map(Path, said))


def from_declared(said: Any) -> Task:
    """The task that ``declared`` returned. BadInput where it is not of that form."""
    try:
        known = {field.name: field.default for field in fields(Task)}
        if unknown := said.keys() - known.keys():
            raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
        if missing := [name for name, default in known.items() if default is MISSING and name not in said]:
            raise ValueError(f"no field {', '.join(missing)}")
        if said["kind"] not in KINDS:
            raise ValueError(f"no kind {said['kind']!r}")
        values = dict(said) | {name: tuple(value) for name, value in said.items() if isinstance(value, list)}
        values["labels"] = {str(value): str(name) for value, name in said["labels"]}
        values["files"] = {
            split: SplitFile(Path(file["path"]), file["header"], dict(file["columns"]), _paths(file.get("more", ())))
            for split, file in said["files"].items()
        }
        values["recipes"] = {size: Recipe(**recipe) for size, recipe in said["recipes"].items()}
        return Task(**values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"not a task as `run --save-model` writes it down: {error}") from None
