"""The training loop: what it computes, step by step, for any module."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.implementations import reference, transformers
from harness.port.batch import IGNORE, Batch, from_lists, pad
from harness.worker.finetune import Training, loss_of, loss_terms, predict
from harness.worker.messages import Array
from reference.adamw import MixedAdamW
from reference.checkpoint import build, read

KINDS = ["classification", "regression", "multi-label", "tagging", "question-answering"]
RECIPE: dict[str, Any] = {
    "epochs": 2,
    "learning_rate": 1e-3,
    "batch_size": 8,
    "warmup": 0.1,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "precision": "fp32",
    "micro_batches": 1,
}
Heads = Callable[[str], Path]


def toy(kind: str, sequences: int = 20) -> tuple[Batch, Array]:
    """Sequences whose labels follow from their tokens: from the second one, and in tagging from each.

    Answers begin with the greatest token of the sequence and end with its last.
    """
    generator = np.random.default_rng(7)
    ids = [[101, *generator.integers(1000, 1012, generator.integers(2, 9)), 102] for _ in range(sequences)]
    batch = from_lists([list(map(int, sequence)) for sequence in ids], [[0] * len(sequence) for sequence in ids])
    first = np.array([sequence[1] for sequence in ids])
    if kind == "regression":
        return batch, ((first - 1000) / 6).astype(np.float32)
    if kind == "multi-label":
        return batch, (first[:, None] >> np.arange(4) & 1).astype(np.float32)
    if kind == "tagging":
        return batch, np.where(batch.ids >= 1000, batch.ids % 5, IGNORE)
    if kind == "question-answering":
        return batch, np.array([[np.argmax(sequence), len(sequence) - 2] for sequence in ids])
    return batch, first % 3


def exact_model(folder: Path, head: str, dtype: torch.dtype = torch.float64) -> reference.TrainableEncoder:
    """Without dropout and, unless asked otherwise, in float64: only the order of summation is left to differ."""
    checkpoint = read(folder)
    config = replace(checkpoint.config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return reference.TrainableEncoder(build(replace(checkpoint, config=config), head, dtype), "cpu")


def quiet(**_: Any) -> None:
    pass


def trained(model: Any, kind: str, seed: int = 0, **changes: Any) -> list[float]:
    """The loss of every epoch of training on the toy set."""
    recipe = RECIPE | changes
    training = Training(model, *toy(kind), kind, recipe, seed)
    return [training.epoch(quiet) for _ in range(recipe["epochs"])]


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.module.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_that_of_transformers(tiny_head: Heads, kind: str) -> None:
    model, (batch, labels) = transformers.load(str(tiny_head(kind)), kind, "cpu", "fp64"), toy(kind)
    if kind == "question-answering":  # in transformers padding is part of this loss: all of one length
        batch = from_lists(batch.ids[:60].reshape(12, 5).tolist(), [[0] * 5] * 12)
        labels = labels[:12] % 5
    expected_labels = torch.from_numpy(labels)
    if kind == "tagging":
        expected_labels = torch.full(pad(batch)[0].shape, IGNORE)
        expected_labels[torch.from_numpy(pad(batch)[2] == 1)] = torch.from_numpy(labels)
    elif kind not in ("classification", "question-answering"):
        expected_labels = expected_labels.double()
    with torch.inference_mode():
        right = {"labels": expected_labels}
        if kind == "question-answering":
            right = dict(zip(("start_positions", "end_positions"), torch.from_numpy(labels).T, strict=True))
        expected = model.module(**model.inputs(batch), **right).loss
        loss = loss_of(kind, model.logits(batch), torch.from_numpy(labels), batch.lengths) / loss_terms(kind, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_loss_is_computed_in_float32_from_half_precision() -> None:
    logits, labels = torch.tensor([[8.0, -8.0], [3.0, 1.0]]), torch.tensor([1, 0])
    lengths = np.array([1, 1])
    loss = loss_of("classification", logits.bfloat16(), labels, lengths)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_of("classification", logits, labels, lengths))


@pytest.mark.parametrize(
    ("implementation", "kind"),
    [
        *((reference, kind) for kind in KINDS),
        *((transformers, kind) for kind in ("classification", "tagging", "question-answering")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.NAME,
)
def test_a_toy_set_is_learned(tiny_head: Heads, implementation: Any, kind: str) -> None:
    model = implementation.load(str(tiny_head(kind)), kind, "cpu", "fp32")
    first, *_, last = trained(model, kind, epochs=20, learning_rate=3e-3, batch_size=4)
    assert last < 0.5 * first
    assert not model.module.training, "after an epoch the model is ready to be scored"


def test_the_seed_alone_decides(tiny_head: Heads) -> None:
    losses, states = [], []
    for seed in (1, 1, 2):
        torch.rand(seed)  # what was drawn before must not matter
        model = reference.load(str(tiny_head("classification")), "classification", "cpu", "fp32")
        losses.append(trained(model, "classification", seed))
        states.append(weights(model))
    assert losses[0] == losses[1] != losses[2]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["classifier.weight"], states[2]["classifier.weight"])


def test_every_implementation_sees_the_same_batches(tiny_head: Heads) -> None:
    seen: list[list[list[int]]] = []
    used = np.unique(toy("tagging")[0].ids)
    for implementation in (reference, transformers):
        ids = used if implementation is reference else np.arange(2000)  # it trains these alone, renumbered
        model = implementation.load(str(tiny_head("tagging")), "tagging", "cpu", "fp32")
        fed: list[list[int]] = []
        logits = model.logits
        model.logits = lambda batch, fed=fed, logits=logits, ids=ids: (
            fed.append(ids[batch.ids].tolist()) or logits(batch)
        )
        trained(model, "tagging")
        seen.append(fed)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2 * 3
    assert sorted(sum(map(len, seen[0][i : i + 3])) for i in (0, 3)) == [len(toy("tagging")[0].ids)] * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [2, 3, 100])
def test_micro_batches_make_the_same_step(tiny_head: Heads, kind: str, pieces: int) -> None:
    gradients, losses, states = [], [], []
    for micro_batches in (1, pieces):
        model = exact_model(tiny_head(kind), kind)
        losses.append(trained(model, kind, epochs=1, batch_size=20, micro_batches=micro_batches))
        gradients.append({name: p.grad for name, p in model.module.named_parameters()})
        states.append(weights(model))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(states[0], states[1], rtol=1e-9, atol=1e-9)
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_an_epoch_is_the_mean_over_all_its_terms(tiny_head: Heads, kind: str) -> None:
    batch, labels = toy(kind)
    model = exact_model(tiny_head(kind), kind)
    logits = torch.from_numpy(predict(model, batch, kind, 50, quiet))
    expected = loss_of(kind, logits, torch.from_numpy(labels), batch.lengths).item() / loss_terms(kind, labels)
    assert trained(model, kind, epochs=1, learning_rate=0.0)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("implementation", [reference, transformers], ids=["reference", "transformers"])
def test_biases_and_layer_norms_do_not_decay(tiny_head: Heads, implementation: Any) -> None:
    model = implementation.load(str(tiny_head("classification")), "classification", "cpu", "fp32")
    training = Training(model, *toy("classification"), "classification", RECIPE, seed=0)
    groups = {group["weight_decay"]: {id(p) for p in group["params"]} for group in training.optimizer.param_groups}
    spared = {
        id(parameter)
        for module in model.module.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name == "bias" or isinstance(module, torch.nn.LayerNorm)
    }
    with training.words.in_place() if training.words else nullcontext():
        assert groups == {0.01: {id(p) for p in model.module.parameters()} - spared, 0.0: spared}
    assert len(spared) >= 20


@pytest.mark.parametrize(
    ("epochs", "warmup", "rise"), [(5, 0.2, 3), (5, 0.0, 0), (1, 0.1, 0), (2, 1.0, 6), (1, 0.5, 2)]
)
def test_the_learning_rate_rises_to_its_peak_and_falls_but_never_to_zero(
    tiny_head: Heads, epochs: int, warmup: float, rise: int
) -> None:
    model = reference.load(str(tiny_head("classification")), "classification", "cpu", "fp32")
    recipe = RECIPE | {"epochs": epochs, "warmup": warmup, "learning_rate": 2e-3}
    training = Training(model, *toy("classification"), "classification", recipe, seed=0)
    rates: list[float] = []
    training.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    for _ in range(epochs):
        training.epoch(quiet)
    assert len(rates) == 3 * epochs, "20 examples are three batches of 8"
    assert max(rates) == pytest.approx(2e-3)
    assert rates[:rise] == pytest.approx([2e-3 * (i + 1) / rise for i in range(rise)])
    fall = 3 * epochs - rise
    assert rates[rise:] == pytest.approx([2e-3 * (1 - i / fall) for i in range(fall)])
    assert min(rates) > 0


def test_gradients_are_clipped_together(tiny_head: Heads) -> None:
    norms: dict[float, list[float]] = {}
    for limit in (0.01, 1e6):
        model = exact_model(tiny_head("classification"), "classification")
        recipe = RECIPE | {"max_grad_norm": limit, "learning_rate": 0.0}
        training = Training(model, *toy("classification"), "classification", recipe, seed=0)
        seen: list[float] = norms.setdefault(limit, [])
        training.optimizer.register_step_pre_hook(
            lambda *_, seen=seen, module=model.module: seen.append(
                float(torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in module.parameters()])))
            )
        )
        training.epoch(quiet)
    assert norms[0.01] == pytest.approx([0.01] * 3, rel=1e-3)
    assert min(norms[1e6]) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_trains_float32_weights(tiny_head: Heads, kind: str) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        model = exact_model(tiny_head(kind), kind, torch.float32)
        losses[precision] = trained(model, kind, precision=precision, learning_rate=1e-4)
        assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1)


@pytest.mark.skipif(not MixedAdamW.available(), reason="cannot be compiled here: no compiler")
@pytest.mark.parametrize("kind", KINDS)
def test_the_references_own_optimizer_learns_what_torchs_does(
    tiny_head: Heads, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the weights: the losses on the way are of logits in bfloat16, of which one that rounds to its other neighbour
    makes one percent. Weights that were learned in float32 throughout are three percent away, and more.
    """

    def made(**changes: Any) -> Training:
        model = exact_model(tiny_head(kind), kind, torch.float32)
        return Training(model, *toy(kind), kind, RECIPE | {"precision": "bf16"} | changes, seed=0)

    def learn(**changes: Any) -> torch.Tensor:
        model = exact_model(tiny_head(kind), kind, torch.float32)
        before = weights(model)
        trained(model, kind, learning_rate=1e-4, **changes)
        return torch.cat([(after - before[name]).flatten() for name, after in weights(model).items()])

    assert isinstance(made().optimizer, MixedAdamW)
    assert isinstance(made(precision="fp32").optimizer, torch.optim.AdamW), "which has nothing to round"
    assert isinstance(made(micro_batches=2).optimizer, torch.optim.AdamW), "gradients are added up in float32"
    ours, single = learn(precision="bf16"), learn(precision="fp32")
    monkeypatch.setattr(MixedAdamW, "available", lambda: False)
    assert isinstance(made().optimizer, torch.optim.AdamW)
    torchs = learn(precision="bf16")
    assert (ours - torchs).norm() < 0.015 * torchs.norm()
    assert (single - torchs).norm() > 0.025 * torchs.norm()


