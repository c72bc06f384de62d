"""Ports of code written for TensorFlow 1: what they compute, what they refuse, and bert-as-service's processes.

Repositories are stood in for by a small one written here, in the two ways that Google's code was written.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.implementations.bert_serving import token_names
from harness.measure.client import Encoded, Worker, WorkerError
from harness.port.batch import Batch, from_lists
from harness.registry.implementations import find
from harness.worker.messages import Array
from reference.checkpoint import Checkpoint, read, save
from reference.tokenizer import Tokenizer

pytestmark = pytest.mark.ports

ROOT = Path(__file__).parents[3]
TANH = ("bert-tensorflow", "google-bert", "bert-gpu")
ERF = ("google-bert first", "sentiment-fine-grain-encoder", "bert-serving")
PORTS = (*TANH, *ERF)
SESSIONS = PORTS[:-1]
TEXTS = ["The lock-keeper waved us through.", "Café prices in Zürich rose by 12.5%.", "她等了一个小时。", ""]

MODELING = """
import tensorflow as tf


class BertConfig:
    @classmethod
    def from_dict(cls, values):
        config = cls()
        config.__dict__.update(values)
        return config


def gelu(x):
    return {gelu}


def layer_norm(x):
    return tf.contrib.layers.layer_norm(inputs=x, begin_norm_axis=-1, begin_params_axis=-1)


