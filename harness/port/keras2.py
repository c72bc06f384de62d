"""Code written for Keras 2, on today's TensorFlow with ``tf_keras``, and its encoders as ports."""

import os
from collections.abc import Callable
from typing import Any

from harness.port.batch import Batch, pad, pad_to_multiple
from harness.port.hf_folder import google_name
from harness.worker.messages import Array

States = Callable[[Any, Any, Any], list[Any]]  # ids, segments and mask to hidden states, those of the embeddings first


def tensorflow() -> Any:
    """TensorFlow, with ``tf.keras`` the Keras 2 that ``tf_keras`` keeps. To be called before anything imports it."""
    os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # old names are said to be deprecated
    return tf


class Model:
    """``harness.registry.implementations.Model`` over a function that gives the hidden states of every layer."""

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


def google_reader(weights: dict[str, Array]) -> Callable[[str], Array]:
    """A function: Google's name of a variable to its value, as if it were read from Google's checkpoint."""

    def read(variable: str) -> Array:
        name, transposed = google_name(variable)
        return weights[name].T if transposed else weights[name]

    return read
