"""The protocol of bert-as-service: its own client, unmodified, and messages that it never sends."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import zmq
from bert_serving.client import BertClient, ConcurrentBertClient

from reference import SentenceEncoder
from reference.serving.batching import Batcher
from reference.serving.bert_vectors import BertVectors
from reference.serving.limits import NoAddress
from reference.serving.metrics import Metrics
from reference.serving.model import Model
from reference.serving.zmq import BertServing, Ports
from tests.reference.serving.conftest import NAME, SOON, wait_until, write_folder

TEXTS = ["a face", "he fed a bad cab.", "a", "head head", "A Face, he 世"]
LONG = "bead " * 20
MILLISECONDS = 1000 * SOON


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    made = Batcher(64)
    yield made
    assert made.stop(SOON)


@pytest.fixture
def model(encoder: SentenceEncoder) -> Model:
    return Model(encoder, NAME)


@pytest.fixture
def server(model: Model, batcher: Batcher) -> Iterator[BertServing]:
    made = BertServing(BertVectors(model), batcher, Metrics(), Ports.bind("127.0.0.1", 0, 0))
    yield made
    made.stop()


@pytest.fixture
def connect(server: BertServing) -> Iterator[Callable[..., Any]]:
    """A function that makes a client, which waits for an answer, but not for ever."""
    made: list[Any] = []

    def client(kind: Any = BertClient, **arguments: Any) -> Any:
        port, port_out = server._ports.numbers
        given = {"ip": "127.0.0.1", "port": port, "port_out": port_out, "timeout": MILLISECONDS}
        made.append(kind(**(given | arguments)))
        return made[-1]

    yield client
    for each in made:
        each.close()


Connect = Callable[..., Any]


@pytest.fixture(scope="module")
def expected(folder: Path) -> SentenceEncoder:
    """The default strategy of bert-as-service: the mean over the layer before the last, of at most 25 tokens."""
    return SentenceEncoder(
        folder, pooling="mean", normalize=False, layers=[-2], max_length=25, precision="fp32", device="cpu"
    )


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


def test_vectors_are_the_mean_of_the_layer_before_the_last(connect: Connect, expected: SentenceEncoder) -> None:
    client = connect()
    found = client.encode(TEXTS)
    assert (found.dtype, found.shape) == (np.float32, (5, 24))
    close(found, expected.encode(TEXTS))


def test_vectors_are_those_of_the_formula_on_a_padded_batch_of_transformers(connect: Connect, folder: Path) -> None:
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding="max_length", max_length=25, truncation=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch, output_hidden_states=True).hidden_states[-2]
    mask = batch["attention_mask"][..., None]
    close(connect().encode(TEXTS), ((hidden * mask).sum(1) / (mask.sum(1) + 1e-10)).numpy())


def test_texts_that_are_tokenized_and_their_tokens(connect: Connect, expected: SentenceEncoder) -> None:
    client = connect()
    found, tokens = client.encode([["he", "##a", "##d"], ["face", "none"]], is_tokenized=True, show_tokens=True)
    assert tokens == [["[CLS]", "he", "##a", "##d", "[SEP]"], ["[CLS]", "face", "[UNK]", "[SEP]"]]
    close(found[0], expected.encode("head"))
    found, tokens = client.encode(["he face"], show_tokens=True)
    assert tokens == [["[CLS]", "he", "face", "[SEP]"]]


@pytest.mark.filterwarnings("ignore:some of your sentences")
def test_long_texts_are_cut_on_the_right_with_25_tokens(connect: Connect) -> None:
    _, tokens = connect().encode([LONG], show_tokens=True)
    assert len(tokens[0]) == 25
    assert (tokens[0][:2], tokens[0][-1]) == (["[CLS]", "b"], "[SEP]")


def cut_one_by_one(first: list[int], second: list[int], room: int) -> None:
    """As the original does it."""
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()


@pytest.mark.parametrize("first", [0, 1, 3, 10, 11, 12, 30])
@pytest.mark.parametrize("second", [1, 2, 10, 11, 12, 29, 30])
def test_pairs_are_cut_as_in_the_original(model: Model, first: int, second: int) -> None:
    found = BertVectors(model).tokens_of_words([["a"] * first + ["|||"] + ["b"] * second])[0]
    kept = [list(range(first)), list(range(second))]
    cut_one_by_one(*kept, 22)
    names = ["[CLS]", *["a"] * len(kept[0]), "[SEP]", *["b"] * len(kept[1]), "[SEP]"]
    assert model.names(found.ids) == names
    assert found.segments == [0] * (len(kept[0]) + 2) + [1] * (len(kept[1]) + 1)
    assert found.lost == max(0, first + second - 22)


def test_the_last_separator_of_a_text_makes_a_pair(model: Model) -> None:
    vectors = BertVectors(model)
    assert [vectors.names(each) for each in vectors.tokens([" a ||| b ||| c ", "a|||b", "|||", "a\n||| b"])] == [
        ["[CLS]", "a", "[UNK]", "[UNK]", "[UNK]", "b", "[SEP]", "c", "[SEP]"],
        ["[CLS]", "a", "[UNK]", "[UNK]", "[UNK]", "b", "[SEP]"],
        ["[CLS]", "[UNK]", "[UNK]", "[UNK]", "[SEP]"],
        ["[CLS]", "a", "[UNK]", "[UNK]", "[UNK]", "b", "[SEP]"],
    ]


def test_configuration_and_status(connect: Connect) -> None:
    client = connect()
    client.encode(TEXTS)
    assert client.server_config["max_seq_len"] == 25
    counts = client.server_status["statistic"]
    assert (counts["num_data_request"], counts["num_total_seq"], counts["num_total_client"]) == (1, 5, 1)
    assert counts["num_active_client"] == 1


def test_answers_are_fetched_later_by_number(connect: Connect, expected: SentenceEncoder) -> None:
    client = connect()
    for text in TEXTS:
        client.encode([text], blocking=False)
    close(client.fetch_all(sort=True, concat=True), expected.encode(TEXTS))


def test_batches_of_a_generator(connect: Connect, expected: SentenceEncoder) -> None:
    client = connect()
    first = client.request_id
    found = {each.id - first: each.embedding for each in client.encode_async(iter([[text] for text in TEXTS]))}
    assert set(found) == set(range(1, 6))
    for i, text in enumerate(TEXTS):
        close(found[i + 1], expected.encode([text]))


def test_threads_share_a_pool_of_clients(connect: Connect, expected: SentenceEncoder) -> None:
    pool = connect(ConcurrentBertClient, max_concurrency=3)
    found: dict[int, Any] = {}

    def ask(i: int) -> None:
        found[i] = [pool.encode(texts=[TEXTS[i]]) for _ in range(10)]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(SOON)
    for i in range(3):
        for each in found[i]:
            close(each, expected.encode([TEXTS[i]]))


def test_no_answer_is_lost_however_many_a_client_leaves_unread(connect: Connect) -> None:
    client = connect()
    for _ in range(3000):
        client.encode(["a"], blocking=False)
    assert len(client.fetch_all()) == 3000


def test_clients_that_come_and_go_get_their_first_answer(connect: Connect) -> None:
    for _ in range(20):
        with connect(ignore_all_checks=True) as client:
            assert client.encode(["a"]).shape == (1, 24)


# -- what the client never sends, or should not --


class Raw:
    """The two sockets of a client."""

    def __init__(self, server: BertServing, identity: bytes, topic: bytes | None = None) -> None:
        port, port_out = server._ports.numbers
        self.context: Any = zmq.Context()
        self.identity = identity
        self.sender, self.receiver = self.context.socket(zmq.PUSH), self.context.socket(zmq.SUB)
        self.receiver.setsockopt(zmq.SUBSCRIBE, identity if topic is None else topic)
        self.receiver.setsockopt(zmq.RCVTIMEO, MILLISECONDS)
        self.sender.connect(f"tcp://127.0.0.1:{port}")
        self.receiver.connect(f"tcp://127.0.0.1:{port_out}")

    def send(self, message: bytes, number: bytes = b"1", count: bytes = b"1") -> None:
        self.sender.send_multipart([self.identity, message, number, count])

    def ask(self, message: bytes, **frames: bytes) -> list[bytes]:
        self.send(message, **frames)
        answer: list[bytes] = self.receiver.recv_multipart()
        return answer

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture
def raw(server: BertServing) -> Iterator[Callable[..., Raw]]:
    made: list[Raw] = []

    def client(identity: bytes = b"a client of its own", topic: bytes | None = None) -> Raw:
        made.append(Raw(server, identity, topic))
        return made[-1]

    yield client
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (b"no JSON", "the message is not JSON"),
        (b"\xff\xfe", "the message is not JSON"),
        (b"[" * 100_000, "the message is not JSON"),
        (b'"text"', "not a list of texts"),
        (b"[]", "an empty list"),
        (b"[1]", "token ids"),
        (b'["a"; null]'.replace(b";", b","), "texts[1] is null"),
        (b'["a", ["b"]]', "texts[1] is a list"),
        (b'[["a"], ["b", 3]]', "tokens of texts[1]"),
        (rb'["\ud83d"]', "half of a surrogate pair"),
        (b'["' + b"a" * 100_001 + b'"]', "at most 100000"),
        (b" " * (32 * 2**20 + 1), "more than 33554432 bytes"),
    ],
)
def test_a_request_that_makes_no_sense_is_told_so(raw: Callable[..., Raw], message: bytes, sentence: str) -> None:
    client = raw()
    _, header, body, number = client.ask(message, number=b"7")
    said = json.loads(header)
    assert sentence in said["dtype"]
    assert (said["dtype"][:9], "," in said["dtype"], body, number) == ("refused: ", False, b"", b"7")
    assert json.loads(client.ask(b'["a"]')[1])["shape"] == [1, 24]


def test_the_client_raises_an_error_with_the_sentence(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect()
    with pytest.raises(TypeError, match="half of a surrogate pair"):
        client.encode(["\ud83d"])
    with monkeypatch.context() as patch:
        patch.setattr(BertVectors, "compute", lambda *_: np.full((1, 24), np.nan))
        with pytest.raises(TypeError, match="not all numbers of the vector of text 0 are finite"):
            client.encode(["a"])
    assert client.encode(["a"]).shape == (1, 24)


def test_an_empty_text_and_a_wrong_count_are_answered(raw: Callable[..., Raw], expected: SentenceEncoder) -> None:
    answer = raw().ask(b'["", "a face"]', count=b"77")
    close(np.frombuffer(answer[2], np.float32).reshape(2, 24), expected.encode(["", "a face"]))


def test_what_cannot_be_answered_is_ignored(server: BertServing, raw: Callable[..., Raw]) -> None:
    client = raw()
    client.ask(b"SHOW_CONFIG")
    client.sender.send(b"one frame")
    client.sender.send_multipart([client.identity, b'["a"]', b"one", b"1"])
    client.sender.send_multipart([b"x" * 300, b'["a"]', b"1", b"1"])
    client.sender.send_multipart([b"", b'["a"]', b"1", b"1"])
    client.send(b"TERMINATION")
    wait_until(lambda: server.ignored == 5)
    for identity in (b"with#and@", "müde".encode()):
        assert json.loads(raw(identity).ask(b"SHOW_CONFIG")[1])["server_version"] == "1.10.0"
    assert json.loads(client.ask(b'["a"]')[1])["shape"] == [1, 24]


@pytest.mark.parametrize("topic", [b"", b"0123", b"01234567-89ab-cdef-0123-456789abcde"])
def test_nobody_reads_the_answers_of_others(server: BertServing, raw: Callable[..., Raw], topic: bytes) -> None:
    snoop = raw(b"a snoop of some length", topic)
    wait_until(lambda: server.ignored == 1)
    client = raw(b"01234567-89ab-cdef-0123-456789abcdef")
    for _ in range(20):
        client.ask(b'["a"]')
    snoop.receiver.setsockopt(zmq.RCVTIMEO, 20)
    with pytest.raises(zmq.Again):
        snoop.receiver.recv_multipart()


def test_what_a_client_that_left_had_queued_is_not_computed(
    server: BertServing, batcher: Batcher, raw: Callable[..., Raw], monkeypatch: pytest.MonkeyPatch
) -> None:
    began, free, compute = threading.Event(), threading.Event(), BertVectors.compute

    def gated(way: BertVectors, texts: Any) -> Any:
        began.set()
        assert free.wait(SOON)
        return compute(way, texts)

    monkeypatch.setattr(BertVectors, "compute", gated)
    stays, leaves = raw(b"a client that stays"), raw(b"a client that leaves")
    leaves.ask(b"SHOW_CONFIG")
    stays.send(b'["a"]')
    assert began.wait(SOON)
    leaves.send(json.dumps(["a"] * 500).encode())
    wait_until(lambda: batcher.queued_tokens == 3 + 1500)
    leaves.close()
    wait_until(lambda: batcher.queued_tokens == 3)
    free.set()
    assert json.loads(stays.receiver.recv_multipart()[1])["shape"] == [1, 24]


def test_an_answer_that_nobody_subscribed_to_is_dropped_in_time(
    server: BertServing, raw: Callable[..., Raw], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference.serving.zmq.UNCLAIMED_SECONDS", 0.01)
    raw(b"a client of its own", b"another topic").send(b"SHOW_CONFIG")
    wait_until(lambda: server._counts.num_sys_request == 1)
    wait_until(lambda: not server._waiting and b"a client of its own" not in server._clients)


def test_stopping_sends_what_was_computed(model: Model, raw: Callable[..., Raw]) -> None:
    batcher = Batcher(64)
    server = BertServing(BertVectors(model), batcher, Metrics(), Ports.bind("127.0.0.1", 0, 0))
    client = Raw(server, b"a client of its own")
    client.ask(b"SHOW_CONFIG")
    client.send(json.dumps(["a"] * 300).encode())
    wait_until(lambda: batcher.queued_tokens > 0)
    assert batcher.stop(SOON)
    server.stop()
    assert json.loads(client.receiver.recv_multipart()[1])["shape"] == [300, 24]
    client.close()


def test_a_port_that_is_taken_is_named(server: BertServing) -> None:
    port, _ = server._ports.numbers
    with pytest.raises(NoAddress, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
        Ports.bind("127.0.0.1", port, 0)


def test_a_model_of_one_layer_has_no_layer_before_the_last(tmp_path: Path) -> None:
    short = SentenceEncoder(write_folder(tmp_path / "model", layers=1), precision="fp32", device="cpu")
    with pytest.raises(ValueError, match="-pooling_layer -2: this model has 1 layers"):
        BertVectors(Model(short, NAME))
