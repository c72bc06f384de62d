"""What the packages offer, read from their source without importing it: signatures and docstrings for the site."""

import functools
import inspect
from dataclasses import dataclass
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]
NOT_SHOWN = {"__main__", "cli", "commands", "worker"}  # the command line says what it does with --help


@dataclass
class Item:
    """A function or class."""

    name: str
    path: str
    signature: str
    text: str


@dataclass
class Module:
    """A module that has something public."""

    path: str
    text: str
    members: list[Item]


@dataclass
class Package:
    """A package's modules, in order of name."""

    name: str
    modules: list[Module]


@functools.cache
def read_package(name: str) -> Package:
    """The documented public functions and classes of a package of this repository."""
    package = griffe.load(name, search_paths=[str(ROOT)], allow_inspection=False)
    modules = [_module(each) for each in package.modules.values() if each.name not in NOT_SHOWN]
    return Package(name, sorted((each for each in modules if each.members), key=lambda each: each.path))


def _module(module: griffe.Module) -> Module:
    members = [*module.functions.values(), *module.classes.values()]
    shown = [each for each in members if each.is_public and each.docstring and not each.is_alias]
    items = [Item(each.name, each.path, _signature(each), _text(each)) for each in sorted(shown, key=_line)]
    return Module(module.path, _text(module), items)


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
