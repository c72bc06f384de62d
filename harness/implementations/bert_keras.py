# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "tensorflow-cpu==2.21.0", "tf-keras==2.21.0", "numpy==2.4.6", "safetensors==0.8.0",
#     "keras-bert==0.89.0", "keras-transformer==0.40.0", "keras-pos-embd==0.13.0", "keras-multi-head==0.29.0",
#     "keras-layer-normalization==0.16.0", "keras-position-wise-feed-forward==0.8.0",
#     "keras-embed-sim==0.10.0", "keras-self-attention==0.51.0", "bert-for-tf2==0.14.9", "params-flow==0.8.2",
#     "py-params==0.10.2", "tqdm==4.70.1",
#     "absl-py==2.5.1", "astunparse==1.6.3", "certifi==2026.10.18", "charset-normalizer==3.5.2",
#     "flatbuffers==25.12.19", "gast==0.7.0", "google-pasta==0.2.0", "grpcio==1.85.1", "h5py==3.14.0",
#     "idna==3.20", "ml_dtypes==0.6.0", "opt_einsum==3.4.0", "packaging==26.3", "protobuf==7.36.2",
#     "requests==2.34.2", "six==1.17.0", "termcolor==3.3.0", "typing_extensions==4.16.0", "urllib3==2.8.0",
#     "wrapt==2.5.2",
# ]
# [tool.bert-atlas]
# no-deps = true
# build = ["setuptools<70", "wheel"]
# ///
"""Separius/BERT-keras, from the user's copy of the repository, set up as its loader of Google's checkpoints does."""

import importlib.util
import sys
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.port import keras2, tensorflow1
from harness.port.hf_folder import check_weights, read_folder
from harness.worker.messages import Array

NAME = "bert-keras"
TITLE = "Separius/BERT-keras"
CATALOG_ID = "separius-bert-keras"
CHECKOUT = "https://github.com/Separius/BERT-keras"
VARIANTS: dict[str, str] = {}
DEVIATIONS: dict[str, str] = {}

# In the order of its variables; kernels are transposed, those of query, key and value are side by side in one.
EMBEDDINGS = ("token_type_embeddings.weight", "position_embeddings.weight", "word_embeddings.weight")
DENSES_AND_NORMS = (
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> keras2.Model:
    """The weights of a Hugging Face folder; ValueError where they do not fit."""
    tensorflow1.check_supported(NAME, device, precision)
    tf = tensorflow()
    from data.vocab import TextEncoder
    from transformer.model import create_transformer

    config, weights, _ = read_folder(folder)
    check_weights(config, weights)
    transformer = create_transformer(
        embedding_dim=config["hidden_size"],
        vocab_size=config["vocab_size"] - TextEncoder.SPECIAL_COUNT,  # which it adds; its ids are ours then
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
    every.input_spec = None  # it was made for the longest sequences, and computes shorter ones as well

    def states(ids: Any, segments: Any, mask: Any) -> list[Any]:
        length = ids.shape[1]
        positions = tf.zeros_like(ids) + tf.range(length)
        seen = tf.tile(tf.cast(mask, tf.float32)[:, None, None], [1, 1, length, 1])  # by each token: [.., 1, to, from]
        result: list[Any] = every([ids, segments, positions, seen])
        return result

    said = f"Separius/BERT-keras, tf-keras {version('tf-keras')}, tensorflow {tf.__version__}"
    return keras2.Model(states, said, 32, config["max_position_embeddings"])  # a graph is for one length


def tensorflow() -> Any:
    """TensorFlow, with what this code knew as the package ``keras``, of version 2.2."""
    tf = keras2.tensorflow()
    import tf_keras
    from tf_keras import backend, initializers, layers

    sys.modules |= {
        "keras": tf_keras,
        "keras.backend": backend,
        "keras.initializers": initializers,
        "keras.layers": layers,
    }
    backend.tf = SimpleNamespace(erf=tf.math.erf)  # where its gelu looks for it
    backend.batch_dot = tf.matmul  # of tensors with two batch axes Keras made another product since 2.3
    if "transformer" not in sys.modules:  # its __init__.py prepares for TPUs with what TensorFlow 2 dropped: not run
        spec = importlib.util.find_spec("transformer")
        if spec is None:
            raise ModuleNotFoundError("no folder transformer: this is no checkout of Separius/BERT-keras")
        sys.modules["transformer"] = importlib.util.module_from_spec(spec)
    return tf


def in_its_order(weights: dict[str, Array], layers: int) -> list[Array]:
    """The encoder's weights as ``set_weights`` wants them."""
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
