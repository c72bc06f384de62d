"""The API of Text Embeddings Inference: POST /embed, /similarity and /tokenize, GET /info."""

import importlib.metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from reference.encoder import Tokens
from reference.serving.http import Call, get, post
from reference.serving.limits import Refused, Why, kind_of, text_of, texts_of

TRUNCATION = ("truncate", "truncation_direction", "prompt_name")


def shape(refused: Refused) -> tuple[int, dict[str, Any]]:
    """The status and the body of an error."""
    _, _, _, status, kind = refused.why.value
    return status, {"error": refused.message, "error_type": kind}


async def embed(call: Call) -> Response:
    """Vectors of length 1 of a string or a list of strings, or with ``normalize`` false as the model makes them.

    Texts that are too long are cut, and the header X-Texts-Cut names them; with ``truncate`` false they are refused.
    """
    said = call.only("inputs", "normalize", "dimensions", "model", *TRUNCATION)
    call.check_dimensions()
    normalize = call.flag("normalize", True)
    texts = texts_of(said.get("inputs"), "inputs", call.service.limits)
    prompt = _prompt_name(call)
    tokens = await _tokens(call, texts, prompt, "inputs")
    rows = await call.vectors(call.model.vectors(normalize, prompt), tokens)
    return await call.json(lambda: rows.tolist(), rows.size)


async def similarity(call: Call) -> Response:
    """The cosine of one sentence with each of others."""
    call.only("inputs", "parameters", "model")
    named = {"model": call.body["model"]} if "model" in call.body else {}
    inputs, parameters = call.body.get("inputs"), call.body.get("parameters") or {}
    if not isinstance(inputs, dict):
        raise Refused(Why.INVALID, f"inputs is {kind_of(inputs)}; it must be an object", "inputs")
    if not isinstance(parameters, dict):
        raise Refused(Why.INVALID, f"parameters is {kind_of(parameters)}; it must be an object", "parameters")
    limits = call.service.limits
    call.body = inputs
    call.only("source_sentence", "sentences")
    source = text_of(inputs.get("source_sentence"), "inputs.source_sentence", limits)
    sentences = texts_of(inputs.get("sentences"), "inputs.sentences", limits)
    call.body = parameters
    call.only(*TRUNCATION)
    call.body = parameters | named
    prompt = _prompt_name(call)
    tokens = await _tokens(call, [source, *sentences], prompt, "the source sentence and the sentences")
    rows = await call.vectors(call.model.vectors(True, prompt), tokens)
    return await call.json(lambda: _cosines(rows), len(rows))


def _cosines(rows: NDArray[Any]) -> list[float]:
    """Of the first row with each other one. [n + 1, size] -> n"""
    exact = rows.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1)
    products: NDArray[Any] = exact[1:] @ exact[0] / np.maximum(lengths[1:] * lengths[0], 1e-30)
    return [round(float(each), 9) for each in products]


async def tokenize(call: Call) -> Response:
    """The word pieces that the model reads of each text; where they are in it is not said (null)."""
    said = call.only("inputs", "add_special_tokens", "prompt_name", "model")
    texts = texts_of(said.get("inputs"), "inputs", call.service.limits)
    special = call.flag("add_special_tokens", True)
    tokens = await call.tokenized(call.model, texts, _prompt_name(call))
    return await call.json(
        lambda: [_pieces(call, each, special) for each in tokens], sum(len(each.ids) for each in tokens)
    )


def _pieces(call: Call, tokens: Tokens, special: bool) -> list[dict[str, Any]]:
    last = len(tokens.ids) - 1
    pieces = [
        {"id": number, "text": text, "special": i in (0, last), "start": None, "stop": None}
        for i, (number, text) in enumerate(zip(tokens.ids, call.model.names(tokens.ids), strict=True))
    ]
    return pieces if special else pieces[1:-1]


async def info(call: Call) -> Response:
    """What is served: the first model, and the names of all."""
    service, encoder = call.service, call.model.encoder
    said = {
        "model_id": call.model.name,
        "model_dtype": encoder.precision,
        "model_type": {"embedding": {"pooling": "+".join(encoder.pooling)}},
        "max_input_length": encoder.max_length,
        "max_batch_tokens": service.batcher.batch_tokens,
        "max_client_batch_size": service.limits.texts,
        "auto_truncate": True,
        "version": importlib.metadata.version("bert-atlas"),
        "size": encoder.size,
        "normalize": encoder.normalize,
        "device": encoder.device,
        "prompts": encoder.prompts,
        "models": [*service.models],
        "classifiers": {name: [each.kind, *each.labels] for name, each in service.classifiers.items()},
    }
    return await call.json(lambda: said, 0)


def _prompt_name(call: Call) -> str | None:
    """The name of the prompt, checked."""
    name = call.body.get("prompt_name")
    prompts = call.model.encoder.prompts
    if name is not None and (not isinstance(name, str) or name not in prompts):
        message = f"prompt_name {name!r} is not one of {', '.join(prompts)}"
        raise Refused(Why.INVALID, message, "prompt_name")
    return name


async def _tokens(call: Call, texts: list[str], prompt: str | None, name: str) -> list[Tokens]:
    """The tokens of texts, if how they are to be cut is how the model's tokenizer cuts them."""
    direction = "Left" if call.model.encoder.cut_left else "Right"
    asked = call.body.get("truncation_direction")
    if asked not in (None, direction):
        message = f"truncation_direction is {asked!r}; this model's tokenizer cuts on one side: {direction}"
        raise Refused(Why.INVALID, message, "truncation_direction")
    truncate = call.flag("truncate", True)
    tokens = await call.tokenized(call.model, texts, prompt)
    if call.cut and not truncate:
        i, lost = next(iter(call.cut.items()))
        length = call.model.encoder.max_length
        message = f"text {i} of {name} has {length + lost} tokens, and the model reads {length}; truncate is false"
        raise Refused(Why.INVALID, message, name)
    return tokens


ROUTES = [post("/embed", embed), post("/similarity", similarity), post("/tokenize", tokenize), get("/info", info)]
