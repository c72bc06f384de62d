"""Where a record comes from: versions, commit and command."""

import getpass
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.records import machine, provenance
from harness.records.provenance import command, commit_of, git_commit, versions


@pytest.fixture(autouse=True)
def git_is_asked_again() -> Iterator[None]:
    """Its answer is remembered for as long as a process lives."""
    git_commit.cache_clear()
    yield
    git_commit.cache_clear()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# -- versions and code --


def test_versions_are_those_that_packages_state() -> None:
    import numpy

    from harness import __version__

    assert versions()["numpy"] == numpy.__version__
    assert versions()["bert-atlas"] == __version__
    assert {"torch", "transformers", "tokenizers", "safetensors", "scipy"} <= versions().keys()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with one commit, which provenance takes for its own."""
    root = tmp_path / "checkout"
    write(root / "harness/a.py", "x = 1\n")
    write(root / "README.md", "text\n")
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    for each in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", str(root), *each], check=True)
    monkeypatch.setattr(provenance, "ROOT", root)
    return root


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    write(checkout / "results/record.json", "{}")  # just published
    write(checkout / "README.md", "other text\n")

    assert re.fullmatch(r"[0-9a-f]{40}", git_commit() or "")


@pytest.mark.parametrize("file", ["harness/a.py", "harness/implementations/new.py", "reference/model.py"])
def test_changed_code_is_told(checkout: Path, file: str) -> None:
    write(checkout / file, "x = 2\n")

    assert re.fullmatch(r"[0-9a-f]{40}\+changes", git_commit() or "")


def test_an_installation_inside_another_checkout_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = checkout / ".venv/lib/site-packages"
    write(site / "harness/a.py", "x = 1\n")
    monkeypatch.setattr(provenance, "ROOT", site)

    assert git_commit() is None


def test_a_folder_inside_a_checkout_is_no_repository_of_its_own(checkout: Path) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", commit_of(checkout) or "")
    assert commit_of(checkout / "harness") is None


def test_neither_outside_a_checkout_nor_without_git_is_there_a_commit(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    assert git_commit() is None
    monkeypatch.undo()
    shutil.rmtree(checkout / ".git")
    git_commit.cache_clear()
    monkeypatch.setattr(provenance, "ROOT", checkout)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(checkout.parent))
    assert git_commit() is None


def test_a_hook_of_another_repository_does_not_mislead(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = git_commit()
    git_commit.cache_clear()
    monkeypatch.setenv("GIT_DIR", str(checkout / "nowhere"))

    assert here is not None
    assert git_commit() == here


# -- the command --


@pytest.fixture
def alice(monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Alice's folders."""
    monkeypatch.setenv("HOME", "/home/alice")
    return {"BERT_ATLAS_DATA": Path("/home/alice/corpora"), "BERT_ATLAS_CACHE": Path("/scratch/alice/cache")}


@pytest.mark.parametrize(
    ("argument", "stored"),
    [
        ("--impl", "--impl"),
        ("reference,transformers", "reference,transformers"),
        ("google-bert/bert-base-uncased@main", "google-bert/bert-base-uncased@main"),
        ("two words", "'two words'"),
        ("", "''"),
        ("--context=", "--context="),
        ("runs/today", "runs/today"),
        ("/home/alice/corpora", "$BERT_ATLAS_DATA"),
        ("/home/alice/corpora/", "$BERT_ATLAS_DATA"),
        ("--data=/home/alice/corpora/GLUE", "--data=$BERT_ATLAS_DATA/GLUE"),
        ("/home/alice/corpora-2", "~/corpora-2"),
        ("/home/alice", "~"),
        ("~/my runs", "~/'my runs'"),
        ("/scratch/alice/cache/weights", "$BERT_ATLAS_CACHE/weights"),
        ("/scratch/alice/secret/bert", ".../bert"),
        ("/home/alicette/bert", ".../bert"),
        ("/home/alice/corpora/../bert", "~/bert"),
        ("a.yaml,/scratch/alice/b.yaml", "a.yaml,.../b.yaml"),
        ("/", "/"),
    ],
)
def test_an_argument_is_stored_without_private_folders(alice: dict[str, Path], argument: str, stored: str) -> None:
    assert command(["python", argument], alice) == f"python {stored}"


def test_a_path_upwards_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alice/work").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "alice/work")

    assert command(["../../alice/bert"], {}) == ".../bert"
    assert command(["../../alice/bert"], {"HERE": tmp_path / "alice"}) == "$HERE/bert"


def test_a_link_into_a_known_folder_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert command([f"{tmp_path}/link/x"], {"D": tmp_path / "real"}) == "$D/x"
    assert command([f"{tmp_path}/link/x", f"{tmp_path}/real/x"], {"D": tmp_path / "link"}) == "$D/x $D/x"


def test_a_home_that_is_the_root_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")

    assert command(["/scratch/alice/bert"], {}) == ".../bert"


def test_nothing_says_who_or_where() -> None:
    home = Path.home()
    argv = ["python", "-m", "harness", f"--data={home}/data", str(home), str(Path.cwd()), f"/{getpass.getuser()}/x"]
    text = json.dumps([machine.describe(), versions(), git_commit(), command(argv, {"BERT_ATLAS_DATA": home / "data"})])
    private = {socket.gethostname(), socket.getfqdn(), getpass.getuser(), str(home), str(Path.cwd())} - {"localhost"}

    for each in private:
        assert not re.search(rf"(?<!\w){re.escape(each)}(?!\w)", text), each
