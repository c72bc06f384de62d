"""Ragged batches: packing, padding, choosing, and the orders in which sequences are fed."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.port.batch import Batch, IntArray, by_tokens, from_lists, in_order, pad, shuffled_by_length, unpad

IDS = [[101, 7, 102], [101, 102], [101, 8, 9, 10, 102]]
SEGMENTS = [[0, 0, 0], [0, 0], [0, 0, 1, 1, 1]]
LENGTHS = st.lists(st.integers(1, 300), max_size=200).map(lambda lengths: np.array(lengths, dtype=np.int64))


@pytest.fixture
def batch() -> Batch:
    return from_lists(IDS, SEGMENTS)


@pytest.fixture
def empty() -> Batch:
    return from_lists([], [])


def sequences_of(batch: Batch) -> list[list[int]]:
    return [ids.tolist() for ids in np.split(batch.ids, batch.cu_seqlens[1:-1])]


def test_packed_end_to_end(batch: Batch) -> None:
    assert batch.cu_seqlens.tolist() == [0, 3, 5, 10]
    assert batch.lengths.tolist() == [3, 2, 5]
    assert sequences_of(batch) == IDS
    assert batch.segments.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert {array.dtype for array in batch} == {np.dtype(np.int64)}


def test_pad_fills_up_on_the_right(batch: Batch) -> None:
    ids, segments, mask = pad(batch)
    assert ids.tolist() == [[101, 7, 102, 0, 0], [101, 102, 0, 0, 0], [101, 8, 9, 10, 102]]
    assert segments.tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]


def test_select_takes_sequences_in_the_order_asked(batch: Batch) -> None:
    chosen = batch.select(np.array([2, 0]))
    assert sequences_of(chosen) == [IDS[2], IDS[0]]
    assert chosen.segments.tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    assert chosen.cu_seqlens.tolist() == [0, 5, 8]
    assert batch.tokens_of(np.array([1, 0])).tolist() == [3, 4, 0, 1, 2]


def test_nothing_can_be_packed_padded_and_selected(batch: Batch, empty: Batch) -> None:
    assert empty.cu_seqlens.tolist() == [0]
    assert [array.shape for array in pad(empty)] == [(0, 0)] * 3
    chosen = batch.select(np.array([], dtype=np.int64))
    assert [array.tolist() for array in chosen] == [[], [], [0]]
    assert chosen.ids.dtype == chosen.cu_seqlens.dtype == np.int64


@given(st.lists(st.lists(st.integers(0, 30521), min_size=1, max_size=20), min_size=1, max_size=20))
def test_padding_holds_the_packed_tokens_where_the_mask_is_one(ids: list[list[int]]) -> None:
    batch = from_lists(ids, [[1] * len(sequence) for sequence in ids])
    padded, segments, mask = pad(batch)
    assert padded[mask == 1].tolist() == batch.ids.tolist()
    assert mask.sum(1).tolist() == batch.lengths.tolist()
    assert not padded[mask == 0].any()
    assert (segments == mask).all()


@given(st.lists(st.integers(1, 20), max_size=20), st.integers(0, 5))
def test_unpad_is_the_inverse_of_pad_whatever_more_is_padded(lengths: list[int], more: int) -> None:
    batch = from_lists([list(range(1, n + 1)) for n in lengths], [[0] * n for n in lengths])
    ids, _, _ = pad(batch)
    assert unpad(ids, batch).tolist() == batch.ids.tolist()
    states = np.pad(np.stack([ids, -ids], axis=-1), ((0, 0), (0, more), (0, 0)), constant_values=7)
    assert unpad(states, batch).tolist() == [[number, -number] for number in batch.ids]


def test_what_is_shorter_than_the_batch_cannot_be_unpadded(batch: Batch) -> None:
    with pytest.raises(IndexError):
        unpad(pad(batch)[0][:, :-1], batch)


@given(LENGTHS, st.integers(1, 40))
def test_in_order(lengths: IntArray, size: int) -> None:
    batches = list(in_order(lengths, size))
    assert [i for batch in batches for i in batch] == list(range(len(lengths)))
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(0 < len(batch) <= size for batch in batches)


@given(LENGTHS, st.integers(1, 1000))
def test_by_tokens_keeps_the_budget_and_leaves_nothing_out(lengths: IntArray, budget: int) -> None:
    batches = list(by_tokens(lengths, budget))
    order = [i for batch in batches for i in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert lengths[order].tolist() == sorted(lengths, reverse=True)
    for batch in batches:
        assert lengths[batch].sum() <= budget or len(batch) == 1
    for batch, following in pairwise(batches):
        assert lengths[batch].sum() + lengths[following[0]] > budget, "the next sequence would have fitted"


@given(LENGTHS, st.integers(1, 40), st.integers(0, 2**32))
def test_an_epoch_has_every_sequence_once_and_depends_on_the_seed_alone(
    lengths: IntArray, size: int, seed: int
) -> None:
    batches = shuffled_by_length(lengths, size, np.random.default_rng(seed))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size), "the schedule of the learning rate counts on this"
    assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1)
    again = shuffled_by_length(lengths, size, np.random.default_rng(seed))
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in again]


def test_epochs_differ_in_content_and_order() -> None:
    lengths, generator = np.arange(1, 1001), np.random.default_rng(0)
    first, second = (shuffled_by_length(lengths, 10, generator) for _ in range(2))
    assert {tuple(sorted(batch)) for batch in first}.isdisjoint(tuple(sorted(batch)) for batch in second)
    means = [lengths[batch].mean() for batch in first]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3, "batches come in order of length"


def test_batches_are_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 129, 1024)
    batches = shuffled_by_length(lengths, 16, np.random.default_rng(1))
    filled = lengths.sum() / sum(lengths[batch].max() * len(batch) for batch in batches)
    assert filled > 0.85


@pytest.mark.parametrize("orders", [in_order, by_tokens])
def test_no_sequences_make_no_batches(orders: Callable[[IntArray, int], Iterator[IntArray]]) -> None:
    assert list(orders(np.array([], dtype=np.int64), 8)) == []
    assert shuffled_by_length(np.array([], dtype=np.int64), 8, np.random.default_rng(0)) == []
