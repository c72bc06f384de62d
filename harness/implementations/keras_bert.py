# /// script
# [tool.bert-atlas]
# environment = "keras-2"
# ///
"""keras-bert, loaded by its own loader of Google's checkpoints, on Keras 2, and called with padded batches.

It detects padding by token id 0. It deviates in gelu and LayerNorm's epsilon; the variant "fixed" does not.
"""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.port import Model, check_weights, keras2, read_folder, tensorflow1

NAME = "keras-bert"
TITLE = "keras-bert (CyberZHG)"
CATALOG_ID = "cyberzhg-keras-bert"
VARIANTS = {"fixed": "with the original's gelu and LayerNorm epsilon"}
DEVIATIONS = {
    "gelu-tanh": "gelu by its tanh approximation, whatever the configuration says",
    "layer-norm-epsilon-1e-14": "LayerNorm's epsilon is 1e-14, whatever the configuration says",
    "padding-mask-from-ids": "token id 0 is taken for padding; it has no other mask",
}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. ValueError if they do not fit."""
    tensorflow1.check_supported(NAME, device, precision)
    tf = keras2.tensorflow()
    from keras_bert import loader

    config, weights, _ = read_folder(folder)
    check_weights(config, weights)
    # The loader calls this function for each of Google's variables, by name.
    loader.checkpoint_loader = lambda _: keras2.google_reader(weights)
    keras_model = loader.load_trained_model_from_checkpoint(str(Path(folder) / "config.json"), "", seq_len=None)
    if variant == "fixed":
        fix(keras_model, config, tf.keras.activations.gelu)
    names = ["Embedding-Norm"]
    names += [f"Encoder-{i + 1}-FeedForward-Norm" for i in range(config["num_hidden_layers"])]
    states = tf.keras.Model(keras_model.inputs, [keras_model.get_layer(name).output for name in names])
    description = f"keras-bert {version('keras-bert')}, tensorflow {tf.__version__}"
    return keras2.Encoder(lambda ids, segments, mask: states([ids, segments]), description)


def fix(keras_model: Any, config: dict[str, Any], gelu: Any) -> None:
    """Give the layers the exact gelu and the configured epsilon; they read both at each call."""
    for layer in keras_model.layers:
        if layer.name.endswith("FeedForward"):
            layer.activation = gelu
        if layer.name.endswith("Norm"):
            layer.epsilon = config.get("layer_norm_eps", 1e-12)


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """keras-bert's own tokenizer."""
    keras2.tensorflow()
    from keras_bert import Tokenizer, load_vocabulary

    def as_google(file: str, do_lower_case: bool) -> Any:
        own = Tokenizer(load_vocabulary(file), cased=not do_lower_case)
        return SimpleNamespace(tokenize=own._tokenize, convert_tokens_to_ids=own._convert_tokens_to_ids)

    return tensorflow1.tokenizer(as_google, folder)
