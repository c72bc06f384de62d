"""A Hugging Face folder as the ports read it: with numpy and safetensors alone, in any environment.

The harness always hands a port a folder with ``config.json`` and one ``model.safetensors``, float32, under
Hugging Face's names; ``reference.checkpoint`` reads whatever else users have.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from harness.protocol import Array

HEAD = ("classifier.", "cls.", "qa_outputs.")


class Folder(NamedTuple):
    """What stands in a folder of weights."""

    config: dict[str, Any]  # Hugging Face's keys
    encoder: dict[str, Array]  # "embeddings...", "encoder.layer.0...", "pooler..." (where there is one)
    head: dict[str, Array]  # "classifier.weight" and "classifier.bias", or empty


def read_folder(folder: str | Path) -> Folder:
    """Read configuration and weights; the prefix ``bert.`` is taken off, and what is no weight is left out."""
    from safetensors.numpy import load_file

    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    tensors = load_file(Path(folder) / "model.safetensors")
    head = {name: tensor for name, tensor in tensors.items() if name.startswith(HEAD)}
    encoder = {
        name.removeprefix("bert."): tensor
        for name, tensor in tensors.items()
        if name not in head and not name.endswith("position_ids")
    }
    return Folder(config, encoder, head)


def google_name(name: str) -> tuple[str, bool]:
    """Hugging Face's name of an encoder's weight for a variable of Google's code; whether it is to be transposed.

    ``bert/encoder/layer_0/attention/self/query/kernel`` is ``encoder.layer.0.attention.self.query.weight``, transposed.
    """
    own = name.removeprefix("bert/").replace("layer_", "layer.").replace("/", ".")
    own = own.replace(".gamma", ".weight").replace(".beta", ".bias")
    if own.endswith("_embeddings"):
        return f"{own}.weight", False
    return own.replace(".kernel", ".weight"), own.endswith(".kernel")