def test_progress_is_told_batch_by_batch(tiny_head: Heads) -> None:
    model = reference.load(str(tiny_head("tagging")), "tagging", "cpu", "fp32")
    training, progress = Training(model, *toy("tagging"), "tagging", RECIPE, seed=0), []
    training.epoch(lambda **what: progress.append(what))
    assert [(what["done"], what["total"]) for what in progress] == [(1, 3), (2, 3), (3, 3)]
    assert all(0 < what["loss"] < 100 for what in progress)


def test_a_batch_without_any_label_changes_nothing_and_is_not_nan(tiny_head: Heads) -> None:
    model = exact_model(tiny_head("tagging"), "tagging")
    batch, labels = toy("tagging")
    recipe = RECIPE | {"weight_decay": 0.0}
    before = weights(model)
    assert Training(model, batch, np.full_like(labels, IGNORE), "tagging", recipe, seed=0).epoch(quiet) == 0.0
    torch.testing.assert_close(weights(model), before, rtol=0, atol=0)


class Echo:
    """A model whose logits say which sequence, or which token, they are of."""

    def __init__(self, kind: str) -> None:
        self.kind, self.module, self.fed = kind, torch.nn.Linear(1, 1), list[int]()

    def logits(self, batch: Batch) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        assert not self.module.training
        self.fed.append(len(batch.ids))
        rows = batch.ids if self.kind == "tagging" else batch.ids[batch.cu_seqlens[:-1]]
        return torch.from_numpy(np.stack([rows, -rows], axis=1)).float()


@pytest.mark.parametrize("kind", ["classification", "tagging"])
@pytest.mark.parametrize("budget", [1, 30, 100, 10**6])
def test_predict_answers_in_the_order_asked(kind: str, budget: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 50)
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)])
    batch = Batch(np.arange(lengths.sum()), np.zeros(lengths.sum(), dtype=np.int64), cu_seqlens)
    model, progress = Echo(kind), []
    model.module.train()
    logits = predict(model, batch, kind, budget, lambda **what: progress.append(what))
    expected = batch.ids if kind == "tagging" else cu_seqlens[:-1]
    assert logits.tolist() == [[i, -i] for i in expected.tolist()]
    assert sum(model.fed) == len(batch.ids)
    assert max(model.fed) <= max(budget, lengths.max())
    assert progress[-1] == {"done": 50, "total": 50}
