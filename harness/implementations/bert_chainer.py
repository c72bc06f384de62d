# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#     "chainer==7.8.1", "numpy==1.26.4", "scipy==1.14.1", "protobuf==4.25.9", "six==1.17.0", "safetensors==0.8.0",
# ]
# [tool.bert-atlas]
# build = ["setuptools<70", "wheel"]
# ///
"""soskek/bert-chainer, BERT in Chainer, from the user's checkout of the repository.

Its ``BertModel`` is called with padded batches. It deviates in LayerNorm's epsilon; the variant "fixed" does not. scipy
is required because Chainer's erf is a loop in Python without it.
"""

import sys
import types
from collections.abc import Callable
from typing import Any

from harness.port import Array, Batch, Model, pad, read_folder, tensorflow1, unpad
from harness.port.hf_folder import POOLER

NAME = "bert-chainer"
TITLE = "bert-chainer"
CATALOG_ID = "soskek-bert-chainer"
CHECKOUT = "https://github.com/soskek/bert-chainer"
VARIANTS = {"fixed": "with the original's LayerNorm epsilon"}
DEVIATIONS = {"layer-norm-epsilon": "1e-6, Chainer's default, where the original has 1e-12"}

NAMES = {  # parts of the repository's names -> Hugging Face's
    "/layer_": "/layer/",
    "attention_output_": "attention/output/",
    "attention/query": "attention/self/query",
    "attention/key": "attention/self/key",
    "attention/value": "attention/self/value",
    "intermediate_dense1": "intermediate/dense",
    "intermediate_dense2": "output/dense",
    "intermediate_ln": "output/LayerNorm",
    "output/ln": "output/LayerNorm",
    "post_embedding_ln": "embeddings/LayerNorm",
    "pooler": "pooler/dense",
    "word_embeddings": "embeddings/word_embeddings",
    "position_embeddings": "embeddings/position_embeddings",
    "token_type_embeddings": "embeddings/token_type_embeddings",
}
ENDS = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}


def hugging_face_name(path: str) -> str:
    """``/encoder/layer_0/intermediate_dense1/W`` is ``encoder.layer.0.intermediate.dense.weight``."""
    for part, theirs in NAMES.items():
        path = path.replace(part, theirs)
    stem, _, end = path[1:].rpartition("/")
    return f"{stem}/{ENDS[end]}".replace("/", ".")


class Encoder:
    """The repository's ``BertModel`` as a ``harness.port.Model``."""

    batching = "padded"

    def __init__(self, folder: str, epsilon: float | None) -> None:
        import chainer
        import modeling

        config, weights, _ = read_folder(folder)
        chainer.config.train = False
        chainer.config.enable_backprop = False
        self.bert = modeling.BertModel(modeling.BertConfig.from_dict(config))
        self.has_pooler = not POOLER.isdisjoint(weights)
        self._give(weights)
        for link in self.bert.links():
            if epsilon is not None and isinstance(link, chainer.links.LayerNormalization):
                link.eps = epsilon
        self.version = f"soskek/bert-chainer, chainer {chainer.__version__}"

    def _give(self, weights: dict[str, Array]) -> None:
        """Assign every parameter its weight; a pooler may be absent. ValueError names what does not fit."""
        import numpy as np

        one = np.zeros([1, 1], dtype=np.int32)
        self.bert.get_pooled_output(one)  # parameters get their shapes at the first call
        parameters = {hugging_face_name(path): parameter for path, parameter in self.bert.namedparams()}
        absent = parameters.keys() - weights.keys() - (set() if self.has_pooler else POOLER)
        if absent:
            raise ValueError(f"the checkpoint lacks {', '.join(sorted(absent))}")
        if left := weights.keys() - parameters.keys():
            raise ValueError(f"the model has no place for {', '.join(sorted(left))}")
        for name, weight in weights.items():
            shape = parameters[name].shape
            if shape != weight.shape:
                raise ValueError(f"{name}: the model has {list(shape)}, the weights {list(weight.shape)}")
            parameters[name].array[...] = weight

    def _inputs(self, batch: Batch) -> tuple[Array, Array, Array]:
        ids, segments, mask = pad(batch)
        return ids, mask, segments

    def encode(self, batch: Batch) -> Any:
        return self.bert.get_sequence_output(*self._inputs(batch))

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(encoded.array, batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        import chainer

        if not self.has_pooler:
            return None
        pooled: Array = chainer.functions.tanh(self.bert.pooler(encoded[:, 0])).array
        return pooled

    def layers(self, batch: Batch) -> list[Array]:
        inputs = self._inputs(batch)
        states = [self.bert.get_embedding_output(*inputs), *self.bert.get_all_encoder_layers(*inputs)]
        return [self.fetch(state, batch) for state in states]

    def synchronize(self) -> None:
        """On the CPU, Chainer is synchronous."""


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder into the repository's ``BertModel``."""
    if precision != "fp32":
        raise NotImplementedError(f"{NAME} computes in float32 only")
    if device != "cpu":
        raise NotImplementedError(f"{NAME} runs on the CPU only: its GPU library, CuPy, is not installed with it")
    return Encoder(folder, 1e-12 if variant == "fixed" else None)


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The repository's own tokenizer. All that it needs of TensorFlow is an alias of ``open``."""
    if "tensorflow" not in sys.modules:
        tensorflow = types.ModuleType("tensorflow")
        tensorflow.gfile = types.SimpleNamespace(GFile=open)  # type: ignore[attr-defined]
        sys.modules["tensorflow"] = tensorflow
    from tokenization import FullTokenizer

    return tensorflow1.tokenizer(FullTokenizer, folder)
