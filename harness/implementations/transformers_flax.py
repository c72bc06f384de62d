# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "transformers==4.57.6", "flax==0.12.8", "jax==0.10.2", "numpy==2.4.6", "safetensors==0.8.0", "tokenizers==0.22.2",
# ]
# ///
"""``FlaxBertModel`` of transformers 4, the last version with Flax, compiled with ``jax.jit``.

Batches are padded to a multiple of 32, because JAX compiles for every length. Its numbers are those of the original
BERT.
"""

from importlib.metadata import version
from typing import Any

import numpy as np

from harness.port import Array, Batch, Model, check_weights, pad_to_multiple, read_folder, unpad

NAME = "transformers-flax"
TITLE = "Hugging Face transformers, Flax"
CATALOG_ID = "huggingface-transformers"
VARIANTS = {"bf16": "in bfloat16"}
DEVIATIONS: dict[str, str] = {}

DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # numpy's names


class Encoder:
    """A Flax model and its parameters as a ``harness.port.Model``."""

    batching = "padded"

    def __init__(self, flax_model: Any, parameters: Any, precision: str) -> None:
        import jax

        self.parameters, self.precision = parameters, precision
        self.has_pooler, self.longest = "pooler" in parameters, flax_model.config.max_position_embeddings

        def call(parameters: Any, ids: Any, segments: Any, mask: Any, every: bool) -> Any:
            return flax_model(
                ids, mask, segments, params=parameters, train=False, output_hidden_states=every, return_dict=True
            )

        self.call = jax.jit(call, static_argnames="every")
        self.version = ", ".join(f"{name} {version(name)}" for name in ("transformers", "flax", "jax"))

    def run(self, batch: Batch, every: bool) -> Any:
        arrays = pad_to_multiple(batch, 32, self.longest)  # each length is compiled; padding is masked
        return self.call(self.parameters, *arrays, every=every)

    def encode(self, batch: Batch) -> Any:
        import jax

        return jax.block_until_ready(self.run(batch, every=False))

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(to_numpy(encoded.last_hidden_state), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return to_numpy(encoded.pooler_output) if self.has_pooler else None

    def layers(self, batch: Batch) -> list[Array]:
        return [unpad(to_numpy(hidden), batch) for hidden in self.run(batch, every=True).hidden_states]

    def synchronize(self) -> None:
        """``encode`` is synchronous."""


def to_numpy(array: Any) -> Array:
    """A JAX array in numpy; types that numpy lacks become float32."""
    return np.asarray(array if array.dtype == "float64" else array.astype("float32"))


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. ValueError if they do not fit."""
    if device != "cpu":
        raise NotImplementedError(f"{NAME} runs on the CPU only: jax is installed without support for GPUs")
    import jax
    from transformers import BertConfig, FlaxBertModel

    precision = variant or precision
    jax.config.update("jax_enable_x64", precision == "fp64")
    config, weights, _ = read_folder(folder)
    check_weights(config, weights)
    dtype = jax.numpy.dtype(DTYPES[precision])
    has_pooler = "pooler.dense.weight" in weights
    settings = BertConfig(**config)
    flax_model = FlaxBertModel(settings, dtype=dtype, add_pooling_layer=has_pooler, _do_init=False)
    return Encoder(flax_model, parameters(weights, dtype), precision)


def parameters(weights: dict[str, Array], dtype: Any) -> dict[str, Any]:
    """The weights as Flax's nested dictionaries; transformers' own converter would need torch."""
    import jax

    tree: dict[str, Any] = {}
    for name, weight in weights.items():
        *path, kind = name.split(".")
        if kind == "weight" and path[-1].endswith("_embeddings"):
            kind = "embedding"
        elif kind == "weight":
            kind = "scale" if path[-1] == "LayerNorm" else "kernel"
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[kind] = jax.numpy.asarray(weight.T if kind == "kernel" else weight, dtype)
    return tree
