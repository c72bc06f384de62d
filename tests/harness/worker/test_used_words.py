"""Training only the rows of the word embeddings that are in use: what comes out is what it would be with all."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness.implementations import reference
from harness.port.batch import Batch, from_lists
from harness.worker.finetune import Training
from reference.checkpoint import build, read

RECIPE: dict[str, Any] = {
    "epochs": 3,
    "learning_rate": 1e-2,
    "batch_size": 4,
    "warmup": 0.1,
    "weight_decay": 0.1,
    "max_grad_norm": 1.0,
    "precision": "fp32",
    "micro_batches": 1,
}
WORDS = "bert.embeddings.word_embeddings.weight"
Heads = Callable[[str], Path]


def data() -> Batch:
    generator = np.random.default_rng(3)
    ids = [[101, *map(int, generator.integers(1000, 1100, 5)), 102] for _ in range(20)]
    return from_lists(ids, [[0] * 7] * 20)


def double(folder: Path) -> reference.TrainableEncoder:
    """In float64 and without dropout."""
    checkpoint = read(folder)
    config = replace(checkpoint.config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return reference.TrainableEncoder(build(replace(checkpoint, config=config), "classification", torch.float64), "cpu")


def trained(model: Any, epochs: int = 3) -> list[float]:
    training = Training(model, data(), np.arange(20) % 3, "classification", RECIPE, seed=0)
    return [training.epoch(lambda **_: None) for _ in range(epochs)]


def test_all_weights_become_what_they_would_with_the_whole_table(tiny_head: Heads) -> None:
    some, whole = double(tiny_head("classification")), double(tiny_head("classification"))
    before = some.export()[WORDS].copy()
    losses = trained(some)
    assert losses == pytest.approx(trained(SimpleNamespace(module=whole.module, logits=whole.logits)), abs=1e-12)
    for name, tensor in some.module.state_dict().items():
        torch.testing.assert_close(tensor, whole.module.state_dict()[name], rtol=0, atol=1e-12)
    others = np.setdiff1d(np.arange(len(before)), data().ids)
    moved = some.export()[WORDS][others] / before[others]
    assert moved == pytest.approx(np.full_like(moved, moved[0, 0]), rel=1e-6), "the others only decay"
    assert 0.9 < moved[0, 0] < 0.999


def test_between_epochs_the_model_knows_all_words(tiny_head: Heads) -> None:
    model = double(tiny_head("classification"))
    trained(model, epochs=1)
    unseen = from_lists([[101, 7, 8, 102]], [[0] * 4])
    assert np.isfinite(model.logits(unseen).detach().numpy()).all()
    assert model.export()[WORDS].shape == (len(double(tiny_head("classification")).export()[WORDS]), 32)


def test_an_epoch_that_is_stopped_leaves_the_whole_table(tiny_head: Heads) -> None:
    model = double(tiny_head("classification"))
    table = model.embeddings.word
    training = Training(model, data(), np.arange(20) % 3, "classification", RECIPE, seed=0)

    def stop(**_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.epoch(stop)
    assert model.embeddings.word is table
    assert len(list(model.module.parameters())) == len(list(double(tiny_head("classification")).module.parameters()))
