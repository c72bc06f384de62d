"""The encoder as the queue and the wires use it: texts become tokens first, and these become vectors in the queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from reference.encoder import SentenceEncoder, Tokens


@dataclass(frozen=True, eq=False)
class Vectors:
    """One way to make vectors, of those that share a model's weights."""

    encoder: SentenceEncoder
    unpooled: int = 0  # tokens of a prompt that are not pooled

    def compute(self, texts: Sequence[Tokens]) -> NDArray[Any]:
        """The vectors of tokenized texts [texts, size], in their order."""
        return self.encoder.compute(texts, self.unpooled)


class Model:
    """The weights of one encoder, and the ways to make vectors from them. ``name`` is what clients call it."""

    def __init__(self, encoder: SentenceEncoder, name: str) -> None:
        self.encoder, self.name = encoder, name
        self._encoders = {normalize: encoder.normalized(normalize) for normalize in (False, True)}
        self._ways: dict[tuple[int, int], Vectors] = {}

    def vectors(self, normalize: bool | None = None, prompt_name: str | None = None) -> Vectors:
        """As ``SentenceEncoder`` makes them with these arguments: the same object for vectors that are the same.

        Raises ValueError for a name that is not one of the folder's prompts.
        """
        encoder = self.encoder if normalize is None else self._encoders[normalize]
        unpooled = self.encoder.unpooled(prompt_name=prompt_name)
        return self._ways.setdefault((id(encoder), unpooled), Vectors(encoder, unpooled))

    def tokens(self, texts: Sequence[str], prompt_name: str | None = None) -> list[Tokens]:
        """What the model reads of each text."""
        return self.encoder.tokenize(texts, prompt_name=prompt_name)

    def names(self, ids: Sequence[int]) -> list[str]:
        """The word pieces of these ids."""
        return [self.encoder.tokenizer.token(number) for number in ids]
