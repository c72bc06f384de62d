"""What another engine or precision costs in answers: how far the vectors of the user's texts move."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from harness.errors import BadInput
from harness.measure.client import Worker
from harness.measure.evaluate import vectors_of
from harness.port.batch import SEQUENCES, TOKENS, Array, Batch
from harness.weights.find import Weights
from harness.weights.sentences import sentence_folder


def agreement(reference: Worker, batch: Batch, weights: Weights | None = None) -> Callable[[Worker], dict[str, Any]]:
    """A question to a worker: how its vectors of these texts agree with the reference's; see ``vectors``.

    Its answer has the least and the mean cosine, and the share of texts whose most similar text is the same for both.
    """
    exact = vectors(reference, batch, weights)
    nearest = _nearest(exact)

    def question(worker: Worker) -> dict[str, Any]:
        theirs = vectors(worker, batch, weights)
        cosines = (_unit(theirs) * _unit(exact)).sum(1)
        same = float((_nearest(theirs) == nearest).mean()) if len(cosines) > 1 else 1.0
        found = {"texts": len(cosines), "least": float(cosines.min()), "mean": float(cosines.mean())}
        return {"agreement": found | {"same_neighbour": same}}

    return question


def vectors(worker: Worker, batch: Batch, weights: Weights | None = None) -> Array:
    """The vector of each text, in float64 [sequences, size].

    It is pooled as the weights' folder says; without weights, and for a folder whose vectors need more than the last
    hidden states, it is their mean.
    """
    if weights is not None:
        with suppress(BadInput):
            sentence_folder(weights)
            return vectors_of(worker, weights, batch, lambda *_: None).astype(np.float64)
    hidden = np.concatenate([worker.encode(part).hidden.astype(np.float64) for part in parts_of(batch)])
    return np.add.reduceat(hidden, batch.cu_seqlens[:-1]) / batch.lengths[:, None]


def parts_of(batch: Batch) -> list[Batch]:
    """The batch in pieces that are sent to a worker one at a time, in its order."""
    each = max(1, min(SEQUENCES, TOKENS // int(batch.lengths.max())))
    return [
        batch.select(part) for part in np.split(np.arange(len(batch.lengths)), range(each, len(batch.lengths), each))
    ]


def _nearest(rows: Array) -> Array:
    """For each text the number of the other one whose vector is the most similar."""
    similar = _unit(rows) @ _unit(rows).T
    np.fill_diagonal(similar, -np.inf)
    return similar.argmax(1)


def _unit(rows: Array) -> Array:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
