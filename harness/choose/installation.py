"""What must be installed for an implementation: how many bytes, and under which licence."""

import importlib.metadata
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from harness.registry.environments import find_environment, unmet
from harness.registry.implementations import Implementation

LONGEST = 40  # characters of a licence; some packages put its whole text there


class Installation(NamedTuple):
    """The packages of an implementation, with all that they need in turn."""

    size: int | None  # bytes on this machine; None: not installed
    licence: str  # of the package of its name; "" if there is none, or that does not say


def runs_here(implementation: Implementation) -> bool:
    """Whether it needs no environment that would have to be created first."""
    return not unmet(implementation.requirements) or find_environment(implementation.requirements) is not None


def installation_of(implementation: Implementation) -> Installation:
    """Size and licence, from the metadata of the packages where the implementation runs."""
    needs = implementation.requirements
    if unmet(needs):
        environment = find_environment(needs)
        if environment is None:
            return Installation(None, "")
        path = tuple(str(each) for each in environment.folder.glob("lib/*/site-packages"))
    else:
        path = tuple(sys.path)
    names = [canonicalize_name(Requirement(each).name) for each in needs.packages]
    sizes = [_size(each, path) for each in _closure(names, path)]
    own = canonicalize_name(implementation.file.stem)
    return Installation(sum(sizes), _licence("bert-atlas" if own == "reference" else own, path))


def _closure(names: Sequence[str], path: tuple[str, ...]) -> set[str]:
    """The packages of these names and those that they require, without extras."""
    found: set[str] = set()
    waiting: list[str] = list(names)
    while waiting:
        name = waiting.pop()
        distribution = _distribution(name, path)
        if name in found or distribution is None:
            continue
        found.add(name)
        for text in distribution.requires or []:
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    return found


@cache
def _distribution(name: str, path: tuple[str, ...]) -> importlib.metadata.Distribution | None:
    return next(iter(importlib.metadata.distributions(name=name, path=list(path))), None)


@cache
def _size(name: str, path: tuple[str, ...]) -> int:
    distribution = _distribution(name, path)
    files = (distribution.files or []) if distribution else []
    located = (Path(str(file.locate())) for file in files)
    return sum(file.stat().st_size for file in located if file.is_file())


def _licence(name: str, path: tuple[str, ...]) -> str:
    distribution = _distribution(name, path)
    if distribution is None:
        return ""
    said = distribution.metadata.get_all("License-Expression") or distribution.metadata.get_all("License") or []
    if said and 0 < len(said[0].strip()) <= LONGEST:
        return str(said[0]).strip()
    kinds = [each for each in distribution.metadata.get_all("Classifier") or [] if each.startswith("License ::")]
    return str(kinds[0]).rpartition(" :: ")[2] if kinds else ""
