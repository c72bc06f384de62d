"""Counts and times of the service, in the text format of Prometheus."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

from reference.serving.batching import Batch, Batcher

__all__ = ["CONTENT_TYPE", "Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = tuple(2**n for n in range(0, 17))


class Metrics:
    """All metrics of one service. They say how much, never what: no text is in them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        of: dict[str, Any] = {"namespace": "bert_atlas", "registry": self._registry}
        self.requests = Counter("requests", "Requests answered", ["route", "status"], **of)
        self.request_seconds = Histogram("request_seconds", "Time to answer", ["route"], buckets=SECONDS, **of)
        self.queue_seconds = Histogram(
            "queue_seconds", "Time until the model took the first text", buckets=SECONDS, **of
        )
        self.texts = Counter("texts", "Texts that clients sent", **of)
        self.tokens = Counter("tokens", "Tokens that the model read of them", **of)
        self.cut = Counter("texts_cut", "Texts that were longer than the model reads", **of)
        self.left = Counter("clients_left", "Requests whose client left before the answer", **of)
        self.batch_texts = Histogram("batch_texts", "Texts computed together", buckets=SIZES, **of)
        self.batch_tokens = Histogram("batch_tokens", "Tokens computed together", buckets=SIZES, **of)
        self.batch_seconds = Histogram("batch_seconds", "Time to compute a batch", buckets=SECONDS, **of)
        self._queue = Gauge("queue_tokens", "Tokens that wait or are being computed", **of)
        self._speed = Gauge("tokens_per_second", "Speed of the model in recent batches", **of)

    def observe(self, batch: Batch) -> None:
        """Count a batch."""
        self.batch_texts.observe(batch.texts)
        self.batch_tokens.observe(batch.tokens)
        self.batch_seconds.observe(batch.seconds)

    def text(self, batcher: Batcher) -> bytes:
        """All metrics, with the present state of the queue."""
        self._queue.set(batcher.queued_tokens)
        self._speed.set(batcher.tokens_per_second or 0)
        return generate_latest(self._registry)
