"""One piece of a command's work, in a separate process: ``python -m harness.cluster.unit``.

It reads an order, one line of JSON, from standard input and writes lines of JSON to standard output: progress, and at
the end the files of the records. Every engine that runs pieces elsewhere starts this. It ends, with all its children,
as soon as its standard input is closed.
"""

import base64
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

from harness.data import fetch
from harness.errors import BadInput, Failure, ours
from harness.measure import main_path
from harness.measure.keys import How
from harness.measure.plan import Options, Plan, prepare_each
from harness.measure.run import Run
from harness.port.process import take_over_pipes
from harness.records import provenance
from harness.records.record import Record
from harness.shares import Only
from harness.worker.session import end_with_harness

SECOND = 1.0  # between two messages of progress
PATHS = ("data", "runs")  # fields of the options
DAY = 24 * 3600.0  # seconds, after which folders of ended commands are deleted
FOLDER = "bert-atlas-cluster-"
Message = dict[str, Any]


def order_of(options: Options, precisions: list[str], what: str, command: str) -> Message:
    """An order as JSON: ``what`` is ``check`` or ``work``; ``command`` is the same for all of one command's orders."""
    values = asdict(replace(options, share=None, save_model=None, runs=Path()))
    values |= {name: None if values[name] is None else str(values[name]) for name in PATHS}
    values["checkouts"] = {name: str(folder) for name, folder in options.checkouts.items()}
    share = list(options.share) if isinstance(options.share, Only) else None
    return {"what": what, "options": values | {"share": share}, "precisions": precisions, "command": command}


def carry_out(order: Message, say: Callable[[Message], None]) -> Message:
    """Do what an order asks for. Returns the last message.

    Its ``unfit`` says why this machine cannot do it, though another one might; nothing is recorded then.
    """
    try:
        if order["what"] == "nothing":
            return {"files": {}}
        runs = _folder(order["command"])
        options = _options(order["options"], runs)
        if order["what"] == "check":
            _get_data(options)
        plans = prepare_each(options, order["precisions"])
        if order["what"] == "check":
            return {"machine": about(), "known": _known(plans), "notes": list(plans[0].notes)}
        records = list(main_path.run(plans, _throttled(say)))
        return {"files": dict(_files(runs, records))}
    except Exception as error:
        known = ours(error)
        if known is None:
            raise
        return {"unfit": str(known)}


def about() -> dict[str, str]:
    """What must be the same on all machines: versions of Python and of the code."""
    return {
        "Python": platform.python_version(),
        "commit": provenance.git_commit() or "none",
        "code": _code(),
        "address": platform.node(),
    }


def _code() -> str:
    """A hash of our files, which tells uncommitted changes apart."""
    digest = hashlib.sha256()
    for folder in ("harness", "reference"):
        for file in sorted((provenance.ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".cpp", ".h", ".yaml", ".toml"):
                digest.update(f"{file.relative_to(provenance.ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _options(values: dict[str, Any], runs: Path) -> Options:
    """The options, on this machine: a folder of data that is not here is the one that this machine names."""
    values = values | {"runs": runs, "share": None if values["share"] is None else Only(*values["share"])}
    data = values["data"]
    values["data"] = Path(data) if data is not None and Path(data).is_dir() else None
    for name in ("splits", "seeds"):
        values[name] = tuple(values[name])
    values["shapes"] = tuple(map(tuple, values["shapes"]))
    values["checkouts"] = {name: Path(folder) for name, folder in values["checkouts"].items()}
    return Options(**values)


def _get_data(options: Options) -> None:
    """Download the data sets of the tasks that are not here. They are locked: one process of a machine does it."""
    from harness.data.task import suites

    folder = fetch.data_folder(options.data)
    tasks = {*options.tasks, *(suites().get(options.suite, []) if options.suite else [])}
    for dataset in fetch.datasets().values():
        here = all((folder / dataset.folder / name).is_file() for name in dataset.files)
        if tasks & set(dataset.tasks) and not here:
            fetch.get([dataset.name], folder)


def _known(plans: list[Plan]) -> list[Message]:
    """Every run that is planned, and by precision the records that it may have if it is made here: file and key."""
    found: list[Message] = []
    for implementation in plans[0].implementations:
        hows: tuple[How, ...] = ("job",) if implementation.job else ("trained", "encoded")
        of = plans[:1] if implementation.job else plans
        for task in plans[0].tasks:
            for seed in plans[0].seeds_of(implementation, task):
                runs = [[Run(plan, implementation, task, seed, how) for how in hows] for plan in of]
                records = [[(run.path.name, run.key) for run in each] for each in runs]
                found.append({"run": [implementation.name, task.name, seed], "records": records})
    return found


def _folder(command: str) -> Path:
    """The folder of records of a command on this machine, where parity is measured once for all its orders."""
    with suppress(OSError):
        for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
            if time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.gettempdir()) / f"{FOLDER}{command}"


def _files(runs: Path, records: list[Record]) -> Iterator[tuple[str, str]]:
    """The files of these records: path in the folder, content in base64. Predictions come before their record."""
    for each in records:
        for file in sorted(runs.glob(f"*/*-{each.key[:12]}.*json*"), key=lambda file: file.suffix != ".gz"):
            if not file.name.startswith("."):
                yield file.relative_to(runs).as_posix(), base64.b64encode(file.read_bytes()).decode()


def _throttled(say: Callable[[Message], None]) -> Callable[..., None]:
    """Progress, once a second."""
    last = 0.0

    def show(what: str, done: float = 0, total: float = 1) -> None:
        nonlocal last
        if time.monotonic() - last > SECOND:
            last = time.monotonic()
            say({"progress": what})

    return show


def main() -> None:
    """Carry out the order on standard input."""
    requests, answers = take_over_pipes()
    order = json.loads(requests.readline())
    end_with_harness(requests)
    _say(answers, {"cpus": sorted(_affinity()), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")})
    _say(answers, carry_out(order, lambda message: _say(answers, message)))


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _say(answers: BinaryIO, message: Message) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    try:
        main()
    except (BadInput, Failure) as error:
        sys.exit(str(error))
