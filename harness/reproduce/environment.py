"""A virtual environment with the versions that a record names, in the user's cache."""

import hashlib
import json
import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from harness.errors import BadInput, Failure
from harness.files import cache_folder, write_whole
from harness.progress import Show
from harness.records.record import Record
from harness.registry import environments
from harness.registry.implementations import Implementation, describe

NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|name resolution|Name or service not known|ConnectTimeout|ProxyError"
    r"|Network is unreachable|dns error|client error \(Connect\)"
)
ABSENT = (  # how pip and uv say which package it is
    r"No matching distribution found for (\S+)",
    r"The user requested \(constraint\) (\S+)",
    r"there is no version of (\S+)",
    r"Because (\S+) was not found",
    r"Failed to build (?:installable wheels for some pyproject.toml based projects \()?[`']?([\w.=-]+)",
)


def pins(each: Record, tree: Path) -> dict[str, str]:
    """Versions by package: those of the commit's ``constraints.txt``, and before them those of the record."""
    file = tree / "constraints.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found: dict[str, str] = {}
    for line in lines:
        try:
            requirement = Requirement(line.partition("#")[0])
        except InvalidRequirement:
            continue  # empty, or an option of pip
        exact = [one.version for one in requirement.specifier if one.operator == "=="]
        if exact:
            found[canonicalize_name(requirement.name)] = exact[0]
    for name, version in each.versions.items():
        try:
            found[canonicalize_name(name, validate=True)] = str(Version(version))
        except (InvalidVersion, TypeError, ValueError):
            raise BadInput(f"its version of {name!r:.60} is {version!r:.60}, which is none") from None
    found.pop("bert-atlas", None)  # the tree itself
    return found


def needed(each: Record, tree: Path, names: list[str], versions: dict[str, str]) -> list[str]:
    """What the harness of this tree requires; and what the implementations require that ran in its interpreter.

    Those are the ones whose requirements these versions meet; the harness makes an environment for the others.
    """
    try:
        project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        found = [_pinned(Requirement(text), versions) for text in project["dependencies"]]
    except (OSError, LookupError, ValueError) as error:
        raise Failure(f"{tree / 'pyproject.toml'} does not say what BERT Atlas required then: {error}") from error
    if "environment" in getattr(each, "implementation", {}):
        return found
    for one in _described(tree):
        wanted = [Requirement(text) for text in one.requirements.packages]
        if one.name in names and all(_meets(versions, requirement) for requirement in wanted):
            found += [_pinned(requirement, versions) for requirement in wanted]
    return list(dict.fromkeys(found))


def _described(tree: Path) -> Iterator[Implementation]:
    for file in sorted((tree / "harness" / "implementations").glob("*.py")):
        with suppress(BadInput):  # __init__, or a file that was described in another way then
            yield from describe(file)


def _pinned(requirement: Requirement, versions: dict[str, str]) -> str:
    """The requirement in its version: where that cannot be had, an installer then names it."""
    if _meets(versions, requirement):
        requirement.specifier = SpecifierSet(f"=={versions[canonicalize_name(requirement.name)]}")
    return str(requirement)


def _meets(versions: dict[str, str], requirement: Requirement) -> bool:
    pinned = versions.get(canonicalize_name(requirement.name))
    return pinned is not None and requirement.specifier.contains(pinned, prereleases=True)


def python_for(each: Record, tree: Path, names: list[str], show: Show) -> tuple[Path, list[str]]:
    """The interpreter with the record's versions, and what the user should know of it; made once.

    Failure, which names the package, where one cannot be installed any more.
    """
    versions = pins(each, tree)
    packages = needed(each, tree, names, versions)
    asked = {canonicalize_name(Requirement(text).name) for text in packages}  # twice, pip would name a conflict
    others = sorted((name, version) for name, version in versions.items() if name not in asked)
    constraints = "".join(f"{name}=={version}\n" for name, version in others)
    wanted, notes = _python(each)
    identity = json.dumps([packages, constraints, wanted, platform.machine(), sys.platform])
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = cache_folder() / "reproduce" / "environments" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    whole = folder.with_name(f"{key}.whole")
    with FileLock(f"{folder}.lock"):
        if whole.is_file():
            python = Path(whole.read_text(encoding="utf-8"))
            if python.is_file():
                return python, notes
        whole.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # what an interruption left
        file = folder.with_name(f"{key}.txt")
        write_whole(file, constraints.encode())
        try:
            python = environments.make(folder, wanted, [["--constraint", str(file), *packages]], show)
        except Failure as error:
            raise Failure(_why(str(error))) from error
        write_whole(whole, str(python).encode())
    return python, notes


def _python(each: Record) -> tuple[str, list[str]]:
    """The record's version of Python, but for its last number, or ours where that is not here; and a note then."""
    said = re.match(r"(3\.[0-9]{1,2})(\.|$)", str(each.machine.get("python", "")))
    wanted = f"=={said[1]}.*" if said else ""
    if not said or environments.has_python(wanted):
        return wanted, []
    return "", [f"no Python {said[1]}, the record's, is installed; this is Python {platform.python_version()}"]


def _why(said: str) -> str:
    """In a sentence, which package could not be installed and why, of what an installer said last."""
    package = next((found[1].strip("'\"`(),") for each in ABSENT if (found := re.search(each, said))), None)
    if NO_NETWORK.search(said):
        what = f" (the first that was asked for: {package})" if package else ""
        return f"its packages are not on this machine, and the index cannot be reached{what}; try again with a network"
    if package is None:
        return f"its environment does not install any more: {said}"
    advice = (
        "; builds such as +cpu are in an index of their own, which PIP_EXTRA_INDEX_URL names" if "+" in package else ""
    )
    return f"its environment does not install any more: {package} cannot be had{advice}"
