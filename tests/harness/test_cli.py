"""The command line: exit codes, messages without tracebacks, quick help, pipes."""

import os
import resource
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from harness import cli
from harness.errors import BadInput, Failure
from harness.records import record
from harness.records.record import Quality, Record

ROOT = Path(__file__).parents[2]
COMMANDS = [
    *(
        "run",
        "parity",
        "time",
        *("choose", "contribute"),
        "report",
        "compare",
        "rescore",
        "history",
        "list",
        "doctor",
        "predict",
        "embed",
        "similar",
        "explain",
        "serve",
        "load",
        *("vocab", "corpus", "pretrain", "package"),
        "publish",
        "figures",
        "index",
        "check-record",
        "reproduce",
    ),
    *("data get", "data list", "env list", "env create", "env remove", "submit glue", "submit conll", "submit check"),
]


def harness(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python -m harness`` in a process of its own."""
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False, **options)


Main = Callable[..., tuple[int, str, str]]
Put = Callable[[Record, Path], Path]


def test_every_command_is_known_here() -> None:
    """A new command must be added to the tests below."""
    known = get_command(cli.app)
    names = [
        f"{name} {inner}".strip()
        for name, command in known.commands.items()  # type: ignore[attr-defined]
        for inner in getattr(command, "commands", {"": None})
    ]
    assert sorted(names) == sorted(COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS, "data", "env", "submit"])
def test_help_of_every_command_has_an_example(command: str) -> None:
    result = CliRunner().invoke(cli.app, [*command.split(), "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert f"python -m harness {command}" in result.output
    assert "Example" in result.output


def test_help_names_the_commands_and_where_to_start() -> None:
    result = CliRunner().invoke(cli.app, ["--help"])
    assert result.exit_code == 0
    assert all(command.split()[0] in result.output for command in COMMANDS)
    assert "python -m harness run --impl reference" in result.output


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_answers_at_once(arguments: list[str]) -> None:
    """It costs at most six times what the library that prints it costs to import; PyTorch alone would cost twenty."""

    def seconds(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], capture_output=True, check=True, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    library = [seconds("-c", "import typer.main") for _ in range(3)]
    ours = [seconds("-m", "harness", *arguments) for _ in range(3)]
    assert min(ours) < 6 * min(library), (ours, library)


HEAVY = ("torch", "transformers", "sklearn", "scipy", "seqeval")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list"], ["data", "list"], ["--version"]])
def test_what_only_shows_imports_nothing_heavy(arguments: list[str]) -> None:
    script = f"""
import sys, atexit
atexit.register(lambda: print("HEAVY:", [name for name in {HEAVY!r} if name in sys.modules]))
sys.argv = ["harness", *{arguments!r}]
from harness.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "HEAVY: []" in done.stdout


def test_list_shows_implementations_tasks_and_weights(main: Main) -> None:
    code, out, _ = main("list")
    assert code == 0
    for name in ("reference", "transformers:eager", "mini-ner", "conll2003", "minilm-l6", "bert-base-chinese"):
        assert name in out


def test_doctor_shows_the_machine_and_what_to_do(main: Main) -> None:
    code, out, _ = main("doctor")
    assert code == 0, out
    for name in ("python", "torch", "memory", "weights"):
        assert name in out


def test_data_list_shows_what_is_there(main: Main, tmp_path: Path) -> None:
    code, out, _ = main("data", "list", "--data", str(tmp_path))
    assert code == 0
    assert all(name in out for name in ("rte", "conll2003", "missing"))


def test_version(main: Main) -> None:
    code, out, _ = main("--version")
    assert code == 0
    assert out.startswith("BERT Atlas ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--impl", "referense"], "did you mean reference"),
        (["run", "--impl", ","], "no implementation is named"),
        (["run", "--tasks", ","], "no task is named"),
        (["run", "--tasks", "rtee"], "did you mean rte"),
        (["run", "--task", "absent.yaml"], "cannot read the task file absent.yaml"),
        (["run", "--suite", "nothing"], "no suite is called"),
        (["run", "--weights", "nowhere"], "no such weights"),
        (["run", "--context", "page"], "--context 'page' is neither sentence nor document"),
        (["run", "--epochs", "0"], "--epochs is 0"),
        (["run", "--epochs", "two"], "--epochs"),
        (["run", "--limit", "-3"], "--limit is -3"),
        (["run", "--seed", "-3"], "--seed is -3"),
        (["run", "--seeds", "0"], "--seeds is 0; it must be from 1 to"),
        (["run", "--seeds", "999999999"], "--seeds is 999999999; it must be from 1 to"),
        (["run", "--threads", "99999999"], "--threads is 99999999; of them"),
        (["run", "--precision", "fp32,fp8"], "--precision 'fp8' is not one of"),
        (["run", "--precision", ","], "no precision is named"),
        (["run", "--rerun", "some"], "--rerun 'some' is not one of missing, failed, all"),
        (["run", "--splits", "dev,tset"], "has no split 'tset' to score; it has dev"),
        (["run", "--lr", "nan"], "--lr is nan"),
        (["run", "--colour", "blue"], "--colour"),
        (["runn"], "runn"),
        (["run", "--impl", "ref\x1b[31m"], r"the argument 'ref\x1b[31m' is not UTF-8 text"),
        (["report", "runs\udcff"], r"the argument 'runs\udcff' is not UTF-8 text"),
        (["time", "--shapes", "32"], "--shapes: '32' is not of the form SEQUENCESxLENGTH"),
        (["time", "--shapes", "0x128"], "--shapes: '0x128'"),
        (["time", "--shapes", "0x5"], "--shapes: '0x5'"),
        (["time", "--shapes", "9" * 5000 + "x5"], "--shapes: '9999"),
        (["time", "--shapes", "99999999x99999"], "--shapes 99999999x99999: this model takes at most 512 tokens"),
        (["time", "--shapes", "99999999x128"], "--shapes 99999999x128: the output alone has"),
        (["time", "--shapes", ","], "--shapes names none"),
        (["time", "--tasks", "rtee"], "did you mean rte"),
        (["report"], "records"),
        (["report", "absent"], "absent does not exist"),
        (["publish", "absent"], "absent does not exist"),
        (["check-record", "absent"], "absent does not exist"),
        (["predict", "absent", "a.txt"], "absent is not a folder that `run --save-model` wrote"),
        (["data", "get", "nothing"], "nothing"),
        (["data", "get", "rte", "--source", "elsewhere"], "elsewhere"),
    ],
)
def test_bad_input_is_2_and_said_in_a_sentence(
    main: Main, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BERT_ATLAS_DATA", raising=False)
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "cache"))
    code, out, err = main(*arguments)
    assert code == 2, err
    assert message in err
    assert "Traceback" not in err + out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BadInput("the file is wrong"), 2, "error: the file is wrong"),
        (BadInput("a file is called \x1b[31m\udcff"), 2, r"error: a file is called \x1b[31m\udcff"),
        (Failure("it did not work"), 1, "error: it did not work"),
        (
            OSError(28, "No space left on device", "runs/x"),
            1,
            "error: the disk is full (runs/x: No space left on device)",
        ),
        (PermissionError(13, "Permission denied", "runs/x"), 2, "error: runs/x: Permission denied"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "error: the machine has not enough memory"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 1, "error: the disk is full"),
        (RuntimeError("Could not determine home directory."), 2, "error: no home folder is known; set HOME, or BERT_"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(main: Main, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("harness.commands.doctor.diagnose", fail)
    got, out, err = main("doctor")
    assert got == code
    assert message in err
    assert "Traceback" not in err + out


def test_a_dry_run_shows_the_plan_and_leaves_nothing_behind(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    matrix = ["--tasks", "mini-ner,mini-sentiment", "--seeds", "5", "--precision", "fp32,bf16", "--device", "cpu"]
    monkeypatch.setattr("harness.measure.client.Worker", None)
    code, out, _ = main("run", "--dry-run", "--impl", "reference,transformers", *matrix)
    assert code == 0
    assert "40 runs to do, 0 recorded, 0 failed before" in out
    assert "42-46" in out
    assert list(tmp_path.iterdir()) == []


def test_labels_that_nobody_declared_are_shown_before_any_work(main: Main, tmp_path: Path) -> None:
    for split, rows in {"train": "a\tgood\nb\tGood\nc\t-\n", "dev": "d\tgood\n"}.items():
        (tmp_path / f"{split}.tsv").write_text(f"text\tlabel\n{rows}")
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntitle: Mine\nkind: classification\nlabels: auto\nformat: tsv\nevaluate: [dev]\n"
        "metrics: [accuracy]\ncolumns: {text: text, label: label}\nfiles: {train: train.tsv, dev: dev.tsv}\n"
    )
    code, _, err = main("run", "--dry-run", "--task", str(tmp_path / "mine.yaml"), "--device", "cpu")
    assert code == 0
    assert err.splitlines() == [
        "mine: `labels: auto` takes 3 labels from the training split: -, Good, good",
        "mine: 'Good' and 'good' are labels that differ only in case or width; is one a mistake?",
        "mine: '-' is one of the labels; are its examples without gold labels? Then declare `ignore: [\"-\"]`",
    ]


def test_report_of_records(main: Main, quality_record: Callable[..., Quality], tmp_path: Path) -> None:
    record.write(quality_record(), tmp_path / "runs" / "one.json")
    code, out, _ = main("report", str(tmp_path / "runs"), "--output", str(tmp_path / "out"))
    assert code == 0
    assert "0.750-0.875" in out
    assert {"report.csv", "report.json", "report.md"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_the_report_beside_the_records_is_of_all_of_them(
    main: Main, quality_record: Callable[..., Quality], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: Any) -> Iterator[Quality]:
        record.write(quality_record(), runs / "now.json")
        yield quality_record()

    runs = tmp_path / "runs"
    monkeypatch.setattr("harness.measure.main_path.run_time", measured)
    record.write(quality_record("transformers"), runs / "before.json")
    code, out, _ = main("time", "--device", "cpu", "--runs", str(runs))
    assert code == 0
    assert "transformers" not in out, "the table is of this command"
    assert all(name in (runs / "report.md").read_text() for name in ("| reference |", "| transformers |"))
    (runs / "before.json").write_text('{"kind": "quality", "schema": 1}')
    code, _, err = main("time", "--device", "cpu", "--runs", str(runs))
    assert code == 0
    assert "the report is of this command's records alone: " in err
    assert "transformers" not in (runs / "report.md").read_text()


def test_report_and_publish_of_a_folder_without_records(main: Main, tmp_path: Path) -> None:
    assert main("report", str(tmp_path))[0] == 2
    assert main("publish", str(tmp_path))[0] == 2


def test_check_record_has_a_line_for_each_that_is_fine_and_refuses_the_first_that_is_not(
    main: Main, put: Put, quality_record: Callable[..., Quality], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main("check-record", str(tmp_path))[0] == 2  # nothing there
    monkeypatch.chdir(tmp_path)
    put(quality_record(), Path("runs/one.json"))
    assert main("check-record", "runs", "runs/one.json") == (0, "runs/one.json: ok\nruns/one.json: ok\n", "")
    put(quality_record(limit=8), Path("runs/two.json"))
    code, out, err = main("check-record", "runs")
    assert (code, out) == (2, "runs/one.json: ok\n")
    assert "runs/two.json: the run was limited to 8 examples" in err


def test_a_file_whose_name_would_steer_the_terminal_is_named_harmlessly(
    main: Main, put: Put, quality_record: Callable[..., Quality], tmp_path: Path
) -> None:
    put(quality_record(), tmp_path / "runs" / "\x1b[31m\udcff.json")
    assert main("check-record", str(tmp_path / "runs"))[1].endswith("\\x1b[31m\\udcff.json: ok\n")


def test_publish_names_what_it_copied(
    main: Main, put: Put, quality_record: Callable[..., Quality], tmp_path: Path
) -> None:
    put(quality_record(), tmp_path / "runs" / "one.json")
    code, out, _ = main("publish", str(tmp_path / "runs"), "--results", str(tmp_path / "results"))
    assert code == 0
    assert [Path(line).name for line in out.splitlines() if Path(line).is_file()] == [
        "one.json",
        "one.predictions.json.gz",
    ]
    put(quality_record(limit=3), tmp_path / "runs" / "one.json")
    assert main("publish", str(tmp_path / "runs"), "--results", str(tmp_path / "results"))[0] == 2


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does when it has its line, only earlier
    done = subprocess.run(
        [sys.executable, "-m", "harness", "list"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        check=False,
    )
    os.close(writer)
    assert done.stderr == ""
    piped = subprocess.run(
        ["bash", "-c", '"$0" -m harness list | head -1', sys.executable],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert piped.stdout.strip() == "implementations"
    assert piped.stderr == ""


def test_it_runs_from_the_repository_without_being_installed(tmp_path: Path) -> None:
    """Without ``site`` no editable install is seen: only the packages themselves, and the current folder."""
    environment = os.environ | {"PYTHONPATH": sysconfig.get_paths()["purelib"]}
    command = [sys.executable, "-S", "-m", "harness", "list"]
    options: dict[str, Any] = {"capture_output": True, "text": True, "env": environment, "check": False}
    done = subprocess.run(command, cwd=ROOT, **options)
    assert done.returncode == 0, done.stderr
    assert "transformers:eager" in done.stdout
    assert "No module named harness" in subprocess.run(command, cwd=tmp_path, **options).stderr, "it was not installed"


def test_shapes_longer_than_the_position_table_are_refused(main: Main, tmp_path: Path) -> None:
    code, _, err = main("time", "--impl", "reference", "--shapes", "1x16,2x600", "--runs", str(tmp_path / "runs"))
    assert code == 2
    assert "--shapes 2x600: this model takes at most 512 tokens" in err
    assert not (tmp_path / "runs").exists()


def test_history_shows_what_was_measured_at_several_commits(
    main: Main, quality_record: Callable[..., Quality], put: Put, tmp_path: Path
) -> None:
    for number, commit in enumerate(("a" * 40, "b" * 40)):
        put(quality_record(commit=commit, started=f"2026-11-0{number + 1}"), tmp_path / f"{commit[0]}.json")
    put(quality_record("transformers"), tmp_path / "c.json")
    code, out, _ = main("history", str(tmp_path))
    assert code == 0
    assert "aaaaaaaa" in out
    assert "bbbbbbbb" in out
    assert "transformers" not in out
    assert "not shown, as they were measured at one commit alone: 1 figures" in out


def test_an_older_python_is_refused_before_anything_of_it_is_missing() -> None:
    pretend = "import runpy, sys; sys.version_info = (3, 10, 9); runpy.run_module('harness', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", pretend, "list"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("BERT Atlas needs Python 3.11 or newer, and this is ")
