"""Examples to token ids and label numbers, and logits back to the names they stand for."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.encode import Encoded
from harness.data.examples import TextExample, WordExample
from harness.data.kinds import KINDS
from harness.data.read import read_split
from harness.data.task import Task, load_task
from harness.port.batch import IGNORE
from harness.worker.messages import Array
from reference.tokenizer import Tokenizer

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-MISC", "I-MISC")
# Words of one, two, three and four pieces, and what has none of its own: each is [UNK].
WORDS = ["rain", "ferry", "unaffable", "lockkeeper", "Zürich", "12.5%", "x" * 200, "\x00\x1f", "\u200b"]


@pytest.fixture(scope="module")
def tokenizer(minilm_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(minilm_folder)


def encode(task: Task, examples: list[Any], tokenizer: Tokenizer, max_length: int) -> Encoded:
    return KINDS[task.kind].encode(task, examples, tokenizer, max_length)


def decode(task: Task, logits: Array, encoded: Encoded, examples: list[Any]) -> list[Any]:
    return KINDS[task.kind].decode(task, logits, encoded, examples)


def gold(task: Task, examples: list[Any]) -> list[Any] | None:
    return KINDS[task.kind].gold(examples)


def text(label: Any, first: str = "The ferry is late.", second: str | None = None) -> TextExample:
    return TextExample("0", first, second, label)


def sentence(words: Sequence[str], document: int = 0, tags: Sequence[str] | None = None) -> WordExample:
    chosen = tuple(TAGS[i % len(TAGS)] for i in range(len(words))) if tags is None else tuple(tags)
    return WordExample("0", tuple(words), chosen, document)


def task_of(kind: str) -> Task:
    built_in = {"classification": "mini-paraphrase", "regression": "mini-similarity", "tagging": "mini-ner"}
    if kind == "multi-label":
        task = load_task("go_emotions")
        return replace(task, labels={"2": "joy", "0": "fear", "1": "envy"})
    return load_task(built_in[kind])


def perfect(task: Task, encoded: Encoded) -> Array:
    """Logits that say exactly what the labels say."""
    labels = encoded.labels
    assert labels is not None
    if task.kind == "regression":
        return labels[:, None]
    if task.kind == "multi-label":
        return 10 * labels - 5
    logits = np.full((len(labels), len(task.outputs)), -3.0, dtype=np.float32)
    known = np.flatnonzero(labels != IGNORE)
    logits[known, labels[known]] = 2.0
    return logits


def sequences_of(values: Array, encoded: Encoded) -> list[list[int]]:
    return [part.tolist() for part in np.split(values, encoded.batch.cu_seqlens[1:-1])]


def test_classes_are_numbered_as_the_head_has_them(tokenizer: Tokenizer) -> None:
    mnli = load_task("mnli")
    examples = [text(name) for name in ("neutral", "contradiction", "entailment")]
    labels = encode(mnli, examples, tokenizer, 64).labels
    assert labels is not None
    assert labels.tolist() == [2, 0, 1]
    assert labels.dtype == np.int64
    turned = replace(mnli, labels={name: name for name in ("neutral", "entailment", "contradiction")})
    assert encode(turned, examples, tokenizer, 64).labels.tolist() == [0, 2, 1]  # type: ignore[union-attr]


def test_labels_that_are_numbers_go_by_their_names(tokenizer: Tokenizer) -> None:
    task = replace(load_task("mini-sentiment"), labels={"1": "positive", "0": "negative"})
    assert encode(task, [text("negative"), text("positive")], tokenizer, 16).labels.tolist() == [1, 0]  # type: ignore[union-attr]


def test_multi_label_and_regression(tokenizer: Tokenizer) -> None:
    examples = [text(("envy", "joy")), text(()), text(("fear",))]
    labels = encode(task_of("multi-label"), examples, tokenizer, 64).labels
    assert labels is not None
    assert labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    scores = encode(task_of("regression"), [text(0.0), text(4.75)], tokenizer, 64).labels
    assert scores is not None
    assert scores.tolist() == [0.0, 4.75]
    assert scores.dtype == np.float32


def test_pairs_are_two_segments_and_the_longer_text_is_cut(tokenizer: Tokenizer) -> None:
    long, short = "rain " * 30, "late ferry"
    encoded = encode(task_of("classification"), [text("paraphrase", long, short)] * 2, tokenizer, 20)
    (ids, _), (segments, _) = sequences_of(encoded.batch.ids, encoded), sequences_of(encoded.batch.segments, encoded)
    rain, late, ferry = (tokenizer.word_pieces([word])[0][0] for word in ("rain", "late", "ferry"))
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    assert ids == [cls, *[rain] * 15, sep, late, ferry, sep]
    assert segments == [0] * 17 + [1] * 3


def test_single_texts_have_one_segment_and_an_empty_one_is_still_a_sequence(tokenizer: Tokenizer) -> None:
    encoded = encode(load_task("mini-sentiment"), [text("positive"), text("negative", "")], tokenizer, 64)
    assert encoded.batch.lengths.tolist() == [7, 2]
    assert not encoded.batch.segments.any()
    assert encoded.words.size == 0


@pytest.mark.parametrize("kind", ["classification", "regression", "multi-label", "tagging"])
def test_one_example_without_a_label_leaves_the_split_without(tokenizer: Tokenizer, kind: str) -> None:
    task = task_of(kind)
    if kind == "tagging":
        examples: list[Any] = [sentence(["rain"]), WordExample("1", ("ferry", "late"), None, 0)]
    else:
        known = {"classification": "different", "regression": 1.0, "multi-label": ("joy",)}[kind]
        examples = [text(known), text(None)]
    encoded = encode(task, examples, tokenizer, 32)
    assert encoded.labels is None
    assert gold(task, examples) is None
    outputs = np.zeros((len(encoded.batch.ids) if kind == "tagging" else 2, len(task.outputs)))
    assert len(decode(task, outputs, encoded, examples)) == 2


def test_the_first_piece_of_a_word_carries_its_label(tokenizer: Tokenizer) -> None:
    words, tags = ["Unaffable", "lockkeeper", "rain"], ["B-PER", "I-PER", "O"]
    encoded = encode(task_of("tagging"), [sentence(words, tags=tags)], tokenizer, 64)
    first, second, third = tokenizer.word_pieces(words)
    assert len(first) > 1 < len(second)
    assert encoded.batch.ids.tolist() == [tokenizer.cls_id, *first, *second, *third, tokenizer.sep_id]
    starts = [1, 1 + len(first), 1 + len(first) + len(second)]
    assert encoded.words.tolist() == starts
    assert encoded.labels is not None
    assert {place: label for place, label in enumerate(encoded.labels) if label != IGNORE} == dict(
        zip(starts, [1, 2, 0], strict=True)
    )


def test_words_that_a_vocabulary_cannot_spell_are_unknown_and_still_scored(tokenizer: Tokenizer) -> None:
    words = ["x" * 200, "\x00\x1f\x7f", "\u200b", ""]
    encoded = encode(task_of("tagging"), [sentence(words)], tokenizer, 64)
    assert encoded.batch.ids.tolist() == [tokenizer.cls_id, *[tokenizer.unk_id] * 4, tokenizer.sep_id]
    assert encoded.words.tolist() == [1, 2, 3, 4]


def test_a_word_longer_than_the_model_is_cut(tokenizer: Tokenizer) -> None:
    word = "-".join("abcdefghij")
    pieces = tokenizer.word_pieces([word])[0]
    encoded = encode(task_of("tagging"), [sentence(["rain", word, "late"])], tokenizer, 8)
    assert sequences_of(encoded.batch.ids, encoded)[1] == [tokenizer.cls_id, *pieces[:6], tokenizer.sep_id]
    assert encoded.batch.lengths.tolist() == [3, 8, 3]


DOCUMENTS = st.lists(st.tuples(st.lists(st.sampled_from(WORDS), max_size=25), st.booleans()), min_size=1, max_size=8)
UNHURRIED = settings(deadline=None)  # the machine may be busy


@UNHURRIED
@given(sentences=DOCUMENTS, max_length=st.integers(3, 40), context=st.sampled_from(["sentence", "document"]))
def test_every_word_is_read_once_and_answered_once(
    tokenizer: Tokenizer, sentences: list[tuple[list[str], bool]], max_length: int, context: str
) -> None:
    task = replace(task_of("tagging"), context=context)  # type: ignore[arg-type]
    documents = np.cumsum([starts_one for _, starts_one in sentences]).tolist()
    examples = [sentence(words, document) for (words, _), document in zip(sentences, documents, strict=True)]
    encoded = encode(task, examples, tokenizer, max_length)
    batch, labels = encoded.batch, encoded.labels
    assert labels is not None
    assert batch.lengths.max() <= max_length
    assert (batch.ids[batch.cu_seqlens[:-1]] == tokenizer.cls_id).all()
    assert (batch.ids[batch.cu_seqlens[1:] - 1] == tokenizer.sep_id).all()
    words = [word for example in examples for word in example.words]
    firsts = [pieces[0] for pieces in tokenizer.word_pieces(words)] if words else []
    assert batch.ids[encoded.words].tolist() == firsts
    assert sorted(encoded.words) == np.flatnonzero(labels != IGNORE).tolist(), "only a word of one's own has a label"
    assert len(labels) == len(batch.ids) == len(batch.segments)
    assert decode(task, perfect(task, encoded), encoded, examples) == gold(task, examples)


def single_piece_words(tokenizer: Tokenizer, count: int) -> list[str]:
    """Words of one piece each, all different."""
    candidates = [f"{first}{second}" for first in "abcdefghijklmnoprstu" for second in "aeiouy"]
    words = [w for w, p in zip(candidates, tokenizer.word_pieces(candidates), strict=True) if len(p) == 1]
    assert len(words) >= count
    return words[:count]


def in_documents(words: list[str], lengths: list[list[int]]) -> list[WordExample]:
    """The words in order as sentences of these lengths, document by document."""
    rest = iter(words)
    return [sentence([next(rest) for _ in range(n)], document) for document, sizes in enumerate(lengths) for n in sizes]


@pytest.mark.parametrize("max_length", [6, 13, 20, 32])
def test_context_fills_the_window_and_never_crosses_a_document(tokenizer: Tokenizer, max_length: int) -> None:
    words, lengths = single_piece_words(tokenizer, 90), [[5, 1, 12, 7], [3, 2], [20, 20, 20]]
    task = replace(task_of("tagging"), context="document")
    examples = in_documents(words, lengths)
    encoded = encode(task, examples, tokenizer, max_length)
    document_of = {
        tokenizer.word_pieces([word])[0][0]: example.document for example in examples for word in example.words
    }
    position = {piece: place for place, piece in enumerate(document_of)}
    assert encoded.labels is not None
    for ids, labels in zip(
        sequences_of(encoded.batch.ids, encoded), sequences_of(encoded.labels, encoded), strict=True
    ):
        inner = ids[1:-1]
        documents = {document_of[piece] for piece in inner}
        assert len(documents) == 1
        assert [position[p] for p in inner] == list(range(position[inner[0]], position[inner[0]] + len(inner)))
        assert len(ids) == min(max_length, 2 + sum(lengths[documents.pop()])), "room is left though there is text"
        assert any(label != IGNORE for label in labels)


def test_context_is_half_before_and_half_after_and_has_no_labels(tokenizer: Tokenizer) -> None:
    words = single_piece_words(tokenizer, 30)
    examples = in_documents(words, [[10, 4, 16]])
    encoded = encode(replace(task_of("tagging"), context="document"), examples, tokenizer, 12)
    assert encoded.labels is not None
    middle, labels = sequences_of(encoded.batch.ids, encoded)[1], sequences_of(encoded.labels, encoded)[1]
    assert own_words(middle, tokenizer, words) == list(range(7, 17)), "three words before, four own, three after"
    assert [place for place, label in enumerate(labels) if label != IGNORE] == [4, 5, 6, 7]


def own_words(ids: list[int], tokenizer: Tokenizer, words: list[str]) -> list[int]:
    pieces = [piece for (piece,) in tokenizer.word_pieces(words)]
    return [pieces.index(i) for i in ids[1:-1]]


def test_at_the_ends_of_a_document_the_other_side_gets_the_room(tokenizer: Tokenizer) -> None:
    words = single_piece_words(tokenizer, 30)
    examples = in_documents(words, [[2, 26, 2]])
    encoded = encode(replace(task_of("tagging"), context="document"), examples, tokenizer, 12)
    first, *_, last = sequences_of(encoded.batch.ids, encoded)
    assert own_words(first, tokenizer, words) == list(range(10))
    assert own_words(last, tokenizer, words) == list(range(20, 30))


@UNHURRIED
@given(sentences=DOCUMENTS, max_length=st.integers(5, 40))
def test_context_is_whole_words_and_no_further_one_would_fit(
    tokenizer: Tokenizer, sentences: list[tuple[list[str], bool]], max_length: int
) -> None:
    examples = [sentence(words) for words, _ in sentences]
    encoded = encode(replace(task_of("tagging"), context="document"), examples, tokenizer, max_length)
    words = [word for example in examples for word in example.words]
    pieces = [piece[: max_length - 2] for piece in tokenizer.word_pieces(words)] if words else []
    longest = max(map(len, pieces), default=0)
    whole = sum(map(len, pieces)) + 2
    for length in encoded.batch.lengths:
        assert length > max_length - longest or length == min(whole, length)
    runs = {tuple(chain(*pieces[i:j])) for i in range(len(pieces) + 1) for j in range(i, len(pieces) + 1)}
    assert all(tuple(ids[1:-1]) in runs for ids in sequences_of(encoded.batch.ids, encoded))


@pytest.mark.parametrize("kind", ["classification", "regression", "multi-label", "tagging"])
def test_decode_undoes_encode(tokenizer: Tokenizer, kind: str) -> None:
    task = task_of(kind)
    by_kind: dict[str, list[Any]] = {
        "classification": [text("paraphrase"), text("different"), text("paraphrase")],
        "regression": [text(2.5), text(0.0), text(4.0)],
        "multi-label": [text(("joy", "envy")), text(()), text(("fear",))],
        "tagging": [sentence(WORDS), sentence([]), sentence(["rain"] * 40)],
    }
    examples = by_kind[kind]
    encoded = encode(task, examples, tokenizer, 16)
    expected = gold(task, examples)
    assert decode(task, perfect(task, encoded), encoded, examples) == expected
    assert expected is not None


@pytest.mark.parametrize("name", ["mini-acceptability", "mini-ner", "mini-paraphrase", "mini-similarity"])
def test_built_in_examples_come_back_as_they_are(tokenizer: Tokenizer, name: str) -> None:
    task = load_task(name)
    examples: list[Any] = list(read_split(task, "dev", None))
    encoded = encode(task, examples, tokenizer, task.max_length)
    answers, expected = decode(task, perfect(task, encoded), encoded, examples), gold(task, examples)
    assert answers == (pytest.approx(expected, rel=1e-6) if task.kind == "regression" else expected)


@pytest.mark.parametrize("context", ["sentence", "document"])
def test_no_entity_of_conll_2003_is_lost(tokenizer: Tokenizer, data_folder: Path, context: Any) -> None:
    task = load_task("conll2003", context=context)
    examples: list[Any] = list(read_split(task, "dev", data_folder))
    encoded = encode(task, examples, tokenizer, 64)
    assert decode(task, perfect(task, encoded), encoded, examples) == gold(task, examples)
    assert len(encoded.words) == sum(len(example.words) for example in examples) > 50_000
    if context == "document":
        assert np.median(encoded.batch.lengths) > 60, "windows are not filled"
