"""Parity of training as a whole, with workers in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.measure.bench import Bench
from harness.measure.client import Worker
from harness.measure.plan import Plan
from harness.measure.training.parity import measure_training, training_batch
from harness.records import record
from harness.registry.implementations import Implementation
from harness.weights.checkpoints import Checkpoints
from harness.worker.session import COMMANDS, Session
from reference.tokenizer import Tokenizer

SUMMED = str(Path(__file__).parents[2] / "stubs" / "summed.py")


class InThisProcess(Worker):
    """A worker whose commands are carried out by a session of this process."""

    def __init__(self, implementation: Implementation) -> None:
        self.implementation, self.checkout, self.rank, self.world = implementation, None, 0, 1
        self.session = Session(implementation.file, lambda **_: None)

    def close(self) -> None:
        pass

    def _ask(self, name: str, on_progress: Any = None, timeout: float | None = None, **arguments: Any) -> Any:
        answer, arrays = COMMANDS[name](self.session, **arguments | ({"cpus": None} if name == "load" else {}))
        return answer, {name: array.copy() for name, array in arrays.items()}  # a pipe copies them too


class Here(Bench):
    def start(self, implementation: Implementation, beside_others: bool = False) -> Worker:
        return InThisProcess(implementation)


@pytest.fixture
def measured(
    prepared: Callable[..., Plan], parity_record: Callable[..., record.Parity], tmp_path: Path
) -> Callable[..., list[record.Parity]]:
    """A function: implementations, and fields of their records of parity, to the records with training."""

    def measure(*names: str, **fields: Any) -> list[record.Parity]:
        plan = prepared(implementations=list(names), tasks=["mini-sentiment"], threads=1)
        checkpoints = Checkpoints(plan.weights.folder, plan.tokenizer, tmp_path)
        bench = Here(plan, {}, checkpoints, lambda *_: None)
        parities = [
            parity_record(each.name, implementation={"name": each.name, "trainable": True}, **fields)
            for each in plan.implementations
        ]
        found = list(measure_training(bench, parities))
        written = record.read_all([tmp_path / "runs"]) if (tmp_path / "runs").exists() else []
        names = {each.implementation["name"] for each in written if isinstance(each, record.Parity) and each.training}
        assert names == {each.implementation["name"] for each in found if each.training}
        return found

    return measure


@pytest.mark.slow
def test_the_reference_is_exact_and_a_summed_loss_is_found(measured: Callable[..., list[record.Parity]]) -> None:
    exact, summed = (each.training for each in measured("reference", SUMMED))
    assert (exact["state"], summed["state"]) == ("ok", "ok"), summed["reason"]
    assert exact["gradients"]["verdict"] == exact["weights"]["verdict"] == "exact"
    assert exact["gradients"]["differences"]["fp64"]["max"] == exact["weights"]["differences"]["max"] == 0
    assert exact["gradients"]["differences"]["fp32"]["max"] == exact["gradients"]["floor"] < 1e-4
    assert exact["weights"]["optimizer"] == "harness"
    assert not exact["gradients"]["dropout"], "the configuration sets it to 0"
    assert len(exact["gradients"]["weights"]) > 30
    assert exact["dropout"]["sentence"] == summed["dropout"]["sentence"] == ""
    assert summed["gradients"]["verdict"] == "differs"
    assert summed["gradients"]["diagnosis"]["summed"]
    assert summed["gradients"]["diagnosis"]["sentence"] == "the loss is summed over the batch, not averaged"
    assert summed["weights"]["optimizer"] == "own"
    assert "not reproduced" in summed["weights"]["diagnosis"]["sentence"], "plain descent is no Adam"


def test_others_than_trainable_ones_stay_as_they_are(measured: Callable[..., list[record.Parity]]) -> None:
    (failed,) = measured("reference", state="failed", reason="no", differences={})
    assert failed.training == {}


def test_one_that_fails_says_why(measured: Callable[..., list[record.Parity]], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("no gradient here")

    monkeypatch.setattr("harness.measure.training.gradients.verdict", fails)
    (found,) = measured("reference")
    assert found.state == "ok", "its hidden states are what they were"
    assert (found.training["state"], found.training["reason"]) == ("failed", "no gradient here")


def test_the_batch_has_all_labels_and_no_padding_id(minilm_folder: Path) -> None:
    batch, labels = training_batch(Tokenizer.from_folder(minilm_folder), 512, 2)
    assert len(batch.lengths) == len(labels)
    assert set(labels.tolist()) == {0, 1, 2}
    assert 0 not in batch.ids
    assert batch.lengths.max() == 32
    assert set(batch.segments.tolist()) == {0, 1}
