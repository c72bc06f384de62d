"""Fine-tunes only those rows of the word embeddings that occur in the training data."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.port.batch import IntArray


class UsedWords:
    """A small table of the rows in use, which replaces the whole table during training.

    The other rows get no gradient, so AdamW only lets them decay, which can be done once at the end. This saves most of
    the optimizer's work for a small model with a large vocabulary.
    """

    def __init__(self, embeddings: Any, ids: IntArray) -> None:
        """``embeddings.word`` is the table, an ``nn.Embedding``; ``ids`` has all ids of the training data."""
        self.embeddings, self.whole, self.numbers = embeddings, embeddings.word, np.unique(ids)
        rows = self.whole.weight.detach()[torch.from_numpy(self.numbers)]
        self.used = nn.Embedding.from_pretrained(rows, freeze=False)
        self.decay = 1.0  # of the other rows, since the whole table was last in use

    def renumber(self, ids: IntArray) -> IntArray:
        """Their rows in the small table."""
        return np.searchsorted(self.numbers, ids)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Use the small table inside the block; afterwards the whole one, updated with the trained rows."""
        self.embeddings.word = self.used
        try:
            yield
        finally:
            self.embeddings.word = self.whole
            with torch.no_grad():
                self.whole.weight.mul_(self.decay)
                self.whole.weight[torch.from_numpy(self.numbers)] = self.used.weight
            self.decay = 1.0
