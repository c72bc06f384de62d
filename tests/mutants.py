"""How strong the suite is: small faults are put into the code one at a time, and its tests must notice each.

    python tests/mutants.py [NUMBER [MODULE ...]]

Draws places in functions of harness, reference and catalog, changes one (a comparison, a constant, a condition, a
returned value), and runs the tests of that module: the file of the same name, else those that import it. A fault that
no test notices is then replaced by an exit of the process, which shows whether the tests reach the place at all.

The draw depends on the code at each place alone, so that two commits are compared with the same faults. Files are
changed in place and put back; run it in a clean checkout of its own.
"""

import ast
import hashlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SEED = "2018-10-11"
SECONDS = 900  # a fault that makes the tests run forever is noticed too
EXIT = '__import__("os")._exit(97)'
FLIPPED: dict[type[ast.cmpop], str] = {
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Lt: ">=",
    ast.LtE: ">",
    ast.Gt: "<=",
    ast.GtE: "<",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
SWAPPED: dict[type[ast.operator], str] = {ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*", ast.Div: "*"}


class Mutant(NamedTuple):
    """One expression of a file and what replaces it; start and end are offsets in bytes."""

    file: Path
    function: str
    line: int
    start: int
    end: int
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def rank(self) -> str:
        """Its place in the draw, whatever else is in the tree."""
        return hashlib.sha256(f"{SEED} {self.file.stem} {self.function} {self.old} {self.new}".encode()).hexdigest()


def replacement(node: ast.AST) -> tuple[ast.expr, str] | None:
    """The expression to replace and the text that does; None where this is no place for a fault."""
    text = ast.unparse
    match node:
        case ast.Compare(left, [operator], [right]):
            return node, f"({text(left)} {FLIPPED[type(operator)]} {text(right)})"
        case ast.BoolOp(operator, values):
            return node, "(" + (" or " if isinstance(operator, ast.And) else " and ").join(map(text, values)) + ")"
        case ast.UnaryOp(ast.Not(), operand):
            return node, f"bool({text(operand)})"
        case ast.BinOp(left, operator, right) if type(operator) in SWAPPED:
            return node, f"({text(left)} {SWAPPED[type(operator)]} {text(right)})"
        case ast.Constant(bool(value)):
            return node, str(not value)
        case ast.Constant(int(value) | float(value)):
            return node, str(value + 1)
        case ast.If(test) | ast.IfExp(test):
            return test, f"(not ({text(test)}))"
        case ast.Return(ast.expr() as value) if text(value) != "None":
            return value, "None"
    return None


def expressions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """All nodes in the bodies of functions, with the function's name, but for annotations and formatted strings."""
    left_out = {"annotation", "returns", "decorator_list"}

    def inside(node: ast.AST, function: str) -> Iterator[tuple[str, ast.AST]]:
        if isinstance(node, ast.JoinedStr):
            return
        if function:
            yield function, node
        for name, value in ast.iter_fields(node):
            owner = node.name if isinstance(node, ast.FunctionDef) and name == "body" else function
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and name not in left_out:
                    yield from inside(child, owner)

    return inside(tree, "")


def mutants(modules: list[str]) -> list[Mutant]:
    """The faults that can be put into these modules (none named: into all), in the order of the draw."""
    tests = {
        path: path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")) if "browser" not in str(path)
    }
    found = []
    for package in ("harness", "reference", "catalog"):
        of_package = {path: text for path, text in tests.items() if (ROOT / "tests" / package) in path.parents}
        for file in sorted((ROOT / package).rglob("*.py")):
            imports = re.compile(rf"(import|from) ({package}[\w.]*\.)?([\w, ]*\b)?{file.stem}\b")
            mirrored = ROOT / "tests" / file.relative_to(ROOT).with_name(f"test_{file.stem}.py")
            named = [path for path in of_package if path.name == mirrored.name]
            chosen = (
                [path for path in named if path == mirrored]
                or named
                or sorted(path for path, text in of_package.items() if imports.search(text))[:4]
            )
            if chosen and (not modules or file.stem in modules):
                found += mutants_of(file, tuple(map(str, chosen)))
    return sorted({each.rank: each for each in found}.values(), key=lambda each: each.rank)


def mutants_of(file: Path, tests: tuple[str, ...]) -> Iterator[Mutant]:
    source = file.read_bytes()
    starts = [0, *(found.end() for found in re.finditer(b"\n", source))]
    for function, node in expressions(ast.parse(source)):
        if (change := replacement(node)) is not None:
            old, new = change
            assert old.end_lineno is not None
            assert old.end_col_offset is not None
            start, end = starts[old.lineno - 1] + old.col_offset, starts[old.end_lineno - 1] + old.end_col_offset
            yield Mutant(file, function, old.lineno, start, end, ast.unparse(old), new, tests)


def noticed(mutant: Mutant, new: str) -> bool:
    """Whether the tests fail once the text ``new`` is in its place. They run in a fork, with libraries imported."""
    source = mutant.file.read_bytes()
    try:
        mutant.file.write_bytes(source[: mutant.start] + new.encode() + source[mutant.end :])
        if (process := os.fork()) == 0:
            signal.alarm(SECONDS)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *mutant.tests]))
        return os.waitpid(process, 0)[1] != 0
    finally:
        mutant.file.write_bytes(source)


def main(number: int, modules: list[str]) -> None:
    import scipy.stats  # noqa: F401 - whatever takes long to import, once for all forks
    import sklearn.metrics  # noqa: F401
    from transformers import BertModel  # noqa: F401

    os.chdir(ROOT)
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    counts = dict.fromkeys(("caught", "survived", "not reached"), 0)
    for mutant in mutants(modules)[:number]:
        caught = noticed(mutant, mutant.new)
        outcome = "caught" if caught else "survived" if noticed(mutant, EXIT) else "not reached"
        counts[outcome] += 1
        place = f"{mutant.file.relative_to(ROOT)}:{mutant.line}"
        print(f"{outcome:12}{place}: {mutant.old} -> {mutant.new}", flush=True)
    print(*(f"{count} {outcome}" for outcome, count in counts.items()), sep=", ")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30, sys.argv[2:])
