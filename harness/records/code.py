"""Code as what it does: which files of ours a module needs, and a hash that moving and rewording leave alone.

The hash is the same under every version of Python that runs this. Comments, docstrings, layout and the names of files
do not count, nor how an import of ours is written; what is imported does.
"""

import ast
import hashlib
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
DATA = re.compile(r"[\w-]+\.\w+")  # the name of a file beside a module, as a string in its code
_parsing = Lock()
_hashes: dict[tuple[frozenset[Path], frozenset[Path]], tuple[dict[Path, State], str]] = {}


@dataclass(frozen=True)
class Use:
    """A name that a file takes from a module; without a name, the module as it is."""

    module: str  # absolute
    symbol: str | None


@dataclass(frozen=True)
class Source:
    """One file of code."""

    structure: str  # hash of what it does, without its imports of ours
    empty: bool  # it does nothing but document and import
    modules: tuple[str, ...]  # of ours, and packages that they are in; imports in functions too
    uses: tuple[Use, ...]
    data: tuple[Path, ...]  # files beside it that it names
    top: Path  # the folder that its outermost package is in


def parse(source: str | bytes) -> ast.Module:
    """The syntax tree, as ``ast.parse`` makes it, for threads too: Python 3.11's own fails where two are in it."""
    with _parsing:
        return ast.parse(source)


def closure(entries: Iterable[Path], excluded: Collection[Path] = ()) -> set[Path]:
    """These files, and all of ours that they import, directly or not; ``excluded`` ones, and what only they need, not.

    A file outside our tree brings what it imports of its own package too.
    """
    left = [file.resolve() for file in entries]
    found = set(left)
    files = cache(files_of)  # looked for once, by this call
    while left:
        file = left.pop()
        needed = {each for module in read(file).modules for each in files(module, read(file).top)}
        new = {*needed, *_packages(file)} - found - set(excluded)
        found |= new
        left += new
    return found


def hash_of_closure(entries: Iterable[Path], excluded: frozenset[Path] = frozenset()) -> str:
    """``code_hash`` of the ``closure``; computed again where one of its files is another than at the call before."""
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
    """sha256 of what these files do together. OSError for one that cannot be read.

    A file that is not Python is hashed byte by byte, as are the files of data that a module names.
    """
    chosen = {file.resolve() for file in files}
    structure_at = cache(partial(_structure_at, chosen))
    parts = [_part(file, structure_at) for file in chosen if not read(file).empty]
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()


def _part(file: Path, structure_at: Callable[[Use, Path], str]) -> list[Any]:
    """What one file does: its own code, that of the modules that it takes names from, its data."""
    source = read(file)
    uses = {(use.symbol or "", structure_at(use, source.top)) for use in source.uses}
    return [source.structure, sorted(uses), sorted(_sha256(each) for each in source.data)]


def _structure_at(chosen: set[Path], use: Use, top: Path) -> str:
    """The code of the module that a name is from; nothing of one that is not among the ``chosen``.

    Of a module that only imports the name from elsewhere, to keep an old place alive, that of the true place.
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
    """The files that importing a module of ours, or of a package in the folder ``top``, runs; that of the module last.

    None where there is no such module, but a name in the package.
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
    """The name that a file of ours is imported by."""
    inner = file.resolve().relative_to(ROOT).with_suffix("")
    return ".".join(inner.parent.parts if inner.name == "__init__" else inner.parts)


def _file_at(place: Path) -> Path | None:
    return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)


def _packages(file: Path) -> list[Path]:
    """The files of the packages that a file is in, which run before it; the innermost first."""
    return list(takewhile(Path.is_file, (folder / "__init__.py" for folder in file.parents)))


def _top(file: Path) -> Path:
    """The folder that the outermost package of a file is in."""
    packages = _packages(file)
    return packages[-1].parents[1] if packages else file.parent


@per_file
def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@per_file
def read(file: Path) -> Source:
    """A file's code. One that is not Python has neither imports nor data."""
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
    """Reads one syntax tree: first its imports of ours, then its structure, in which these have no part."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.top = _top(file)
        own = file.relative_to(self.top).parts[0]
        self.packages = {*PACKAGES, own} if file.parent != self.top else set(PACKAGES)
        self.modules: set[str] = set()
        self.uses: set[Use] = set()
        self.data: set[Path] = set()
        self.names: dict[str, Use] = {}  # that the file gives to what it imports of ours

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
        """A node as nested lists. (``ast.dump`` is not the same in every version of Python; this is.)"""
        if isinstance(node, list):
            return [self._of(child) for child in node if not self._is_left_out(child)]
        if not isinstance(node, ast.AST):
            return ascii(node)  # which characters ``repr`` shows is another matter in each version
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
        """What of ours a name is, or a module's attribute."""
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
        """The file beside this one that a text names."""
        if not isinstance(value, str) or not DATA.fullmatch(value) or value.endswith(".py"):
            return None
        file = self.file.with_name(value)
        return file if file.is_file() else None


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that are for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if not _is_for_types(node):
            yield node
            yield from _run(node)


def _is_for_types(node: Any) -> bool:
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _pieces(node: ast.JoinedStr, of: Any) -> list[Any]:
    """The parts of an f-string: what stands between values as one text, none that is empty.

    Python 3.12.0 and 3.12.1 put an empty text after a nested format.
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
