"""Folders of saved models. ``bert_atlas.json`` describes the model: its task as declared, and how the run computed."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.data.kinds import KINDS
from harness.data.reading import Reading, SplitFile
from harness.data.task import Task
from harness.errors import BadInput
from harness.weights.saved_task import declared, from_declared

DESCRIPTION = "bert_atlas.json"  # the last file to be moved to its place: a folder that has it is complete
OLD_FIELDS = ("task", "kind", "pairs", "max_length")  # the only fields of the first version


@dataclass(frozen=True)
class Saved:
    """The description of a saved model."""

    reading: Reading  # of its task; the files that were scored come first
    device: str | None  # kind of device that the run computed on; None: unknown
    precision: str | None  # precision of the run's evaluation; None: unknown
    lacks: str  # fields that an older version did not write, and what is assumed instead; empty: none


def describe(task: Task, key: str, device: str, precision: str, folder: Path) -> None:
    """Write the description of a model fine-tuned on a task by the run of this key."""
    said = {
        "task": task.name,
        "kind": task.kind,
        "pairs": any("pair" in file.columns for file in task.files.values()),
        "max_length": task.max_length,
        "record": key,
        "device": device.partition(":")[0],
        "precision": precision,
        "declared": declared(task),
    }
    text = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to write a model to. Its files are moved to ``folder`` at the end, the description last."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".part-*"):  # by a process that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as unfinished:
        yield Path(unfinished)
        (folder / DESCRIPTION).unlink(missing_ok=True)
        for file in sorted(Path(unfinished).iterdir(), key=lambda file: file.name == DESCRIPTION):
            file.replace(folder / file.name)


def key_of(folder: Path) -> str | None:
    """The key of the run that trained the model in this folder; None without a model that is complete and sound."""
    try:
        return str(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["record"])
    except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError):
        return None


def read_description(folder: Path) -> Saved:
    """Read the description of a saved model. BadInput for a folder that ``run --save-model`` did not write."""
    said = _read(folder)
    try:
        if "declared" in said:
            return Saved(_scored_first(from_declared(said["declared"])), said["device"], said["precision"], "")
        return Saved(_old_reading(said, folder), None, None, _lacking(said["kind"]))
    except BadInput as error:
        raise BadInput(f"{folder / DESCRIPTION}: {error}") from None
    except (KeyError, TypeError) as error:
        raise BadInput(f"{folder / DESCRIPTION} lacks the field {error}; save the model again") from None


def _read(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder that `run --save-model` wrote: there is no such folder")
    try:
        said = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            f"{folder} is not a folder that `run --save-model` wrote: it has no {DESCRIPTION}, which says how texts "
            f"are read. Fine-tune it on a task: `python -m harness run --task TASK.yaml --weights {folder} "
            "--save-model NEW`"
        ) from None
    except OSError as error:
        raise BadInput(f"cannot read {folder / DESCRIPTION}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{folder / DESCRIPTION} is not valid JSON ({error}); save the model again") from None
    if not isinstance(said, dict) or not all(name in said for name in OLD_FIELDS):
        fields = ", ".join(OLD_FIELDS)
        raise BadInput(
            f"{folder} is not a folder that `run --save-model` wrote: its {DESCRIPTION} should have {fields}"
        )
    return said


def _scored_first(task: Task) -> Reading:
    """The task with its scored files before the others: new inputs probably look like these."""
    order = dict.fromkeys([*task.evaluate, *task.files])
    return replace(task, files={split: task.files[split] for split in order if split in task.files})


def _old_reading(said: dict[str, Any], folder: Path) -> Reading:
    """The reading that an older version saved, with the usual value for what it did not save."""
    kind = said["kind"]
    if kind not in KINDS:
        raise BadInput(f"kind: {kind!r} is none of {', '.join(KINDS)}")
    words = KINDS[kind].inputs == "words"
    columns: dict[str, str | int] = {"word": 0} if words else {"text": "text"}
    if said["pairs"]:
        columns["pair"] = "pair"
    return Reading(
        name=said["task"],
        kind=kind,
        labels=_old_labels(kind, folder),
        files={"test": SplitFile(Path("test.conll" if words else "test.tsv"), not words, columns)},
        format="conll" if words else "tsv",
        encoding="utf-8",
        label_separator=",",
        separator="whitespace",
        scheme="iob2",
        context="sentence",
        max_length=said["max_length"],
        download=None,
    )


def _old_labels(kind: str, folder: Path) -> dict[str, str]:
    from reference.checkpoint import read_config

    if KINDS[kind].why_no_labels:
        return {}
    try:
        labels = read_config(folder)[1]
    except (OSError, ValueError) as error:
        raise BadInput(str(error)) from error
    if KINDS[kind].inputs == "words":
        labels = tuple(dict.fromkeys(label[2:] for label in labels if label != "O"))
    return {label: label for label in labels}


def _lacking(kind: str) -> str:
    if KINDS[kind].inputs == "words":
        return (
            "its task's context, separator and encoding: words are read sentence by sentence, at white space, as UTF-8"
        )
    return "its task's columns and encoding: texts are read from columns called text (and pair), as UTF-8"
