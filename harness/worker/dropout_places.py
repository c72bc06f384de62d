"""Where a model applies dropout in training: torch's functions are watched while it computes. Runs in the worker.

A place is named by what was computed last. A dropout of the model's making is seen by its random numbers, without its
probability.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from harness.port.batch import Batch
from harness.port.model import Trainable

DROPOUTS = ("dropout", "dropout_", "alpha_dropout", "native_dropout")
RANDOM = ("random_", "bernoulli", "bernoulli_", "rand_like", "rand")


def dropout_places(model: Trainable, batch: Batch) -> dict[str, list[Any]]:
    """By place: the number of dropouts in one pass over the batch, and the probability (None if not seen)."""
    model.module.train()
    watch = _Watch(model.module, len(batch.lengths))
    with torch.no_grad(), watch:
        model.logits(batch)
    model.module.eval()
    return watch.places


class _Watch(TorchFunctionMode):
    def __init__(self, module: Any, sequences: int) -> None:
        super().__init__()
        self.sequences, self.last = sequences, "nothing"
        self.places: dict[str, list[Any]] = {}
        shapes = [parameter.shape for parameter in module.parameters() if parameter.ndim == 2]
        # The hidden size is that of most tables and products; the inner size is that of the largest product.
        widths = [shape[1] for shape in shapes]
        self.hidden = max(set(widths), key=widths.count)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in DROPOUTS:
            self._dropout(args, kwargs)
        elif name in RANDOM:
            self._count(self.last, None)
        elif name == "scaled_dot_product_attention":
            probability = kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0)
            if probability:
                self._count("attention probabilities", float(probability))
        elif name in ("softmax", "_softmax"):
            self.last = "attention probabilities"
        elif name == "embedding":
            self.last = "embeddings"
        elif name == "linear":
            self.last = self._after_linear(*args[:2])
        return function(*args, **kwargs)

    def _dropout(self, args: Any, kwargs: Any) -> None:
        probability = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
        if not kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else True)) or not probability:
            return
        values = kwargs.get("input", args[0] if args else None)
        pooled = values is not None and values.ndim == 2 and len(values) == self.sequences
        self._count("pooled output" if pooled else self.last, float(probability))

    def _after_linear(self, values: Any, weight: Any) -> str:
        outputs, inputs = weight.shape
        if values.ndim == 2 and len(values) == self.sequences:
            return "pooled output"
        if outputs == self.hidden:
            return "attention output" if inputs == self.hidden else "feed-forward output"
        return "inside feed-forward" if inputs == self.hidden else "nothing"

    def _count(self, place: str, probability: float | None) -> None:
        count, _ = self.places.get(place, (0, None))
        self.places[place] = [count + 1, probability]
