"""A fine-tuned model with its head, as the queue and the wires use it: labels with probabilities, or a score."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import reference
from reference.encoder import UNCUT, Tokens
from reference.model import Packed
from reference.tokenizer import Tokenizer

KINDS = ("classification", "regression", "multi-label")  # what is answered; ``reference.heads`` has their heads


class Classifier:
    """A folder with a head. ``name`` is what clients call it; ``positive`` is the label that counts as relevant.

    Raises ValueError for weights, device or precision that cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        kind: str,
        labels: Sequence[str],
        *,
        pairs: bool,
        max_length: int,
        positive: str | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"a model of kind {kind} is not served; {', '.join(KINDS)} are")
        self.name, self.kind, self.labels, self.pairs, self.max_length = name, kind, tuple(labels), pairs, max_length
        self.positive = positive
        self.module: Any = reference.load(folder, kind, device, precision, frozen=True)
        self.tokenizer = Tokenizer.from_folder(folder)
        self.device, self.precision = str(self.module.device_used), str(self.module.precision_used)

    def tokens(self, inputs: Sequence[tuple[str, ...]]) -> list[Tokens]:
        """What the model reads of each text or pair: at most ``max_length`` tokens, the longer text cut first."""
        firsts = [texts[0] for texts in inputs]
        seconds = [texts[1] for texts in inputs] if self.pairs else None
        whole = self.tokenizer.encode_batch(firsts, seconds, UNCUT)
        read = self.tokenizer.encode_batch(firsts, seconds, self.max_length)
        return [Tokens(r.ids, r.segments, len(w.ids) - len(r.ids)) for w, r in zip(whole, read, strict=True)]

    @torch.inference_mode()
    def compute(self, texts: Sequence[Tokens]) -> NDArray[Any]:
        """The logits [texts, outputs]."""
        ids = torch.tensor([*chain.from_iterable(text.ids for text in texts)], device=self.device)
        segments = torch.tensor([*chain.from_iterable(text.segments for text in texts)], device=self.device)
        batch = Packed.from_lengths(ids, [len(text.ids) for text in texts], segments)
        logits: NDArray[Any] = self.module(batch).float().cpu().numpy()
        return logits

    def scores(self, logits: NDArray[Any], raw: bool) -> NDArray[Any]:
        """Probabilities, or with ``raw`` the logits themselves. [texts, outputs], float64

        Those of one label add up to 1; several labels, and a single score, have one each.
        """
        exact = logits.astype(np.float64)
        if raw:
            return exact
        if self.kind == "classification":
            powers = np.exp(exact - exact.max(axis=1, keepdims=True))
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))
        return np.asarray(1 / (1 + np.exp(-exact)))

    @property
    def relevance(self) -> int | None:
        """Which output says how well a text fits a query; None where it is not known."""
        if not self.pairs:
            return None
        if len(self.labels) == 1:
            return 0
        known = self.kind == "classification" and self.positive in self.labels
        return self.labels.index(str(self.positive)) if known else None
