"""HTTP: reading, checking and answering requests, for whatever routes there are.

Errors are JSON in the shape of the route's API, and have the right status. The log has one line of JSON for each
request, without its texts.
"""

import asyncio
import hashlib
import hmac
import inspect
import json
import logging
import math
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from reference.encoder import Tokens
from reference.serving import batching
from reference.serving.batching import Batcher, Computes, Text
from reference.serving.classifier import Classifier
from reference.serving.limits import Limits, Refused, Why, kind_of
from reference.serving.metrics import CONTENT_TYPE, Metrics
from reference.serving.model import Model

LOG = logging.getLogger("reference.serving")
REQUEST_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)
SMALL = 32_768  # bytes of a body, or numbers of an answer, that are converted at once and not in a thread
NAMED = 100  # texts that were cut, in a header
READY_SECONDS = 10.0
LEFT = 499  # the status of a request whose client left, in the log
M = TypeVar("M")


@dataclass
class Service:
    """What all requests share. ``key``: what clients must send as a bearer token; None: nothing.

    ``models`` and ``classifiers`` are by name; the first of each answers requests that name none.
    """

    models: dict[str, Model]
    batcher: Batcher
    metrics: Metrics
    classifiers: dict[str, Classifier] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    key: str | None = None
    started: int = field(default_factory=lambda: int(time.time()))

    @property
    def model(self) -> Model:
        """The first."""
        return next(iter(self.models.values()))


class Left(Exception):
    """The client closed its connection."""


