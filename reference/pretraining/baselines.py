"""What guessing reaches on the masked tokens: by frequency, and by the piece before. A model that learns beats both."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reference.pretraining.instances import Masked

PRIOR = 200.0  # pieces' worth of the frequencies in each distribution of the piece that follows
AT_ONCE = 1 << 20  # pieces that are counted together


def unigram(pieces: NDArray[np.integer], size: int, batches: Sequence[Masked]) -> dict[str, float]:
    """Loss and accuracy of guessing each masked token by its frequency in ``pieces``, the text for training."""
    frequencies = _frequencies(pieces, size)
    labels = np.concatenate([batch.labels for batch in batches])
    return {
        "unigram_loss": round(float(-np.log(frequencies[labels]).mean()), 4),
        "unigram_accuracy": round(float((labels == frequencies.argmax()).mean()), 4),
    }


def bigram(pieces: NDArray[np.integer], size: int, batches: Sequence[Masked]) -> dict[str, float]:
    """Loss of guessing each masked token from the true token before it, which the model may not see.

    The probability of w after v is (count(v, w) + PRIOR f(w)) / (count(v) + PRIOR), with the frequency f: the two are
    interpolated, with the more weight on the pair the more often v occurs. At the beginning of a segment it is f(w).
    """
    frequencies, labels, before = _frequencies(pieces, size), [], []
    for batch in batches:
        ids = batch.ids.copy()
        ids[batch.chosen] = batch.labels
        starts = np.concatenate([[0], np.cumsum(batch.lengths)[:-1]])
        first = np.zeros(len(ids), bool)  # tokens after [CLS], or after the [SEP] between the segments
        first[starts + 1] = True
        first[1:] |= batch.segments[1:] > batch.segments[:-1]
        labels.append(batch.labels)
        before.append(np.where(first[batch.chosen], size, ids[batch.chosen - 1]))
    words, lefts = np.concatenate(labels), np.concatenate(before)
    pairs = lefts * size + words
    wanted = np.unique(pairs)
    found, times = np.zeros(len(wanted), np.int64), np.zeros(size + 1, np.int64)
    for start in range(0, len(pieces) - 1, AT_ONCE):
        part = np.asarray(pieces[start : start + AT_ONCE + 1], dtype=np.int64)
        times += np.bincount(part[:-1], minlength=size + 1)
        seen = part[:-1] * size + part[1:]
        places = np.minimum(np.searchsorted(wanted, seen), len(wanted) - 1)
        found += np.bincount(places[wanted[places] == seen], minlength=len(wanted))
    counts = found[np.searchsorted(wanted, pairs)]
    shares = (counts + PRIOR * frequencies[words]) / (times[lefts] + PRIOR)
    return {"bigram_loss": round(float(-np.log(shares).mean()), 4)}


def _frequencies(pieces: NDArray[np.integer], size: int) -> NDArray[np.float64]:
    """Of every piece, of which each is counted once more than it occurs: [size]."""
    counts = np.bincount(pieces, minlength=size).astype(np.float64) + 1
    return np.asarray(counts / counts.sum())
