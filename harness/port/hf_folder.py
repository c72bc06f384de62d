"""Reads a Hugging Face folder with numpy and safetensors alone, in any environment.

The harness always gives an implementation a folder with ``config.json`` and one ``model.safetensors``: float32, under
Hugging Face's names. It converts other formats beforehand, with ``reference.checkpoint``.
"""

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from harness.port.batch import Array

HEAD = ("classifier.", "cls.", "qa_outputs.")
POOLER = {"pooler.dense.weight", "pooler.dense.bias"}
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")  # of a layer


class Folder(NamedTuple):
    """The content of a folder of weights."""

    config: dict[str, Any]  # Hugging Face's keys
    encoder: dict[str, Array]  # "embeddings...", "encoder.layer.0...", "pooler..." (if there is one)
    head: dict[str, Array]  # "classifier.weight" and "classifier.bias", or empty


def read_folder(folder: str | Path) -> Folder:
    """Read configuration and weights. Names lose their prefix ``bert.``; buffers (position ids) are left out."""
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


def check_weights(config: dict[str, Any], weights: dict[str, Array]) -> None:
    """Raise ValueError, with names, if an encoder's weights are missing, left over or misshapen. A pooler may exist."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    tables = {
        "word": config["vocab_size"],
        "position": config["max_position_embeddings"],
        "token_type": config["type_vocab_size"],
    }
    shapes: dict[str, tuple[int, ...]] = {
        f"embeddings.{name}_embeddings.weight": (rows, hidden) for name, rows in tables.items()
    }
    dense: dict[str, tuple[int, ...]] = {
        f"attention.self.{name}": (hidden, hidden) for name in ("query", "key", "value")
    }
    dense |= {"attention.output.dense": (hidden, hidden), "intermediate.dense": (inner, hidden)}
    dense |= {"output.dense": (hidden, inner)}
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{i}" for i in range(config["num_hidden_layers"])):
        norms += [f"{layer}.{norm}" for norm in NORMS]
        for name, shape in dense.items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
    shapes |= {f"{norm}.{kind}": (hidden,) for norm in norms for kind in ("weight", "bias")}
    if absent := shapes.keys() - weights.keys():
        raise ValueError(f"the checkpoint lacks {', '.join(sorted(absent))}")
    if left := weights.keys() - shapes.keys() - POOLER:
        raise ValueError(f"the model has no place for {', '.join(sorted(left))}")
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise ValueError(f"{name}: the model has {list(shape)}, the weights {list(weights[name].shape)}")


def read_vocabulary(folder: str | Path) -> list[str]:
    """The word pieces by id, from ``tokenizer.json`` or else ``vocab.txt``; the same as the reference tokenizer's."""
    vocabulary = _vocabulary()
    pieces: list[str] = vocabulary.by_id(vocabulary.vocabulary_of(Path(folder)))
    return pieces


def is_uncased(folder: str | Path, pieces: list[str]) -> bool:
    """Whether text is lowercased before it is cut into ``pieces``; the same decision as the reference tokenizer's."""
    return bool(_vocabulary().case_of(Path(folder), pieces).lower)


@cache
def _vocabulary() -> Any:
    """``reference.files.vocabulary`` from its file: a foreign environment can import no other module of ours."""
    file = Path(__file__).parents[2] / "reference" / "files" / "vocabulary.py"
    spec = importlib.util.spec_from_file_location("bert_atlas_vocabulary", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def google_name(name: str) -> tuple[str, bool]:
    """Hugging Face's name for an encoder variable of Google's code, and whether the weight must be transposed.

    ``bert/encoder/layer_0/attention/self/query/kernel`` is ``encoder.layer.0.attention.self.query.weight``, transposed.
    """
    own = name.removeprefix("bert/").replace("layer_", "layer.").replace("/", ".")
    own = own.replace(".gamma", ".weight").replace(".beta", ".bias")
    if own.endswith("_embeddings"):
        return f"{own}.weight", False
    return own.replace(".kernel", ".weight"), own.endswith(".kernel")
