# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "keras-hub==0.32.0", "keras==3.15.1", "torch==2.13.0", "jax==0.10.2", "tensorflow==2.21.0",
#     "tensorflow-text==2.21.1", "numpy==2.4.6", "safetensors==0.8.0",
# ]
# ///
"""KerasHub's ``BertBackbone`` on each of Keras's backends, compiled where ``predict`` would compile it.

It is called with padded batches. It deviates in its gelu; the variant "fixed" does not.
"""

import os
from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

from harness.port import (
    Array,
    Batch,
    Model,
    check_weights,
    pad_to_multiple,
    read_folder,
    synchronize,
    tensorflow1,
    unpad,
)

NAME = "keras-hub"
TITLE = "KerasHub"
CATALOG_ID = "keras-hub"
VARIANTS = {"jax": "on JAX", "tensorflow": "on TensorFlow", "fixed": "gelu by the error function"}
DEVIATIONS = {"gelu-tanh": "gelu by its tanh approximation"}

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # Keras's names


class Encoder:
    """A functional Keras model as a ``harness.port.Model``."""

    batching = "padded"

    def __init__(self, backbone: Any, backend: str, device: str, has_pooler: bool) -> None:
        self.backbone, self.backend, self.device, self.has_pooler = backbone, backend, device, has_pooler
        self.run = compiled(backbone, backend)
        self.version = ", ".join(f"{name} {version(name)}" for name in ("keras-hub", "keras", backend))

    def inputs(self, batch: Batch) -> dict[str, Array]:
        step = 32 if self.backend == "jax" else 1  # JAX compiles for every length; padding is masked
        arrays = pad_to_multiple(batch, step, self.backbone.max_sequence_length)
        return dict(zip(("token_ids", "segment_ids", "padding_mask"), arrays, strict=True))

    def encode(self, batch: Batch) -> Any:
        return self.run(self.inputs(batch))

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(to_numpy(encoded["sequence_output"]), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return to_numpy(encoded["pooled_output"]) if self.has_pooler else None

    def layers(self, batch: Batch) -> list[Array]:
        import keras

        steps = [self.backbone.get_layer("embeddings_layer_norm"), *self.backbone.transformer_layers]
        states = keras.Model(self.backbone.input, [step.output for step in steps])(self.inputs(batch), training=False)
        return [self.fetch({"sequence_output": hidden}, batch) for hidden in states]

    def synchronize(self) -> None:
        synchronize(self.device)


def compiled(backbone: Any, backend: str) -> Callable[[dict[str, Array]], Any]:
    """The model as a function that returns when it has computed (torch on a GPU: when the work is queued)."""
    if backend == "jax":
        import jax

        weights = [variable.value for variable in backbone.trainable_variables]
        others = [variable.value for variable in backbone.non_trainable_variables]
        run = jax.jit(lambda *arguments: backbone.stateless_call(*arguments, training=False)[0])
        return lambda inputs: jax.block_until_ready(run(weights, others, inputs))
    if backend == "tensorflow":
        import tensorflow as tf

        signature = {name: tf.TensorSpec([None, None], tf.int32, name) for name in backbone.input}
        return tf.function(lambda inputs: backbone(inputs, training=False), input_signature=[signature])
    return lambda inputs: backbone(inputs, training=False)


def to_numpy(tensor: Any) -> Array:
    """A tensor of any backend in float32."""
    from keras import ops

    array: Array = ops.convert_to_numpy(ops.cast(tensor, "float32"))
    return array


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. ValueError if they do not fit."""
    backend = variant if variant in ("jax", "tensorflow") else "torch"
    if backend != "torch" and device != "cpu":
        raise NotImplementedError(
            f"{NAME}:{variant} runs on the CPU only: {backend} is installed without support for GPUs"
        )
    if precision not in DTYPES:
        raise NotImplementedError(f"{NAME} computes in float32 at most: Keras's LayerNorm turns float64 into it")
    os.environ |= {"KERAS_BACKEND": backend, "KERAS_TORCH_DEVICE": device, "TF_CPP_MIN_LOG_LEVEL": "2"}
    import keras
    from keras_hub.models import BertBackbone
    from keras_hub.src.utils.transformers import convert_bert

    config, weights, _ = read_folder(folder)
    check_weights(config, weights)
    settings = convert_bert.convert_backbone_config(config) | {"num_segments": config["type_vocab_size"]}
    backbone = BertBackbone(**settings, dtype=DTYPES[precision])

    def port_weight(keras_variable: Any, hf_weight_key: str, hook_fn: Any = lambda weight, shape: weight) -> None:
        if hf_weight_key in weights:  # ``from_preset`` requires a pooler, which not all checkpoints have
            keras_variable.assign(hook_fn(weights[hf_weight_key], list(keras_variable.shape)))

    loader = SimpleNamespace(get_tensor=weights.__getitem__, port_weight=port_weight)
    convert_bert.convert_weights(backbone, loader, config)
    if variant == "fixed":
        for layer in backbone.transformer_layers:
            layer._feedforward_intermediate_dense.activation = keras.activations.get("gelu")
    return Encoder(backbone, backend, device, "pooler.dense.weight" in weights)


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """KerasHub's own tokenizer, which uses TensorFlow Text on every backend."""
    from keras_hub.models import BertTokenizer

    def as_google(file: str, do_lower_case: bool) -> Any:
        own = BertTokenizer(file, lowercase=do_lower_case, dtype="string")
        return SimpleNamespace(
            tokenize=lambda text: list(own(text)),
            convert_tokens_to_ids=lambda pieces: list(map(own.token_to_id, pieces)),
        )

    return tensorflow1.tokenizer(as_google, folder)
