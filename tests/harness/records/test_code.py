"""Which code of ours a module needs, and a hash of code that changes with what it does alone."""

import ast
import gc
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.records import code
from harness.records.code import closure, code_hash

SOURCE = '''"""About this."""

import math


class A:
    """About A."""

    size: int = 1

    async def f(self, x: float, *, y: str = "b") -> str:
        """About f."""
        return f"{x:>{self.size}} {math.pi!r}" + y


def only_documented() -> None:
    """Nothing."""
'''

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """A function: files by path, with / for dots, as a tree of ours; its folder."""

    def write(folder: str = "tree", **files: str) -> Path:
        root = tmp_path / folder
        for package in ("harness", "reference"):
            (root / package).mkdir(parents=True, exist_ok=True)
            (root / package / "__init__.py").touch()
        for name, text in files.items():
            path = root / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(code, "ROOT", root)
        return root

    return write


def names(root: Path, *entries: str) -> set[str]:
    """What the closure of these files holds, but for the packages."""
    found = closure([root / entry for entry in entries])
    return {file.relative_to(root).as_posix() for file in found if file.name != "__init__.py"}


# ---- what is imported ----


@pytest.mark.parametrize(
    "text",
    [
        "from harness.b import f",
        "from harness import b",
        "from harness import (\n    b as other,\n)",
        "import harness.b",
        "import os, harness.b as other",
        "from .b import f",
        "from . import b",
        "def g():\n    from harness.b import f",
        "class A:\n    import harness.b",
        "try:\n    from harness.b import f\nexcept ImportError:\n    pass",
        "if 1:\n    x = 1; from harness.b import f",
    ],
)
def test_every_way_of_importing_is_seen_and_what_is_imported_by_what_is_imported(tree: Tree, text: str) -> None:
    root = tree(harness__a=text, harness__b="import reference.c\n", reference__c="f = 1", harness__d="")
    assert names(root, "harness/a.py") == {"harness/a.py", "harness/b.py", "reference/c.py"}
    assert root / "reference/__init__.py" in closure([root / "harness/a.py"]), "which importing its modules runs"


def test_what_is_for_type_checkers_alone_is_not_needed(tree: Tree) -> None:
    text = "import typing\nif typing.TYPE_CHECKING:\n    from harness.b import f\n"
    assert names(tree(harness__a=text, harness__b=""), "harness/a.py") == {"harness/a.py"}


def test_a_package_within_another_and_relative_imports_out_of_it(tree: Tree) -> None:
    root = tree(harness__inner__a="from ..c import f", harness__b="", harness__c="")
    (root / "harness/inner/__init__.py").write_text("from ..b import f\n")
    assert names(root, "harness/inner/a.py") == {"harness/inner/a.py", "harness/b.py", "harness/c.py"}


def test_modules_that_import_each_other_and_excluded_ones_end_the_search(tree: Tree) -> None:
    root = tree(harness__a="import harness.b", harness__b="import harness.a, harness.c", harness__c="import harness.d")
    (root / "harness/d.py").touch()
    entries, excluded = [root / "harness/a.py"], {root / "harness/c.py"}
    found = {file.name for file in closure(entries, excluded)} - {"__init__.py"}
    assert found == {"a.py", "b.py"}, "d is needed by c alone"


def test_a_file_of_another_package_brings_its_own_modules(tree: Tree, tmp_path: Path) -> None:
    tree(harness__a="")
    theirs = tmp_path / "site" / "theirs"
    theirs.mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "bert": "from theirs import layers\nimport harness.a, json",
        "layers": "",
    }.items():
        (theirs / f"{name}.py").write_text(text)
    assert {file.name for file in closure([theirs / "bert.py"])} == {"__init__.py", "bert.py", "layers.py", "a.py"}
    before = code_hash(closure([theirs / "bert.py"]))
    (theirs / "layers.py").write_text("x = 1")
    assert code_hash(closure([theirs / "bert.py"])) != before


# ---- moved, renamed, reworded ----

USER = "from harness.b import f\n\ndef g(x):\n    return f(x)\n"


