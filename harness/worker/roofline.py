"""The limits of this machine: speed of BERT's matrix products alone, and of copying memory. Runs in a worker."""

import time
from collections.abc import Callable, Iterator
from typing import Any

ROUNDS, LEAST, SECONDS = 15, 3, 0.1  # calls of each product: at most, at least; and seconds after which it is enough


def limits(config: dict[str, Any], tokens: int, precisions: list[str], device: str) -> dict[str, dict[str, Any]]:
    """Seconds of the encoder's linear layers for this number of tokens, in each precision; and the rate of ``copying``.

    If products in a precision cannot be computed, "absent" says why.
    """
    found = {precision: _products(config, tokens, precision, device) for precision in precisions}
    return found | {"copying": {"bytes_per_second": copying(device)}}


def _products(config: dict[str, Any], tokens: int, precision: str, device: str) -> dict[str, Any]:
    """Seconds, the rate in FLOP a second, and the library of the fastest products that are available."""
    layers = config["num_hidden_layers"]
    try:
        seconds = {name: layers * taken for name, taken in _by_library(config, tokens, precision, device)}
    except RuntimeError as error:
        return {"absent": str(error)}
    if not seconds:
        return {"absent": f"no available library multiplies in {precision}"}
    fastest = min(seconds, key=lambda name: seconds[name])
    operations = sum(layers * 2.0 * tokens * inputs * outputs for inputs, outputs in _sizes(config))
    return {
        "seconds": seconds[fastest],
        "flops_per_second": operations / seconds[fastest],
        "by": fastest,
    }


def _sizes(config: dict[str, Any]) -> list[tuple[int, int]]:
    """(inputs, outputs) of each of a layer's products."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    return [(hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden)]


def _by_library(config: dict[str, Any], tokens: int, precision: str, device: str) -> Iterator[tuple[str, float]]:
    """(library, seconds of one layer's products) for each library that has them in this precision."""
    import torch

    from reference.frozen import fits

    if device == "cpu" and (ours := _ours(config, tokens, precision)):
        yield "ours", _median(ours, device)
    if precision == "int8":  # PyTorch's are never the fastest
        return
    if fits(torch.device(device), precision):
        yield "oneDNN", sum(_median(_laid_out(*pair), device) for pair in _pairs(config, tokens, precision, device))
    yield "PyTorch", sum(_median(_plain(*pair), device) for pair in _pairs(config, tokens, precision, device))


def _pairs(config: dict[str, Any], tokens: int, precision: str, device: str) -> Iterator[tuple[Any, Any]]:
    """Weight and rows of each product."""
    import torch

    from reference import torch_dtype

    for inputs, outputs in _sizes(config):
        shapes = (outputs, inputs), (tokens, inputs)
        weight, x = (torch.randn(shape, device=device).to(torch_dtype(precision)) for shape in shapes)
        yield weight, x


def _plain(weight: Any, x: Any) -> Callable[[], Any]:
    import torch

    return lambda: torch.nn.functional.linear(x, weight)


def _laid_out(weight: Any, x: Any) -> Callable[[], Any]:
    """With the weight in oneDNN's own layout, which is the fastest."""
    import torch

    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
    return lambda: torch.ops.mkldnn._linear_pointwise(x, laid_out, None, "none", [], "")


def _ours(config: dict[str, Any], tokens: int, precision: str) -> Callable[[], Any] | None:
    """Those of the reference's compiled layers; None if they do not support these sizes on this machine."""
    from reference.model import BertConfig, Layer
    from reference.native import PackedLayers, routine_for

    sizes = {name: config[name] for name in ("hidden_size", "intermediate_size")}
    alike = BertConfig(num_hidden_layers=1, num_attention_heads=1, **sizes)  # heads make no difference to products
    layer = Layer(alike)
    routine = routine_for(alike, [layer], precision)
    if routine is None:
        return None
    laid_out = PackedLayers([layer], routine)
    return lambda: laid_out.multiply(tokens)


def copying(device: str) -> float:
    """Bytes a second, read and written, of copying a large tensor."""
    import torch

    source = torch.ones(1 << (28 if device.startswith("cuda") else 26), device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _median(lambda: target.copy_(source), device)


def _median(work: Callable[[], Any], device: str) -> float:
    """Median seconds of a call, after two to warm up."""
    from harness.port.tensors import synchronize

    seconds: list[float] = []
    for _ in range(2):
        work()
        synchronize(device)
    while len(seconds) < LEAST or (len(seconds) < ROUNDS and sum(seconds) < SECONDS):
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[len(seconds) // 2]
