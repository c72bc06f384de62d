"""Pairs of segments for next-sentence prediction, by the algorithm of Google's create_pretraining_data.py.

Its quirks are switches. ``GOOGLE`` has all of them, and with a ``random.Random`` draws the same numbers in the same
order as the script (``google.py``). ``EXACT`` has none: half of the pairs are random, to the pair, whereas Google's are
so in more than half, because every segment alone in its chunk gets a random partner.
"""

import random
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference.errors import PretrainingError
from reference.pretraining.corpus import Split
from reference.pretraining.randomness import key, order

TRIES = 10  # draws of a document other than the present one


class Pair(NamedTuple):
    """Two segments as ranges of a split's pieces."""

    a_start: int
    a_end: int
    b_start: int
    b_end: int
    is_random: int  # 1 if B does not follow A; 0 otherwise, which is also the label of next-sentence prediction


@dataclass(frozen=True)
class Rules:
    """How pairs are made; the defaults are Google's."""

    max_length: int = 128  # pieces of a pair, with [CLS] and two [SEP]
    short_probability: float = 0.1  # of a target length below the maximum
    short_documents: bool = True  # the target length is drawn once for a whole document, not for each pair
    alone_is_random: bool = True  # a sentence that fills the target alone gets a random partner; else it gets the next
    same_document: bool = True  # after ten draws B may come from A's own document, and is labelled as random
    balanced: bool = False  # half of the pairs of an epoch are random, to the pair; else a coin is tossed for each

    @property
    def room(self) -> int:
        """Pieces of both segments together."""
        return self.max_length - 3


GOOGLE = Rules()
EXACT = Rules(short_documents=False, alone_is_random=False, same_document=False, balanced=True)


@dataclass(frozen=True)
class Borders:
    """Where sentences and documents begin, as ``Split`` has them, in arrays that Python reads fast."""

    sentences: "array[int]"
    documents: "array[int]"

    @classmethod
    def of(cls, split: Split) -> "Borders":
        """Those of a split."""
        return cls(array("q", split.sentences.tobytes()), array("q", split.documents.tobytes()))


def epoch_pairs(split: Split, rules: Rules, seed: int, epoch: int) -> NDArray[np.int64]:
    """All pairs of an epoch in a random order, [pairs, 5] with ``Pair``'s columns: a function of its arguments alone.

    Raises PretrainingError for a split of one document, in which no random partner is to be had.
    """
    borders = Borders.of(split)
    count = len(borders.documents) - 1
    if count < 2 and not rules.same_document:
        raise PretrainingError(
            "the corpus has one document, so there is no other one to take random sentences from: separate documents "
            "with blank lines, or set next_sentence to none"
        )
    rng = random.Random(key(seed, epoch, rules.max_length))  # noqa: S311 - not for secrets
    balance = Balance(rng) if rules.balanced else None
    found = [
        pair
        for document in range(count)
        for pair in document_pairs(borders, document, rules, rng, balance.choose if balance else None)
    ]
    pairs = np.array(found, np.int64).reshape(-1, len(Pair._fields))
    if balance:
        pairs = _without_surplus(pairs, key(seed, epoch, 1))
    return pairs[order(len(pairs), key(seed, epoch, 2))]


def epoch_spans(split: Split, rules: Rules, seed: int, epoch: int) -> NDArray[np.int64]:
    """Single segments instead of pairs: whole sentences of one document up to the length; B is empty."""
    borders = Borders.of(split)
    rng, room, found = random.Random(key(seed, epoch, rules.max_length)), rules.max_length - 2, []  # noqa: S311
    for first, end in zip(borders.documents, borders.documents[1:], strict=False):
        start, stop = borders.sentences[first], borders.sentences[end]
        # The first span has a random length, so that the borders are elsewhere in each epoch.
        length = rng.randint(1, room)
        for sentence in range(first + 1, end + 1):
            if borders.sentences[sentence] - start >= length or sentence == end:
                while start < borders.sentences[sentence]:
                    after = min(start + room, borders.sentences[sentence])
                    found.append(Pair(start, after, after, after, 0))
                    start = after
                length = room
        assert start == stop
    spans = np.array(found, np.int64).reshape(-1, len(Pair._fields))
    return spans[order(len(spans), key(seed, epoch, 2))]


