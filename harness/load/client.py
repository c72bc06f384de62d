"""Clients of a service over HTTP: some that ask again as soon as they have their answer, or arrivals by a schedule."""

import asyncio
import json
import time
from collections import deque
from itertools import cycle
from typing import NamedTuple

import aiohttp
import numpy as np

from harness.errors import Failure
from harness.measure.scenarios import Floats

SECONDS = 60.0  # after which a request without an answer has failed


class Closed(NamedTuple):
    """What clients saw that wait for their answers."""

    latencies: Floats  # of each request, in seconds
    seconds: float  # from the first request to the last answer


def closed(url: str, texts: list[str], clients: int, seconds: float, together: int = 1) -> Closed:
    """So many clients ask for ``together`` texts each, again and again, for this long. Failure if one is refused."""
    return asyncio.run(_closed(url, texts, clients, seconds, together))


def scheduled(url: str, texts: list[str], arrivals: Floats, bound: float, allowed: int) -> Floats:
    """The latency of each request, from its time in ``arrivals`` on, whatever is slow.

    A request that is refused counts as one that exceeds the bound. Stops early, with fewer latencies, once more than
    ``allowed`` exceed it.
    """
    return asyncio.run(_scheduled(url, texts, arrivals, bound, allowed))


def _bodies(texts: list[str], together: int) -> "cycle[bytes]":
    parts = [texts[i : i + together] for i in range(0, len(texts), together)]
    return cycle([json.dumps({"input": part}).encode() for part in parts if len(part) == min(together, len(texts))])


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=SECONDS),
        headers={"content-type": "application/json"},
    )


async def _closed(url: str, texts: list[str], clients: int, seconds: float, together: int) -> Closed:
    bodies, latencies = _bodies(texts, together), list[float]()

    async def client(session: aiohttp.ClientSession, until: float) -> None:
        while time.perf_counter() < until:
            start = time.perf_counter()
            async with session.post(url, data=next(bodies)) as answer:
                said = await answer.read()
                if answer.status != 200:
                    raise Failure(f"{url} answered {answer.status}: {said[:200].decode('utf-8', 'replace')}")
            latencies.append(time.perf_counter() - start)

    async with _session() as session:
        start = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(clients):
                    group.create_task(client(session, start + seconds))
        except ExceptionGroup as errors:
            first = errors.exceptions[0]
            raise first if isinstance(first, Failure) else Failure(f"{url}: {first or type(first).__name__}") from first
        return Closed(np.array(latencies), time.perf_counter() - start)


async def _scheduled(url: str, texts: list[str], arrivals: Floats, bound: float, allowed: int) -> Floats:
    bodies, latencies = _bodies(texts, 1), np.full(len(arrivals), np.nan)
    waiting: deque[int] = deque()  # in order of arrival; the first has waited longest
    over = 0

    async def ask(session: aiohttp.ClientSession, number: int, start: float) -> None:
        nonlocal over
        good = False
        try:
            async with session.post(url, data=next(bodies)) as answer:
                await answer.read()
                good = answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            pass
        taken = time.perf_counter() - start - arrivals[number]
        latencies[number] = taken if good else max(taken, 2 * bound)
        over += latencies[number] > bound

    async with _session() as session:
        tasks, start = set[asyncio.Task[None]](), time.perf_counter()
        for number, arrival in enumerate(arrivals):
            await asyncio.sleep(max(0.0, arrival - (time.perf_counter() - start)))
            while waiting and not np.isnan(latencies[waiting[0]]):
                waiting.popleft()
            late = time.perf_counter() - start - bound
            if over + sum(arrivals[each] < late for each in waiting if np.isnan(latencies[each])) > allowed:
                break
            waiting.append(number)
            task = asyncio.create_task(ask(session, number, start))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        else:
            await asyncio.gather(*tasks)
            return latencies
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    answered = latencies[~np.isnan(latencies)]
    return answered if len(answered) else np.array([2 * bound])
