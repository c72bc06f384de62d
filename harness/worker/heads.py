"""Task heads in numpy, for implementations that only encode: pooler and classifier of the fine-tuned weights."""

from collections.abc import Callable

import numpy as np

from harness.port.batch import SEQUENCES, Array, Batch, by_tokens, in_given_order, in_order
from harness.port.hf_folder import Folder, read_folder
from harness.port.model import OF_TOKENS, Model

LABELLED_TOKENS = frozenset({"tagging"})  # kinds of tasks with a label for every token
NAMES = {"question-answering": "qa_outputs"}  # of the head's layer; otherwise ``classifier``


class Head:
    """The pooler and the last layer of a fine-tuned folder."""

    def __init__(self, folder: str, kind: str) -> None:
        """Read the weights. ValueError for a folder without a head."""
        weights: Folder = read_folder(folder)
        self.kind, self.name = kind, NAMES.get(kind, "classifier")
        if f"{self.name}.weight" not in weights.head:
            raise ValueError(f"{folder} has no {self.name} for a task of kind {kind}")
        self.encoder, self.head = weights.encoder, weights.head

    def logits(self, hidden: Array, pooled: Array | None, batch: Batch) -> Array:
        """[tokens, labels] for kinds in ``OF_TOKENS``, else [sequences, labels], from hidden states of the last layer.

        The pooler is computed here unless the implementation returns a pooled output.
        """
        if self.kind in OF_TOKENS:
            return _linear(hidden, self.head, self.name)
        if pooled is None:
            pooled = np.tanh(_linear(hidden[batch.cu_seqlens[:-1]], self.encoder, "pooler.dense"))
        return _linear(pooled, self.head, self.name)


def predict(model: Model, head: Head, batch: Batch, batch_tokens: int, progress: Callable[..., None]) -> Array:
    """Logits of the head for every sequence (or token), in the order given.

    Batches are those of the model's users: by number of tokens if packed, of sequences if padded.
    """
    parts, rows, done = [], [], 0
    packed = model.batching == "packed"
    longest_first = np.argsort(-batch.lengths, kind="stable")
    pieces = by_tokens(batch.lengths, batch_tokens) if packed else in_order(batch.lengths, SEQUENCES)
    for piece in pieces:
        sequences = piece if packed else longest_first[piece]  # with others of similar length
        part = batch.select(sequences)
        encoded = model.encode(part)
        parts.append(head.logits(model.fetch(encoded, part), model.pooled(encoded, part), part))
        rows.append(batch.tokens_of(sequences) if head.kind in OF_TOKENS else sequences)
        done += len(sequences)
        progress(done=done, total=len(batch.lengths))
    return in_given_order(parts, rows)


def _linear(x: Array, weights: dict[str, Array], name: str) -> Array:
    result: Array = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return result
