"""The queue in front of the model: one thread computes, and takes what is queued whenever it is free.

A batch is a number of tokens, not of texts, and nothing waits for a batch to fill. Clients take turns, one text each,
so that a client with a single text never waits for all texts of another client.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BATCH_SECONDS = 0.05  # that a batch may take, so that a text which comes then need not wait long
LEAST_TOKENS = 128  # of a batch on a slow machine; smaller ones would be slower for each token
MEMORY = 0.9  # how much an earlier batch counts in the measured speed, relative to the one after it


class Text(Protocol):
    """A tokenized text."""

    @property
    def ids(self) -> Sequence[int]: ...


class Computes(Protocol):
    """What turns tokenized texts into arrays, one for each, such as vectors [texts, size].

    Texts of one object are computed together.
    """

    def compute(self, texts: Sequence[Any]) -> NDArray[Any] | Sequence[NDArray[Any]]: ...


class Busy(Exception):
    """More is queued than the client would wait for. ``seconds``: when to try again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too much is queued; try again in {seconds:.0f} seconds")
        self.seconds = seconds


class Stopped(Exception):
    """The service is stopping, and takes no more work."""


class ComputationFailed(Exception):
    """The model failed on a batch in which texts of this request were."""


@dataclass(eq=False)
class Request:
    """The texts of one client that get their vectors together."""

    client: Hashable
    model: Computes
    texts: Sequence[Text]
    answer: Future[list[NDArray[Any]]] = field(default_factory=Future)  # cancel it when the client has left
    queued_at: float = field(default_factory=time.monotonic)
    started_at: float | None = None  # when the first of its texts was taken
    taken: int = 0  # texts that left the queue
    rows: list[NDArray[Any] | None] = field(default_factory=list)
    missing: int = 0


@dataclass(frozen=True)
class Batch:
    """What was computed at once."""

    texts: int
    tokens: int
    seconds: float


Part = tuple[Request, int]  # a text, by its number in the request


