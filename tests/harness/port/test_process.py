"""Another process that imports ``harness`` and nothing beside it."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.port.process import bootstrap, command
from harness.records.code import ROOT


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Isolated (-I): without this folder, user packages and variables on the path."""
    python, *rest = arguments
    return subprocess.run([python, "-I", *rest], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("argument", ["plain", 'it\'s "quoted"', "new\nline"])
def test_a_function_of_the_package_is_called_with_arguments(argument: str, tmp_path: Path) -> None:
    done = run(command(sys.executable, "harness.port.hf_folder", "print", "1", argument), tmp_path)
    assert "ImportError" in done.stderr, "a name that the module does not define"
    done = run(command(sys.executable, "harness.printable", "printable", argument), tmp_path)
    assert done.returncode == 0, done.stderr


def test_it_is_this_package_and_nothing_beside_it_is_on_the_path(tmp_path: Path) -> None:
    code = bootstrap() + f"import harness.port\nprint(harness.__file__)\nassert {str(ROOT)!r} not in sys.path\n"
    done = run([sys.executable, "-c", code], tmp_path)
    assert done.stdout == f"{ROOT / 'harness' / '__init__.py'}\n", done.stderr