class BertModel:
    def __init__(self, config, is_training, input_ids, input_mask, token_type_ids, use_one_hot_embeddings, scope):
        length = {length}
        if {too_long}:
            raise ValueError("too long")
        tables = [
            ("word", config.vocab_size), ("position", config.max_position_embeddings),
            ("token_type", config.type_vocab_size),
        ]
        with tf.variable_scope(scope):
            with tf.variable_scope("embeddings"):
                word, position, segment = [
                    tf.get_variable(name + "_embeddings", [rows, config.hidden_size]) for name, rows in tables
                ]
                x = tf.gather(word, input_ids) + tf.gather(segment, token_type_ids) + position[:length]
                self.states = [layer_norm(x)]
            minus = -10000.0 * (1 - tf.to_float(input_mask[:, None, None]))
            for i in range(config.num_hidden_layers):
                with tf.variable_scope("encoder/layer_%d" % i):
                    self.states.append(self.layer(config, self.states[-1], minus, length))
            with tf.variable_scope("pooler"):
                self.pooled = tf.layers.dense(self.states[-1][:, 0], config.hidden_size, tf.tanh)

    def layer(self, config, x, minus, length):
        size, heads = config.hidden_size, config.num_attention_heads
        with tf.variable_scope("attention"):
            with tf.variable_scope("self"):
                query, key, value = [
                    tf.transpose(tf.reshape(tf.layers.dense(x, size, name=name), [-1, length, heads, size // heads]),
                                 [0, 2, 1, 3])
                    for name in ("query", "key", "value")
                ]
            scores = tf.matmul(query, key, transpose_b=True) / (size // heads) ** 0.5
            context = tf.transpose(tf.matmul(tf.nn.softmax(scores + minus), value), [0, 2, 1, 3])
            with tf.variable_scope("output"):
                x = layer_norm(x + tf.layers.dense(tf.reshape(context, [-1, length, size]), size))
        with tf.variable_scope("intermediate"):
            inner = tf.layers.dense(x, config.intermediate_size, gelu)
        with tf.variable_scope("output"):
            return layer_norm(x + tf.layers.dense(inner, size))

    def get_embedding_output(self):
        return self.states[0]

    def get_all_encoder_layers(self):
        return self.states[1:]

    def get_sequence_output(self):
        return self.states[-1]

    def get_pooled_output(self):
        return self.pooled
"""
NOW = {
    "gelu": "0.5 * x * (1 + tf.tanh((2 / 3.141592653589793) ** 0.5 * (x + 0.044715 * tf.pow(x, 3))))",
    "length": "tf.shape(input_ids)[1]",
    "too_long": "False",
}
FIRST = {
    "gelu": "0.5 * x * (1 + tf.erf(x / 2**0.5))",
    "length": "input_ids.shape.as_list()[1] or tf.shape(input_ids)[1]",
    "too_long": "length > config.max_position_embeddings",
}
TOKENIZATION = """
import tensorflow as tf


class FullTokenizer:
    def __init__(self, vocab_file, do_lower_case):
        with tf.gfile.GFile(vocab_file) as lines:
            self.numbers = {line.strip(): number for number, line in enumerate(lines)}
        self.lower = do_lower_case

    def tokenize(self, text):
        return (text.lower() if self.lower else text).split()

    def convert_tokens_to_ids(self, tokens):
        return [self.numbers[token] for token in tokens]
"""


class Workers:
    """One process for each port; starting TensorFlow takes seconds."""

    def __init__(self, environment: Callable[[str], Path], checkouts: Path) -> None:
        self.environment, self.checkouts = environment, checkouts
        self.started: dict[str, Worker] = {}

    def load(self, name: str, folder: Path, precision: str = "fp32", device: str = "cpu") -> Worker:
        implementation = find(name.removesuffix(" first"))
        if name not in self.started:
            checkout = self.checkouts / ("first" if name in ERF else "now") if implementation.checkout else None
            self.started[name] = Worker(implementation, self.environment(implementation.name), checkout)
        self.started[name].load(folder, None, device, precision, 1)
        return self.started[name]


@pytest.fixture(scope="module")
def workers(environment: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    checkouts = tmp_path_factory.mktemp("checkouts")
    for era, parts in {"now": NOW, "first": FIRST}.items():
        model = checkouts / era / "model"
        model.mkdir(parents=True)
        (model / "__init__.py").touch()
        for file in (model / "bert_modeling.py", checkouts / era / "modeling.py"):
            file.write_text(MODELING.format(**parts))
        (checkouts / era / "tokenization.py").write_text(TOKENIZATION)
    workers = Workers(environment, checkouts)
    yield workers
    for worker in workers.started.values():
        worker.close()


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Random ids from one token to as many as the model reads, and a pair."""
    generator = np.random.default_rng(0)
    ids = [generator.integers(0, 30522, n).tolist() for n in (7, 1, 40, 512, 33)] + [[101, 7, 102, 8, 9, 102]]
    return from_lists(ids, [[0] * len(sequence) for sequence in ids[:-1]] + [[0, 0, 0, 1, 1, 1]])


class Exact:
    """What the reference computes from the tiny checkpoint in float64, and how far its float32 is from it."""

    def __init__(self, folder: Path, batch: Batch) -> None:
        with Worker(find("reference")) as worker:
            worker.load(folder, None, "cpu", "fp64", 1)
            outputs = encoded(worker, batch)
            self.hidden, self.pooled = outputs.hidden, outputs.pooled
            worker.load(folder, None, "cpu", "fp32", 1)
            self.tolerance = 4 * np.abs(encoded(worker, batch).hidden - self.hidden).max()


@pytest.fixture(scope="module")
def tanh_checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as the reference reads it to compute gelu by tanh."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tanh"
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu_new"}))
    return folder


@pytest.fixture(scope="module")
def exact(tiny_checkpoint: Path, tanh_checkpoint: Path, batch: Batch) -> dict[str, Exact]:
    by_erf, by_tanh = Exact(tiny_checkpoint, batch), Exact(tanh_checkpoint, batch)
    assert np.abs(by_erf.hidden - by_tanh.hidden).max() > 10 * by_erf.tolerance, "the two gelus cannot be told apart"
    return {name: by_tanh if name in TANH else by_erf for name in PORTS}


def encoded(worker: Worker, batch: Batch) -> Encoded:
    return worker.encode(batch)


def largest(values: Array, expected: Array) -> float:
    assert values.shape == expected.shape
    return float(np.abs(values - expected).max())


@pytest.mark.parametrize("name", PORTS)
def test_hidden_states_and_pooled_output_are_those_of_its_gelu(
    workers: Workers, exact: dict[str, Exact], tiny_checkpoint: Path, batch: Batch, name: str
) -> None:
    worker = workers.load(name, tiny_checkpoint)
    outputs = encoded(worker, batch)
    assert outputs.hidden.dtype == np.float32
    assert largest(outputs.hidden, exact[name].hidden) <= exact[name].tolerance
    if name == "bert-serving":
        assert outputs.pooled is None
        assert worker.info["version"].startswith("bert-serving-server 1.10.0, ")
    else:
        assert largest(outputs.pooled, exact[name].pooled) <= exact[name].tolerance
        assert f", gelu by {'tanh' if name in TANH else 'erf'}, tensorflow 2.15.1" in worker.info["version"]
    assert worker.info["batching"] == "padded"
    assert worker.info["trainable"] is False


@pytest.mark.parametrize("name", PORTS)
def test_gelu_by_tanh_is_a_deviation_that_is_stated(name: str) -> None:
    if not name.endswith(" first"):
        assert ("gelu-tanh" in find(name).deviations) == (name in TANH)


@pytest.mark.parametrize("name", SESSIONS)
def test_every_layer_is_shown(workers: Workers, tiny_checkpoint: Path, batch: Batch, name: str) -> None:
    worker = workers.load(name, tiny_checkpoint)
    layers = worker.layers(batch)
    assert len(layers) == 3
    np.testing.assert_array_equal(layers[2], encoded(worker, batch).hidden)
    tensors = {n: t.double().numpy() for n, t in read(tiny_checkpoint).tensors.items() if "bert.embeddings" in n}
    places = np.concatenate([np.arange(length) for length in batch.lengths])
    table = {n.split(".")[2]: t for n, t in tensors.items() if n.endswith("_embeddings.weight")}
    total = table["word_embeddings"][batch.ids] + table["position_embeddings"][places]
    total += table["token_type_embeddings"][batch.segments]
    total = (total - total.mean(-1, keepdims=True)) / np.sqrt(total.var(-1, keepdims=True) + 1e-12)
    total = total * tensors["bert.embeddings.LayerNorm.weight"] + tensors["bert.embeddings.LayerNorm.bias"]
    assert largest(layers[0], total) < 1e-5
    assert largest(layers[1], layers[2]) > 0.1


@pytest.mark.parametrize("name", PORTS)
def test_neighbours_in_the_batch_do_not_matter(
    workers: Workers, exact: dict[str, Exact], tiny_checkpoint: Path, batch: Batch, name: str
) -> None:
    worker = workers.load(name, tiny_checkpoint)
    for sequence in range(len(batch.lengths)):
        alone = encoded(worker, batch.select(np.array([sequence]))).hidden
        tokens = batch.tokens_of(np.array([sequence]))
        assert largest(alone, exact[name].hidden[tokens]) <= exact[name].tolerance


@pytest.mark.parametrize("name", PORTS)
def test_what_it_cannot_do_is_refused(workers: Workers, tiny_checkpoint: Path, name: str) -> None:
    for precision in ("fp64", "bf16", "fp16"):
        with pytest.raises(WorkerError, match="computes in float32 only") as error:
            workers.load(name, tiny_checkpoint, precision)
        assert error.value.kind == "NotImplementedError"
    with pytest.raises(WorkerError, match="runs on the CPU only"):
        workers.load(name, tiny_checkpoint, device="cuda")


@pytest.mark.parametrize("name", ["google-bert first", "bert-gpu", "bert-serving"])
def test_weights_that_do_not_fit_are_named(workers: Workers, tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    checkpoint, own = read(tiny_checkpoint), "bert.encoder.layer.1.output.dense.weight"
    weight = checkpoint.tensors[own]
    broken = {
        "lacks encoder.layer.1.output.dense.weight": {own: None},
        "no place for encoder.layer.2.output.dense.weight": {own.replace("1", "2"): weight},
        r"encoder.layer.1.output.dense.weight: the model has \[64, 32\], the weights \[60, 32\]": {own: weight[:, :60]},
        "lacks pooler.dense.bias": {"bert.pooler.dense.bias": None},
    }
    for message, changes in broken.items():
        tensors = {n: t.clone() for n, t in (checkpoint.tensors | changes).items() if t is not None}
        write(tiny_checkpoint, tmp_path, tensors)
        with pytest.raises(WorkerError, match=message):
            workers.load(name, tmp_path)


def write(like: Path, folder: Path, tensors: dict[str, object]) -> None:
    """A folder with these tensors whatever they are; ``reference.checkpoint.save`` would check them."""
    from safetensors.torch import save_file

    shutil.copytree(like, folder, dirs_exist_ok=True)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("name", ["bert-tensorflow", "bert-serving"])
def test_a_checkpoint_without_a_pooler_is_one_without_pooled_output(
    workers: Workers, exact: dict[str, Exact], tiny_checkpoint: Path, tmp_path: Path, batch: Batch, name: str
) -> None:
    checkpoint = read(tiny_checkpoint)
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    save(Checkpoint(checkpoint.config, {n: t for n, t in checkpoint.tensors.items() if "pooler" not in n}), tmp_path)
    outputs = encoded(workers.load(name, tmp_path), batch)
    assert largest(outputs.hidden, exact[name].hidden) <= exact[name].tolerance
    assert outputs.pooled is None


@pytest.mark.parametrize("name", ["bert-tensorflow", "bert-serving"])
def test_its_own_tokenizer_gives_our_ids(workers: Workers, tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    ours = Tokenizer.from_folder(tiny_checkpoint)
    for vocabulary in ("vocab.txt", "tokenizer.json"):
        folder = tmp_path / vocabulary
        shutil.copytree(tiny_checkpoint, folder)
        (folder / {"vocab.txt": "tokenizer.json", "tokenizer.json": "vocab.txt"}[vocabulary]).unlink()
        assert workers.load(name, folder).tokenize(TEXTS) == [ours.encode(text).ids for text in TEXTS]


def test_its_own_tokenizer_keeps_capitals_where_the_vocabulary_has_them(
    workers: Workers, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    worker = workers.load("bert-tensorflow", tmp_path)
    pieces = (tmp_path / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert worker.tokenize(["The"]) == [[101, pieces.index("the"), 102]]
    cased = [p.capitalize() if p.isalpha() and p != "the" and number % 2 else p for number, p in enumerate(pieces)]
    cased[pieces.index("[unused5]")] = "The"
    (tmp_path / "vocab.txt").write_text("\n".join(cased), encoding="utf-8")
    assert worker.tokenize(["The"]) == [[101, pieces.index("[unused5]"), 102]]


def test_a_repositorys_tokenizer_is_used(workers: Workers, tiny_checkpoint: Path) -> None:
    for name in ("google-bert", "bert-gpu"):
        ids = workers.load(name, tiny_checkpoint).tokenize(["The cat"])
        assert ids == [Tokenizer.from_folder(tiny_checkpoint).encode("the cat").ids]
    assert workers.load("sentiment-fine-grain-encoder", tiny_checkpoint).tokenize(["The cat"]) is None


# -- bert-as-service --


def test_pieces_that_the_server_would_confuse_get_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\nthe\n|||\nthe\n\n##s\n the\n", encoding="utf-8")
    names = token_names(str(tmp_path), 8)  # of a line that is repeated the last counts, as for transformers
    assert names == ["[PAD]", "[no piece 1]", "[id 2]", "the", "[id 4]", "##s", "[id 6]", "[id 7]"]


@pytest.mark.parametrize(
    ("ids", "segments"),
    [
        ([101, 7, 102, 8, 102], [0, 0, 1, 1, 1]),  # the second text begins with a [SEP]
        ([101, 7, 102, 8, 102], [0, 0, 0, 1, 0]),
        ([101, 7, 102, 102], [0, 0, 0, 1]),  # the second text is empty
        ([5, 7, 102, 8, 102], [0, 0, 0, 1, 1]),
        ([8, 102], [1, 1]),
    ],
)
def test_segments_that_the_server_would_not_set_are_an_error(
    workers: Workers, tiny_checkpoint: Path, ids: list[int], segments: list[int]
) -> None:
    name = "bert-serving"
    worker = workers.started[name] if name in workers.started else workers.load(name, tiny_checkpoint)
    with pytest.raises(WorkerError, match=r"only in \[CLS\] text \[SEP\] pair \[SEP\]"):
        encoded(worker, from_lists([ids], [segments]))


POOLING = """
import json, sys
import numpy as np
from bert_serving.client import BertClient
from harness.implementations.bert_serving import Server
folder, target, texts, *options = sys.argv[1:]
server = Server(folder, options)
client = BertClient("127.0.0.1", server.port, server.port_out, timeout=60000)
np.save(target, client.encode(json.loads(texts)))
client.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "layers"),
    [
        ("NONE", [-1]),
        ("REDUCE_MAX", [-1]),
        ("REDUCE_MEAN", [-1]),
        ("REDUCE_MEAN", [-2]),
        ("REDUCE_MEAN", [-2, -1]),
        ("REDUCE_MEAN_MAX", [-1]),
        ("FIRST_TOKEN", [-1]),
        ("CLS_TOKEN", [-1]),
        ("LAST_TOKEN", [-1]),
        ("SEP_TOKEN", [-1]),
        ("CLS_POOLED", [-1]),
    ],
)
def test_its_pooling(
    environment: Callable[[str], str], tiny_checkpoint: Path, tmp_path: Path, strategy: str, layers: list[int]
) -> None:
    """From texts, one of them a pair, to vectors, as its users ask for them."""
    pairs = [("The lock-keeper waved.", None), ("Is the ferry late?", "It left at nine."), ("Why?", None)]
    texts = json.dumps([text if pair is None else f"{text} ||| {pair}" for text, pair in pairs])
    options = ["-pooling_strategy", strategy, "-pooling_layer", *map(str, layers)]
    command = [environment("bert-serving"), "-c", POOLING, str(tiny_checkpoint), str(tmp_path / "vectors.npy"), texts]
    subprocess.run([*command, *options], check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert [file.name for file in tmp_path.iterdir()] == ["vectors.npy"], "files left behind"
    encodings = [Tokenizer.from_folder(tiny_checkpoint).encode(text, pair) for text, pair in pairs]
    batch = from_lists([e.ids for e in encodings], [e.segments for e in encodings])
    expected = pooled_in_numpy(tiny_checkpoint, batch, strategy, layers)
    assert largest(np.load(tmp_path / "vectors.npy"), expected) < 1e-5


def pooled_in_numpy(folder: Path, batch: Batch, strategy: str, layers: list[int]) -> Array:
    with Worker(find("reference")) as worker:
        worker.load(folder, None, "cpu", "fp64", 1)
        if strategy == "CLS_POOLED":
            return encoded(worker, batch).pooled
        states = worker.layers(batch)
    hidden = np.concatenate([states[layer] for layer in layers], axis=-1)
    sequences = np.split(hidden, batch.cu_seqlens[1:-1])
    if strategy == "NONE":
        longest = max(map(len, sequences))
        return np.stack([np.pad(sequence, ((0, longest - len(sequence)), (0, 0))) for sequence in sequences])
    pool: dict[str, Callable[[Array], Array]] = {
        "REDUCE_MAX": lambda x: x.max(0),
        "REDUCE_MEAN": lambda x: x.mean(0),
        "REDUCE_MEAN_MAX": lambda x: np.concatenate([x.mean(0), x.max(0)]),
        "FIRST_TOKEN": lambda x: x[0],
        "CLS_TOKEN": lambda x: x[0],
        "LAST_TOKEN": lambda x: x[-1],
        "SEP_TOKEN": lambda x: x[-1],
    }
    return np.stack([pool[strategy](sequence) for sequence in sequences])


@pytest.fixture
def service(environment: Callable[[str], str], tiny_checkpoint: Path, tmp_path: Path) -> Iterator[Worker]:
    """A worker of its own, which the test may end as it likes; temporary files are under ``tmp_path``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path))
        worker = Worker(find("bert-serving"), environment("bert-serving"))
    with worker:
        worker.load(tiny_checkpoint, None, "cpu", "fp32", 1)
        yield worker


def processes_of(worker: Worker) -> list[psutil.Process]:
    return psutil.Process(worker._process.pid).children(recursive=True)


def test_the_server_listens_to_this_machine_only(service: Worker) -> None:
    listening = [c.laddr for p in processes_of(service) for c in p.net_connections("inet") if c.status == "LISTEN"]
    assert len({address.port for address in listening}) == 2
    assert {address.ip for address in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("how", ["closed", "killed", "loaded again"])
def test_the_server_ends_with_its_worker_and_leaves_nothing(
    service: Worker, tiny_checkpoint: Path, tmp_path: Path, batch: Batch, how: str
) -> None:
    processes, places = processes_of(service), list(tmp_path.glob("bert-serving-*"))
    assert len(processes) >= 3, "server, sink and worker"
    assert len(places) == 1
    if how == "closed":
        service.close()
    elif how == "killed":
        service._process.kill()
    else:
        service.load(tiny_checkpoint, None, "cpu", "fp32", 1)
        assert encoded(service, batch).hidden.shape == (len(batch.ids), 32)
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive
    assert not places[0].exists()
    assert how == "loaded again" or not list(tmp_path.iterdir())


def test_a_server_that_died_ends_its_worker(service: Worker, batch: Batch) -> None:
    server, *others = processes_of(service)
    others[-1].kill()
    server.wait(timeout=10)
    with pytest.raises(WorkerError, match="bert-as-service ended with exit code 1"):
        encoded(service, batch)


def test_the_servers_processes_are_counted(service: Worker, batch: Batch) -> None:
    own, *servers = [psutil.Process(service._process.pid), *processes_of(service)]

    def spent(processes: list[psutil.Process]) -> float:
        return sum(times.user + times.system for times in [process.cpu_times() for process in processes])

    def measured(repeats: int) -> float:
        return float(service.time(batch, None, None, repeats).cpu.sum())

    measured(1)
    before, servers_before, seconds = spent([own, *servers]), spent(servers), 0.0
    while spent(servers) - servers_before < 1.0:  # much more than the tolerance below, on a fast machine too
        seconds += measured(20)
    assert seconds == pytest.approx(spent([own, *servers]) - before, rel=0.1, abs=0.1)
    memory = service.memory()["resident"]
    assert memory >= sum(process.memory_info().rss for process in [own, *servers])
