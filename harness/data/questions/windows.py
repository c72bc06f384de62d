"""Questions as a model reads them: [CLS] question [SEP] part of the text [SEP], as many windows as the text needs.

Two rules are in use. Google's ``run_squad.py`` starts a window every ``doc_stride`` pieces and cuts the question to
``max_query_length``. ``run_qa.py`` of transformers lets windows overlap by ``doc_stride`` pieces and does not cut the
question. In both, a window that does not hold the whole answer has [CLS] as its right answer.

Unlike ``run_squad.py``, both take the places of pieces in the text from the tokenizer instead of looking for the answer
among words: an answer begins with the piece that holds its first character and ends with that of its last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.data.encode import Encoded
from harness.data.examples import TextExample
from harness.data.questions.squad import Question
from harness.data.reading import Reading
from harness.port.batch import Batch, IntArray
from reference.tokenizer import Pieces, Tokenizer

AROUND = 3  # [CLS], and a [SEP] after each of the two texts


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive pieces of one question's text."""

    question: int  # its place in the split
    first: int  # piece of the text
    end: int  # one past the last
    start: int  # the token of the batch that the sequence begins with: [CLS]
    token: int  # the token of the batch that is the first piece


@dataclass(frozen=True)
class EncodedQuestions(Encoded):
    """A split of questions; sequences are windows, in the order of the questions.

    ``labels`` [windows, 2] are the first and the last token of the answer, counted from the window's [CLS].
    """

    windows: list[Window]
    pieces: list[Pieces]  # of the text of each question
    cut: list[int]  # pieces that are not read of each question


def encode_questions(
    reading: Reading, examples: Sequence[TextExample], tokenizer: Tokenizer, max_length: int
) -> EncodedQuestions:
    """All windows of all questions. Texts that several questions share are tokenized once."""
    texts = [example.pair or "" for example in examples]
    distinct = list(dict.fromkeys(texts))
    by_text = dict(zip(distinct, tokenizer.pieces(distinct), strict=True))
    ids_of = {text: np.array(pieces.ids, dtype=np.int64) for text, pieces in by_text.items()}
    asked = tokenizer.pieces([example.text for example in examples])
    cls, sep = np.array([tokenizer.cls_id]), np.array([tokenizer.sep_id])
    windows: list[Window] = []
    parts: list[IntArray] = []
    lengths: list[int] = []
    segments: list[IntArray] = []
    labels: list[tuple[int, int]] = []
    cut: list[int] = []
    tokens = 0
    for number, (example, text) in enumerate(zip(examples, texts, strict=True)):
        question = np.array(asked[number].ids, dtype=np.int64)[: _question_room(reading, max_length, len(ids_of[text]))]
        cut.append(len(asked[number].ids) - len(question))
        head = np.concatenate([cls, question, sep])
        room = max_length - AROUND - len(question)
        answer = _answer_pieces(by_text[text], example)
        for first, end in divide(len(ids_of[text]), room, reading):
            windows.append(Window(number, first, end, tokens, tokens + len(head)))
            parts += [head, ids_of[text][first:end], sep]
            lengths.append(len(head) + end - first + 1)
            segments.append(np.repeat([0, 1 if tokenizer.has_segments else 0], [len(head), lengths[-1] - len(head)]))
            labels.append(_tokens(answer, first, end, len(head)))
            tokens += lengths[-1]
    batch = Batch(np.concatenate(parts), np.concatenate(segments), np.cumsum([0, *lengths], dtype=np.int64))
    unlabelled = any(example.label is None for example in examples)
    return EncodedQuestions(
        batch,
        None if unlabelled else np.array(labels, dtype=np.int64),
        np.array([], dtype=np.int64),
        windows,
        [by_text[text] for text in texts],
        cut,
    )


def _tokens(answer: tuple[int, int] | None, first: int, end: int, head: int) -> tuple[int, int]:
    """The tokens of the answer in a window of these pieces; [CLS] where the window does not hold all of it."""
    if answer is None or answer[0] < first or answer[1] >= end:
        return 0, 0
    return answer[0] - first + head, answer[1] - first + head


def divide(pieces: int, room: int, reading: Reading) -> Iterator[tuple[int, int]]:
    """The first piece of each window of a text of so many, and one past its last; ``room`` pieces fit one window."""
    step = min(room, reading.doc_stride) if reading.windows == "google" else room - reading.doc_stride
    start = 0
    while start + room < pieces:
        yield start, start + room
        start += step
    yield start, pieces


def least_length(reading: Reading) -> int:
    """The least max_length at which every window has room for a piece of the text, and windows advance."""
    return AROUND + 1 + (reading.max_query_length if reading.windows == "google" else reading.doc_stride + 1)


def _question_room(reading: Reading, max_length: int, text: int) -> int:
    """Pieces that are read of a question about a text of so many pieces.

    In Hugging Face's rule all, as long as the text fits into one window, or the windows advance.
    """
    if reading.windows == "google":
        return reading.max_query_length
    return max_length - AROUND - min(text, reading.doc_stride + 1)


def _answer_pieces(pieces: Pieces, example: TextExample) -> tuple[int, int] | None:
    """The first and the last piece of the answer; None without one."""
    if not isinstance(example, Question) or example.span is None:
        return None
    start, end = example.span
    first = int(np.searchsorted(pieces.ends, start, side="right"))
    last = int(np.searchsorted(pieces.starts, end, side="left")) - 1
    return (first, last) if first <= last else None
