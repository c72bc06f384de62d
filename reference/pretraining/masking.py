"""Masks of a batch: which tokens are to be predicted, and what replaces them.

The choice is a function of each sequence's key and the positions in it, so it does not depend on the batch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference.pretraining.randomness import Numbers, draws, shares

MASK, RANDOM = 0.8, 0.1  # shares of the chosen tokens that become [MASK], and another piece; the rest stay
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Vocabulary:
    """What masking needs to know of a vocabulary."""

    cls_id: int
    sep_id: int
    mask_id: int
    replacements: Integers  # ids that a token may be replaced by
    continues: NDArray[np.bool_]  # [vocabulary] whether the piece begins with ##


def vocabulary_of(pieces: list[str], any_piece: bool = False) -> Vocabulary:
    """Read a vocabulary. ``any_piece``: replace tokens by any entry, also special and unused ones, as Google does."""
    ids = {piece: number for number, piece in enumerate(pieces)}
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    words = [n for n, piece in enumerate(pieces) if any_piece or not (piece in special or piece.startswith("[unused"))]
    continues = np.array([piece.startswith("##") for piece in pieces])
    return Vocabulary(ids["[CLS]"], ids["[SEP]"], ids["[MASK]"], np.array(words, np.int64), continues)


def how_many(lengths: Integers, rate: float, most: int | None = None) -> Integers:
    """The number of tokens to predict of sequences of these lengths, special tokens included: at least one."""
    counts = np.maximum(1, np.round(lengths * rate).astype(np.int64))
    return counts if most is None else np.minimum(counts, most)


def choose(candidates: NDArray[np.bool_], lengths: Integers, keys: Numbers, counts: Integers) -> Integers:
    """Indices of tokens to predict, ascending: in each sequence ``counts`` of the candidates, all equally likely."""
    sequence, position = rows(lengths)
    numbers = draws(keys[sequence], 2 * position.astype(np.uint64))
    sorted_by = np.lexsort((numbers, ~candidates, sequence))  # candidates first, in a random order
    chosen = sorted_by[position < counts[sequence]]
    return np.sort(chosen[candidates[chosen]])


def choose_words(
    candidates: NDArray[np.bool_], continues: NDArray[np.bool_], lengths: Integers, keys: Numbers, counts: Integers
) -> Integers:
    """The same by whole words. A word that would exceed the count is passed over, as in Google's script."""
    sequence, position = rows(lengths)
    begins = candidates & ~(continues & np.roll(candidates, 1))
    numbers = draws(keys[sequence], 2 * position.astype(np.uint64))
    chosen: list[int] = []
    ends = np.cumsum(lengths)
    for row, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        inside = np.flatnonzero(candidates[end - length : end]) + end - length
        firsts = np.flatnonzero(begins[inside])
        words = np.split(inside, firsts[1:])
        found: list[int] = []
        for word in np.argsort(numbers[inside[firsts]], kind="stable"):
            if len(found) + len(words[word]) <= counts[row]:
                found.extend(words[word].tolist())
        chosen.extend(sorted(found))
    return np.array(chosen, np.int64)


def replaced(ids: Integers, chosen: Integers, lengths: Integers, keys: Numbers, vocabulary: Vocabulary) -> Integers:
    """The ids with 80% of the chosen ones masked, 10% replaced by random pieces, and 10% as they were."""
    sequence, position = rows(lengths)
    numbers = draws(keys[sequence[chosen]], 2 * position[chosen].astype(np.uint64) + np.uint64(1))
    share = shares(numbers)
    others = vocabulary.replacements[(numbers % np.uint64(len(vocabulary.replacements))).astype(np.int64)]
    out = ids.copy()
    out[chosen] = np.where(share < MASK, vocabulary.mask_id, np.where(share < MASK + RANDOM, others, ids[chosen]))
    return out


def rows(lengths: Integers) -> tuple[Integers, Integers]:
    """Of each token of a packed batch, the number of its sequence and its position there."""
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    return sequence, np.arange(len(sequence)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
