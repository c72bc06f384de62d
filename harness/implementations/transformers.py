# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "transformers", "numpy"]
# ///
"""Hugging Face transformers, as its users call it: rectangles padded to the longest sequence."""

from typing import Any

from harness.port.batch import Batch, pad
from harness.port.tensors import dtype, parameters_by_name, synchronize, to_numpy
from harness.worker.messages import Array

NAME = "transformers"
TITLE = "Hugging Face transformers"
CATALOG_ID = "huggingface-transformers"
VARIANTS = {"eager": "attention in plain PyTorch", "compiled": "by torch.compile, with weights frozen"}
BY_NAME = ["compiled"]  # for each weights and each new kind of batch it compiles for half a minute
DEVIATIONS: dict[str, str] = {}

CLASSES = {
    None: "BertModel",
    "classification": "BertForSequenceClassification",
    "regression": "BertForSequenceClassification",
    "multi-label": "BertForSequenceClassification",
    "tagging": "BertForTokenClassification",
}


class Encoder:
    """The Protocol of ``harness.registry.implementations`` over a model class of transformers, without training."""

    batching = "padded"

    def __init__(self, module: Any, device: str, head: str | None) -> None:
        import torch
        import transformers

        self.module, self.device, self.head = module, device, head
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"

    def inputs(self, batch: Batch) -> dict[str, Any]:
        import torch

        names = ("input_ids", "token_type_ids", "attention_mask")
        return {name: torch.from_numpy(x).to(self.device) for name, x in zip(names, pad(batch), strict=True)}

    def encode(self, batch: Batch) -> Any:
        return getattr(self.module, "bert", self.module)(**self.inputs(batch))

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return to_numpy(encoded.last_hidden_state)[pad(batch)[2] == 1]

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return None if encoded.pooler_output is None else to_numpy(encoded.pooler_output)

    def layers(self, batch: Batch) -> list[Array]:
        bert, mask = getattr(self.module, "bert", self.module), pad(batch)[2] == 1
        states = bert(**self.inputs(batch), output_hidden_states=True).hidden_states
        return [to_numpy(hidden)[mask] for hidden in states]

    def synchronize(self) -> None:
        synchronize(self.device)


class Model(Encoder):
    """The same with what fine-tuning needs."""

    def logits(self, batch: Batch) -> Any:
        inputs = self.inputs(batch)
        logits = self.module(**inputs).logits
        return logits[inputs["attention_mask"].bool()] if self.head == "tagging" else logits

    def export(self) -> dict[str, Array]:
        return parameters_by_name(self.module)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Encoder:
    """The weights of a Hugging Face folder; ValueError where transformers would initialise any of them anew."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    module, report = getattr(transformers, CLASSES[head]).from_pretrained(
        folder,
        dtype=dtype(precision),
        attn_implementation="eager" if variant == "eager" else "sdpa",
        output_loading_info=True,
    )
    absent = [*report["missing_keys"], *report["mismatched_keys"]]
    if head is None and set(absent) == {"pooler.dense.weight", "pooler.dense.bias"}:
        module.pooler, absent = None, []  # not all checkpoints have one; there is no pooled output then
    if absent:
        raise ValueError(f"the checkpoint lacks {', '.join(map(str, absent))}")
    module = module.to(device).eval()
    if variant == "compiled":
        import torch._inductor.config

        torch._inductor.config.freezing = True  # weights are laid out once, and may be no parameters any more
        module.compile()
    return (Encoder if variant else Model)(module, device, head)  # trained, the variants would be the same model
