"""Work that is done at the same time: most of what an implementation does keeps one core busy."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

from harness.measure.client import interrupt_all

R = TypeVar("R")
AT_ONCE = 2  # two frameworks fit into the memory of most machines


def together(works: Sequence[Callable[[], Iterable[R]]]) -> Iterator[R]:
    """The results of several pieces of work, AT_ONCE at a time, in the order of ``works``. Nothing here is timed.

    If one raises, or the reader stops, no new step begins: what is under way finishes its step and ends. Ctrl-C does
    not wait for that but kills the workers.
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
            # Not ``concurrent.futures.wait``, which waits for cancelled work without end.
            while not all(work.done() for work in begun):  # repeatedly, because a worker may just have been started
                interrupt_all()
                time.sleep(0.1)
            raise
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