class Batcher:
    """Owns the thread in which the model computes.

    ``batch_tokens`` bounds the tokens of a batch, and so does BATCH_SECONDS at the speed measured so far; a longer text
    is computed alone. Batches are half as long while some clients wait for little and others for much: those of little
    then have their answers sooner. A request is refused with ``Busy``
    if its client would wait longer than ``max_wait`` seconds before the model gets to its last text, as the speed
    measured so far predicts. Before the first batch nothing is refused. ``observe`` is called after each batch, in the
    model's thread.
    """

    def __init__(
        self, batch_tokens: int, max_wait: float = 30.0, observe: Callable[[Batch], None] | None = None
    ) -> None:
        self.batch_tokens, self.max_wait, self._observe = batch_tokens, max_wait, observe
        self._clients: OrderedDict[Hashable, deque[Request]] = OrderedDict()  # the next in turn is first
        self._tokens: dict[Hashable, int] = {}  # queued, by client
        self._computing = 0  # tokens of the batch that is being computed
        self._speed = (0.0, 0.0)  # tokens and seconds of batches, recent ones count more
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests are taken and computed."""
        return self._thread.is_alive() and not self._stopping

    @property
    def queued_tokens(self) -> int:
        """Tokens that wait, and those that are being computed."""
        with self._changed:
            return sum(self._tokens.values()) + self._computing

    @property
    def tokens_per_second(self) -> float | None:
        """The model's speed; None before the first batch."""
        tokens, seconds = self._speed
        return tokens / seconds if seconds else None

    def submit(self, client: Hashable, model: Computes, texts: Sequence[Text]) -> Request:
        """Queue the texts of a request. Its ``answer`` becomes the array of each text, in their order.

        The answer fails with ComputationFailed if the model fails. If it is cancelled, what has not been computed
        leaves the queue. Raises Busy or Stopped, and ValueError for a request without texts.
        """
        if not texts:
            raise ValueError("a request needs a text")
        request = Request(client, model, texts, rows=[None] * len(texts), missing=len(texts))
        tokens = sum(len(text.ids) for text in texts)
        with self._changed:
            if not self.alive:
                raise Stopped("the service is stopping")
            wait = self._wait(client, tokens)
            if wait > self.max_wait:
                raise Busy(max(1.0, wait - self.max_wait))
            self._clients.setdefault(client, deque()).append(request)
            self._tokens[client] = self._tokens.get(client, 0) + tokens
            self._changed.notify()
        request.answer.add_done_callback(lambda answer: self._drop(request) if answer.cancelled() else None)
        return request

    def stop(self, timeout: float | None = None) -> bool:
        """Take no more requests, and compute those that are queued; False if that takes longer than ``timeout``."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- the queue; all of these with the lock --

    def _wait(self, client: Hashable, tokens: int) -> float:
        """Seconds that a new request of so many tokens waits before the model gets to it.

        Of each other client at most as many tokens come first as this client then has queued.
        """
        speed = self.tokens_per_second
        if speed is None:
            return 0.0
        own = self._tokens.get(client, 0)
        others = sum(min(own + tokens, queued) for each, queued in self._tokens.items() if each != client)
        return (self._computing + own + others) / speed

    def _drop(self, request: Request) -> None:
        """Take the rest of a request out of the queue."""
        with self._changed:
            queue = self._clients.get(request.client)
            if queue is not None and request in queue:
                queue.remove(request)
                self._forget(request.client, sum(len(text.ids) for text in request.texts[request.taken :]))

    def _forget(self, client: Hashable, tokens: int) -> None:
        """Count tokens that left the queue, and end the turns of a client that has no more."""
        self._tokens[client] -= tokens
        if not self._clients[client]:
            del self._clients[client], self._tokens[client]

    def _room(self) -> float:
        """The tokens that the next batch may have."""
        speed = self.tokens_per_second
        room = self.batch_tokens if speed is None else min(self.batch_tokens, max(LEAST_TOKENS, BATCH_SECONDS * speed))
        little, much = min(self._tokens.values()), max(self._tokens.values())
        return max(min(LEAST_TOKENS, room), room / 2) if little <= room / 2 and much > room else room

    def _take(self) -> list[Part]:
        """The next batch: one text of each client in turn, of those whose next text has the same model."""
        batch: list[Part] = []
        room = self._room()
        model: Computes | None = None
        passed: set[Hashable] = set()  # clients whose next text needs another model
        while len(passed) < len(self._clients):
            client, queue = next(iter(self._clients.items()))
            request = queue[0]
            if model is not None and request.model is not model:
                passed.add(client)
                self._clients.move_to_end(client)
                continue
            length = len(request.texts[request.taken].ids)
            if batch and length > room:
                break
            model = request.model
            room -= length
            batch.append((request, request.taken))
            request.started_at = request.started_at or time.monotonic()
            request.taken += 1
            self._clients.move_to_end(client)
            if request.taken == len(request.texts):
                queue.popleft()
            self._forget(client, length)
        for client in reversed(list(self._clients)):  # those that were passed over come first the next time
            if client in passed:
                self._clients.move_to_end(client, last=False)
        return batch

    # -- the model's thread --

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._clients or self._stopping)
                if not self._clients:
                    return
                batch = self._take()
                self._computing = sum(len(request.texts[i].ids) for request, i in batch)
            self._compute(batch)
            with self._changed:
                self._computing = 0

    def _compute(self, batch: list[Part]) -> None:
        """Compute a batch, and answer the requests that are complete then."""
        batch.sort(key=lambda part: -len(part[0].texts[part[1]].ids))  # neighbours of one length share kernels
        start = time.monotonic()
        try:
            rows = batch[0][0].model.compute([request.texts[i] for request, i in batch])
            if len(rows) != len(batch):
                raise RuntimeError(f"the model gave {len(rows)} vectors for {len(batch)} texts")
            finite = [bool(np.isfinite(row).all()) for row in rows]
        except BaseException as error:  # whatever it is, the thread goes on for the other clients
            for request in {id(request): request for request, _ in batch}.values():
                self._fail(request, f"the model failed: {type(error).__name__}: {error}")
            return
        done = Batch(len(batch), self._computing, time.monotonic() - start)
        self._speed = (self._speed[0] * MEMORY + done.tokens, self._speed[1] * MEMORY + max(done.seconds, 1e-9))
        if self._observe is not None:
            self._observe(done)
        for (request, i), row, good in zip(batch, rows, finite, strict=True):
            if not good:
                self._fail(request, f"not all numbers of the vector of text {i} are finite")
            request.rows[i] = row
            request.missing -= 1
            if not request.missing and _unanswered(request):
                request.answer.set_result(request.rows)  # type: ignore[arg-type]

    def _fail(self, request: Request, message: str) -> None:
        self._drop(request)
        if _unanswered(request):
            request.answer.set_exception(ComputationFailed(message))


def _unanswered(request: Request) -> bool:
    """Whether a request still waits for its answer; from then on it cannot be cancelled."""
    return not request.answer.done() and request.answer.set_running_or_notify_cancel()
