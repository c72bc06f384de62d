"""The command line. Heavy imports stand inside the commands, so that ``--help`` answers at once."""

import errno
import sys
from typing import Annotated

import typer

from harness import __version__
from harness.commands import machine, measure, predict, records
from harness.errors import BadInput, Failure
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
app.add_typer(predict.app)
app.add_typer(records.app)
app.add_typer(machine.app)
app.add_typer(records.submit_app, name="submit")
app.add_typer(machine.data_app, name="data")
app.add_typer(machine.env_app, name="env")


def main() -> None:
    """Run the command line; exit code 0 all well, 1 a run failed, 2 bad input, 130 interrupted."""
    try:
        _check_arguments(sys.argv[1:])
        app()
    except BadInput as error:
        _complain(error, 2)
    except Failure as error:
        _complain(error, 1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            if error.filename is None:
                raise
            _complain(BadInput(f"{error.filename}: {error.strerror}"), 2)
        _complain(Failure(f"the disk is full ({error.filename}); make room and start again: finished runs are kept"), 1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _check_arguments(arguments: list[str]) -> None:
    """Records name the command, and much of what is said repeats a part of it."""
    for argument in arguments:
        if UNFIT.search(argument):
            raise BadInput(
                f"the argument {argument!r} is not UTF-8 text without control characters; rename what it names"
            )


def _complain(error: Exception, code: int) -> None:
    print(f"error: {printable(str(error))}", file=sys.stderr)
    raise SystemExit(code)


def _version(asked: bool) -> None:
    if asked:
        print(f"BERT Atlas {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Options of the program itself."""
