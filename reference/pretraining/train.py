"""The loop: batches, gradients, steps, measurements, log, states. A run that is started again goes on by itself.

Batches, masks and dropout are functions of the seed and the step. So a run that was killed at any moment and started
again on the same machine ends with the same weights, bit by bit, as one that was not.
"""

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reference import processes
from reference.checkpoint import Checkpoint, save, tensors_of
from reference.errors import DivergedError, PretrainingError
from reference.frozen import keep_freed_memory
from reference.heads import PreTraining
from reference.model import Bert, BertConfig
from reference.pretraining.baselines import bigram, unigram
from reference.pretraining.card import CARD, card
from reference.pretraining.corpus import VOCABULARY, Corpus
from reference.pretraining.instances import Instances, Masked
from reference.pretraining.masking import vocabulary_of
from reference.pretraining.randomness import key
from reference.pretraining.recipe import Recipe
from reference.pretraining.state import SUMS, Cursor, load_state, save_state

LOG_EVERY = 10  # steps
EVALUATIONS = 20  # of the held-out text in a run, evenly over the budget
EVALUATED = 1000  # sequences of held-out text
EVALUATION_SEED, EVALUATION_RATE = 20181011, 0.15  # the same masks whatever the recipe
INITIAL, DROPOUT = 4, 5  # tell keys of initial weights and of dropout from others
DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}  # of the weights, by precision

Show = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Setting:
    """Where and how a run computes; none of it changes what is computed, but for rounding."""

    device: torch.device
    precision: str  # fp32, bf16 or fp64
    minutes: float = 5.0  # between two states
    limit: float | None = None  # FLOP a second that this machine reaches in products


def pretrain(corpus: Corpus, recipe: Recipe, output: Path, setting: Setting, show: Show = lambda line: None) -> bool:
    """Train into ``output``, from its last state if it has one. True if the budget is spent, False if interrupted.

    ``show`` gets every line of the log. Raises PretrainingError for what cannot be trained on, and DivergedError.
    """
    rank, world = processes.join(setting.device)
    try:
        run = Run(corpus, recipe, output, setting, rank, world)
        if run.complete():
            return True
        with _stopping() as stop:
            finished = run.train(show, stop)
        if rank == 0 and finished:
            run.export()
    finally:
        processes.leave()
    return finished


