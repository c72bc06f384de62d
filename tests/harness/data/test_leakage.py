"""What was cut, what training has seen, and predictions that are not of the examples they are scored against."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.examples import TextExample, WordExample
from harness.data.kinds import KINDS
from harness.data.leakage import aligned, flags, inputs, paired, truncation
from harness.data.read import read_split
from harness.data.task import Task, load_task, suites
from harness.errors import Failure
from reference.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(minilm_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(minilm_folder)


def text(first: str, second: str | None = None, name: str = "0") -> TextExample:
    return TextExample(name, first, second, None)


def sentence(words: Sequence[str], document: int = 0) -> WordExample:
    return WordExample("0", tuple(words), ("O",) * len(words), document)


def counted(task: Task, examples: list[Any], tokenizer: Tokenizer) -> tuple[int, int]:
    encoded = KINDS[task.kind].encode(task, examples, tokenizer, task.max_length)
    counts = truncation(task, examples, encoded, tokenizer)
    return counts["cut"], counts["tokens_lost"]


# ---- what was cut ----


def test_a_text_that_just_fits_is_not_cut(tokenizer: Tokenizer) -> None:
    task = replace(load_task("mini-sentiment"), max_length=10)
    examples = [text("rain " * n) for n in (0, 7, 8, 9, 30)]
    assert counted(task, examples, tokenizer) == (2, 1 + 22)
    assert counted(task, examples[:3], tokenizer) == (0, 0)
    assert counted(task, [], tokenizer) == (0, 0)


def test_both_texts_of_a_pair_count(tokenizer: Tokenizer) -> None:
    task = replace(load_task("mini-paraphrase"), max_length=10)
    examples = [text("rain " * 5, "late " * 5), text("rain", "late"), text("", "late " * 20), text("rain " * 7, "")]
    assert counted(task, examples, tokenizer) == (2, 3 + 13)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), max_size=8), st.integers(4, 24), st.booleans())
def test_it_is_what_the_tokenizer_gives_without_a_limit(
    tokenizer: Tokenizer, texts: list[tuple[str, str]], max_length: int, pairs: bool
) -> None:
    task = replace(load_task("mini-paraphrase"), max_length=max_length)
    examples = [text(first, second if pairs else None) for first, second in texts]
    whole = [len(tokenizer.encode(each.text, each.pair, 10_000).ids) - max_length for each in examples]
    assert counted(task, examples, tokenizer) == (sum(n > 0 for n in whole), sum(n for n in whole if n > 0))


def test_a_sentence_in_several_windows_is_not_cut_and_a_word_longer_than_the_model_is(tokenizer: Tokenizer) -> None:
    task = replace(load_task("mini-ner"), max_length=8)
    long = "abcdefghijklmnopqrstuvwxyzabcdefghij"
    lost = len(tokenizer.word_pieces([long])[0]) - 6
    assert lost > 0
    examples = [sentence(["rain"] * 40), sentence(["rain"]), sentence(["rain", long, long])]
    assert counted(task, examples[:2], tokenizer) == (0, 0)
    assert counted(task, examples, tokenizer) == (1, 2 * lost)
    assert counted(replace(task, context="document"), examples, tokenizer) == (1, 2 * lost)


def test_rte_loses_the_ends_of_its_longest_texts(tokenizer: Tokenizer, data_folder: Path) -> None:
    task = load_task("rte")
    examples = list(read_split(task, "dev", data_folder))
    cut, tokens_lost = counted(task, examples, tokenizer)
    whole = [len(tokenizer.encode(each.text, each.pair, 10_000).ids) for each in examples]  # type: ignore[union-attr]
    assert cut == sum(n > 128 for n in whole) > 0
    assert tokens_lost == sum(n - 128 for n in whole if n > 128)


# ---- what training has seen ----


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (text("The ferry is late."), text("the  FERRY\tis\nlate. ")),
        (text("Zürich"), text(unicodedata.normalize("NFD", "ZÜRICH"))),
        (text("Straße"), text("STRASSE")),
        (text("a", "b"), text("A", " b")),
        (sentence(["The", "ferry"]), sentence(["the", "FERRY"])),
    ],
)
def test_case_white_space_and_unicode_form_make_no_other_text(one: Any, other: Any) -> None:
    assert inputs([one]) == inputs([other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (text("the ferry is late"), text("the ferry is late.")),
        (text("a", "b"), text("b", "a")),
        (text("a b", ""), text("a", "b")),
        (text("Zürich"), text("Zurich")),
        (sentence(["the", "ferry"]), sentence(["the", "ferries"])),
    ],
)
def test_other_texts_are_others(one: Any, other: Any) -> None:
    assert inputs([one]) != inputs([other])


@pytest.mark.parametrize("name", suites()["mini"])
def test_the_embedded_suite_leaks_nothing_and_loses_nothing(tokenizer: Tokenizer, name: str) -> None:
    task = load_task(name)
    train, dev = (list(read_split(task, split, None)) for split in ("train", "dev"))
    assert not set(inputs(train)) & set(inputs(dev))
    assert counted(task, [*train, *dev], tokenizer) == (0, 0)


# ---- what is said of it ----


def test_a_flag_only_above_one_percent_and_only_of_what_is_scored() -> None:
    much = {"examples": 200, "cut": 3, "tokens_lost": 50}
    little = {"examples": 200, "cut": 2, "tokens_lost": 900, "in_train": 2}
    assert flags({"train": much, "dev": little}) == []
    assert flags({"train": much, "dev": little, "test": much | {"in_train": 5}}) == [
        {"split": "test", "text": "3 of 200 examples (1.5%) are cut to what the model reads"},
        {"split": "test", "text": "5 of 200 examples (2.5%) are in the training split too"},
    ]
    assert flags({"dev": {"examples": 10, "in_train": 1}}) == [
        {"split": "dev", "text": "1 of 10 examples (10.0%) are in the training split too"}
    ]
    assert flags({}) == [], "a record from before this was counted"


# ---- predictions and examples ----

EXAMPLES = [text("a", name="7"), text("b", name="x"), text("c", name="0")]


def test_predictions_get_the_ids_of_their_examples_and_find_them_again() -> None:
    answers = paired(EXAMPLES, ["yes", "no", "maybe"], "mine dev")
    assert answers == [["7", "yes"], ["x", "no"], ["0", "maybe"]]
    assert aligned(EXAMPLES, answers, "mine dev") == ["yes", "no", "maybe"]
    assert aligned(EXAMPLES, answers[::-1], "mine dev") == ["yes", "no", "maybe"], "ids count, not places"


def test_lists_of_a_file_are_tuples_again() -> None:
    assert aligned(EXAMPLES[:1], [["7", ["joy", "fear"]]], "mine dev") == [("joy", "fear")]


@pytest.mark.parametrize("amount", [0, 2, 4])
def test_another_number_of_predictions_is_a_failure(amount: int) -> None:
    with pytest.raises(Failure, match=f"mine dev: {amount} predictions for 3 examples"):
        paired(EXAMPLES, ["yes"] * amount, "mine dev")


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([["7", "a"], ["x", "b"]], r"not of these 3 examples: 1 ids are of one side alone \(0\)"),
        ([["7", "a"], ["x", "b"], ["0", "c"], ["1", "d"]], r"1 ids are of one side alone \(1\)"),
        ([["7", "a"], ["x", "b"], ["1", "c"]], r"2 ids are of one side alone \(0, 1\)"),
        ([["a", "a"], ["b", "b"], ["c", "c"]], r"6 ids are of one side alone \(0, 7, a, \.\.\.\)"),
        ([["7", "a"], ["x", "b"], ["0", "c"], ["0", "c"]], "4 predictions of 3 examples"),
        ([["7", "a"], ["7", "b"], ["0", "c"]], "3 predictions of 2 examples"),
        (["7a", "xb", "0c"], "not pairs of an example's id and an answer"),
        ([["7", "a", "b"]], "not pairs"),
    ],
)
def test_predictions_of_other_examples_are_a_failure(answers: list[Any], message: str) -> None:
    with pytest.raises(Failure, match=f"mine dev: .*{message}"):
        aligned(EXAMPLES, answers, "mine dev")
