"""The main path can be followed: few calls lie between the command line and a written record."""

import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from harness import cli
from harness.measure import client, speed
from harness.measure.bench import Bench
from harness.port.batch import Array, Batch
from harness.records import record
from harness.registry.implementations import Implementation
from tests.conftest import new_cache

HARNESS = Path(record.__file__).parents[1]
MOST = 7  # calls on the stack of the thread that writes
MOST_IN_ALL = 9  # with those of the main thread, which waits meanwhile


class Computes:
    """Takes the place of a worker, and computes nothing: any implementation but the reference only encodes."""

    alive = True

    def __init__(self, implementation: Implementation) -> None:
        self.implementation, self.folder = implementation, Path()
        self.info: dict[str, Any] = {"version": "1", "batching": "packed", "precision": "fp32", "computed": "fp32"}
        self.info["trainable"] = implementation.name == "reference"

    def __enter__(self) -> "Computes":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass

    def load(self, folder: Path, *_: Any) -> None:
        self.folder = folder

    def encode(self, batch: Batch) -> client.Encoded:
        return client.Encoded(np.ones((len(batch.ids), 32)), None)

    def layers(self, batch: Batch) -> list[Array]:
        return []

    def tokenize(self, texts: list[str]) -> None:
        return None

    def predict(self, batch: Batch, *_: Any) -> Array:
        return np.tile(np.array([1.0, 0.0]), (len(batch.lengths), 1))

    def start_training(self, *_: Any) -> None:
        return None

    def train_epoch(self, *_: Any) -> client.Epoch:
        return client.Epoch(0.5, 1.0, 1.0)

    def export(self) -> dict[str, Array]:
        return dict(load_file(self.folder / "model.safetensors"))

    def memory(self) -> dict[str, int | None]:
        return {"resident": 1, "gpu": None}

    def time(self, batch: Batch, sequences: int | None, tokens: int | None, repeats: int) -> client.Seconds:
        return client.Seconds(np.ones(repeats), np.ones(repeats))

    def limits(self, *_: Any) -> dict[str, Any]:
        return {}


def ours(stack: Iterable[traceback.FrameSummary]) -> list[str]:
    return [f"{Path(each.filename).name}:{each.name}" for each in stack if Path(each.filename).is_relative_to(HARNESS)]


def waiting() -> list[str]:
    """Our calls on the stack of the main thread; none if this is the main thread."""
    main = threading.main_thread()
    if threading.current_thread() is main:
        return []
    frame: FrameType = sys._current_frames()[main.ident or 0]
    return ours(traceback.extract_stack(frame))


def test_few_calls_lie_between_the_command_line_and_any_record(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks: dict[str, tuple[list[str], list[str]]] = {}
    write = record.write

    def spy(result: record.Record, path: Path) -> None:
        by_reference = isinstance(result, record.Quality) and "by" in result.training
        name = f"{result.kind}, encoded" if by_reference else result.kind
        stacks[name] = [*ours(traceback.extract_stack()), "record.py:write"], waiting()
        write(result, path)

    monkeypatch.setattr(record, "write", spy)
    monkeypatch.setattr(Bench, "start", lambda _, implementation, **__: Computes(implementation))
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    monkeypatch.setenv("BERT_ATLAS_CACHE", new_cache(tmp_path / "cache"))
    options = ["--weights", str(tiny_checkpoint), "--device", "cpu", "--limit", "8", "--epochs", "1"]
    command = ["run", "--impl", "reference,transformers", "--tasks", "mini-sentiment", "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["harness", *command, *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert stacks.keys() == {"parity", "quality", "quality, encoded", "speed"}
    assert stacks["quality"][0][0] == "cli.py:main"
    for name, (own, others) in stacks.items():
        assert len(own) <= MOST, (name, own)
        assert len(own) + len(others) <= MOST_IN_ALL, (name, others, own)
