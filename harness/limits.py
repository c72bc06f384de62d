"""What the machine can do at most: BERT's own matrix products alone, and copying memory. Runs in a worker."""

import time
from collections.abc import Callable
from typing import Any

ROUNDS = 15


def limits(config: dict[str, Any], tokens: int, precision: str, device: str) -> dict[str, float]:
    """Seconds that the encoder's linear layers need for so many tokens, if nothing else were to be computed.

    Beside them the rate that this is, in FLOP a second, and the rate of copying, in bytes read and written a second.
    On the CPU with the weights laid out by oneDNN beforehand, which products are fastest with.
    """
    import torch

    from reference import torch_dtype

    dtype, hidden, inner = torch_dtype(precision), config["hidden_size"], config["intermediate_size"]
    seconds = operations = 0.0
    for inputs, outputs in ((hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden)):
        x = torch.randn(tokens, inputs, device=device).to(dtype)
        product = _product(torch.randn(outputs, inputs, device=device).to(dtype), x)
        seconds += config["num_hidden_layers"] * _median(product, device)
        operations += config["num_hidden_layers"] * 2.0 * tokens * inputs * outputs
    return {"seconds": seconds, "flops_per_second": operations / seconds, "bytes_per_second": copying(device)}


def _product(weight: Any, x: Any) -> Callable[[], Any]:
    import torch

    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and torch.backends.mkldnn.is_available():
        laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
        return lambda: torch.ops.mkldnn._linear_pointwise(x, laid_out, None, "none", [], "")
    return lambda: torch.nn.functional.linear(x, weight)


def copying(device: str) -> float:
    """Bytes a second that are read and written when a large tensor is copied."""
    import torch

    source = torch.ones(1 << (28 if device.startswith("cuda") else 26), device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _median(lambda: target.copy_(source), device)


def _median(work: Callable[[], Any], device: str) -> float:
    """Seconds of a call, the first few not counted."""
    from harness.tensors import synchronize

    seconds = []
    for _ in range(3 + ROUNDS):
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds[3:])[ROUNDS // 2]
