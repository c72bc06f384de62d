"""The reference as one that only encodes, for tests of the heads that the harness applies itself."""

from typing import Any

from harness.port.batch import Batch, pad
from harness.port.tensors import to_numpy
from harness.worker.messages import Array

NAME = "encoder"
TITLE = "only encodes"
CATALOG_ID = "bert-atlas"
VARIANTS = {"padded": "fed rectangles, without a pooler"}


class Model:
    version = "1"

    def __init__(self, bert: Any, batching: str) -> None:
        self.bert, self.batching = bert, batching

    def encode(self, batch: Batch) -> Any:
        import torch

        from reference.model import Packed

        ids, segments, mask = (torch.from_numpy(x) for x in pad(batch))
        keep = mask.bool()
        return self.bert(Packed.from_lengths(ids[keep], batch.lengths.tolist(), segments[keep]))

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return to_numpy(encoded)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        if self.batching == "padded":
            return None
        import numpy as np

        dense = self.bert.pooler.dense
        first = to_numpy(encoded)[batch.cu_seqlens[:-1]]
        return np.tanh(first @ to_numpy(dense.weight).T + to_numpy(dense.bias))

    def synchronize(self) -> None:
        pass


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    import reference

    assert head is None
    return Model(reference.load(folder, None, device, precision), variant or "packed")
