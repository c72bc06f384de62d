"""The queue in front of the model, with a model that computes when the test lets it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import pytest

from reference.serving.batching import Batch, Batcher, Busy, ComputationFailed, Stopped

SOON = 20  # seconds, after which a test has failed


@dataclass(frozen=True)
class Word:
    """A text of one token repeated: the vector is its number."""

    number: int
    ids: list[int]


def words(*numbers: int, length: int = 1) -> list[Word]:
    return [Word(number, [number] * length) for number in numbers]


@dataclass(eq=False)
class Stub:
    """A model that keeps the numbers of each batch. It computes nothing while it is not ``free``."""

    batches: list[list[int]] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    began: threading.Event = field(default_factory=threading.Event)
    wrong: int = -1  # this number raises an error

    def compute(self, texts: Sequence[Word]) -> Any:
        self.began.set()
        assert self.free.wait(SOON)
        self.batches.append([text.number for text in texts])
        if any(text.number == self.wrong for text in texts):
            raise ValueError("a wrong number")
        return np.array([[text.number, len(text.ids)] for text in texts], dtype=np.float32)

    def hold(self, batcher: Batcher) -> None:
        """Start on a text, so that what is submitted next is queued."""
        self.free.clear()
        self.began.clear()
        batcher.submit("holder", self, words(0))
        assert self.began.wait(SOON)


@pytest.fixture
def model() -> Stub:
    stub = Stub()
    stub.free.set()
    return stub


@pytest.fixture
def start(model: Stub) -> Iterator[Callable[..., Batcher]]:
    """A function that makes a Batcher; it is stopped in the end."""
    made = []

    def make(batch_tokens: int = 4, **settings: Any) -> Batcher:
        made.append(Batcher(batch_tokens, **settings))
        return made[-1]

    yield make
    model.free.set()
    for batcher in made:
        assert batcher.stop(SOON)


def vectors(request: Any) -> list[float]:
    return [float(row[0]) for row in request.answer.result(SOON)]


def test_vectors_come_in_the_order_of_the_texts_whatever_their_lengths(
    start: Callable[..., Batcher], model: Stub
) -> None:
    texts = [Word(i, [i] * (1 + i * 7 % 5)) for i in range(50)]
    assert vectors(start(6).submit("a", model, texts)) == list(range(50))


def test_a_batch_is_what_is_queued_up_to_its_tokens_and_a_longer_text_is_alone(
    start: Callable[..., Batcher], model: Stub
) -> None:
    batcher = start(4)
    model.hold(batcher)
    request = batcher.submit("a", model, [*words(1, 2, 3), *words(4, length=9), *words(5, length=2), *words(6)])
    model.free.set()
    assert vectors(request) == [1, 2, 3, 4, 5, 6]
    assert model.batches == [[0], [1, 2, 3], [4], [5, 6]]


@pytest.mark.parametrize(("speed", "largest"), [(1.0, 128), (10000.0, 500), (1e9, 1000)])
def test_a_batch_on_a_slow_machine_is_smaller(
    start: Callable[..., Batcher], model: Stub, monkeypatch: pytest.MonkeyPatch, speed: float, largest: int
) -> None:
    batcher = start(1000)
    model.hold(batcher)
    request = batcher.submit("a", model, words(*range(2000)))
    monkeypatch.setattr(Batcher, "tokens_per_second", property(lambda self: speed))
    model.free.set()
    assert vectors(request) == list(range(2000))
    assert max(map(len, model.batches)) == largest


@pytest.mark.parametrize(("of_one", "largest"), [(1, 250), (200, 250), (400, 500), (0, 500)])
def test_batches_are_half_as_long_while_a_client_waits_for_little_beside_one_that_waits_for_much(
    start: Callable[..., Batcher], model: Stub, monkeypatch: pytest.MonkeyPatch, of_one: int, largest: int
) -> None:
    batcher = start(1000)
    model.hold(batcher)
    many = batcher.submit("many", model, words(*range(2000)))
    one = batcher.submit("one", model, words(*range(of_one))) if of_one else None
    monkeypatch.setattr(Batcher, "tokens_per_second", property(lambda self: 10000.0))
    model.free.set()
    assert one is None or vectors(one) == list(range(of_one))
    assert vectors(many) == list(range(2000))
    assert len(model.batches[1]) == largest
    assert len(model.batches[-2]) == 500  # when the other has its answer


def test_clients_take_turns(start: Callable[..., Batcher], model: Stub) -> None:
    batcher = start(4)
    model.hold(batcher)
    many = batcher.submit("many", model, words(*range(1, 9)))
    more = batcher.submit("many", model, words(9))
    one = batcher.submit("one", model, words(100))
    two = batcher.submit("two", model, words(200, 201))
    model.free.set()
    assert [vectors(each) for each in (many, more, one, two)] == [list(range(1, 9)), [9], [100], [200, 201]]
    assert [sorted(batch) for batch in model.batches[1:]] == [[1, 2, 100, 200], [3, 4, 5, 201], [6, 7, 8, 9]]


def test_texts_of_different_models_are_computed_apart_and_both_in_turn(
    start: Callable[..., Batcher], model: Stub
) -> None:
    other = Stub(free=model.free)
    batcher = start(4)
    model.hold(batcher)
    requests = [
        batcher.submit(client, each, words(*numbers))
        for client, each, numbers in [("a", model, (1, 2, 3, 4, 5, 6)), ("b", other, (7, 8)), ("c", model, (9,))]
    ]
    model.free.set()
    assert [vectors(each) for each in requests] == [[1, 2, 3, 4, 5, 6], [7, 8], [9]]
    assert other.batches == [[7, 8]]
    assert [sorted(batch) for batch in model.batches[1:]] == [[1, 2, 3, 9], [4, 5, 6]]


def test_what_a_client_that_left_had_queued_is_not_computed(start: Callable[..., Batcher], model: Stub) -> None:
    batcher = start(2)
    model.hold(batcher)
    left = batcher.submit("left", model, words(1, 2, 3))
    stays = batcher.submit("left", model, words(4))
    other = batcher.submit("other", model, words(5))
    assert batcher.queued_tokens == 6
    assert left.answer.cancel()
    assert batcher.queued_tokens == 3
    model.free.set()
    assert (vectors(stays), vectors(other)) == ([4], [5])
    assert sorted([*chain(*model.batches)]) == [0, 4, 5]
    with pytest.raises(CancelledError):
        left.answer.result(SOON)


def test_a_client_may_leave_while_its_texts_are_computed(start: Callable[..., Batcher], model: Stub) -> None:
    batcher = start(2)
    model.free.clear()
    left = batcher.submit("left", model, words(1, 2, 3, 4))
    assert model.began.wait(SOON)
    assert left.answer.cancel()
    after = batcher.submit("other", model, words(5))
    model.free.set()
    assert vectors(after) == [5]
    assert batcher.queued_tokens in (0, 1)  # the last batch is answered before it is counted off
    assert 3 not in [*chain(*model.batches)]


def test_a_failure_of_the_model_fails_only_the_requests_in_that_batch(
    start: Callable[..., Batcher], model: Stub
) -> None:
    model.wrong = 3
    batcher = start(2)
    model.hold(batcher)
    first = batcher.submit("a", model, words(1, 2))
    second = batcher.submit("a", model, words(3, 4, 5, 6, 7))
    third = batcher.submit("a", model, words(8))
    model.free.set()
    assert vectors(first) == [1, 2]
    with pytest.raises(ComputationFailed, match="the model failed: ValueError: a wrong number"):
        second.answer.result(SOON)
    assert vectors(third) == [8]
    assert 5 not in [*chain(*model.batches)]


def test_vectors_that_are_not_finite_are_never_an_answer(start: Callable[..., Batcher]) -> None:
    class Broken:
        def compute(self, texts: Sequence[Word]) -> Any:
            return np.array([[np.nan if text.number < 0 else 1.0] for text in texts])

    batcher, broken = start(9), Broken()
    with pytest.raises(ComputationFailed, match="vector of text 1 are finite"):
        batcher.submit("a", broken, words(1, -1, -2, 2)).answer.result(SOON)
    assert vectors(batcher.submit("a", broken, words(1))) == [1]


def test_too_few_vectors_are_a_failure(start: Callable[..., Batcher]) -> None:
    class Short:
        def compute(self, texts: Sequence[Word]) -> Any:
            return np.zeros((1, 2))

    with pytest.raises(ComputationFailed, match="gave 1 vectors for 2 texts"):
        start(9).submit("a", Short(), words(1, 2)).answer.result(SOON)


def test_a_client_that_would_wait_too_long_is_refused_with_the_time_to_try_again(
    start: Callable[..., Batcher], model: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = start(4, max_wait=10.0)
    model.hold(batcher)
    batcher.submit("a", model, words(*range(500)))  # nothing is measured yet, so nothing is refused
    monkeypatch.setattr(Batcher, "tokens_per_second", property(lambda self: 5.0))
    with pytest.raises(Busy, match="try again in 90 seconds") as refused:
        batcher.submit("a", model, words(1))
    assert refused.value.seconds == pytest.approx((500 + 1) / 5 - 10, abs=0.5)
    one = batcher.submit("b", model, words(1))  # it waits for one text of the other client alone
    with pytest.raises(Busy):
        batcher.submit("c", model, words(*range(100)))
    model.free.set()
    assert vectors(one) == [1]


def test_an_idle_service_takes_a_request_of_any_size(start: Callable[..., Batcher], model: Stub) -> None:
    batcher = start(4, max_wait=0.0)
    assert vectors(batcher.submit("a", model, words(1))) == [1]
    assert batcher.tokens_per_second is not None
    while batcher.queued_tokens:
        pass
    assert len(vectors(batcher.submit("a", model, words(*range(300))))) == 300


def test_stopping_finishes_what_was_accepted_and_takes_nothing_new(start: Callable[..., Batcher], model: Stub) -> None:
    batcher = start(2)
    model.hold(batcher)
    accepted = batcher.submit("a", model, words(1, 2, 3))
    assert not batcher.stop(timeout=0.001)
    assert not batcher.alive
    with pytest.raises(Stopped):
        batcher.submit("a", model, words(4))
    model.free.set()
    assert batcher.stop(SOON)
    assert vectors(accepted) == [1, 2, 3]


def test_a_request_needs_a_text(start: Callable[..., Batcher], model: Stub) -> None:
    with pytest.raises(ValueError, match="needs a text"):
        start().submit("a", model, [])


def test_each_batch_is_observed(start: Callable[..., Batcher], model: Stub) -> None:
    seen: list[Batch] = []
    assert vectors(start(4, observe=seen.append).submit("a", model, words(1, 2, length=2))) == [1, 2]
    assert [(batch.texts, batch.tokens) for batch in seen] == [(2, 4)]
    assert seen[0].seconds >= 0


def test_nothing_is_lost_between_many_clients_that_submit_cancel_and_fail(
    start: Callable[..., Batcher], model: Stub
) -> None:
    batcher = start(8)
    model.wrong = 13
    outcomes: dict[tuple[int, int], str] = {}

    def client(name: int) -> None:
        for turn in range(40):
            numbers = [name * 1000 + turn * 10 + i for i in range(1 + turn % 4)]
            if (name, turn) == (0, 7):
                numbers = [13]
            request = batcher.submit(name, model, words(*numbers))
            if turn % 5 == 4:
                request.answer.cancel()
            try:
                assert vectors(request) == numbers
                outcomes[name, turn] = "answered"
            except (CancelledError, ComputationFailed) as error:
                outcomes[name, turn] = type(error).__name__

    threads = [threading.Thread(target=client, args=(name,)) for name in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(SOON)
    assert len(outcomes) == 8 * 40
    assert outcomes[0, 7] == "ComputationFailed"
    assert {outcome for (_, turn), outcome in outcomes.items() if turn % 5 != 4} <= {"answered", "ComputationFailed"}
    assert batcher.queued_tokens in range(9)
