"""A contribution: the board's default rows for one machine, as the files of a pull request.

The folder has three parts. ``runs`` holds the records as they were measured, and an interrupted command goes on from
it; ``results`` holds those that are published, at their places in the repository; ``PULL_REQUEST.md`` is the text.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from harness.errors import BadInput
from harness.files import disk_errors
from harness.measure.plan import Plan
from harness.records import machine, provenance, record
from harness.results.publish import check_public, publish

# One for each input that the board offers: a short text, a long one, a batch, and real sentences.
SHAPES, TASK, SENTENCES = ((1, 16), (1, 128), (8, 128)), "mini-similarity", 128
WEIGHTS = "minilm-l6"  # the board's default model
PARTS = RUNS, RESULTS, TEXT = "runs", "results", "PULL_REQUEST.md"


def make_folder(folder: Path) -> None:
    """BadInput where no contribution can be written there; what an earlier command wrote of one is taken up."""
    if folder.is_dir() and (strange := sorted(each.name for each in folder.iterdir() if each.name not in PARTS)):
        raise BadInput(f"--output: {folder} holds other files, such as {strange[0]}; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--output: the folder {folder} cannot be made: {error.strerror}; name another") from error


def refusal(command: str) -> str | None:
    """Why nothing that is measured now could be published, and what to do; None: it can be."""
    commit = provenance.git_commit()
    if commit is None:
        why = provenance.git_refusal(provenance.ROOT) or "this is no git checkout, or git is not installed"
        return f"a result belongs to a commit, and none is known: {why}; clone the repository and run the command there"
    if commit.endswith("+changes"):
        return (
            "a result belongs to a commit, and the code has changes that are in none; `git status --short` lists them: "
            "commit or undo them, then run the command again"
        )
    if hidden := machine.hidden():
        return f"parts of the processor are switched off ({', '.join(hidden)}); unset that, then run the command again"
    try:
        check_public("the description of this machine", described(command))
    except BadInput as error:
        return str(error)
    return None


def described(command: str) -> dict[str, Any]:
    """What every record says of the machine, the software and the command."""
    return {
        "machine": machine.describe(),
        "threads": machine.usable_cores(),
        "versions": provenance.versions(),
        "commit": provenance.git_commit(),
        "command": command,
    }


def hardware() -> str:
    """This machine, as records and boards name it."""
    return record.hardware_of(machine.describe(), "cpu", machine.usable_cores())


def doubtful(each: record.Record) -> bool:
    """Whether the machine did other work while this was timed."""
    return isinstance(each, record.Speed) and bool(each.load.get("noisy"))


def clear(runs: Path, commit: str | None) -> None:
    """Delete what is measured again: doubtful timings, and records of another commit than this one."""
    for path in record.files(runs) if runs.is_dir() else []:
        each = record.read(path)
        if doubtful(each) or each.commit != commit:
            path.unlink()


def inputs(plan: Plan) -> list[str]:
    """What is timed, as boards name it."""
    return [f"{sequences} x {length}" for sequences, length in plan.options.shapes] + [task.name for task in plan.tasks]


def minutes(plan: Plan, published: Sequence[record.Record]) -> float | None:
    """About how long the measurement takes, by the published records of processors; None: there are none to go by."""
    names = [f"{sequences} x {length}" for sequences, length in plan.options.shapes] + [
        task.name for task in plan.tasks
    ]
    timed = [each for each in published if isinstance(each, record.Speed) and each.device == "cpu"]
    parities = [each.seconds for each in published if isinstance(each, record.Parity) and each.state == "ok"]
    one_each = [median(parities)] if parities else []
    for name in names:
        if seconds := [each.seconds / len(each.implementations) for each in timed if each.shape["name"] == name]:
            one_each.append(median(seconds))
    return sum(one_each) * len(plan.implementations) / 60 if len(one_each) == 1 + len(names) else None


def collect(folder: Path) -> list[Path]:
    """Check the measured records and put them at their places below ``results``, instead of what was there."""
    with disk_errors(folder):
        shutil.rmtree(folder / RESULTS, ignore_errors=True)
        return publish([folder / RUNS], folder / RESULTS)


def failures(records: Sequence[record.Record]) -> dict[str, str]:
    """The implementations that failed, with the reason of each."""
    found: dict[str, str] = {}
    for each in records:
        if isinstance(each, record.Parity) and each.state == "failed":
            found[each.implementation["name"]] = str(each.reason)
        if isinstance(each, record.Speed):
            timed = each.implementations.items()
            found |= {name: str(figures["reason"]) for name, figures in timed if figures["state"] == "failed"}
    return found
