"""Instances of Google's create_pretraining_data.py, draw for draw: for comparison, and to repeat what others did.

With the same text, vocabulary and seed they are the script's, in the script's order. All are in memory, as there.
"""

import random
from array import array
from dataclasses import dataclass
from itertools import accumulate

from reference.pretraining.pairs import GOOGLE, Borders, Pair, document_pairs, with_length

Document = list[list[int]]  # ids of the pieces of its sentences


@dataclass(frozen=True)
class Instance:
    """One example."""

    ids: tuple[int, ...]
    segments: tuple[int, ...]
    is_random: bool
    positions: tuple[int, ...]  # of the tokens to predict
    labels: tuple[int, ...]  # their ids


def create_instances(
    documents: list[Document],
    pieces: list[str],
    seed: int = 12345,
    max_length: int = 128,
    passes: int = 10,
    mask_rate: float = 0.15,
    max_predictions: int = 20,
    whole_words: bool = False,
) -> list[Instance]:
    """The script's instances of documents without empty sentences; ``pieces`` is the vocabulary in its order.

    ``passes`` is the script's ``dupe_factor``. Fixed masks: each pass draws others, and training repeats them.
    """
    rng = random.Random(seed)  # noqa: S311
    documents = [document for document in documents if document]
    rng.shuffle(documents)
    flat = [piece for document in documents for sentence in document for piece in sentence]
    borders = Borders(
        array("q", accumulate((len(sentence) for document in documents for sentence in document), initial=0)),
        array("q", accumulate(map(len, documents), initial=0)),
    )
    rules = with_length(GOOGLE, max_length)
    special = {name: pieces.index(name) for name in ("[CLS]", "[SEP]", "[MASK]")}
    instances = []
    for _ in range(passes):
        for document in range(len(documents)):
            for pair in document_pairs(borders, document, rules, rng):
                ids, segments = _joined(pair, flat, special)
                count = min(max_predictions, max(1, round(len(ids) * mask_rate)))
                instances.append(_masked(ids, segments, pair, count, pieces, special, whole_words, rng))
    rng.shuffle(instances)
    return instances


def _joined(pair: Pair, flat: list[int], special: dict[str, int]) -> tuple[list[int], list[int]]:
    a, b = flat[pair.a_start : pair.a_end], flat[pair.b_start : pair.b_end]
    ids = [special["[CLS]"], *a, special["[SEP]"], *b, special["[SEP]"]]
    return ids, [0] * (len(a) + 2) + [1] * (len(b) + 1)


def _masked(
    ids: list[int],
    segments: list[int],
    pair: Pair,
    count: int,
    pieces: list[str],
    special: dict[str, int],
    whole_words: bool,
    rng: random.Random,
) -> Instance:
    words: list[list[int]] = []
    for position, number in enumerate(ids):
        if number in (special["[CLS]"], special["[SEP]"]):
            continue
        if whole_words and words and pieces[number].startswith("##"):
            words[-1].append(position)
        else:
            words.append([position])
    rng.shuffle(words)
    out = list(ids)
    chosen: list[int] = []
    for word in words:
        if len(chosen) >= count:
            break
        if len(chosen) + len(word) > count:
            continue
        for position in word:
            if rng.random() < 0.8:
                out[position] = special["[MASK]"]
            elif rng.random() >= 0.5:
                out[position] = rng.randint(0, len(pieces) - 1)
            chosen.append(position)
    chosen.sort()
    labels = tuple(ids[position] for position in chosen)
    return Instance(tuple(out), tuple(segments), bool(pair.is_random), tuple(chosen), labels)
