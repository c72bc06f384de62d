"""Starting another process of an environment that does not contain ``harness``."""

import os
from pathlib import Path
from typing import BinaryIO

# The package alone is made importable. The folder that contains it must not go on the path: it may be the
# ``site-packages`` of another environment.
BOOTSTRAP = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("harness", {file!r})
sys.modules["harness"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["harness"])
"""


def bootstrap() -> str:
    """Python code after which ``import harness`` finds this package, in any environment of any Python from 3.11."""
    return BOOTSTRAP.format(file=str(Path(__file__).parents[1] / "__init__.py"))


def command(python: str, module: str, function: str, *arguments: str) -> list[str]:
    """The command line that calls a function of a module of ``harness`` with these arguments in a new process."""
    code = f"{bootstrap()}from {module} import {function}\n{function}(*sys.argv[1:])\n"
    return [python, "-P", "-c", code, *arguments]


def take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return standard input and output as pipes that nothing else in this process can read or write.

    Afterwards file descriptor 0 is empty, and what is printed to file descriptor 1 goes to standard error.
    """
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted, not a path
        os.dup2(nothing.fileno(), 0)
    return requests, answers
