"""Batches as every implementation gets them: ragged, as plain numpy arrays."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

IGNORE = -100  # the label of a token that has none
SEQUENCES = 32  # that a user of a padded implementation feeds at a time, in the order given
TOKENS = 4096  # that a packed one gets at a time: as many as 32 x 128


class Batch(NamedTuple):
    """Sequences end to end; sequence ``i`` is tokens ``cu_seqlens[i]`` to ``cu_seqlens[i + 1]``."""

    ids: IntArray  # [tokens] word piece ids
    segments: IntArray  # [tokens] 0 for the first text, 1 for the second
    cu_seqlens: IntArray  # [sequences + 1]

    @property
    def lengths(self) -> IntArray:
        """[sequences] tokens of each."""
        return np.diff(self.cu_seqlens)

    def tokens_of(self, sequences: IntArray) -> IntArray:
        """Where the tokens of these sequences are, one sequence after the other."""
        ranges = [np.arange(self.cu_seqlens[i], self.cu_seqlens[i + 1]) for i in sequences]
        return np.concatenate([np.arange(0), *ranges])

    def select(self, sequences: IntArray) -> "Batch":
        """The batch of these sequences, in this order."""
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
    """Rectangles for implementations that want them: ids, segments and mask, each [sequences, longest].

    ``mask`` is 1 at tokens; padding, on the right, is 0 in all three.
    """
    longest = int(batch.lengths.max(initial=0))
    mask = (np.arange(longest) < batch.lengths[:, None]).astype(np.int64)
    ids, segments = np.zeros_like(mask), np.zeros_like(mask)
    ids[mask == 1], segments[mask == 1] = batch.ids, batch.segments
    return ids, segments, mask


def pad_to_multiple(batch: Batch, step: int, longest: int) -> list[npt.NDArray[np.int32]]:
    """Ids, segments and mask, [sequences, length]: a multiple of ``step``, but not more than ``longest``."""
    arrays = pad(batch)
    length = arrays[0].shape[1]
    more = max(0, min(-length % step, longest - length))
    return [np.pad(array.astype(np.int32), ((0, 0), (0, more))) for array in arrays]


def in_order(lengths: IntArray, size: int) -> Iterator[IntArray]:
    """Numbers of sequences, ``size`` at a time, as they come."""
    for start in range(0, len(lengths), size):
        yield np.arange(start, min(start + size, len(lengths)))


def by_tokens(lengths: IntArray, budget: int) -> Iterator[IntArray]:
    """Numbers of sequences, longest first, as many at a time as have at most ``budget`` tokens together."""
    order = np.argsort(-lengths, kind="stable")
    start = tokens = 0
    for place, sequence in enumerate(order):
        if tokens + lengths[sequence] > budget and place > start:
            yield order[start:place]
            start, tokens = place, 0
        tokens += lengths[sequence]
    if start < len(order):
        yield order[start:]


def in_given_order(parts: list[npt.NDArray[Any]], rows: list[IntArray]) -> npt.NDArray[Any]:
    """Answers that were given part by part, put together so that row ``rows[i][j]`` is ``parts[i][j]``."""
    together = np.concatenate(parts)
    ordered = np.empty_like(together)
    ordered[np.concatenate(rows)] = together
    return ordered


def shuffled_by_length(lengths: IntArray, size: int, generator: np.random.Generator) -> list[IntArray]:
    """One epoch of training: random batches of ``size`` sequences of similar length, in random order.

    Sorted within random pools of eight batches: enough to waste little, few enough to stay random.
    """
    order = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), 8 * size):
        pool = order[start : start + 8 * size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def shuffled(lengths: IntArray, size: int, generator: np.random.Generator) -> list[IntArray]:
    """One epoch of training: random batches of ``size`` sequences, whatever their lengths."""
    order = generator.permutation(len(lengths))
    return [order[start : start + size] for start in range(0, len(order), size)]
