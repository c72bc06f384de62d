"""Optimizers that differ from the harness's AdamW, each found by its numbers alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from harness.implementations import bert_pytorch, pytorch_pretrained_bert, transformers
from harness.measure.client import Trace
from harness.measure.training.optimizers import DEVIATIONS, changes, diagnose, sentence

STEPS = 20
SHAPES = {"word.weight": (6, 8), "word.LayerNorm.weight": (8,), "word.LayerNorm.bias": (8,), "dense.weight": (8, 8)}
RECIPE: dict[str, Any] = {
    "steps": STEPS,
    "warmup": 4,
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
    "max_grad_norm": 0.5,
    "hidden_size": 8,
}
Step = Callable[[], Any]


def slopes() -> list[dict[str, np.ndarray]]:
    """Gradients of every step, of sizes from 1e-6 on, that shrink: clipping has less effect in each."""
    generator = np.random.default_rng(0)
    sizes = {name: 10.0 ** generator.uniform(-6, 0.3, shape) for name, shape in SHAPES.items()}
    return [
        {name: 0.9**step * sizes[name] * generator.normal(size=shape) for name, shape in SHAPES.items()}
        for step in range(STEPS)
    ]


def start() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {name: generator.normal(size=shape) for name, shape in SHAPES.items()}


def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([arrays[name].ravel() for name in SHAPES])


def empty_trace() -> Trace:
    norms = np.array([[np.linalg.norm(each[name]) for name in SHAPES] for each in slopes()])
    return Trace(
        {name: (int(np.prod(shape)), len(shape)) for name, shape in SHAPES.items()},
        np.zeros((STEPS + 1, flat(start()).size)),
        np.stack([flat(each) for each in slopes()]),
        np.sqrt(np.square(norms).sum(1)),
        norms,
    )


def trained(make: Callable[[dict[str, Any], dict[str, Any]], Step]) -> Trace:
    """The trace of an optimizer in the form of an implementation's file."""
    trace = empty_trace()
    parameters = {name: torch.nn.Parameter(torch.from_numpy(values)) for name, values in start().items()}
    # BERT-pytorch's optimizer reads the hidden size from this one, which has no gradient.
    unused = {"bert.embedding.token.weight": torch.nn.Parameter(torch.zeros(1, 8, dtype=torch.float64))}
    step = make(parameters | unused, RECIPE)
    for number, found in enumerate(slopes()):
        trace.entries[number] = flat({name: each.detach().numpy() for name, each in parameters.items()})
        for name, parameter in parameters.items():
            parameter.grad = torch.from_numpy(found[name].copy())
        step()
    trace.entries[STEPS] = flat({name: each.detach().numpy() for name, each in parameters.items()})
    return trace


def simulated(on: set[str]) -> Trace:
    """The trace of AdamW with these deviations."""
    trace = empty_trace()
    trace.entries[0] = flat(start())
    for number, change in enumerate(changes(trace, RECIPE, frozenset(on))):
        trace.entries[number + 1] = trace.entries[number] + change
    return trace


def found(trace: Trace) -> set[str]:
    diagnosis = diagnose(trace, RECIPE)
    assert diagnosis.reproduced, sentence(diagnosis)
    return set(diagnosis.deviations)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_each_deviation_is_found_alone(name: str) -> None:
    assert found(simulated({name})) == {name}


