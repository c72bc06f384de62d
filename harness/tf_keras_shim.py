"""Code written for Keras 2, on today's TensorFlow with ``tf_keras``, and its encoders as ports."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.batch import Batch, pad
from harness.folder import google_name
from harness.protocol import Array

States = Callable[[Any, Any, Any], list[Any]]  # ids, segments and mask to hidden states, those of the embeddings first
POOLER = {"pooler.dense.weight", "pooler.dense.bias"}
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


def tensorflow() -> Any:
    """TensorFlow, with ``tf.keras`` the Keras 2 that ``tf_keras`` keeps. To be called before anything imports it."""
    os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # old names are said to be deprecated
    return tf


class Model:
    """The Protocol of ``harness.implementation`` over a function that gives the hidden states of every layer."""

    batching = "padded"

    def __init__(self, states: States, version: str, step: int | None = None, longest: int = 0) -> None:
        """With ``step`` a graph reads one length only: a multiple of it, or ``longest``, the model's own limit."""
        self.states, self.version, self.step, self.longest = states, version, step, longest
        self.graphs: dict[tuple[bool, int | None], Any] = {}

    def run(self, batch: Batch, every_layer: bool) -> Any:
        """Hidden states, [sequences, length, hidden], of the last layer or a list of those of all."""
        arrays = pad_to_multiple(batch, self.step or 1, self.longest)
        return self.graph(every_layer, arrays[0].shape[1] if self.step else None)(*arrays)

    def graph(self, every_layer: bool, length: int | None) -> Any:
        """The compiled function for sequences of this length, or of any."""
        if (every_layer, length) not in self.graphs:
            tf = tensorflow()
            inputs = [tf.TensorSpec([None, length], tf.int32)] * 3
            wanted = self.states if every_layer else lambda *inputs: self.states(*inputs)[-1]
            self.graphs[every_layer, length] = tf.function(wanted, input_signature=inputs)
        return self.graphs[every_layer, length]

    def encode(self, batch: Batch) -> Any:
        return self.run(batch, every_layer=False)

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        mask = pad(batch)[2] == 1
        states: Array = encoded.numpy()[:, : mask.shape[1]][mask]
        return states

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return None  # none of these libraries computes it

    def layers(self, batch: Batch) -> list[Array]:
        return [self.fetch(states, batch) for states in self.run(batch, every_layer=True)]

    def synchronize(self) -> None:
        """On the CPU a call returns when it has computed."""


def pad_to_multiple(batch: Batch, step: int, longest: int) -> list[Array]:
    """Ids, segments and mask as int32, [sequences, length]: a multiple of ``step``, but not more than ``longest``."""
    arrays = pad(batch)
    length = arrays[0].shape[1]
    more = max(0, min(-length % step, longest - length))
    return [np.pad(array.astype("int32"), ((0, 0), (0, more))) for array in arrays]


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


def google_reader(weights: dict[str, Array]) -> Callable[[str], Array]:
    """A function: Google's name of a variable to its value, as if it were read from Google's checkpoint."""

    def read(variable: str) -> Array:
        name, transposed = google_name(variable)
        return weights[name].T if transposed else weights[name]

    return read
