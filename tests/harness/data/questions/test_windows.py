"""Windows: each rule's own, with the answer where it is, and nothing of a text lost."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.data.kinds import KINDS
from harness.data.questions.squad import Question
from harness.data.questions.windows import divide, encode_questions, least_length
from harness.data.read import read
from harness.data.reading import Reading
from harness.data.task import load_task
from harness.errors import BadInput
from harness.measure.plan import Plan
from reference.tokenizer import Tokenizer

KIND = KINDS["question-answering"]


@pytest.fixture(scope="module")
def tokenizer(minilm_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(minilm_folder)


def reading(**fields: Any) -> Reading:
    return replace(load_task("mini-questions"), **fields)


def asked(context: str, answer: str | None, question: str = "who?") -> Question:
    if answer is None:
        return Question("0", question, context, ("",))
    return Question("0", question, context, (answer,), (context.index(answer), context.index(answer) + len(answer)))


YEARS = " ".join(map(str, range(1950, 2010)))  # each is a piece


@pytest.mark.parametrize(
    ("rule", "stride", "windows"),
    [
        # 60 pieces, room for 20: a start every 8, or an overlap of 8
        ("google", 8, [(0, 20), (8, 28), (16, 36), (24, 44), (32, 52), (40, 60)]),
        ("huggingface", 8, [(0, 20), (12, 32), (24, 44), (36, 56), (48, 60)]),
        ("google", 50, [(0, 20), (20, 40), (40, 60)]),
        ("google", 20, [(0, 20), (20, 40), (40, 60)]),
        ("huggingface", 19, [(i, i + 20) for i in range(41)]),
    ],
)
def test_a_text_is_divided_by_each_rule(rule: Any, stride: int, windows: list[tuple[int, int]]) -> None:
    assert list(divide(60, 20, reading(windows=rule, doc_stride=stride))) == windows


@pytest.mark.parametrize("rule", ["google", "huggingface"])
@pytest.mark.parametrize("pieces", [0, 1, 20])
def test_a_text_that_fits_is_one_window(rule: Any, pieces: int) -> None:
    assert list(divide(pieces, 20, reading(windows=rule, doc_stride=8))) == [(0, pieces)]


@pytest.mark.parametrize("rule", ["google", "huggingface"])
def test_an_answer_is_labelled_in_the_windows_that_hold_all_of_it(tokenizer: Tokenizer, rule: Any) -> None:
    encoded = encode_questions(reading(windows=rule, doc_stride=8), [asked(YEARS, "1968 1969")], tokenizer, 25)
    assert encoded.batch.lengths.max() == 25
    whole = 0
    assert encoded.labels is not None
    for window, (start, end) in zip(encoded.windows, encoded.labels, strict=True):
        assert encoded.batch.ids[window.start] == tokenizer.cls_id
        assert tokenizer.token(encoded.batch.ids[window.token]) == str(1950 + window.first)
        if window.first <= 18 and window.end > 19:
            whole += 1
            tokens = encoded.batch.ids[window.start + start : window.start + end + 1]
            assert list(map(tokenizer.token, tokens)) == ["1968", "1969"]
        else:
            assert (start, end) == (0, 0), "[CLS]"
    assert whole == {"google": 3, "huggingface": 2}[rule]


def test_a_window_reads_as_the_tokenizer_puts_pairs_together(tokenizer: Tokenizer) -> None:
    example = asked("The mill at Orle was built in 1726.", "1726", "When was it built?")
    encoded = encode_questions(reading(), [example, example], tokenizer, 192)
    whole = tokenizer.encode(*example.texts, 192)
    assert encoded.batch.ids.tolist() == whole.ids * 2
    assert encoded.batch.segments.tolist() == whole.segments * 2
    assert [window.question for window in encoded.windows] == [0, 1]


def test_an_answer_within_a_word_is_the_pieces_that_hold_it(tokenizer: Tokenizer) -> None:
    text = "Café-goers paid $1,726m in Zürich"
    for answer, pieces in (("1,726", ["1", ",", "72", "##6", "##m"]), ("Caf", ["cafe"]), ("$1", ["$", "1"])):
        encoded = encode_questions(reading(), [asked(text, answer)], tokenizer, 192)
        assert encoded.labels is not None
        start, end = encoded.labels[0]
        found = list(map(tokenizer.token, encoded.batch.ids[start : end + 1]))
        assert found in (pieces, pieces[:-1]), "the last piece may be longer than the answer"


def test_no_answer_is_labelled_cls_and_a_question_without_label_has_none(tokenizer: Tokenizer) -> None:
    labelled = encode_questions(reading(), [asked("a mill", None)], tokenizer, 192)
    assert labelled.labels is not None
    assert labelled.labels.tolist() == [[0, 0]]
    unlabelled = [Question("0", "who?", "a mill", None), asked("a mill", "mill")]
    assert encode_questions(reading(), unlabelled, tokenizer, 192).labels is None


def test_a_long_question_is_cut_in_googles_rule_and_counted(tokenizer: Tokenizer) -> None:
    example = asked(YEARS, "1968", "why " * 80)
    for rule, cut in (("google", 16), ("huggingface", 0)):
        task = reading(windows=rule)
        encoded = encode_questions(task, [example], tokenizer, 384)
        assert encoded.cut == [cut]
        assert KIND.tokens_lost([example], encoded, tokenizer, 384) == [cut]
        assert encoded.windows[0].token == 2 + 80 - cut
    short = encode_questions(reading(windows="huggingface", doc_stride=30), [example], tokenizer, 100)
    assert short.cut == [80 - (100 - 3 - 30 - 1)], "so far that windows advance"
    assert short.batch.lengths.max() == 100
    assert sorted({place for window in short.windows for place in range(window.first, window.end)}) == list(range(60))


@pytest.mark.parametrize(("rule", "least"), [("google", 68), ("huggingface", 133)])
def test_a_length_at_which_windows_cannot_advance_is_refused_before_any_work(
    prepared: Callable[..., Plan], tokenizer: Tokenizer, rule: Any, least: int
) -> None:
    assert least_length(reading(windows=rule)) == least
    example = asked(f"{YEARS} {YEARS} {YEARS}", None, "why " * 80)
    assert encode_questions(reading(windows=rule), [example], tokenizer, least).batch.lengths.max() == least
    if rule == "google":
        with pytest.raises(
            BadInput, match=r"mini-questions: a max length under 68; max_query_length, .* need that many"
        ):
            prepared(tasks=["mini-questions"], max_length=67)
        prepared(tasks=["mini-questions"], max_length=68)


@pytest.mark.slow
def test_windows_of_squad_are_those_of_the_two_scripts(data_folder: Path, tokenizer: Tokenizer) -> None:
    """10,833 features of run_squad.py, 10,784 of run_qa.py, of dev-v1.1 and the vocabulary of bert-base-uncased."""
    task = load_task("squad1")
    encoded = encode_questions(task, read(task, "dev", data_folder).examples, tokenizer, 384)
    assert len(encoded.windows) == len(encoded.batch.lengths) == 10833
    assert not any(encoded.cut), "so that the questions are the same in both rules"
    overlapping = replace(task, windows="huggingface")
    rooms = {window.question: 384 - 1 - (window.token - window.start) for window in encoded.windows}
    found = [divide(len(encoded.pieces[number].ids), room, overlapping) for number, room in rooms.items()]
    assert sum(len(list(each)) for each in found) == 10784
