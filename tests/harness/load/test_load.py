"""The command load, with services that answer at once, answer something else, or do not start."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.errors import BadInput, Failure
from harness.load import client
from harness.load import services as module
from harness.load.services import Running, find, path_of, services
from harness.records import record
from harness.records.record import Load

STUB = '''
"""A service whose vectors follow from the length of a text."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "{name}"
TITLE = "A stub"
CATALOG_ID = "stub"
PATH = "/vectors"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_): ...

    def do_POST(self):
        texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
        time.sleep({seconds})
        vectors = [[1.0 * len(text), {second}] for text in texts]
        body = json.dumps({{"data": [{{"index": i, "embedding": v}} for i, v in enumerate(vectors)]}}).encode()
        self.send_response(200 if self.path == PATH else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    if {ends}:
        raise SystemExit("it does not start, as it says")
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
    server.request_queue_size = 64
    server.serve_forever()
'''


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that adds a service; there are no others."""
    folder = tmp_path / "services"
    folder.mkdir()
    monkeypatch.setattr(module, "FOLDER", folder)
    monkeypatch.setattr(module, "version_of", lambda each: "1")
    monkeypatch.setattr("harness.load.drive.version_of", lambda each: "1")

    def write(
        name: str = "bert-atlas", seconds: float = 0, second: float = 1, status: int = 200, ends: bool = False
    ) -> Path:
        file = folder / f"{name.replace('-', '_')}.py"
        file.write_text(STUB.format(name=name, seconds=seconds, second=second, status=status, ends=ends))
        return file

    return write


@pytest.fixture
def running(stub: Callable[..., Path], tmp_path: Path) -> Callable[..., Running]:
    """A function that starts the one service, for as long as the test runs."""
    made: list[Running] = []

    def start(**arguments: float) -> Running:
        stub(**arguments)
        made.append(Running(find([])[0], Path(sys.executable), tmp_path, 1))
        made[-1].wait("a")
        return made[-1]

    yield start  # type: ignore[misc]
    for each in made:
        each.close()


def test_services_that_there_are() -> None:
    known = services()
    assert next(iter(known)) == "bert-atlas"
    assert {path_of(each.file) for each in known.values()} == {"/v1/embeddings", "/embeddings"}
    assert [each.name for each in find(["infinity"])] == ["bert-atlas", "infinity"]
    assert find(["all"]) == list(known.values())
    with pytest.raises(BadInput, match="no service is called 'infinitty'; did you mean infinity"):
        find(["infinitty"])


@pytest.mark.slow
def test_services_are_compared_and_take_turns(
    stub: Callable[..., Path], main: Callable[..., tuple[int, str, str]], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    stub()
    stub("slow", seconds=0.02)
    stub("other-vectors", second=-5)
    stub("broken", ends=True)
    runs = tmp_path / "runs"
    code, out, err = main(
        *("load", "--service", "all", "--weights", tiny_checkpoint, "--runs", runs),
        *("--clients", "1,4", "--seconds", "0.3", "--rounds", "2"),
    )
    assert code == 1, err
    (file,) = (runs / "load").glob("*.json")
    found = record.read(file)
    assert isinstance(found, Load)
    assert {name: each["state"] for name, each in found.services.items()} == {
        "bert-atlas": "ok",
        "broken": "failed",
        "other-vectors": "failed",
        "slow": "ok",
    }
    assert "it does not start, as it says" in found.services["broken"]["reason"]
    assert "the cosine with our vectors goes down to" in found.services["other-vectors"]["reason"]
    assert "closed" not in found.services["other-vectors"]
    slow = found.services["slow"]["closed"]
    assert [(each["clients"], each["texts"], len(each["turns"])) for each in slow] == [(1, 1, 2), (4, 1, 2), (1, 32, 2)]
    assert all(each["p50"] >= 0.02 for each in slow)
    assert slow[0]["ratio"] < 1
    assert (found.texts["tasks"], found.texts["number"]) == (["mini-sentiment"], 200)
    assert "slow: version 1, first answer after" in out
    assert record.read_all([runs]) == []  # the tables of implementations do not have it
    record.read(file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clients", "0"], "--clients is 0"),
        (["--seconds", "0"], "both are above 0"),
        (["--bound", "-1"], "--bound is -1"),
        (["--service", "nobody"], "no service is called 'nobody'"),
    ],
)
def test_bad_options_are_bad_input(
    main: Callable[..., tuple[int, str, str]], arguments: list[str], message: str
) -> None:
    code, _, err = main("load", *arguments)
    assert (code, message in err) == (2, True), err


def test_arrivals_follow_the_clock_whatever_is_slow(running: Callable[..., Running]) -> None:
    each = running(seconds=0.05)
    arrivals = np.arange(20) * 0.01  # five at a time
    latencies = client.scheduled(each.url, ["a", "b"], arrivals, bound=SOON, allowed=0)
    assert (len(latencies), bool((latencies >= 0.05).all())) == (20, True)


def test_a_schedule_ends_early_where_the_bound_cannot_be_met(running: Callable[..., Running]) -> None:
    each = running(seconds=0.05)
    latencies = client.scheduled(each.url, ["a"], np.arange(1000) * 0.01, bound=0.001, allowed=3)
    assert 0 < len(latencies) < 1000
    assert (latencies > 0.001).all()


def test_a_request_that_is_refused_exceeds_the_bound(
    running: Callable[..., Running], stub: Callable[..., Path]
) -> None:
    each = running()
    wrong = each.url.replace("/vectors", "/nowhere")
    assert (client.scheduled(wrong, ["a"], np.arange(5) * 0.01, bound=1.0, allowed=9) == 2.0).all()
    with pytest.raises(Failure, match="answered 404"):
        client.closed(wrong, ["a"], 2, 0.2)


def test_clients_ask_for_several_texts_at_a_time(running: Callable[..., Running]) -> None:
    each = running()
    done = client.closed(each.url, list("abcdefgh"), clients=3, seconds=0.2, together=4)
    assert (done.latencies > 0).all()
    assert done.seconds >= 0.2
    assert each.memory > 0
    assert each.cpu_seconds >= 0
    assert each.vectors(["abc", "a"]) == [[3.0, 1.0], [1.0, 1.0]]


SOON = 20.0
