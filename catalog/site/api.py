"""The public functions and classes of our packages, read from their source without importing it, for the API pages."""

import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]
# Names and paths of modules and folders left out: `--help` describes the command line, a worker's session is called
# by the harness alone, and the files in `implementations` all define the same few names.
NOT_SHOWN = {"__main__", "cli", "commands", "harness.implementations", "harness.worker.session"}


@dataclass
class Item:
    """A function or class."""

    name: str
    path: str
    signature: str
    text: str


@dataclass
class Module:
    """A module with its public functions and classes; of a package, those of its ``__init__.py``."""

    path: str
    text: str
    members: list[Item]


@dataclass
class Package:
    """A package's modules in order of path, so that a subpackage comes before its own modules."""

    name: str
    modules: list[Module]


@functools.cache
def read_package(name: str, root: Path = ROOT) -> Package:
    """The documented public functions and classes of the package ``name`` in the folder ``root``.

    Modules without any are left out, and so are subpackages that hold none.
    """
    # `name` is also the name of a folder where the build is started; that of `root` is meant
    package = griffe.load(name, search_paths=[str(root)], try_relative_path=False, allow_inspection=False)
    if not isinstance(package, griffe.Module):
        raise TypeError(f"{name} is not a package")
    return Package(name, sorted(_modules(package), key=lambda module: module.path.split(".")))


def _modules(module: griffe.Module) -> Iterator[Module]:
    """The module and all below it that have something to show."""
    below = [each for each in module.modules.values() if not each.is_alias]  # an import can lead round in a circle
    shown = [each for each in below if NOT_SHOWN.isdisjoint({each.name, each.path})]
    inner = [each for child in shown for each in _modules(child)]
    members = [*module.functions.values(), *module.classes.values()]
    public = [each for each in members if each.is_public and each.docstring and not each.is_alias]
    items = [Item(each.name, each.path, _signature(each), _text(each)) for each in sorted(public, key=_line)]
    if items or inner:
        yield Module(module.path, _text(module), items)
    yield from inner


def _line(item: griffe.Object) -> int:
    return item.lineno or 0


def _text(item: griffe.Object) -> str:
    return inspect.cleandoc(item.docstring.value) if item.docstring else ""


def _signature(item: griffe.Object) -> str:
    """As in the source: the ``def`` lines of a function; a class with its fields."""
    if isinstance(item, griffe.Function):
        return f"def {item.signature()}"
    fields = [each for each in item.attributes.values() if not each.name.startswith("_") and each.annotation]
    lines = [f"    {each.name}: {each.annotation}{f' = {each.value}' if each.value else ''}" for each in fields]
    bases = f"({', '.join(map(str, item.bases))})" if isinstance(item, griffe.Class) and item.bases else ""
    return "\n".join([f"class {item.name}{bases}:" if lines else f"class {item.name}{bases}", *lines])
