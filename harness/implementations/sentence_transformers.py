# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "sentence-transformers==6.2.0", "transformers>=5.17", "torch>=2.11", "numpy>=1.26", "safetensors>=0.5",
# ]
# ///
"""sentence-transformers: Hugging Face transformers' BERT, and what makes one vector of a sentence after it."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from harness.port.batch import Batch, pad
from harness.port.hf_folder import read_folder
from harness.port.tensors import dtype, synchronize, to_numpy
from harness.worker.messages import Array

NAME = "sentence-transformers"
TITLE = "sentence-transformers"
CATALOG_ID = "sentence-transformers"
VARIANTS: dict[str, str] = {}
DEVIATIONS: dict[str, str] = {}


class Model:
    """``harness.registry.implementations.Model`` over a ``SentenceTransformer``, sentence vectors included."""

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
        return to_numpy(encoded["token_embeddings"])[pad(batch)[2] == 1]

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return to_numpy(self.bert.pooler(encoded["token_embeddings"])) if self.bert.pooler is not None else None

    def layers(self, batch: Batch) -> list[Array]:
        states = self.bert(**self.inputs(batch), output_hidden_states=True).hidden_states
        return [to_numpy(hidden)[pad(batch)[2] == 1] for hidden in states]

    def synchronize(self) -> None:
        synchronize(self.device)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """The weights of a Hugging Face folder; RuntimeError naming every one that is missing, left over or misshapen."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()
    settings = {"dtype": dtype(precision), "ignore_mismatched_sizes": True}
    module: Any = SentenceTransformer(folder, device=device, model_kwargs=settings, local_files_only=True).eval()
    encoder, bert = read_folder(folder).encoder, module[0].model
    if "pooler.dense.weight" not in encoder:
        bert.pooler = None
    # Once more, strictly: on the way here one that is missing or misshapen was drawn anew.
    bert.load_state_dict({name: torch.from_numpy(array) for name, array in encoder.items()})
    return Model(module, device)


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The tokenizer that the package makes of the folder."""
    from sentence_transformers import SentenceTransformer

    own = SentenceTransformer(folder, device="cpu", local_files_only=True).tokenizer
    return lambda text: list(own(text)["input_ids"])
