"""The HTTP service: one model, its queue and its routes, in one process that stops in order."""

import logging
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import TextIO

import uvicorn

import reference.serving.openai as openai
import reference.serving.page as page
import reference.serving.search as search
import reference.serving.tei as tei
import reference.serving.tei_heads as tei_heads
from reference.encoder import CPU_TOKENS, GPU_TOKENS, SentenceEncoder
from reference.serving import connections, openapi
from reference.serving.batching import Batcher
from reference.serving.classifier import Classifier
from reference.serving.http import Application, Service, get, health, metrics, ready
from reference.serving.limits import Limits, NoAddress
from reference.serving.metrics import Metrics
from reference.serving.model import Model
from reference.serving.store.items import Store

WARM = "the model's speed is measured before the first request"
BACKLOG = 4096  # connections that wait to be accepted; the system may allow fewer
STOP_SECONDS = 30  # in which answers that are being computed may still be sent


def listen(host: str, port: int) -> socket.socket:
    """A socket that has the address, but takes no connection yet. ``port`` 0: any that is free.

    Raises NoAddress, which names the address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)  # without the protocol asyncio would not set TCP_NODELAY
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connections.cut_off_who_does_not_read(bound)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise NoAddress(f"cannot listen on {host} port {port}: {why}") from error
    return bound


def address_of(bound: socket.socket) -> str:
    """The address as in a URL."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def build(
    encoder: SentenceEncoder,
    name: str,
    *,
    more: Mapping[str, SentenceEncoder] | None = None,
    classifiers: Sequence[Classifier] = (),
    max_wait: float = 30.0,
    key: str | None = None,
    limits: Limits | None = None,
    store: Store | None = None,
) -> Application:
    """The HTTP application of an encoder, whose speed is measured first. ``name`` is what clients call the model.

    ``more`` are other encoders, by the names that requests choose them by; ``classifiers`` are models with a head.
    ``store`` keeps the collections; the caller closes it.
    """
    batch_tokens = CPU_TOKENS if encoder.device == "cpu" else GPU_TOKENS
    counted = Metrics()
    models = {each: Model(made, each) for each, made in ({name: encoder} | dict(more or {})).items()}
    batcher = Batcher(batch_tokens, max_wait, counted.observe)
    for model in models.values():
        warm = model.tokens([WARM])
        for count in (1, batch_tokens // len(warm[0].ids)):  # the first batch pays for what is made once
            batcher.submit("start", model.vectors(), warm * max(1, count)).answer.result()
    heads = {each.name: each for each in classifiers}
    service = Service(models, batcher, counted, heads, limits or Limits(), key)
    own = [*tei.ROUTES, *tei_heads.ROUTES, *search.routes(store), *page.ROUTES, get("/metrics", metrics)]
    families = {"/": (tei.shape, own), "/v1": (openai.shape, openai.ROUTES)}
    application = Application(service, families, [get("/health", health), get("/ready", ready), *page.UNLOCKED])
    openapi.add_to(application)
    return application


def server(application: Application) -> uvicorn.Server:
    """The HTTP server of an application, with as many connections as this process may have."""
    connections.Protocol.limit = connections.most()
    config = uvicorn.Config(
        application,
        http=connections.Protocol,
        backlog=BACKLOG,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=64 * 1024,
    )
    return uvicorn.Server(config)


def run(application: Application, sockets: Sequence[socket.socket]) -> None:
    """Serve until SIGTERM, then return; or until Ctrl-C, then raise KeyboardInterrupt.

    Either way accepted requests are answered first, for at most STOP_SECONDS. A second signal ends that too.
    """
    previous = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises the signal again when it has stopped
    try:
        server(application).run(list(sockets))
    finally:
        signal.signal(signal.SIGTERM, previous)


def log_to(stream: TextIO) -> None:
    """Write the log, one line of JSON for a request, to a text stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("reference.serving")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)


def checked_key(text: str) -> str:
    """A key without the white space around it. Raises ValueError for one that no HTTP client can send."""
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("a key is one word of ASCII letters, digits and signs")
    return key
