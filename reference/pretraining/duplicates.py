"""Finds near-duplicate documents by bottom-k sketches of their shingles (Broder 1997, Cohen and Kaplan 2007)."""

from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray

from reference.pretraining.randomness import mixed

SHINGLE = 8  # word pieces
SKETCH = 64  # of a document's shingles, those with the smallest hashes
ALIKE = 0.7  # share of common shingles (Jaccard) from which two documents are near-duplicates
COMMON = 32  # documents; a shingle of more of them is a phrase of the source, and says nothing


class Sketches:
    """The documents seen so far."""

    def __init__(self) -> None:
        self._sketches: list[frozenset[int]] = []
        self._holders: dict[int, list[int]] = defaultdict(list)  # documents, by shingle of their sketches

    def seen(self, pieces: NDArray[np.integer]) -> bool:
        """Whether a document like this one was seen; if not, it is remembered."""
        sketch = frozenset(_sketch(pieces))
        shared: Counter[int] = Counter()
        for shingle in sketch:
            shared.update(self._holders.get(shingle, ()))
        if any(_likeness(sketch, self._sketches[number]) >= ALIKE for number, _ in shared.most_common(4)):
            return True
        for shingle in sketch:
            if len(self._holders[shingle]) < COMMON:
                self._holders[shingle].append(len(self._sketches))
        self._sketches.append(sketch)
        return False


def _sketch(pieces: NDArray[np.integer]) -> list[int]:
    shingles = max(1, len(pieces) - SHINGLE + 1)
    hashes = np.zeros(shingles, np.uint64)
    for offset in range(min(SHINGLE, len(pieces))):
        hashes = mixed(hashes + pieces[offset : offset + shingles].astype(np.uint64))
    return [int(each) for each in np.unique(hashes)[:SKETCH]]


def _likeness(first: frozenset[int], second: frozenset[int]) -> float:
    """An estimate of the Jaccard index: the share of common ones among the smallest of both."""
    smallest = sorted(first | second)[:SKETCH]
    return sum(each in first and each in second for each in smallest) / len(smallest)