@dataclass
class Call:
    """A request that is being answered, and what the log says of it."""

    service: Service
    request: Request
    body: dict[str, Any] = field(default_factory=dict)
    texts: int = 0
    tokens: int = 0
    cut: dict[int, int] = field(default_factory=dict)  # the texts that were cut, and the tokens that they lost

    def only(self, *names: str) -> dict[str, Any]:
        """The body, whose fields must be among these: a misspelt one would be a wrong answer."""
        for name in self.body:
            if name not in names:
                raise Refused(Why.INVALID, f"unknown field {name!r}; the fields are {', '.join(names)}", name)
        return self.body

    @property
    def model(self) -> Model:
        """The model of vectors that the body names, or the first; Refused for a name that is not served."""
        return self._named(self.service.models)

    def classifier(self, fits: Callable[[Classifier], bool]) -> Classifier:
        """The model with a head that the body names, or the first that fits; Refused where there is none."""
        route = self.request.url.path
        found = {name: each for name, each in self.service.classifiers.items() if fits(each)}
        if not found:
            served = ", ".join([*self.service.models, *self.service.classifiers])
            message = f"{route} needs a fine-tuned model of the right kind, and the models are {served}"
            raise Refused(Why.WRONG_MODEL, message, "model")
        return self._named(found)

    def _named(self, models: dict[str, M]) -> M:
        name = self.body.get("model")
        if name is None:
            return next(iter(models.values()))
        if not isinstance(name, str) or name not in models:
            names = ", ".join(map(repr, models))
            what = f"the model is {names}" if len(models) == 1 else f"the models are {names}"
            raise Refused(Why.NO_MODEL, f"the model {name!r} is not served here; {what}", "model")
        return models[name]

    def flag(self, name: str, default: bool) -> bool:
        """A field that is true or false; the default where it is missing or null."""
        value = self.body.get(name)
        if value is not None and type(value) is not bool:
            raise Refused(Why.INVALID, f"{name} is {kind_of(value)}; it must be true or false", name)
        return default if value is None else value

    def check_dimensions(self) -> None:
        """Refused for vectors of another size than the model's, which it was not trained to give."""
        size, value = self.model.encoder.size, self.body.get("dimensions")
        if value is not None and (type(value) is not int or value != size):
            message = f"dimensions is {value!r}: vectors of {self.model.name} have {size} numbers, all needed"
            raise Refused(Why.INVALID, message, "dimensions")

    async def tokenized(self, model: Model, texts: Sequence[str], prompt_name: str | None = None) -> list[Tokens]:
        """The tokens of texts; those that are cut are noted for the answer."""
        found = await asyncio.to_thread(model.tokens, texts, prompt_name)
        self.note(found)
        return found

    def note(self, tokens: Sequence[Any]) -> None:
        """Count the tokens, and the texts that are cut, for the answer, the log and the metrics."""
        self.texts, self.tokens = len(tokens), sum(len(each.ids) for each in tokens)
        self.cut = {i: each.lost for i, each in enumerate(tokens) if each.lost}

    async def vectors(self, way: Computes, tokens: Sequence[Text]) -> NDArray[Any]:
        """The vectors [texts, size]; raises as ``rows`` does."""
        return np.stack(await self.rows(way, tokens))

    async def rows(self, way: Computes, tokens: Sequence[Text]) -> list[NDArray[Any]]:
        """What is computed of each text, as soon as the queue has done it.

        Raises Left if the client leaves before, whose texts then leave the queue; Refused if they are not computed.
        """
        client = self.request.client
        try:
            queued = self.service.batcher.submit(tuple(client or ()), way, tokens)
        except batching.Busy as error:
            seconds = math.ceil(error.seconds)
            message = f"the service is busy; try again in {seconds} seconds"
            raise Refused(Why.BUSY, message, headers={"retry-after": str(seconds)}) from None
        except batching.Stopped:
            raise Refused(Why.STOPPING, "the service is stopping") from None
        answer, leaving = asyncio.wrap_future(queued.answer), asyncio.ensure_future(self._leaving())
        try:
            await asyncio.wait((answer, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise Left
            rows = answer.result()
        except batching.ComputationFailed as error:
            raise Refused(Why.FAILED, str(error)) from error
        finally:
            answer.cancel()  # without effect on one that is there
            leaving.cancel()
        self.service.metrics.queue_seconds.observe((queued.started_at or queued.queued_at) - queued.queued_at)
        return rows

    async def _leaving(self) -> None:
        """Returns when the client has closed its connection."""
        while (await self.request.receive())["type"] != "http.disconnect":
            pass

    async def json(self, content: Callable[[], Any], numbers: int) -> Response:
        """An answer of about so many numbers, which names the texts that were cut."""
        text = await (asyncio.to_thread(_dumped, content) if numbers > SMALL else _at_once(content))
        headers = {}
        if self.cut:
            named = ",".join(str(i) for i in list(self.cut)[:NAMED])
            headers = {"x-texts-cut-count": str(len(self.cut)), "x-texts-cut": named}
        return Response(text, media_type="application/json", headers=headers)


def _dumped(content: Callable[[], Any]) -> bytes:
    return json.dumps(content(), separators=(",", ":"), allow_nan=False).encode()


async def _at_once(content: Callable[[], Any]) -> bytes:
    return _dumped(content)


Endpoint = Callable[[Call], Awaitable[Response]]
Shape = Callable[[Refused], tuple[int, dict[str, Any]]]


def post(path: str, endpoint: Endpoint) -> Route:
    """A route whose requests have a body: a JSON object."""

    async def answered(request: Request) -> Response:
        call: Call = request.scope["call"]
        call.body = await _read_object(request, call.service.limits)
        return await endpoint(call)

    answered.__doc__ = endpoint.__doc__
    return Route(path, answered, methods=["POST"])


def get(path: str, endpoint: Endpoint, method: str = "GET") -> Route:
    """A route whose requests have no body."""

    async def answered(request: Request) -> Response:
        return await endpoint(request.scope["call"])

    answered.__doc__ = endpoint.__doc__
    return Route(path, answered, methods=[method])


async def _read_object(request: Request, limits: Limits) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = f"Content-Type is {kind or 'missing'}; it must be application/json (curl: --json, or -H)"
        raise Refused(Why.MEDIA, message)
    body = await _read(request, limits)
    parsed = await (asyncio.to_thread(_parsed, body) if len(body) > SMALL else _parsed_at_once(body))
    if not isinstance(parsed, dict):
        raise Refused(Why.INVALID, f"the body is {kind_of(parsed)}; it must be a JSON object")
    return parsed


async def _read(request: Request, limits: Limits) -> bytes:
    """The body; Refused for one that is too large, before the rest of it is read, or that takes too long."""
    length = request.headers.get("content-length", "")
    too_large = Refused(
        Why.TOO_LARGE, f"the body has more than {limits.body_bytes} bytes", headers={"connection": "close"}
    )
    if length.isdecimal() and int(length) > limits.body_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes:
                    raise too_large
    except TimeoutError:
        message = f"the body did not arrive within {limits.body_seconds:g} seconds"
        raise Refused(Why.SLOW, message, headers={"connection": "close"}) from None
    except ClientDisconnect:
        raise Left from None
    return bytes(body)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Refused(Why.SYNTAX, f"the body is not UTF-8: byte {error.start}") from None
    except RecursionError:
        raise Refused(Why.SYNTAX, "the body is nested too deeply") from None
    except ValueError as error:
        raise Refused(Why.SYNTAX, f"the body is not JSON: {error}") from None


async def _parsed_at_once(body: bytes) -> Any:
    return _parsed(body)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


# -- the application --


class Application:
    """All routes, as an ASGI application.

    ``families``: by the beginning of paths, the shape of errors and the routes; the longest beginning that fits counts.
    Routes in ``unlocked`` need no key.
    """

    def __init__(
        self, service: Service, families: Mapping[str, tuple[Shape, list[Route]]], unlocked: Sequence[Route]
    ) -> None:
        self.service = service
        self._shapes: dict[str, Shape] = {}
        self._paths, self._unlocked = [route.path for route in unlocked], {route.path for route in unlocked}
        self._router = Router(list(unlocked), redirect_slashes=False)
        for start, (shape, routes) in families.items():
            self.add(start, shape, routes)

    def add(self, start: str, shape: Shape, routes: Sequence[Route]) -> None:
        """Answer these routes too; errors of paths that begin with ``start`` have this shape."""
        self._shapes[start] = shape
        self._paths += [route.path for route in routes]
        self._router.routes.extend(routes)

    @property
    def routes(self) -> list[Route]:
        """All routes, in the order in which they were added."""
        return [route for route in self._router.routes if isinstance(route, Route)]

    def says(self, route: Route) -> str | None:
        """What a route does: the docstring of its endpoint."""
        return inspect.getdoc(route.endpoint)

    def is_unlocked(self, path: str) -> bool:
        """Whether a route needs no key."""
        return path in self._unlocked

    def shape_of(self, path: str) -> Shape:
        """The shape of errors of a path."""
        return self._shapes[max((start for start in self._shapes if path.startswith(start)), key=len)]

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        except asyncio.CancelledError:  # by a second signal, which does not wait for what was accepted
            return
        await asyncio.to_thread(self.service.batcher.stop)
        await send({"type": "lifespan.shutdown.complete"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # then the router raises HTTPException for what it does not know
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._router(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens, and log it."""
        start = time.monotonic()
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        identity = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        call = scope["call"] = Call(self.service, request)
        status, why = LEFT, ""

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity.encode())]
            await send(message)

        try:
            if scope["path"] not in self._unlocked:
                _check_key(self.service.key, request.headers.get("authorization", ""))
            await self._router(scope, receive, send_with_id)
        except Left:
            why = "client left"
            self.service.metrics.left.inc()
        except Exception as error:
            refused = self._refused(error, request, identity)
            why = refused.why.name.lower()
            if status == LEFT:  # nothing is sent yet
                code, content = self.shape_of(scope["path"])(refused)
                response = Response(json.dumps(content), code, refused.headers, "application/json")
                await response(scope, receive, send_with_id)
        self._log(call, identity, status, time.monotonic() - start, why)

    def _refused(self, error: Exception, request: Request, identity: str) -> Refused:
        """What is said of an error; one that is a fault of ours goes to the log alone."""
        if isinstance(error, Refused):
            return error
        path = request.url.path
        if isinstance(error, HTTPException) and error.status_code == 405:
            return Refused(Why.METHOD, f"{path} does not take {request.method}", headers=dict(error.headers or {}))
        if isinstance(error, HTTPException) and error.status_code == 404:
            return Refused(Why.NO_ROUTE, f"there is no such route; the routes are {', '.join(self._paths)}")
        LOG.error("request %s failed", identity, exc_info=error)
        return Refused(Why.BUG, f"an error of the service itself; its log has more under request {identity}")

    def _log(self, call: Call, identity: str, status: int, seconds: float, why: str) -> None:
        metrics, path = self.service.metrics, call.request.url.path
        found = call.request.scope.get("route")  # the pattern of a path with names in it
        route = path if path in self._paths else found.path if isinstance(found, Route) else "unknown"
        metrics.requests.labels(route, str(status)).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        metrics.texts.inc(call.texts)
        metrics.tokens.inc(call.tokens)
        metrics.cut.inc(len(call.cut))
        line: dict[str, Any] = {"request": identity, "method": call.request.method, "route": route, "status": status}
        line |= {"seconds": round(seconds, 4), "texts": call.texts, "tokens": call.tokens, "cut": len(call.cut)}
        LOG.info(json.dumps(line | ({"why": why} if why else {})))


def _check_key(key: str | None, header: str) -> None:
    """Refused unless the header has the key. What is compared has one length, so the time does not tell the key."""
    if key is None:
        return
    scheme, _, given = header.partition(" ")
    same = hmac.compare_digest(hashlib.sha256(given.strip().encode()).digest(), hashlib.sha256(key.encode()).digest())
    if scheme.lower() != "bearer" or not same:
        what = "wrong" if given else "missing"
        message = f"the key is {what}; send it as Authorization: Bearer KEY"
        raise Refused(Why.KEY, message, headers={"www-authenticate": "Bearer"})


# -- routes about the service itself --


async def health(call: Call) -> Response:
    """Whether the model's thread runs; the model is not asked."""
    if not call.service.batcher.alive:
        raise Refused(Why.STOPPING, "the service is stopping")
    return await call.json(lambda: {"status": "ok"}, 0)


async def ready(call: Call) -> Response:
    """Whether a text gets its vector soon: one is sent through the queue."""
    service = call.service
    try:
        async with asyncio.timeout(READY_SECONDS):
            for model in service.models.values():
                await call.vectors(model.vectors(), await call.tokenized(model, ["ready"]))
            for each in service.classifiers.values():
                await call.vectors(each, await asyncio.to_thread(each.tokens, [("ready",) * (1 + each.pairs)]))
    except TimeoutError:
        raise Refused(Why.STOPPING, f"no vector within {READY_SECONDS:g} seconds") from None
    call.texts = call.tokens = 0  # no client's
    return await call.json(lambda: {"status": "ready"}, 0)


async def metrics(call: Call) -> Response:
    """The metrics, for Prometheus."""
    return Response(call.service.metrics.text(call.service.batcher), headers={"content-type": CONTENT_TYPE})
