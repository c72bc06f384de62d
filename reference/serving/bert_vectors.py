"""The vectors of bert-as-service with its default options, from the weights of an encoder.

The mean of all tokens, [CLS] and [SEP] included, of the hidden states before the last layer; at most 25 tokens; not
normalized. A text may be a pair: "first ||| second", or "|||" among the tokens of a text that is tokenized already.
"""

import re
from collections.abc import Sequence
from itertools import chain

from reference.encoder import UNCUT, Tokens
from reference.serving.model import Model, Vectors

LAYER = -2
MAX_LENGTH = 25
BETWEEN = "|||"
PAIR = re.compile(r"(.*) \|\|\| (.*)")  # the last separator counts; a text of several lines is no pair


class BertVectors:
    """Turns texts into tokens as bert-as-service does. ``way`` computes their vectors."""

    def __init__(self, model: Model) -> None:
        self._model, tokenizer = model, model.encoder.tokenizer
        last = len(model.encoder.bert.layers)
        if last < -LAYER:
            raise ValueError(f"bert-as-service reads the layer before the last, and this model has {last}")
        encoder = model.encoder.mean_of_layer(LAYER)
        self.size = encoder.size
        self.max_length = min(MAX_LENGTH, encoder.bert.config.max_position_embeddings)
        self.way = Vectors(encoder)
        self._tokenizer, self._ids = tokenizer, tokenizer.vocabulary()

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of texts or pairs."""
        pairs = [PAIR.fullmatch(text.strip()) for text in texts]
        halves = [pair.groups() if pair else (text,) for text, pair in zip(texts, pairs, strict=True)]
        uncut = self._tokenizer.encode_batch([*chain.from_iterable(halves)], max_length=UNCUT)
        ids = iter([each.ids[1:-1] for each in uncut])
        return [self._joined(next(ids), next(ids) if pair else None) for pair in pairs]

    def tokens_of_words(self, texts: Sequence[Sequence[str]]) -> list[Tokens]:
        """The tokens of texts that are word pieces already; [UNK] for those that the vocabulary lacks."""
        found = []
        for text in texts:
            middle = text.index(BETWEEN) if BETWEEN in text else len(text)
            ids = [self._ids.get(piece, self._tokenizer.unk_id) for piece in text]
            found.append(self._joined(ids[:middle], ids[middle + 1 :] if middle < len(text) else None))
        return found

    def names(self, tokens: Tokens) -> list[str]:
        """The word pieces, [CLS] and [SEP] included."""
        return self._model.names(tokens.ids)

    def _joined(self, first: list[int], second: list[int] | None) -> Tokens:
        """[CLS] first [SEP], or [CLS] first [SEP] second [SEP], of which the longer half is cut first."""
        cls, sep = self._tokenizer.cls_id, self._tokenizer.sep_id
        if not second:
            room = self.max_length - 2
            kept = first[:room]
            return Tokens([cls, *kept, sep], [0] * (len(kept) + 2), len(first) - len(kept))
        room = self.max_length - 3
        keep = _shares(len(first), len(second), room)
        ids = [cls, *first[: keep[0]], sep, *second[: keep[1]], sep]
        segments = [0] * (keep[0] + 2) + [1] * (keep[1] + 1)
        return Tokens(ids, segments, len(first) + len(second) - sum(keep))


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of two halves are kept: always one less of the longer, of the second if they are equal."""
    excess = max(0, first + second - room)
    longer = min(excess, abs(first - second))
    first, second = (first - longer, second) if first > second else (first, second - longer)
    rest = excess - longer
    return first - rest // 2, second - (rest - rest // 2)
