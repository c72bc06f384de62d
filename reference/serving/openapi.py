"""GET /openapi.json, the description of all routes for programs, and GET /docs, the same for people."""

import html
import importlib.metadata
import json
import re
from collections.abc import Sequence
from typing import Any

from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from reference.serving.http import Application, Call, get

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}]}
LIST: Schema = {"type": "array", "items": TEXT, "minItems": 1}
FLAG: Schema = {"type": ["boolean", "null"]}
NAME: Schema = {"type": ["string", "null"]}
CUTTING: Schema = {"truncate": FLAG, "truncation_direction": {"enum": ["Left", "Right", None]}}
FILTER: Schema = {"type": ["object", "null"]}
PROMPT: Schema = {"prompt_name": NAME}


def _body(required: Sequence[str], **fields: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": fields, "additionalProperties": False}


BODIES: dict[str, Schema] = {  # of the routes that take one
    "/v1/embeddings": _body(
        ["input"],
        input=TEXTS,
        model=NAME,
        encoding_format={"enum": ["float", "base64", None]},
        dimensions={"type": ["integer", "null"]},
        user={},
    ),
    "/embed": _body(
        ["inputs"],
        inputs=TEXTS,
        normalize=FLAG,
        dimensions={"type": ["integer", "null"]},
        model=NAME,
        **CUTTING,
        **PROMPT,
    ),
    "/similarity": _body(
        ["inputs"],
        inputs=_body(["source_sentence", "sentences"], source_sentence=TEXT, sentences=LIST),
        parameters=_body([], **CUTTING, **PROMPT) | {"type": ["object", "null"]},
        model=NAME,
    ),
    "/tokenize": _body(["inputs"], inputs=TEXTS, add_special_tokens=FLAG, model=NAME, **PROMPT),
    "/predict": _body(
        ["inputs"],
        inputs={"anyOf": [TEXT, LIST, {"type": "array", "items": LIST, "minItems": 1}]},
        raw_scores=FLAG,
        model=NAME,
        **CUTTING,
    ),
    "/rerank": {
        "oneOf": [
            _body(["query", "texts"], query=TEXT, texts=LIST, return_text=FLAG, raw_scores=FLAG, model=NAME, **CUTTING),
            _body(
                ["query", "documents"],
                query=TEXT,
                documents=LIST,
                top_n={"type": ["integer", "null"], "minimum": 1},
                return_documents=FLAG,
                raw_scores=FLAG,
                model=NAME,
                **CUTTING,
            ),
        ]
    },
    "/matches": _body(["first", "second"], first=TEXT, second=TEXT),
    "/collections": _body(["name"], name=TEXT),
    "/collections/{name}/add": _body(
        ["texts"], texts=TEXTS, ids={"type": ["array", "null"], "items": TEXT}, metadata={"type": ["array", "null"]}
    ),
    "/collections/{name}/search": _body(
        [],
        text=NAME,
        vector={"type": ["array", "null"], "items": {"type": "number"}},
        k={"type": "integer", "minimum": 1},
        filter=FILTER,
    ),
    "/collections/{name}/get": _body(["ids"], ids={"type": "array", "items": TEXT}),
    "/collections/{name}/delete": _body(["ids"], ids={"type": "array", "items": TEXT}),
    "/collections/{name}/list": _body([], after=NAME, limit={"type": "integer", "minimum": 1}, filter=FILTER),
    "/encode": _body(["id", "texts"], id={}, texts={"type": "array", "items": {}, "minItems": 1}, is_tokenized=FLAG),
}
REFUSALS = {  # what each status means, wherever it comes from
    "400": "the body is not JSON, is empty, or on /v1 and /encode has a wrong field",
    "401": "the key is missing or wrong",
    "404": "there is no such model or collection, or the service keeps no collections",
    "408": "the body did not arrive in time",
    "413": "the body, a text or the number of texts is too large",
    "415": "Content-Type is not application/json",
    "422": "a field is wrong",
    "424": "the model failed, or there is none that can answer",
    "429": "too much is queued; Retry-After says when to try again",
    "500": "an error of the service or, on /v1, of the model",
    "503": "the service is stopping, or has too many connections",
}
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><style>body{{font:16px/1.5 system-ui;max-width:50em;margin:2em auto;
padding:0 1em}}pre{{background:#f4f4f4;color:#111;padding:1em;overflow:auto}}</style>
<h1>{title}</h1><p>For programs: <a href="openapi.json">openapi.json</a></p>{routes}</html>"""


def describe(application: Application) -> Schema:
    """The OpenAPI document of an application."""
    paths: dict[str, Schema] = {}
    for route in application.routes:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(route.path, {})[method.lower()] = _operation(application, route, method)
    version = importlib.metadata.version("bert-atlas")
    keys = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if application.service.key else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sentence vectors, by BERT Atlas", "version": version},
        "paths": paths,
        "components": keys,
    }


def _operation(application: Application, route: Route, method: str) -> Schema:
    summary, _, rest = (application.says(route) or route.path).partition("\n\n")
    body = BODIES.get(route.path)
    refused = REFUSALS if body or "{" in route.path else {status: REFUSALS[status] for status in ("401", "500", "503")}
    responses: Schema = {"200": {"description": "the answer"}}
    responses |= {status: {"description": why} for status, why in refused.items()}
    said: Schema = {"summary": " ".join(summary.split()), "responses": responses}
    if rest:
        said["description"] = " ".join(rest.split())
    if names := re.findall(r"{(\w+)}", route.path):
        said["parameters"] = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]
    if body and method == "POST":
        said["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if application.service.key and not application.is_unlocked(route.path):
        said["security"] = [{"key": []}]
    return said


def add_to(application: Application) -> None:
    """Answer these two routes too; they describe whatever the application answers when they are asked."""

    async def document(call: Call) -> Response:
        """The description of all routes, for programs."""
        return await call.json(lambda: describe(application), 0)

    async def page(call: Call) -> Response:
        """The description of all routes, for people."""
        return HTMLResponse(_page(describe(application)))

    application.add("/openapi.json", application.shape_of("/"), [get("/openapi.json", document), get("/docs", page)])


def _page(said: Schema) -> str:
    parts = []
    for path, methods in said["paths"].items():
        for method, operation in methods.items():
            text = html.escape(f"{operation['summary']} {operation.get('description', '')}")
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            shown = f"<pre>{html.escape(json.dumps(body, indent=1))}</pre>" if body else ""
            parts.append(f"<h2>{method.upper()} {html.escape(path)}</h2><p>{text}</p>{shown}")
    return PAGE.format(title=html.escape(said["info"]["title"]), routes="".join(parts))
