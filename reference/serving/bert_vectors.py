"""The vectors of bert-as-service 1.10, with its choices of layers and pooling, from the weights of an encoder.

By default the mean of all tokens, [CLS] and [SEP] included, of the hidden states before the last layer; at most 25
tokens; not normalized. A text may be a pair: "first ||| second", or "|||" among the tokens of a text that is tokenized
already.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reference.encoder import UNCUT, SentenceEncoder
from reference.model import Packed
from reference.pooling import pool
from reference.serving.bert_options import Options
from reference.serving.model import Model

BETWEEN = "|||"
PAIR = re.compile(r"(.*) \|\|\| (.*)")  # the last separator counts; a text of several lines is no pair
MODES = {  # of ``reference.pooling``, by strategy
    "REDUCE_MAX": ("max",),
    "REDUCE_MEAN": ("mean",),
    "REDUCE_MEAN_MAX": ("mean", "max"),
    "FIRST_TOKEN": ("cls",),
    "LAST_TOKEN": ("lasttoken",),
    "CLS_TOKEN": ("cls",),
    "SEP_TOKEN": ("lasttoken",),
    "CLS_POOLED": ("pooler",),
}


class Text(NamedTuple):
    """A text as the model reads it."""

    ids: list[int]
    segments: list[int]
    lost: int  # tokens that are not read
    read: list[int]  # the places in ``ids`` that take part in attention and pooling


@dataclass
class Counts:
    """What SHOW_STATUS tells of the requests so far."""

    num_data_request: int = 0
    num_total_seq: int = 0
    num_sys_request: int = 0
    num_total_client: int = 0
    started: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S"))


class BertVectors:
    """Turns texts into tokens as bert-as-service does, and tokens into its vectors, as the queue asks for."""

    def __init__(self, model: Model, options: Options | None = None) -> None:
        """Raises ValueError where the model has no such layer or pooler, or reads fewer tokens."""
        self.options, self.counts, self.name = options or Options(), Counts(), model.name
        encoder, tokenizer = model.encoder, model.encoder.tokenizer
        positions, last = encoder.bert.config.max_position_embeddings, len(encoder.bert.layers)
        for layer in self.options.pooling_layer:
            if not -last <= layer < last:
                raise ValueError(f"-pooling_layer {layer}: this model has {last} layers, {-last} to {last - 1}")
        asked = self.options.max_seq_len
        if asked is not None and asked > positions and asked != Options.max_seq_len:
            raise ValueError(f"-max_seq_len {asked}: this model reads at most {positions} tokens")
        self.longest = min(asked or positions, positions)
        self.max_length = None if asked is None else self.longest
        self.encoder = _of(encoder, self.options, last)
        self._model, self._tokenizer, self._ids = model, tokenizer, tokenizer.vocabulary()

    # -- texts to tokens --

    def tokens(self, texts: Sequence[str]) -> list[Text]:
        """The tokens of texts or pairs."""
        pairs = [PAIR.fullmatch(text.strip()) for text in texts]
        halves = [pair.groups() if pair else (text,) for text, pair in zip(texts, pairs, strict=True)]
        uncut = self._tokenizer.encode_batch([*chain.from_iterable(halves)], max_length=UNCUT)
        ids = iter([each.ids[1:-1] for each in uncut])
        return [self._joined(next(ids), next(ids) if pair else []) for pair in pairs]

    def tokens_of_words(self, texts: Sequence[Sequence[str]]) -> list[Text]:
        """The tokens of texts that are word pieces already; [UNK] for those that the vocabulary lacks."""
        found = []
        for text in texts:
            middle = text.index(BETWEEN) if BETWEEN in text else len(text)
            ids = [self._ids.get(piece, self._tokenizer.unk_id) for piece in text]
            first, second = ids[:middle], ids[middle + 1 :]
            bare = self.options.no_special_token and first and not second
            found.append(self._bare(first) if bare else self._joined(first, second))
        return found

    def names(self, text: Text) -> list[str]:
        """The word pieces, [CLS] and [SEP] included."""
        return self._model.names(text.ids)

    def _bare(self, ids: list[int]) -> Text:
        """The tokens alone, as they are with -no_special_token."""
        kept = ids[: self.longest]
        return Text(kept, [0] * len(kept), len(ids) - len(kept), list(range(len(kept))))

    def _joined(self, first: list[int], second: list[int]) -> Text:
        """[CLS] first [SEP], or [CLS] first [SEP] second [SEP], of which the longer half is cut first."""
        cls, sep = self._tokenizer.cls_id, self._tokenizer.sep_id
        if second:
            keep = _shares(len(first), len(second), self.longest - 3)
            ids = [cls, *first[: keep[0]], sep, *second[: keep[1]], sep]
        else:
            keep = min(len(first), self.longest - 2), 0
            ids = [cls, *first[: keep[0]], sep]
        segments = [0] * (keep[0] + 2) + [1] * (len(ids) - keep[0] - 2)
        special = {0, keep[0] + 1, len(ids) - 1} if self.options.mask_cls_sep else set()
        read = [place for place in range(len(ids)) if place not in special]
        return Text(ids, segments, len(first) + len(second) - sum(keep), read)

    # -- tokens to vectors --

    @property
    def of_tokens(self) -> bool:
        """Whether there is a vector for each token."""
        return self.options.pooling_strategy == "NONE"

    @torch.inference_mode()
    def compute(self, texts: Sequence[Text]) -> list[NDArray[Any]]:
        """The vector of each text [size], or with NONE those of its tokens [tokens, size]; zeros where none is read."""
        width = (len(texts[0].ids), self.encoder.size) if self.of_tokens else (self.encoder.size,)
        rows = [np.zeros((len(text.ids), *width[1:]) if self.of_tokens else width, np.float32) for text in texts]
        places = [i for i, text in enumerate(texts) if text.read]
        if places:
            batch = self._packed([texts[i] for i in places])
            for i, found in zip(places, self._found(batch), strict=True):
                if self.of_tokens:
                    rows[i][texts[i].read] = found
                else:
                    rows[i] = found
        return [row.astype(np.float16) for row in rows] if self.options.fp16 else rows

    def stacked(self, rows: Sequence[NDArray[Any]], texts: Sequence[Text]) -> NDArray[Any]:
        """The vectors of a request, [texts, size] or [texts, length, size] with zeros beyond each text."""
        if not self.of_tokens:
            return np.stack(rows)
        whole = np.zeros((len(rows), self.length_of(texts), self.encoder.size), rows[0].dtype)
        for row, target in zip(rows, whole, strict=True):
            target[: len(row)] = row
        return whole

    def length_of(self, texts: Sequence[Text]) -> int:
        """How many vectors of tokens the answer has for each text."""
        if self.max_length is not None or self.options.fixed_embed_length:
            return self.longest
        special = 3 if any(1 in text.segments for text in texts) else 2
        inner = (len(text.ids) - (3 if 1 in text.segments else 2) for text in texts)
        return max(min(max(inner) + special, self.longest), *(len(text.ids) for text in texts), 0)

    def bytes_of(self, texts: Sequence[Text]) -> int:
        """The size of the answer's vectors."""
        length = self.length_of(texts) if self.of_tokens else 1
        return len(texts) * length * self.encoder.size * (2 if self.options.fp16 else 4)

    def _packed(self, texts: Sequence[Text]) -> Packed:
        """The tokens that are read, in their places: what is masked is as if it were not there."""
        ids = [text.ids[place] for text in texts for place in text.read]
        segments = [text.segments[place] for text in texts for place in text.read]
        device = self.encoder.device
        batch = Packed.from_lengths(
            torch.tensor(ids, device=device),
            [len(text.read) for text in texts],
            torch.tensor(segments, device=device),
        )
        if all(len(text.read) == len(text.ids) for text in texts):
            return batch
        places = torch.tensor([place for text in texts for place in text.read], device=device)
        return replace(batch, positions=places)

    def _found(self, batch: Packed) -> NDArray[Any] | list[NDArray[Any]]:
        strategy = self.options.pooling_strategy
        if strategy == "CLS_POOLED":
            pooled: Tensor = self.encoder.bert.pooler(self.encoder.bert(batch), batch)
            return pooled.float().cpu().numpy()
        hidden = self.encoder.hidden(batch)
        if self.of_tokens:
            return [each.float().cpu().numpy() for each in hidden.split(list(batch.lengths))]
        return pool(hidden, batch, MODES[strategy]).float().cpu().numpy()


def _of(encoder: SentenceEncoder, options: Options, last: int) -> SentenceEncoder:
    """The encoder of the hidden states that are pooled."""
    if options.pooling_strategy == "CLS_POOLED":
        return encoder.plain([-1], "pooler")
    layers = [layer + 1 if layer >= 0 else last + 1 + layer for layer in options.pooling_layer]
    return encoder.plain(layers, MODES.get(options.pooling_strategy, ("mean",)))


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of two halves are kept: always one less of the longer, of the second if they are equal."""
    excess = max(0, first + second - room)
    longer = min(excess, abs(first - second))
    first, second = (first - longer, second) if first > second else (first, second - longer)
    rest = excess - longer
    return first - rest // 2, second - (rest - rest // 2)
