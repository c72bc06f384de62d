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
"""bert-for-tf2: its ``BertModelLayer`` as its documentation makes it, which leaves padding unmasked."""

import sys
from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

from harness.port import keras2, tensorflow1
from harness.port.hf_folder import check_weights, read_folder

NAME = "bert-for-tf2"
TITLE = "bert-for-tf2 (kpe)"
CATALOG_ID = "bert-for-tf2"
VARIANTS = {"fixed": "with mask_zero and gelu by the error function"}
DEVIATIONS = {
    "gelu-tanh": "gelu by its tanh approximation",
    "no-padding-mask": "padding is attended to, unless mask_zero is asked for",
}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> keras2.Model:
    """The weights of a Hugging Face folder; ValueError where they do not fit."""
    tensorflow1.check_supported(NAME, device, precision)
    tf = tensorflow()
    import bert
    from params_flow.activations import gelu_exact

    config, weights, _ = read_folder(folder)
    check_weights(config, weights)
    params = bert.loader.map_stock_config_to_params(SimpleNamespace(**(config | {"embedding_size": None})))
    params.out_layer_ndxs = list(range(config["num_hidden_layers"]))
    if variant == "fixed":
        params.mask_zero, params.intermediate_activation = True, gelu_exact
    layer = build(bert.BertModelLayer.from_params(params, name="bert"), tf)
    read = keras2.google_reader(weights)
    layer.set_weights([read(bert.loader.map_to_stock_variable_name(each.name)) for each in layer.weights])

    def states(ids: Any, segments: Any, mask: Any) -> list[Any]:
        return [layer.embeddings_layer([ids, segments]), *layer([ids, segments])]

    said = f"bert-for-tf2 {version('bert-for-tf2')}, tensorflow {tf.__version__}"
    # Its graph is for one length. Without a mask, more padding than the longest sequence needs would change results.
    return keras2.Model(states, said, 32 if variant == "fixed" else 1, config["max_position_embeddings"])


def tensorflow() -> Any:
    """TensorFlow as this package knew it: with one Keras under the public name and the private one."""
    tf = keras2.tensorflow()
    import tf_keras

    sys.modules |= {"tensorflow.python.keras": tf_keras, "tensorflow.python.keras.backend": tf_keras.backend}
    sys.modules["tensorflow.python"].keras = tf_keras  # type: ignore[attr-defined]
    return tf


def build(layer: Any, tf: Any) -> Any:
    """Make its variables; afterwards its layers take other lengths than the one that they were built with."""
    layer([tf.keras.Input((8,), dtype="int32"), tf.keras.Input((8,), dtype="int32")])
    for each in layer.submodules:
        if isinstance(each, tf.keras.layers.Layer):
            each.input_spec = None
    layer.input_spec = None
    return layer


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """Its copy of Google's tokenizer."""
    tensorflow()
    from bert.tokenization.bert_tokenization import FullTokenizer

    return tensorflow1.tokenizer(FullTokenizer, folder)
