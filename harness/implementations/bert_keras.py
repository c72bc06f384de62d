# /// script
# [tool.bert-atlas]
# environment = "keras-2"
# ///
"""Separius/BERT-keras, from the user's checkout of the repository.

Its Transformer is built as its loader of Google's checkpoints builds it, on Keras 2, and called with padded batches.
Its numbers are those of the original BERT.
"""

import importlib.util
import sys
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.port import Array, Model, check_weights, keras2, read_folder, tensorflow1

NAME = "bert-keras"
TITLE = "Separius/BERT-keras"
CATALOG_ID = "separius-bert-keras"
CHECKOUT = "https://github.com/Separius/BERT-keras"
VARIANTS: dict[str, str] = {}
DEVIATIONS: dict[str, str] = {}

# In the order of its variables. Kernels are transposed; those of query, key and value are concatenated.
EMBEDDINGS = ("token_type_embeddings.weight", "position_embeddings.weight", "word_embeddings.weight")
DENSES_AND_NORMS = (
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. ValueError if they do not fit."""
    tensorflow1.check_supported(NAME, device, precision)
    tf = tensorflow()
    from data.vocab import TextEncoder
    from transformer.model import create_transformer

    config, weights, _ = read_folder(folder)
    check_weights(config, weights)
    transformer = create_transformer(
        embedding_dim=config["hidden_size"],
        vocab_size=config["vocab_size"] - TextEncoder.SPECIAL_COUNT,  # it adds them; this keeps the ids of tokens
        max_len=config["max_position_embeddings"],
        num_heads=config["num_attention_heads"],
        num_layers=config["num_hidden_layers"],
        d_hid=config["intermediate_size"],
        layer_norm_epsilon=config.get("layer_norm_eps", 1e-12),
        embedding_layer_norm=True,
        use_one_embedding_dropout=True,
        accurate_gelu=True,
        neg_inf=-1e4,
    )
    transformer.set_weights(in_its_order(weights, config["num_hidden_layers"]))
    norms = [layer.output for layer in transformer.layers if type(layer).__name__ == "LayerNormalization"]
    every = tf.keras.Model(transformer.inputs, [norms[0], *norms[2::2]])
    every.input_spec = None  # built for the longest sequences, it can compute shorter ones

    def states(ids: Any, segments: Any, mask: Any) -> list[Any]:
        length = ids.shape[1]
        positions = tf.zeros_like(ids) + tf.range(length)
        seen = tf.tile(tf.cast(mask, tf.float32)[:, None, None], [1, 1, length, 1])  # [sequences, 1, to, from]
        result: list[Any] = every([ids, segments, positions, seen])
        return result

    description = f"Separius/BERT-keras, tf-keras {version('tf-keras')}, tensorflow {tf.__version__}"
    return keras2.Encoder(states, description, 32, config["max_position_embeddings"])  # a graph has a fixed length


def tensorflow() -> Any:
    """TensorFlow, and Keras 2 under the name ``keras`` with what version 2.2 had."""
    tf = keras2.tensorflow()
    import tf_keras
    from tf_keras import backend, initializers, layers

    sys.modules |= {
        "keras": tf_keras,
        "keras.backend": backend,
        "keras.initializers": initializers,
        "keras.layers": layers,
    }
    backend.tf = SimpleNamespace(erf=tf.math.erf)  # the repository's gelu looks for it there
    backend.batch_dot = tf.matmul  # since 2.3, Keras treats two batch axes differently
    if "transformer" not in sys.modules:  # its __init__.py uses TPU functions that TensorFlow 2 lacks: skip it
        spec = importlib.util.find_spec("transformer")
        if spec is None:
            raise ModuleNotFoundError("no folder transformer: this is no checkout of Separius/BERT-keras")
        sys.modules["transformer"] = importlib.util.module_from_spec(spec)
    return tf


def in_its_order(weights: dict[str, Array], layers: int) -> list[Array]:
    """The encoder's weights in the order of ``set_weights``."""
    norm = ["embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"]
    result = [*(weights[f"embeddings.{name}"] for name in EMBEDDINGS), *(weights[name] for name in norm)]
    for layer in (f"encoder.layer.{i}" for i in range(layers)):
        parts = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        result.append(np.concatenate([weights[f"{part}.weight"].T for part in parts], axis=1)[None])
        result.append(np.concatenate([weights[f"{part}.bias"] for part in parts]))
        for name in (f"{layer}.{name}" for name in DENSES_AND_NORMS):
            weight = weights[f"{name}.weight"]
            result += [weight if name.endswith("Norm") else weight.T[None], weights[f"{name}.bias"]]
    return result
