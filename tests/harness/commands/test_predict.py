"""The command predict: what it takes, where it writes, and what it says."""

import io
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import cli
from harness.data.reading import SplitFile
from harness.data.task import load_task
from harness.weights.saved_model import describe
from reference.checkpoint import add_head, read, save

Said = tuple[int, str, str]
Predict = Callable[..., Said]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of a task whose texts are in a column called message."""
    folder = tmp_path_factory.mktemp("model")
    task = load_task("mini-sentiment")
    dev = SplitFile(Path("dev.csv"), True, {"text": "message", "label": "team"})
    task = replace(task, labels={"好": "好", "坏": "坏"}, files={"dev": dev}, format="csv", max_length=16)
    save(add_head(read(tiny_checkpoint), task.kind, task.outputs, seed=1), folder, task.kind)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copyfile(tiny_checkpoint / name, folder / name)
    describe(task, "0" * 64, "cpu", "fp32", folder)
    return folder


@pytest.fixture
def predict(model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Predict:
    """A function: arguments after the model to exit code, standard output and standard error."""
    for name in ("OMP", "MKL", "OPENBLAS", "TF"):
        for of in ("NUM_THREADS", "NUM_INTRAOP_THREADS", "NUM_INTEROP_THREADS"):
            monkeypatch.setenv(f"{name}_{of}", "1")  # which are set where a model is loaded
    threads = torch.get_num_threads()

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["harness", "predict", str(model), *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        torch.set_num_threads(threads)
        said = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return call


def test_texts_of_the_command_line(predict: Predict) -> None:
    code, out, err = predict("--text", "Where is my parcel?", "--text", "")
    lines = [line.split("\t") for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert lines[0] == ["id", "label", "probability"]
    assert [line[0] for line in lines[1:]] == ["0", "1"]
    assert {line[1] for line in lines[1:]} <= {"好", "坏"}


def test_standard_input_gets_the_answers_of_the_same_file(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "message,team\nWhere is it?,\nNowhere.,x\n"
    (tmp_path / "a.csv").write_text(content)
    of_file = predict(str(tmp_path / "a.csv"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert predict("-", "--format", "csv") == of_file
    assert of_file[0] == 0


def test_the_answers_are_written_before_anything_is_said(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("long " * 40)
    code, out, err = predict(str(tmp_path / "a.txt"), "--output", str(tmp_path / "o.jsonl"))
    assert (code, out) == (0, "")
    assert err == "1 of 1 inputs were cut to what the model reads\n"
    assert (tmp_path / "o.jsonl").read_text(encoding="utf-8").startswith('{"id": "0", "label": "')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a file, - for standard input, or --text"),
        (["a.txt", "--text", "x"], "give a file, - for standard input, or --text"),
        (["--text", "x", "--format", "csv"], "--format and --columns are for files"),
        (
            ["a.csv", "--columns", "message"],
            "--columns: 'message' is not of the form ROLE=COLUMN, such as text=message",
        ),
        (["a.csv", "--precision", "fp8"], "--precision 'fp8' is not one of auto, fp32"),
        (["a.csv", "--threads", "0"], "--threads is 0; it must be above 0"),
        (
            ["--text", "x", "--output", "absent/o.tsv"],
            "--output: absent/o.tsv cannot be written: its folder is not there",
        ),
        (["--text", "x", "--output", "."], "--output: . cannot be written: it is a folder"),
        (["absent.csv"], "absent.csv is not there"),
        (["--text", "x", "--device", "gpu"], "device 'gpu' is not one that torch computes on"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(predict: Predict, arguments: list[str], message: str) -> None:
    code, out, err = predict(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
