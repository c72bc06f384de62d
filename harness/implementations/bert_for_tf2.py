# /// script
# [tool.bert-atlas]
# environment = "keras-2"
# ///
"""bert-for-tf2: its ``BertModelLayer`` built as its documentation says, on Keras 2, and called with padded batches.

Built that way, it attends to padding. It also deviates in its gelu; the variant "fixed" does neither.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

from harness.port import Model, check_weights, keras2, read_folder, tensorflow1

NAME = "bert-for-tf2"
TITLE = "bert-for-tf2 (kpe)"
CATALOG_ID = "bert-for-tf2"
VARIANTS = {"fixed": "with mask_zero and gelu by the error function"}
DEVIATIONS = {
    "gelu-tanh": "gelu by its tanh approximation",
    "no-padding-mask": "padding is attended to, unless mask_zero is asked for",
}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. ValueError if they do not fit."""
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

    description = f"bert-for-tf2 {version('bert-for-tf2')}, tensorflow {tf.__version__}"
    # A graph has a fixed length. Without a mask, padding beyond the longest sequence would change results.
    return keras2.Encoder(states, description, 32 if variant == "fixed" else 1, config["max_position_embeddings"])


def tensorflow() -> Any:
    """TensorFlow with Keras 2 under its private name too, which this package imports."""
    tf = keras2.tensorflow()
    import tf_keras

    sys.modules |= {"tensorflow.python.keras": tf_keras, "tensorflow.python.keras.backend": tf_keras.backend}
    sys.modules["tensorflow.python"].keras = tf_keras  # type: ignore[attr-defined]
    return tf


def build(layer: Any, tf: Any) -> Any:
    """Create the layer's variables, then let it accept other lengths than the one it was built with."""
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
