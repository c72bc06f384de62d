# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "curated-transformers==2.0.1", "requests==2.34.2", "torch>=2.11", "numpy>=1.26", "safetensors>=0.5",
# ]
# ///
"""curated-transformers by Explosion: encoders put together from shared layers."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.port.batch import Batch, pad
from harness.port.hf_folder import read_folder
from harness.port.tensors import dtype, synchronize, to_numpy
from harness.worker.messages import Array

NAME = "curated-transformers"
TITLE = "curated-transformers"
CATALOG_ID = "explosion-curated-transformers"
VARIANTS = {"sdpa": "attention by torch's fused function"}
DEVIATIONS: dict[str, str] = {}


class Model:
    """The Protocol of ``harness.registry.implementations`` over a ``BERTEncoder``; it has no pooler."""

    batching = "padded"

    def __init__(self, module: Any, device: str, fused: bool) -> None:
        self.module, self.device, self.fused = module, device, fused
        self.version = f"curated-transformers {version('curated-transformers')}, torch {version('torch')}"

    def encode(self, batch: Batch) -> Any:
        import torch
        from curated_transformers.layers import AttentionMask
        from curated_transformers.layers.attention import enable_torch_sdp

        ids, segments, mask = (torch.from_numpy(x).to(self.device) for x in pad(batch))
        with enable_torch_sdp(self.fused):
            return self.module(ids, AttentionMask(mask.bool()), type_ids=segments)

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return to_numpy(encoded.last_hidden_layer_state)[pad(batch)[2] == 1]

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return None

    def layers(self, batch: Batch) -> list[Array]:
        return [to_numpy(hidden)[pad(batch)[2] == 1] for hidden in self.encode(batch).all_outputs]

    def synchronize(self) -> None:
        synchronize(self.device)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """The weights of a Hugging Face folder; RuntimeError naming every one that is missing, left over or misshapen."""
    import torch

    add_repository()
    from curated_transformers.models import BERTEncoder

    config, encoder, _ = read_folder(folder)
    module = BERTEncoder.from_hf_config(hf_config=config)
    tensors = {name: torch.from_numpy(array) for name, array in encoder.items() if not name.startswith("pooler.")}
    module.load_state_dict(module.state_dict_from_hf(tensors))
    return Model(module.to(device, dtype(precision)).eval(), device, variant == "sdpa")


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The package's own reader of the folder's tokenizer.json."""
    add_repository()
    from curated_transformers.tokenizers import Tokenizer

    own = Tokenizer.from_dir(Path(folder))
    own.tokenizer.no_truncation()  # which the file may ask for
    own.tokenizer.no_padding()

    def tokenize(text: str) -> list[int]:
        (ids,) = own.encode([text]).ids
        return list(ids)

    return tokenize


def add_repository() -> None:
    """The package imports a name, for a type annotation, that newer versions of huggingface_hub no longer have."""
    import huggingface_hub

    if not hasattr(huggingface_hub, "Repository"):
        huggingface_hub.Repository = object
