# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#     "tensorflow-cpu==2.15.1", "numpy==1.26.4", "safetensors==0.8.0", "six==1.17.0",
#     "bert-tensorflow==1.0.4", "bert-serving-server==1.10.0", "bert-serving-client==1.10.0",
#     "pyzmq==27.3.0", "GPUtil==1.4.0", "termcolor==3.3.0",
# ]
# ///
"""bert-as-service: a real server on this machine, in processes of its own, asked by its real client.

Wall-clock time, CPU seconds and memory are those of both: the client in the worker, and all processes of the server.
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
from typing import Any, BinaryIO, cast

import harness
from harness.port import tensorflow1
from harness.port.batch import Batch, IntArray, pad
from harness.port.hf_folder import read_folder, read_vocabulary
from harness.worker.messages import Array, exactly, receive, send
from harness.worker.session import take_over_pipes

NAME = "bert-serving"
TITLE = "bert-as-service"
CATALOG_ID = "hanxiao-bert-as-service"
DEVIATIONS = {"pairs-only": "it sets them itself: a second segment only in [CLS] text [SEP] pair [SEP]"}

# As ``harness.measure.client`` does, the server's process makes the package ``harness`` alone importable.
START = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("harness", sys.argv[1])
sys.modules["harness"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["harness"])
from harness.implementations.bert_serving import serve
serve(*sys.argv[2:])
"""
PAIR = "|||"  # stands between the tokens of two texts
WHOLE = ["-pooling_strategy", "NONE", "-pooling_layer", "-1", "-no_special_token"]  # what ``Model`` asks for


class Server:
    """A server of these weights on two free ports of 127.0.0.1; it ends with this object, or with this process."""

    def __init__(self, folder: str | Path, options: list[str]) -> None:
        """Start it, and return when it answers. ValueError where it cannot read the weights."""
        place = tempfile.mkdtemp(prefix="bert-serving-")
        self.port, self.port_out = _free_ports()
        options = [*options, "-port", str(self.port), "-port_out", str(self.port_out)]
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(harness.__file__), str(Path(folder).resolve()), place, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=place,
            env=os.environ | {"TMPDIR": place},  # graph and sockets too are left behind in there
        )
        self.close = weakref.finalize(self, _end, process, place)
        try:
            message, _ = receive(exactly(cast(BinaryIO, process.stdout)))
        except EOFError:
            message = {"error": "bert-as-service ended before it answered"}
        if "error" in message:
            self.close()
            raise ValueError(message["error"])
        self.processes: list[int] = message["processes"]  # ids of all that it consists of
        threading.Thread(target=_end_with, args=(process,), daemon=True).start()


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _end(process: subprocess.Popen[bytes], place: str) -> None:
    """Tell the server to end, make sure of it, and clean up."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
    shutil.rmtree(place, ignore_errors=True)


def _end_with(process: subprocess.Popen[bytes]) -> None:
    """End this process if the server's ends unasked: the client would wait for an answer for ever."""
    process.wait()
    assert process.stdin is not None
    if not process.stdin.closed:
        print(f"bert-as-service ended with exit code {process.returncode}", file=sys.stderr, flush=True)
        os._exit(1)


def serve(folder: str, place: str, *options: str) -> None:
    """The server's process: say when it is ready, and run until the other end of standard input is closed."""
    requests, answers = take_over_pipes()
    try:
        server = _start(folder, place, list(options))
        send(answers, {"processes": [os.getpid(), *(process.pid for process in server.processes)]})
        while not _died(server):
            if select.select([requests], [], [], 1)[0]:
                break
    except Exception as error:
        send(answers, {"error": str(error)})
    finally:
        for process in multiprocessing.active_children():
            process.kill()
        shutil.rmtree(place, ignore_errors=True)
        os._exit(1)  # the server's own way to end waits for a signal that nobody receives any more


