"""The runs of one command on the machines of a Ray cluster: ``python -m harness run --on ray``.

Ray starts one of our processes on a machine and brings lines of text back; which run goes where is decided here, so
that a machine that is lost or unfit costs only the runs that it had. What we give Ray is a function of this module, by
name, and text: Ray pickles the envelope, and nothing of ours. Only this process writes records.
"""

import base64
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from harness import affinity
from harness.cluster import unit
from harness.cluster.pinning import pinned
from harness.errors import BadInput, Failure
from harness.files import write_whole
from harness.measure.plan import Plan
from harness.progress import Show
from harness.records import record
from harness.records.provenance import ROOT
from harness.shares import Only

LOOK = 1.0  # seconds between two looks at the cluster
ANSWER = 5.0  # seconds that an address has to answer
REST = 30.0  # seconds until a machine that lost a run is checked again; by then Ray knows whether it is gone
CUT = 1000  # letters of what a process that died has said
ATTEMPTS = 3  # times that a run may be lost with its machine
KINDS = ("parity", "quality", "speed")  # folders of records
log = logging.getLogger(__name__)


# -- on the machines --


def work(order: str, cpus: int) -> Iterator[str]:
    """Carry out an order in a separate process on this machine, pinned to CPUs. Yields its lines.

    The process ends with this one: its standard input closes.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with tempfile.TemporaryFile() as errors, pinned(cpus):
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cluster.unit"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"PYTHONPATH": path},
            text=True,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{order}\n")
            process.stdin.flush()
            for line in process.stdout:  # noqa: UP028 - Ray sends to generators, and a file takes nothing
                yield line
            with suppress(subprocess.TimeoutExpired):
                process.wait(ANSWER)
        finally:
            process.stdin.close()
            process.kill()
            process.wait()
        if process.returncode != 0:
            errors.seek(0)
            said = " ".join(errors.read().decode(errors="replace").split())[-CUT:]
            yield json.dumps({"lost": f"our process there ended with {process.returncode}: {said}"})


# -- on this one --


@dataclass(eq=False)
class Piece:
    """A run, the timing, or the check of a machine."""

    label: str
    share: Only | None = None  # None: a check
    task: str = ""  # as the user named it
    lost: int = 0  # with a machine, so far

    @property
    def whole_machine(self) -> bool:
        """Whether nothing else may run on the machine meanwhile."""
        return self.share is not None and self.share.times


@dataclass(eq=False)
class Machine:
    """A machine of the cluster."""

    id: str
    address: str
    cpus: int
    gpus: int
    state: str = "new"  # checking, fit, doubtful (it lost a run), out
    doubted: float = 0.0  # since when
    running: set[Piece] = field(default_factory=set)


def run(plans: list[Plan], precisions: list[str], address: str | None, show: Show) -> Generator[record.Record]:
    """All that was planned, one record at a time, each written before it is returned.

    ``address`` is that of a running cluster; None: the one that RAY_ADDRESS names, else one of this machine alone.
    """
    with _connected(address) as ray:
        yield from _Command(ray, plans, precisions, show).run()


class _Command:
    """What is to do, what is under way, and where."""

    def __init__(self, ray: Any, plans: list[Plan], precisions: list[str], show: Show) -> None:
        self.ray, self.plan, self.precisions, self.show = ray, plans[0], precisions, show
        self.id, self.here = uuid.uuid4().hex[:12], unit.about()
        self.machines: dict[str, Machine] = {}
        self.reasons: list[str] = []  # why machines are left out
        self.to_do: deque[Piece] = deque()
        self.running: dict[Any, tuple[Piece, Machine]] = {}
        self.finished = self.total = self.again = 0
        self.written: set[str] = set()
        self.planned = False
        self.remote = ray.remote(num_returns="streaming", max_retries=0)(work)

    def run(self) -> Iterator[record.Record]:
        """Until all is recorded. Failure if what is left cannot be done on any machine."""
        try:
            yield from self._until_done()
            self.to_do.append(Piece("timing", Only()))
            self.total += 1
            yield from self._until_done()
        finally:
            for answer in self.running:
                self.ray.cancel(answer, force=True)
        if self.again:
            log.warning(f"begun again because a machine was lost: {self.again} runs; none is recorded twice")

    def _until_done(self) -> Iterator[record.Record]:
        while self.to_do or self.running or not self.planned:
            self._look()
            self._start()
            if not self.running and not any(each.state != "out" for each in self.machines.values()):
                self._give_up()
            yield from self._listen()

    def _look(self) -> None:
        """Which machines there are now."""
        alive = {each["NodeID"]: each for each in self.ray.nodes() if each["Alive"]}
        for name, each in alive.items():
            cpus, gpus = (int(each["Resources"].get(what, 0)) for what in ("CPU", "GPU"))
            if name not in self.machines and cpus > 0:
                self.machines[name] = Machine(name, f"{each['NodeManagerAddress']} ({name[:6]})", cpus, gpus)
        for name, machine in list(self.machines.items()):
            if name not in alive and not machine.running:
                del self.machines[name]
            elif machine.state == "doubtful" and time.monotonic() - machine.doubted > REST:
                machine.state = "new"

    def _start(self) -> None:
        """Give work to the machines that have room."""
        for machine in self.machines.values():
            if machine.state == "new":
                machine.state = "checking"
                self._give(Piece(f"checking {machine.address}"), machine)
        while self.planned and self.to_do and (free := self._with_room(self.to_do[0])) is not None:
            self._give(self.to_do.popleft(), free)

    def _with_room(self, piece: Piece) -> Machine | None:
        fit = [each for each in self.machines.values() if each.state == "fit"]
        if piece.whole_machine:
            return max((each for each in fit if not each.running), key=lambda each: each.cpus, default=None)
        free = {each: each.cpus // self._cpus(each) - len(each.running) for each in fit}
        if any(each.gpus for each in fit) and self.plan.options.device != "cpu":
            free = {each: min(room, each.gpus - len(each.running)) for each, room in free.items()}
        best = max(free, key=lambda each: free[each], default=None)
        return best if best is not None and free[best] > 0 else None

    def _cpus(self, machine: Machine) -> int:
        """CPUs of one run: ``--threads``, else those of the smallest machine, so that all runs are computed alike."""
        smallest = min(each.cpus for each in self.machines.values() if each.state != "out")
        return min(machine.cpus, self.plan.options.threads or smallest)

    def _give(self, piece: Piece, machine: Machine) -> None:
        cpus = machine.cpus if piece.whole_machine else self._cpus(machine)
        gpus = 0 if self.plan.options.device == "cpu" else machine.gpus if piece.whole_machine else min(1, machine.gpus)
        options = replace(self.plan.options, share=piece.share, threads=self.plan.options.threads or cpus)
        if piece.share is not None and not piece.whole_machine:
            assert piece.share.implementation is not None
            one = {"implementations": [piece.share.implementation], "tasks": [piece.task], "suite": None}
            options = replace(options, **one, seeds=(piece.share.seed,))  # type: ignore[arg-type]
        order = unit.order_of(options, self.precisions, "check" if piece.share is None else "work", self.id)
        where = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(machine.id, soft=False)
        placed = self.remote.options(num_cpus=cpus, num_gpus=gpus, scheduling_strategy=where)
        answer = placed.remote(json.dumps(order), cpus)
        self.running[answer] = (piece, machine)
        machine.running.add(piece)

    def _listen(self) -> Iterator[record.Record]:
        """What the machines say, for as long as LOOK."""
        if not self.running:
            time.sleep(LOOK / 10)
            return
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=LOOK, fetch_local=False)
        for answer in ready:
            piece, machine = self.running[answer]
            try:
                message = json.loads(self.ray.get(next(answer)))
            except StopIteration:
                message = {"lost": "it ended without an answer"}
            except self.ray.exceptions.RayError as error:
                message = {"lost": f"Ray says {_last_line(error)}"}
            if "progress" in message or "cpus" in message:
                self._progress(f"{piece.label} on {machine.address}: {message.get('progress', 'begins')}")
                continue
            del self.running[answer]
            machine.running.discard(piece)
            yield from self._ended(piece, machine, message)

    def _ended(self, piece: Piece, machine: Machine, message: dict[str, Any]) -> Iterator[record.Record]:
        if "files" in message:
            self.finished += 1
            yield from self._write(message["files"])
        elif "machine" in message:
            check_same(self.here, message["machine"], machine.address)
            machine.state = "fit"
            yield from self._plan(message["known"])
        elif "unfit" in message:
            self._leave_out(machine, message["unfit"])
            if piece.share is not None:
                self.to_do.appendleft(piece)
        elif piece.share is None:
            self._leave_out(machine, message["lost"])
        else:
            piece.lost += 1
            self.again += 1
            machine.state, machine.doubted = "doubtful", time.monotonic()
            log.warning(f"{piece.label}: lost on {machine.address}, and begun again: {message['lost']}")
            if piece.lost == ATTEMPTS:
                raise Failure(f"{piece.label}: lost {ATTEMPTS} times; the last time: {message['lost']}")
            self.to_do.append(piece)

    def _plan(self, known: list[dict[str, Any]]) -> Iterator[record.Record]:
        """The first machine that is fit says which runs there are; what is recorded is not done again."""
        if self.planned:
            return
        self.planned = True
        typed = dict(zip([task.name for task in self.plan.tasks], self._typed(), strict=True))
        for each in known:
            name, task, seed = each["run"]
            kept = [self._kept(records) for records in each["records"]]
            if all(kept):
                yield from (found for found in kept if found is not None)
            else:
                self.to_do.append(Piece(f"{name} on {task}, seed {seed}", Only(name, task, seed), typed[task]))
        self.total = len(self.to_do)

    def _typed(self) -> list[str]:
        from harness.data.task import suites

        options = self.plan.options
        return list(dict.fromkeys([*options.tasks, *(suites()[options.suite] if options.suite else [])]))

    def _kept(self, records: list[tuple[str, str]]) -> record.Record | None:
        from harness.measure.recording import find_kept

        quality = self.plan.options.runs / "quality"
        found = [find_kept(self.plan, record.Quality, key, quality / name) for name, key in records]
        return next((each for each in found if each is not None), None)

    def _write(self, files: dict[str, str]) -> Iterator[record.Record]:
        """Write a machine's files, and return the records among them; a record of parity comes with many runs."""
        runs = self.plan.options.runs
        for name, content in files.items():
            place = PurePosixPath(name)
            if len(place.parts) != 2 or place.parts[0] not in KINDS or place.name.startswith("."):
                raise Failure(f"a machine sent a file that is no record: {name!r:.100}")
            if name in self.written:
                continue
            self.written.add(name)
            if place.parts[0] != "parity" or self.plan.options.rerun == "all" or not (runs / place).is_file():
                write_whole(runs / place, base64.b64decode(content))
            if place.suffix == ".json":
                yield record.read(runs / place)

    def _leave_out(self, machine: Machine, reason: str) -> None:
        if machine.state != "out":
            machine.state = "out"
            self.reasons.append(f"{machine.address}: {reason}")
            log.warning(f"left out: {self.reasons[-1]}")

    def _give_up(self) -> None:
        said = "; ".join(self.reasons) or "there is none with a CPU"
        if not self.planned:
            raise BadInput(f"no machine of the cluster can do the work: {said}")
        raise Failure(f"{len(self.to_do)} runs are left and no machine: {said}; start again: what is recorded is kept")

    def _progress(self, what: str) -> None:
        machines = Counter(each.state for each in self.machines.values())["fit"]
        begun = f"{self.finished} of {self.total} done, {len(self.running)} under way on {machines} machines"
        self.show(f"{begun}; {what}", self.finished, max(1, self.total))


