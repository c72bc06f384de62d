# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "onnxruntime==1.32.0", "onnx==1.23.2", "torch>=2.11", "transformers>=5.17", "numpy>=1.26", "safetensors>=0.5",
# ]
# ///
"""ONNX Runtime, an inference engine, on a graph exported from Hugging Face transformers.

Its own tool fuses BERT's parts in the graph. It is called with padded batches. Its numbers are those of the original
BERT.
"""

import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.port import Array, Batch, Model, pad, read_folder, unpad
from harness.port.export import apart, traceable

NAME = "onnxruntime"
TITLE = "ONNX Runtime"
CATALOG_ID = "onnxruntime"
VARIANTS = {"int8": "weights in 8 bits per channel, activations quantized as they come"}
DEVIATIONS: dict[str, str] = {}

INPUTS = ("ids", "segments", "mask")


class Encoder:
    """An inference session as a ``harness.port.Model``."""

    batching = "padded"

    def __init__(self, folder: str, variant: str) -> None:
        self.folder, self.variant, self.precision = folder, variant, variant or "fp32"
        self.session = session(folder, variant, every=False)
        self.version = f"onnxruntime {version('onnxruntime')}, onnx {version('onnx')}"

    def encode(self, batch: Batch) -> Any:
        return run(self.session, batch)

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(encoded[0], batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return encoded[1] if len(encoded) > 1 else None

    def layers(self, batch: Batch) -> list[Array]:
        states = run(session(self.folder, self.variant, every=True), batch)
        return [unpad(state, batch) for state in states if state.ndim == 3]

    def synchronize(self) -> None:
        """``encode`` is synchronous."""


def run(session: Any, batch: Batch) -> list[Array]:
    outputs: list[Array] = session.run(None, dict(zip(INPUTS, pad(batch), strict=True)))
    return outputs


def session(folder: str, variant: str, every: bool) -> Any:
    """A session on the exported graph; with ``every`` it returns the hidden states of every layer."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    with tempfile.TemporaryDirectory(prefix="bert-atlas-") as temporary:
        file = apart(export, folder, temporary, variant, every)
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def export(folder: str, target: str, variant: str, every: bool) -> str:
    """Write the fused graph, quantized for the variant int8. Returns its path."""
    import torch
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    config = read_folder(folder).config
    model, plain = traceable(folder, every), str(Path(target) / "plain.onnx")
    example = tuple(torch.ones(2, 7, dtype=torch.int64) for _ in INPUTS)
    with torch.no_grad():
        outputs = [f"output_{number}" for number, _ in enumerate(model(*example))]
        axes = {name: {0: "sequences", 1: "longest"} for name in (*INPUTS, *outputs)}
        # In graphs of torch's newer exporter the tool finds neither attention nor embeddings.
        torch.onnx.export(
            model, example, plain, dynamo=False, input_names=[*INPUTS], output_names=outputs, dynamic_axes=axes
        )
    fused = str(Path(target) / "fused.onnx")
    optimize_model(plain, "bert", config["num_attention_heads"], config["hidden_size"]).save_model_to_file(fused)
    if variant != "int8":
        return fused
    quantized = str(Path(target) / "int8.onnx")
    types = {"DefaultTensorType": 1}  # float, for outputs of fused operators, whose types are not inferred
    quantize_dynamic(fused, quantized, per_channel=True, extra_options=types)
    return quantized


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. RuntimeError names those that do not fit."""
    if device != "cpu":
        raise NotImplementedError(f"{NAME} runs on the CPU only: GPUs need another package")
    if precision != "fp32":
        raise NotImplementedError(f"{NAME} computes in float32 only")
    return Encoder(folder, variant)
