"""Benchmarks that are switched off fail instead of passing unmeasured."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = "tests/benchmarks/test_read.py"


@pytest.mark.parametrize("option", ["--benchmark-disable", "--numprocesses=1"])
def test_benchmarks_that_measure_nothing_fail(option: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", option, FILE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "benchmarks are disabled" in done.stdout
