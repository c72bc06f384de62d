"""Environments of their own: made once, complete or not there, shared by equal requirements."""

import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from harness.errors import BadInput, Failure
from harness.registry.environments import (
    Environment,
    create,
    find_environment,
    folder_of,
    listing,
    python_of,
    remove,
    unmet,
)
from harness.registry.implementations import Requirements, find


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def needs(tmp_path: Path) -> Requirements:
    """A package that is nowhere but in a wheel on this disk."""
    wheel = tmp_path / "atlas_stand_in-1.5-py3-none-any.whl"
    info = "atlas_stand_in-1.5.dist-info"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("atlas_stand_in.py", "ANSWER = 42\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: atlas-stand-in\nVersion: 1.5\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return Requirements("", (f"atlas-stand-in @ {wheel.as_uri()}",), no_deps=True)


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def answer(environment: Environment) -> str:
    python = environment.folder / "bin" / "python"
    code = "import atlas_stand_in; print(atlas_stand_in.ANSWER)"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_it_is_made_once_found_again_and_removed(needs: Requirements) -> None:
    lines: list[str] = []
    assert find_environment(needs) is None
    made = create(needs, lines.append)
    assert answer(made) == "42"
    assert any("atlas" in line for line in lines), "progress is shown"
    assert made.packages == needs.packages
    assert "atlas-stand-in==1.5" in made.installed
    assert made.size > 1000
    again: list[str] = []
    assert create(needs, again.append) == made == find_environment(needs)
    assert again == []
    assert listing() == [made]
    assert made.used_by() == []
    remove(made)
    assert listing() == []
    assert not made.folder.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"packages": 1}', "[" * 100_000])
def test_one_whose_description_is_damaged_is_not_there(needs: Requirements, text: str) -> None:
    folder = folder_of(needs)
    folder.mkdir(parents=True)
    (folder / "complete.json").write_text(text)
    assert find_environment(needs) is None
    assert listing() == []


def test_what_an_interruption_left_is_not_an_environment(needs: Requirements) -> None:
    left = folder_of(needs)
    (left / "bin").mkdir(parents=True)
    (left / "bin" / "python").write_text("half")
    assert find_environment(needs) is None
    assert listing() == []
    assert answer(create(needs, silent)) == "42"


def test_two_who_want_the_same_make_it_once(needs: Requirements) -> None:
    made: list[Environment] = []
    threads = [threading.Thread(target=lambda: made.append(create(needs, silent))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[0] == made[1], "the second found what the first had made, its date too"


def test_other_requirements_have_another_folder(needs: Requirements) -> None:
    other = [
        Requirements("", needs.packages),
        Requirements("", needs.packages, no_deps=True, build=("wheel",)),
        Requirements(">=3.11", needs.packages, no_deps=True),
    ]
    assert len({folder_of(each) for each in [needs, *other]}) == 4


def test_a_package_that_does_not_exist_is_a_failure_that_shows_why(tmp_path: Path) -> None:
    absent = Requirements("", (f"absent @ {(tmp_path / 'absent-1.0-py3-none-any.whl').as_uri()}",))
    with pytest.raises(Failure, match=r"could not be created(.|\n)*absent"):
        create(absent, silent)
    assert find_environment(absent) is None
    assert listing() == []


def test_a_python_that_is_not_installed_is_a_failure_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no uv, which would bring one
    with pytest.raises(Failure, match=r"no Python ==3\.4\.\* is installed; install one, or uv"):
        create(Requirements("==3.4.*", ("six",)), silent)


def test_what_this_interpreter_lacks() -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert unmet(Requirements(f">={here}", ("numpy>=1.26", "safetensors"))) == []
    lacking = unmet(Requirements("<3", ("numpy<1", "atlas-no-such-package==1.0")))
    assert lacking[0] == "Python <3"
    assert lacking[1].startswith("numpy<1 (installed: ")
    assert lacking[2] == "atlas-no-such-package==1.0"


def test_what_fits_beside_the_harness_runs_there() -> None:
    assert python_of(find("reference"), silent) == Path(sys.executable)
    assert listing() == []


def test_requirements_that_are_not_any_are_refused() -> None:
    with pytest.raises(BadInput, match="== 1"):
        unmet(Requirements("", ("numpy == == 1",)))
