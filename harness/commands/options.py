"""Options that several commands have, and functions that parse their values."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import BadInput
from harness.files import expanded

Impl = Annotated[
    str, typer.Option(help="Implementations, separated by commas, or all; see `list`. A file of your own: ./mine.py.")
]
Checkout = Annotated[
    list[str] | None, typer.Option(help="Folder of an implementation's repository: NAME=FOLDER. Repeatable.")
]
Weights = Annotated[str, typer.Option(help="Weights: a name of `list`, a Hub id, a folder or a TensorFlow checkpoint.")]
Data = Annotated[Path | None, typer.Option(envvar="BERT_ATLAS_DATA", help="Folder of task data; see `data get`.")]
Runs = Annotated[Path, typer.Option(help="Folder for the records.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu or cuda.")]
Threads = Annotated[
    int | None,
    typer.Option(
        help="CPU threads, whatever OMP_NUM_THREADS says.  [default: all cores that affinity and quota leave]"
    ),
]
OwnTasks = Annotated[list[Path] | None, typer.Option(help="YAML file of a task of your own. Repeatable.")]
Records = Annotated[list[Path], typer.Argument(help="Records, or folders of them.")]
Pooling = Annotated[
    str,
    typer.Option(
        help="mean, cls, max, mean_sqrt_len, weightedmean or lasttoken, or several of these with commas between; "
        "or pooler.  [default: that of the folder]"
    ),
]
Normalize = Annotated[
    bool | None,
    typer.Option("--normalize/--no-normalize", help="Scale vectors to length 1.  [default: as the folder says]"),
]
VectorPrecision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16, fp16, int8 or fp64.")]
LONGEST_TEXT = 1_000_000  # characters


def names(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def checkouts(given: list[str] | None) -> dict[str, Path]:
    """Folders of repositories, by name of implementation. BadInput for text of another form."""
    folders = {}
    for text in given or []:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise BadInput(f"--checkout {text!r} is not of the form NAME=FOLDER")
        folders[name] = expanded(folder)
    return folders


def roles(columns: str) -> dict[str, str]:
    """Columns by role, of ``--columns``."""
    found = {}
    for each in names(columns):
        role, equals, column = each.partition("=")
        if not (role and equals and column):
            raise BadInput(f"--columns: {each!r} is not of the form ROLE=COLUMN, such as text=message")
        found[role] = column
    return found


def check_texts(file: Path, texts: Sequence[str]) -> None:
    """BadInput for texts of which a timing would say nothing: all empty, or one so long that it is a whole file."""
    if not any(map(str.strip, texts)):
        raise BadInput(f"{file}: all of its texts are empty")
    long = next((i for i, text in enumerate(texts) if len(text) > LONGEST_TEXT), None)
    if long is not None:
        raise BadInput(
            f"{file}: text {long + 1} has {len(texts[long]):,} characters, and a model reads some hundred words; "
            f"divide what is longer than {LONGEST_TEXT:,} characters into texts, one a line"
        )


def thread_count(given: int | None) -> int:
    """As many as a run takes, unless ``--threads`` says how many."""
    from harness.records.machine import usable_cores

    if given is not None and given < 1:
        raise BadInput(f"--threads is {given}; it must be above 0")
    return given or usable_cores()


def check_precision(precision: str) -> None:
    """BadInput for a ``--precision`` that is none."""
    from harness.measure.plan import PRECISIONS

    if precision not in PRECISIONS:
        raise BadInput(f"--precision {precision!r} is not one of {', '.join(PRECISIONS)}")


def check_output(output: Path) -> None:
    """BadInput before the work, rather than after it, where ``--output`` cannot be written."""
    if output.is_dir() or not output.parent.is_dir():
        what = "it is a folder" if output.is_dir() else "its folder is not there"
        raise BadInput(f"--output: {output} cannot be written: {what}")
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise BadInput(f"--output: {output} cannot be written: Permission denied")


def command_line(data: Path | None = None) -> str:
    """The command that is running, as records name it: it can be repeated on another machine."""
    from harness.records.provenance import command

    folders = {"BERT_ATLAS_DATA": data.resolve()} if data else {}
    return command(["python", "-m", "harness", *sys.argv[1:]], folders)
