# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy", "tokenizers", "safetensors"]
# ///
"""This project's own BERT, in PyTorch and C++; all other implementations are compared with it.

It computes packed sequences: no arithmetic is spent on padding. On the CPU an encoder that is not trained is frozen:
its layers run in compiled functions on weights in a layout of their own. It does not deviate from the original BERT.
"""

from typing import Any

from harness.port import Array, Batch, IntArray, Model, Trainable, synchronize, to_device, to_numpy

NAME = "reference"
TITLE = "BERT Atlas reference"
CATALOG_ID = "bert-atlas"
VARIANTS = {
    "bf16": "in bfloat16, for processors that are fast at it",
    "int8": "products of 8-bit integers, scaled by token and by output",
    "unfrozen": "the layers as they are trained",
}
MASKED_LM = True
DEVIATIONS: dict[str, str] = {}


class Encoder:
    """An encoder of ``reference`` as a ``harness.port.Model``, without training."""

    batching = "packed"

    def __init__(self, module: Any, device: str, precision: str = "fp32") -> None:
        import torch

        from reference.frozen import computed_by

        self.computed, self.native = getattr(module, "precision_computed", precision), computed_by(module)
        self.module, self.device, self.precision = module, device, precision
        self.bert = getattr(module, "bert", module)
        self.version = f"torch {torch.__version__}"
        self.tokens = 2048 if device == "cpu" else 16384  # as many as fit an L2 cache; enough to keep a GPU busy

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


class MaskedWords(Encoder):
    """The same as a ``harness.port.PredictsWords``, with the vocabulary head."""

    def words(self, batch: Batch, chosen: IntArray) -> Any:
        import torch

        return self.module(self.pack(batch), torch.from_numpy(chosen).to(self.device))


class TrainableEncoder(Encoder):
    """The same as a ``harness.port.Trainable``, with a head."""

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


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. What is never trained is frozen: an encoder, or masked words."""
    import reference
    from reference.checkpoint import read_config

    if variant == "int8":
        reason = reference.no_int8(read_config(folder)[0]) if device == "cpu" else "int8 runs on the CPU only"
        if reason:
            raise NotImplementedError(reason)
    precision = variant if variant in ("bf16", "int8") else precision
    frozen = head in (None, "masked-lm") and variant != "unfrozen"
    module = reference.load(folder, head, device, precision, frozen=frozen)
    if head == "masked-lm":
        return MaskedWords(module, device, precision)
    if variant:
        return Encoder(module, device, precision)
    trainable: Trainable = TrainableEncoder(module, device, precision)
    return trainable