def hash_of(root: Path, entry: str = "harness/a.py") -> str:
    return code_hash(closure([root / entry]))


@pytest.mark.parametrize(
    "reworded",
    [
        "import harness.b\n\ndef g(x):\n    return harness.b.f(x)\n",
        "from harness import b\n\ndef g(x):\n    return b.f(x)\n",
        "def g(x):\n    from harness.b import f as other\n    return other(x)\n",
        "import harness.b as b\n\ndef g(x):\n    return b.f(x)\n",
        "from .b import f\n\ndef g(x):\n    return f(x)\n",
    ],
)
def test_how_an_import_of_ours_is_worded_does_not_count(tree: Tree, reworded: str) -> None:
    rest = {"harness__b": "def f(x):\n    return x\n"}
    assert hash_of(tree("one", harness__a=USER, **rest)) == hash_of(tree("two", harness__a=reworded, **rest))


def test_where_a_module_is_does_not_count(tree: Tree) -> None:
    one = hash_of(tree("one", harness__a=USER, harness__b="def f(x):\n    return x\n"))
    moved = USER.replace("harness.b", "harness.port.better")
    two = {"harness__worker__a": moved, "harness__port__better": "def f(x):\n    return x\n"}
    root = tree("two", **two)
    for package in ("worker", "port"):
        (root / f"harness/{package}/__init__.py").write_text('"""A package."""\n')
    assert hash_of(root, "harness/worker/a.py") == one


def test_an_old_place_that_only_hands_a_name_on_does_not_count(tree: Tree) -> None:
    one = hash_of(tree("one", harness__a=USER, harness__b="def f(x):\n    return x\n"))
    handed_on = {"harness__b": "from harness.c import f\n", "harness__c": "def f(x):\n    return x\n"}
    assert hash_of(tree("two", harness__a=USER, **handed_on)) == one


def test_a_disk_that_ignores_case_makes_no_module_of_a_class(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(harness__a="from harness import Batch\n", harness__batch="Batch = 1\n")
    monkeypatch.setattr(Path, "is_file", lambda path: path.as_posix().lower() in found)
    found = {each.as_posix().lower() for each in root.rglob("*.py")}
    assert code.files_of("harness.Batch", root) == []
    assert [each.name for each in code.files_of("harness.batch", root)][-1] == "batch.py"


def test_which_of_two_modules_a_name_is_from_counts(tree: Tree) -> None:
    both = {"harness__b": "def f(x):\n    return x\n", "harness__c": "def f(x):\n    return -x\n"}
    text = "from harness import b, c\n" + USER
    other = text.replace("from harness.b import f", "from harness.c import f")
    assert hash_of(tree("one", harness__a=text, **both)) != hash_of(tree("two", harness__a=other, **both))


def test_an_import_of_others_counts(tree: Tree) -> None:
    one, two = (tree(name, harness__a=f"from {name} import f\n") for name in ("json", "yaml"))
    assert hash_of(one) != hash_of(two)


def test_a_file_of_data_that_a_module_names_counts_by_its_content_alone(tree: Tree) -> None:
    def of(folder: str, name: str, content: str) -> str:
        root = tree(folder, harness__a=f"SOURCE = Path(__file__).with_name('{name}')\n")
        (root / "harness" / name).write_text(content)
        return hash_of(root)

    assert of("one", "layers.cpp", "int x;") == of("two", "native.cpp", "int x;")
    assert of("three", "layers.cpp", "int y;") != of("four", "layers.cpp", "int x;")


def test_every_file_of_ours_that_is_compiled_is_named_by_the_module_that_compiles_it() -> None:
    root = Path(code.__file__).parents[2]
    modules = [file for package in code.PACKAGES for file in (root / package).rglob("*.py")]
    named = {data for file in modules for data in code.read(file).data}
    sources = {file for package in code.PACKAGES for file in (root / package).rglob("*.c*") if file.suffix != ".css"}
    assert {file for file in sources if file.suffix in (".c", ".cc", ".cpp", ".cu")} <= named
    assert sources, "there is some"


# ---- what the code does ----


def test_comments_docstrings_and_layout_do_not_count(tree: Tree) -> None:
    plain = SOURCE.replace("About", "Concerning").replace('    """Concerning A."""\n\n', "")
    plain = plain.replace("import math\n\n", "import math  # for pi\n").replace("f(self, x", "f(\n        self, x")
    assert plain != SOURCE
    assert hash_of(tree("one", harness__a=SOURCE)) == hash_of(tree("two", harness__a=plain))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= 1", "= 2"),
        ("= 1", "= True"),
        ('"b"', 'b"b"'),
        ("async def", "def"),
        ("!r", "!s"),
        ("pi!r}", "pi}"),
        (">{self.size}", "<{self.size}"),
        (">{self.size}", ""),
        ("*, ", ""),
        (") -> str", ") -> None"),
        ('        return f"', '        "A string that is no docstring"\n        return f"'),
    ],
)
def test_what_the_code_does_counts(tree: Tree, old: str, new: str) -> None:
    assert SOURCE.count(old) == 1
    changed = SOURCE.replace(old, new)
    assert hash_of(tree("one", harness__a=SOURCE)) != hash_of(tree("two", harness__a=changed))


