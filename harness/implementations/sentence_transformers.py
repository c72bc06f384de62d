# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "sentence-transformers==6.2.0", "transformers>=5.17", "torch>=2.11", "numpy>=1.26", "safetensors>=0.5",
# ]
# ///
"""sentence-transformers: the BERT of Hugging Face transformers, then pooling into one vector for each sentence.

It is called with padded batches; pooling is timed too. Its numbers are those of the original BERT.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from harness.port import Array, Batch, Model, dtype, pad, read_folder, synchronize, to_numpy, unpad

NAME = "sentence-transformers"
TITLE = "sentence-transformers"
CATALOG_ID = "sentence-transformers"
VARIANTS: dict[str, str] = {}
DEVIATIONS: dict[str, str] = {}


class Encoder:
    """A ``SentenceTransformer`` as a ``harness.port.Model``; it also computes sentence vectors."""

    batching = "padded"

    def __init__(self, module: Any, device: str) -> None:
        self.module, self.bert, self.device = module, module[0].model, device
        packages = ("sentence-transformers", "transformers", "torch")
        self.version = ", ".join(f"{package} {version(package)}" for package in packages)

    def inputs(self, batch: Batch) -> dict[str, Any]:
        import torch

        names = ("input_ids", "token_type_ids", "attention_mask")
        return {name: torch.from_numpy(x).to(self.device) for name, x in zip(names, pad(batch), strict=True)}

    def encode(self, batch: Batch) -> Any:
        return self.module(self.inputs(batch))

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(to_numpy(encoded["token_embeddings"]), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return to_numpy(self.bert.pooler(encoded["token_embeddings"])) if self.bert.pooler is not None else None

    def layers(self, batch: Batch) -> list[Array]:
        states = self.bert(**self.inputs(batch), output_hidden_states=True).hidden_states
        return [unpad(to_numpy(hidden), batch) for hidden in states]

    def synchronize(self) -> None:
        synchronize(self.device)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. RuntimeError names all that are missing, left over or misshapen."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()
    settings = {"dtype": dtype(precision), "ignore_mismatched_sizes": True}
    module: Any = SentenceTransformer(folder, device=device, model_kwargs=settings, local_files_only=True).eval()
    encoder, bert = read_folder(folder).encoder, module[0].model
    if "pooler.dense.weight" not in encoder:
        bert.pooler = None
    # Loaded again, strictly: transformers has replaced missing and misshapen weights by random ones.
    bert.load_state_dict({name: torch.from_numpy(array) for name, array in encoder.items()})
    return Encoder(module, device)


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The tokenizer that the package loads from the folder."""
    from sentence_transformers import SentenceTransformer

    own = SentenceTransformer(folder, device="cpu", local_files_only=True).tokenizer
    return lambda text: list(own(text)["input_ids"])
