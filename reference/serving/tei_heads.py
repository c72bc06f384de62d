"""POST /predict and /rerank: Text Embeddings Inference's API of models with a head, and Cohere's form of rerank."""

import asyncio
from typing import Any

import numpy as np
from starlette.responses import Response

from reference.encoder import Tokens
from reference.serving.classifier import Classifier
from reference.serving.http import Call, post
from reference.serving.limits import Refused, Why, text_of, texts_of

CUTTING = ("truncate", "truncation_direction", "raw_scores", "model")


async def predict(call: Call) -> Response:
    """The labels of a text or pair with their probabilities, the most probable first; or those of several.

    ``inputs`` is a text, the two texts of a pair in a list, or a list of lists of one or two texts.
    """
    said = call.only("inputs", *CUTTING)
    model, raw = call.classifier(lambda each: True), call.flag("raw_scores", False)
    given, limits = said.get("inputs"), call.service.limits
    several = isinstance(given, list) and bool(given) and isinstance(given[0], list)
    items: list[Any] = given if several else [given]  # type: ignore[assignment]
    if len(items) > limits.texts:
        raise Refused(
            Why.TOO_LARGE, f"inputs has {len(items)} texts; at most {limits.texts} are taken at once", "inputs"
        )
    inputs = [tuple(texts_of(each, f"inputs[{i}]" if several else "inputs", limits)) for i, each in enumerate(items)]
    for i, each in enumerate(inputs):
        if len(each) != (2 if model.pairs else 1):
            wants = "a pair, a list of two texts" if model.pairs else "one text"
            raise Refused(Why.INVALID, f"input {i} has {len(each)} texts; {model.name} reads {wants}", "inputs")
    logits = await call.vectors(model, await _tokens(call, model, inputs, "inputs"))
    scores = model.scores(logits, raw)

    def answer() -> Any:
        rows = [_labelled(model, row) for row in scores]
        return rows if several else rows[0]

    return await call.json(answer, scores.size)


def _labelled(model: Classifier, row: Any) -> list[dict[str, Any]]:
    return [{"score": float(row[i]), "label": model.labels[i]} for i in np.argsort(-row, kind="stable")]


async def rerank(call: Call) -> Response:
    """How well each text fits a query, the best first; of a pair model with one score, or a label called positive.

    With ``documents`` instead of ``texts`` the answer has the form of Cohere and Jina.
    """
    cohere = "documents" in call.body
    name = "documents" if cohere else "texts"
    own = ("top_n", "return_documents") if cohere else ("return_text",)
    said, limits = call.only("query", name, *own, *CUTTING), call.service.limits
    model = call.classifier(lambda each: each.relevance is not None)
    query, texts = text_of(said.get("query"), "query", limits), texts_of(said.get(name), name, limits)
    raw, shown = call.flag("raw_scores", False), call.flag(own[-1], False)
    top = said.get("top_n")
    if top is not None and (type(top) is not int or top < 1):
        raise Refused(Why.INVALID, f"top_n is {top!r}; it must be a number from 1", "top_n")
    logits = await call.vectors(model, await _tokens(call, model, [(query, text) for text in texts], name))
    assert model.relevance is not None
    scores = model.scores(logits, raw)[:, model.relevance]

    def answer() -> Any:
        best = np.argsort(-scores, kind="stable")[:top]
        if not cohere:
            return [{"index": int(i), "score": float(scores[i])} | ({"text": texts[i]} if shown else {}) for i in best]
        of_text = [{"document": {"text": texts[i]}} if shown else {} for i in best]
        found = [{"index": int(i), "relevance_score": float(scores[i])} for i in best]
        results = [each | more for each, more in zip(found, of_text, strict=True)]
        return {"model": model.name, "results": results, "usage": {"total_tokens": call.tokens}}

    return await call.json(answer, len(texts))


async def _tokens(call: Call, model: Classifier, inputs: list[tuple[str, ...]], name: str) -> list[Tokens]:
    asked = call.body.get("truncation_direction")
    if asked not in (None, "Right"):
        raise Refused(Why.INVALID, f"truncation_direction is {asked!r}; this model is cut on the right", name)
    truncate = call.flag("truncate", True)
    tokens = await asyncio.to_thread(model.tokens, inputs)
    call.note(tokens)
    if call.cut and not truncate:
        i, lost = next(iter(call.cut.items()))
        length = model.max_length
        message = f"text {i} of {name} has {length + lost} tokens, and the model reads {length}; truncate is false"
        raise Refused(Why.INVALID, message, name)
    return tokens


ROUTES = [post("/predict", predict), post("/rerank", rerank)]