def _start(folder: str, place: str, options: list[str]) -> Any:
    tensorflow1.alias_estimator()
    import zmq
    from bert_serving.server import BertServer
    from bert_serving.server.helper import get_args_parser

    bind = zmq.Socket.bind  # the server would listen to the whole network, and has no option for it
    zmq.Socket.bind = lambda self, address: bind(self, address.replace("tcp://*", "tcp://127.0.0.1"))
    with multiprocessing.Pool(1) as pool:  # a process that has computed cannot be forked, as the server will do
        pool.apply(write_checkpoint, (folder, place))
    server = BertServer(get_args_parser().parse_args(["-model_dir", place, "-max_seq_len", "NONE", "-cpu", *options]))
    server.daemon = True
    server.start()
    while not server.is_ready.wait(timeout=0.1):
        if _died(server):
            raise RuntimeError("bert-as-service did not start; standard error says why")
    return server


def _died(server: Any) -> bool:
    """Whether its thread has ended, or one of its processes; it lists them before they start."""
    return not server.is_alive() or any(process.exitcode is not None for process in list(server.processes))


def write_checkpoint(folder: str, place: str) -> None:
    """What Google released: ``bert_config.json``, ``vocab.txt`` and a TensorFlow checkpoint."""
    tf = tensorflow1.alias()
    from bert_serving.server.bert import modeling

    model = tensorflow1.Model(modeling, folder, "bert-as-service")
    with model.session.graph.as_default():
        tf.train.Saver().save(model.session, f"{place}/bert_model.ckpt", write_meta_graph=False)
    config = read_folder(folder).config
    (Path(place) / "bert_config.json").write_text(json.dumps(config), encoding="utf-8")
    names = token_names(folder, config["vocab_size"])
    (Path(place) / "vocab.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def token_names(folder: str, size: int) -> list[str]:
    """The word pieces by id. One that the server could not tell from another gets a name of its own."""
    pieces = [piece.strip() for piece in read_vocabulary(folder)[:size]]
    pieces += [""] * (size - len(pieces))
    first = {piece: number for number, piece in reversed(list(enumerate(pieces)))}
    return [
        piece if first[piece] == number and piece not in ("", PAIR) else f"[id {number}]"
        for number, piece in enumerate(pieces)
    ]


class Model:
    """The Protocol of ``harness.registry.implementations`` over the client."""

    batching = "padded"

    def __init__(self, folder: str) -> None:
        from bert_serving.client import BertClient

        self.names = token_names(folder, read_folder(folder).config["vocab_size"])
        self.server = Server(folder, WHOLE)
        # The first answer may be lost while sockets connect; later ones take as long as they take.
        self.client = BertClient("127.0.0.1", self.server.port, self.server.port_out, check_length=False, timeout=60000)
        self.client.timeout = -1
        packages = ("bert-serving-server", "bert-serving-client", "tensorflow-cpu")
        self.version = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)

    def encode(self, batch: Batch) -> Any:
        ranges = [slice(start, end) for start, end in pairwise(batch.cu_seqlens)]
        texts = [self._tokens(batch.ids[place], batch.segments[place]) for place in ranges]
        return self.client.encode(texts, is_tokenized=True)

    def _tokens(self, ids: IntArray, segments: IntArray) -> list[str]:
        """One text as it is; of a pair without the special tokens, which the server adds."""
        tokens = [self.names[number] for number in ids]
        if not segments.any():
            return tokens
        middle = int(segments.argmax())
        text, pair = tokens[1 : middle - 1], tokens[middle:-1]
        if ["[CLS]", *text, "[SEP]", *pair, "[SEP]"] != tokens or not (pair and segments[middle:].all()):
            raise ValueError("bert-as-service has a second segment only in [CLS] text [SEP] pair [SEP]")
        return [*text, PAIR, *pair]

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        mask = pad(batch)[2]
        return cast(Array, encoded[:, : mask.shape[1]][mask == 1])  # it leaves room for [CLS] and [SEP]

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return None

    def synchronize(self) -> None:
        """The client waits for the answer."""

    def processes(self) -> list[int]:
        """The server's."""
        return self.server.processes


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """A server of the weights of a Hugging Face folder, and a client that is connected to it."""
    tensorflow1.check_supported(NAME, device, precision)
    return Model(folder)


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The server's own tokenizer."""
    tensorflow1.alias()
    from bert_serving.server.bert.tokenization import FullTokenizer

    return tensorflow1.tokenizer(FullTokenizer, folder)
