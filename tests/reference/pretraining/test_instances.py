"""Pairs, order and masks: their statistics, and that they are functions of (seed, epoch, index) alone."""

from dataclasses import replace

import numpy as np
import pytest

from reference.errors import PretrainingError
from reference.pretraining.corpus import Corpus, Split
from reference.pretraining.instances import Instances
from reference.pretraining.masking import vocabulary_of
from reference.pretraining.pairs import EXACT, GOOGLE, epoch_pairs, epoch_spans, with_length

LENGTH = 48


def made_split(documents: int = 300, seed: int = 0) -> Split:
    """Documents of 1 to 30 sentences of 3 to 60 pieces; a piece is the number of its document."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 31, documents)
    lengths = rng.integers(3, 61, counts.sum())
    sentences = np.concatenate([[0], np.cumsum(lengths)])
    borders = np.concatenate([[0], np.cumsum(counts)])
    pieces = np.repeat(np.repeat(np.arange(documents), counts), lengths).astype(np.uint16)
    return Split(pieces, sentences, borders, None)


def instances(corpus: Corpus, next_sentence: str = "exact", whole_words: bool = False, seed: int = 1) -> Instances:
    return Instances(corpus.train, vocabulary_of(corpus.vocabulary), LENGTH, next_sentence, whole_words, seed)


def test_exactly_half_of_the_pairs_are_random() -> None:
    pairs = epoch_pairs(made_split(), with_length(EXACT, 128), seed=3, epoch=0)
    assert pairs[:, 4].mean() == 0.5
    of_google = epoch_pairs(made_split(), with_length(GOOGLE, 128), seed=3, epoch=0)
    assert of_google[:, 4].mean() > 0.52  # sentences alone in their chunk get a random partner


@pytest.mark.parametrize("rules", [EXACT, GOOGLE], ids=["exact", "google"])
def test_b_follows_a_or_is_of_another_document(rules) -> None:  # type: ignore[no-untyped-def]
    split = made_split()
    pairs = epoch_pairs(split, with_length(rules, 128), seed=3, epoch=0)
    lengths = pairs[:, 1] - pairs[:, 0], pairs[:, 3] - pairs[:, 2]
    assert (np.minimum(*lengths) >= 1).all()
    assert (sum(lengths) <= 125).all()
    same = split.pieces[pairs[:, 0]] == split.pieces[pairs[:, 2]]
    assert (same == (pairs[:, 4] == 0)).all()
    assert (pairs[same, 2] >= pairs[same, 1]).all()
    assert (sum(lengths) == 125).mean() > 0.3  # most chunks fill the room


def test_spans_cover_every_piece_once() -> None:
    split = made_split()
    spans = epoch_spans(split, with_length(EXACT, 64), seed=3, epoch=0)
    assert (spans[:, 1] - spans[:, 0] <= 62).all()
    covered = np.zeros(len(split.pieces), int)
    for start, end, *_ in spans:
        covered[start:end] += 1
        assert len(set(split.pieces[start:end].tolist())) == 1
    assert (covered == 1).all()


def test_epochs_and_seeds_differ_and_repeat() -> None:
    split, rules = made_split(60), with_length(EXACT, 64)
    first = epoch_pairs(split, rules, 1, 0)
    assert np.array_equal(first, epoch_pairs(split, rules, 1, 0))
    for seed, epoch in ((1, 1), (2, 0)):
        assert not np.array_equal(first, epoch_pairs(split, rules, seed, epoch)[: len(first)])


def test_one_document_has_no_random_partner() -> None:
    with pytest.raises(PretrainingError, match="blank lines"):
        epoch_pairs(made_split(1), EXACT, 0, 0)
    assert len(epoch_pairs(made_split(1), replace(EXACT, same_document=True), 0, 0)) > 0


@pytest.mark.parametrize("next_sentence", ["exact", "google", "none"])
@pytest.mark.parametrize("whole_words", [False, True])
def test_a_batch_does_not_depend_on_its_neighbours(corpus: Corpus, next_sentence: str, whole_words: bool) -> None:
    made = instances(corpus, next_sentence, whole_words)
    together = made.batch(2, np.arange(20), 0.15)
    again = instances(corpus, next_sentence, whole_words)
    ends, starts = np.cumsum(together.lengths), np.cumsum(together.lengths) - together.lengths
    for index in (0, 7, 19):
        alone = again.batch(2, np.array([index]), 0.15)
        part = slice(starts[index], ends[index])
        assert np.array_equal(alone.ids, together.ids[part])
        assert np.array_equal(alone.segments, together.segments[part])
        inside = (together.chosen >= part.start) & (together.chosen < part.stop)
        assert np.array_equal(alone.chosen + part.start, together.chosen[inside])
        assert np.array_equal(alone.labels, together.labels[inside])
        assert alone.is_random[0] == together.is_random[index]


def test_masks_change_from_epoch_to_epoch_and_with_the_seed(corpus: Corpus) -> None:
    batches = [
        instances(corpus, seed=seed).batch(epoch, np.arange(10), 0.15) for seed, epoch in ((1, 0), (1, 1), (2, 0))
    ]
    assert len({each.ids.tobytes() for each in batches}) == 3


def test_fifteen_percent_are_chosen_and_replaced_as_the_paper_says(corpus: Corpus) -> None:
    made = instances(corpus)
    vocabulary = made.vocabulary
    masked = other = kept = total = 0
    for epoch in range(30):
        count = len(made.pairs(epoch))
        batch = made.batch(epoch, np.arange(count), 0.15)
        special = np.isin(batch.ids[batch.chosen], [vocabulary.cls_id, vocabulary.sep_id])
        assert not special.any()
        expected = np.maximum(1, np.round(batch.lengths * 0.15)).sum()
        assert len(batch.chosen) == expected == len(set(batch.chosen.tolist()))
        now = batch.ids[batch.chosen]
        masked += int((now == vocabulary.mask_id).sum())
        kept += int((now == batch.labels).sum())
        other += int(((now != batch.labels) & (now != vocabulary.mask_id)).sum())
        total += len(now)
    assert abs(masked / total - 0.8) < 4 * (0.16 / total) ** 0.5
    assert abs(kept / total - 0.1) < 5 * (0.09 / total) ** 0.5
    assert abs(other / total - 0.1) < 5 * (0.09 / total) ** 0.5


def test_every_place_is_equally_likely(corpus: Corpus) -> None:
    made = instances(corpus)
    lengths = made.lengths(0)
    index = int(np.argmax(lengths))
    counts = np.zeros(lengths[index])
    for seed in range(400):
        made.seed = seed
        counts[made.batch(0, np.array([index]), 0.15).chosen] += 1
    candidates = counts[counts > 0]
    assert len(candidates) == lengths[index] - 3
    assert abs(candidates - candidates.mean()).max() < 5 * candidates.mean() ** 0.5


def test_random_pieces_are_real_ones_unless_asked_otherwise(corpus: Corpus) -> None:
    assert not {0, 5, 100, 101, 102, 103} & set(vocabulary_of(corpus.vocabulary).replacements.tolist())
    assert {0, 5, 103} <= set(vocabulary_of(corpus.vocabulary, any_piece=True).replacements.tolist())


def test_whole_words(corpus: Corpus) -> None:
    """A chosen piece's whole word is chosen, and the count is kept as far as words allow."""
    made = instances(corpus, whole_words=True)
    whole = made.batch(0, np.arange(40), 0.15)
    original = whole.ids.copy()
    original[whole.chosen] = whole.labels
    continues = made.vocabulary.continues[original]
    chosen = np.isin(np.arange(len(original)), whole.chosen)
    assert continues.any()
    assert (chosen[1:] == chosen[:-1])[continues[1:]].all()
    assert len(whole.chosen) <= np.maximum(1, np.round(whole.lengths * 0.15)).sum()


def test_chinese_words_of_a_segmenter(corpus: Corpus) -> None:
    """Characters in pairs are words: they are chosen in pairs, though no piece begins with ##."""
    split = made_split(20)
    pairs_of = np.concatenate([np.arange(n) % 2 for n in np.diff(split.sentences)]).astype(np.uint8)
    made = Instances(
        replace(split, continues=pairs_of, pieces=split.pieces + 110),
        vocabulary_of(corpus.vocabulary),
        64,
        "none",
        True,
        0,
    )
    batch = made.batch(0, np.arange(30), 0.3)
    begins = {int(start) for start in split.sentences}
    assert begins
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[-5], batch.chosen])) != 1))
    assert (runs % 2 == 0).mean() > 0.8  # odd ones: at a sentence's odd end, or where a span was cut
