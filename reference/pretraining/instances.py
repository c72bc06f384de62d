"""Batches of masked pairs, packed. What a batch holds is a function of the seed, the epoch and the indices alone."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reference.model import Packed
from reference.pretraining.corpus import Split
from reference.pretraining.masking import Vocabulary, choose, choose_words, how_many, replaced, rows
from reference.pretraining.pairs import EXACT, GOOGLE, Rules, epoch_pairs, epoch_spans, with_length
from reference.pretraining.randomness import Numbers, draws, key

RULES: dict[str, Rules] = {"exact": EXACT, "google": GOOGLE, "none": EXACT}  # by next-sentence prediction
MASKS = 3  # tells keys of masks from others


@dataclass(frozen=True)
class Masked:
    """A batch of B sequences with M tokens to predict, on the host."""

    ids: NDArray[np.int64]  # [T] with masks
    segments: NDArray[np.int64]  # [T]
    lengths: NDArray[np.int64]  # [B]
    chosen: NDArray[np.int64]  # [M] indices of the tokens to predict
    labels: NDArray[np.int64]  # [M] their ids
    is_random: NDArray[np.int64]  # [B] label of next-sentence prediction

    def packed(self, device: torch.device) -> Packed:
        """The model's input."""
        ids, segments = (torch.from_numpy(each).to(device) for each in (self.ids, self.segments))
        return Packed.from_lengths(ids, self.lengths.tolist(), segments)


class Instances:
    """The pairs of one split for one length of sequences."""

    def __init__(
        self, split: Split, vocabulary: Vocabulary, max_length: int, next_sentence: str, whole_words: bool, seed: int
    ) -> None:
        self.split, self.vocabulary, self.seed = split, vocabulary, seed
        self.next_sentence, self.whole_words = next_sentence, whole_words
        self.rules = with_length(RULES[next_sentence], max_length)
        self._epoch: tuple[int, NDArray[np.int64]] | None = None

    def pairs(self, epoch: int) -> NDArray[np.int64]:
        """The pairs of an epoch in their order, [pairs, 5]: see ``pairs.Pair``."""
        if self._epoch is None or self._epoch[0] != epoch:
            make = epoch_spans if self.next_sentence == "none" else epoch_pairs
            self._epoch = epoch, make(self.split, self.rules, self.seed, epoch)
        return self._epoch[1]

    def lengths(self, epoch: int) -> NDArray[np.int64]:
        """The number of tokens of each pair, with special tokens."""
        pairs = self.pairs(epoch)
        special = 2 if self.next_sentence == "none" else 3
        return (pairs[:, 1] - pairs[:, 0]) + (pairs[:, 3] - pairs[:, 2]) + special

    def batch(self, epoch: int, indices: NDArray[np.int64], rate: float) -> Masked:
        """The pairs with these indices, masked at this rate."""
        pairs, lengths = self.pairs(epoch)[indices], self.lengths(epoch)[indices]
        ids, segments, continues = self._joined(pairs, lengths)
        keys = draws(
            np.full(len(indices), key(self.seed, epoch, MASKS, self.rules.max_length), np.uint64),
            indices.astype(np.uint64),
        )
        chosen = self._chosen(ids, continues, lengths, keys, rate)
        masked = replaced(ids, chosen, lengths, keys, self.vocabulary)
        return Masked(masked, segments, lengths, chosen, ids[chosen], pairs[:, 4])

    def _joined(
        self, pairs: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """[CLS] A [SEP] B [SEP] of each pair, end to end; the segments; and which tokens continue a word."""
        first, between = np.array([self.vocabulary.cls_id]), np.array([self.vocabulary.sep_id])
        ids, continues = [], []
        single, nothing = self.next_sentence == "none", np.zeros(1, bool)
        for a_start, a_end, b_start, b_end, _ in pairs.tolist():
            parts = [slice(a_start, a_end)] if single else [slice(a_start, a_end), slice(b_start, b_end)]
            ids.append(first)
            continues.append(nothing)
            for part in parts:
                pieces = self.split.pieces[part]
                ids += [pieces, between]
                continues += [self._continuing(part, pieces), nothing]
        joined = np.concatenate(ids).astype(np.int64)
        sequence, position = rows(lengths)
        a_lengths = pairs[:, 1] - pairs[:, 0]
        segments = (position >= a_lengths[sequence] + 2).astype(np.int64)
        return joined, segments, np.concatenate(continues)

    def _continuing(self, part: slice, pieces: NDArray[np.integer]) -> NDArray[np.bool_]:
        if not self.whole_words:
            return np.zeros(len(pieces), bool)
        if self.split.continues is None:
            return self.vocabulary.continues[pieces]
        return self.split.continues[part].astype(bool)

    def _chosen(
        self,
        ids: NDArray[np.int64],
        continues: NDArray[np.bool_],
        lengths: NDArray[np.int64],
        keys: Numbers,
        rate: float,
    ) -> NDArray[np.int64]:
        candidates = (ids != self.vocabulary.cls_id) & (ids != self.vocabulary.sep_id)
        counts = how_many(lengths, rate)
        if self.whole_words:
            return choose_words(candidates, continues, lengths, keys, counts)
        return choose(candidates, lengths, keys, counts)
