"""The API pages: what is read from a package's source, in which order, and how it is shown."""

import re
from pathlib import Path

import pytest

pytest.importorskip("griffe")

from catalog.site.api import read_package
from catalog.site.pages import PACKAGES

FUNCTION = '''"""Module {name}."""


def {name}(number: int = 1) -> int:
    """Document {name}."""


def _private() -> None:
    """Not shown."""


def without_docstring() -> None: ...
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package ``pkg``, with subpackages two deep, one of the command line, and a re-export."""
    for path, text in {
        "pkg/__init__.py": '"""The package."""\n\n\ndef load() -> None:\n    """Load it."""\n',
        "pkg/__main__.py": FUNCTION.format(name="main"),
        "pkg/cli.py": FUNCTION.format(name="command"),
        "pkg/zeta.py": "import pkg\nfrom pkg import measure\n\n\n" + FUNCTION.format(name="zeta"),  # no circles
        "pkg/old_name.py": "from pkg.measure.run import run\n",
        "pkg/measure/__init__.py": '"""Measuring."""\n\nfrom pkg.measure.run import run\n',
        "pkg/measure/run.py": FUNCTION.format(name="run"),
        "pkg/measure/deep/__init__.py": "",
        "pkg/measure/deep/inner.py": FUNCTION.format(name="inner"),
        "pkg/measure_two.py": FUNCTION.format(name="two"),
        "pkg/commands/__init__.py": "",
        "pkg/commands/typed.py": FUNCTION.format(name="typed"),
        "pkg/empty/__init__.py": '"""Nothing public."""\n',
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_subpackages_are_walked_and_the_command_line_is_left_out(package: Path) -> None:
    read = read_package("pkg", package)
    assert [(module.path, [item.path for item in module.members]) for module in read.modules] == [
        ("pkg", ["pkg.load"]),
        ("pkg.measure", []),
        ("pkg.measure.deep", []),
        ("pkg.measure.deep.inner", ["pkg.measure.deep.inner.inner"]),
        ("pkg.measure.run", ["pkg.measure.run.run"]),
        ("pkg.measure_two", ["pkg.measure_two.two"]),
        ("pkg.zeta", ["pkg.zeta.zeta"]),
    ]
    assert read.modules[1].text == "Measuring."
    run = read.modules[4].members[0]
    assert (run.name, run.signature, run.text) == ("run", "def run(number: int = 1) -> int", "Document run.")


@pytest.mark.parametrize("name", PACKAGES)
def test_no_module_with_public_functions_is_missing(name: str) -> None:
    """Compared with the files themselves, so that moving modules into folders cannot empty the page unnoticed."""
    root = Path(__file__).parents[3]
    hidden = re.compile(r"__main__|cli|commands|implementations/\w+|worker/session")
    documented = set()
    for file in (root / name).rglob("*.py"):
        module = file.relative_to(root).with_suffix("")
        left_out = any(hidden.fullmatch(each.relative_to(name).as_posix()) for each in (module, *module.parents[:-2]))
        if not left_out and re.search(r"^def [a-z]", file.read_text("utf-8"), re.MULTILINE):
            documented.add(".".join(module.parts).removesuffix(".__init__"))
    shown = {module.path for module in read_package(name).modules}
    assert len(documented) > 10
    assert documented - shown == set()
