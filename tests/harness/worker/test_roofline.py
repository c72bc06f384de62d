"""What the machine can do at most."""

from typing import Any

import pytest
import torch

from harness.worker.roofline import limits
from reference.native import ROUTINES, abilities

CONFIG: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}


def found(*precisions: str, tokens: int = 96, **changes: Any) -> dict[str, dict[str, Any]]:
    with torch.inference_mode():
        return limits(CONFIG | changes, tokens, list(precisions), "cpu")


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16", "fp16"])
def test_seconds_and_rate_are_of_the_same_products(precision: str) -> None:
    measured = found(precision)

    # two layers of query, key, value, output (4 H^2) and up, down (8 H^2), 2 operations for each token and weight
    products = measured[precision]
    assert products["seconds"] * products["flops_per_second"] == pytest.approx(2 * 2 * 96 * 12 * 64 * 64)
    assert measured["copying"]["bytes_per_second"] > 1e8


def test_more_layers_take_as_much_longer() -> None:
    few, many = (
        min(found("fp32", tokens=256, num_hidden_layers=n)["fp32"]["seconds"] for _ in range(3)) for n in (1, 50)
    )

    assert many > 10 * few  # 50 times, but for the noise


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_fastest_of_all_libraries_is_the_limit(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_library(*_: Any) -> Any:
        yield from {"oneDNN": 3.0, "ours": 1.0, "PyTorch": 2.0}.items()

    monkeypatch.setattr("harness.worker.roofline._by_library", by_library)
    products = found(precision)[precision]
    assert (products["seconds"], products["by"]) == (2.0, "ours"), "one second for each of two layers"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_ours_are_among_them_where_they_are_compiled(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = any(each.precision == precision and each.needs <= abilities() for each in ROUTINES)
    timed: list[str] = []
    monkeypatch.setattr("harness.worker.roofline._median", lambda *_: float(len(timed)) + (timed.append("") or 1.0))
    measured = found(precision)[precision]
    if here:
        assert measured["by"] == "ours", "which are asked first, and here each product takes longer than the last"
    elif precision == "int8":
        assert measured == {"absent": "no available library multiplies in int8"}
    else:
        assert measured["by"] == "oneDNN"


def test_what_a_library_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(torch.nn.functional, "linear", refuse)
    assert found("fp64")["fp64"] == {"absent": "could not create a primitive"}