def _last_line(error: Exception) -> str:
    """What Ray says, without the trace of the other machine."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip()[:CUT]}" if lines else type(error).__name__


def check_same(here: dict[str, str], there: dict[str, str], address: str) -> None:
    """BadInput for a machine whose Python or code is not ours: its records would look like ours and be others."""
    for what in ("Python", "commit", "code"):
        if here[what] != there[what]:
            raise BadInput(
                f"{address} has {what} {there[what]}, and this machine {here[what]}; "
                "bring both to the same, or leave that machine out of the cluster"
            )


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster or with one of this machine alone; BadInput where nobody answers."""
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise BadInput("--on ray needs Ray: pip install -e '.[ray]' in the checkout, on every machine") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = address or os.environ.get("RAY_ADDRESS") or None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address is None:
        quiet |= {"include_dashboard": False, "num_cpus": len(affinity.CPUS)}
    else:
        _check_answers(address)
        quiet |= {"address": address}
    try:
        ray.init(**quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        said = " ".join(str(error).split())[:600]
        raise BadInput(f"--on ray: {said}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput(f"--on ray:{address} is not of the form ray:HOST:PORT, such as ray:10.0.0.5:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise BadInput(
            f"nobody answers at {address} ({error}); `ray start --head` prints the address of a cluster"
        ) from None
