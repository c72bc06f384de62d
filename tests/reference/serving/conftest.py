"""A small sentence encoder with random weights, and its service on a free port of this machine."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
import transformers

from reference import SentenceEncoder
from reference.serving import service
from reference.serving.http import Application

NAME = "tiny"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh.:", *(f"##{c}" for c in "abcdefgh"), "he", "face"]
SOON = 20  # seconds, after which a test has failed


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 3 layers and 24 numbers with its tokenizer, as a folder of sentence-transformers that normalizes."""
    return write_folder(tmp_path_factory.mktemp("serving") / "model", layers=3)


def write_folder(path: Path, layers: int) -> Path:
    sizes = {"vocab_size": len(PIECES), "hidden_size": 24, "num_hidden_layers": layers, "num_attention_heads": 3}
    config = transformers.BertConfig(**sizes, intermediate_size=40, max_position_embeddings=32)
    model, generator = transformers.BertModel(config), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(path)
    (path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 32}
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [{"path": where, "type": f"sentence_transformers.models.{kind}"} for where, kind in kinds]
    (path / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    prompts = {"prompts": {"query": "he face: "}}
    (path / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def encoder(folder: Path) -> SentenceEncoder:
    return SentenceEncoder(folder, precision="fp32", device="cpu")


@dataclass
class Running:
    """A service that runs in a thread."""

    application: Application
    address: str
    lines: list[dict[str, Any]] = field(default_factory=list)  # of its log

    def post(self, path: str, body: Any = None, **arguments: Any) -> requests.Response:
        if body is not None:
            arguments["json"] = body
        return requests.post(f"http://{self.address}{path}", timeout=SOON, **arguments)

    def get(self, path: str, **arguments: Any) -> requests.Response:
        return requests.get(f"http://{self.address}{path}", timeout=SOON, **arguments)

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return requests.request(method, f"http://{self.address}{path}", timeout=SOON, **arguments)

    def logged(self, answer: requests.Response) -> dict[str, Any]:
        """The line of the log about this answer. It is written when the answer is sent already, maybe after others."""
        identity = answer.headers["x-request-id"]
        wait_until(lambda: any(line["request"] == identity for line in self.lines))
        return next(line for line in self.lines if line["request"] == identity)


class _Lines(logging.Handler):
    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__(logging.INFO)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(record.getMessage()))


def wait_until(condition: Callable[[], object]) -> None:
    """Return when a condition holds; fail when it does not soon."""
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture(scope="session")
def serve() -> Callable[..., Iterator[Running]]:
    """A context: an application behind a real socket."""

    def running(application: Application) -> Iterator[Running]:
        bound = service.listen("127.0.0.1", 0)
        server = service.server(application)
        thread = threading.Thread(target=server.run, args=([bound],))
        found = Running(application, service.address_of(bound))
        handler, log = _Lines(found.lines), logging.getLogger("reference.serving")
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        thread.start()
        wait_until(lambda: server.started)
        yield found
        server.should_exit = True
        thread.join(SOON)
        log.removeHandler(handler)
        assert not thread.is_alive()

    return running


@pytest.fixture
def service_of(encoder: SentenceEncoder, serve: Callable[..., Iterator[Running]]) -> Iterator[Callable[..., Running]]:
    """A function: the arguments of ``build`` to a service of the small encoder that runs."""
    started = []

    def start(**arguments: Any) -> Running:
        started.append(serve(service.build(encoder, NAME, **arguments)))
        return next(started[-1])

    yield start
    for each in started:
        assert next(each, None) is None


@pytest.fixture(scope="module")
def shared(encoder: SentenceEncoder, serve: Callable[..., Iterator[Running]]) -> Iterator[Running]:
    """One service for tests that leave it as it was."""
    yield from serve(service.build(encoder, NAME))
