"""Fine-tuning: one loop for any torch module, like Google's run_classifier.py and optimization.py. Runs in the worker.

AdamW without decay of biases and LayerNorm, linear warm-up and decay, dropout as configured, gradient clipping.
(Appendix A.3 of the BERT paper gives the dropout, and batch sizes, learning rates and epochs to choose from.) Batches
and their order depend on the seed and the lengths alone, so that every implementation sees the same.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from harness.port.batch import IGNORE, Array, Batch, IntArray, by_tokens, in_given_order, shuffled, shuffled_by_length
from harness.port.model import OF_TOKENS, HasMixedAdamW, HasWordEmbeddings, Trainable
from harness.port.tensors import to_numpy
from harness.worker.heads import LABELLED_TOKENS
from harness.worker.used_words import UsedWords

BATCHES = {"by length": shuffled_by_length, "random": shuffled}
REPORT = 10  # steps between two reports of the loss on a GPU: reading it waits for all queued work


def _squared_error(logits: Tensor, labels: Tensor, lengths: IntArray) -> Tensor:
    return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype), reduction="sum")


def _binary_cross_entropy(logits: Tensor, labels: Tensor, lengths: IntArray) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")


def _cross_entropy(logits: Tensor, labels: Tensor, lengths: IntArray) -> Tensor:
    return F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")


def _span_cross_entropy(logits: Tensor, labels: Tensor, lengths: IntArray) -> Tensor:
    """Of the first and of the last token, each among the tokens of its sequence; labels [sequences, 2]."""
    sequences = pad_sequence(logits.split(lengths.tolist()), batch_first=True, padding_value=-math.inf)
    return F.cross_entropy(sequences, labels, reduction="sum")


Loss = Callable[[Tensor, Tensor, IntArray], Tensor]  # logits, labels, lengths of the sequences -> summed over the batch
LOSSES: dict[str, Loss] = {  # by kind of task
    "classification": _cross_entropy,
    "regression": _squared_error,
    "multi-label": _binary_cross_entropy,
    "tagging": _cross_entropy,
    "question-answering": _span_cross_entropy,
}


def loss_of(kind: str, logits: Tensor, labels: Tensor, lengths: IntArray) -> Tensor:
    """The loss for a kind of task, summed over the batch; divide by ``loss_terms`` for the mean."""
    return LOSSES[kind](logits.float() if logits.dtype != torch.float64 else logits, labels, lengths)


def loss_terms(kind: str, labels: Array) -> int:
    """The number of terms that the loss of this batch is a mean over."""
    return int((labels != IGNORE).sum()) if kind in LABELLED_TOKENS else labels.size


def autocast(precision: str, device: str) -> torch.autocast:
    """Mixed precision for training: weights stay in float32, products are computed in bf16 or fp16."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.split(":")[0], dtype=dtype, enabled=dtype is not None)


