"""Dropout: which values are dropped, how often, and their gradients."""

import math

import pytest
import torch

from reference.dropout import Dropout, dropout
from reference.model import BertConfig

VALUES = 400_000


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_as_many_are_dropped_as_asked_and_the_mean_stays(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)

    out = dropout(torch.ones(VALUES, dtype=dtype), p)

    kept = (out != 0).double().mean().item()
    assert abs(kept - (1 - p)) < 5 * math.sqrt(p * (1 - p) / VALUES)
    assert out[out != 0].double().mean().item() == pytest.approx(
        1 / (1 - p), rel=2**-8 if dtype is torch.bfloat16 else 1e-4
    )


def test_each_of_the_four_values_of_a_draw_is_dropped_alike_and_on_its_own() -> None:
    torch.manual_seed(0)

    kept = (dropout(torch.ones(4, VALUES // 4).T.contiguous(), 0.3) != 0).double()  # a row shares one draw

    error = 5 * math.sqrt(0.3 * 0.7 / len(kept))
    assert kept.mean(0).tolist() == pytest.approx([0.7] * 4, abs=error)
    correlations = torch.corrcoef(kept.T) - torch.eye(4)
    assert correlations.abs().max() < 5 / math.sqrt(len(kept))
    assert abs(torch.corrcoef(torch.stack([kept[1:, 0], kept[:-1, 3]]))[0, 1]) < 5 / math.sqrt(len(kept))


def test_the_seed_decides() -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return dropout(torch.ones(3, 5, 7), 0.5)

    assert draw(1).equal(draw(1))
    assert not draw(1).equal(draw(2))
    assert draw(1).shape == (3, 5, 7)


def test_gradients_are_dropped_and_scaled_as_the_values_are() -> None:
    values = torch.randn(50, 30, dtype=torch.float64, requires_grad=True)

    out = dropout(values, 0.25)
    out.sum().backward()

    assert values.grad is not None
    torch.testing.assert_close(values.grad * values, out)
    assert set(values.grad.unique().tolist()) == {0.0, 1 / 0.75}


def test_all_can_be_dropped() -> None:
    assert (dropout(torch.ones(100), 1.0) == 0).all()


def test_a_module_drops_in_training_alone_and_not_at_probability_zero() -> None:
    values = torch.randn(100)

    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0).train()(values) is values
    assert (Dropout(0.5).train()(values) == 0).any()


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
@pytest.mark.parametrize("name", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_a_probability_that_is_none_is_refused(name: str, p: float) -> None:
    with pytest.raises(ValueError, match=name):
        BertConfig(**{name: p})  # type: ignore[arg-type]
