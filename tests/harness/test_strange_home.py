"""A home that is not as usual: none, without a name, with another's checkout, with screens that cannot show it all."""

import errno
import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from harness.commands import doctor
from harness.errors import DISK, BadInput, Failure
from harness.files import cache_folder, home_folder, user_folder
from harness.measure import client, plan
from harness.measure.client import Worker, WorkerError
from harness.records import provenance, record
from harness.records.record import Quality
from harness.registry.implementations import describe
from harness.results import publish
from harness.worker import session

ROOT = Path(__file__).parents[2]
STUBS = Path(__file__).parent / "stubs"
POSIX = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
Run = Callable[..., subprocess.CompletedProcess[str]]


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own; what it prints is read as ASCII with the rest as it is."""
    options: dict[str, Any] = {
        "capture_output": True,
        "encoding": "utf-8",
        "errors": "backslashreplace",
        "check": False,
    }
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=os.environ | variables, timeout=120, **options)


# ---- screens ----


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, POSIX])
def test_letters_that_a_screen_lacks_are_written_as_escapes_and_files_in_full(
    quality_record: Callable[..., Quality], tmp_path: Path, variables: dict[str, str]
) -> None:
    each = quality_record(flags=[record.flag("权重 is predicted for every example", "dev")])
    record.write(each, tmp_path / "runs" / "one.json")
    done = python("-m", "harness", "report", str(tmp_path / "runs"), "--output", str(tmp_path / "report"), **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u6743" in done.stdout
    assert "权重" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_the_catalog_too_is_checked_on_a_screen_that_is_not_utf8(tmp_path: Path) -> None:
    entry = tmp_path / "papers" / "wrong.yaml"
    entry.parent.mkdir()
    entry.write_text("title: 好坏\nkind: nothing\n", encoding="utf-8")
    done = python("-m", "catalog", "check", "--entries", str(tmp_path), PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_output_that_nobody_reads_does_not_matter() -> None:
    closed = f'"{sys.executable}" -m harness list >&- 2>&-; echo $?'
    assert subprocess.run(["bash", "-c", closed], cwd=ROOT, capture_output=True, check=True).stdout == b"0\n"


def test_an_argument_in_letters_that_the_system_lacks_is_refused_with_the_remedy() -> None:
    done = python("-m", "harness", "report", "运行", **POSIX)
    assert done.returncode == 2
    assert "has letters that ascii lacks; set PYTHONUTF8=1" in done.stderr


Main = Callable[..., tuple[int, str, str]]


def broken_screen(*_: Any, **__: Any) -> None:
    raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_the_files_of_a_report_are_written_before_the_screen(
    main: Main, quality_record: Callable[..., Quality], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.write(quality_record(), tmp_path / "runs" / "one.json")
    monkeypatch.setattr("harness.commands.records.terminal", broken_screen)
    main("report", str(tmp_path / "runs"), "--output", str(tmp_path / "report"))
    assert (tmp_path / "report" / "report.md").is_file()


def measured(
    quality_record: Callable[..., Quality], runs: Path, end: BaseException | None
) -> Callable[..., Iterator[Quality]]:
    """A run of one record, and how it ends."""

    def path(*_: Any) -> Iterator[Quality]:
        record.write(quality_record(), runs / "now.json")
        yield quality_record()
        if end is not None:
            raise end

    return path


def test_the_report_of_a_run_is_written_before_the_screen(
    main: Main, quality_record: Callable[..., Quality], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.measure.main_path.run_time", measured(quality_record, tmp_path / "runs", None))
    monkeypatch.setattr("harness.commands.measure.terminal", broken_screen)
    main("time", "--device", "cpu", "--runs", str(tmp_path / "runs"))
    assert (tmp_path / "runs" / "report.md").is_file()


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
        (MemoryError(), "the machine has not enough memory (MemoryError)"),
    ],
)
def test_what_is_finished_is_shown_where_a_library_cannot_go_on(
    main: Main,
    quality_record: Callable[..., Quality],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: BaseException,
    message: str,
) -> None:
    monkeypatch.setattr("harness.measure.main_path.run_time", measured(quality_record, tmp_path / "runs", end))
    code, out, err = main("time", "--device", "cpu", "--runs", str(tmp_path / "runs"))
    assert code == 1
    assert "0.750-0.875" in out
    assert f"error: {message}" in err
    assert "Traceback" not in err
    assert (tmp_path / "runs" / "report.md").is_file()


def test_a_report_that_cannot_be_written_is_shown_all_the_same(
    main: Main, quality_record: Callable[..., Quality], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("harness.measure.main_path.run_time", measured(quality_record, tmp_path / "runs", None))
    monkeypatch.setattr("harness.report.table.write_report", full)
    code, out, err = main("time", "--device", "cpu", "--runs", str(tmp_path / "runs"))
    assert code == 1
    assert "0.750-0.875" in out
    assert "error: the disk is full" in err


# ---- workers ----


def test_a_full_disk_is_no_failure_of_the_implementation_that_met_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no record says that it failed: the work ends, and goes on once there is room."""
    answers = iter([({"error": "the disk is full (x)", "kind": DISK}, {}), ({"error": "no", "kind": "KeyError"}, {})])
    with Worker(describe(STUBS / "plain.py")[0]) as plain:
        monkeypatch.setattr(client, "receive", lambda _: next(answers))
        with pytest.raises(Failure, match=r"the disk is full \(x\)"):
            plain.memory()
        with pytest.raises(WorkerError, match="no"):
            plain.memory()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("I/O error: No space left on device (os error 28)"), DISK),
        (OSError("100 requested and 50 written"), DISK),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory"), "out of memory"),
        (RuntimeError("shapes differ"), "RuntimeError"),
    ],
)
def test_a_worker_says_what_it_lacked(error: Exception, kind: str) -> None:
    assert session.kind_of(error) == kind


