"""Examples to token ids and label numbers, the same for every implementation."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from harness.data.examples import TextExample, WordExample
from harness.data.reading import Context
from harness.port.batch import IGNORE, Batch, IntArray, from_lists
from harness.worker.messages import Array
from reference.tokenizer import Tokenizer

UNCUT = 2**31  # tokens; no text has so many


@dataclass(frozen=True)
class Encoded:
    """A split as the input of a model."""

    batch: Batch
    labels: Array | None  # [sequences], [sequences, ...] or, for tagging, [tokens]; None where unlabelled
    words: IntArray  # for tagging: the token at which each word starts, all examples' words in order; else empty


def encode_texts(examples: list[TextExample], labels: Array | None, tokenizer: Tokenizer, max_length: int) -> Encoded:
    """Texts, or pairs of them, one sequence each; ``labels`` become those of the result."""
    texts = [example.text for example in examples]
    pairs = [example.pair or "" for example in examples] if any(e.pair is not None for e in examples) else None
    encodings = tokenizer.encode_batch(texts, pairs, max_length)
    batch = from_lists([e.ids for e in encodings], [e.segments for e in encodings])
    return Encoded(batch, labels, np.array([], dtype=np.int64))


@dataclass(frozen=True)
class _Window:
    """Consecutive words of one sentence that fit the model, with the text around them."""

    sentence: int
    start: int  # first word
    end: int  # one past the last
    left: list[int]  # pieces of the document before it
    right: list[int]  # pieces after it


def encode_words(
    examples: list[WordExample], tags: Sequence[str], context: Context, tokenizer: Tokenizer, max_length: int
) -> Encoded:
    """Sentences, whose first piece of each word carries its label (section 5.3 of the BERT paper).

    A sentence too long for the model is read in several windows, so that no word is left out of the score.
    With ``context: document`` a window is filled up with the text around it, half before and half after.
    """
    pieces = _pieces(examples, tokenizer, max_length - 2)
    number = {name: i for i, name in enumerate(tags)}
    windows = [w for i in range(len(examples)) for w in _windows(i, pieces[i], max_length - 2)]
    if context == "document":
        windows = [_with_context(w, examples, pieces, max_length - 2) for w in windows]
    ids: list[list[int]] = []
    labels: list[int] = []
    words: list[int] = []
    for window in windows:
        sequence, marks = [tokenizer.cls_id, *window.left], [IGNORE] * (1 + len(window.left))
        gold = examples[window.sentence].tags
        for word in range(window.start, window.end):
            words.append(len(labels) + len(marks))
            marks.append(number[gold[word]] if gold is not None else IGNORE)
            marks += [IGNORE] * (len(pieces[window.sentence][word]) - 1)
            sequence += pieces[window.sentence][word]
        sequence += [*window.right, tokenizer.sep_id]
        ids.append(sequence)
        labels += marks + [IGNORE] * (len(sequence) - len(marks))
    batch = from_lists(ids, [[0] * len(sequence) for sequence in ids])
    unlabelled = any(example.tags is None for example in examples)
    return Encoded(batch, None if unlabelled else np.array(labels, dtype=np.int64), np.array(words, dtype=np.int64))


def _pieces(examples: list[WordExample], tokenizer: Tokenizer, room: int) -> list[list[list[int]]]:
    """By sentence and word; a word longer than the model is cut."""
    flat = iter(tokenizer.word_pieces([word for example in examples for word in example.words]))
    return [[next(flat)[:room] for _ in example.words] for example in examples]


def _windows(sentence: int, pieces: list[list[int]], room: int) -> list[_Window]:
    windows, start, used = [], 0, 0
    for word, piece in enumerate(pieces):
        if used + len(piece) > room:
            windows.append(_Window(sentence, start, word, [], []))
            start, used = word, 0
        used += len(piece)
    return [*windows, _Window(sentence, start, len(pieces), [], [])]


def _with_context(window: _Window, examples: list[WordExample], pieces: list[list[list[int]]], room: int) -> _Window:
    """Fill the tokens that the window leaves free with whole words around it, from the same document."""
    sentence = window.sentence
    own = sum(len(piece) for piece in pieces[sentence][window.start : window.end])
    before = [*reversed(pieces[sentence][: window.start]), *_backward(examples, pieces, sentence)]
    after = [*pieces[sentence][window.end :], *_forward(examples, pieces, sentence)]
    left = _take(before, (room - own) // 2)
    right = _take(after, room - own - sum(map(len, left)))
    left = _take(before, room - own - sum(map(len, right)))  # tokens that are free because the document ends
    return _Window(sentence, window.start, window.end, [*chain(*reversed(left))], [*chain(*right)])


def _backward(examples: list[WordExample], pieces: list[list[list[int]]], sentence: int) -> list[list[int]]:
    """Words of the document before this sentence, nearest first; at most as many as any model can read."""
    words: list[list[int]] = []
    for i in range(sentence - 1, -1, -1):
        if examples[i].document != examples[sentence].document or len(words) > 512:
            break
        words += reversed(pieces[i])
    return words


def _forward(examples: list[WordExample], pieces: list[list[list[int]]], sentence: int) -> list[list[int]]:
    """Words of the document after this sentence."""
    words: list[list[int]] = []
    for i in range(sentence + 1, len(examples)):
        if examples[i].document != examples[sentence].document or len(words) > 512:
            break
        words += pieces[i]
    return words


def _take(words: list[list[int]], room: int) -> list[list[int]]:
    """The first words whose pieces fit."""
    taken = 0
    for count, word in enumerate(words):
        taken += len(word)
        if taken > room:
            return words[:count]
    return words


def lost_by_texts(examples: list[TextExample], encoded: Encoded, tokenizer: Tokenizer, max_length: int) -> list[int]:
    """Tokens lost by each example that is as long as the model reads: no other can have been cut."""
    full = [examples[i] for i in np.flatnonzero(encoded.batch.lengths >= max_length)]
    if not full:
        return []
    pairs = None if full[0].pair is None else [example.pair or "" for example in full]
    whole = tokenizer.encode_batch([example.text for example in full], pairs, UNCUT)
    return [len(encoding.ids) - max_length for encoding in whole]


def lost_by_words(examples: list[WordExample], encoded: Encoded, tokenizer: Tokenizer, max_length: int) -> list[int]:
    """Tokens lost by each sentence; the pieces of a word do not depend on its neighbours."""
    if not (encoded.batch.lengths >= max_length).any():
        return []
    words = list({word for example in examples for word in example.words})
    room = max_length - 2
    lost = {word: max(0, len(pieces) - room) for word, pieces in zip(words, tokenizer.word_pieces(words), strict=True)}
    return [sum(lost[word] for word in example.words) for example in examples]
