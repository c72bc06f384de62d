"""Batches as every implementation gets them: sequences of different lengths end to end, in plain numpy arrays."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]

IGNORE = -100  # the label of a token that has none
SEQUENCES = 32  # size of a padded implementation's batches, in the order given
TOKENS = 4096  # size of a packed implementation's batches: as many tokens as 32 x 128


class Batch(NamedTuple):
    """Sequences end to end. The tokens of sequence ``i`` are ``cu_seqlens[i]`` to ``cu_seqlens[i + 1] - 1``."""

    ids: IntArray  # [tokens] word piece ids
    segments: IntArray  # [tokens] 0 for the first text, 1 for the second
    cu_seqlens: IntArray  # [sequences + 1]

    @property
    def lengths(self) -> IntArray:
        """[sequences] number of tokens of each."""
        return np.diff(self.cu_seqlens)

    def tokens_of(self, sequences: IntArray) -> IntArray:
        """Positions of these sequences' tokens in ``ids``, one sequence after the other."""
        ranges = [np.arange(self.cu_seqlens[i], self.cu_seqlens[i + 1]) for i in sequences]
        return np.concatenate([np.arange(0), *ranges])

    def select(self, sequences: IntArray) -> "Batch":
        """A batch of these sequences, in this order."""
        tokens = self.tokens_of(sequences)
        cu_seqlens = np.concatenate([[0], np.cumsum(self.lengths[sequences])])
        return Batch(self.ids[tokens], self.segments[tokens], cu_seqlens)


def from_lists(ids: list[list[int]], segments: list[list[int]]) -> Batch:
    """Pack lists of token ids and segment ids."""
    return Batch(
        np.array([token for sequence in ids for token in sequence], dtype=np.int64),
        np.array([segment for sequence in segments for segment in sequence], dtype=np.int64),
        np.cumsum([0, *(len(sequence) for sequence in ids)], dtype=np.int64),
    )


def pad(batch: Batch) -> tuple[IntArray, IntArray, IntArray]:
    """Ids, segments and mask as rectangles, each [sequences, longest], padded on the right.

    ``mask`` is 1 at tokens; padding is 0 in all three.
    """
    mask = _is_token(batch).astype(np.int64)
    ids, segments = np.zeros_like(mask), np.zeros_like(mask)
    ids[mask == 1], segments[mask == 1] = batch.ids, batch.segments
    return ids, segments, mask


def unpad(array: Array, batch: Batch) -> Array:
    """The inverse of ``pad``: from [sequences, longest or more, ...] the rows of tokens, [tokens, ...]."""
    mask = _is_token(batch)
    tokens: Array = array[:, : mask.shape[1]][mask]
    return tokens


def _is_token(batch: Batch) -> npt.NDArray[np.bool_]:
    """[sequences, longest] where tokens are, as opposed to padding."""
    mask: npt.NDArray[np.bool_] = np.arange(batch.lengths.max(initial=0)) < batch.lengths[:, None]
    return mask


def pad_to_multiple(batch: Batch, step: int, longest: int) -> list[npt.NDArray[np.int32]]:
    """Like ``pad``, but as int32 and of a length that is a multiple of ``step``, or else ``longest``."""
    arrays = pad(batch)
    length = arrays[0].shape[1]
    more = max(0, min(-length % step, longest - length))
    return [np.pad(array.astype(np.int32), ((0, 0), (0, more))) for array in arrays]


def in_order(lengths: IntArray, size: int) -> Iterator[IntArray]:
    """Indices of sequences, ``size`` at a time, in the order given."""
    for start in range(0, len(lengths), size):
        yield np.arange(start, min(start + size, len(lengths)))


def by_tokens(lengths: IntArray, budget: int) -> Iterator[IntArray]:
    """Indices of sequences, longest first, as many at a time as have at most ``budget`` tokens together.

    A sequence longer than ``budget`` comes alone.
    """
    order = np.argsort(-lengths, kind="stable")
    start = tokens = 0
    for place, sequence in enumerate(order):
        if tokens + lengths[sequence] > budget and place > start:
            yield order[start:place]
            start, tokens = place, 0
        tokens += lengths[sequence]
    if start < len(order):
        yield order[start:]


def in_given_order(parts: list[Array], rows: list[IntArray]) -> Array:
    """Concatenate results of batches and undo their order: row ``rows[i][j]`` of the result is ``parts[i][j]``."""
    together = np.concatenate(parts)
    ordered = np.empty_like(together)
    ordered[np.concatenate(rows)] = together
    return ordered


def shuffled_by_length(lengths: IntArray, size: int, generator: np.random.Generator) -> list[IntArray]:
    """One epoch of training: random batches of ``size`` sequences of similar length, in random order.

    Sequences are sorted within random pools of eight batches: large enough to need little padding, small enough to
    keep batches random.
    """
    order = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), 8 * size):
        pool = order[start : start + 8 * size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def shuffled(lengths: IntArray, size: int, generator: np.random.Generator) -> list[IntArray]:
    """One epoch of training: random batches of ``size`` sequences of any lengths."""
    order = generator.permutation(len(lengths))
    return [order[start : start + size] for start in range(0, len(order), size)]
