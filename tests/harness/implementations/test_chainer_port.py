"""BERT in Chainer, from a repository that the user brings; a small one written here takes its place."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.measure.client import Worker, WorkerError
from harness.port.batch import Batch, from_lists
from harness.registry.implementations import find
from harness.worker.messages import Array
from reference.checkpoint import Checkpoint, read, save
from reference.tokenizer import Tokenizer
from tests.harness.implementations.test_tensorflow1_ports import TOKENIZATION, Exact, encoded, largest, write

CHAINER = """
import chainer
import numpy as np
from chainer import functions as F, links as L


class BertConfig:
    @classmethod
    def from_dict(cls, values):
        config = cls()
        config.__dict__.update(values)
        return config


def linear(size):
    return L.Linear(None, size)


def norm(link, x):
    return F.reshape(link(F.reshape(x, (-1, x.shape[-1]))), x.shape)


class Links(chainer.Chain):
    def __init__(self, **links):
        super().__init__()
        with self.init_scope():
            for name, link in links.items():
                setattr(self, name, link)


def layer(config):
    size = config.hidden_size
    return Links(
        attention=Links(query=linear(size), key=linear(size), value=linear(size)),
        attention_output_dense=linear(size), attention_output_ln=L.LayerNormalization(None),
        intermediate_dense1=linear(config.intermediate_size), intermediate_dense2=linear(size),
        intermediate_ln=L.LayerNormalization(None),
    )


