"""The HTTP service as its clients see it, over real sockets."""

import base64
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import requests

from reference import SentenceEncoder
from reference.serving.batching import Batcher
from reference.serving.limits import Limits
from reference.serving.model import Vectors
from reference.serving.service import listen
from tests.reference.serving.conftest import NAME, SOON, Running, wait_until

TEXTS = ["a face", "", "he fed a bad cab.", "a", "head head", "A Face, he 世"]
LONG = "bead dab " * 20
Start = Callable[..., Running]


def close(found: Any, expected: Any) -> None:
    """Of vectors that are equal except for the rounding of float32 sums in another order."""
    np.testing.assert_allclose(np.array(found, np.float32), expected, rtol=0, atol=2e-6)


# -- OpenAI --


def test_openai_vectors_are_those_of_the_encoder(shared: Running, encoder: SentenceEncoder) -> None:
    said = shared.post("/v1/embeddings", {"input": TEXTS, "model": NAME}).json()
    assert [each["index"] for each in said["data"]] == list(range(len(TEXTS)))
    close([each["embedding"] for each in said["data"]], encoder.encode(TEXTS))
    tokens = sum(len(each.ids) for each in encoder._tokens(TEXTS))
    assert said["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (said["object"], said["model"], said["data"][0]["object"]) == ("list", NAME, "embedding")
    assert "cut" not in said


def test_openai_base64_is_float32_in_little_endian(shared: Running, encoder: SentenceEncoder) -> None:
    said = shared.post("/v1/embeddings", {"input": "a face", "encoding_format": "base64"}).json()
    raw = base64.b64decode(said["data"][0]["embedding"])
    close(np.frombuffer(raw, "<f4"), encoder.encode("a face"))


def test_openai_names_the_texts_that_were_cut(shared: Running) -> None:
    answer = shared.post("/v1/embeddings", {"input": ["a", LONG, "he", LONG + "a"]})
    lost = [each["tokens_lost"] for each in answer.json()["cut"]]
    assert [each["index"] for each in answer.json()["cut"]] == [1, 3]
    assert lost[0] > 0
    assert lost[1] == lost[0] + 1
    assert (answer.headers["x-texts-cut"], answer.headers["x-texts-cut-count"]) == ("1,3", "2")


WRONG_OPENAI: list[tuple[Any, int, str, str]] = [
    ({}, 400, "input", "input is missing"),
    ({"input": []}, 400, "input", "empty list"),
    ({"input": None}, 400, "input", "missing"),
    ({"input": 7}, 400, "input", "a number"),
    ({"input": {"a": 1}}, 400, "input", "an object"),
    ({"input": ["a", 3]}, 400, "input[1]", "a number; it must be a string"),
    ({"input": ["a", None]}, 400, "input[1]", "null"),
    ({"input": ["a", ["b"]]}, 400, "input[1]", "a list"),
    ({"input": [1, 2, 3]}, 400, "input", "token ids"),
    ({"input": [[1, 2], [3]]}, 400, "input", "token ids"),
    ({"input": ["a", "\ud83d"]}, 400, "input[1]", "surrogate pair at character 0"),
    ({"input": ["a"] * 2049}, 413, "input", "at most 2048"),
    ({"input": "a" * 100_001}, 413, "input", "at most 100000"),
    ({"input": "a", "model": "text-embedding-3-small"}, 404, "model", "the model is 'tiny'"),
    ({"input": "a", "model": 7}, 404, "model", "not served"),
    ({"input": "a", "dimensions": 8}, 400, "dimensions", "have 24 numbers"),
    ({"input": "a", "dimensions": True}, 400, "dimensions", "have 24 numbers"),
    ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format", "float, base64"),
    ({"input": "a", "encoding_format": ["float"]}, 400, "encoding_format", "float, base64"),
    ({"inputs": "a"}, 400, "inputs", "unknown field 'inputs'"),
]


@pytest.mark.parametrize(("body", "status", "param", "message"), WRONG_OPENAI)
def test_openai_errors_say_what_is_wrong(shared: Running, body: Any, status: int, param: str, message: str) -> None:
    answer = shared.post("/v1/embeddings", body)
    said = answer.json()["error"]
    assert (answer.status_code, said["param"], said["type"]) == (status, param, "invalid_request_error")
    assert message in said["message"]
    assert set(said) == {"message", "type", "param", "code"}


def test_openai_fields_may_be_null_or_the_size_itself(shared: Running) -> None:
    body = {"input": "a", "model": None, "encoding_format": None, "dimensions": 24, "user": "somebody"}
    assert shared.post("/v1/embeddings", body).status_code == 200


def test_openai_models_are_the_one_that_is_served(shared: Running) -> None:
    said = shared.get("/v1/models").json()
    assert [(each["id"], each["object"]) for each in said["data"]] == [(NAME, "model")]


# -- bodies that are no requests, on both families of routes --

BODIES: list[tuple[bytes, int, str]] = [
    (b"", 400, "not JSON"),
    (b"{", 400, "not JSON"),
    (b'{"input": NaN}', 400, "NaN is not a JSON number"),
    (b'{"input": -Infinity}', 400, "-Infinity is not"),
    (b'{"input": "\xff"}', 400, "not UTF-8: byte 11"),
    (b"[" * 100_000, 400, "nested too deeply"),
    (b'{"input": ' + b"9" * 5000 + b"}", 400, "not JSON"),
    (b"[]", 400, "the body is a list"),
    (b'"text"', 400, "the body is a string"),
    (b"null", 400, "the body is null"),
]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/similarity", "/tokenize"])
@pytest.mark.parametrize(("body", "status", "message"), BODIES)
def test_a_body_that_is_not_an_object_is_refused_in_the_shape_of_the_route(
    shared: Running, path: str, body: bytes, status: int, message: str
) -> None:
    answer = shared.post(path, data=body, headers={"content-type": "application/json; charset=utf-8"})
    said = answer.json()["error"]
    openai = path.startswith("/v1")
    assert message in (said["message"] if openai else said)
    assert answer.status_code == (status if openai or "the body is" not in message or "not" in message else 422)


def test_only_json_is_read_so_that_no_web_page_can_post_a_form(shared: Running) -> None:
    answer = shared.post("/embed", data={"inputs": "a"})
    assert answer.status_code == 415
    assert "must be application/json" in answer.json()["error"]


def test_a_body_that_is_too_large_is_refused_before_it_is_read(service_of: Start) -> None:
    running = service_of(limits=Limits(body_bytes=1000))
    host, _, port = running.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=SOON) as connection:
        head = (
            "POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1001\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    answer = running.post("/embed", data=iter([b" " * 600] * 2), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (413, "the body has more than 1000 bytes")


def test_a_body_that_does_not_arrive_is_not_waited_for(service_of: Start) -> None:
    running = service_of(limits=Limits(body_seconds=0.05))
    host, _, port = running.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=SOON) as connection:
        head = "POST /embed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
    assert running.post("/embed", {"inputs": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/v1/nothing", 404), ("POST", "/embed/", 404), ("GET", "/v1/embeddings", 405)],
)
def test_unknown_routes_and_methods_are_errors_in_json(shared: Running, method: str, path: str, status: int) -> None:
    answer = requests.request(method, f"http://{shared.address}{path}", timeout=SOON)
    said = answer.json()["error"]
    assert answer.status_code == status
    assert isinstance(said, dict) == path.startswith("/v1")


# -- Text Embeddings Inference --


def test_tei_vectors_are_those_of_the_encoder(shared: Running, encoder: SentenceEncoder, folder: Any) -> None:
    close(shared.post("/embed", {"inputs": TEXTS}).json(), encoder.encode(TEXTS))
    close(shared.post("/embed", {"inputs": "a face"}).json(), encoder.encode(["a face"]))
    raw = SentenceEncoder(folder, normalize=False, precision="fp32", device="cpu").encode(TEXTS)
    close(shared.post("/embed", {"inputs": TEXTS, "normalize": False}).json(), raw)
    prompted = encoder.encode(TEXTS, prompt_name="query")
    close(shared.post("/embed", {"inputs": TEXTS, "prompt_name": "query"}).json(), prompted)


def test_tei_names_the_texts_that_were_cut_or_refuses_them(shared: Running) -> None:
    answer = shared.post("/embed", {"inputs": ["a", LONG]})
    assert (answer.status_code, answer.headers["x-texts-cut"]) == (200, "1")
    answer = shared.post("/embed", {"inputs": ["a", LONG], "truncate": False})
    assert answer.status_code == 422
    assert "text 1 of inputs has" in answer.json()["error"]
    assert answer.json()["error_type"] == "Validation"


WRONG_TEI: list[tuple[str, Any, int, str]] = [
    ("/embed", {"inputs": []}, 400, "empty list"),
    ("/embed", {"inputs": ["a", 1]}, 422, "inputs[1] is a number"),
    ("/embed", {"inputs": [3, 4]}, 422, "token ids"),
    ("/embed", {"inputs": "a", "normalize": "yes"}, 422, "normalize is a string"),
    ("/embed", {"inputs": "a", "truncate": 1}, 422, "truncate is a number"),
    ("/embed", {"inputs": "a", "truncation_direction": "Left"}, 422, "cuts on one side: Right"),
    ("/embed", {"inputs": "a", "prompt_name": "none"}, 422, "is not one of query, document"),
    ("/embed", {"inputs": "a", "prompt_name": ["query"]}, 422, "is not one of query, document"),
    ("/embed", {"inputs": "a", "dimensions": 3}, 422, "have 24 numbers"),
    ("/embed", {"inputs": "a", "normalise": True}, 422, "unknown field 'normalise'"),
    ("/similarity", {"inputs": "a"}, 422, "inputs is a string"),
    ("/similarity", {"inputs": {"source_sentence": "a"}}, 422, "inputs.sentences is missing"),
    ("/similarity", {"inputs": {"sentences": ["a"]}}, 422, "inputs.source_sentence is null"),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "empty list"),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["a"]}, "parameters": 3}, 422, "parameters is a"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), WRONG_TEI)
