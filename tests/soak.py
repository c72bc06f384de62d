"""``make soak``: what is too long for the gate. Writes what came of it to soak.md beside this file, to be committed.

Each part is a command; its last lines and its seconds are kept. The exit code is 1 where one of them failed.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON = [sys.executable, "-m"]
PARTS = {
    "Tests marked `soak`": [*PYTHON, "pytest", "-m", "soak"],
    "Properties, two thousand examples each": [
        *(*PYTHON, "pytest", "--hypothesis-profile=soak"),
        *("-m", "hypothesis and not ports and not engines"),
    ],
    "`make run`, shortened": [*PYTHON, "harness", "run", "--impl", "reference,transformers", "--limit", "32"],
    "A hundred small faults, which the tests must notice": [sys.executable, "tests/mutants.py", "100"],
}
LINES = {"tests/mutants.py": 120}  # shown of a part's output, where it is not ten


def machine() -> str:
    """The processor, how many of them there are, and the versions of Python and of the system."""
    models = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    processor = models[0] if models else platform.machine()
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.is_file() else []


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    head = f"Commit {git('rev-parse', 'HEAD')}{changed}, {datetime.now(UTC):%Y-%m-%d}, {machine()}."
    report, failed = ["# What `make soak` gave last", "", head], False
    for title, command in PARTS.items():
        print(f"{title} ...", flush=True)
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            where = ROOT
            if "tests/mutants.py" in command:  # which changes the code
                where = Path(folder) / "tree"
                git("clone", "--quiet", "--shared", str(ROOT), str(where))
            runs = ["--runs", folder] if "harness" in command else []
            done = subprocess.run([*command, *runs], cwd=where, capture_output=True, text=True, check=False)
        failed |= done.returncode != 0
        lines = (done.stdout + done.stderr).rstrip().splitlines()[-LINES.get(command[1], 10) :]
        seconds = f"{time.monotonic() - start:.0f} s, exit code {done.returncode}"
        report += ["", f"## {title}", "", f"{seconds}:", "", "```", *(line.rstrip() for line in lines), "```"]
    Path(__file__).with_suffix(".md").write_text("\n".join(report) + "\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