class Run:
    """A model, its optimizer and its place in the data."""

    def __init__(
        self, corpus: Corpus, recipe: Recipe, output: Path, setting: Setting, rank: int = 0, world: int = 1
    ) -> None:
        self.corpus, self.recipe, self.output, self.setting = corpus, recipe, output, setting
        self.rank, self.world = rank, world
        if setting.device.type == "cpu":
            keep_freed_memory()
        self.config = recipe.config(int(corpus.manifest["vocabulary"]["size"]))
        self.vocabulary = vocabulary_of(corpus.vocabulary, any_piece=recipe.next_sentence == "google")
        self.model = initial_model(self.config, recipe.seed, DTYPES[setting.precision]).to(setting.device)
        self.optimizer = adamw(self.model, recipe)
        self.about = {"corpus": corpus.sha256, **recipe.as_dict()}
        found = load_state(output / "training", self.model, self.optimizer, self.about, setting.device)
        self.cursor = found or Cursor()
        self.resumed = found is not None
        self.instances = {long: self._instances(length) for long, length in self._lengths().items()}
        self.evaluation = Evaluation(corpus, recipe) if rank == 0 else None

    def _lengths(self) -> dict[bool, int]:
        return {False: self.recipe.max_length, True: self.recipe.long_length}

    def _instances(self, length: int) -> Instances:
        recipe = self.recipe
        return Instances(
            self.corpus.train, self.vocabulary, length, recipe.next_sentence, recipe.whole_words, recipe.seed
        )

    def complete(self) -> bool:
        """Whether an earlier part spent the budget, and wrote the model."""
        return self.cursor.tokens >= self.recipe.tokens and (self.output / CARD).is_file()

    # -- data --

    def take(self) -> list[tuple[int, NDArray[np.int64]]]:
        """The next batch, as epochs and indices of their pairs; moves the cursor."""
        recipe, cursor = self.recipe, self.cursor
        done = cursor.tokens / recipe.tokens
        if recipe.long_share and not cursor.long and done >= 1 - recipe.long_share:
            cursor.long, cursor.epoch, cursor.index = True, cursor.epoch + 1, 0
        room = recipe.batch_size(done)
        taken: list[tuple[int, NDArray[np.int64]]] = []
        instances = self.instances[cursor.long]
        while True:
            lengths = instances.lengths(cursor.epoch)[cursor.index :]
            if not len(lengths) and not cursor.index:
                raise PretrainingError("the corpus gives no pairs: it needs documents of two sentences or more")
            count = int(np.searchsorted(np.cumsum(lengths), room, side="right"))
            if not taken and count == 0 and len(lengths):
                count = 1
            if count:
                taken.append((cursor.epoch, np.arange(cursor.index, cursor.index + count)))
                room -= int(lengths[:count].sum())
            cursor.index += count
            if count < len(lengths):
                return taken
            cursor.epoch, cursor.index = cursor.epoch + 1, 0

    def _mine(self, taken: list[tuple[int, NDArray[np.int64]]], long: bool, rate: float) -> list[Masked]:
        """This process's sequences of a batch, in pieces that are computed one after another."""
        instances, pieces = self.instances[long], []
        for epoch, indices in taken:
            lengths = instances.lengths(epoch)[indices]
            mine = processes.share(lengths, self.rank, self.world)
            for part in by_tokens(lengths[mine], self.recipe.micro_tokens):
                pieces.append(instances.batch(epoch, indices[mine[part]], rate))
        return pieces

    # -- steps --

    def train(self, show: Show, stop: Callable[[], bool]) -> bool:
        """Train to the end of the budget, or until ``stop()``; True at the end."""
        if self.rank == 0:
            self._begin_log(show)
        saved = time.monotonic()
        self.model.train()
        while self.cursor.tokens < self.recipe.tokens:
            started = time.monotonic()
            stopped = self.step(stop())
            taken = time.monotonic() - started
            self.cursor.seconds += taken
            self.cursor.sums["seconds"] += taken
            if self.rank == 0:
                self._report(show)
            if stopped or time.monotonic() - saved >= 60 * self.setting.minutes:
                self.save()
                saved = time.monotonic()
            if stopped and self.cursor.tokens < self.recipe.tokens:
                return False
        self.save()
        return True

    def step(self, stop: bool = False) -> bool:
        """One step of the optimizer; whether any process was asked to stop."""
        recipe, cursor = self.recipe, self.cursor
        share = cursor.tokens / recipe.tokens
        pieces = self._mine(self.take(), cursor.long, recipe.masked(share))
        local = [sum(map(len, each)) for each in zip(*((p.labels, p.lengths, p.ids) for p in pieces), strict=True)]
        masked, pairs, tokens, stops = processes.summed([*(local or [0, 0, 0]), float(stop)], self.setting.device)
        torch.manual_seed(key(recipe.seed, DROPOUT, cursor.step, self.rank) >> 1)
        self.optimizer.zero_grad(set_to_none=True)
        sums = dict.fromkeys(SUMS, 0.0)
        for piece in pieces:
            found = self._backward(piece, masked, pairs)
            for name, value in found.items():
                sums[name] += value
        processes.sum_gradients(self.model.parameters())
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.max_grad_norm))
        totals = dict(zip(SUMS, processes.summed([sums[name] for name in SUMS], self.setting.device), strict=True))
        if not math.isfinite(totals["mlm_loss"] + norm):
            raise DivergedError(
                f"the loss or its gradient is not a number at step {cursor.step + 1}: training diverged. "
                f"Give a recipe with a lower learning_rate (it is {recipe.learning_rate:g}) or a longer warmup, and "
                f"another --output; the last state is in {self.output / 'training'}"
            )
        self._set_rate(recipe.rate((cursor.tokens + tokens / 2) / recipe.tokens))
        self.optimizer.step()
        self.norm = norm
        cursor.step += 1
        cursor.tokens += round(tokens)
        cursor.flop += totals["flop"]
        for name in SUMS:
            cursor.sums[name] += totals[name]
        return stops > 0

    def _backward(self, piece: Masked, masked: float, pairs: float) -> dict[str, float]:
        """Add the gradient of a piece of a batch that has these many masked tokens and pairs."""
        words, nsp = losses(self.model, piece, self.setting)
        loss = words.sum / masked
        if self.recipe.next_sentence != "none":
            loss = loss + nsp.sum / pairs
        loss.backward()
        return {
            "mlm_loss": words.sum.item(),
            "masked": len(piece.labels),
            "right": words.right,
            "nsp_loss": nsp.sum.item(),
            "pairs": len(piece.lengths),
            "nsp_right": nsp.right,
            "random": int(piece.is_random.sum()),
            "tokens": len(piece.ids),
            "flop": flop(self.config, piece.lengths, len(piece.labels)),
        }

    def _set_rate(self, rate: float) -> None:
        """Set the learning rate of the coming step.

        torch always corrects the bias of the moments. Without it, the same step is one with other values:
        rate' = rate c1 / sqrt(c2) and epsilon' = epsilon / sqrt(c2), with the corrections c = 1 - beta^t.
        """
        recipe, factor = self.recipe, 1.0
        for group in self.optimizer.param_groups:
            if not recipe.bias_correction:
                c1, c2 = (1 - beta ** (self.cursor.step + 1) for beta in recipe.betas)
                factor = c1 / math.sqrt(c2)
                group["eps"] = recipe.epsilon / math.sqrt(c2)
            group["lr"] = rate * factor
            group["weight_decay"] = group["decay"] / factor

    # -- what is written --

    def save(self) -> None:
        """Write the state; the first process does."""
        if self.rank == 0:
            save_state(self.output / "training", self.cursor, self.model, self.optimizer, self.about)

    def _begin_log(self, show: Show) -> None:
        """Keep of the log what the state has seen; of a new run, say what can be reached without learning."""
        self.output.mkdir(parents=True, exist_ok=True)
        path = self.output / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() and self.resumed else []
        kept = [line for line in lines if _step_of(line) <= self.cursor.step]
        partial = path.with_suffix(".part")
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        partial.replace(path)
        assert self.evaluation is not None
        if kept:
            show(json.loads(kept[0]))
        else:
            guesses = self.evaluation.guesses()
            self._write({"step": 0, "event": "start", "vocabulary": self.config.vocab_size, **guesses}, show)
        self._write(
            {
                "step": self.cursor.step,
                "event": "part",
                "precision": self.setting.precision,
                "device": self.setting.device.type,
                "threads": torch.get_num_threads(),
                "processes": self.world,
            },
            show,
        )

    def _report(self, show: Show) -> None:
        recipe, cursor = self.recipe, self.cursor
        ended = cursor.tokens >= recipe.tokens
        if cursor.step % LOG_EVERY == 0 or ended:
            self._write(self._line(), show)
            cursor.sums = dict.fromkeys(SUMS, 0.0)
        if self.evaluation and (ended or cursor.tokens * EVALUATIONS >= (cursor.evaluated + 1) * recipe.tokens):
            cursor.evaluated = cursor.tokens * EVALUATIONS // recipe.tokens
            found = self.evaluation.measure(self.model, self.setting)
            self.model.train()
            if found:
                self._write({"step": cursor.step, "tokens": cursor.tokens, "event": "held out", **found}, show)

    def _line(self) -> dict[str, Any]:
        cursor, sums = self.cursor, self.cursor.sums
        line: dict[str, Any] = {
            "step": cursor.step,
            "tokens": cursor.tokens,
            "epoch": cursor.epoch,
            "mlm_loss": round(sums["mlm_loss"] / sums["masked"], 4),
            "masked_accuracy": round(sums["right"] / sums["masked"], 4),
        }
        if self.recipe.next_sentence != "none":
            line |= {
                "nsp_loss": round(sums["nsp_loss"] / sums["pairs"], 4),
                "nsp_accuracy": round(sums["nsp_right"] / sums["pairs"], 4),
                "nsp_majority": round(max(sums["random"], sums["pairs"] - sums["random"]) / sums["pairs"], 4),
            }
        seconds = max(1e-9, sums["seconds"])
        line |= {
            "gradient_norm": round(self.norm, 4),
            "learning_rate": self.recipe.rate(cursor.tokens / self.recipe.tokens),
            "tokens_per_second": round(sums["tokens"] / seconds),
            "flop": cursor.flop,
            "seconds": round(cursor.seconds, 1),
        }
        if self.setting.limit:
            line["share_of_limit"] = round(sums["flop"] / seconds / self.setting.limit, 4)
        return line

    def _write(self, line: dict[str, Any], show: Show) -> None:
        with (self.output / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        show(line)

    def export(self) -> None:
        """Write the model as a Hugging Face folder, with its vocabulary."""
        self.model.eval()
        save(Checkpoint(self.config, tensors_of(self.model)), self.output, "pre-training")
        for name in VOCABULARY:
            (self.output / name).write_bytes((self.corpus.folder / name).read_bytes())
        lines = (self.output / "log.jsonl").read_text(encoding="utf-8").splitlines()
        text = card(self.corpus.manifest, self.recipe, self.config, list(map(json.loads, lines)), self.cursor)
        (self.output / CARD).write_text(text, encoding="utf-8")


def _step_of(line: str) -> float:
    """The step of a line of a log; of one that was cut off, later than any."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def initial_model(config: BertConfig, seed: int, dtype: torch.dtype) -> PreTraining:
    """A model with the initial weights of this seed."""
    torch.manual_seed(key(seed, INITIAL) >> 1)
    return PreTraining(Bert(config)).to(dtype)


def adamw(model: PreTraining, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW, without decay of biases and LayerNorm."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "decay": recipe.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=recipe.betas, eps=recipe.epsilon, weight_decay=0.0, fused=True)


@dataclass(frozen=True)
class Loss:
    """A sum over the terms of a batch, and how many predictions were right."""

    sum: Tensor
    right: int


def losses(model: PreTraining, batch: Masked, setting: Setting) -> tuple[Loss, Loss]:
    """The losses of the masked tokens and of next-sentence prediction."""
    device = setting.device
    chosen, labels, is_random = (
        torch.from_numpy(each).to(device) for each in (batch.chosen, batch.labels, batch.is_random)
    )
    with torch.autocast(device.type, torch.bfloat16, enabled=setting.precision == "bf16"):
        words, next_sentence = model(batch.packed(device), chosen)
    return _loss(words, labels), _loss(next_sentence, is_random)


def _loss(logits: Tensor, labels: Tensor) -> Loss:
    logits = logits if logits.dtype == torch.float64 else logits.float()
    right = int((logits.detach().argmax(-1) == labels).sum())
    return Loss(F.cross_entropy(logits, labels, reduction="sum"), right)


class Evaluation:
    """Held-out sequences with fixed masks, the same for every recipe with the same length of sequences."""

    def __init__(self, corpus: Corpus, recipe: Recipe) -> None:
        documents = len(corpus.held_out.documents) - 1
        self.pairs = recipe.next_sentence != "none" and documents > 1
        self.batches: list[Masked] = []
        self.corpus = corpus
        if documents < 1:
            return
        vocabulary = vocabulary_of(corpus.vocabulary)
        rules = "exact" if self.pairs else "none"
        instances = Instances(corpus.held_out, vocabulary, recipe.max_length, rules, False, EVALUATION_SEED)
        lengths = instances.lengths(0)[:EVALUATED]
        for part in by_tokens(lengths, recipe.micro_tokens):
            self.batches.append(instances.batch(0, part, EVALUATION_RATE))

    def guesses(self) -> dict[str, float]:
        """What guessing reaches: by the frequency of pieces in the training text, and by the piece before."""
        if not self.batches:
            return {}
        pieces, size = self.corpus.train.pieces, len(self.corpus.vocabulary)
        return unigram(pieces, size, self.batches) | bigram(pieces, size, self.batches)

    @torch.inference_mode()
    def measure(self, model: PreTraining, setting: Setting) -> dict[str, float]:
        """Loss and accuracy of the masked tokens, and accuracy of next-sentence prediction beside its majority."""
        if not self.batches:
            return {}
        model.eval()
        found = [losses(model, batch, setting) for batch in self.batches]
        masked = sum(len(batch.labels) for batch in self.batches)
        line = {
            "held_out_loss": round(sum(words.sum.item() for words, _ in found) / masked, 4),
            "held_out_accuracy": round(sum(words.right for words, _ in found) / masked, 4),
        }
        if self.pairs:
            labels = np.concatenate([batch.is_random for batch in self.batches])
            line["held_out_nsp_accuracy"] = round(sum(nsp.right for _, nsp in found) / len(labels), 4)
            line["held_out_nsp_majority"] = round(float(max(labels.mean(), 1 - labels.mean())), 4)
        return line


def by_tokens(lengths: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """Indices of sequences in runs of at most ``most`` tokens, or of one sequence."""
    start, total = 0, 0
    for index, length in enumerate(lengths.tolist()):
        if index > start and total + length > most:
            yield np.arange(start, index)
            start, total = index, 0
        total += length
    if start < len(lengths):
        yield np.arange(start, len(lengths))


def flop(config: BertConfig, lengths: NDArray[np.int64], masked: int) -> float:
    """Operations of the products of a training step: two a weight and token forward, and twice that backward."""
    hidden, inner, tokens = config.hidden_size, config.intermediate_size, int(lengths.sum())
    layer = tokens * (4 * hidden * hidden + 2 * hidden * inner) + 2 * hidden * int((lengths**2).sum())
    head = masked * (hidden * hidden + hidden * config.vocab_size) + len(lengths) * hidden * hidden
    return 6.0 * (config.num_hidden_layers * layer + head)


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """A function that says whether Ctrl-C or SIGTERM came: the step is finished first. A second one ends at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            os._exit(128 + number)
        asked.append(number)

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, where signals are not ours
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