def test_tei_errors_say_what_is_wrong(shared: Running, path: str, body: Any, status: int, message: str) -> None:
    answer = shared.post(path, body)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert set(answer.json()) == {"error", "error_type"}


def test_similarity_is_the_cosine_with_each_sentence(shared: Running, encoder: SentenceEncoder) -> None:
    body = {"inputs": {"source_sentence": "a face", "sentences": TEXTS}, "parameters": {"truncate": True}}
    vectors = encoder.encode(TEXTS)
    close(shared.post("/similarity", body).json(), encoder.similarity(vectors[0], vectors)[0])


def test_tokenize_gives_the_pieces_that_the_model_reads(shared: Running) -> None:
    pieces = shared.post("/tokenize", {"inputs": ["head", "face"]}).json()
    assert [[each["text"] for each in text] for text in pieces] == [
        ["[CLS]", "he", "##a", "##d", "[SEP]"],
        ["[CLS]", "face", "[SEP]"],
    ]
    assert [each["special"] for each in pieces[1]] == [True, False, True]
    bare = shared.post("/tokenize", {"inputs": "face", "add_special_tokens": False}).json()
    assert [each["text"] for each in bare[0]] == ["face"]


def test_info_says_what_is_served(shared: Running) -> None:
    said = shared.get("/info").json()
    assert (said["model_id"], said["model_dtype"], said["max_input_length"], said["size"]) == (NAME, "fp32", 32, 24)


