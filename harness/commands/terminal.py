"""What the user sees: tables on standard output, progress on standard error."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.printable import printable
from harness.progress import Show

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def terminal() -> "Console":
    """Standard output; a pipe or file gets a width at which no table is cut."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


def log_console() -> "Console":
    """Standard error."""
    from rich.console import Console

    return Console(stderr=True)


def print_rows(head: Sequence[str], rows: "Iterable[Sequence[str | Text]]", title: str | None = None) -> None:
    """A table without lines. Text in brackets, such as the extra of a package, is not markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    terminal().print(table)


@contextmanager
def progress(console: "Console") -> Iterator[Show]:
    """A bar that shows progress; on a pipe there is none."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=None)

        def show(what: str, done: float = 0, total: float = 1) -> None:
            progress.update(bar, description=what, completed=done, total=total)

        yield show
