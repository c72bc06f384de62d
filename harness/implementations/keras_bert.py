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
"""keras-bert, as its users load it; it finds padding by itself, where the token id is 0."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.port import keras2, tensorflow1
from harness.port.hf_folder import check_weights, read_folder

NAME = "keras-bert"
TITLE = "keras-bert (CyberZHG)"
CATALOG_ID = "cyberzhg-keras-bert"
VARIANTS = {"fixed": "with the original's gelu and LayerNorm epsilon"}
DEVIATIONS = {
    "gelu-tanh": "gelu by its tanh approximation, whatever the configuration says",
    "layer-norm-epsilon-1e-14": "LayerNorm's epsilon is 1e-14, whatever the configuration says",
    "padding-mask-from-ids": "token id 0 is taken for padding; it has no other mask",
}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> keras2.Model:
    """The weights of a Hugging Face folder; ValueError where they do not fit."""
    tensorflow1.check_supported(NAME, device, precision)
    tf = keras2.tensorflow()
    from keras_bert import loader

    config, weights, _ = read_folder(folder)
    check_weights(config, weights)
    # Its loader asks this function for Google's variables by name, one by one.
    loader.checkpoint_loader = lambda _: keras2.google_reader(weights)
    keras_model = loader.load_trained_model_from_checkpoint(str(Path(folder) / "config.json"), "", seq_len=None)
    if variant == "fixed":
        fix(keras_model, config, tf.keras.activations.gelu)
    names = ["Embedding-Norm"]
    names += [f"Encoder-{i + 1}-FeedForward-Norm" for i in range(config["num_hidden_layers"])]
    states = tf.keras.Model(keras_model.inputs, [keras_model.get_layer(name).output for name in names])
    said = f"keras-bert {version('keras-bert')}, tensorflow {tf.__version__}"
    return keras2.Model(lambda ids, segments, mask: states([ids, segments]), said)


def fix(keras_model: Any, config: dict[str, Any], gelu: Any) -> None:
    """Give its layers the gelu by the error function and the configured epsilon; they look at both when called."""
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
