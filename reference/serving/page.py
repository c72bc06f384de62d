"""The page at ``/``, for people: compares two sentences and searches collections. It needs nothing from elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from starlette.responses import Response
from starlette.routing import Route

from reference.encoder import SentenceEncoder, Tokens
from reference.model import Packed
from reference.serving.http import Call, get, post
from reference.serving.limits import text_of

FOLDER = Path(__file__).parent / "static"
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class LastLayer:
    """The hidden states of the last layer, as the queue computes them: one row a text, with zeros to the end."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder, self._width = encoder, encoder.bert.config.hidden_size

    @torch.inference_mode()
    def compute(self, texts: Sequence[Tokens]) -> NDArray[np.float32]:
        """[texts, max_length x hidden size]"""
        device = self._encoder.device
        ids = torch.tensor([number for text in texts for number in text.ids], device=device)
        segments = torch.tensor([number for text in texts for number in text.segments], device=device)
        lengths = [len(text.ids) for text in texts]
        hidden = self._encoder.bert(Packed.from_lengths(ids, lengths, segments)).float().cpu().numpy()
        rows = np.zeros((len(texts), self._encoder.max_length * self._width), np.float32)
        start = 0
        for row, length in zip(rows, lengths, strict=True):
            row[: length * self._width] = hidden[start : start + length].reshape(-1)
            start += length
        return rows

    def of(self, row: NDArray[np.float32], tokens: Tokens) -> NDArray[np.float32]:
        """Of a row the vectors of the tokens between [CLS] and [SEP], [tokens, hidden size]."""
        return row.reshape(-1, self._width)[1 : len(tokens.ids) - 1]


async def matches(call: Call) -> Response:
    """How similar two texts are, and for each token which one of the other text is the most similar."""
    said, limits, model = call.only("first", "second"), call.service.limits, call.service.model
    texts = [text_of(said.get(name), name, limits) for name in ("first", "second")]
    tokens = await call.tokenized(model, texts)
    vectors = await call.vectors(model.vectors(), tokens)
    layer = LastLayer(model.encoder)
    rows: Any = await call.vectors(layer, tokens)
    first, second = (layer.of(row, each) for row, each in zip(rows, tokens, strict=True))
    cosines = _unit(first) @ _unit(second).T
    answer = {
        "similarity": round(float(model.encoder.similarity(vectors[0], vectors[1])[0, 0]), 6),
        "tokens": [model.names(each.ids)[1:-1] for each in tokens],
        "matches": [_best(cosines), _best(cosines.T)],
    }
    return await call.json(lambda: answer, 0)


def _best(cosines: NDArray[np.float32]) -> list[dict[str, Any]]:
    """For each row the best column; none where there is no column."""
    if not cosines.size:
        return [{"index": None, "score": 0.0}] * len(cosines)
    return [{"index": int(row.argmax()), "score": round(float(row.max()), 4)} for row in cosines]


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))


def _file(path: str) -> Route:
    name, kind = FILES[path]
    content = (FOLDER / name).read_bytes()

    async def answered(call: Call) -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return get(path, answered)


UNLOCKED = [_file(path) for path in FILES]
ROUTES = [post("/matches", matches)]
