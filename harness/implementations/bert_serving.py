# /// script
# [tool.bert-atlas]
# environment = "tensorflow-1"
# ///
"""bert-as-service: a real server on this machine, in separate processes, queried by its own client.

Wall-clock time, CPU seconds and memory include both: the client in the worker, and all processes of the server. It
deviates in segments: they follow from the form of a text or a pair, and other segment ids are refused.
"""

import importlib.metadata
import json
import multiprocessing
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from harness.port import Array, Batch, IntArray, Model, read_folder, read_vocabulary, tensorflow1, unpad
from harness.port.process import command, take_over_pipes

NAME = "bert-serving"
TITLE = "bert-as-service"
CATALOG_ID = "hanxiao-bert-as-service"
DEVIATIONS = {"pairs-only": "it sets them itself: a second segment only in [CLS] text [SEP] pair [SEP]"}

PAIR = "|||"  # separates the tokens of two texts
WHOLE = ["-pooling_strategy", "NONE", "-pooling_layer", "-1", "-no_special_token"]  # options that ``Encoder`` needs


class Server:
    """A server of these weights on two free ports of 127.0.0.1. It ends with this object or this process."""

    def __init__(self, folder: str | Path, options: list[str]) -> None:
        """Start the server, and return when it is ready. ValueError if it cannot read the weights."""
        place = tempfile.mkdtemp(prefix="bert-serving-")
        self.port, self.port_out = _free_ports()
        options = [*options, "-port", str(self.port), "-port_out", str(self.port_out)]
        process = subprocess.Popen(
            command(sys.executable, __name__, "serve", str(Path(folder).resolve()), place, *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=place,
            env=os.environ | {"TMPDIR": place},  # it also leaves its graph and sockets there
        )
        self.close = weakref.finalize(self, _end, process, place)
        assert process.stdout is not None
        message = json.loads(process.stdout.readline() or '{"error": "bert-as-service ended before it answered"}')
        if "error" in message:
            self.close()
            raise ValueError(message["error"])
        self.processes: list[int] = message["processes"]  # ids of all its processes
        threading.Thread(target=_end_with, args=(process,), daemon=True).start()


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _end(process: subprocess.Popen[bytes], place: str) -> None:
    """Ask the server to end, kill it if it does not, and clean up."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
    shutil.rmtree(place, ignore_errors=True)


def _end_with(process: subprocess.Popen[bytes]) -> None:
    """End this process if the server ends unexpectedly: the client would wait for an answer for ever."""
    process.wait()
    assert process.stdin is not None
    if not process.stdin.closed:
        print(f"bert-as-service ended with exit code {process.returncode}", file=sys.stderr, flush=True)
        os._exit(1)


def serve(folder: str, place: str, *options: str) -> None:
    """Run the server until standard input is closed. Called in the server's process.

    Writes one line of JSON when it is ready, with its process ids, or when it has failed, with the error.
    """
    requests, answers = take_over_pipes()
    try:
        server = _start(folder, place, list(options))
        _say(answers, {"processes": [os.getpid(), *(process.pid for process in server.processes)]})
        while not _died(server):
            if select.select([requests], [], [], 1)[0]:
                break
    except Exception as error:
        _say(answers, {"error": str(error)})
    finally:
        for process in multiprocessing.active_children():
            process.kill()
        shutil.rmtree(place, ignore_errors=True)
        os._exit(1)  # the server's own shutdown waits for a signal that never comes


def _say(answers: BinaryIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


def _start(folder: str, place: str, options: list[str]) -> Any:
    tensorflow1.alias_estimator()
    import zmq
    from bert_serving.server import BertServer
    from bert_serving.server.helper import get_args_parser

    bind = zmq.Socket.bind  # the server would listen on all networks, and has no option for it
    zmq.Socket.bind = lambda self, address: bind(self, address.replace("tcp://*", "tcp://127.0.0.1"))
    with multiprocessing.Pool(1) as pool:  # the server forks, which TensorFlow does not survive once it has computed
        pool.apply(write_checkpoint, (folder, place))
    server = BertServer(get_args_parser().parse_args(["-model_dir", place, "-max_seq_len", "NONE", "-cpu", *options]))
    server.daemon = True
    server.start()
    while not server.is_ready.wait(timeout=0.1):
        if _died(server):
            raise RuntimeError("bert-as-service did not start; see standard error")
    return server


def _died(server: Any) -> bool:
    """Whether the server's thread or one of its processes has ended; it lists them before they start."""
    return not server.is_alive() or any(process.exitcode is not None for process in list(server.processes))


def write_checkpoint(folder: str, place: str) -> None:
    """Write weights in the form of Google's releases: ``bert_config.json``, ``vocab.txt``, a TensorFlow checkpoint."""
    tf = tensorflow1.alias()
    from bert_serving.server.bert import modeling

    model = tensorflow1.Encoder(modeling, folder, "bert-as-service")
    with model.session.graph.as_default():
        tf.train.Saver().save(model.session, f"{place}/bert_model.ckpt", write_meta_graph=False)
    config = read_folder(folder).config
    (Path(place) / "bert_config.json").write_text(json.dumps(config), encoding="utf-8")
    names = token_names(folder, config["vocab_size"])
    (Path(place) / "vocab.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def token_names(folder: str, size: int) -> list[str]:
    """The word pieces by id. Pieces that the server could not tell apart get unique names."""
    pieces = [piece.strip() for piece in read_vocabulary(folder)[:size]]
    pieces += [""] * (size - len(pieces))
    first = {piece: number for number, piece in reversed(list(enumerate(pieces)))}
    return [
        piece if first[piece] == number and piece not in ("", PAIR) else f"[id {number}]"
        for number, piece in enumerate(pieces)
    ]


class Encoder:
    """The client of a server as a ``harness.port.Model``."""

    batching = "padded"

    def __init__(self, folder: str) -> None:
        from bert_serving.client import BertClient

        self.names = token_names(folder, read_folder(folder).config["vocab_size"])
        self.server = Server(folder, WHOLE)
        # The first answer may be lost while sockets connect. After it, the client waits without limit.
        self.client = BertClient("127.0.0.1", self.server.port, self.server.port_out, check_length=False, timeout=60000)
        self.client.timeout = -1
        packages = ("bert-serving-server", "bert-serving-client", "tensorflow-cpu")
        self.version = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)

    def encode(self, batch: Batch) -> Any:
        ranges = [slice(start, end) for start, end in pairwise(batch.cu_seqlens)]
        texts = [self._tokens(batch.ids[place], batch.segments[place]) for place in ranges]
        return self.client.encode(texts, is_tokenized=True)

    def _tokens(self, ids: IntArray, segments: IntArray) -> list[str]:
        """A single text unchanged; a pair without the special tokens, which the server adds."""
        tokens = [self.names[number] for number in ids]
        if not segments.any():
            return tokens
        middle = int(segments.argmax())
        text, pair = tokens[1 : middle - 1], tokens[middle:-1]
        if ["[CLS]", *text, "[SEP]", *pair, "[SEP]"] != tokens or not (pair and segments[middle:].all()):
            raise ValueError("bert-as-service has a second segment only in [CLS] text [SEP] pair [SEP]")
        return [*text, PAIR, *pair]

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(encoded, batch)  # with room for [CLS] and [SEP] at the end

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return None

    def synchronize(self) -> None:
        """The client waits for the answer."""

    def processes(self) -> list[int]:
        """Those of the server."""
        return self.server.processes


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Start a server of the weights of a Hugging Face folder, and connect a client to it."""
    tensorflow1.check_supported(NAME, device, precision)
    return Encoder(folder)


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The server's own tokenizer."""
    tensorflow1.alias()
    from bert_serving.server.bert.tokenization import FullTokenizer

    return tensorflow1.tokenizer(FullTokenizer, folder)
