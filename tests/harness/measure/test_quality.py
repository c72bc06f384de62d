"""Runs of those that only encode, that need a repository, and that are programs of their own, from end to end."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harness import cli
from harness.measure import speed
from harness.records import record
from harness.records.record import Parity, Quality, Speed
from tests.conftest import new_cache

pytestmark = pytest.mark.slow
STUBS = Path(__file__).parents[1] / "stubs"
# Encodes as the stub ``encoder`` does, with a factor from a repository.
PORT = """
import importlib.util

NAME = "port"
TITLE = "A port that is only a repository"
CATALOG_ID = "port"
CHECKOUT = "https://example.org/port"
DEVIATIONS = {"factor": "hidden states are multiplied"}


def load(folder, head, device, precision, variant=""):
    import port_of_a_repository  # its own code, from the checkout

    spec = importlib.util.spec_from_file_location("stub_encoder", ENCODER)
    stub = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stub)

    class Model(stub.Model):
        version = f"port {port_of_a_repository.VERSION}"

        def encode(self, batch):
            return super().encode(batch) * port_of_a_repository.FACTOR

    return Model(stub.load(folder, head, device, precision).bert, "padded")
"""
TOOL = """
NAME = "tool"
TITLE = "A program that does a task"
CATALOG_ID = "tool"
JOB = ["mini-sentiment"]


def job(checkout, weights, task, splits, out, progress):
    progress(what="counting words", done=1, total=1)
    assert (checkout, task["outputs"]) == (None, ["negative", "positive"])
    assert sorted(f.name for f in __import__("pathlib").Path(weights).glob("*model*")) == ["model.safetensors"]
    assert {"id", "text", "pair", "label"} <= set(splits["train"][0])
    predictions = {name: [each["label"] for each in examples] for name, examples in splits.items()}
    return {"version": "tool 3", "recipe": "it looks the answers up", "predictions": predictions}
