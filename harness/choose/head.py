"""The head in the user's weights: the answers that it gives on the hidden states of each implementation."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.choose.agreement import agreement, parts_of
from harness.errors import BadInput, ours
from harness.measure.client import Worker
from harness.port.batch import Array, Batch
from harness.weights.find import Weights
from harness.weights.saved_model import DESCRIPTION, read_description
from reference.checkpoint import ARCHITECTURES, PROBLEM_TYPES

KINDS = ("classification", "multi-label", "tagging")  # whose answers are labels
CLASSES = {kind: ARCHITECTURES[kind] for kind in KINDS}
PROBLEMS = {kind: name for kind, name in PROBLEM_TYPES.items() if kind in KINDS}


class Head:
    """The model with its head in float64, whose answers count as right.

    Every implementation's answers are those of the same head, in float64, on its hidden states: what differs is what
    the implementation computed.
    """

    def __init__(self, weights: Weights, kind: str) -> None:
        """Read the model. BadInput where the weights hold no head of this kind, or one that reads pairs."""
        import reference

        if kind not in KINDS:
            raise BadInput(f"--head-task {kind!r} is not one of {', '.join(KINDS)}, the heads whose answers are labels")
        _check_kind(weights.folder, kind)
        try:
            module: Any = reference.load(weights.folder, kind, "cpu", "fp64")
        except (ValueError, OSError, RuntimeError) as error:
            raise ours(error) or BadInput(f"--head-task {kind}: {error}") from error
        self.module, self.kind, self.weights = module, kind, weights
        if kind != "multi-label" and len(self.module.classifier.weight) < 2:
            raise BadInput(f"--head-task {kind}: {weights.name} has one output, a score, and no labels; leave it out")

    def compare(self, reference: Worker, batch: Batch) -> Callable[[Worker], dict[str, Any]]:
        """A question to a worker: how its vectors agree with the reference's, and its answers with those in float64.

        ``same_answer`` is the share of texts with the same label; in tagging, with the same tags of all tokens.
        ``head_seconds`` are those of the head alone for all texts.
        """
        of_vectors = agreement(reference, batch, self.weights)
        exact = np.concatenate([self.answers(self._in_float64(part), part) for part in parts_of(batch)])
        seconds = self._time(reference, batch)

        def question(worker: Worker) -> dict[str, Any]:
            theirs = []
            for part in parts_of(batch):
                encoded = worker.encode(part)
                theirs.append(self.answers(self.logits(encoded.hidden, encoded.pooled, part), part))
            differs = (np.concatenate(theirs) != exact).any(1)
            if self.kind == "tagging":  # [CLS] and [SEP] have no tag that anyone reads
                differs[batch.cu_seqlens[:-1]] = differs[batch.cu_seqlens[1:] - 1] = False
                differs = np.logical_or.reduceat(differs, batch.cu_seqlens[:-1])
            found = of_vectors(worker)
            found["agreement"] |= {"same_answer": float(1 - differs.mean()), "head_seconds": seconds}
            return found

        return question

    def logits(self, hidden: Array, pooled: Array | None, batch: Batch) -> Array:
        """[sequences, labels], or for tagging [tokens, labels], of hidden states; float64.

        The pooler is computed here unless the implementation has one.
        """
        import torch

        dtype = self.module.classifier.weight.dtype
        with torch.inference_mode():
            if self.kind == "tagging":
                states = torch.from_numpy(hidden).to(dtype)
            elif pooled is not None:
                states = torch.from_numpy(pooled).to(dtype)
            else:
                states = self.module.bert.pooler(torch.from_numpy(hidden).to(dtype), packed(batch))
            found: Array = self.module.classifier(states).numpy()
        return found

    def answers(self, logits: Array, batch: Batch) -> Array:
        """The labels that these logits mean: their numbers, or for multi-label a 0 or 1 for each. [rows, labels]"""
        return logits > 0 if self.kind == "multi-label" else logits.argmax(1)[:, None]

    def _in_float64(self, batch: Batch) -> Array:
        import torch

        with torch.inference_mode():
            logits: Array = self.module(packed(batch)).numpy()
        return logits

    def _time(self, reference: Worker, batch: Batch) -> float:
        """Seconds of the head alone for all texts: the fastest of a few passes."""
        states = [(reference.encode(part), part) for part in parts_of(batch)]
        passes = []
        for _ in range(5):
            start = time.perf_counter()
            for encoded, part in states:
                self.logits(encoded.hidden, None, part)
            passes.append(time.perf_counter() - start)
        return min(passes)


def _check_kind(folder: Path, kind: str) -> None:
    """BadInput for a folder that says that its head is of another kind: both may have tensors of the same names."""
    if (folder / DESCRIPTION).is_file():
        reading = read_description(folder).reading
        if reading.kind != kind:
            raise BadInput(f"--head-task {kind}: {folder} was fine-tuned on a task of kind {reading.kind}; say that")
        if any("pair" in file.columns for file in reading.files.values()):
            raise BadInput(f"--head-task: {folder} reads pairs of texts, and --texts gives single ones; leave it out")
        return
    file = folder / "config.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}  # planning has read it
    classes, problem = said.get("architectures") or [], said.get("problem_type")
    if classes and CLASSES[kind] not in classes:
        raise BadInput(f"--head-task {kind}: {file} names {classes[0]}; this needs a {CLASSES[kind]}")
    if kind in PROBLEMS and problem not in (None, PROBLEMS[kind]):
        raise BadInput(f"--head-task {kind}: {file} says that its head is for {problem}")


def packed(batch: Batch) -> Any:
    import torch

    from reference.model import Packed

    ids, segments = torch.from_numpy(batch.ids), torch.from_numpy(batch.segments)
    return Packed.from_lengths(ids, batch.lengths.tolist(), segments)
