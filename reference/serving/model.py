"""The encoder as the queue and the wires use it: texts become tokens first, and these become vectors in the queue."""

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from reference.encoder import SentenceEncoder, Tokens


@dataclass(frozen=True, eq=False)
class Vectors:
    """One way to make vectors, of those that share a model's weights."""

    encoder: SentenceEncoder
    skip: int = 0  # tokens of a prompt that are not pooled

    @torch.inference_mode()
    def compute(self, texts: Sequence[Tokens]) -> NDArray[Any]:
        """The vectors of tokenized texts [texts, size], in their order."""
        return self.encoder._pooled(self.encoder._packed(list(texts)), self.skip).cpu().numpy()


class Model:
    """The weights of one encoder, and the ways to make vectors from them. ``name`` is what clients call it."""

    def __init__(self, encoder: SentenceEncoder, name: str) -> None:
        self.encoder, self.name = encoder, name
        self._ways: dict[Hashable, Vectors] = {}

    def vectors(self, normalize: bool | None = None, prompt_name: str | None = None) -> Vectors:
        """As ``SentenceEncoder`` makes them with these arguments: the same object for the same arguments.

        Raises ValueError for a name that is not one of the folder's prompts.
        """
        prefix = self.prefix(prompt_name)
        own = self.encoder
        if normalize == own.normalize and (own._said.truncate is None or not normalize):
            normalize = None
        skip = 0 if own._said.include_prompt or not prefix else len(own._tokens([prefix])[0].ids) - 1
        key = (normalize, skip)
        if key not in self._ways:
            self._ways[key] = Vectors(own if normalize is None else _changed(own, normalize), skip)
        return self._ways[key]

    def prefix(self, prompt_name: str | None = None) -> str:
        """The prompt that is put before each text."""
        return self.encoder._prefix(None, prompt_name)

    def tokens(self, texts: Sequence[str], prompt_name: str | None = None) -> list[Tokens]:
        """What the model reads of each text: at most ``encoder.max_length`` tokens, [CLS] and [SEP] included."""
        prefix = self.prefix(prompt_name)
        return self.encoder._tokens([prefix + text for text in texts])

    def names(self, ids: Sequence[int]) -> list[str]:
        """The word pieces of these ids."""
        return [self.encoder._tokenizer.token(number) for number in ids]


def _changed(encoder: SentenceEncoder, normalize: bool) -> SentenceEncoder:
    """The same encoder with ``normalize``; it shares the weights."""
    other = copy.copy(encoder)
    other.normalize = other._asked_to_normalize = normalize
    return other
