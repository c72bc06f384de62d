"""Exact search: the vectors that are the most similar to a query, among all.

All vectors are read for each query, in float32. That finds everything that may belong to the best, as the error of a
sum in float32 is bounded; these few are scored again in float64. So the answer is that of float64, in whatever order
the machine's kernels sum.

A scan of int8 copies would read a quarter of the memory, and needs a kernel for each kind of processor, and a bound on
its much larger error. Measured beside this one on two busy cores with AVX2, usearch's took as long.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reference.serving.store.items import Measure

BLOCK = 65_536  # rows of one array: vectors are added without copying those that are there
RESCORED = 8_192  # rows that are scored in float64 at once
SPARSE = 0.25  # of the rows: where fewer are asked for, they are copied together


class Vectors:
    """Rows of float32 [n, size] in memory, which are added at the end."""

    def __init__(self, size: int, measure: Measure = "cosine") -> None:
        self._size, self._measure = size, measure
        self._blocks: list[NDArray[np.float32]] = []
        self._scales: list[NDArray[np.float32]] = []  # by row: what its dot product is multiplied by
        self._count, self._longest = 0, 1.0

    def __len__(self) -> int:
        return self._count

    def append(self, rows: NDArray[np.float32]) -> None:
        """Add rows [n, size]."""
        while len(rows):
            block, place = divmod(self._count, BLOCK)
            if block == len(self._blocks):
                self._blocks.append(np.empty((BLOCK, self._size), np.float32))
                self._scales.append(np.empty(BLOCK, np.float32))
            fitting, rows = rows[: BLOCK - place], rows[BLOCK - place :]
            end = place + len(fitting)
            self._blocks[block][place:end] = fitting
            lengths = np.linalg.norm(fitting.astype(np.float64), axis=1)
            if self._measure == "cosine":
                self._scales[block][place:end] = _inverse(lengths)
            else:
                self._scales[block][place:end] = 1
                self._longest = max(self._longest, float(lengths.max()))
            self._count += len(fitting)

    def shorten(self, count: int) -> None:
        """Forget all rows but the first ``count``."""
        self._count = count

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows of these numbers [n, size]."""
        found = np.empty((len(numbers), self._size), np.float32)
        for block in np.unique(numbers // BLOCK):
            here = numbers // BLOCK == block
            found[here] = self._blocks[block][numbers[here] % BLOCK]
        return found

    def nearest(
        self, query: Any, k: int, among: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The numbers of the k rows most similar to a query [size], best first, and their scores.

        Of rows that are equally similar the one that was added first comes first. ``among``: which rows count.
        """
        exact = np.asarray(query, np.float64)
        length = float(np.linalg.norm(exact))
        if self._measure == "cosine":
            exact, length = exact * float(_inverse(np.array(length))), 1.0
        numbers, scores = self._scan(exact.astype(np.float32), among)
        if 0 < k < len(scores):
            best = torch.from_numpy(scores).topk(k).values[-1].item()
            # Any order of summing errs by at most size x 2^-24 of the product of both lengths; so may the k-th best.
            error = 1.01 * (self._size + 8) * 2.0**-24 * self._longest * length
            found = np.flatnonzero(scores >= best - 2 * error)
            numbers = found if numbers is None else numbers[found]
        elif numbers is None:
            numbers = np.arange(self._count)
        parts = [self._exact(numbers[i : i + RESCORED], exact) for i in range(0, len(numbers), RESCORED)]
        rescored = np.concatenate(parts) if parts else np.empty(0)
        order = np.lexsort((numbers, -rescored))[: max(k, 0)]
        return numbers[order], rescored[order]

    def _scan(
        self, query: NDArray[np.float32], among: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64] | None, NDArray[np.float32]]:
        """The numbers of the rows that count, None: of all; and their scores in float32."""
        asked = torch.from_numpy(query)
        if among is not None and among.sum() < SPARSE * self._count:
            numbers = np.flatnonzero(among)
            scores = np.empty(len(numbers), np.float32)
            for start in range(0, len(numbers), RESCORED):
                part = numbers[start : start + RESCORED]
                scores[start : start + RESCORED] = (torch.from_numpy(self.rows(part)) @ asked).numpy() * self._scale(
                    part
                )
            return numbers, scores
        scores = np.empty(self._count, np.float32)
        for i, (block, scale) in enumerate(zip(self._blocks, self._scales, strict=True)):
            here = scores[i * BLOCK : (i + 1) * BLOCK]
            torch.mv(torch.from_numpy(block[: len(here)]), asked, out=torch.from_numpy(here))
            here *= scale[: len(here)]
        if among is None:
            return None, scores
        return np.flatnonzero(among), scores[among]

    def _exact(self, numbers: NDArray[np.int64], query: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = self.rows(numbers).astype(np.float64)
        scores: NDArray[np.float64] = np.einsum("ns,s->n", rows, query)
        return scores * _inverse(np.linalg.norm(rows, axis=1)) if self._measure == "cosine" else scores

    def _scale(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        found = np.empty(len(numbers), np.float32)
        for block in np.unique(numbers // BLOCK):
            here = numbers // BLOCK == block
            found[here] = self._scales[block][numbers[here] % BLOCK]
        return found


def _inverse(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """One over each length; 0 for a vector of zeros, whose cosine counts as 0."""
    return np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
