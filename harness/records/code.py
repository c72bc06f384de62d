"""Which of our files a module needs, and a hash of what they do that does not change when code is moved or reworded.

The hash is the same in every version of Python that runs this. Comments, docstrings, layout, names of files and the
form of our imports do not count; what is imported does.
"""

import ast
import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import takewhile
from pathlib import Path
from threading import Lock
from typing import Any

from harness.file_cache import State, is_settled, per_file, state_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harness", "reference")  # ours, in ROOT
DATA = re.compile(r"[\w-]+\.\w+")  # a string in a module's code that may name a file in its folder
_parsing = Lock()
_hashes: dict[tuple[frozenset[Path], frozenset[Path]], tuple[dict[Path, State], str]] = {}


@dataclass(frozen=True)
class Use:
    """A name that a file imports from a module; without a name, the module itself."""

    module: str  # absolute
    symbol: str | None


@dataclass(frozen=True)
class Source:
    """One file of code."""

    structure: str  # hash of its code, without imports of our modules
    empty: bool  # it has only docstrings and imports
    modules: tuple[str, ...]  # our modules that it imports, in functions too, and their packages
    uses: tuple[Use, ...]
    data: tuple[Path, ...]  # files in its folder that it names
    top: Path  # the folder of its outermost package


def parse(source: str | bytes) -> ast.Module:
    """The syntax tree of ``ast.parse``, which in Python 3.11 fails if two threads call it at once."""
    with _parsing:
        return ast.parse(source)


def closure(entries: Iterable[Path], excluded: Collection[Path] = ()) -> set[Path]:
    """These files and all our files that they import, directly or not, without ``excluded`` ones and their imports.

    For a file outside our tree, this includes its imports from its own package.
    """
    left = [file.resolve() for file in entries]
    found = set(left)
    files = cache(files_of)
    while left:
        file = left.pop()
        needed = {each for module in read(file).modules for each in files(module, read(file).top)}
        new = {*needed, *_packages(file)} - found - set(excluded)
        found |= new
        left += new
    return found


def hash_of_closure(entries: Iterable[Path], excluded: frozenset[Path] = frozenset()) -> str:
    """``code_hash`` of the ``closure``; computed again only if one of its files has changed."""
    which = frozenset(entries), excluded
    if which in _hashes and all(file.is_file() and state_of(file) == seen for file, seen in _hashes[which][0].items()):
        return _hashes[which][1]
    files = closure(*which)
    states = {file: state_of(file) for each in files for file in (each, *read(each).data)}
    found = code_hash(files)
    if all(map(is_settled, states.values())):
        _hashes[which] = states, found
    return found


def code_hash(files: Iterable[Path]) -> str:
    """sha256 of what these files do. OSError for a file that cannot be read.

    A file that is not Python is hashed byte by byte, like the data files that a module names.
    """
    chosen = {file.resolve() for file in files}
    structure_at = cache(partial(_structure_at, chosen))
    parts = [_part(file, structure_at) for file in chosen if not read(file).empty]
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()


def _part(file: Path, structure_at: Callable[[Use, Path], str]) -> list[Any]:
    """What one file does: its own code, that of the modules that it imports names from, and its data."""
    source = read(file)
    uses = {(use.symbol or "", structure_at(use, source.top)) for use in source.uses}
    return [source.structure, sorted(uses), sorted(_sha256(each) for each in source.data)]


def _structure_at(chosen: set[Path], use: Use, top: Path) -> str:
    """The code of the module that defines a name; empty if it is not among the ``chosen``.

    A module that only imports the name from elsewhere, to keep an old place alive, is passed through.
    """
    for _ in range(10):
        files = files_of(use.module, top)
        if not files or files[-1] not in chosen:
            return ""
        source = read(files[-1])
        further = [each for each in source.uses if source.empty and use.symbol and each.symbol == use.symbol]
        if not further:
            return source.structure
        use = further[0]
    return ""


def files_of(module: str, top: Path) -> list[Path]:
    """The files that run when a module of ours, or of a package in ``top``, is imported; the module's own file last.

    Empty if there is no such module, but a name in its package.
    """
    first, *inner = module.split(".")
    place = (ROOT if first in PACKAGES else top) / first
    found = [_file_at(place)]
    for name in inner:
        place = place / name
        found.append(_file_at(place))
    if found[-1] is None and not place.is_dir():
        return []
    return [file for file in found if file is not None]


def module_of(file: Path) -> str:
    """The module name of one of our files."""
    inner = file.resolve().relative_to(ROOT).with_suffix("")
    return ".".join(inner.parent.parts if inner.name == "__init__" else inner.parts)


def _file_at(place: Path) -> Path | None:
    try:
        # Not ``is_file`` alone: a disk that ignores case has batch.py for Batch. Asked thousands of times.
        names = os.listdir(place.parent)  # noqa: PTH208 - ten times as fast as Path.iterdir
    except (FileNotFoundError, NotADirectoryError):
        return None
    package, module = place / "__init__.py", place.parent / f"{place.name}.py"
    if place.name in names and package.is_file():
        return package
    return module if module.name in names else None


def _packages(file: Path) -> list[Path]:
    """The ``__init__.py`` files that run before a file, the innermost first."""
    return list(takewhile(Path.is_file, (folder / "__init__.py" for folder in file.parents)))


def _top(file: Path) -> Path:
    """The folder of a file's outermost package."""
    packages = _packages(file)
    return packages[-1].parents[1] if packages else file.parent


