"""Work done together: its order, its errors, and that it stops."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.measure.client import Worker
from harness.measure.concurrent import AT_ONCE, together
from harness.registry.implementations import describe

STUBS = Path(__file__).parents[1] / "stubs"


def test_results_come_in_order_from_works_that_are_under_way_at_once() -> None:
    meet = threading.Barrier(AT_ONCE, timeout=10)  # nobody passes alone

    def work(number: int) -> Iterator[tuple[int, int]]:
        meet.wait()
        time.sleep(0.05 * (number % AT_ONCE == 0))  # the first is the slower
        yield number, 1
        yield number, 2

    works = [lambda number=number: work(number) for number in range(2 * AT_ONCE)]
    assert list(together(works)) == [(number, part) for number in range(2 * AT_ONCE) for part in (1, 2)]
    assert list(together([])) == []


def test_an_error_is_raised_in_its_turn_and_what_has_not_begun_never_does() -> None:
    begun = []

    def work(number: int) -> Iterator[int]:
        begun.append(number)
        yield number
        if number == 1:
            raise OSError("the disk is full")
        time.sleep(0.2)

    results = together([lambda number=number: work(number) for number in range(50)])
    assert next(results) == 0
    with pytest.raises(OSError, match="the disk is full"):
        list(results)
    assert len(begun) < 50


def test_when_the_reader_stops_the_step_at_hand_is_finished_and_no_other_taken() -> None:
    taken, ended = [], []

    def work(number: int) -> Iterator[int]:
        try:
            for step in range(100):
                time.sleep(0.01)
                taken.append((number, step))
                yield step
        finally:
            ended.append(number)

    def quick() -> Iterator[int]:
        yield -1

    results = together([quick, lambda: work(1), lambda: work(2)])
    assert next(results) == -1
    results.close()  # type: ignore[attr-defined]
    assert set(ended) <= {1, 2}
    assert len(taken) < 50


def test_ctrl_c_does_not_wait_for_workers_that_are_under_way_together() -> None:
    begun = threading.Event()

    def work() -> Iterator[None]:
        with Worker(describe(STUBS / "misbehaving.py")[0]) as worker:
            begun.set()
            worker.load(Path("sleep"), None, "cpu", "fp32", None)
        yield

    def interrupted() -> Iterator[None]:
        begun.wait()
        raise KeyboardInterrupt
        yield

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(together([interrupted, work]))
    assert time.monotonic() - begin < 20


def test_ctrl_c_does_not_wait_for_work_that_has_not_begun() -> None:
    def interrupted() -> Iterator[None]:
        raise KeyboardInterrupt
        yield

    def later() -> Iterator[int]:
        time.sleep(0.2)
        yield 1

    outcome: list[BaseException] = []

    def read() -> None:
        try:
            list(together([interrupted, *[later] * 20]))
        except KeyboardInterrupt as error:
            outcome.append(error)

    reader = threading.Thread(target=read, daemon=True)  # so that a wait without end fails this test alone
    reader.start()
    reader.join(20)
    assert outcome
