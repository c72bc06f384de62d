"""The command reproduce, in a small repository whose harness writes a record at once; no environment is made."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from harness import cli
from harness.errors import BadInput, Failure
from harness.records import record
from harness.records.record import Quality
from harness.registry import environments
from harness.reproduce import again, environment
from harness.reproduce.recorded import KEPT, SAID, command_for
from harness.reproduce.tree import worktree
from harness.reproduce.verdict import compare

Main = Callable[..., tuple[int, str, str]]
# The harness of the small repository: it notes how it was called, and copies a record.
HARNESS = """
import json, pathlib, shutil, sys
runs = pathlib.Path(sys.argv[sys.argv.index("--runs") + 1])
said = pathlib.Path({said!r})
(said / "called.json").write_text(json.dumps([sys.argv[1:], str(pathlib.Path.cwd())]))
print("the table of the run")
if (said / "again.json").is_file():
    (runs / "quality").mkdir(parents=True, exist_ok=True)
    for file in (said / "again.json", said / "again.predictions.json.gz"):
        shutil.copyfile(file, runs / "quality" / file.name)
else:
    sys.exit("error: this harness measures nothing")
"""


def git(folder: Path, *arguments: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(folder), *own, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a harness in its first commit and without one in its second; the working folder."""
    folder = tmp_path / "source"
    (folder / "harness").mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "harness" / "__init__.py").touch()
    (folder / "harness" / "__main__.py").write_text(HARNESS.format(said=str(tmp_path)))
    (folder / "pyproject.toml").write_text('[project]\ndependencies = ["torch>=2", "numpy"]\n')
    (folder / "constraints.txt").write_text("numpy==2.0.0\nscipy==1.2.3  # by seqeval\n")
    (folder / ".gitignore").write_text("__pycache__/\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    git(folder, "rm", "--quiet", "-r", "harness")
    git(folder, "commit", "--quiet", "--message", "second")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def first(source: Path) -> str:
    """The first commit."""
    return git(source, "rev-parse", "HEAD~1")


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[list[str]]]:
    """What was to be installed, environment by environment; for each there is our own interpreter."""
    found: list[list[list[str]]] = []

    def make(folder: Path, python: str, installs: list[list[str]], show: Any) -> Path:
        found.append(installs)
        return Path(sys.executable)

    monkeypatch.setattr(environments, "make", make)
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "cache"))
    return found


@pytest.fixture
def recorded(
    first: str, quality_record: Callable[..., Quality], put: Callable[..., Path], tmp_path: Path
) -> Callable[..., Path]:
    """A function that writes a record of the first commit, with these fields, and returns its file."""

    def write(name: str = "recorded", **fields: Any) -> Path:
        return put(quality_record(**({"commit": first} | fields)), tmp_path / f"{name}.json")

    return write


def test_a_record_is_measured_again_at_its_commit_with_its_versions(
    recorded: Callable[..., Path], main: Main, made: list[list[list[str]]], first: str, tmp_path: Path
) -> None:
    file = recorded(command="python -m harness run --impl all --suite mini --lr 3e-5 --runs .../runs", seed=43)
    recorded("again", seed=43, threads=1)
    code, out, err = main("reproduce", file)
    assert code == 0, err
    assert "What was otherwise, without effect:" in out
    assert "  threads: 2, now 1" in out
    assert "Reproduced, to the last digit." in out
    arguments, folder = json.loads((tmp_path / "called.json").read_text())
    assert Path(folder).name == first
    expected = "run --impl reference --tasks mini-sentiment --seed 43 --seeds 1 --precision fp32 --weights minilm-l6"
    assert arguments[: len(expected.split())] == expected.split()
    assert arguments[arguments.index("--lr") + 1] == "3e-5"
    assert "the table of the run" in err
    ((install,),) = made
    assert install[2:] == ["torch==2.13.0", "numpy==2.0.0"]
    assert Path(install[1]).read_text() == "scipy==1.2.3\n", "of what these need"

    git(Path.cwd(), "branch", "elsewhere")  # the tree and the environment are there, and used again
    assert main("reproduce", file)[0] == 0
    assert len(made) == 1


