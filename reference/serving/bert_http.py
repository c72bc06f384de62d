"""The HTTP mode of bert-as-service 1.10: POST /encode, GET /status/server and /status/client."""

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from reference.serving.bert_vectors import BertVectors
from reference.serving.http import Application, Call, get, post
from reference.serving.limits import Refused, Why, kind_of, texts_of, words_of
from reference.serving.zmq import MAX_KEPT, VERSION, configuration, statistic


def shape(refused: Refused) -> tuple[int, dict[str, Any]]:
    """The status and the body of an error."""
    status = refused.why.value[0]
    return status, {"description": refused.message, "type": refused.why.name.lower(), "status": status}


def add_to(application: Application, vectors: BertVectors, ports: tuple[int, int]) -> None:
    """Answer these routes too, beside the two ports of the protocol."""
    encode, *status = routes(vectors, ports)
    application.add("/encode", shape, [encode])
    application.add("/status", shape, status)


def routes(vectors: BertVectors, ports: tuple[int, int]) -> list[Route]:
    """POST /encode; GET /status/server and /status/client."""

    async def encode(call: Call) -> Response:
        """Vectors of ``texts``, or of lists of tokens with ``is_tokenized``; ``id`` comes back as it is."""
        said = call.only("id", "texts", "is_tokenized")
        if "id" not in said:
            raise Refused(Why.INVALID, "id is missing; any value, which the answer repeats", "id")
        tokenized = call.flag("is_tokenized", False)
        given, limits = said.get("texts"), call.service.limits
        if not isinstance(given, list):
            raise Refused(Why.INVALID, f"texts is {kind_of(given)}; it must be a list", "texts")
        if tokenized:
            tokens = await asyncio.to_thread(vectors.tokens_of_words, words_of(given, limits))
        else:
            tokens = await asyncio.to_thread(vectors.tokens, texts_of(given, "texts", limits))
        if vectors.bytes_of(tokens) > MAX_KEPT:
            message = f"the answer would have more than {MAX_KEPT} bytes of vectors; send fewer texts"
            raise Refused(Why.TOO_LARGE, message, "texts")
        vectors.counts.num_data_request += 1
        vectors.counts.num_total_seq += len(tokens)
        call.note(tokens)
        rows = vectors.stacked(await call.rows(vectors, tokens), tokens)
        return await call.json(lambda: {"id": said["id"], "result": rows.tolist(), "status": 200}, rows.size)

    async def server(call: Call) -> Response:
        """The configuration, with counts of requests."""
        vectors.counts.num_sys_request += 1
        said = configuration(vectors, ports) | {"statistic": statistic(vectors), "status": 200}
        return await call.json(lambda: said, 0)

    async def client(call: Call) -> Response:
        """What there would be to say of the original's own clients; here no client is in between."""
        said = {"client_version": VERSION, "port": ports[0], "port_out": ports[1], "status": 200}
        return await call.json(lambda: said, 0)

    return [post("/encode", encode), get("/status/server", server), get("/status/client", client)]
