"""The services that can be driven: their files, and their processes while they run."""

import ctypes
import difflib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import requests
from packaging.requirements import Requirement

from harness import __version__
from harness.errors import BadInput, Failure
from harness.file_cache import per_file
from harness.records.code import parse
from harness.registry.environments import find_environment
from harness.registry.implementations import Implementation, describe

FOLDER = Path(__file__).parents[1] / "services"
ROOT = Path(__file__).parents[2]
OURS = "bert-atlas"  # what ratios are to
START_SECONDS = 300.0
STOP_SECONDS = 10.0
PR_SET_PDEATHSIG = 1  # of prctl(2)
LAST_LINES = 5  # of a service that ended, in the message


def services() -> dict[str, Implementation]:
    """All services by name, ours first; none is imported."""
    files = [path for path in sorted(FOLDER.glob("*.py")) if path.stem != "__init__"]
    found = {each.name: each for path in files for each in describe(path)}
    return {OURS: found.pop(OURS), **found}


def find(names: list[str]) -> list[Implementation]:
    """The services of these names, ours among them and first; "all" is all. BadInput for a name that there is not."""
    known = services()
    for name in names:
        if name != "all" and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BadInput(f"no service is called {name!r}{hint} (known: {', '.join(known)})")
    return [each for name, each in known.items() if name in (OURS, *names) or "all" in names]


@per_file
def path_of(file: Path) -> str:
    """The path that takes requests in OpenAI's form: the constant PATH of a service's file."""
    for node in parse(file.read_text(encoding="utf-8")).body:
        text = str(getattr(node, "value", None) and getattr(getattr(node, "value", None), "value", ""))
        if [getattr(target, "id", "") for target in getattr(node, "targets", [])] == ["PATH"]:
            return text
    raise BadInput(f"{file}: a service's file must define PATH")


def version_of(service: Implementation) -> str:
    """The version of the package that a service is about: the first that its file requires."""
    if service.name == OURS:
        return __version__
    name = Requirement(service.requirements.packages[0]).name
    environment = find_environment(service.requirements)
    listed = dict(each.split("==", 1) for each in environment.installed) if environment else {}
    with suppress(PackageNotFoundError):
        return listed.get(name) or listed.get(name.replace("-", "_")) or version(name)
    return "unknown"


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent has ended, however that was; it stays so after ``exec``."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Running:
    """A service in a separate process. Use it in a ``with`` block."""

    def __init__(self, service: Implementation, python: Path, folder: Path, threads: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.name, self.url = service.name, f"http://127.0.0.1:{port}{path_of(service.file)}"
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        paths = {"PYTHONPATH": str(ROOT)} if service.name == OURS else {}
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [str(python), str(service.file), str(folder), str(port), str(threads)],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | paths,
            start_new_session=True,  # Ctrl-C reaches the harness, which then ends the service
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, text: str) -> float:
        """Seconds from its start until it answered a text. Failure, with its last words, if it ends before."""
        while time.monotonic() - self.started < START_SECONDS:
            if self._process.poll() is not None:
                raise Failure(f"{self.name} ended with {self._process.returncode}: {self._last_lines()}")
            with suppress(requests.RequestException):
                if requests.post(self.url, json={"input": [text]}, timeout=START_SECONDS).ok:
                    return time.monotonic() - self.started
            time.sleep(0.05)
        raise Failure(f"{self.name} did not answer within {START_SECONDS:.0f} seconds: {self._last_lines()}")

    def vectors(self, texts: list[str]) -> list[list[float]]:
        """The vectors of texts. Failure where they are not answered."""
        try:
            answer = requests.post(self.url, json={"input": texts}, timeout=START_SECONDS)
            answer.raise_for_status()
            return [each["embedding"] for each in sorted(answer.json()["data"], key=lambda each: each["index"])]
        except (requests.RequestException, ValueError, LookupError, TypeError) as error:
            raise Failure(f"{self.name}: {error}") from error

    @property
    def memory(self) -> int:
        """Resident bytes of all its processes now."""
        return sum(each.memory_info().rss for each in self._processes())

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of all its processes so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self._processes())

    def close(self) -> None:
        """End it and its children."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session: only what it started
        self._process.wait()
        self._said.close()

    def _processes(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.Error as error:
            raise Failure(f"{self.name} has ended: {self._last_lines()}") from error

    def _last_lines(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return " | ".join(lines[-LAST_LINES:]) or "it said nothing"
