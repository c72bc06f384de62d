"""The command reproduce: measure a published record again, at its commit and with its versions."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import Data
from harness.commands.terminal import log_console, print_rows, progress
from harness.printable import printable

app = typer.Typer()


@app.command(
    epilog="Example: python -m harness reproduce results/intel-xeon-processor-with-amx-2-cores/reference/NAME.json"
)
def reproduce(
    record: Annotated[Path, typer.Argument(help="The file of one record, with its predictions beside it.")],
    data: Data = None,
) -> None:
    """Measure a record again, at its commit and with its versions, and compare.

    Quality should be equal to the last digit or within the interval, parity have the same verdict, and timings on the
    same kind of machine the same ratios. Says what differs, and what may be why. The commit has to be in the history
    of the checkout that this runs in; its tree, environment and records are kept in the cache. Exit code 1: not
    reproduced.
    """
    from harness.reproduce.again import measure, prepare
    from harness.reproduce.verdict import compare

    with progress(log_console()) as show:
        prepared = prepare(record, show)
    for text in (*prepared.notes, f"at {prepared.record.commit} in {prepared.tree}:", prepared.command):
        print(printable(text), file=sys.stderr)
    try:
        new_path, new = measure(prepared, data)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from there: what is finished is kept", file=sys.stderr)
        raise
    found = compare(prepared.record, new, record, new_path)
    print_rows(["", "recorded", "again", ""], found.rows)
    for text in found.notes:
        print(printable(text))
    if found.circumstances:
        agrees = found.equal and not found.differs
        print("\nWhat was otherwise, without effect:" if agrees else "\nWhat was otherwise, and may be why:")
        for text in found.circumstances:
            print(printable(f"  {text}"))
    elif found.differs or not found.equal:
        print("\nMachine, versions, data and recipe are the same.")
    print(printable(f"\n{found.sentence}"))
    if found.differs:
        raise SystemExit(1)
