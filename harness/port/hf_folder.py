"""A Hugging Face folder as the ports read it: with numpy and safetensors alone, in any environment.

The harness always hands a port a folder with ``config.json`` and one ``model.safetensors``, float32, under
Hugging Face's names; ``reference.checkpoint`` reads whatever else users have.
"""

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from harness.worker.messages import Array

HEAD = ("classifier.", "cls.", "qa_outputs.")
POOLER = {"pooler.dense.weight", "pooler.dense.bias"}
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")  # of a layer


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


def check_weights(config: dict[str, Any], weights: dict[str, Array]) -> None:
    """ValueError that names what is missing, left over or misshapen in a BERT encoder; a pooler is left out anyway."""
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
    """The word pieces by id, from ``tokenizer.json`` or else from ``vocab.txt``, as our own tokenizer has them."""
    vocabulary = _vocabulary()
    pieces: list[str] = vocabulary.by_id(vocabulary.vocabulary_of(Path(folder)))
    return pieces


def is_uncased(folder: str | Path, pieces: list[str]) -> bool:
    """Whether its tokenizer, with the vocabulary ``pieces``, lowers capitals: as our own tokenizer decides."""
    return bool(_vocabulary().case_of(Path(folder), pieces).lower)


@cache
def _vocabulary() -> Any:
    """``reference.vocabulary`` from its file: of our packages, a foreign environment can import this one alone."""
    file = Path(__file__).parents[2] / "reference" / "vocabulary.py"
    spec = importlib.util.spec_from_file_location("bert_atlas_vocabulary", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def google_name(name: str) -> tuple[str, bool]:
    """Hugging Face's name of an encoder's weight for a variable of Google's code; whether it is to be transposed.

    ``bert/encoder/layer_0/attention/self/query/kernel`` is ``encoder.layer.0.attention.self.query.weight``, transposed.
    """
    own = name.removeprefix("bert/").replace("layer_", "layer.").replace("/", ".")
    own = own.replace(".gamma", ".weight").replace(".beta", ".bias")
    if own.endswith("_embeddings"):
        return f"{own}.weight", False
    return own.replace(".kernel", ".weight"), own.endswith(".kernel")
