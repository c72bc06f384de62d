"""What the machine can do at most."""

from typing import Any

import pytest
import torch

from harness.limits import limits

CONFIG: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
def test_seconds_and_rate_are_of_the_same_products(precision: str) -> None:
    with torch.inference_mode():
        found = limits(CONFIG, 96, precision, "cpu")

    # two layers of query, key, value, output (4 H^2) and up, down (8 H^2), 2 operations for each token and weight
    assert found["seconds"] * found["flops_per_second"] == pytest.approx(2 * 2 * 96 * 12 * 64 * 64)
    assert found["bytes_per_second"] > 1e8


def test_more_layers_take_as_much_longer() -> None:
    with torch.inference_mode():
        few, many = (limits(CONFIG | {"num_hidden_layers": n}, 256, "fp32", "cpu")["seconds"] for n in (1, 50))

    assert many > 10 * few  # 50 times, but for the noise
