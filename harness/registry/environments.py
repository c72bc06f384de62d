"""Virtual environments for implementations whose requirements conflict with ours: created once, in the user's cache.

An environment belongs to a list of requirements; implementations with equal lists share it. The file ``complete.json``
marks a complete one. Without it a folder does not count, and is removed before the environment is created again.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from harness.errors import BadInput, Failure
from harness.files import cache_folder
from harness.progress import Show
from harness.registry.implementations import Implementation, Requirements, implementations

PYTHONS = ("3.11", "3.12", "3.13")  # tried in this order if ours does not fit


@dataclass(frozen=True)
class Environment:
    """A complete environment."""

    folder: Path
    packages: tuple[str, ...]  # as required
    installed: tuple[str, ...]  # all packages, as name==version
    created: str  # UTC, ISO 8601
    size: int  # bytes

    @property
    def key(self) -> str:
        return self.folder.name

    def used_by(self) -> list[str]:
        """Names of the implementations that run here."""
        return [each.name for each in implementations().values() if folder_of(each.requirements) == self.folder]


def unmet(requirements: Requirements) -> list[str]:
    """The requirements that this interpreter does not meet; empty if the implementation can run in it."""
    lacking = []
    if not SpecifierSet(requirements.python).contains(platform.python_version(), prereleases=True):
        lacking.append(f"Python {requirements.python}")
    for text in requirements.packages:
        try:
            package = Requirement(text)
        except InvalidRequirement as error:
            raise BadInput(f"requirement {text!r}: {error}") from error
        try:
            version = importlib.metadata.version(package.name)
        except importlib.metadata.PackageNotFoundError:
            lacking.append(str(package))
            continue
        if not package.specifier.contains(version, prereleases=True):
            lacking.append(f"{package} (installed: {version})")
    return lacking


def python_of(implementation: Implementation, show: Show) -> Path:
    """The interpreter for an implementation: ours if possible, else that of its environment, created if needed.

    Failure if the environment cannot be created.
    """
    if not unmet(implementation.requirements):
        return Path(sys.executable)
    return _python_in(create(implementation.requirements, show).folder)


def folder_of(requirements: Requirements) -> Path:
    """The folder of the environment with these requirements, whether or not it exists."""
    identity = repr((astuple(requirements), platform.machine(), sys.platform))
    return cache_folder() / "environments" / hashlib.sha256(identity.encode()).hexdigest()[:16]


def find_environment(requirements: Requirements) -> Environment | None:
    """The environment with these requirements, or None."""
    return _read(folder_of(requirements))


def listing() -> list[Environment]:
    """All complete environments in the cache."""
    found = [_read(folder) for folder in sorted((cache_folder() / "environments").glob("*/"))]
    return [each for each in found if each is not None]


def remove(environment: Environment) -> None:
    """Delete an environment. It stops counting as complete before any file is deleted."""
    with FileLock(f"{environment.folder}.lock"):
        (environment.folder / "complete.json").unlink(missing_ok=True)
        shutil.rmtree(environment.folder)


def create(requirements: Requirements, show: Show) -> Environment:
    """The environment with these requirements, created if necessary; other processes that need it wait.

    ``show(what)`` gets the installer's lines. Failure, with the last of them, if it cannot be created.
    """
    folder = folder_of(requirements)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (known := _read(folder)) is not None:
        return known
    show("creating an environment, or waiting for another process that does")
    with FileLock(f"{folder}.lock"):
        if (known := _read(folder)) is not None:
            return known
        if folder.exists():  # what an interruption left
            shutil.rmtree(folder)
        _make(folder, requirements, show)
        python = _python_in(folder)
        description = {
            "packages": requirements.packages,
            "installed": _installed(python),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "size": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink()),
        }
        partial = folder / "complete.json.part"
        partial.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / "complete.json")
    environment = _read(folder)
    assert environment is not None
    return environment


def _read(folder: Path) -> Environment | None:
    """The environment in a folder; None if ``complete.json`` is absent or damaged."""
    try:
        found = json.loads((folder / "complete.json").read_text(encoding="utf-8"))
        return Environment(
            folder,
            tuple(found["packages"]),
            tuple(found["installed"]),
            found["created"],
            int(found["size"]),
        )
    except (FileNotFoundError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _make(folder: Path, requirements: Requirements, show: Show) -> None:
    options = (["--no-build-isolation"] if requirements.build else []) + (["--no-deps"] if requirements.no_deps else [])
    installs = [[*requirements.build]] if requirements.build else []
    make(folder, requirements.python, [*installs, [*options, *requirements.packages]], show)


def make(folder: Path, python: str, installs: list[list[str]], show: Show) -> Path:
    """A virtual environment with a Python of a suitable version, for which pip runs once for each list of arguments.

    With uv if it is installed, which is faster and downloads the required Python; else with venv and pip. Returns the
    interpreter. Failure, with the installer's last lines, if one fails.
    """
    uv = shutil.which("uv")
    if uv:
        _run([uv, "venv", "--python", python or platform.python_version(), str(folder)], show)
        install = [uv, "pip", "install", "--python", str(_python_in(folder))]
    else:
        _run([_interpreter(python), "-m", "venv", "--without-pip", str(folder)], show)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(_python_in(folder))]
        install = [*pip, "install"]
    for arguments in installs:
        _run([*install, *arguments], show)
    return _python_in(folder)


def has_python(wanted: str) -> bool:
    """Whether ``make`` finds a Python of such a version, or uv may download one."""
    if shutil.which("uv"):
        return True
    try:
        return bool(_interpreter(wanted))
    except Failure:
        return False


def _interpreter(wanted: str) -> str:
    """An installed Python of a suitable version. Failure, with advice, if there is none."""
    versions = SpecifierSet(wanted)
    if versions.contains(platform.python_version(), prereleases=True):
        return sys.executable
    for version in PYTHONS:
        path = shutil.which(f"python{version}")
        if path and versions.contains(_version_of(path), prereleases=True):
            return path
    raise Failure(f"no Python {wanted} is installed; install one, or uv, which downloads it")


def _version_of(python: str) -> Version:
    code = "import platform; print(platform.python_version())"
    return Version(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())


def _run(command: list[str], show: Show) -> None:
    """Run an installer and show its lines as they come. Failure, with the last of them, if it fails."""
    lines: list[str] = []
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.strip():
                show(line.strip()[:100])
    except BaseException:
        process.kill()
        raise
    finally:
        process.stdout.close()
        code = process.wait()
    if code != 0:
        last = "\n".join(lines[-8:])
        raise Failure(f"the environment could not be created; {' '.join(command[:4])} ... ended with {code}:\n{last}")


def _installed(python: Path) -> list[str]:
    """The packages installed there, as name==version. The interpreter lists them itself: it may have no pip."""
    code = (
        "import importlib.metadata as m, json; "
        "print(json.dumps(sorted({f'{d.name}=={d.version}' for d in m.distributions() if d.name})))"
    )
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    names: list[Any] = json.loads(done.stdout)
    return [str(name) for name in names]
