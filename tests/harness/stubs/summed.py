"""The reference with the gradients of a loss that is summed over the batch, and with plain descent as its optimizer."""

from collections.abc import Callable
from typing import Any

from harness.implementations import reference
from harness.port import Batch, Trainable

NAME = "summed"
TITLE = "Summed loss"
CATALOG_ID = None
VARIANTS: dict[str, str] = {}
DEVIATIONS: dict[str, str] = {}


class Summed(reference.TrainableEncoder):
    def logits(self, batch: Batch) -> Any:
        logits = super().logits(batch)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: gradient * len(batch.lengths))
        return logits


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Trainable:
    found: Any = reference.load(folder, head, device, precision)
    return Summed(found.module, device, precision)


def optimizer(parameters: dict[str, Any], recipe: dict[str, Any]) -> Callable[[], Any]:
    import torch

    step: Callable[[], Any] = torch.optim.SGD(parameters.values(), lr=recipe["learning_rate"]).step
    return step