"""


@pytest.fixture(scope="module", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A package that registers the three, a cache of its own, and short turns of timing."""
    package = tmp_path_factory.mktemp("site")
    (package / "kinds_port.py").write_text(PORT.replace("ENCODER)", f"{str(STUBS / 'encoder.py')!r})"))
    (package / "kinds_tool.py").write_text(TOOL)
    shutil.copyfile(STUBS / "encoder.py", package / "kinds_encoder.py")
    info = package / "kinds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kinds\nVersion: 1.0\n")
    lines = [f"{name} = kinds_{name}" for name in ("port", "tool", "encoder")]
    (info / "entry_points.txt").write_text("[bert_atlas.implementations]\n" + "\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "SECONDS", 0.01)
        patch.setenv("BERT_ATLAS_CACHE", new_cache(tmp_path_factory.mktemp("own") / "cache"))
        patch.delenv("BERT_ATLAS_CHECKOUTS", raising=False)
        patch.syspath_prepend(package)
        yield


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit."""
    folder = tmp_path_factory.mktemp("port-repository")
    (folder / "port_of_a_repository.py").write_text("VERSION = '0.1'\nFACTOR = 1.25\n")
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(folder)]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    return folder


def main(command: str, runs: Path, weights: Path, *arguments: str) -> tuple[int, str, list[Any]]:
    """Exit code, what was printed, and the records."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        common = ["--runs", str(runs), "--weights", str(weights), "--device", "cpu", "--threads", "1"]
        patch.setattr(sys, "argv", ["harness", command, *arguments, *common])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, out.getvalue(), record.read_all([runs])


def of(records: list[Any], kind: type, name: str) -> Any:
    """The record of this kind and implementation."""
    (found,) = [each for each in records if isinstance(each, kind) and each.implementation["name"] == name]
    return found


SMALL = ["--tasks", "mini-sentiment", "--limit", "16", "--epochs", "1"]
FEW = ["--tasks", "mini-ner", "--limit", "8"]


def test_one_that_only_encodes_gets_the_weights_that_the_reference_fine_tuned(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    code, _, records = main("run", tmp_path / "runs", tiny_checkpoint, "--impl", "encoder,reference", *SMALL)
    assert code == 0
    reference, encoder = of(records, Quality, "reference"), of(records, Quality, "encoder")
    assert encoder.training["by"] == "reference"
    predictions = [
        record.read_predictions(tmp_path / "runs" / "quality" / each.predictions) for each in (reference, encoder)
    ]
    assert predictions[0] == predictions[1], "the same weights, and the same encoder"
    assert encoder.metrics == reference.metrics
    (timed,) = [each for each in records if isinstance(each, Speed) and each.shape["name"] == "8 x 128"]
    assert {name: figures["state"] for name, figures in timed.implementations.items()} == {
        "reference": "ok",
        "encoder": "ok",
    }
    assert timed.load["quiet"] >= 1


@pytest.fixture(scope="module")
def encoded(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Quality]:
    """The folder of a run of one that only encodes, and its quality record."""
    runs = tmp_path_factory.mktemp("encoded") / "runs"
    code, _, records = main("run", runs, tiny_checkpoint, "--impl", "encoder", *FEW, "--epochs", "1")
    assert code == 0
    assert {each.implementation["name"] for each in records if isinstance(each, Quality)} == {"encoder"}
    return runs, of(records, Quality, "encoder")


def encode_again(runs: Path, weights: Path, epochs: str = "1") -> tuple[str, Quality]:
    """What a repeated run printed, and its record. Parity and timing are kept, which saves most of its processes."""
    shutil.rmtree(runs / "quality")
    code, out, records = main("run", runs, weights, "--impl", "encoder", *FEW, "--epochs", epochs)
    assert code == 0
    return out, of(records, Quality, "encoder")


def tuned() -> Path:
    return Path(os.environ["BERT_ATLAS_CACHE"]) / "tuned"


def test_the_weights_are_trained_once_where_the_reference_takes_no_part(
    encoded: tuple[Path, Quality], tiny_checkpoint: Path
) -> None:
    runs, first = encoded
    out, again = encode_again(runs, tiny_checkpoint)
    assert "weights for" not in out
    assert again.metrics == first.metrics


def test_weights_whose_description_is_damaged_are_trained_again(
    encoded: tuple[Path, Quality], tiny_checkpoint: Path
) -> None:
    (description,) = tuned().glob("mini-ner-*/bert_atlas.json")
    sound = description.read_text()
    description.write_text("{")
    encode_again(encoded[0], tiny_checkpoint)
    assert description.read_text() == sound


def test_weights_that_nothing_asked_for_in_a_week_are_deleted(
    encoded: tuple[Path, Quality], tiny_checkpoint: Path
) -> None:
    def run(epochs: str) -> set[str]:
        encode_again(encoded[0], tiny_checkpoint, epochs)
        return {folder.name for folder in tuned().glob("mini-ner-42-*")}

    def age(name: str, days: int) -> None:
        os.utime(tuned() / name, times=(time.time() - days * 86400,) * 2)

    (one,) = (folder.name for folder in tuned().glob("mini-ner-42-*"))
    age(one, 8)
    assert run("1") == {one}, "what is used is kept, however old"
    age(one, 6)
    (two,) = run("2") - {one}
    age(one, 8)
    assert one not in run("3") >= {two}


def test_a_repository_is_used_from_the_checkout_that_is_named(
    checkout: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    code, out, records = main(
        "parity", tmp_path / "runs", tiny_checkpoint, "--impl", "port", "--checkout", f"port={checkout}", "--layers"
    )
    assert code == 0
    parity = of(records, Parity, "port")
    head = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    assert parity.implementation["checkout"] == {"address": "https://example.org/port", "commit": commit}
    assert parity.implementation["version"] == "port 0.1"
    assert parity.verdict == "close", "a factor does not change directions"
    assert parity.diagnosis["reproduced"] is False
    assert "port" in out


def test_without_a_checkout_it_is_skipped_and_the_run_goes_on(tiny_checkpoint: Path, tmp_path: Path) -> None:
    code, out, records = main("parity", tmp_path / "runs", tiny_checkpoint, "--impl", "port,reference")
    assert code == 0, "skipped is no failure"
    assert of(records, Parity, "port").state == "skipped"
    assert "needs a checkout of https://example.org/port" in " ".join(out.split())
    assert of(records, Parity, "reference").verdict == "exact"


def test_checkouts_may_stand_in_a_file(
    checkout: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkouts.yaml").write_text(f"port: {checkout}\n")
    monkeypatch.setenv("BERT_ATLAS_CHECKOUTS", str(tmp_path / "checkouts.yaml"))
    code, _, records = main("parity", tmp_path / "runs", tiny_checkpoint, "--impl", "port")
    assert (code, of(records, Parity, "port").state) == (0, "ok")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkout", "port"], "'port' is not of the form NAME=FOLDER"),
        (["--checkout", "prot=/tmp"], "no implementation of that name uses a repository"),
        (["--checkout", "reference=/tmp"], "no implementation of that name uses a repository"),
        (["--checkout", "port=/no/such/folder"], "/no/such/folder, which is no folder"),
    ],
)
def test_a_wrong_checkout_is_bad_input(
    tiny_checkpoint: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "runs").mkdir()
    code, out, _ = main("parity", tmp_path / "runs", tiny_checkpoint, "--impl", "port", *arguments)
    assert code == 2
    assert message in " ".join(out.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- port", "not a mapping of implementations to folders"),
        ("port: 3", "not a mapping of implementations to folders"),
        ("port: [", "not valid YAML"),
        ("port: 2024-13-45", "'2024-13-45' is no value"),
        ("port: ~nobody-at-all/x", "no home folder is known for ~nobody-at-all"),
    ],
)
def test_a_file_of_checkouts_that_is_none_is_bad_input(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "checkouts.yaml").write_text(text)
    monkeypatch.setenv("BERT_ATLAS_CHECKOUTS", str(tmp_path / "checkouts.yaml"))
    code, out, _ = main("parity", tmp_path / "runs", tiny_checkpoint, "--impl", "port")
    assert code == 2
    assert message in " ".join(out.split())


def test_a_program_does_its_own_job_and_is_scored_by_our_metrics(tiny_checkpoint: Path, tmp_path: Path) -> None:
    code, _, records = main("run", tmp_path / "runs", tiny_checkpoint, "--impl", "tool", *SMALL)
    assert code == 0
    quality = of(records, Quality, "tool")
    assert [metric["value"] for metric in quality.metrics if metric["name"] == "accuracy"] == [1.0]
    assert quality.recipe["own"] == "it looks the answers up"
    assert quality.implementation["version"] == "tool 3"
    assert not [each for each in records if isinstance(each, Parity)], "there is no encoder to compare"


def test_there_is_no_model_to_save_of_those_that_only_encode(tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["--impl", "encoder", "--tasks", "mini-ner", "--save-model", str(tmp_path / "model")]
    code, out, _ = main("run", tmp_path / "runs", tiny_checkpoint, *arguments)
    assert code == 2
    assert "--save-model: nothing that is fine-tuned is among encoder; reference is" in " ".join(out.split())


def test_weights_as_people_have_them_without_a_pooler(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "weights"))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    kept = {f"module.{name}": tensor for name, tensor in tensors.items() if "pooler" not in name}
    torch.save({"model": kept, "epoch": 3}, folder / "pytorch_model.bin")
    few = ["--tasks", "mini-sentiment", "--limit", "8", "--epochs", "1"]

    code, out, records = main("run", tmp_path / "runs", folder, "--impl", "reference,tool", *few)

    assert code == 0, out
    assert "weights: the names of its tensors begin with module., which is taken off" in out
    pooler = ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]
    drawn = record.flag("the weights have no pooler: it was drawn at random, like the head")
    assert of(records, Quality, "reference").checkpoint["initialised"] == pooler
    assert drawn in of(records, Quality, "reference").flags
    assert "it was drawn at random" in out
    assert of(records, Quality, "tool").checkpoint["initialised"] == [], "how a program begins is not known"
    parity = of(records, Parity, "reference")
    assert parity.checkpoint["initialised"] == []
    assert "pooled" not in parity.differences["fp32"], "numbers drawn at random say nothing"
