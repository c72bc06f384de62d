"""Listing implementations and reading what their files say, without importing any of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import BadInput
from harness.registry.implementations import Requirements, describe, find, implementations, requirements

ROOT = Path(__file__).parents[3]
CONSTANTS = 'NAME = "mine"\nTITLE = "Mine"\nCATALOG_ID = "mine-id"\n'


def written(folder: Path, source: str) -> Path:
    file = folder / "mine.py"
    file.write_text(source, encoding="utf-8")
    return file


def in_a_new_python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run code that finds this project, and packages in these folders."""
    lines = "\n".join(f"sys.path.insert(0, {str(path)!r})" for path in (*paths, ROOT))
    return subprocess.run(
        [sys.executable, "-c", f"import sys\n{lines}\n{code}"], capture_output=True, text=True, timeout=60
    )


def test_built_in_ones_describe_themselves() -> None:
    known = implementations()
    assert {"reference", "transformers", "transformers:eager"} <= set(known)
    assert known["reference"].deviations == {}
    assert "torch" in known["reference"].requirements.packages
    eager = known["transformers:eager"]
    assert (eager.variant, eager.file) == ("eager", known["transformers"].file)
    assert eager.title == "Hugging Face transformers, attention in plain PyTorch"
    assert known["transformers"].variant == ""


def test_listing_imports_none_of_them() -> None:
    done = in_a_new_python(
        "from harness.registry.implementations import implementations\n"
        "assert len(implementations()) > 2\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'safetensors', 'reference', 'scipy', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"'referense'; did you mean reference\? \(known: .*transformers:eager"):
        find("referense")
    with pytest.raises(BadInput, match=r"no implementation is called 'zzz' \(known: "):
        find("zzz")


def test_one_can_be_named_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, CONSTANTS + 'VARIANTS = {"fast": "compiled"}\n')
    monkeypatch.chdir(tmp_path)
    assert (find("mine.py").name, find("./mine.py:fast").name) == ("mine", "mine:fast")
    assert find(str(file)).file == file
    with pytest.raises(BadInput, match=r"mine.py: it has no variant 'slow' \(it has: fast\)"):
        find("mine.py:slow")
    with pytest.raises(BadInput, match=r"there is no file other\.py"):
        find("other.py")
    file.write_text(CONSTANTS.replace("mine", "reference", 1))
    with pytest.raises(BadInput, match=r"the name 'reference' is that of .*reference.py; choose another"):
        find("mine.py")


def test_variants_come_after_the_default(tmp_path: Path) -> None:
    file = written(tmp_path, CONSTANTS + 'VARIANTS = {"fast": "compiled", "slow": ""}\n')
    assert [(each.name, each.variant, each.title) for each in describe(file)] == [
        ("mine", "", "Mine"),
        ("mine:fast", "fast", "Mine, compiled"),
        ("mine:slow", "slow", "Mine"),
    ]


@pytest.mark.parametrize("annotation", ["", ": dict[str, str]"])
def test_constants_may_have_types(tmp_path: Path, annotation: str) -> None:
    file = written(tmp_path, f'{CONSTANTS}DEVIATIONS{annotation} = {{"gelu": "by tanh"}}\n')
    assert describe(file)[0].deviations == {"gelu": "by tanh"}


def test_computed_constants_and_undefined_ones_are_left_alone(tmp_path: Path) -> None:
    computed = "COUNT: int\nHERE = __file__\nBAD = {[]: 1}\nSIZE = 2 * HERE\nA, B = 1, 2\nNAME += 'x'\n"
    (only,) = describe(written(tmp_path, "raise SystemExit('it was imported')\n" + CONSTANTS + computed))
    assert (only.name, only.catalog_id, only.requirements.packages) == ("mine", "mine-id", ())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('NAME = "mine"\n', r"mine\.py: an implementation file must define TITLE, CATALOG_ID"),
        ("", r"mine\.py: an implementation file must define NAME, TITLE, CATALOG_ID"),
        (CONSTANTS.replace('"mine-id"', "compute()"), r"must define CATALOG_ID"),
        (CONSTANTS + "def load(:\n", r"mine\.py: not an implementation file: "),
        ("\0", r"mine\.py: not an implementation file: "),
        ("# /// script\n# dependencies = [\n# ///\n" + CONSTANTS, r"mine\.py: not an implementation file: "),
    ],
    ids=["lacks two", "empty", "computed", "syntax", "not text", "header"],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        describe(written(tmp_path, source))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('# /// script\n# dependencies = ["a>=1", "b"]\n# ///\nimport a\n', ("a>=1", "b")),
        ('"""Doc."""\n\n# /// script\n# dependencies = [\n#   "a",\n#\n#   "b",\n# ]\n# ///\n', ("a", "b")),
        ('# /// script\n# requires-python = ">=3.11"\n# ///\n', ()),
        ('# /// other\n# dependencies = ["a"]\n# ///\n', ()),
        ('    # /// script\n    # dependencies = ["a"]\n    # ///\n', ()),
        ("import a\n", ()),
    ],
    ids=["one line", "several lines", "none said", "another block", "indented", "no block"],
)
def test_requirements_of_a_pep_723_header(source: str, expected: tuple[str, ...]) -> None:
    assert requirements(source).packages == expected


