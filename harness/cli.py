"""The command line. Heavy imports stand inside the commands, so that ``--help`` answers at once."""

import getpass
import os
import sys
from typing import Annotated

import typer

from harness import __version__
from harness.commands import (
    choose,
    contribute,
    embed,
    explain,
    load,
    machine,
    measure,
    predict,
    pretrain,
    records,
    reproduce,
    serve,
    similar,
)
from harness.errors import BadInput, ours
from harness.printable import UNFIT, printable

app = typer.Typer(
    help="Measure BERT implementations: parity, accuracy and throughput, from the same weights on the same data.",
    epilog="Start with: python -m harness run --impl reference",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(measure.app)
app.add_typer(choose.app)
app.add_typer(contribute.app)
app.add_typer(predict.app)
app.add_typer(embed.app)
app.add_typer(similar.app)
app.add_typer(explain.app)
app.add_typer(serve.app)
app.add_typer(load.app)
app.add_typer(pretrain.app)
app.add_typer(records.app)
app.add_typer(reproduce.app)
app.add_typer(machine.app)
app.add_typer(records.submit_app, name="submit")
app.add_typer(machine.data_app, name="data")
app.add_typer(machine.env_app, name="env")


def main() -> None:
    """Run the command line; exit code 0 all well, 1 a run failed, 2 bad input, 130 interrupted."""
    _settle()
    try:
        _check_arguments(sys.argv[1:])
        app()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        found = ours(error)
        if found is None:
            raise
        _complain(found, 2 if isinstance(found, BadInput) else 1)


def _settle() -> None:
    """Make of an unusual home an ordinary one: streams that take any letter, and a name for the user.

    What standard output and error cannot show, as they are not UTF-8, is written as Python escapes. The name is what
    libraries call folders of temporary files by; in a container the user's number often has none.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - for all our time
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = f"user-{os.getuid()}"


def _check_arguments(arguments: list[str]) -> None:
    """Records name the command, and much of what is said repeats a part of it."""
    for argument in arguments:
        if UNFIT.search(argument):
            if (encoding := sys.getfilesystemencoding()) != "utf-8" and _is_utf8(os.fsencode(argument)):
                raise BadInput(f"the argument {argument!r} has letters that {encoding} lacks; set PYTHONUTF8=1")
            raise BadInput(
                f"the argument {argument!r} is not UTF-8 text without control characters; rename what it names"
            )


def _is_utf8(raw: bytes) -> bool:
    try:
        return not UNFIT.search(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _complain(error: Exception, code: int) -> None:
    print(f"error: {printable(str(error))}", file=sys.stderr)
    raise SystemExit(code)


def _version(asked: bool) -> None:
    if asked:
        print(f"BERT Atlas {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""