@per_file
def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@per_file
def read(file: Path) -> Source:
    """Read a file's code. A file that is not Python has neither imports nor data."""
    content = file.read_bytes()
    try:
        tree = parse(content)
    except (SyntaxError, ValueError):  # ValueError: null bytes, before Python 3.12
        return Source(hashlib.sha256(content).hexdigest(), False, (), (), (), _top(file))
    reader = _Reader(file)
    structure = reader.structure(tree)
    digest = hashlib.sha256(repr(structure).encode()).hexdigest()
    uses = sorted(reader.uses, key=lambda use: (use.module, use.symbol or ""))
    modules, data = tuple(sorted(reader.modules)), tuple(sorted(reader.data))
    return Source(digest, structure == ["Module"], modules, tuple(uses), data, reader.top)


class _Reader:
    """Reads a syntax tree: first its imports of our modules, then its structure without them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.top = _top(file)
        own = file.relative_to(self.top).parts[0]
        self.packages = {*PACKAGES, own} if file.parent != self.top else set(PACKAGES)
        self.modules: set[str] = set()
        self.uses: set[Use] = set()
        self.data: set[Path] = set()
        self.names: dict[str, Use] = {}  # the file's names for what it imports from our modules

    def structure(self, tree: ast.Module) -> list[Any]:
        for node in _run(tree):
            if isinstance(node, ast.Import):
                self._import(node)
            elif isinstance(node, ast.ImportFrom):
                self._import_from(node)
        return list(self._of(tree))

    def _import(self, node: ast.Import) -> None:
        for alias in self._ours(node):
            self.modules.add(alias.name)
            name = alias.asname or alias.name.partition(".")[0]
            self.names[name] = Use(alias.name if alias.asname else name, None)

    def _import_from(self, node: ast.ImportFrom) -> None:
        module = self._absolute(node)
        for alias in self._ours(node):
            inner = f"{module}.{alias.name}"
            if files_of(inner, self.top):
                self.modules.add(inner)
                self.names[alias.asname or alias.name] = Use(inner, None)
            else:
                self.modules.add(module)
                self.names[alias.asname or alias.name] = Use(module, alias.name)
                self.uses.add(Use(module, alias.name))

    def _ours(self, node: ast.Import | ast.ImportFrom) -> list[ast.alias]:
        if isinstance(node, ast.ImportFrom):
            return node.names if self._absolute(node).partition(".")[0] in self.packages else []
        return [alias for alias in node.names if alias.name.partition(".")[0] in self.packages]

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.file.relative_to(self.top).parts[: -node.level]
        return ".".join([*package, *([node.module] if node.module else [])])

    def _of(self, node: Any) -> Any:
        """A node as nested lists. (Unlike ``ast.dump``, this is the same in every version of Python.)"""
        if isinstance(node, list):
            return [self._of(child) for child in node if not self._is_left_out(child)]
        if not isinstance(node, ast.AST):
            return ascii(node)  # the characters that ``repr`` escapes depend on the version
        if isinstance(node, ast.Name | ast.Attribute) and (use := self._use(node)):
            self.uses.add(use)
            return ["ours", use.symbol]
        if isinstance(node, ast.Constant) and (file := self._data(node.value)):
            self.data.add(file)
            return ["data"]
        if isinstance(node, ast.JoinedStr):
            return ["JoinedStr", *_pieces(node, self._of)]
        fields = dict(ast.iter_fields(node))
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            fields["body"] = node.body[1:]
        if isinstance(node, ast.Import):
            fields["names"] = [alias for alias in node.names if alias not in self._ours(node)]
        # Empty fields are left out: newer Pythons have more of them.
        read = {name: self._of(value) for name, value in fields.items() if value is not None and value != []}
        return [type(node).__name__, *((name, value) for name, value in read.items() if value != [])]

    def _is_left_out(self, node: Any) -> bool:
        if isinstance(node, ast.Import):
            return len(self._ours(node)) == len(node.names)
        if isinstance(node, ast.ImportFrom):
            return bool(self._ours(node))
        return _is_for_types(node)

    def _use(self, node: ast.Name | ast.Attribute) -> Use | None:
        """The use of our code that a name, or an attribute of a module, refers to."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if not isinstance(node.value, ast.Name | ast.Attribute):
            return None
        holder = self._use(node.value)
        if holder is None or holder.symbol is not None:
            return None
        inner = f"{holder.module}.{node.attr}"
        return Use(inner, None) if files_of(inner, self.top) else Use(holder.module, node.attr)

    def _data(self, value: Any) -> Path | None:
        """The file in the same folder that a string names."""
        if not isinstance(value, str) or not DATA.fullmatch(value) or value.endswith(".py"):
            return None
        file = self.file.with_name(value)
        return file if file.is_file() else None


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes except those for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if not _is_for_types(node):
            yield node
            yield from _run(node)


def _is_for_types(node: Any) -> bool:
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _pieces(node: ast.JoinedStr, of: Any) -> list[Any]:
    """The parts of an f-string, with adjacent text merged and empty text left out.

    Python 3.12.0 and 3.12.1 insert an empty text after a nested format.
    """
    found: list[Any] = []
    text = ""
    for each in node.values:
        if isinstance(each, ast.Constant):
            text += str(each.value)
            continue
        found += [ascii(text)] if text else []
        found, text = [*found, of(each)], ""
    return found + ([ascii(text)] if text else [])
