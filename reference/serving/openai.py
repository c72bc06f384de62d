"""OpenAI's embeddings API: POST /v1/embeddings and GET /v1/models."""

import base64
from typing import Any

from numpy.typing import NDArray
from starlette.responses import Response

from reference.serving.http import Call, get, post
from reference.serving.limits import Refused, Why, texts_of

FORMATS = ("float", "base64")


def shape(refused: Refused) -> tuple[int, dict[str, Any]]:
    """The status and the body of an error."""
    status, kind, code, _, _ = refused.why.value
    return status, {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": code}}


async def embeddings(call: Call) -> Response:
    """Vectors of a string or a list of strings, as the folder says; base64 is of float32, little-endian.

    Beside OpenAI's fields, ``cut`` lists the texts that were longer than the model reads, if there are any.
    """
    said = call.only("input", "model", "encoding_format", "dimensions", "user")
    model = call.model
    form = "float" if said.get("encoding_format") is None else said["encoding_format"]
    if form not in FORMATS:
        raise Refused(Why.INVALID, f"encoding_format {form!r} is not one of {', '.join(FORMATS)}", "encoding_format")
    call.check_dimensions()
    texts = texts_of(said.get("input"), "input", call.service.limits)
    rows = await call.vectors(model.vectors(), await call.tokenized(model, texts))
    return await call.json(lambda: _answer(call, rows, form), rows.size)


def _answer(call: Call, rows: NDArray[Any], form: str) -> dict[str, Any]:
    numbers: list[Any] = rows.tolist() if form == "float" else [_base64(row) for row in rows]
    data = [{"object": "embedding", "index": i, "embedding": each} for i, each in enumerate(numbers)]
    answer: dict[str, Any] = {"object": "list", "data": data, "model": call.model.name}
    answer |= {"usage": {"prompt_tokens": call.tokens, "total_tokens": call.tokens}}
    cut = [{"index": i, "tokens_lost": lost} for i, lost in call.cut.items()]
    return answer | ({"cut": cut} if cut else {})


def _base64(row: NDArray[Any]) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


async def models(call: Call) -> Response:
    """All models, by the names that requests choose them by."""
    service = call.service
    of_each = {"object": "model", "created": service.started, "owned_by": "local"}
    data = [{"id": name} | of_each for name in dict.fromkeys([*service.models, *service.classifiers])]
    return await call.json(lambda: {"object": "list", "data": data}, 0)


ROUTES = [post("/v1/embeddings", embeddings), get("/v1/models", models)]
