"""Timing of fine-tuning: who takes part, on which batches, and what the record says."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.measure import speed, training_speed
from harness.measure.bench import Bench
from harness.measure.client import Worker
from harness.measure.plan import Options, prepare
from harness.port.batch import Array, Batch, shuffled, shuffled_by_length
from harness.records import machine, record
from harness.registry.implementations import describe, find
from harness.weights.checkpoints import Checkpoints

STUBS = Path(__file__).parents[1] / "stubs"
LIMIT = 20


@pytest.fixture
def timed(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[record.Speed]]:
    """A function that times fine-tuning of the reference, transformers and a stub that only encodes."""
    monkeypatch.setattr(speed, "cache_folder", lambda: tmp_path / "cache")

    def run(*tasks: str, **options: Any) -> list[record.Speed]:
        made = prepare(
            Options(
                implementations=["reference", "transformers"],
                tasks=list(tasks),
                weights=str(tiny_checkpoint),
                runs=tmp_path / "runs",
                device="cpu",
                threads=1,
                limit=LIMIT,
                batch_size=8,
                **options,
            )
        )
        chosen = [find("reference"), find("transformers"), describe(STUBS / "encoder.py")[0]]
        interpreters = {each.name: Path(sys.executable) for each in chosen}
        checkpoints = Checkpoints(made.weights.folder, made.tokenizer, tmp_path)
        bench = Bench(made, interpreters, checkpoints, lambda *_: None)
        done = list(training_speed.run_training(bench, chosen))
        assert sorted(record.read_all([tmp_path / "runs"]), key=lambda each: each.key) == sorted(
            done, key=lambda each: each.key
        )
        return done

    return run


def test_those_that_can_be_trained_take_turns_at_epochs(timed: Callable[..., list[record.Speed]]) -> None:
    similarity, words = timed("mini-similarity", "mini-ner")

    assert [similarity.shape["name"], words.shape["name"]] == ["mini-similarity, training", "mini-ner, training"]
    for result in (similarity, words):
        assert result.state == "ok"
        assert set(result.implementations) == {"reference", "transformers"}
        assert result.shape["sequences"] == LIMIT
        assert result.shape["own_lengths"]
        assert result.precision["resolved"] == ("bf16" if machine.hardware_bf16() else "fp32")
        for figures in result.implementations.values():
            assert np.shape(figures["wall"]) == (speed.ROUNDS, 1)
            assert figures["sequences_per_second"] == pytest.approx(LIMIT / figures["p50"])
            low, high = figures["ratio"][1:]
            assert low <= figures["ratio"][0] <= high


@pytest.mark.parametrize(
    ("by_length", "batches"),
    [(False, {"packed": "by length", "padded": "random"}), (True, {"packed": "by length", "padded": "by length"})],
)
def test_one_that_pads_gets_random_batches_as_its_users_feed_it(
    timed: Callable[..., list[record.Speed]],
    monkeypatch: pytest.MonkeyPatch,
    by_length: bool,
    batches: dict[str, str],
) -> None:
    fed: dict[str, Any] = {}
    start_training = Worker.start_training

    def spied(worker: Worker, batch: Batch, labels: Array, recipe: dict[str, Any], kind: str, seed: int) -> Any:
        fed[worker.info["batching"]] = recipe["batches"]
        return start_training(worker, batch, labels, recipe, kind, seed)

    monkeypatch.setattr(Worker, "start_training", spied)
    (result,) = timed("mini-sentiment", by_length=by_length)

    assert fed == batches
    assert result.shape["name"] == "mini-sentiment, training" + (", by length" if by_length else "")


def test_an_epoch_of_either_kind_has_every_sequence_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 100)
    padding = {}
    for shuffle in (shuffled, shuffled_by_length):
        epoch = shuffle(lengths, 8, np.random.default_rng(1))
        assert sorted(np.concatenate(epoch).tolist()) == list(range(100))
        assert [len(each) for each in epoch].count(8) == 12
        padding[shuffle] = sum(int(lengths[each].max()) * len(each) for each in epoch) / lengths.sum()
    assert padding[shuffled_by_length] < 1.3 < 1.6 < padding[shuffled]
