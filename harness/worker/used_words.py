"""Fine-tuning of a table of word embeddings: only of the rows that the training data asks for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.port.batch import IntArray


class UsedWords:
    """A small table of these rows, which stands in for the whole while a model is trained.

    All other rows get no gradient, so that AdamW does nothing to them but let them decay: that can be done once, at
    the end. It saves most of the optimizer's work where the model is small and its vocabulary is not.
    """

    def __init__(self, embeddings: Any, ids: IntArray) -> None:
        """``embeddings`` holds the table as ``word``, an ``nn.Embedding``; ``ids`` are all that will be asked for."""
        self.embeddings, self.whole, self.numbers = embeddings, embeddings.word, np.unique(ids)
        rows = self.whole.weight.detach()[torch.from_numpy(self.numbers)]
        self.used = nn.Embedding.from_pretrained(rows, freeze=False)
        self.decay = 1.0  # of the other rows, since the whole table was last in place

    def renumber(self, ids: IntArray) -> IntArray:
        """Where these are in the small table."""
        return np.searchsorted(self.numbers, ids)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Meanwhile the model has the small table; afterwards the whole one again, with what was learned."""
        self.embeddings.word = self.used
        try:
            yield
        finally:
            self.embeddings.word = self.whole
            with torch.no_grad():
                self.whole.weight.mul_(self.decay)
                self.whole.weight[torch.from_numpy(self.numbers)] = self.used.weight
            self.decay = 1.0
