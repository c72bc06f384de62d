# /// script
# requires-python = ">=3.11"
# dependencies = ["ctranslate2==4.8.5", "torch>=2.11", "transformers>=5.17", "numpy>=1.26", "safetensors>=0.5"]
# ///
"""CTranslate2, an inference engine, on a model that its converter makes from Hugging Face transformers.

It is called with padded batches and their lengths. Its numbers are those of the original BERT.
"""

import os
import tempfile
from importlib.metadata import version
from typing import Any

import numpy as np

from harness.port import Array, Batch, Model, pad, read_folder, unpad
from harness.port.export import apart, transformers_bert

NAME = "ctranslate2"
TITLE = "CTranslate2"
CATALOG_ID = "ctranslate2"
VARIANTS = {"int8": "weights in 8 bits", "int16": "weights in 16 bits, as integers"}
DEVIATIONS: dict[str, str] = {}

TYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # CTranslate2's names


class Encoder:
    """A ``ctranslate2.Encoder`` as a ``harness.port.Model``."""

    batching = "padded"

    def __init__(self, encoder: Any, precision: str, has_pooler: bool) -> None:
        self.encoder, self.precision, self.has_pooler = encoder, precision, has_pooler
        self.version = f"ctranslate2 {version('ctranslate2')}"

    def encode(self, batch: Batch) -> Any:
        import ctranslate2

        ids, segments, _ = (x.astype(np.int32) for x in pad(batch))
        lengths = batch.lengths.astype(np.int32)
        return self.encoder.forward_batch(
            ctranslate2.StorageView.from_array(ids), ctranslate2.StorageView.from_array(lengths), segments.tolist()
        )

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(np.array(encoded.last_hidden_state), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return np.array(encoded.pooler_output) if self.has_pooler else None

    def synchronize(self) -> None:
        """``encode`` is synchronous."""


def convert(folder: str, target: str) -> None:
    """Write the model in CTranslate2's format, weights in float32."""
    import torch
    from ctranslate2.converters.transformers import BertLoader
    from transformers.models.bert.modeling_bert import BertPooler

    module = transformers_bert(folder)
    module.config.position_embedding_type = "absolute"  # the only kind in transformers now, but the converter asks
    if module.pooler is None:  # the converter requires a pooler
        module.pooler = BertPooler(module.config)
    with torch.no_grad():
        spec = BertLoader().get_model_spec(module)
    spec.config.layer_norm_epsilon = module.config.layer_norm_eps
    spec.register_vocabulary([str(number) for number in range(module.config.vocab_size)])  # it is called with ids
    spec.validate()
    spec.save(target)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. RuntimeError names those that do not fit."""
    import ctranslate2

    if device != "cpu":
        raise NotImplementedError(f"{NAME} runs on the CPU only, as the harness uses it")
    compute = variant or TYPES[precision]
    known = ctranslate2.get_supported_compute_types(device)
    for wanted in (TYPES[precision], compute):
        if wanted not in known:
            raise NotImplementedError(f"{NAME} does not compute in {wanted} on this CPU (but in {', '.join(known)})")
    with tempfile.TemporaryDirectory(prefix="bert-atlas-") as temporary:
        apart(convert, folder, temporary)
        threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
        encoder = ctranslate2.Encoder(temporary, device, compute_type=compute, intra_threads=threads)
    has_pooler = any(name.startswith("pooler.") for name in read_folder(folder).encoder)
    return Encoder(encoder, variant or precision, has_pooler)
