"""Runs code written for TensorFlow 1 on TensorFlow 2.15, and adapts Google's ``BertModel`` to the harness.

2.15 is the last release with Keras 2, which ``tf.layers`` needs, and with ``tf.estimator``.
"""

import importlib
import os
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.port.batch import Array, Batch, pad, unpad
from harness.port.hf_folder import POOLER, google_name, is_uncased, read_folder, read_vocabulary


def alias() -> Any:
    """Make ``import tensorflow`` mean TensorFlow 1, and return that module. Call this before importing the code."""
    if "tensorflow.contrib" in sys.modules:
        return sys.modules["tensorflow"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()  # graphs and sessions, and shapes made of Dimension objects
    tf.logging.set_verbosity(tf.logging.ERROR)  # it warns of every old name
    # BERT needs one function of tf.contrib, which 2.0 removed: as an attribute or by importing the module.
    layers = types.ModuleType("tensorflow.contrib.layers")
    layers.layer_norm = layer_norm  # type: ignore[attr-defined]
    contrib = types.ModuleType("tensorflow.contrib")
    contrib.layers = layers  # type: ignore[attr-defined]
    tf.contrib = contrib
    sys.modules |= {"tensorflow": tf, "tensorflow.contrib": contrib, "tensorflow.contrib.layers": layers}
    return tf


def alias_estimator() -> None:
    """Put estimators where TensorFlow 1 had them; they have become a separate package."""
    alias()
    for name in ("", ".estimator", ".model_fn", ".run_config"):
        module = importlib.import_module(f"tensorflow_estimator.python.estimator{name}")
        sys.modules[f"tensorflow.python.estimator{name}"] = module


def layer_norm(inputs: Any, begin_norm_axis: int, begin_params_axis: int, scope: str | None = None) -> Any:
    """``tf.contrib.layers.layer_norm`` as BERT calls it: over the last axis, with an epsilon of 1e-12."""
    import tensorflow as tf  # TensorFlow 1, after ``alias``

    if (begin_norm_axis, begin_params_axis) != (-1, -1):
        raise NotImplementedError("layer_norm over other axes than the last")
    with tf.variable_scope(scope, "LayerNorm"):
        size = [int(inputs.shape[-1])]
        beta = tf.get_variable("beta", size, initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", size, initializer=tf.ones_initializer())
    mean, variance = tf.nn.moments(inputs, [-1], keep_dims=True)
    return tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, variance_epsilon=1e-12)


class Encoder:
    """Google's ``BertModel`` in a session, as a ``harness.port.Model``."""

    batching = "padded"

    def __init__(self, modeling: Any, folder: str | Path, package: str) -> None:
        """``modeling`` is the module with ``BertConfig`` and ``BertModel``; ``package`` names its origin."""
        tf = alias()
        config, weights, _ = read_folder(folder)
        self.modeling, self.config = modeling, modeling.BertConfig.from_dict(config)
        self.session = tf.Session(graph=tf.Graph())
        self.graphs: dict[int | None, tuple[list[Any], Any]] = {}  # by sequence length; None: any length
        try:
            self._build(None)
        except TypeError:  # some compare lengths in Python, and need a graph for each; this one creates the variables
            self._build(1)
        self._restore(weights)
        with self.session.graph.as_default():
            one = self.session.run(modeling.gelu(tf.constant(1.0)))  # 0.84134 by erf, 0.84119 by tanh
        self.version = f"{package}, gelu by {'erf' if one > 0.8413 else 'tanh'}, tensorflow {tf.__version__}"

    def _build(self, length: int | None) -> tuple[list[Any], Any]:
        """Placeholders for ids, segments and mask, and the BertModel that reads them."""
        tf = alias()
        with self.session.graph.as_default(), tf.variable_scope("", reuse=tf.AUTO_REUSE):
            inputs = [tf.placeholder(tf.int32, [None, length]) for _ in range(3)]
            ids, segments, mask = inputs
            bert = self.modeling.BertModel(
                self.config, False, ids, mask, segments, use_one_hot_embeddings=False, scope="bert"
            )
        self.graphs[length] = inputs, bert
        return inputs, bert

    def _graph(self, length: int) -> tuple[list[Any], Any]:
        return self.graphs.get(None) or self.graphs.get(length) or self._build(length)

    def _restore(self, weights: dict[str, Array]) -> None:
        """Assign every variable its weight; a pooler may be absent. ValueError names what does not fit."""
        with self.session.graph.as_default():
            variables = {google_name(v.op.name): v for v in alias().global_variables()}
        absent = {name for name, _ in variables} - weights.keys()
        left = weights.keys() - {name for name, _ in variables}
        self.has_pooler = not absent & POOLER
        if absent - POOLER or 0 < len(absent & POOLER) < 2:
            raise ValueError(f"the checkpoint lacks {', '.join(sorted(absent))}")
        if left:
            raise ValueError(f"the model has no place for {', '.join(sorted(left))}")
        for (name, transposed), variable in variables.items():
            if name in absent:
                self.session.run(variable.initializer)
                continue
            weight = weights[name].T if transposed else weights[name]
            if variable.shape.as_list() != list(weight.shape):
                raise ValueError(f"{name}: the model has {variable.shape.as_list()}, the weights {list(weight.shape)}")
            variable.load(weight, self.session)

    def _run(self, wanted: Callable[[Any], Any], batch: Batch) -> Any:
        arrays = pad(batch)
        inputs, bert = self._graph(arrays[0].shape[1])
        return self.session.run(wanted(bert), dict(zip(inputs, arrays, strict=True)))

    def encode(self, batch: Batch) -> Any:
        return self._run(lambda bert: bert.get_sequence_output(), batch)

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(encoded, batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        _, bert = self._graph(encoded.shape[1])
        if not self.has_pooler:
            return None
        pooled: Array = self.session.run(bert.get_pooled_output(), {bert.get_sequence_output(): encoded})
        return pooled

    def layers(self, batch: Batch) -> list[Array]:
        states = self._run(lambda bert: [bert.get_embedding_output(), *bert.get_all_encoder_layers()], batch)
        return [self.fetch(state, batch) for state in states]

    def synchronize(self) -> None:
        """``Session.run`` is synchronous."""


def check_supported(name: str, device: str, precision: str) -> None:
    """Raise NotImplementedError for anything but float32 on the CPU, which is all that its TensorFlow can do."""
    if precision != "fp32":
        raise NotImplementedError(f"{name} computes in float32 only")
    if device != "cpu":
        raise NotImplementedError(f"{name} runs on the CPU only: the TensorFlow that it is installed with has no GPU")


def tokenizer(full_tokenizer: Any, folder: str | Path) -> Callable[[str], list[int]]:
    """Google's ``FullTokenizer`` with a folder's vocabulary: from text to the ids of [CLS] text [SEP]."""
    pieces = read_vocabulary(folder)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "vocab.txt"
        file.write_text("\n".join(pieces) + "\n", encoding="utf-8")
        own = full_tokenizer(str(file), do_lower_case=is_uncased(folder, pieces))
    return lambda text: own.convert_tokens_to_ids(["[CLS]", *own.tokenize(text), "[SEP]"])
