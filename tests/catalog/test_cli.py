"""``python -m catalog`` as it is typed: what is printed, and the exit codes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.schema import ENTRY_SCHEMA
from tests.catalog.conftest import Write

ROOT = Path(__file__).parents[2]


def catalog(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "catalog", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_a_good_catalog_exits_0(entries: Path, write: Write) -> None:
    write("bert")
    done = catalog("check", "--entries", entries)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no problems\n")


def test_problems_exit_1(entries: Path, write: Write) -> None:
    file = write("bert", tags="[nre]")
    done = catalog("check", "--entries", entries)
    assert done.returncode == 1
    assert done.stdout == f"{file}:5: tags[0]: 'nre' is not in vocabulary.yaml - did you mean 'ner'?\n"
    assert done.stderr == "one problem in one file\n"


def test_problems_as_annotations(entries: Path, write: Write) -> None:
    file = write("bert", tags="[nre]")
    done = catalog("check", "--entries", entries, "--format", "github")
    assert done.returncode == 1
    assert done.stdout.startswith(f"::error file={file},line=5::tags[0]: 'nre' is not")


def test_bad_usage_exits_2(tmp_path: Path) -> None:
    done = catalog("check", "--entries", tmp_path / "none")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not a folder" in done.stderr
    assert catalog("check", "--format", "xml").returncode == 2
    assert catalog("chekc").returncode == 2


def test_schema_writes_the_committed_file_again(tmp_path: Path) -> None:
    done = catalog("schema", "--output", tmp_path / "entry.schema.json")
    assert done.returncode == 0
    assert (tmp_path / "entry.schema.json").read_bytes() == ENTRY_SCHEMA.read_bytes()


def test_an_offline_skeleton_says_what_is_missing(entries: Path) -> None:
    done = catalog("add", "1810.04805", "--offline", "--id", "bert", "--entries", entries)
    assert done.returncode == 0
    assert str(entries / "papers" / "bert.yaml") in done.stdout
    assert "title, year, tags" in done.stdout
    checked = catalog("check", "--entries", entries)
    assert checked.returncode == 1
    assert "title: is empty" in checked.stdout
    again = catalog("add", "https://arxiv.org/abs/1810.04805v2", "--offline", "--entries", entries)
    assert again.returncode == 2
    assert "papers/bert.yaml" in again.stderr


def test_help_is_quick_because_it_imports_no_models() -> None:
    assert catalog("--help").returncode == 0
    code = "import sys, catalog.cli; print([m for m in ('pydantic', 'yaml', 'requests') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


MODULES = sorted((ROOT / "catalog").rglob("*.py"))
FOREIGN = {"harness", "reference", "torch", "transformers"}


def name_of(module: Path) -> str:
    return ".".join(module.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_no_module_of_the_catalog_imports_harness_or_reference(module: Path) -> None:
    named: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):  # imports in functions and under TYPE_CHECKING too
        if isinstance(node, ast.Import):
            named |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            named.add(node.module or "")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            named |= {str(each.value) for each in node.args if isinstance(each, ast.Constant)}
    assert {name.split(".")[0] for name in named} & FOREIGN == set()


def test_all_modules_of_the_catalog_load_neither_harness_nor_reference() -> None:
    names = [name_of(path) for path in MODULES if path.stem != "__main__"]
    assert {"catalog.export", "catalog.add.sources", "catalog.site.pages", "catalog.site.leaderboard"} <= set(names)
    code = f"import sys, {', '.join(names)}\nprint([m for m in sys.modules if m.split('.')[0] in {FOREIGN!r}])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_what_cannot_be_written_or_is_not_there_exits_2(tmp_path: Path) -> None:
    done = catalog("schema", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: --output: {tmp_path} cannot be written: Is a directory\n")
    done = catalog("build", "--results", tmp_path / "none.json", "--output", tmp_path / "out")
    assert done.returncode == 2
    assert f"--results: {tmp_path / 'none.json'} does not exist" in done.stderr
