"""Runs the command of a record again, at its commit and with its versions."""

import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness.errors import BadInput, Failure
from harness.files import cache_folder
from harness.progress import Show
from harness.records import machine, record
from harness.records.record import Quality, Record, Speed
from harness.reproduce import environment
from harness.reproduce.recorded import check_record, command_for
from harness.reproduce.tree import check_commit, repository, worktree

GRACE = 30.0  # seconds that an interrupted command has to keep what is finished
# By which Python would find other packages, or not those of the tree.
PRIVATE = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "VIRTUAL_ENV")


class Prepared(NamedTuple):
    """A record that can be measured again."""

    path: Path
    record: Record
    arguments: list[str]  # of `python -m harness`
    tree: Path
    python: Path
    runs: Path  # where the new records are written
    notes: list[str]

    @property
    def command(self) -> str:
        """What is run, without the places that it writes to and reads from."""
        return " ".join(["python -m harness", *self.arguments])


def prepare(path: Path, show: Show) -> Prepared:
    """Check a record, check its commit out and make its environment, unless an earlier command did.

    BadInput for a record that cannot be measured again; Failure where its environment cannot be made.
    """
    if not path.is_file():
        raise BadInput(f"{path} is no file; name one record, such as results/MACHINE/reference/NAME.json")
    each = record.read(path)
    try:
        check_record(each)
        arguments = command_for(each)
        commit = check_commit(each.commit)
        _check_machine(each)
        show("checking out its commit")
        tree = worktree(repository(), commit)
        python, notes = environment.python_for(each, tree, implementations_of(each), show)
    except (BadInput, Failure) as error:
        raise type(error)(f"{path}: {error}") from error
    key = hashlib.sha256(json.dumps([each.key, commit, arguments, str(python)]).encode()).hexdigest()[:16]
    return Prepared(path, each, arguments, tree, python, cache_folder() / "reproduce" / "runs" / key, notes)


def measure(prepared: Prepared, data: Path | None) -> tuple[Path, Record]:
    """Run the command in the commit's tree, and return the new record with its file.

    The command's output goes to standard error. What is finished is kept, so that it goes on where it was interrupted.
    Failure if it makes no such record.
    """
    command = [str(prepared.python), "-m", "harness", *prepared.arguments, "--runs", str(prepared.runs)]
    if isinstance(prepared.record, Quality):
        command += ["--rerun", "failed"]
    variables = {name: value for name, value in os.environ.items() if name not in PRIVATE}
    if data is not None:
        variables["BERT_ATLAS_DATA"] = str(data.resolve())
    process = subprocess.Popen(command, cwd=prepared.tree, env=variables, stdout=sys.stderr.fileno())
    try:
        code = process.wait()
    except BaseException:  # Ctrl-C reaches it too
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        process.kill()
        process.wait()
        raise
    files = record.files(prepared.runs) if prepared.runs.is_dir() else []
    made = ((file, record.read(file)) for file in files)
    found = [(file, each) for file, each in made if _is_of_the_same(each, prepared.record)]
    if not found:
        raise Failure(
            f"{prepared.path}: `{prepared.command}` at {str(prepared.record.commit)[:12]} ended with exit code {code} "
            f"and made no such record; what it said is above"
        )
    return max(found, key=lambda found: found[1].started)


def implementations_of(each: Record) -> list[str]:
    """The names of the implementations that a record is of."""
    return [*each.implementations] if isinstance(each, Speed) else [each.implementation["name"]]  # type: ignore[attr-defined]


def _check_machine(each: Record) -> None:
    """BadInput for a timing of another kind of machine, and for a GPU where there is none."""
    here = machine.describe()
    if each.device.startswith("cuda") and not here["gpus"]:
        raise BadInput(f"it was measured on {record.hardware(each)}, and this machine has no such GPU")
    kind = record.hardware_of(here, each.device, min(each.threads, machine.usable_threads()))
    if isinstance(each, Speed) and kind != record.hardware(each):
        raise BadInput(
            f"it times {record.hardware(each)}, and this is {kind}: speed is compared on the same kind of machine only"
        )


def _is_of_the_same(new: Record, old: Record) -> bool:
    if new.kind != old.kind:
        return False
    if isinstance(old, Speed):
        return new.shape["name"] == old.shape["name"]  # type: ignore[attr-defined]
    if isinstance(old, Quality):
        same = new.task["name"] == old.task["name"] and new.seed == old.seed  # type: ignore[attr-defined]
        return bool(same) and implementations_of(new) == implementations_of(old)
    return implementations_of(new) == implementations_of(old)