# -- the service itself --


def test_health_and_readiness(shared: Running) -> None:
    assert shared.get("/health").json() == {"status": "ok"}
    assert shared.get("/ready").json() == {"status": "ready"}


def test_metrics_count_requests_texts_tokens_and_cuts(service_of: Start) -> None:
    running = service_of()
    for texts in (["a", LONG], []):
        running.logged(running.post("/embed", {"inputs": texts}))
    answer = running.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert found['bert_atlas_requests_total{route="/embed",status="200"}'] == "1.0"
    assert found['bert_atlas_requests_total{route="/embed",status="400"}'] == "1.0"
    assert (found["bert_atlas_texts_total"], found["bert_atlas_texts_cut_total"]) == ("2.0", "1.0")
    assert found["bert_atlas_tokens_total"] == "35.0"
    assert float(found["bert_atlas_batch_tokens_count"]) >= 1
    assert float(found["bert_atlas_tokens_per_second"]) > 0


def test_a_key_is_asked_for_everywhere_but_for_health(service_of: Start) -> None:
    running = service_of(key="secret")
    for path in ("/health", "/ready"):
        assert running.get(path).status_code == 200
    for path in ("/v1/models", "/metrics", "/info", "/nothing"):
        assert running.get(path).status_code == 401
    for header in ("Bearer wrong", "Basic secret", "secret", "Bearer", "Bearer sécret".encode()):
        answer = running.post("/v1/embeddings", {"input": "a"}, headers={"authorization": header})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"
    assert running.post("/v1/embeddings", {"input": "a"}, headers={"authorization": "Bearer secret"}).status_code == 200


def test_the_log_has_a_line_for_each_request_and_no_text(service_of: Start) -> None:
    running = service_of()
    good = running.post("/embed", {"inputs": ["he fed a cab", LONG]}, headers={"x-request-id": "mine-1"})
    bad = running.post("/embed", {"input": "face"}, headers={"x-request-id": "not\tgood"})
    first, second = running.logged(good), running.logged(bad)
    assert (first["request"], first["route"], first["status"], first["texts"]) == ("mine-1", "/embed", 200, 2)
    assert (first["cut"], first["method"]) == (1, "POST")
    assert (second["status"], second["why"]) == (422, "invalid")
    assert second["request"] != "not\tgood"
    assert "fed" not in json.dumps(running.lines)