# ---- no home, no name ----


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder, as in a container that was given a number alone."""

    def unknown(*_: Any) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("BERT_ATLAS_CACHE", "BERT_ATLAS_CHECKOUTS", "BERT_ATLAS_DATA", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(platformdirs, "user_cache_path", unknown)
    monkeypatch.setattr(platformdirs, "user_config_path", lambda _: Path("~/.config/bert-atlas"))


@pytest.mark.usefixtures("homeless")
def test_without_a_home_folder_the_cache_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match="no home folder is known; set BERT_ATLAS_CACHE to a folder that you may write in"
    ):
        cache_folder()
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


@pytest.mark.usefixtures("homeless")
def test_without_a_home_folder_a_command_is_recorded_and_no_checkouts_are_known() -> None:
    assert home_folder() is None
    assert user_folder(platformdirs.user_config_path) is None, "no folder called ~ is made here"
    assert provenance.command(["run", "--data", "/some/where"], {}) == "run --data .../where"
    assert plan._checkouts_file() == {}


@pytest.mark.usefixtures("homeless")
def test_without_a_home_folder_commands_end_with_a_sentence(main: Main) -> None:
    for command in (("data", "list"), ("env", "list")):
        code, _, err = main(*command)
        assert code == 2
        assert err.startswith("error: no home folder is known; set BERT_ATLAS_CACHE")


def test_a_cache_that_cannot_be_made_is_refused_with_the_remedy(
    prepared: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BadInput, match=r"cannot be made: .*; set BERT_ATLAS_CACHE to a folder that you may write in"):
        prepared()


def test_a_user_without_a_name_gets_one_for_libraries_that_ask(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = getpass.getuser

    def getuser() -> str:
        if "LOGNAME" in os.environ:
            return ask()
        raise KeyError("getpwuid(): uid not found: 12345")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "x")  # to be as before, afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(getpass, "getuser", getuser)
    assert main("--version")[0] == 0
    assert getpass.getuser() == f"user-{os.getuid()}"


# ---- another's checkout ----


@pytest.fixture
def of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout that git takes for that of another user, and provenance for its own."""
    root = tmp_path / "check out"
    (root / "harness").mkdir(parents=True)
    (root / "harness" / "a.py").write_text("x = 1\n")
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    for each in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", str(root), *each], check=True)
    shim = tmp_path / "programs" / "git"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec "{shutil.which("git")}" "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(provenance, "ROOT", root)
    provenance.git_commit.cache_clear()
    yield root
    provenance.git_commit.cache_clear()


def test_a_checkout_that_git_does_not_read_is_told_with_the_remedy(of_another: Path) -> None:
    assert provenance.git_commit() is None
    said = provenance.git_refusal(of_another)
    assert said is not None
    assert "belongs to another user; `git config --global --add safe.directory" in said
    assert str(of_another) in said


def test_what_the_user_allows_git_to_read_is_read(of_another: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "safe.directory")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(of_another))
    assert len(provenance.git_commit() or "") == 40
    assert provenance.git_refusal(of_another) is None


@pytest.mark.usefixtures("of_another")
def test_doctor_and_publish_say_that_git_does_not_read_the_checkout(
    quality_record: Callable[..., Quality], put: Callable[..., Path], tmp_path: Path
) -> None:
    check = doctor._git()
    assert check.state == "warning"
    assert "belongs to another user" in check.detail
    path = put(quality_record(commit=None), tmp_path / "runs" / "one.json")
    with pytest.raises(BadInput, match=r"names no commit of BERT Atlas: git does not read .* belongs to another user"):
        publish.check_record(path)


def test_no_checkout_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert provenance.git_refusal(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_refusal(tmp_path) is None


def test_a_checkout_whose_state_git_cannot_tell_is_not_taken_for_clean(
    of_another: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "safe.directory")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "*")
    (of_another / ".git" / "index").write_bytes(b"damaged")
    assert (provenance.git_commit() or "").endswith("+changes")


def test_a_checkout_in_a_folder_of_letters_that_the_system_lacks_has_its_commit(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from harness.records.provenance import commit_of as of; "
    script += "print(of(Path(sys.argv[1])))"
    root = tmp_path / "运行"
    root.mkdir()
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    for each in (("init", "-q"), (*identity, "commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run(["git", "-C", str(root), *each], check=True)
    done = python("-c", script, str(root), **POSIX)
    assert len(done.stdout.strip()) == 40, done.stderr
