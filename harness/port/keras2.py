"""Runs code written for Keras 2 on current TensorFlow with ``tf_keras``, and adapts its encoders to the harness."""

import os
from collections.abc import Callable
from typing import Any

from harness.port.batch import Array, Batch, pad_to_multiple, unpad
from harness.port.hf_folder import google_name

States = Callable[[Any, Any, Any], list[Any]]  # (ids, segments, mask) -> hidden states, those of the embeddings first


def tensorflow() -> Any:
    """Import TensorFlow with Keras 2, from ``tf_keras``, as ``tf.keras``. Call this before anything imports it."""
    os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it warns of every old name
    return tf


class Encoder:
    """A function that returns the hidden states of every layer, as a ``harness.port.Model``."""

    batching = "padded"

    def __init__(self, states: States, version: str, step: int | None = None, longest: int = 0) -> None:
        """With ``step`` each graph has a fixed length: a multiple of ``step``, or ``longest``, the model's limit."""
        self.states, self.version, self.step, self.longest = states, version, step, longest
        self.graphs: dict[tuple[bool, int | None], Any] = {}

    def run(self, batch: Batch, every_layer: bool) -> Any:
        """Hidden states [sequences, length, hidden] of the last layer, or a list with those of every layer."""
        arrays = pad_to_multiple(batch, self.step or 1, self.longest)
        return self.graph(every_layer, arrays[0].shape[1] if self.step else None)(*arrays)

    def graph(self, every_layer: bool, length: int | None) -> Any:
        """The compiled function for sequences of this length; None: of any length."""
        if (every_layer, length) not in self.graphs:
            tf = tensorflow()
            inputs = [tf.TensorSpec([None, length], tf.int32)] * 3
            wanted = self.states if every_layer else lambda *inputs: self.states(*inputs)[-1]
            self.graphs[every_layer, length] = tf.function(wanted, input_signature=inputs)
        return self.graphs[every_layer, length]

    def encode(self, batch: Batch) -> Any:
        return self.run(batch, every_layer=False)

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(encoded.numpy(), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return None  # none of these libraries computes it

    def layers(self, batch: Batch) -> list[Array]:
        return [self.fetch(states, batch) for states in self.run(batch, every_layer=True)]

    def synchronize(self) -> None:
        """On the CPU, calls are synchronous."""


def google_reader(weights: dict[str, Array]) -> Callable[[str], Array]:
    """Returns a function from a variable's name in Google's code to its value, like a reader of Google's checkpoint."""

    def read(variable: str) -> Array:
        name, transposed = google_name(variable)
        return weights[name].T if transposed else weights[name]

    return read