class BertModel(Links):
    def __init__(self, config):
        size = config.hidden_size
        super().__init__(
            word_embeddings=L.EmbedID(config.vocab_size, size),
            token_type_embeddings=L.EmbedID(config.type_vocab_size, size),
            position_embeddings=L.EmbedID(config.max_position_embeddings, size),
            post_embedding_ln=L.LayerNormalization(size),
            encoder=Links(**{"layer_%d" % i: layer(config) for i in range(config.num_hidden_layers)}),
            pooler=linear(size),
        )
        self.config = config

    def states(self, ids, mask=None, segments=None):
        mask = np.ones_like(ids) if mask is None else mask
        segments = np.zeros_like(ids) if segments is None else segments
        places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        x = self.word_embeddings(ids) + self.token_type_embeddings(segments) + self.position_embeddings(places)
        states = [norm(self.post_embedding_ln, x)]
        minus = (-10000.0 * (1 - mask[:, None, None])).astype("float32")
        for i in range(self.config.num_hidden_layers):
            states.append(self.layer(self.encoder["layer_%d" % i], states[-1], minus))
        return states

    def layer(self, links, x, minus):
        batch, length, size = x.shape
        heads = self.config.num_attention_heads
        query, key, value = [
            F.transpose(F.reshape(link(x, n_batch_axes=2), (batch, length, heads, size // heads)), (0, 2, 1, 3))
            for link in (links.attention.query, links.attention.key, links.attention.value)
        ]
        scores = F.matmul(query, key, transb=True) / (size // heads) ** 0.5
        context = F.matmul(F.softmax(scores + F.broadcast_to(minus, scores.shape), axis=3), value)
        context = F.reshape(F.transpose(context, (0, 2, 1, 3)), x.shape)
        x = norm(links.attention_output_ln, x + links.attention_output_dense(context, n_batch_axes=2))
        inner = links.intermediate_dense1(x, n_batch_axes=2)
        inner = 0.5 * inner * (1 + F.erf(inner / 2**0.5))
        return norm(links.intermediate_ln, x + links.intermediate_dense2(inner, n_batch_axes=2))

    def get_embedding_output(self, *inputs):
        return self.states(*inputs)[0]

    def get_all_encoder_layers(self, *inputs):
        return self.states(*inputs)[1:]

    def get_sequence_output(self, *inputs):
        return self.states(*inputs)[-1]

    def get_pooled_output(self, *inputs):
        return F.tanh(self.pooler(self.states(*inputs)[-1][:, 0]))
"""


@pytest.fixture(scope="module")
def chainer(
    environment: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Worker]]:
    """A function: name and folder of weights to a worker that has loaded them."""
    checkout = tmp_path_factory.mktemp("bert-chainer")
    (checkout / "modeling.py").write_text(CHAINER)
    (checkout / "tokenization.py").write_text(TOKENIZATION)
    workers: dict[str, Worker] = {}

    def load(name: str, folder: Path, precision: str = "fp32", device: str = "cpu") -> Worker:
        if name not in workers:
            workers[name] = Worker(find(name), environment(name), checkout)
        workers[name].load(folder, None, device, precision, 1)
        return workers[name]

    yield load
    for worker in workers.values():
        worker.close()


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Random ids from one token to as many as the model reads, and a pair."""
    generator = np.random.default_rng(0)
    ids = [generator.integers(0, 30522, n).tolist() for n in (7, 1, 40, 512)] + [[101, 7, 102, 8, 9, 102]]
    return from_lists(ids, [[0] * len(sequence) for sequence in ids[:-1]] + [[0, 0, 0, 1, 1, 1]])


@pytest.fixture(scope="module")
def exact(tiny_checkpoint: Path, batch: Batch) -> Exact:
    return Exact(tiny_checkpoint, batch)


@pytest.fixture(scope="module")
def quiet_checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with small embeddings: what an epsilon does to LayerNorm is plain to see."""
    folder = tmp_path_factory.mktemp("checkpoints") / "quiet"
    tensors = read(tiny_checkpoint).tensors
    write(tiny_checkpoint, folder, {n: t * 0.01 if "_embeddings" in n else t for n, t in tensors.items()})
    return folder


@pytest.mark.ports
def test_chainer_computes_bert_but_for_the_epsilon_of_its_layer_norm(
    chainer: Callable[..., Worker], quiet_checkpoint: Path, batch: Batch
) -> None:
    right = Exact(quiet_checkpoint, batch)
    outputs = {name: encoded(chainer(name, quiet_checkpoint), batch) for name in ("bert-chainer", "bert-chainer:fixed")}
    assert largest(outputs["bert-chainer:fixed"].hidden, right.hidden) <= right.tolerance
    assert largest(outputs["bert-chainer:fixed"].pooled, right.pooled) <= right.tolerance
    assert "layer-norm-epsilon" in find("bert-chainer").deviations
    assert largest(outputs["bert-chainer"].hidden, right.hidden) > 100 * right.tolerance
    layers = chainer("bert-chainer", quiet_checkpoint).layers(batch)
    assert largest(layers[0], embeddings(quiet_checkpoint, batch, 1e-6)) < 1e-5


@pytest.mark.ports
def test_chainer_shows_every_layer(
    chainer: Callable[..., Worker], tiny_checkpoint: Path, batch: Batch, exact: Exact
) -> None:
    worker = chainer("bert-chainer:fixed", tiny_checkpoint)
    layers = worker.layers(batch)
    assert len(layers) == 3
    np.testing.assert_array_equal(layers[2], encoded(worker, batch).hidden)
    assert largest(layers[0], embeddings(tiny_checkpoint, batch, 1e-12)) < 1e-5
    assert worker.info["version"] == "soskek/bert-chainer, chainer 7.8.1"
    assert worker.info["trainable"] is False
    for sequence in (1, 2):  # without padding, as with it; one of a single token
        alone = encoded(worker, batch.select(np.array([sequence]))).hidden
        assert largest(alone, exact.hidden[batch.tokens_of(np.array([sequence]))]) <= exact.tolerance


def embeddings(folder: Path, batch: Batch, epsilon: float) -> Array:
    tensors = {n: t.double().numpy() for n, t in read(folder).tensors.items() if "bert.embeddings" in n}
    places = np.concatenate([np.arange(length) for length in batch.lengths])
    table = {n.split(".")[2]: t for n, t in tensors.items() if n.endswith("_embeddings.weight")}
    total = table["word_embeddings"][batch.ids] + table["position_embeddings"][places]
    total += table["token_type_embeddings"][batch.segments]
    total = (total - total.mean(-1, keepdims=True)) / np.sqrt(total.var(-1, keepdims=True) + epsilon)
    result: Array = total * tensors["bert.embeddings.LayerNorm.weight"] + tensors["bert.embeddings.LayerNorm.bias"]
    return result


@pytest.mark.ports
def test_chainer_refuses_what_it_cannot_do(chainer: Callable[..., Worker], tiny_checkpoint: Path) -> None:
    for precision in ("fp64", "bf16", "fp16"):
        with pytest.raises(WorkerError, match="computes in float32 only") as error:
            chainer("bert-chainer", tiny_checkpoint, precision)
        assert error.value.kind == "NotImplementedError"
    with pytest.raises(WorkerError, match="runs on the CPU only"):
        chainer("bert-chainer", tiny_checkpoint, device="cuda")


@pytest.mark.ports
def test_chainer_names_weights_that_do_not_fit(
    chainer: Callable[..., Worker], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint, own = read(tiny_checkpoint), "bert.encoder.layer.1.output.dense.weight"
    weight = checkpoint.tensors[own]
    broken: dict[str, dict[str, Any]] = {
        "lacks encoder.layer.1.output.dense.weight": {own: None},
        "no place for encoder.layer.2.output.dense.weight": {own.replace("1", "2"): weight},
        r"encoder.layer.1.output.dense.weight: the model has \[32, 64\], the weights \[32, 60\]": {own: weight[:, :60]},
        "lacks pooler.dense.bias": {"bert.pooler.dense.bias": None},
    }
    for message, changes in broken.items():
        tensors: dict[str, Any] = {n: t.clone() for n, t in {**checkpoint.tensors, **changes}.items() if t is not None}
        write(tiny_checkpoint, tmp_path, tensors)
        with pytest.raises(WorkerError, match=message):
            chainer("bert-chainer", tmp_path)


@pytest.mark.ports
def test_chainer_without_a_pooler_has_no_pooled_output(
    chainer: Callable[..., Worker], tiny_checkpoint: Path, tmp_path: Path, batch: Batch, exact: Exact
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    checkpoint = read(tiny_checkpoint)
    save(Checkpoint(checkpoint.config, {n: t for n, t in checkpoint.tensors.items() if "pooler" not in n}), tmp_path)
    outputs = encoded(chainer("bert-chainer:fixed", tmp_path), batch)
    assert outputs.pooled is None
    assert largest(outputs.hidden, exact.hidden) <= exact.tolerance


@pytest.mark.ports
def test_chainers_repository_cuts_texts_by_its_own_tokenizer(
    chainer: Callable[..., Worker], tiny_checkpoint: Path
) -> None:
    ids = chainer("bert-chainer", tiny_checkpoint).tokenize(["The cat", ""])
    assert ids == [Tokenizer.from_folder(tiny_checkpoint).encode(text).ids for text in ("the cat", "")]
