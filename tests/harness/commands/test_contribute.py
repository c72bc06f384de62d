"""The command contribute: what it refuses, what it waits for, what it shows, and the files that it writes."""

import functools
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from catalog.site import choices, leaderboard
from harness.commands import contribute as command
from harness.measure import main_path, speed
from harness.measure.plan import Plan
from harness.records import machine, processors, provenance, quiet, record
from harness.records.record import Parity, Record, Speed
from harness.results import contribution
from harness.results.index import write_index
from harness.results.publish import check_record
from tests.conftest import new_cache

Main = Callable[..., tuple[int, str, str]]
PUBLISHED = functools.cache(command._published)
COMMIT = "a" * 40
ARM = {"cpu": "Neoverse-N1", "flags": ["neon"], "hidden": [], "cores": 2, "memory": 8 * 2**30, "gpus": []}


@pytest.fixture
def contribute(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """A function: arguments to exit code, output and errors; on a quiet machine, at a clean commit, with one engine."""
    monkeypatch.setattr(command, "ENGINES", "reference")
    monkeypatch.setattr(command, "_published", PUBLISHED)
    monkeypatch.setattr(provenance, "git_commit", lambda: COMMIT)
    monkeypatch.setattr(quiet, "disturbances", lambda: None)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main("contribute", *arguments)


@pytest.fixture
def measures(
    monkeypatch: pytest.MonkeyPatch,
    speed_record: Callable[..., Speed],
    parity_record: Callable[..., Parity],
) -> list[str]:
    """Instead of measuring, write records of an Arm machine, where none are kept; the list names what was written.

    Each timing whose name is in ``noisy`` of the list's class is doubtful the first time.
    """
    done: list[str] = []

    def run_choice(plan: Plan, shapes: None, show: Any) -> Iterator[Record]:
        common = {"machine": ARM, "commit": COMMIT, "command": plan.options.command}
        runs = plan.options.runs
        for name in ["parity", *(f"{n} x {length}" for n, length in plan.options.shapes), plan.tasks[0].name]:
            path = runs / ("parity" if name == "parity" else "speed") / f"{name.replace(' ', '')}.json"
            if not path.exists():
                noisy = name == "1 x 16" and name not in done
                made: Record = parity_record(**common)
                if name != "parity":
                    made = speed_record(name, **common)
                    made.key = f"key {name}"
                    made.shape |= {"own_lengths": name.startswith("mini"), "latency": name.startswith("1 x")}
                    made.shape |= {"tokens": 16 if name == "1 x 16" else 128}
                    made.load["noisy"] = noisy
                record.write(made, path)
                done.append(name)
            yield record.read(path)

    monkeypatch.setattr(main_path, "run_choice", run_choice)
    return done


def test_the_files_of_a_pull_request_give_the_machine_its_default_boards(
    contribute: Main, measures: list[str], tmp_path: Path
) -> None:
    code, out, err = contribute()
    assert code == 0, err
    files = {str(each.relative_to(tmp_path / "contribution")) for each in (tmp_path / "contribution").rglob("*.*")}
    published = "results/neoverse-n1-with-neon-2-cores"
    assert {each for each in files if each.startswith("results")} >= {
        f"{published}/comparisons/1x16.json",
        f"{published}/reference/parity.json",
    }
    for file in (tmp_path / "contribution/results").rglob("*.json"):
        check_record(file)
    text = (tmp_path / "contribution/PULL_REQUEST.md").read_text()
    assert text.startswith("# Results: Neoverse-N1 with Neon, 2 cores\n")
    assert "Arm, a kind of processor without records so far" in text
    assert f"at commit {COMMIT[:12]}, with `python -m harness contribute`" in text
    assert "git switch -c results-" in out
    assert "Arm" not in out.splitlines()[-1], "these records are of it"

    write_index(tmp_path / "contribution/results", tmp_path / "index.json")
    index = leaderboard.read_index(tmp_path / "index.json")
    found = choices.answers(leaderboard.boards(index, tmp_path / "index.json"))
    assert {(each.machine, each.size, each.feed) for each in found} == {
        ("arm", "minilm-l6", feed) for feed in choices.FEEDS
    }


def test_what_was_disturbed_is_timed_once_more_and_all_else_is_kept(contribute: Main, measures: list[str]) -> None:
    assert contribute()[0] == 0
    assert measures == ["parity", "1 x 16", "1 x 128", "8 x 128", "mini-similarity", "1 x 16"]
    assert contribute()[0] == 0
    assert len(measures) == 6, "the same command finds it finished"


def test_what_stays_disturbed_is_sent_as_doubtful(
    contribute: Main, measures: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "TRIES", 1)
    code, out, _ = contribute()
    assert code == 0
    assert "doubtful: 1 x 16; on a quieter machine, the same command times these again" in out
    text = (tmp_path / "contribution/PULL_REQUEST.md").read_text()
    assert "Doubtful, as the machine did other work meanwhile: 1 x 16\n" in text
    assert contribute()[0] == 0
    assert "No timing was disturbed" in (tmp_path / "contribution/PULL_REQUEST.md").read_text()


def test_it_goes_on_where_it_was_interrupted(
    contribute: Main, measures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = main_path.run_choice

    def interrupted(*arguments: Any) -> Iterator[Record]:
        steps = whole(*arguments)
        yield next(steps)
        raise KeyboardInterrupt

    monkeypatch.setattr(main_path, "run_choice", interrupted)
    code, _, err = contribute()
    assert code == 130
    assert "goes on from there" in err
    assert measures == ["parity"]
    monkeypatch.setattr(main_path, "run_choice", whole)
    assert contribute()[0] == 0
    assert measures.count("parity") == 1


def test_records_of_another_commit_are_measured_again(
    contribute: Main, measures: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert contribute()[0] == 0
    file = tmp_path / "contribution/runs/parity/parity.json"
    old = record.read(file)
    old.commit = f"{COMMIT}+changes"  # the tree was dirty then
    record.write(old, file)
    assert contribute()[0] == 0
    assert measures.count("parity") == 2


def test_an_implementation_that_fails_is_named_and_the_rest_is_written(
    contribute: Main, measures: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = main_path.run_choice

    def failing(*arguments: Any) -> Iterator[Record]:
        for each in whole(*arguments):
            if isinstance(each, Parity):
                each.state, each.reason, each.differences = "failed", "no memory", {}
                record.write(each, tmp_path / "contribution/runs/parity/parity.json")
            yield each

    monkeypatch.setattr(main_path, "run_choice", failing)
    code, _, err = contribute()
    assert code == 1
    assert "reference failed: no memory" in err
    assert (tmp_path / "contribution/PULL_REQUEST.md").is_file()


@pytest.mark.parametrize("what", ["host", "user", "path"])
def test_no_name_of_the_machine_or_its_user_and_no_path_is_sent(
    what: str, contribute: Main, measures: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if what == "host":
        monkeypatch.setattr(platform, "node", lambda: "contribute")
    elif what == "user":
        monkeypatch.setattr(psutil.Process, "username", lambda self: "contribute")
    else:
        monkeypatch.setattr(command, "command_line", lambda: "python -m harness contribute --output /srv/mine")
    for arguments in ([], ["--dry-run"]):
        code, _, err = contribute(*arguments)
        assert code == 2
        assert f"holds the {what}" in err
    assert not (tmp_path / "contribution").exists()
    assert not measures


def test_a_path_among_the_options_is_not_in_the_files(contribute: Main, measures: list[str], tmp_path: Path) -> None:
    assert contribute("--output", tmp_path / "deep/own")[0] == 0
    for file in (tmp_path / "deep/own").rglob("*.*"):
        if file.is_file():
            assert str(tmp_path) not in file.read_text()


@pytest.mark.parametrize(
    ("commit", "refused", "message"),
    [
        (None, None, "this is no git checkout, or git is not installed; clone the repository"),
        (None, "git does not read it", "none is known: git does not read it"),
        (f"{COMMIT}+changes", None, "the code has changes that are in none; `git status --short` lists them"),
    ],
)
def test_without_a_clean_commit_nothing_is_measured(
    commit: str | None,
    refused: str | None,
    message: str,
    contribute: Main,
    measures: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(provenance, "git_commit", lambda: commit)
    monkeypatch.setattr(provenance, "git_refusal", lambda folder: refused)
    code, _, err = contribute()
    assert code == 2
    assert message in err
    assert not (tmp_path / "contribution").exists()
    code, out, err = contribute("--dry-run")
    assert code == 2
    assert message in err
    assert "would be measured" in out
    assert not measures


def test_parts_of_the_processor_that_are_switched_off_are_named(
    contribute: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    code, _, err = contribute()
    assert code == 2
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in err


def test_a_busy_machine_is_waited_for(contribute: Main, measures: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["others use 80% of the processor (compiler 95% of a core)", "others use 40%", *[None] * 9])
    monkeypatch.setattr(quiet, "disturbances", lambda: next(said))
    code, _, err = contribute()
    assert code == 0
    assert "waiting until the machine is quiet: others use 80% of the processor (compiler 95% of a core)" in err


def test_a_machine_that_stays_busy_is_not_measured(
    contribute: Main, measures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "disturbances", lambda: "others use 80% of the processor (compiler 95% of a core)")
    code, _, err = contribute("--wait", "0")
    assert code == 1
    assert "the machine is busy: others use 80% of the processor (compiler 95% of a core)" in err
    assert "Traceback" not in err
    assert not measures


def test_a_folder_with_other_files_is_refused(contribute: Main, measures: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    assert contribute("--wait", "nan")[0] == 2
    for name, message in [
        ("mine", "holds other files, such as letter.txt"),
        ("file", "the folder file cannot be made: File exists"),
        ("file/in", "cannot be made: Not a dir"),
    ]:
        code, _, err = contribute("--output", name)
        assert code == 2
        assert message in err
    assert not measures


def test_dry_run_shows_what_would_be_measured_and_sent_and_writes_nothing(
    contribute: Main, measures: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "ENGINES", "reference,bert-chainer:fixed")
    code, out, _ = contribute("--dry-run")
    assert code == 0
    assert "1 x 16, 1 x 128, 8 x 128, mini-similarity, the last of 128 sentences" in out
    assert "bert-chainer:fixed" in out
    for name in ("cpu", "kernel", "versions", "commit", "command"):
        assert any(line.split()[:1] == [name] for line in out.splitlines()), name
    assert "python -m harness contribute\n" in "\n".join(line.rstrip() for line in out.splitlines()) + "\n"
    assert "min by the published records" in out
    assert "wanted, as no records are of them yet: " in out
    assert list(tmp_path.iterdir()) == []
    assert not measures


def test_kinds_of_processor_are_those_of_the_site() -> None:
    assert {name: (title[0], needed) for name, (needed, title) in choices.MACHINES.items()} == processors.KINDS


def test_kinds_without_records_are_wanted(speed_record: Callable[..., Speed]) -> None:
    amx = {"cpu": "Xeon", "flags": ["amx_tile", "avx2", "avx512f"], "hidden": []}
    gpu = {"cpu": "Ryzen", "flags": ["avx2"], "hidden": [], "gpus": [{"name": "H100"}]}
    records = [speed_record(machine=amx), speed_record(machine=ARM), speed_record(machine=gpu, device="cuda")]
    assert processors.wanted(records) == [
        "AVX-512 with VNNI",
        "AVX-512 without VNNI",
        "AVX2 with VNNI",
        "AVX2 without VNNI",
    ]


@pytest.mark.slow
def test_what_is_really_measured_is_checked_before_it_is_written(
    contribute: Main, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a tiny model, which takes seconds; as nobody else has it, the check refuses it."""
    monkeypatch.setattr(speed, "SECONDS", 0.001)
    monkeypatch.setattr(speed, "ROUNDS", 2)
    monkeypatch.setattr(command, "TRIES", 1)
    monkeypatch.setenv("BERT_ATLAS_CACHE", new_cache(tmp_path / "cache"))
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    monkeypatch.setattr(contribution, "SHAPES", ((1, 16),))
    monkeypatch.setattr(contribution, "WEIGHTS", str(tiny_checkpoint))
    code, _, err = contribute()
    assert code == 2
    assert "the weights tiny are your own, which nobody else has" in err
    records = record.read_all([tmp_path / "contribution/runs"])
    assert sorted((each.kind, each.state, each.commit) for each in records) == [
        ("parity", "ok", COMMIT),
        ("speed", "ok", COMMIT),
        ("speed", "ok", COMMIT),
    ]
    assert {each.shape["name"] for each in records if isinstance(each, Speed)} == {"1 x 16", "mini-similarity"}
    assert not (tmp_path / "contribution/PULL_REQUEST.md").exists()
