"""Gradients and steps in the worker, against BERT written plainly and against the harness's own loop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.implementations import reference
from harness.measure.deviations import NONE
from harness.measure.training import gradients
from harness.port.batch import from_lists
from harness.worker.session import Session

BATCH = from_lists([[101, 7592, 2088, 102], [101, 2003, 102], [101, 9, 8, 7, 102]], [[0, 0, 1, 1], [0] * 3, [0] * 5])
LABELS = np.array([0, 2, 1])
KIND = "classification"
RECIPE: dict[str, Any] = {
    "steps": 4,
    "warmup": 2,
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "max_grad_norm": 0.5,
    "hidden_size": 32,
}


@pytest.fixture
def session(tiny_head: Callable[[str], Path]) -> Session:
    made = Session(Path(reference.__file__), lambda **_: None)
    made.load(str(tiny_head(KIND)), KIND, "cpu", "fp64", "", None)
    return made


def without_prefix(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix("bert."): values for name, values in arrays.items()}


def test_gradients_are_those_of_bert_written_plainly(session: Session, tiny_head: Callable[[str], Path]) -> None:
    before = without_prefix(session.export()[1])
    answer, found = session.gradients(BATCH, LABELS, KIND)
    exact = gradients.plain_gradients(tiny_head(KIND), BATCH, LABELS, NONE)
    assert found.keys() == session.export()[1].keys(), "every weight has a gradient"
    assert answer["dropout"], "the configuration sets it, so that gradients are compared without training mode"
    assert gradients.differences(without_prefix(found), exact)["max"] < 1e-12
    for name, values in without_prefix(session.export()[1]).items():
        np.testing.assert_array_equal(values, before[name], "weights are as they were")


def test_weights_that_are_not_trained_have_no_gradient(session: Session) -> None:
    bert = session.model.bert
    bert.embeddings.register_buffer("fixed", bert.embeddings.position.weight.detach().clone())
    fixed = bert.embeddings.fixed
    names = {name for name, parameter in session.model.module.named_parameters() if parameter.shape == fixed.shape}
    (whole,) = {name for name in session.export()[1] if "position_embeddings" in name}
    assert names
    export = session.model.export
    session.model.export = lambda: export() | {whole: fixed.numpy()}
    _, found = session.gradients(BATCH, LABELS, KIND)
    assert whole not in found


def test_without_an_optimizer_the_harnesss_loop_trains(session: Session) -> None:
    before = session.export()[1]
    before = {name: values.copy() for name, values in before.items()}
    answer, arrays = session.train_steps(BATCH, LABELS, KIND, RECIPE)
    assert not answer["own"]
    assert {f"weights:{name}" for name in before} == arrays.keys()
    assert any((arrays[f"weights:{name}"] != values).any() for name, values in before.items())
    assert not session.model.module.training


def test_an_optimizer_of_the_file_is_traced(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def optimizer(parameters: dict[str, Any], recipe: dict[str, Any]) -> Callable[[], Any]:
        return torch.optim.SGD(parameters.values(), lr=1e-4).step

    monkeypatch.setattr(session.module, "optimizer", optimizer, raising=False)
    before = {name: values.copy() for name, values in session.export()[1].items()}
    first = session.gradients(BATCH, LABELS, KIND)[1]
    first = {name: values.copy() for name, values in first.items()}
    answer, arrays = session.train_steps(BATCH, LABELS, KIND, RECIPE)
    assert answer["own"]
    assert answer["losses"] == sorted(answer["losses"], reverse=True), "it learns"
    assert list(answer["traced"]) == list(before)
    assert arrays["trace:norm"][0] == pytest.approx(sum((each**2).sum() for each in first.values()) ** 0.5)
    np.testing.assert_allclose(arrays["trace:norms"][0], [np.linalg.norm(first[name]) for name in before])
    changes, slopes = np.diff(arrays["trace:entries"], axis=0), arrays["trace:gradients"]
    np.testing.assert_allclose(changes, -1e-4 * slopes, atol=1e-15)
