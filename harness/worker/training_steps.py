"""Gradients of one batch, and a few steps of the implementation's optimizer on it. Runs in the worker.

Both are named as Hugging Face names weights: ``export`` of the model maps the names, and is asked while the parameters
hold their gradients in place of their values.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.port.batch import Array, Batch
from harness.port.model import Trainable
from harness.worker.finetune import Training, loss_of, loss_terms

SAMPLE = 32  # entries of each weight that are traced: half evenly spaced, half those with the largest gradients
Optimizer = Callable[[dict[str, nn.Parameter], dict[str, Any]], Callable[[], Any]]


def gradients(model: Trainable, batch: Batch, labels: Array, kind: str) -> tuple[float, bool, dict[str, Array]]:
    """The mean loss, whether dropout is applied to this batch in training, and the gradient of every weight.

    The model is in training unless it applies dropout. Weights that are no parameters have no gradient.
    """
    drops = _prepare(model, batch, labels, kind)
    loss = _backward(model, batch, labels, kind)
    names = _trained_names(model)
    with _in_place(model.module, _gradient):
        found = model.export()
    model.module.eval()
    return loss, drops, {name: found[name] for name in names}


def steps(
    model: Trainable, optimizer: Optimizer | None, batch: Batch, labels: Array, kind: str, recipe: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Train on the batch for ``recipe["steps"]`` steps with the given optimizer, or else the harness's own.

    Returns the loss before each step and what ``_Trace`` has seen (none of this for the harness's own), and arrays:
    every trained weight afterwards, as ``weights:NAME``, and those of the trace.
    """
    drops = _prepare(model, batch, labels, kind)
    names = _trained_names(model)
    losses: list[float] = []
    trace = None
    if optimizer is None:
        _train(model, batch, labels, kind, recipe, drops)
    else:
        step = optimizer(dict(model.module.named_parameters()), recipe)
        for _ in range(recipe["steps"]):
            losses.append(_backward(model, batch, labels, kind))
            trace = trace or _Trace(model, names)
            trace.before_step()
            step()
        assert trace is not None
        trace.after_last_step()
    model.module.eval()
    after = model.export()
    answer = {"own": optimizer is not None, "losses": losses, "traced": trace.weights if trace else {}}
    return answer, {f"weights:{name}": after[name] for name in names} | (trace.arrays() if trace else {})


class _Trace:
    """Some entries of every weight before each step and after the last, their gradients, and the norms of gradients.

    From these an optimizer's rule can be found without the model.
    """

    def __init__(self, model: Trainable, names: list[str]) -> None:
        """Choose the entries, by the gradients that the parameters have now."""
        self.model, self.names = model, names
        self.positions = {name: _chosen(gradient) for name, gradient in self._gradients().items()}
        self.weights: dict[str, list[int]] = {}  # number of entries and of dimensions, by name, in order
        for name, values in self._values().items():
            self.weights[name] = [len(self.positions[name]), values.ndim]
        self.entries: list[Array] = []
        self.slopes: list[Array] = []
        self.norms: list[list[float]] = []
        self.norm: list[float] = []

    def before_step(self) -> None:
        found = self._gradients()
        self.entries.append(self._picked(self._values()))
        self.slopes.append(self._picked(found))
        self.norms.append([float(np.linalg.norm(found[name])) for name in self.names])
        squares = [float(_gradient(each).double().square().sum()) for each in self.model.module.parameters()]
        self.norm.append(sum(squares) ** 0.5)

    def after_last_step(self) -> None:
        self.entries.append(self._picked(self._values()))

    def arrays(self) -> dict[str, Array]:
        """Entries [steps + 1, n], their gradients [steps, n], norms of all gradients [steps] and of each [steps, m]."""
        return {
            "trace:entries": np.stack(self.entries),
            "trace:gradients": np.stack(self.slopes),
            "trace:norm": np.array(self.norm),
            "trace:norms": np.array(self.norms),
        }

    def _values(self) -> dict[str, Array]:
        found = self.model.export()
        return {name: found[name] for name in self.names}

    def _gradients(self) -> dict[str, Array]:
        with _in_place(self.model.module, _gradient):
            return self._values()

    def _picked(self, arrays: dict[str, Array]) -> Array:
        return np.concatenate([arrays[name].ravel()[self.positions[name]] for name in self.names]).astype(np.float64)


def _chosen(gradient: Array) -> Array:
    flat = np.abs(gradient.ravel())
    spaced = np.linspace(0, len(flat) - 1, min(len(flat), SAMPLE // 2)).astype(np.int64)
    largest = np.argpartition(-flat, min(len(flat), SAMPLE // 2) - 1)[: SAMPLE // 2]
    return np.unique(np.concatenate([spaced, largest]))


def _prepare(model: Trainable, batch: Batch, labels: Array, kind: str) -> bool:
    """Put the model in training, unless it then applies dropout; whether it does."""
    model.module.train()
    with torch.no_grad():
        losses = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            losses.append(_loss(model, batch, labels, kind).item())
    drops = losses[0] != losses[1]
    if drops:
        model.module.eval()
    return drops


def _loss(model: Trainable, batch: Batch, labels: Array, kind: str) -> Tensor:
    logits = model.logits(batch)
    return loss_of(kind, logits, torch.from_numpy(labels).to(logits.device), batch.lengths) / loss_terms(kind, labels)


def _backward(model: Trainable, batch: Batch, labels: Array, kind: str) -> float:
    model.module.zero_grad(set_to_none=True)
    loss = _loss(model, batch, labels, kind)
    loss.backward()
    return loss.item()


def _train(model: Trainable, batch: Batch, labels: Array, kind: str, recipe: dict[str, Any], drops: bool) -> None:
    """Steps of the harness's own loop, each an epoch of the whole batch."""
    own = recipe | {
        "epochs": recipe["steps"],
        "batch_size": len(batch.lengths),
        "warmup": recipe["warmup"] / recipe["steps"],
        "precision": "fp32",
        "micro_batches": 1,
    }
    training = Training(model, batch, labels, kind, own, seed=0)
    if drops:  # an epoch begins by putting the module in training
        model.module.train = lambda mode=True: model.module
    try:
        for _ in range(recipe["steps"]):
            training.epoch(lambda **_: None)
    finally:
        vars(model.module).pop("train", None)


def _trained_names(model: Trainable) -> list[str]:
    """Names of the exported weights that parameters determine; others are constant, or have no place in the model."""
    with _in_place(model.module, lambda parameter: torch.full_like(parameter.data, torch.nan)):
        return [name for name, values in model.export().items() if np.isnan(values).all()]


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter.data) if parameter.grad is None else parameter.grad


@contextmanager
def _in_place(module: nn.Module, values: Callable[[nn.Parameter], Tensor]) -> Iterator[None]:
    """Inside the block the parameters have these values."""
    kept = [(parameter, parameter.data) for parameter in module.parameters()]
    try:
        for parameter, _ in kept:
            parameter.data = values(parameter)
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data
