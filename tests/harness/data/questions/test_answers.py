"""Answers from logits: the best span of all windows, as characters of the text, or none."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.examples import TextExample
from harness.data.kinds import KINDS
from harness.data.questions.answers import Answered, answered, probabilities
from harness.data.questions.squad import Question
from harness.data.questions.windows import EncodedQuestions, encode_questions
from harness.data.read import read
from harness.data.reading import Reading
from harness.data.task import load_task
from harness.port.batch import Array
from harness.statistics.metrics import METRICS, Answers
from reference.tokenizer import Tokenizer

KIND = KINDS["question-answering"]
TEXT = "The  mill at Zürich\nwas built in 1726 by Jan Moor."


@pytest.fixture(scope="module")
def tokenizer(minilm_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(minilm_folder)


def reading(**fields: Any) -> Reading:
    return replace(load_task("mini-questions"), **fields)


def asked(*contexts: str) -> list[TextExample]:
    return [TextExample(str(i), "who?", context, None) for i, context in enumerate(contexts)]


def of_pieces(encoded: EncodedQuestions, starts: dict[int, float], ends: dict[int, float]) -> Array:
    """Logits of 0, but for these pieces of the text, in every window that has them."""
    logits = np.zeros((len(encoded.batch.ids), 2))
    for window in encoded.windows:
        for output, given in enumerate((starts, ends)):
            for piece, logit in given.items():
                if window.first <= piece < window.end:
                    logits[window.token + piece - window.first, output] = logit
    return logits


def test_an_answer_is_the_text_as_it_is_written(tokenizer: Tokenizer) -> None:
    examples = asked("some other text", TEXT)
    encoded = encode_questions(reading(), examples, tokenizer, 192)
    second = next(window for window in encoded.windows if window.question == 1)
    logits = np.zeros((len(encoded.batch.ids), 2))
    logits[second.token + 1, 0] = logits[second.token + 4, 1] = 5  # the mill at zurich was
    found = answered(reading(), logits, encoded, examples)[1].chosen(reading())
    assert (found.text, found.start, found.end, found.score) == ("mill at Zürich\nwas", 5, 23, 10)
    assert TEXT[found.start : found.end] == found.text
    assert KIND.decode(reading(), logits, encoded, examples)[1] == found.text


def test_an_end_is_not_before_its_start_and_not_too_far(tokenizer: Tokenizer) -> None:
    examples = asked(TEXT)
    encoded = encode_questions(reading(), examples, tokenizer, 192)
    logits = of_pieces(encoded, {5: 9.0, 2: 4.0}, {1: 9.0, 6: 3.0, 10: 5.0})
    assert KIND.decode(reading(), logits, encoded, examples) == ["built in 1726 by Jan Moor"]
    short = reading(max_answer_length=2)
    assert KIND.decode(short, logits, encoded, examples) == ["built in"]
    one = reading(max_answer_length=1)
    assert len(KIND.decode(one, logits, encoded, examples)[0].split()) == 1


def brute_force(task: Reading, logits: Array, encoded: EncodedQuestions, text: str) -> list[tuple[float, str]]:
    """All spans of all windows, each text with its best score, in a plain loop."""
    best: dict[str, float] = {}
    pieces, windows = encoded.pieces[0], encoded.windows
    for window in windows:
        for first in range(window.first, window.end):
            if task.windows == "google":
                context = [
                    min(first - w.first, w.end - 1 - first) + 0.01 * (w.end - w.first)
                    if w.first <= first < w.end
                    else -1
                    for w in windows
                ]
                if windows[context.index(max(context))] is not window:
                    continue
            for last in range(first, min(first + task.max_answer_length, window.end)):
                score = logits[window.token + first - window.first, 0] + logits[window.token + last - window.first, 1]
                span = text[pieces.starts[first] : pieces.ends[last]]
                best[span] = max(best.get(span, -np.inf), score)
    return sorted(((score, span) for span, score in best.items()), reverse=True)


@pytest.mark.parametrize("rule", ["google", "huggingface"])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_answers_are_those_of_a_plain_loop(tokenizer: Tokenizer, rule: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    text = " ".join(map(str, rng.integers(1950, 2010, rng.integers(1, 70))))
    task = reading(windows=rule, doc_stride=8, max_answer_length=int(rng.integers(1, 12)))
    examples = asked(text)
    encoded = encode_questions(task, examples, tokenizer, 25)
    logits = rng.normal(size=(len(encoded.batch.ids), 2))
    (found,) = answered(task, logits, encoded, examples)
    expected = brute_force(task, logits, encoded, text)
    assert (found.best[0].score, found.best[0].text) == (pytest.approx(expected[0][0]), expected[0][1])
    known = {span: score for score, span in expected}
    assert all(each.score <= known[each.text] + 1e-12 for each in found.best)
    assert all(a.score >= b.score for a, b in pairwise(found.best))
    assert len({each.text for each in found.best}) == len(found.best) <= 20
    starts = [logits[window.start].sum() for window in encoded.windows]
    assert found.null_score == pytest.approx(min(starts))


def test_no_answer_where_its_score_is_more_than_the_threshold_above(tokenizer: Tokenizer) -> None:
    examples = asked(TEXT)
    encoded = encode_questions(reading(), examples, tokenizer, 192)
    logits = of_pieces(encoded, {1: 2.0}, {1: 2.0})
    logits[0] = 3.0  # [CLS] as start and end: 6, and the best answer has 4
    for threshold, answer in ((0.0, ""), (1.9, ""), (2.0, "mill"), (3.0, "mill")):
        task = reading(unanswerable=True, null_threshold=threshold)
        assert KIND.decode(task, logits, encoded, examples) == [answer], threshold
    assert KIND.decode(reading(), logits, encoded, examples) == ["mill"], "where every question has an answer"


def test_what_predict_writes(tokenizer: Tokenizer) -> None:
    examples = asked(TEXT, " ")
    task = reading(unanswerable=True)
    encoded = encode_questions(task, examples, tokenizer, 192)
    logits = of_pieces(encoded, {1: 2.0}, {1: 2.0, 2: 1.0})
    first, second = KIND.written(task, logits.astype(np.float32), encoded, examples)
    best = first.pop("best")
    assert first == {"answer": "mill", "start": 5, "end": 9, "score": 4.0, "null_score": 0.0}
    assert [each["answer"] for each in best[:2]] == ["mill", "mill at"]
    assert best[0]["probability"] / best[1]["probability"] == pytest.approx(np.e, rel=1e-2)
    assert second == {"answer": "", "start": None, "end": None, "score": 0.0, "null_score": 0.0, "best": []}
    assert "null_score" not in KIND.written(reading(), logits, encoded, examples)[0]


def test_probabilities_are_among_the_best_answers_and_none() -> None:
    from harness.data.questions.answers import Candidate

    of = Answered([Candidate("a", 0, 1, 2.0), Candidate("b", 1, 2, 1.0)], 0.0)
    e = np.e
    assert probabilities(of, False) == pytest.approx([e / (e + 1), 1 / (e + 1)])
    assert probabilities(of, True) == pytest.approx([e * e / (e * e + e + 1), e / (e * e + e + 1)])
    assert probabilities(Answered([], 0.0), False) == []


@pytest.mark.slow
def test_the_right_spans_of_squad_score_nearly_all(data_folder: Path, tokenizer: Tokenizer) -> None:
    """The most that any model can score: some answers are no whole pieces, or longer than 30."""
    task = load_task("squad1")
    examples: list[Question] = read(task, "dev", data_folder).examples[:2000]
    encoded = encode_questions(task, examples, tokenizer, task.max_length)
    logits = np.zeros((len(encoded.batch.ids), 2))
    assert encoded.labels is not None
    for window, (start, end) in zip(encoded.windows, encoded.labels, strict=True):
        if start:
            logits[window.start + start, 0] = logits[window.start + end, 1] = 10
    answers = Answers(KIND.gold(examples), KIND.decode(task, logits, encoded, examples))  # type: ignore[arg-type]
    found = {name: METRICS[name].value(answers) for name in task.metrics}
    assert 0.99 < found["exact"] <= found["answer_f1"] < 1