def test_all_files_count_and_neither_their_names_nor_their_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a.py", tmp_path / "b.py"
    a.write_text("x = 1\n")
    b.write_text("x = 2\n")
    both = code_hash([a, b])
    assert both == code_hash([b, a])
    assert both not in (code_hash([a]), code_hash([b]))
    assert both == code_hash([a, b.rename(tmp_path / "c.py")])


@pytest.mark.parametrize("content", [b"def f(:\n", b"x = 1\0", b"# coding: utf-8\nx = '\xff'\n"])
def test_what_is_not_python_counts_byte_by_byte(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.py").write_bytes(content)
    before = code_hash([tmp_path / "a.py"])
    (tmp_path / "a.py").write_bytes(content + b"# comment")
    assert code_hash([tmp_path / "a.py"]) != before


# ---- in every Python ----

# A nested format, f-strings beside others, a letter that Python 3.11 does not know, type parameters' place.
VERSIONS = 'y = f"{x:>{w}}"\nz = f"{x:{a}.{b}}" "c" f"" f"{y}{{}}"\nname = "\U0001fac6 \u00e9"\n\n\ndef f(): ...\n'


def test_every_python_gives_the_same_hash(tree: Tree) -> None:
    wanted = "eebceabeeb708907dfd00084e64fb29ebc3f0ff1553f3eeecff7cecb294ee871"  # as 3.11.7, 3.12.1 and 3.13.0 have it
    assert hash_of(tree(harness__a=SOURCE + VERSIONS)) == wanted


def test_an_empty_text_that_python_3_12_puts_after_a_nested_format_does_not_count(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_empty_texts(source: bytes) -> ast.Module:
        found = ast.parse(source)
        for node in ast.walk(found):
            if isinstance(node, ast.JoinedStr):
                node.values.append(ast.Constant(""))
        return found

    before = hash_of(tree("one", harness__a=VERSIONS))
    root = tree("two", harness__a=VERSIONS)
    monkeypatch.setattr(code, "parse", with_empty_texts)
    assert hash_of(root) == before


def test_threads_may_hash_at_the_same_time(tmp_path: Path) -> None:
    """Also where the collection of garbage, in the midst of parsing, lets another thread go on."""

    def let_others_go_on(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    def hashed(file: Path) -> str:
        return code_hash([file])

    package = Path(code.__file__).parent
    files = [Path(shutil.copyfile(file, tmp_path / file.name)) for file in sorted(package.glob("*.py"))[:12]]
    alone = list(map(hashed, files))
    usual = gc.get_threshold()
    gc.callbacks.append(let_others_go_on)
    gc.set_threshold(200)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(hashed, files * 2)) == alone * 2
    finally:
        gc.set_threshold(*usual)
        gc.callbacks.remove(let_others_go_on)
