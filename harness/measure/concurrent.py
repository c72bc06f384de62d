"""Pieces of work that are under way at the same time: most of what an implementation needs is done on one core."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event
from typing import TypeVar

from harness.measure.client import interrupt_all

R = TypeVar("R")
AT_ONCE = 2  # two frameworks fit the memory of most machines


def together(works: Sequence[Callable[[], Iterable[R]]]) -> Iterator[R]:
    """What each piece of work gives, in order. Nothing of this is for timing.

    Where one raises, or the reader stops, no further step is taken: what has begun gives what it is at and ends. Ctrl-C
    does not wait for that: workers are ended, in the midst of what they do.
    """
    stop = Event()

    def done(work: Callable[[], Iterable[R]]) -> list[R]:
        results = []
        for each in work():
            results.append(each)
            if stop.is_set():
                break
        return results

    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = [pool.submit(done, work) for work in works]
        try:
            for each in begun:
                yield from each.result()
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            while wait(begun, timeout=0.1).not_done:  # again: one may just have been started
                interrupt_all()
            raise
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
