"""Which implementations there are, and what their files say of them.

Each file in ``harness/implementations/`` has a PEP 723 header with its requirements and these constants:

    NAME, TITLE     on the command line and in tables
    CATALOG_ID      id of its entry in the catalog
    VARIANTS        optional: name of each variant -> what it changes
    DEVIATIONS      optional: name of each known difference from the original BERT -> what it does instead
    BY_NAME         optional: variants that "all" leaves out, because they take long to start
    CHECKOUT        optional: address of a repository that is no package; the user's checkout goes first on the path
    JOB             optional: names of tasks, for a whole program instead of a model

It defines ``load(folder, head, device, precision, variant)``, which returns a ``harness.port.Model``; with JOB instead
``job(checkout, weights, task, splits, out, progress)``. It may define ``tokenizer(folder)``, which returns a function
from text to ids. The constants are read without importing the file, so that listing needs none of the requirements.
Another package adds its own file through the entry-point group ``bert_atlas.implementations``.
"""

import ast
import difflib
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.file_cache import per_file
from harness.records.code import parse

FOLDER = Path(__file__).parents[1] / "implementations"
ENTRY_POINTS = "bert_atlas.implementations"
SHARED = Path(__file__).with_name("environments.toml")  # requirements of several implementations


@dataclass(frozen=True)
class Requirements:
    """The content of a PEP 723 header; ``no_deps`` and ``build`` come from its table ``[tool.bert-atlas]``."""

    python: str  # "requires-python", such as ">=3.11"
    packages: tuple[str, ...]
    no_deps: bool = False  # install these packages without their dependencies
    build: tuple[str, ...] = ()  # packages that are needed to build the others, and that they do not declare


@dataclass(frozen=True)
class Implementation:
    """One variant of an implementation, as its file describes it."""

    name: str  # on the command line: NAME, or NAME:variant
    title: str
    catalog_id: str  # of its entry in the catalog
    deviations: dict[str, str]  # known differences from the original BERT: name -> what it does instead
    requirements: Requirements
    file: Path
    variant: str  # "" for the default
    checkout: str | None = None  # address of the repository whose code it runs
    job: tuple[str, ...] = ()  # tasks that it does as a whole program
    by_name: bool = False  # not part of "all"


def implementations() -> dict[str, Implementation]:
    """All implementations by name; none of them is imported. BadInput if two files have the same name."""
    files = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")
    files += _files_of_others(tuple(sys.path))
    known: dict[str, Implementation] = {}
    for each in (each for file in files for each in describe(file)):
        if known.setdefault(each.name, each) is not each:
            raise BadInput(f"{each.file}: the name {each.name!r} is that of {known[each.name].file}; choose another")
    return known


@cache
def _files_of_others(path: tuple[str, ...]) -> list[Path]:
    """The files of entry points on this search path; cached, because all installed packages have to be read."""
    found = (_source_of(entry.module) for entry in importlib.metadata.entry_points(group=ENTRY_POINTS))
    return [file for file in found if file is not None]


def _source_of(module: str) -> Path | None:
    """The file of a module, found without importing the packages that contain it."""
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    for name in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations)
    return Path(spec.origin) if spec is not None and spec.origin else None


def find(name: str) -> Implementation:
    """The implementation of this name, or of this file: ``./mine.py``, ``./mine.py:variant``.

    BadInput, with the nearest name, if there is none.
    """
    known = implementations()
    if (own := re.fullmatch(r"(.+\.py)(?::([\w.-]+))?", name)) is not None:
        return _in_file(Path(own[1]).expanduser(), own[2] or "", known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadInput(f"no implementation is called {name!r}{hint} (known: {', '.join(known)})")
    return known[name]


def _in_file(file: Path, variant: str, known: dict[str, Implementation]) -> Implementation:
    if not file.is_file():
        raise BadInput(f"there is no file {file}; an implementation is named by its name or by its file")
    found = {each.variant: each for each in describe(file.resolve())}
    if variant not in found:
        raise BadInput(f"{file}: it has no variant {variant!r} (it has: {', '.join(filter(None, found)) or 'none'})")
    name = found[variant].name
    if name in known and known[name].file != file.resolve():
        raise BadInput(f"{file}: the name {name!r} is that of {known[name].file}; choose another")
    return found[variant]


@per_file
def describe(file: Path) -> list[Implementation]:
    """Read a file's constants and header. Returns one entry for each variant, the default first.

    BadInput if the file is not Python, its header is not valid, or a constant is missing.
    """
    try:
        source = file.read_text(encoding="utf-8")
        constants = {"VARIANTS": {}, "DEVIATIONS": {}, **_constants(source)}
        needed = requirements(source)
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{file}: not an implementation file: {error}") from error
    missing = [name for name in ("NAME", "TITLE", "CATALOG_ID") if name not in constants]
    if missing:
        raise BadInput(f"{file}: an implementation file must define {', '.join(missing)}")
    return [
        Implementation(
            name=constants["NAME"] + (f":{variant}" if variant else ""),
            title=constants["TITLE"] + (f", {text}" if text else ""),
            catalog_id=constants["CATALOG_ID"],
            deviations=constants["DEVIATIONS"],
            requirements=needed,
            file=file,
            variant=variant,
            checkout=constants.get("CHECKOUT"),
            job=tuple(constants.get("JOB", ())),
            by_name=variant in constants.get("BY_NAME", ()),
        )
        for variant, text in {"": "", **constants["VARIANTS"]}.items()
    ]


def _constants(source: str) -> dict[str, Any]:
    """The constants at a file's top level, with or without a type annotation."""
    constants = {}
    for node in parse(source).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id.isupper():
            try:
                constants[target.id] = ast.literal_eval(node.value)
            except (ValueError, TypeError):
                continue  # computed constants are not for the harness
    return constants


def requirements(source: str) -> Requirements:
    """The content of a file's PEP 723 header; empty without one.

    ValueError if it is not TOML, or names an environment that does not exist, or both an environment and packages.
    """
    block = re.search(r"(?m)^# /// script\n((?:#.*\n)+?)# ///$", source)
    values = tomllib.loads(re.sub(r"(?m)^# ?", "", block[1])) if block else {}
    own = values.get("tool", {}).get("bert-atlas", {})
    if name := own.get("environment"):
        if "dependencies" in values or len(own) > 1:
            raise ValueError(f"the header names the environment {name!r} and lists packages; remove one of the two")
        values = own = _shared(name)
    return Requirements(
        python=values.get("requires-python", ""),
        packages=tuple(values.get("dependencies", ())),
        no_deps=bool(own.get("no-deps", False)),
        build=tuple(own.get("build", ())),
    )


def _shared(name: str) -> dict[str, Any]:
    """An environment that several implementations share. ValueError if none has this name."""
    known = _environments(SHARED)
    if name not in known:
        raise ValueError(f"no environment is called {name!r} (known: {', '.join(known)})")
    found: dict[str, Any] = known[name]
    return found


@per_file
def _environments(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))
