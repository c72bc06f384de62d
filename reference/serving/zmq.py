"""The protocol of bert-as-service 1.10, so that its unmodified client gets its vectors here.

A client pushes requests to one port and subscribes to its answers, by its identity, at another. The protocol has no
error. One is reported by a data type that NumPy does not know, so that the client raises a TypeError with our sentence.

Of what goes wrong with the original server, this one differs as follows. An answer waits until its client has
subscribed, and while the client does not read. Nobody can subscribe to the answers of others without their whole
identity. What a client that left had queued is not computed. A request that makes no sense is answered or ignored, and
harms no other client. TERMINATION is ignored. Nothing is pickled.
"""

import json
import logging
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import zmq

from reference.serving import batching
from reference.serving.batching import Batcher, Request
from reference.serving.bert_options import STRATEGIES
from reference.serving.bert_vectors import BertVectors, Text
from reference.serving.limits import Limits, NoAddress, Refused, Why, texts_of, words_of
from reference.serving.metrics import Metrics

LOG = logging.getLogger("reference.serving")
VERSION = "1.10.0"  # the client refuses any other
ROUTE = "bert-as-service"  # in metrics and log
LIMITS = Limits(body_bytes=32 * 2**20, texts=100_000)
MAX_MESSAGE = 2 * LIMITS.body_bytes  # what is longer ends the connection; what is longer than body_bytes is refused
MAX_KEPT = 256 * 2**20  # bytes of answers that wait for one client to read
UNCLAIMED_SECONDS = 10.0  # that an answer waits for its client to subscribe
RETRY_MS = 5  # until answers are offered again to a client that does not read
AT_ONCE = 64  # messages that are read in one turn
ACTIVE_SECONDS = 180.0
WHOLE, PART = 36, re.compile(rb"[0-9a-f-]{0,35}")  # of the identities that clients make for themselves
NUMBER = re.compile(rb"[0-9]{1,18}")

Answer = tuple[list[bytes], float]  # frames, and until when they wait for a subscription


@dataclass
class Ports:
    """The two sockets, bound: requests wait there until they are served."""

    context: "zmq.Context[Any]"
    requests: Any
    answers: Any

    @classmethod
    def bind(cls, host: str, port: int, port_out: int) -> "Ports":
        """Port 0 is any that is free. Raises NoAddress, which names the port."""
        context: zmq.Context[Any] = zmq.Context()
        ports = cls(context, context.socket(zmq.PULL), context.socket(zmq.XPUB))
        ports.requests.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        ports.answers.setsockopt(zmq.MAXMSGSIZE, 1024)  # subscriptions
        ports.answers.setsockopt(zmq.SNDHWM, 64)  # more wait in ``Client.answers``
        for option in (zmq.XPUB_MANUAL, zmq.XPUB_VERBOSER, zmq.XPUB_NODROP):
            ports.answers.setsockopt(option, 1)
        for each, number in ((ports.requests, port), (ports.answers, port_out)):
            each.setsockopt(zmq.LINGER, 1000)
            each.setsockopt(zmq.TCP_KEEPALIVE, 1)
            each.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 60)
            try:
                numeric = socket.getaddrinfo(host, number, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
                each.bind(f"tcp://{numeric}:{number or '*'}")
            except (OSError, zmq.ZMQError) as error:
                ports.close()
                raise NoAddress(f"cannot listen on {host} port {number}: {error.strerror}") from error
        return ports

    @property
    def numbers(self) -> tuple[int, int]:
        """The ports of requests and of answers."""
        first, second = (
            int(each.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]) for each in (self.requests, self.answers)
        )
        return first, second

    def close(self) -> None:
        self.requests.close()
        self.answers.close()
        self.context.term()


@dataclass
class Client:
    """All that is known of an identity."""

    subscribers: int = 0
    answers: deque[Answer] = field(default_factory=deque)
    kept: int = 0  # bytes in answers
    queued: dict[int, Request] = field(default_factory=dict)  # by the number of the request here
    last_seen: float = 0.0


