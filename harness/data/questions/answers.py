"""Answers from logits: of all spans that are short enough, in all windows of a question, the best ones.

A span's score is the sum of two logits, of its first piece as start and of its last as end. In Google's rule a piece
counts as a start only in the window that shows most text on both sides of it. No answer has the score of [CLS] as start
and end, the least of all windows, as in both scripts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from harness.data.examples import TextExample
from harness.data.questions.squad import NO_ANSWER
from harness.data.questions.windows import EncodedQuestions, Window
from harness.data.reading import Reading
from harness.port.batch import Array

BEST = 20  # spans that are kept of each window, and answers of each question


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible answer."""

    text: str  # as in the question's text; empty: no answer
    start: int | None  # its first character; None for no answer
    end: int | None  # one past its last
    score: float  # of its start and its end, a sum of logits


@dataclass(frozen=True, slots=True)
class Answered:
    """What the logits say of one question."""

    best: list[Candidate]  # answers with distinct texts, the best first; empty where the text has no pieces
    null_score: float  # of no answer

    def chosen(self, reading: Reading) -> Candidate:
        """The answer. No answer where the task allows that and its score is more than the threshold above the best."""
        none = Candidate(NO_ANSWER, None, None, self.null_score)
        if not self.best:
            return none
        above = self.null_score - self.best[0].score
        return none if reading.unanswerable and above > reading.null_threshold else self.best[0]


def answered(
    reading: Reading, logits: Array, encoded: EncodedQuestions, examples: Sequence[TextExample]
) -> list[Answered]:
    """The answers to each question; ``logits`` [tokens, 2] are of each token as start and as end."""
    scores = logits.astype(np.float64)
    found = []
    for number, group in groupby(encoded.windows, lambda window: window.question):
        windows = list(group)
        spans = _spans(reading, scores, windows)
        null = min(float(scores[window.start].sum()) for window in windows)
        found.append(Answered(_candidates(spans, encoded, number, examples[number].pair or ""), null))
    return found


def _spans(reading: Reading, scores: Array, windows: list[Window]) -> list[tuple[float, int, int]]:
    """The score, the first and the last piece of the best spans of all windows, the best first."""
    best: list[tuple[float, int, int]] = []
    for place, window in enumerate(windows):
        length = window.end - window.first
        if length == 0:
            continue
        starts, ends = scores[window.token : window.token + length].T
        if reading.windows == "google" and len(windows) > 1:
            starts = np.where(_seen_best(windows, place), starts, -np.inf)
        reach = min(reading.max_answer_length, length)
        later = sliding_window_view(np.concatenate([ends, np.full(reach - 1, -np.inf)]), reach)  # ends by start
        # The best spans are among those of the starts whose own best span is best.
        firsts = _largest(starts + later.max(axis=1))
        sums = starts[firsts, None] + later[firsts]
        for index in _largest(sums.ravel()):
            row, after = divmod(int(index), reach)
            first = window.first + int(firsts[row])
            best.append((float(sums[row, after]), first, first + after))
    return sorted(best, key=lambda span: (-span[0], span[1], span[2]))


def _largest(values: Array) -> Array:
    """The places of the largest numbers, as many as are kept; of equal numbers the first, and none of -inf."""
    places = np.argsort(-values, kind="stable")[:BEST]
    return places[np.isfinite(values[places])]


def _seen_best(windows: list[Window], place: int) -> Array:
    """Whether each piece of a window has more text on both sides there than in the others; of equal ones the first."""
    own = windows[place]
    pieces = np.arange(own.first, own.end)

    def seen(window: Window) -> Array:
        context = np.minimum(pieces - window.first, window.end - 1 - pieces) + 0.01 * (window.end - window.first)
        return np.where((window.first <= pieces) & (pieces < window.end), context, -np.inf)

    mine = seen(own)
    earlier = [seen(window) for window in windows[:place]]
    later = [seen(window) for window in windows[place + 1 :]]
    best = np.full(len(pieces), True)
    for other in earlier:
        best &= mine > other
    for other in later:
        best &= mine >= other
    return best


def _candidates(
    spans: list[tuple[float, int, int]], encoded: EncodedQuestions, number: int, text: str
) -> list[Candidate]:
    """The best spans as characters of the text, each text once."""
    pieces, found = encoded.pieces[number], dict[str, Candidate]()
    for score, first, last in spans:
        start, end = pieces.starts[first], pieces.ends[last]
        found.setdefault(text[start:end], Candidate(text[start:end], start, end, score))
        if len(found) == BEST:
            break
    return list(found.values())


def probabilities(of: Answered, with_null: bool) -> list[float]:
    """Of each of the best answers, among these and, with ``with_null``, no answer."""
    scores = np.array([each.score for each in of.best] + ([of.null_score] if with_null else []))
    return [float(share) for share in np.exp(scores - np.logaddexp.reduce(scores))[: len(of.best)]]