def test_an_error_of_ours_is_a_status_500_without_its_traceback(
    service_of: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = service_of()

    def broken(*_: object) -> None:
        raise RuntimeError("inner detail")

    monkeypatch.setattr(running.application.service.model, "tokens", broken)
    monkeypatch.setattr("reference.serving.http.LOG.error", lambda *_, **__: None)
    answer = running.post("/v1/embeddings", {"input": "a"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert "inner detail" not in answer.text


def test_answers_are_sent_without_delay() -> None:
    """asyncio sets TCP_NODELAY for sockets that name their protocol; without it an answer takes 40 ms longer."""
    with listen("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


class Gate:
    """Holds the model until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.began, self.computed = threading.Event(), threading.Event(), 0
        compute = Vectors.compute

        def gated(way: Vectors, texts: Any) -> Any:
            self.began.set()
            assert self.open.wait(SOON)
            self.computed += len(texts)
            return compute(way, texts)

        monkeypatch.setattr(Vectors, "compute", gated)


def test_a_failure_of_the_model_is_an_error_and_the_next_request_is_answered(
    service_of: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = service_of()
    with monkeypatch.context() as patch:
        patch.setattr(Vectors, "compute", lambda *_: np.full((1, 24), np.nan))
        openai, tei = running.post("/v1/embeddings", {"input": "a"}), running.post("/embed", {"inputs": "a"})
    assert (openai.status_code, openai.json()["error"]["code"]) == (500, "model_failed")
    assert (tei.status_code, tei.json()["error_type"]) == (424, "Backend")
    assert running.post("/embed", {"inputs": "a"}).status_code == 200


def test_a_busy_service_refuses_at_once_and_says_when_to_try_again(
    service_of: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = service_of(max_wait=2.0)
    gate = Gate(monkeypatch)
    monkeypatch.setattr(Batcher, "tokens_per_second", property(lambda self: 3.0))
    first = threading.Thread(target=running.post, args=("/embed", {"inputs": ["a face"] * 5}))
    first.start()
    assert gate.began.wait(SOON)
    answer = running.post("/v1/embeddings", {"input": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    assert answer.headers["retry-after"] == "5"  # 20 tokens at 3 a second, less the 2 seconds that it would wait
    assert running.post("/embed", {"inputs": "a"}).json()["error_type"] == "Overloaded"
    gate.open.set()
    first.join(SOON)


def test_the_texts_of_a_client_that_left_are_not_computed(service_of: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = service_of()
    gate = Gate(monkeypatch)
    batcher = running.application.service.batcher
    first = threading.Thread(target=running.post, args=("/embed", {"inputs": "a"}))
    first.start()
    assert gate.began.wait(SOON)
    host, _, port = running.address.partition(":")
    body = json.dumps({"inputs": ["a"] * 100}).encode()
    head = f"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=SOON) as connection:
        connection.sendall(head.encode() + body)
        wait_until(lambda: batcher.queued_tokens == 303)
    wait_until(lambda: batcher.queued_tokens == 3)
    gate.open.set()
    first.join(SOON)
    assert gate.computed == 1
    wait_until(lambda: len(running.lines) == 2)
    assert {line["status"]: line.get("why") for line in running.lines} == {200: None, 499: "client left"}


def test_a_text_has_one_vector_whatever_else_is_asked_at_the_same_time(shared: Running) -> None:
    alone = shared.post("/embed", {"inputs": "a face"}).json()[0]
    found: list[Any] = []

    def ask(i: int) -> None:
        found.append(shared.post("/embed", {"inputs": [*TEXTS[: i % 5], "a face"]}).json()[-1])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(SOON)
    assert len(found) == 20
    for row in found:
        close(row, alone)


def test_stopping_answers_what_was_accepted(service_of: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = service_of()
    gate = Gate(monkeypatch)
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(running.post("/embed", {"inputs": ["a"] * 9}).status_code))
    client.start()
    assert gate.began.wait(SOON)
    assert not running.application.service.batcher.stop(timeout=0.001)
    assert running.get("/health").status_code == 503
    assert running.post("/v1/embeddings", {"input": "a"}).status_code == 503
    gate.open.set()
    client.join(SOON)
    assert answers == [200]
