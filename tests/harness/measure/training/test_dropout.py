"""Where training applies dropout, compared with BERT."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.implementations import bert_pytorch, pytorch_pretrained_bert, reference, tbert
from harness.measure.training.dropout import PROBABILITY, compare
from harness.measure.training.parity import _with_head
from harness.port.batch import from_lists
from harness.worker.session import Session

BATCH = from_lists([[101, 7592, 2088, 102], [101, 2003, 102], [101, 9, 8, 7, 102]], [[0] * 4, [0] * 3, [0] * 5])
LAYERS = 2
BERT: dict[str, tuple[int, float | None]] = {
    "embeddings": (1, PROBABILITY),
    "attention probabilities": (LAYERS, None),
    "attention output": (LAYERS, PROBABILITY),
    "feed-forward output": (LAYERS, PROBABILITY),
    "pooled output": (1, PROBABILITY),
}


@pytest.fixture
def said(tiny_checkpoint: Path, tmp_path: Path) -> Callable[[Any], str]:
    """A function: the module of an implementation to what is said of its dropout."""
    folder = _with_head(tiny_checkpoint, tmp_path / "dropping", PROBABILITY)

    def say(module: Any) -> str:
        session = Session(Path(module.__file__), lambda **_: None)
        session.load(str(folder), "classification", "cpu", "fp32", "", None)
        places = session.dropouts(BATCH)[0]["places"]
        assert not session.model.module.training
        return str(compare({place: (count, p) for place, (count, p) in places.items()}, LAYERS)["sentence"])

    return say


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (reference, ""),
        (pytorch_pretrained_bert, ""),
        (tbert, "none of embeddings, feed-forward output"),
        (
            bert_pytorch,
            "also inside feed-forward; feed-forward output 4 times, not 2; "
            "embeddings with 0.1, whatever is configured; "
            "attention probabilities with 0.1, whatever is configured",
        ),
    ],
)
def test_places_of_implementations(module: Any, expected: str, said: Callable[[Any], str]) -> None:
    assert said(module) == expected


def test_bert_itself() -> None:
    assert compare(BERT, LAYERS)["sentence"] == ""


def test_a_probability_that_the_configuration_does_not_set() -> None:
    found = compare(BERT | {"attention output": (LAYERS, 0.1)}, LAYERS)
    assert found["sentence"] == "attention output with 0.1, whatever is configured"
    assert found["places"]["attention output"] == [LAYERS, 0.1]


def test_without_any_dropout() -> None:
    assert compare({}, LAYERS)["sentence"] == f"none of {', '.join(BERT)}"
