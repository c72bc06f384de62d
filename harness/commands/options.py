"""Options that several commands have, and functions that parse their values."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import BadInput
from harness.files import expanded

Impl = Annotated[str, typer.Option(help="Implementations, separated by commas, or all; see `list`.")]
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


def command_line(data: Path | None = None) -> str:
    """The command that is running, as records name it: it can be repeated on another machine."""
    from harness.records.provenance import command

    folders = {"BERT_ATLAS_DATA": data.resolve()} if data else {}
    return command(["python", "-m", "harness", *sys.argv[1:]], folders)
