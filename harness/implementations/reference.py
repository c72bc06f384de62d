# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy", "tokenizers", "safetensors"]
# ///
"""Our own BERT, packed: no arithmetic is spent on padding."""

from typing import Any

from harness.batch import Batch
from harness.protocol import Array
from harness.tensors import synchronize, to_device, to_numpy

NAME = "reference"
TITLE = "BERT Atlas reference"
CATALOG_ID = "bert-atlas"
DEVIATIONS: dict[str, str] = {}


class Model:
    """The Protocol of ``harness.implementation`` over ``reference``."""

    batching = "packed"

    def __init__(self, module: Any, device: str) -> None:
        import torch

        self.module, self.device = module, device
        self.bert = getattr(module, "bert", module)
        self.version = f"torch {torch.__version__}"

    def pack(self, batch: Batch) -> Any:
        from reference.model import Packed

        ids, segments = to_device(batch, self.device)
        return Packed.from_lengths(ids, batch.lengths.tolist(), segments)

    def encode(self, batch: Batch) -> Any:
        return self.bert(self.pack(batch))

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return to_numpy(encoded)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return to_numpy(self.bert.pooler(encoded, self.pack(batch))) if self.bert.pooler else None

    def layers(self, batch: Batch) -> list[Array]:
        return [to_numpy(hidden) for hidden in self.bert.all_hidden_states(self.pack(batch))]

    def logits(self, batch: Batch) -> Any:
        return self.module(self.pack(batch))

    def export(self) -> dict[str, Array]:
        from reference.checkpoint import tensors_of

        return {name: to_numpy(tensor) for name, tensor in tensors_of(self.module).items()}

    def synchronize(self) -> None:
        synchronize(self.device)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """The weights of a Hugging Face folder in our own model."""
    import reference

    return Model(reference.load(folder, head, device, precision), device)
