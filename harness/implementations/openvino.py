# /// script
# requires-python = ">=3.11"
# dependencies = ["openvino==2026.4.1", "torch>=2.11", "transformers>=5.17", "numpy>=1.26", "safetensors>=0.5"]
# ///
"""OpenVINO, an inference engine, on a model converted from Hugging Face transformers.

It is called with padded batches. Its numbers are those of the original BERT.
"""

import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.port import Array, Batch, Model, pad, unpad
from harness.port.export import apart, traceable

NAME = "openvino"
TITLE = "OpenVINO"
CATALOG_ID = "openvino"
VARIANTS = {"bf16": "in bfloat16, its own choice on a CPU that is fast at it"}
DEVIATIONS: dict[str, str] = {}

Write = Callable[[str, str, bool], None]  # (folder, file, whether to return the hidden states of every layer)
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}  # OpenVINO's names for precisions, and for a CPU's capabilities:
CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}


class Encoder:
    """A compiled model as a ``harness.port.Model``."""

    batching = "padded"

    def __init__(self, folder: str, hint: str, write: Write, precision: str) -> None:
        self.folder, self.hint, self.write, self.precision = folder, hint, write, precision
        self.compiled = compiled(folder, hint, write, every=False)
        self.version = f"openvino {version('openvino')}"

    def encode(self, batch: Batch) -> list[Array]:
        return run(self.compiled, batch)

    def fetch(self, encoded: list[Array], batch: Batch) -> Array:
        return unpad(encoded[0], batch)

    def pooled(self, encoded: list[Array], batch: Batch) -> Array | None:
        return encoded[1] if len(encoded) > 1 else None

    def layers(self, batch: Batch) -> list[Array]:
        states = run(compiled(self.folder, self.hint, self.write, every=True), batch)
        return [unpad(state, batch) for state in states if state.ndim == 3]

    def synchronize(self) -> None:
        """``encode`` is synchronous."""


def run(compiled: Any, batch: Batch) -> list[Array]:
    """All outputs, copied: the next call writes into the same memory."""
    return list(compiled(pad(batch)).values())


def compiled(folder: str, hint: str, write: Write, every: bool) -> Any:
    """The converted model, compiled; with ``every`` it returns the hidden states of every layer."""
    import openvino

    core = openvino.Core()
    if CAPABILITIES[hint] not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NotImplementedError(f"{NAME} does not compute in {hint} on this CPU")
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
        "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch
    }
    with tempfile.TemporaryDirectory(prefix="bert-atlas-") as temporary:
        file = Path(temporary) / "model.xml"
        apart(write, folder, str(file), every)
        return core.compile_model(file, "CPU", settings)


def convert(folder: str, every: bool) -> Any:
    """Convert the model of a folder to OpenVINO's."""
    import openvino
    import torch

    example = tuple(torch.ones(2, 7, dtype=torch.int64) for _ in range(3))
    return openvino.convert_model(traceable(folder, every), example_input=example)


def write(folder: str, file: str, every: bool) -> None:
    """Write the model in OpenVINO's format, weights in float32."""
    import openvino

    openvino.save_model(convert(folder, every), file, compress_to_fp16=False)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. RuntimeError names those that do not fit."""
    if device != "cpu":
        raise NotImplementedError(f"{NAME} runs on the CPU only, as the harness uses it")
    if precision not in HINTS:
        raise NotImplementedError(f"{NAME} does not compute in float64")
    precision = variant or precision
    return Encoder(folder, HINTS[precision], write, precision)
