# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "curated-transformers==2.0.1", "requests==2.34.2", "torch>=2.11", "numpy>=1.26", "safetensors>=0.5",
# ]
# ///
"""curated-transformers by Explosion, whose encoders are composed of shared layers.

Its ``BERTEncoder`` has no pooler; it is called with padded batches. Its numbers are those of the original BERT.
"""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.port import Array, Batch, Model, dtype, pad, read_folder, synchronize, to_numpy, unpad

NAME = "curated-transformers"
TITLE = "curated-transformers"
CATALOG_ID = "explosion-curated-transformers"
VARIANTS = {"sdpa": "attention by torch's fused function"}
DEVIATIONS: dict[str, str] = {}


class Encoder:
    """A ``BERTEncoder`` as a ``harness.port.Model``."""

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
        return unpad(to_numpy(encoded.last_hidden_layer_state), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return None

    def layers(self, batch: Batch) -> list[Array]:
        return [unpad(to_numpy(hidden), batch) for hidden in self.encode(batch).all_outputs]

    def synchronize(self) -> None:
        synchronize(self.device)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. RuntimeError names all that are missing, left over or misshapen."""
    import torch

    add_repository()
    from curated_transformers.models import BERTEncoder

    config, encoder, _ = read_folder(folder)
    module = BERTEncoder.from_hf_config(hf_config=config)
    tensors = {name: torch.from_numpy(array) for name, array in encoder.items() if not name.startswith("pooler.")}
    module.load_state_dict(module.state_dict_from_hf(tensors))
    return Encoder(module.to(device, dtype(precision)).eval(), device, variant == "sdpa")


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The package's own reader of the folder's tokenizer.json."""
    add_repository()
    from curated_transformers.tokenizers import Tokenizer

    own = Tokenizer.from_dir(Path(folder))
    own.tokenizer.no_truncation()  # the file may ask for both
    own.tokenizer.no_padding()

    def tokenize(text: str) -> list[int]:
        (ids,) = own.encode([text]).ids
        return list(ids)

    return tokenize


def add_repository() -> None:
    """Add a name to huggingface_hub that the package imports for a type annotation, and that newer versions lack."""
    import huggingface_hub

    if not hasattr(huggingface_hub, "Repository"):
        huggingface_hub.Repository = object
