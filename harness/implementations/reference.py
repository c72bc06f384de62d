# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy", "tokenizers", "safetensors"]
# ///
"""Our own BERT, packed: no arithmetic is spent on padding."""

from typing import Any

from harness.port.batch import Batch
from harness.port.tensors import synchronize, to_device, to_numpy
from harness.worker.messages import Array

NAME = "reference"
TITLE = "BERT Atlas reference"
CATALOG_ID = "bert-atlas"
VARIANTS = {
    "bf16": "in bfloat16, for processors that are fast at it",
    "int8": "products of 8-bit integers, scaled by token and by output",
    "unfrozen": "the layers as they are trained",
}
DEVIATIONS: dict[str, str] = {}


class Encoder:
    """The Protocol of ``harness.registry.implementations`` over ``reference``, without training."""

    batching = "packed"

    def __init__(self, module: Any, device: str, precision: str = "fp32") -> None:
        import torch

        from reference.kernels import computed_by

        self.computed, self.native = getattr(module, "precision_computed", precision), computed_by(module)
        self.module, self.device, self.precision = module, device, precision
        self.bert = getattr(module, "bert", module)
        self.version = f"torch {torch.__version__}"
        self.tokens = 2048 if device == "cpu" else 16384  # what an L2 cache holds; what keeps a GPU busy

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

    def synchronize(self) -> None:
        synchronize(self.device)


class Model(Encoder):
    """The same with what fine-tuning needs."""

    @property
    def embeddings(self) -> Any:
        return self.bert.embeddings

    def mixed_adamw(self, groups: list[dict[str, Any]], lr: float, max_grad_norm: float) -> Any:
        from reference.adamw import MixedAdamW, built

        if self.device != "cpu":
            return None
        found = built()
        name = None if found.library is None else "adamw"
        self.native = {"functions": name, "compiler": found.compiler, "reason": found.reason}
        if not MixedAdamW.available():
            return None
        return MixedAdamW(self.module, groups, lr, max_grad_norm)

    def cast(self, precision: str) -> None:
        """Compute in this precision from now on."""
        import reference

        self.precision, self.computed = precision, reference.cast(self.module, precision, self.device)

    def logits(self, batch: Batch) -> Any:
        return self.module(self.pack(batch))

    def export(self) -> dict[str, Array]:
        from reference.checkpoint import tensors_of

        return {name: to_numpy(tensor) for name, tensor in tensors_of(self.module).items()}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Encoder:
    """The weights of a Hugging Face folder in our own model; a bare encoder is frozen, as nobody trains one."""
    import reference
    from reference.checkpoint import read_config

    if variant == "int8":
        reason = reference.no_int8(read_config(folder)[0]) if device == "cpu" else "a GPU has no int8 of ours"
        if reason:
            raise NotImplementedError(reason)
    precision = variant if variant in ("bf16", "int8") else precision
    module = reference.load(folder, head, device, precision, frozen=head is None and variant != "unfrozen")
    return (Encoder if variant else Model)(module, device, precision)