def test_what_is_outside_the_interval_is_not_reproduced(recorded: Callable[..., Path], main: Main) -> None:
    file = recorded()
    metric = record.read(file).metrics[0]  # type: ignore[attr-defined]
    machine = record.read(file).machine | {"cpu": "Another processor"}
    recorded("again", metrics=[metric | {"value": 0.6}], machine=machine, versions={"torch": "2.14.0"})
    code, out, _ = main("reproduce", file)
    assert code == 1
    assert "outside the interval" in out
    assert "Not reproduced: dev accuracy is outside the record's interval." in out
    assert "torch: 2.13.0, now 2.14.0" in out
    assert "now Another processor, 2 cores" in out


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"commit": None}, "it names no commit"),
        ({"commit": "0" * 40 + "+changes"}, "uncommitted changes"),
        ({"commit": "--upload-pack=touch x"}, "which is none"),
        ({"commit": "0" * 40}, "000000000000, is not in this repository"),
        ({"command": "rm -rf ~"}, "nothing else is run"),
        ({"command": "python -m harness run --impl 'unclosed"}, "cannot be read"),
        ({"command": "python -m harness publish x"}, "nothing else is run"),
        ({"command": "python -m harness run --task mine.yaml"}, "it is not run"),
        ({"command": "python -m harness run --impl ./mine.py"}, "a file of its author's"),
        ({"command": "python -m harness run --lr $(touch,x)"}, "its --lr is"),
        ({"versions": {"torch": "2.13.0 --index-url x"}}, "its version of 'torch' is"),
        ({"versions": {"-r /etc/passwd": "1"}}, "its version of '-r /etc/passwd' is"),
        ({"precision": {"asked": "auto", "resolved": "--on=ray", "computed": "fp32"}}, "its precision is"),
        ({"state": "failed", "reason": "no memory"}, "recorded as failed (no memory)"),
        ({"device": "cuda", "machine": {"cpu": "x", "hidden": [], "gpus": [{"name": "A GPU"}]}}, "has no such GPU"),
    ],
)
def test_what_cannot_be_measured_again_is_said_in_a_sentence(
    fields: dict[str, Any], message: str, recorded: Callable[..., Path], main: Main, tmp_path: Path
) -> None:
    code, out, err = main("reproduce", recorded(**fields))
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "called.json").exists()


def test_weights_and_tasks_of_the_author_are_refused(recorded: Callable[..., Path], main: Main, tmp_path: Path) -> None:
    each = record.read(recorded())
    own = recorded(checkpoint=each.checkpoint | {"source": "local"})
    assert "a folder of its author's" in main("reproduce", own)[2]
    named = recorded(checkpoint=each.checkpoint | {"name": "../../etc"})
    assert "its weights is" in main("reproduce", named)[2]
    task = recorded(task=each.task | {"suite": "own"})  # type: ignore[attr-defined]
    assert "its author's own" in main("reproduce", task)[2]
    assert "is no file" in main("reproduce", tmp_path / "nothing.json")[2]


def test_a_commit_beside_the_history_is_not_run(
    source: Path, recorded: Callable[..., Path], main: Main, tmp_path: Path
) -> None:
    git(source, "switch", "--quiet", "--orphan", "strangers")
    git(source, "commit", "--quiet", "--allow-empty", "--message", "not ours")
    theirs = git(source, "rev-parse", "HEAD")
    git(source, "switch", "--quiet", "main")
    code, _, err = main("reproduce", recorded(commit=theirs))
    assert code == 2
    assert "does not build on it, and no other code is run" in err