class Balance:
    """Chooses random and following partners so that there are as many of both, in an order that cannot be guessed."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.surplus = rng, 0  # how many more random ones there were

    def choose(self, forced: bool) -> bool:
        """Whether the next partner is random; ``forced``: it can only be."""
        is_random = forced or self.surplus < 0 or (self.surplus == 0 and self.rng.random() < 0.5)
        self.surplus += 1 if is_random else -1
        return is_random


def _without_surplus(pairs: NDArray[np.int64], state: int) -> NDArray[np.int64]:
    """As many random pairs as others; of the larger number, a random part is left out."""
    label = Pair._fields.index("is_random")
    by_label = [np.flatnonzero(pairs[:, label] == value) for value in (0, 1)]
    count = min(map(len, by_label))
    kept = [rows[order(len(rows), state)[:count]] for rows in by_label]
    return pairs[np.sort(np.concatenate(kept))]


def document_pairs(
    borders: Borders, document: int, rules: Rules, rng: random.Random, choose: Callable[[bool], bool] | None = None
) -> Iterator[Pair]:
    """The pairs of one document. ``choose(forced)`` says whether B is random; None: as Google's script, by ``rng``.

    The generator draws from ``rng`` only between two pairs, so the caller may draw the masks of a pair in between.
    """
    sentences, (first, end) = borders.sentences, borders.documents[document : document + 2]
    target = _target(rules, rng)
    start = last = first  # the chunk: sentences from ``start`` up to and with ``last``
    while last < end:
        length, count = sentences[last + 1] - sentences[start], last + 1 - start
        if last < end - 1 and (length < target or (count == 1 and not rules.alone_is_random)):
            last += 1
            continue
        a_end = start + (rng.randint(1, count - 1) if count >= 2 else 1)
        alone = count == 1
        is_random = choose(alone) if choose else alone or rng.random() < 0.5
        if is_random:
            b_start, b_end = _random_segment(
                borders, document, rules, rng, target - (sentences[a_end] - sentences[start])
            )
            last = a_end - 1  # what was not used begins the next chunk
        else:
            b_start, b_end = sentences[a_end], sentences[last + 1]
        yield _truncated(Pair(sentences[start], sentences[a_end], b_start, b_end, int(is_random)), rules.room, rng)
        if not rules.short_documents:
            target = _target(rules, rng)
        start = last = last + 1


def _target(rules: Rules, rng: random.Random) -> int:
    return rng.randint(2, rules.room) if rng.random() < rules.short_probability else rules.room


def _random_segment(borders: Borders, document: int, rules: Rules, rng: random.Random, length: int) -> tuple[int, int]:
    """Sentences from a random place of another document on, until there are ``length`` pieces."""
    count, other = len(borders.documents) - 1, document
    if rules.same_document:
        for _ in range(TRIES):
            other = rng.randint(0, count - 1)
            if other != document:
                break
    else:
        other = rng.randint(0, count - 2)
        other += other >= document
    first, end = borders.documents[other : other + 2]
    start = stop = rng.randint(first, end - 1)
    while stop < end:
        stop += 1
        if borders.sentences[stop] - borders.sentences[start] >= length:
            break
    return borders.sentences[start], borders.sentences[stop]


def _truncated(pair: Pair, room: int, rng: random.Random) -> Pair:
    """Cut single pieces from the longer segment, at its front or back at random, until both fit."""
    a_start, a_end, b_start, b_end, _ = pair
    while a_end - a_start + b_end - b_start > room:
        from_front = rng.random() < 0.5
        if a_end - a_start > b_end - b_start:
            a_start, a_end = a_start + from_front, a_end - (not from_front)
        else:
            b_start, b_end = b_start + from_front, b_end - (not from_front)
    return pair._replace(a_start=a_start, a_end=a_end, b_start=b_start, b_end=b_end)


def with_length(rules: Rules, max_length: int) -> Rules:
    """The same rules for pairs of another length."""
    return replace(rules, max_length=max_length)
