"""What runs in an implementation's environment imports nothing that the environment may lack."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.records.code import ROOT, module_of

PORT, WORKER = (sorted((ROOT / "harness" / name).glob("*.py")) for name in ("port", "worker"))
IMPLEMENTATIONS = sorted((ROOT / "harness" / "implementations").glob("*.py"))
ALLOWED = {"port": ("harness.errors", "harness.port"), "worker": ("harness.errors", "harness.port", "harness.worker")}
LATER = {  # modules of the worker that only what computes with torch imports, inside a function
    "harness.worker.finetune": {"torch"},
    "harness.worker.used_words": {"torch"},
    "harness.worker.words": {"torch"},
    "harness.worker.training_steps": {"torch"},
    "harness.worker.dropout_places": {"torch"},
}
# May import ``reference``, in functions; ``finetune`` only where several processes train, which is in our environment.
REFERENCE = {"harness.worker.roofline", "harness.worker.session", "harness.worker.finetune"}


def imported(tree: ast.AST, in_functions: bool) -> Iterator[str]:
    """Names of the modules that code imports at module level, or with ``in_functions`` anywhere."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            yield node.module or ""
            if node.module == "harness":
                yield from (f"harness.{alias.name}" for alias in node.names)
        elif in_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imported(node, in_functions)


def at_module_level(file: Path) -> set[str]:
    """The packages that importing a file imports."""
    return {name.partition(".")[0] for name in imported(ast.parse(file.read_bytes()), in_functions=False)}


def anywhere(file: Path, *packages: str) -> set[str]:
    """The modules of these packages that a file imports, in functions too."""
    found = imported(ast.parse(file.read_bytes()), in_functions=True)
    return {name for name in found if name.partition(".")[0] in packages}


@pytest.mark.parametrize("file", [*PORT, *WORKER], ids=module_of)
def test_at_module_level_only_the_standard_library_and_numpy(file: Path) -> None:
    assert at_module_level(file) <= {"harness", "numpy", *sys.stdlib_module_names, *LATER.get(module_of(file), ())}


@pytest.mark.parametrize("file", [*PORT, *WORKER], ids=module_of)
def test_of_this_project_only_the_errors_and_one_another(file: Path) -> None:
    packages = ("harness",) if module_of(file) in REFERENCE else ("harness", "reference")
    assert {name for name in anywhere(file, *packages) if not name.startswith(ALLOWED[file.parent.name])} == set()


@pytest.mark.parametrize("file", IMPLEMENTATIONS, ids=module_of)
def test_implementations_import_port_and_one_another(file: Path) -> None:
    allowed = ("harness.port", "harness.implementations")
    assert {name for name in anywhere(file, "harness") if not name.startswith(allowed)} == set()
    assert at_module_level(file) <= {"harness", "numpy", *sys.stdlib_module_names}, "packages are imported in functions"


@pytest.mark.parametrize("file", IMPLEMENTATIONS, ids=module_of)
def test_mypy_checks_the_model_that_load_returns(file: Path) -> None:
    functions = {each.name: each for each in ast.parse(file.read_bytes()).body if isinstance(each, ast.FunctionDef)}
    if "load" in functions:
        returned = functions["load"].returns
        assert returned is not None, "load needs a return type"
        assert ast.unparse(returned) in ("Model", "Trainable")
    else:
        assert "job" in functions or file.name == "__init__.py"


def test_the_check_sees_imports_of_every_form() -> None:
    source = (
        "import a.b\nfrom c import d\nfrom harness import cli\n"
        "if True:\n    import e\ntry:\n    import f\nexcept ImportError:\n    import g\n"
        "class C:\n    import h\n    def method(self):\n        import late\n"
    )
    found = {"a.b", "c", "harness", "harness.cli", "e", "f", "g", "h"}
    assert set(imported(ast.parse(source), in_functions=False)) == found
    assert set(imported(ast.parse(source), in_functions=True)) == {*found, "late"}


ALL = [module_of(file) for file in [*PORT, *WORKER] if module_of(file) not in LATER]


def test_they_can_be_imported_where_nothing_else_is_installed() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names | {{"numpy", "harness"}}:
            raise ModuleNotFoundError(f"there is no {{name}} here")
sys.meta_path.insert(0, Only())
import importlib
for name in {ALL!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