def test_outside_a_repository(recorded: Callable[..., Path], main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    file = recorded()
    folder = file.parent / "nowhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
    code, _, err = main("reproduce", file)
    assert (code, "in no git repository" in err) == (2, True)


def test_a_command_that_makes_no_record(recorded: Callable[..., Path], main: Main) -> None:
    code, _, err = main("reproduce", recorded())
    assert code == 1
    assert "error: this harness measures nothing" in err
    assert "ended with exit code 1 and made no such record" in err


def test_an_interrupted_command_has_time_to_end_and_goes_on_later(
    recorded: Callable[..., Path], main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, waits = recorded(), []
    recorded("again")
    wait = subprocess.Popen.wait

    def interrupted(process: Any, timeout: float | None = None) -> int:
        if "--runs" in process.args:  # git runs too
            waits.append(timeout)
            if len(waits) == 1:
                raise KeyboardInterrupt
        return wait(process, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "wait", interrupted)
        code, out, err = main("reproduce", file)
    assert (code, out) == (130, "")
    assert "the same command goes on from there" in err
    assert waits[:2] == [None, again.GRACE]
    assert main("reproduce", file)[0] == 0


def test_a_tree_that_was_interrupted_is_checked_out_again_and_one_that_was_changed_is_refused(
    source: Path, first: str
) -> None:
    folder = worktree(source, first)
    (folder / "pyproject.toml").unlink()
    with pytest.raises(BadInput, match=r"was changed since it was checked out \(D pyproject.toml\)"):
        worktree(source, first)
    folder.with_name(f"{first}.whole").unlink()  # as an interruption would leave it
    assert worktree(source, first) == folder
    assert (folder / "pyproject.toml").is_file()


# -- the environment --


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "ERROR: Could not find a version that satisfies the requirement torch==9.9.9+cpu (from versions: 2.13.0)\n"
            "ERROR: No matching distribution found for torch==9.9.9+cpu",
            "torch==9.9.9+cpu cannot be had; builds such as +cpu",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError': /simple/a/\n"
            "ERROR: No matching distribution found for numpy==2.4.6",
            "the index cannot be reached (the first that was asked for: numpy==2.4.6)",
        ),
        ("ERROR: Failed to build 'tokenizers' when getting requirements to build wheel", "tokenizers cannot be had"),
        ("no Python ==3.6.* is installed", "does not install any more: no Python"),
    ],
)
def test_an_environment_that_does_not_install_says_which_package(
    said: str, sentence: str, recorded: Callable[..., Path], main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Path:
        raise Failure(said)

    monkeypatch.setattr(environments, "make", fail)
    code, out, err = main("reproduce", recorded())
    assert (code, out) == (1, "")
    assert sentence in err


def test_packages_of_an_implementation_are_installed_where_it_ran_beside_the_harness(
    source: Path, first: str, quality_record: Callable[..., Quality]
) -> None:
    folder = worktree(source, first)
    (folder / "harness" / "implementations").mkdir()
    text = '# /// script\n# dependencies = ["{needs}"]\n# ///\nNAME = "mine"\nTITLE = "Mine"\nCATALOG_ID = "mine"\n'
    file = folder / "harness" / "implementations" / "mine.py"
    for needs, expected in (("scipy>=1", True), ("scipy>=2", False), ("keras", False)):
        file.write_text(text.format(needs=needs))
        each = quality_record("mine")
        found = environment.needed(each, folder, ["mine"], environment.pins(each, folder))
        assert ("scipy==1.2.3" in found) == expected
    assert environment.pins(each, folder)["torch"] == "2.13.0"


def test_another_python_is_taken_and_said(
    quality_record: Callable[..., Quality], source: Path, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = quality_record()
    each.machine["python"] = "3.99.1"
    monkeypatch.setattr(environments, "has_python", lambda wanted: False)
    _, notes = environment.python_for(each, worktree(source, first), ["reference"], lambda *_: None)
    assert notes[0].startswith("no Python 3.99, the record's, is installed; this is Python 3.")


# -- commands --


def test_a_timing_is_narrowed_to_its_shape_and_implementations(speed_record: Callable[..., Any]) -> None:
    command = "python -m harness time --impl all --shapes 1x128,8x128 --tasks mini-ner --threads 2 --runs .../runs"
    said = command_for(speed_record(command=command))
    assert said[:3] == ["time", "--impl", "transformers"]
    assert said[3:7] == ["--shapes", "8x128", "--precision", "fp32"]
    assert said[-2:] == ["--threads", "2"]
    each = speed_record("mini-ner, by length", command=command)
    assert command_for(each)[3:10] == [*["--shapes", "1x8", "--tasks", "mini-ner", "--sentences", "8", "--by-length"]]
    training = command_for(speed_record("rte, training", command=command))
    assert training[3:8] == ["--shapes", "1x8", "--tasks", "rte", "--training"]
    with pytest.raises(BadInput, match="which only its author has"):
        command_for(speed_record("your texts", command=command))


def test_every_option_of_run_is_kept_or_said_by_the_record() -> None:
    run = get_command(cli.app).commands["run"]  # type: ignore[attr-defined]
    options = {name for parameter in run.params for name in parameter.opts} - {"--task", "--dry-run", "--help"}
    assert options <= KEPT["run"].keys() | SAID, "published records may have them: those of --task and --dry-run cannot"


def test_records_of_a_contribution(speed_record: Callable[..., Any], parity_record: Callable[..., Any]) -> None:
    command = "python -m harness contribute --output there --wait 60"
    assert command_for(speed_record(command=command))[:1] == ["time"]
    assert command_for(parity_record(command=command))[:1] == ["parity"]


def test_parity_of_a_run(parity_record: Callable[..., Any]) -> None:
    said = command_for(parity_record("openvino:bf16", command="python -m harness run --impl all --seeds 5 --lr 1e-4"))
    assert said == ["parity", "--impl", "openvino:bf16", "--weights", "minilm-l6", "--device", "cpu"]
    with pytest.raises(BadInput, match="does not make a record of parity"):
        command_for(parity_record(command="python -m harness time --impl all"))


def test_speed_of_another_kind_of_machine_is_not_measured(
    speed_record: Callable[..., Any], first: str, put: Callable[..., Path], main: Main, tmp_path: Path
) -> None:
    code, _, err = main("reproduce", put(speed_record(commit=first), tmp_path / "speed.json"))
    assert code == 2
    assert "speed is compared on the same kind of machine only" in err


# -- verdicts --


def test_quality_within_the_interval_and_of_other_data(quality_record: Callable[..., Quality]) -> None:
    old, new = quality_record(), quality_record()
    assert compare(old, new).sentence == "Reproduced, to the last digit."
    new.metrics[0]["value"] = 0.8
    assert compare(old, new).sentence == "Reproduced, within the interval."
    new.task["data"] = new.task["data"] | {"dev": "3" * 64}
    found = compare(old, new)
    assert found.sentence.startswith("Not reproduced: the data are not the record's (dev)")
    assert found.circumstances == ["data of dev: 222222222222, now 333333333333"]


def test_answers_are_counted(quality_record: Callable[..., Quality], put: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = (put(quality_record(), tmp_path / folder / "a.json") for folder in ("old", "new"))
    answers = [[str(i), "positive" if i > 2 else "negative"] for i in range(200)]
    record.write_predictions(new.with_name("a.predictions.json.gz"), {"dev": answers})
    found = compare(record.read(old), record.read(new), old, new)
    assert found.rows[-1] == ("dev answers", "200", "200", "3 differ")
    assert found.sentence == "Reproduced, within the interval."


def test_speed_is_a_ratio_with_its_range(speed_record: Callable[..., Any]) -> None:
    old, new = speed_record(), speed_record()
    figures = new.implementations["transformers"]
    figures |= {"wall": [[0.04], [0.05]], "sequences_per_second": 8 / 0.045, "ratio": [1.1, 1.0, 1.2]}
    found = compare(old, new)
    assert ("transformers, sequences per second", "100.0", "177.8", "1.78x (1.60-2.00)") in found.rows
    assert found.differs == ["transformers is 1.10 times as fast as the reference, and was 0.62"]
    figures["ratio"] = [0.65, 0.6, 0.7]
    assert compare(old, new).sentence == "Reproduced, as the ranges of the ratios to the reference meet."
    new.implementations["transformers"] = {"state": "failed", "reason": "no memory"}
    assert compare(old, new).differs == ["transformers was not timed this time: no memory"]


def test_parity_is_its_verdict(parity_record: Callable[..., Any]) -> None:
    old = parity_record()
    other = parity_record(differences={"fp32": {"max": 3e-6}})
    found = compare(old, other)
    assert ("largest difference in fp32", "2.0e-06", "3.0e-06", "rounding") in found.rows
    assert found.sentence == "Reproduced, with the same verdict."
    assert compare(old, parity_record(verdict="differs")).differs == ["parity is differs, and was exact"]


def test_a_run_that_fails_now(quality_record: Callable[..., Quality]) -> None:
    found = compare(quality_record(), quality_record(state="failed", reason="no memory"))
    assert found.sentence == "Not reproduced: it failed this time: no memory."
