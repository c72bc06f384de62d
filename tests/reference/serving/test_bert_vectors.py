"""Every strategy and layer of bert-as-service, through its own client, against the formulas of its graph in float64."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bert_serving.client import BertClient, ConcurrentBertClient

from reference import SentenceEncoder
from reference.serving import bert_http, service
from reference.serving.batching import Batcher
from reference.serving.bert_options import Options, parse
from reference.serving.bert_vectors import BertVectors
from reference.serving.metrics import Metrics
from reference.serving.model import Model
from reference.serving.zmq import BertServing, Ports
from tests.reference.serving.conftest import NAME, SOON, Running

TEXTS = ["a face", "he fed a bad cab", "head ||| he face", "a " * 30]
Array = np.ndarray[Any, Any]


@pytest.fixture
def client(encoder: SentenceEncoder) -> Iterator[Callable[..., Any]]:
    """A function: options of bert-serving-start to a client of a service with these."""
    ends: list[Callable[[], Any]] = []

    def start(options: str, kind: Any = BertClient) -> Any:
        batcher = Batcher(64)
        vectors = BertVectors(Model(encoder, NAME), parse(options)[0])
        server = BertServing(vectors, batcher, Metrics(), Ports.bind("127.0.0.1", 0, 0))
        port, port_out = server._ports.numbers
        made = kind(port=port, port_out=port_out, timeout=1000 * SOON, check_length=False)
        ends.extend([made.close, server.stop, lambda: batcher.stop(SOON)])
        return made

    yield start
    for end in ends:
        end()


@pytest.fixture(scope="module")
def formulas(folder: Path) -> "Formulas":
    return Formulas(folder)


class Formulas:
    """The graph of bert-as-service: a padded batch with an attention mask, and its pooling, in float64."""

    def __init__(self, folder: Path) -> None:
        self.model = transformers.BertModel.from_pretrained(folder, dtype=torch.float64).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def vectors(self, texts: list[str], strategy: str, layers: list[int], length: int, mask_special: bool) -> Array:
        pairs = [text.strip().split(" ||| ") for text in texts]
        rows = [
            self.tokenizer(*pair, padding="max_length", max_length=length, truncation="longest_first") for pair in pairs
        ]
        ids, segments, mask = (
            np.array([row[name] for row in rows]) for name in ("input_ids", "token_type_ids", "attention_mask")
        )
        if mask_special:
            mask = mask * ~np.isin(ids, [self.tokenizer.cls_token_id, self.tokenizer.sep_token_id])
        with torch.no_grad():
            out = self.model(*(torch.tensor(each) for each in (ids, mask, segments)), output_hidden_states=True)
        x = np.concatenate([out.hidden_states[1:][layer].numpy() for layer in layers], axis=-1)
        m = mask[..., None].astype(np.float64)
        mean, most = (x * m).sum(1) / (m.sum(1) + 1e-10), (x - (1 - m) * 1e30).max(1)
        return {
            "NONE": x * m,
            "REDUCE_MEAN": mean,
            "REDUCE_MAX": most,
            "REDUCE_MEAN_MAX": np.concatenate([mean, most], axis=1),
            "CLS_TOKEN": x[:, 0],
            "SEP_TOKEN": x[np.arange(len(x)), mask.sum(1) - 1],
            "CLS_POOLED": out.pooler_output.numpy(),
        }[strategy]


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-6)


ALL = ["NONE", "REDUCE_MEAN", "REDUCE_MAX", "REDUCE_MEAN_MAX", "CLS_TOKEN", "SEP_TOKEN", "CLS_POOLED"]


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("layers", [[-2], [-1], [0, 2], [-1, -3]])
def test_strategies_and_layers(
    client: Callable[..., Any], formulas: Formulas, strategy: str, layers: list[int]
) -> None:
    made = client(f"-pooling_strategy {strategy} -pooling_layer {' '.join(map(str, layers))} -max_seq_len 20")
    found = made.encode(TEXTS)
    assert found.dtype == np.float32
    close(found, formulas.vectors(TEXTS, strategy, layers, 20, False))


@pytest.mark.parametrize("strategy", ["NONE", "REDUCE_MEAN", "REDUCE_MAX", "REDUCE_MEAN_MAX"])
def test_mask_cls_sep_hides_them_from_attention_too(
    client: Callable[..., Any], formulas: Formulas, strategy: str
) -> None:
    made = client(f"-mask_cls_sep -pooling_strategy {strategy}")
    close(made.encode(TEXTS), formulas.vectors(TEXTS, strategy, [-2], 25, True))


def test_first_and_last_token_are_other_names(client: Callable[..., Any], formulas: Formulas) -> None:
    for name, other in (("FIRST_TOKEN", "CLS_TOKEN"), ("LAST_TOKEN", "SEP_TOKEN")):
        close(client(f"-pooling_strategy {name}").encode(TEXTS), formulas.vectors(TEXTS, other, [-2], 25, False))


def test_vectors_of_tokens_are_as_many_as_the_options_say(client: Callable[..., Any], formulas: Formulas) -> None:
    by_request = client("-pooling_strategy NONE -max_seq_len NONE")
    with pytest.warns(UserWarning, match="does not put a restriction"):
        assert client("-max_seq_len NONE", lambda **k: BertClient(**(k | {"check_length": True}))).encode(["a"]).size
    assert by_request.encode(["a face", "he"]).shape == (2, 4, 24)
    assert by_request.encode(["a face", "he ||| a"]).shape == (2, 5, 24)
    assert by_request.encode(["a a a", "he ||| a"]).shape == (2, 6, 24)  # room for the third special token
    assert by_request.encode(["a " * 50]).shape == (1, 32, 24)
    fixed = client("-pooling_strategy NONE -max_seq_len NONE -fixed_embed_length")
    found = fixed.encode(["a face"])
    assert found.shape == (1, 32, 24)
    close(found[:, :20], formulas.vectors(["a face"], "NONE", [-2], 20, False))
    assert not found[:, 4:].any()
    assert client("-pooling_strategy NONE -max_seq_len 9").encode(["a face"]).shape == (1, 9, 24)


def test_tokens_without_special_ones(client: Callable[..., Any], encoder: SentenceEncoder) -> None:
    made = client("-no_special_token -pooling_strategy NONE -max_seq_len 6 -show_tokens_to_client")
    found, tokens = made.encode([["[CLS]", "he", "[SEP]"], ["a"] * 9], is_tokenized=True, show_tokens=True)
    assert tokens == [["[CLS]", "he", "[SEP]"], ["a"] * 6]
    close(found[0, :3], made.encode(["he"])[0, :3])
    assert made.encode(["he"], show_tokens=True)[1] == [["[CLS]", "he", "[SEP]"]]
    pair = made.encode([["he", "|||", "a"]], is_tokenized=True, show_tokens=True)[1]
    assert pair == [["[CLS]", "he", "[SEP]", "a", "[SEP]"]]


def test_a_text_of_which_nothing_is_read_is_zero(client: Callable[..., Any]) -> None:
    assert not client("-mask_cls_sep").encode(["\u200b"]).any()


def test_half_precision_on_the_wire(client: Callable[..., Any], formulas: Formulas) -> None:
    found = client("-fp16").encode(TEXTS)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, formulas.vectors(TEXTS, "REDUCE_MEAN", [-2], 25, False), rtol=0, atol=2e-3)


def test_configuration_names_the_options(client: Callable[..., Any]) -> None:
    said = client("-pooling_strategy REDUCE_MEAN_MAX -pooling_layer 0 -1 -mask_cls_sep").server_config
    assert (said["pooling_strategy"], said["pooling_layer"], said["mask_cls_sep"]) == (3, [0, -1], True)
    assert (said["max_seq_len"], said["show_tokens_to_client"]) == (25, True)


def test_a_pool_of_clients(client: Callable[..., Any], formulas: Formulas) -> None:
    made = client("-pooling_strategy REDUCE_MAX", ConcurrentBertClient)
    close(made.encode(texts=TEXTS), formulas.vectors(TEXTS, "REDUCE_MAX", [-2], 25, False))


def test_an_answer_that_would_be_too_large_is_refused(
    client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference.serving.zmq.MAX_KEPT", 10_000)
    with pytest.raises(TypeError, match="more than 10000 bytes; send fewer texts"):
        client("-pooling_strategy NONE").encode(["a"] * 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-pooling_strategy MEAN", "invalid choice: 'MEAN'"),
        ("-max_seq_len 3", "3 is not NONE nor a number above 3"),
        ("-http_port 70000", "70000 is no port"),
        ("-model_dir /tmp", "-model_dir: the weights"),
        ("-cased_tokenization", "tokenizer is that of the weights"),
        ("-port=1", "--bert-serving-ports"),
        ("-cors x", "other origins"),
        ("-unheard_of", "unrecognized arguments: -unheard_of"),
        ("-mask_cls_sep -pooling_strategy SEP_TOKEN", "the original reads another token"),
        ("-mask_cls_sep -pooling_strategy CLS_POOLED", "has no vector"),
        ("'", "No closing quotation"),
    ],
)
def test_options_that_are_not_served_are_refused(options: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(options)


def test_options_without_effect_are_named() -> None:
    assert parse("-num_worker 4 -cpu -device_map 0 1 -http_port 8125") == (
        Options(http_port=8125),
        ["-num_worker", "-cpu", "-device_map"],
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(pooling_layer=(3,)), "this model has 3 layers, -3 to 2"),
        (Options(max_seq_len=33), "this model reads at most 32 tokens"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(
    encoder: SentenceEncoder, options: Options, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        BertVectors(Model(encoder, NAME), options)


def test_http_mode(encoder: SentenceEncoder, serve: Callable[..., Iterator[Running]], formulas: Formulas) -> None:
    application = service.build(encoder, NAME)
    bert_http.add_to(application, BertVectors(application.service.model), (5555, 5556))
    running = serve(application)
    found = next(running)
    answer = found.post("/encode", {"id": 123, "texts": TEXTS}).json()
    assert (answer["id"], answer["status"]) == (123, 200)
    close(answer["result"], formulas.vectors(TEXTS, "REDUCE_MEAN", [-2], 25, False))
    pieces = found.post("/encode", {"id": "x", "texts": [["he", "face"]], "is_tokenized": True}).json()
    close(pieces["result"], found.post("/encode", {"id": "x", "texts": ["he face"]}).json()["result"])
    counts = found.get("/status/server").json()
    assert (counts["server_version"], counts["statistic"]["num_total_seq"]) == ("1.10.0", 6)
    assert found.get("/status/client").json()["client_version"] == "1.10.0"
    for body, message in (
        ({"texts": ["a"]}, "id is missing"),
        ({"id": 1, "texts": "a"}, "texts is a string; it must be a list"),
        ({"id": 1, "texts": []}, "empty list"),
        ({"id": 1, "texts": [["a", 1]], "is_tokenized": True}, "not all tokens of texts[0] are strings"),
    ):
        refused = found.post("/encode", body)
        assert refused.status_code == 400, json.dumps(body)
        assert message in refused.json()["description"]
    assert next(running, None) is None