def harness_adamw(parameters: dict[str, Any], recipe: dict[str, Any]) -> Step:
    """As ``harness.worker.finetune.Training`` sets it up."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": recipe["weight_decay"]},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=recipe["learning_rate"])
    steps, warmup = recipe["steps"], recipe["warmup"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adamw, lambda step: min((step + 1) / warmup, (steps - step) / (steps - warmup), 1.0)
    )

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(parameters.values(), recipe["max_grad_norm"])
        adamw.step()
        schedule.step()

    return step


@pytest.mark.slow  # torch's optimizers import its compiler
def test_torchs_adamw_has_no_deviation() -> None:
    assert found(trained(harness_adamw)) == set()
    assert sentence(diagnose(trained(harness_adamw), RECIPE)) == "the optimizer is the harness's AdamW and schedule"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This overload")
def test_bert_adam_of_pytorch_pretrained_bert() -> None:
    expected = {"no-bias-correction", "epsilon-1e-6", "clip-each", "warm-up-from-zero"}
    assert found(trained(pytorch_pretrained_bert.optimizer)) == expected


@pytest.mark.slow
def test_noams_schedule_of_bert_pytorch() -> None:
    expected = {"noam", "decay-in-gradient", "decay-all", "no-clipping"}
    assert found(trained(bert_pytorch.optimizer)) == expected


@pytest.mark.slow  # imports transformers
def test_the_schedule_of_transformers() -> None:
    assert found(trained(transformers.optimizer)) == {"warm-up-from-zero"}


def google(parameters: dict[str, Any], recipe: dict[str, Any]) -> Step:
    """The rule of Google's ``optimization.py``: gradients clipped by their global norm, moments not corrected.

    Its rate is that of a polynomial decay over all steps, replaced by step / warm-up at first.
    """
    first = {name: torch.zeros_like(each.data) for name, each in parameters.items()}
    second = {name: torch.zeros_like(each.data) for name, each in parameters.items()}
    done = 0

    def step() -> None:
        nonlocal done
        slopes = {name: each.grad for name, each in parameters.items() if each.grad is not None}
        norm = torch.sqrt(sum(slope.square().sum() for slope in slopes.values()))
        rate = done / recipe["warmup"] if done < recipe["warmup"] else 1 - done / recipe["steps"]
        for name, slope in slopes.items():
            clipped = slope * recipe["max_grad_norm"] / torch.clamp(norm, min=recipe["max_grad_norm"])
            first[name] = 0.9 * first[name] + 0.1 * clipped
            second[name] = 0.999 * second[name] + 0.001 * clipped**2
            update = first[name] / (second[name].sqrt() + 1e-6)
            if not any(part in name for part in ("LayerNorm", "layer_norm", "bias")):
                update += recipe["weight_decay"] * parameters[name].data
            parameters[name].data -= recipe["learning_rate"] * rate * update
        done += 1

    return step


def test_googles_optimizer() -> None:
    expected = {"no-bias-correction", "epsilon-1e-6", "warm-up-from-zero", "decay-from-start"}
    assert found(trained(google)) == expected


def keras_bert(parameters: dict[str, Any], recipe: dict[str, Any]) -> Step:
    """The rule of keras-bert's ``AdamWarmup``: all weights decay by the corrected rate, and nothing is clipped."""
    first = {name: torch.zeros_like(each.data) for name, each in parameters.items()}
    second = {name: torch.zeros_like(each.data) for name, each in parameters.items()}
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        share = done / recipe["warmup"] if done <= recipe["warmup"] else 1 - done / recipe["steps"]
        rate = recipe["learning_rate"] * share * (1 - 0.999**done) ** 0.5 / (1 - 0.9**done)
        for name, each in parameters.items():
            if each.grad is None:
                continue
            first[name] = 0.9 * first[name] + 0.1 * each.grad
            second[name] = 0.999 * second[name] + 0.001 * each.grad**2
            each.data -= rate * (first[name] / (second[name].sqrt() + 1e-7) + recipe["weight_decay"] * each.data)

    return step


def test_adam_warmup_of_keras_bert() -> None:
    assert found(trained(keras_bert)) == {
        "epsilon-1e-7",
        "epsilon-hat",
        "decay-all",
        "decay-with-correction",
        "no-clipping",
        "decay-from-start",
        "ends-at-zero",
    }


def test_what_is_unknown_is_not_explained_away() -> None:
    def descent(parameters: dict[str, Any], recipe: dict[str, Any]) -> Step:
        return torch.optim.SGD(parameters.values(), lr=0.1).step

    diagnosis = diagnose(trained(descent), RECIPE)
    assert not diagnosis.reproduced
    assert "not reproduced by known deviations" in sentence(diagnosis)


def test_weights_that_became_nan_are_refused() -> None:
    trace = simulated(set())
    trace.entries[3, 0] = np.nan
    with pytest.raises(ValueError, match="infinite or NaN"):
        diagnose(trace, RECIPE)