class Training:
    """A model, its optimizer and its data between epochs."""

    def __init__(
        self,
        model: Trainable,
        batch: Batch,
        labels: Array,
        kind: str,
        recipe: dict[str, Any],
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """``rank``: number of this process among the ``world`` ones that train the same model."""
        torch.manual_seed(seed if rank == 0 else np.random.SeedSequence([seed, rank]).generate_state(1).item())
        self.model, self.data, self.labels, self.kind, self.recipe = model, batch, labels, kind, recipe
        self.rank, self.world = rank, world
        self.generator = np.random.default_rng(seed)
        self.words = UsedWords(model.embeddings, batch.ids) if isinstance(model, HasWordEmbeddings) else None
        if self.words:
            self.data = batch._replace(ids=self.words.renumber(batch.ids))
        with self.words.in_place() if self.words else nullcontext():
            parameters = list(model.module.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe["weight_decay"]},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.mixed = None
        whole = recipe["micro_batches"] == world == 1
        if isinstance(model, HasMixedAdamW) and recipe["precision"] == "bf16" and whole:
            self.mixed = model.mixed_adamw(groups, recipe["learning_rate"], recipe["max_grad_norm"])
        self.optimizer = self.mixed or torch.optim.AdamW(groups, lr=recipe["learning_rate"], fused=True)
        steps = recipe["epochs"] * -(-len(batch.lengths) // recipe["batch_size"])
        warmup = round(steps * recipe["warmup"])

        def rate(step: int) -> float:
            """Up to 1 over the warm-up, then down; no step has a rate of zero."""
            return min((step + 1) / max(1, warmup), (steps - step) / max(1, steps - warmup), 1.0)

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)

    def epoch(self, progress: Callable[..., None]) -> float:
        """Train on every example once. Returns the mean loss."""
        with (
            self.words.in_place() if self.words else nullcontext(),
            self.mixed.rounded() if self.mixed else nullcontext(),
        ):
            return self._epoch(progress)

    def _epoch(self, progress: Callable[..., None]) -> float:
        self.model.module.train()
        shuffle = BATCHES[self.recipe.get("batches", "by length")]
        batches = shuffle(self.data.lengths, self.recipe["batch_size"], self.generator)
        total, terms = torch.zeros((), dtype=torch.float64), 0
        for step, sequences in enumerate(batches, 1):
            loss, count = self._step(sequences)
            total, terms = total.to(loss.device) + loss, terms + count
            if loss.is_cpu or step % REPORT == 0 or step == len(batches):
                progress(done=step, total=len(batches), loss=loss.item() / max(1, count))
        self.model.module.eval()
        return total.item() / max(1, terms)

    def _step(self, sequences: Array) -> tuple[Tensor, int]:
        """One step of the optimizer on one batch. Returns the summed loss, on its device, and its number of terms.

        With ``micro_batches`` above 1 the batch is computed in that many pieces: the same gradient in less memory. Of
        several processes each computes a part.
        """
        terms = loss_terms(self.kind, self._labels(sequences))
        device = next(self.model.module.parameters()).device
        total = torch.zeros((), dtype=torch.float64, device=device)
        self.optimizer.zero_grad(set_to_none=True)
        for piece in self._pieces(sequences):
            labels = torch.from_numpy(self._labels(piece)).to(device)
            with autocast(self.recipe["precision"], device.type):
                logits = self.model.logits(self.data.select(piece))
            loss = loss_of(self.kind, logits, labels, self.data.lengths[piece])
            (loss / max(1, terms)).backward()
            total += loss.detach()
        if self.world > 1:
            from reference.processes import sum_gradients, summed

            sum_gradients(self.model.module.parameters())
            total = torch.tensor(summed([total.item()], device)[0], dtype=torch.float64)
        if not self.mixed:  # it clips by itself
            torch.nn.utils.clip_grad_norm_(self.model.module.parameters(), self.recipe["max_grad_norm"])
        self.optimizer.step()
        if self.words:
            self.words.decay *= 1 - self.schedule.get_last_lr()[0] * self.recipe["weight_decay"]
        self.schedule.step()
        return total, terms

    def _pieces(self, sequences: Array) -> list[Array]:
        """The sequences of a batch that this process computes, in pieces."""
        if self.world > 1:
            from reference.processes import share

            sequences = sequences[share(self.data.lengths[sequences], self.rank, self.world)]
        return np.array_split(sequences, min(len(sequences), self.recipe["micro_batches"])) if len(sequences) else []

    def _labels(self, sequences: Array) -> Array:
        return self.labels[self.data.tokens_of(sequences) if self.kind in LABELLED_TOKENS else sequences]


@torch.inference_mode()
def predict(model: Trainable, batch: Batch, kind: str, batch_tokens: int, progress: Callable[..., None]) -> Array:
    """Logits for every sequence, or for every token where the kind is in ``OF_TOKENS``, in the order given.

    Sequences of similar length are batched together, up to ``batch_tokens`` tokens at a time.
    """
    model.module.eval()
    parts, rows, done = [], [], 0
    for sequences in by_tokens(batch.lengths, batch_tokens):
        parts.append(to_numpy(model.logits(batch.select(sequences))))
        rows.append(batch.tokens_of(sequences) if kind in OF_TOKENS else sequences)
        done += len(sequences)
        progress(done=done, total=len(batch.lengths))
    return in_given_order(parts, rows)