def test_requirements_say_how_they_are_installed() -> None:
    header = (
        "# /// script",
        '# requires-python = ">=3.11,<3.12"',
        '# dependencies = ["old==1.0"]',
        "# [tool.bert-atlas]",
        "# no-deps = true",
        '# build = ["setuptools<70", "wheel"]',
        "# ///",
    )
    expected = Requirements(">=3.11,<3.12", ("old==1.0",), no_deps=True, build=("setuptools<70", "wheel"))
    assert requirements("\n".join(header) + "\n") == expected


def test_a_header_can_name_an_environment_that_several_share() -> None:
    shared = requirements('# /// script\n# [tool.bert-atlas]\n# environment = "keras-2"\n# ///\n')
    assert (shared.python, shared.no_deps, shared.build) == (">=3.11", True, ("setuptools<70", "wheel"))
    assert "tf-keras==2.21.0" in shared.packages
    assert find("keras-bert").requirements == find("bert-keras").requirements == shared


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "",
            'environment = "tensorflow-3"',
            r"no environment is called 'tensorflow-3' \(known: ",
        ),
        ('dependencies = ["a"]', 'environment = "keras-2"', "names the environment 'keras-2' and lists packages"),
        ("", 'environment = "keras-2"\n# no-deps = true', "names the environment 'keras-2' and lists packages"),
    ],
)
def test_a_header_that_names_an_environment_wrongly(tmp_path: Path, before: str, after: str, message: str) -> None:
    header = f"# /// script\n# {before}\n# [tool.bert-atlas]\n# {after}\n# ///\n"
    with pytest.raises(BadInput, match=message):
        describe(written(tmp_path, header + CONSTANTS))


def make_package(folder: Path, source: str, module: str = "their_package.deep.bert", parent: str = "") -> None:
    """A package as an installer leaves it, with an entry point that names one of its modules."""
    package = folder / "their_package" / "deep"
    package.mkdir(parents=True)
    for init in (package / "__init__.py", package.parent / "__init__.py"):
        init.write_text(parent)
    (package / "bert.py").write_text(source)
    metadata = folder / "their_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[bert_atlas.implementations]\ntheirs = {module}\n")


def test_another_package_adds_its_own_and_is_not_imported(tmp_path: Path) -> None:
    source = CONSTANTS.replace("mine", "theirs") + "raise SystemExit('imported')\n"
    make_package(tmp_path, source, parent="raise SystemExit('imported')\n")
    done = in_a_new_python(
        "from harness.registry.implementations import find\n"
        "print(find('theirs').file)\n"
        "assert 'their_package' not in sys.modules",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "their_package" / "deep" / "bert.py")


@pytest.mark.parametrize("module", ["gone", "their_package.gone", "their_package.deep.bert.gone"])
def test_an_entry_point_that_leads_nowhere_is_left_out(tmp_path: Path, module: str) -> None:
    make_package(tmp_path, CONSTANTS, module)
    done = in_a_new_python(
        "from harness.registry.implementations import implementations\n"
        "assert 'reference' in implementations() and 'mine' not in implementations()",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_another_package_cannot_take_the_name_of_a_known_one(tmp_path: Path) -> None:
    make_package(tmp_path, CONSTANTS.replace('"mine"', '"reference"'))
    done = in_a_new_python("from harness.registry.implementations import implementations\nimplementations()", tmp_path)
    assert "BadInput" in done.stderr
    assert "bert.py: the name 'reference' is that of" in done.stderr