class BertServing:
    """Owns the thread that reads requests and sends answers."""

    def __init__(self, vectors: BertVectors, batcher: Batcher, metrics: Metrics, ports: Ports) -> None:
        self._vectors, self._batcher, self._metrics, self._ports = vectors, batcher, metrics, ports
        self._clients: dict[bytes, Client] = {}
        self._waiting: set[bytes] = set()  # clients that have answers which are not sent
        self._computed: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._count = 0
        self._counts = vectors.counts
        self.ignored = 0  # messages and subscriptions that made no sense
        self._ends: float | None = None  # when to stop, whatever still waits
        self._thread = threading.Thread(target=self._run, name="bert-as-service", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Take no more requests, send what is computed, and close the sockets."""
        self._ends = time.monotonic() + seconds
        self._awake()
        self._thread.join()

    # -- the thread --

    def _run(self) -> None:
        poller = zmq.Poller()
        for each in (self._ports.requests, self._ports.answers, self._woken):
            poller.register(each, zmq.POLLIN)
        while self._ends is None or (self._unsent() and time.monotonic() < self._ends):
            ready = dict(poller.poll(RETRY_MS if self._unsent() or self._ends is not None else 1000))
            if self._woken.fileno() in ready:
                self._woken.recv(4096)
            for each, act in ((self._ports.answers, self._subscription), (self._ports.requests, self._request)):
                if each in ready and (self._ends is None or each is self._ports.answers):
                    self._read(each, act)
            while True:
                try:
                    answer = self._computed.get_nowait()
                except Empty:
                    break
                answer()
            self._send()
        self._ports.close()
        self._woken.close()
        self._wake.close()

    def _unsent(self) -> bool:
        return bool(self._waiting) or not self._computed.empty()

    def _awake(self) -> None:
        with suppress(OSError):  # so many are there already, or the thread has ended
            self._wake.send(b"\0")

    def _read(self, source: Any, act: Callable[[list[bytes]], None]) -> None:
        for _ in range(AT_ONCE):
            try:
                frames = source.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                act(frames)
            except Exception as error:  # whatever a stranger sends, the thread goes on
                self.ignored += 1
                LOG.error("%s: a message was not understood", ROUTE, exc_info=error)

    def _subscription(self, frames: list[bytes]) -> None:
        """A client subscribes or leaves. The beginning of an identity would match those of other clients."""
        begins, identity = frames[0][:1] == b"\1", frames[0][1:]
        if not identity or PART.fullmatch(identity):
            self.ignored += begins
            return
        if begins:
            self._ports.answers.setsockopt(zmq.SUBSCRIBE, identity)
            client = self._client(identity)
            self._counts.num_total_client += not client.subscribers
            client.subscribers += 1
            return
        self._ports.answers.setsockopt(zmq.UNSUBSCRIBE, identity)
        left = self._clients.get(identity)
        if left is not None:
            left.subscribers -= 1
            if left.subscribers <= 0:
                self._forget(identity)

    def _client(self, identity: bytes) -> Client:
        client = self._clients.setdefault(identity, Client())
        client.last_seen = time.monotonic()
        return client

    def _forget(self, identity: bytes) -> None:
        """A client has left: nothing of it is computed or kept."""
        client = self._clients.pop(identity)
        for request in client.queued.values():
            if request.answer.cancel():
                self._metrics.left.inc()

    def _request(self, frames: list[bytes]) -> None:
        if len(frames) != 4 or not 0 < len(frames[0]) < 256 or not NUMBER.fullmatch(frames[2]):
            self.ignored += 1
            return
        identity, message, number, _ = frames
        if PART.fullmatch(identity) or message == b"TERMINATION":
            self.ignored += 1
            return
        client = self._client(identity)
        if message in (b"SHOW_CONFIG", b"SHOW_STATUS"):
            self._counts.num_sys_request += 1
            self._put(client, [identity, json.dumps(self._config(identity, message)).encode(), number])
            return
        self._counts.num_data_request += 1
        try:
            self._submit(client, identity, message, number)
        except Refused as refused:
            self._refuse(client, identity, number, refused.why.name.lower(), refused.message)

    def _submit(self, client: Client, identity: bytes, message: bytes, number: bytes) -> None:
        if client.kept > MAX_KEPT:
            raise Refused(Why.BUSY, "too many answers wait for this client to read them")
        tokens = self._tokens(message)
        if self._vectors.bytes_of(tokens) > MAX_KEPT:
            raise Refused(Why.TOO_LARGE, f"the answer would have more than {MAX_KEPT} bytes; send fewer texts")
        self._counts.num_total_seq += len(tokens)
        start = time.monotonic()
        try:
            request = self._batcher.submit(identity, self._vectors, tokens)
        except batching.Busy as error:
            raise Refused(Why.BUSY, f"the service is busy; try again in {error.seconds:.0f} seconds") from None
        except batching.Stopped as error:
            raise Refused(Why.STOPPING, str(error)) from None
        self._count += 1
        key = self._count
        client.queued[key] = request

        def answer() -> None:
            if self._clients.get(identity) is client:
                del client.queued[key]
                self._answer(client, identity, number, tokens, request, time.monotonic() - start)

        def computed(_: Any) -> None:  # called by the model's thread, or by the thread that cancels
            self._computed.put(answer)
            self._awake()

        request.answer.add_done_callback(computed)

    def _tokens(self, message: bytes) -> list[Text]:
        """The tokens of a message's texts. Refused for a message that has none."""
        if len(message) > LIMITS.body_bytes:
            raise Refused(Why.TOO_LARGE, f"the message has more than {LIMITS.body_bytes} bytes; send fewer texts")
        try:
            texts = json.loads(message)
        except (ValueError, RecursionError) as error:
            raise Refused(Why.SYNTAX, f"the message is not JSON: {error}") from None
        if not isinstance(texts, list):
            raise Refused(Why.INVALID, "the message is not a list of texts")
        if not texts or not all(isinstance(text, list) for text in texts):
            return self._vectors.tokens(texts_of(texts, "texts", LIMITS))
        return self._vectors.tokens_of_words(words_of(texts, LIMITS))

    # -- answers --

    def _answer(
        self, client: Client, identity: bytes, number: bytes, tokens: list[Text], request: Request, seconds: float
    ) -> None:
        error = request.answer.exception()
        if error is not None:
            self._refuse(client, identity, number, "failed", str(error))
            return
        rows = self._vectors.stacked(request.answer.result(), tokens)
        rows = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
        names = [self._vectors.names(each) for each in tokens]
        header = json.dumps({"dtype": rows.dtype.name, "shape": rows.shape, "tokens": names})
        self._put(client, [identity, header.encode(), rows.tobytes(), number])
        cut = sum(each.lost > 0 for each in tokens)
        read = sum(len(each.ids) for each in tokens)
        self._metrics.texts.inc(len(tokens))
        self._metrics.tokens.inc(read)
        self._metrics.cut.inc(cut)
        self._metrics.request_seconds.labels(ROUTE).observe(seconds)
        self._log("ok", seconds=round(seconds, 4), texts=len(tokens), tokens=read, cut=cut)

    def _refuse(self, client: Client, identity: bytes, number: bytes, why: str, message: str) -> None:
        sentence = f"refused: {message}".replace(",", ";")  # NumPy reads a comma as that between several types
        header = json.dumps({"dtype": sentence, "shape": [], "tokens": ""})
        self._put(client, [identity, header.encode(), b"", number])
        self._log("refused", why=why)

    def _log(self, status: str, **more: Any) -> None:
        self._metrics.requests.labels(ROUTE, status).inc()
        LOG.info(json.dumps({"route": ROUTE, "status": status, **more}))

    def _put(self, client: Client, frames: list[bytes]) -> None:
        self._waiting.add(frames[0])
        client.answers.append((frames, time.monotonic() + UNCLAIMED_SECONDS))
        client.kept += sum(map(len, frames))

    def _send(self) -> None:
        """Send what can be sent; drop what nobody subscribed to, and clients of which nothing is left."""
        now = time.monotonic()
        for identity in list(self._waiting):
            client = self._clients.get(identity)
            while client is not None and client.answers and self._sent(client, *client.answers[0], now):
                frames, _ = client.answers.popleft()
                client.kept -= sum(map(len, frames))
            if client is None or not client.answers:
                self._waiting.discard(identity)
            if client is not None and not (client.subscribers or client.answers or client.queued):
                del self._clients[identity]

    def _sent(self, client: Client, frames: list[bytes], until: float, now: float) -> bool:
        """Whether an answer is sent, or its client did not subscribe in time."""
        if not client.subscribers:
            return now >= until
        try:
            self._ports.answers.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:  # the client does not read
            return False
        return True

    def _config(self, identity: bytes, message: bytes) -> dict[str, Any]:
        """What SHOW_CONFIG and SHOW_STATUS tell."""
        said = configuration(self._vectors, self._ports.numbers) | {
            "client": identity.decode("ascii", "backslashreplace")
        }
        if message == b"SHOW_CONFIG":
            return said
        since = time.monotonic() - ACTIVE_SECONDS
        active = sum(client.last_seen > since for client in self._clients.values())
        return said | {"statistic": statistic(self._vectors) | {"num_active_client": active}}


def configuration(vectors: BertVectors, ports: tuple[int, int]) -> dict[str, Any]:
    """The server's options and versions; the client needs the first three."""
    options = vectors.options
    return {
        "server_version": VERSION,
        "max_seq_len": vectors.max_length,
        "show_tokens_to_client": True,
        "model_dir": vectors.name,
        "pooling_layer": list(options.pooling_layer),
        "pooling_strategy": STRATEGIES[options.pooling_strategy],
        "mask_cls_sep": options.mask_cls_sep,
        "no_special_token": options.no_special_token,
        "fixed_embed_length": options.fixed_embed_length,
        "fp16": options.fp16,
        "http_port": options.http_port,
        "port": ports[0],
        "port_out": ports[1],
        "num_worker": 1,
        "num_process": 1,
        "server_start_time": vectors.counts.started,
        "server_current_time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "pyzmq_version": zmq.pyzmq_version(),
        "zmq_version": zmq.zmq_version(),
    }


def statistic(vectors: BertVectors) -> dict[str, int]:
    """The counts of requests so far."""
    counts = vectors.counts
    return {
        "num_data_request": counts.num_data_request,
        "num_total_seq": counts.num_total_seq,
        "num_sys_request": counts.num_sys_request,
        "num_total_request": counts.num_data_request + counts.num_sys_request,
        "num_total_client": counts.num_total_client,
    }
