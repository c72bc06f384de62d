"""The command serve: how it starts, what it says, how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from bert_serving.client import BertClient

from harness import cli
from reference import SentenceEncoder
from reference.serving.search import space_of
from reference.serving.store.disk import DiskStore

ROOT = Path(__file__).parents[3]
SOON = 60

Process = subprocess.Popen[str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function: arguments that are bad input to what standard error says."""

    def call(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["harness", "serve", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        said = capfd.readouterr().err
        assert "Traceback" not in said
        return said

    return call


@pytest.fixture
def start(tiny_checkpoint: Path) -> Iterator[Callable[..., tuple[Process, str]]]:
    """A function that starts the command on a free port: the process and the address that it says."""
    started: list[Process] = []

    def run(*arguments: str, **variables: str) -> tuple[Process, str]:
        command = [sys.executable, "-m", "harness", "serve", "--weights", str(tiny_checkpoint), "--port", "0"]
        command += ["--device", "cpu", "--precision", "fp32", "--threads", "1", *arguments]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0].startswith("Serving tiny at http://127.0.0.1:"), process.stderr
        assert ("32 numbers, fp32" in lines[0], "curl http://" in lines[2]) == (True, True)
        return process, lines[0].split()[3].rstrip(":")

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_serves_the_vectors_of_the_weights_until_a_signal(
    start: Callable[..., tuple[Process, str]], tiny_checkpoint: Path, how: signal.Signals, code: int
) -> None:
    process, address = start("--bert-serving-ports", "0,0", BERT_ATLAS_KEY="secret")
    assert process.stdout is not None
    ports = re.findall(r"=(\d+)", process.stdout.readline())
    body = {"model": "tiny", "input": ["Where is my parcel?", "世界"]}
    answer = requests.post(
        f"{address}/v1/embeddings", json=body, headers={"authorization": "Bearer secret"}, timeout=SOON
    )
    expected = SentenceEncoder(tiny_checkpoint, precision="fp32", device="cpu").encode(body["input"])
    np.testing.assert_allclose([each["embedding"] for each in answer.json()["data"]], expected, rtol=0, atol=1e-5)
    with BertClient("127.0.0.1", *map(int, ports), timeout=1000 * SOON) as client:
        assert client.encode(body["input"]).shape == (2, 32)
    assert requests.get(f"{address}/info", timeout=SOON).status_code == 401
    process.send_signal(how)
    _, said = process.communicate(timeout=SOON)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert '"route": "/v1/embeddings", "status": 200' in said


@pytest.mark.slow
def test_an_impatient_ctrl_c_leaves_no_traceback(start: Callable[..., tuple[Process, str]]) -> None:
    process, address = start()
    assert requests.get(f"{address}/health", timeout=SOON).status_code == 200
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)  # the server looks for signals ten times a second
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=SOON)
    assert process.returncode == 130, said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_store_keeps_what_a_killed_service_had_answered(
    start: Callable[..., tuple[Process, str]], tmp_path: Path
) -> None:
    process, address = start("--store", str(tmp_path / "store"))
    assert requests.post(f"{address}/collections", json={"name": "c"}, timeout=SOON).status_code == 200
    body = {"texts": ["Where is my parcel?", "世界"], "ids": ["a", "b"]}
    assert requests.post(f"{address}/collections/c/add", json=body, timeout=SOON).json()["texts"] == 2
    process.kill()
    process.wait(SOON)
    _, again = start("--store", str(tmp_path / "store"))
    found = requests.post(f"{again}/collections/c/search", json={"text": "世界", "k": 1}, timeout=SOON).json()
    assert [(each["id"], round(each["score"], 4)) for each in found["results"]] == [("b", 1.0)]


def test_a_store_that_cannot_be_used_is_bad_input(
    refused: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path
) -> None:
    tiny = ("--weights", tiny_checkpoint, "--port", "0", "--threads", "1", "--device", "cpu", "--precision", "fp32")
    (tmp_path / "file").write_text("text")
    assert "--store: " in refused(*tiny, "--store", tmp_path / "file")
    assert "has other files, such as file" in refused(*tiny, "--store", tmp_path)
    assert "the database atlas at 127.0.0.1: " in refused(*tiny, "--store", "postgresql://127.0.0.1:1/atlas")
    encoder = SentenceEncoder(tiny_checkpoint, precision="fp32", device="cpu")
    DiskStore(tmp_path / "store", space_of(encoder, {"model": "other", "model_sha256": "5" * 64})).close()
    assert "has vectors of other with model_sha256 5555555555555555" in refused(*tiny, "--store", tmp_path / "store")


def test_a_port_that_is_taken_is_bad_input(refused: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in refused("--port", str(port))
        ports = ("--bert-serving-ports", f"0,{port}")
        assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in refused("--port", "0", *ports)


def test_bad_options_are_bad_input(refused: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path) -> None:
    assert "no-such: no such weights" in refused("--weights", "no-such", "--port", "0")
    assert "of a model on the Hub get all files" in refused("--weights", "no/such", "--port", "0")
    assert "--port is 70000" in refused("--port", "70000")
    assert "--max-wait is -1.0" in refused("--max-wait", "-1")
    assert "--max-wait is nan" in refused("--max-wait", "nan")
    for ports in ("5555", "5555,5555", "1,70000", "a,b"):
        assert f"--bert-serving-ports is {ports}" in refused("--bert-serving-ports", ports)
    assert "cannot listen on no.such.host.invalid" in refused("--host", "no.such.host.invalid")
    tiny = ("--weights", tiny_checkpoint, "--port", "0", "--threads", "1")
    assert "pooling ['middle'] is not" in refused(*tiny, "--pooling", "middle")
    assert "max_length is 2; it is a whole number from 3" in refused(*tiny, "--max-length", "2")
    assert "precision 'fp8' is not one of" in refused(*tiny, "--precision", "fp8")


def test_a_key_that_cannot_be_sent_is_bad_input(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("two words\n")
    assert "a key is one word" in refused("--key-file", tmp_path / "key")
    assert "No such file" in refused("--key-file", tmp_path / "none")
    monkeypatch.setenv("BERT_ATLAS_KEY", "")
    assert "BERT_ATLAS_KEY: a key is one word" in refused()
