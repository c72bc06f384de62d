# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "transformers", "numpy"]
# ///
"""Hugging Face transformers: its model classes for BERT, called with batches padded to the longest sequence.

Its numbers are those of the original BERT.
"""

from collections.abc import Callable
from typing import Any

from harness.port import (
    OF_TOKENS,
    Array,
    Batch,
    IntArray,
    Model,
    Trainable,
    dtype,
    pad,
    parameters_by_name,
    synchronize,
    to_numpy,
    unpad,
)

NAME = "transformers"
TITLE = "Hugging Face transformers"
CATALOG_ID = "huggingface-transformers"
VARIANTS = {"eager": "attention in plain PyTorch", "compiled": "by torch.compile, with weights frozen"}
BY_NAME = ["compiled"]  # it compiles for half a minute for each set of weights and each new kind of batch
MASKED_LM = True
DEVIATIONS: dict[str, str] = {}

CLASSES = {
    None: "BertModel",
    "classification": "BertForSequenceClassification",
    "regression": "BertForSequenceClassification",
    "multi-label": "BertForSequenceClassification",
    "tagging": "BertForTokenClassification",
    "question-answering": "BertForQuestionAnswering",
    "masked-lm": "BertForMaskedLM",
}


class Encoder:
    """A model class of transformers as a ``harness.port.Model``, without training."""

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
        return unpad(to_numpy(encoded.last_hidden_state), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return None if encoded.pooler_output is None else to_numpy(encoded.pooler_output)

    def layers(self, batch: Batch) -> list[Array]:
        bert = getattr(self.module, "bert", self.module)
        states = bert(**self.inputs(batch), output_hidden_states=True).hidden_states
        return [unpad(to_numpy(hidden), batch) for hidden in states]

    def synchronize(self) -> None:
        synchronize(self.device)


class MaskedWords(Encoder):
    """The same as a ``harness.port.PredictsWords``, with the vocabulary head."""

    def words(self, batch: Batch, chosen: IntArray) -> Any:
        """The model's own two parts. Its ``forward`` would compute the vocabulary at every token, and padding."""
        import torch

        inputs = self.inputs(batch)
        hidden = self.module.bert(**inputs).last_hidden_state[inputs["attention_mask"].bool()]
        return self.module.cls(hidden[torch.from_numpy(chosen).to(self.device)])


class TrainableEncoder(Encoder):
    """The same as a ``harness.port.Trainable``, with a head."""

    def logits(self, batch: Batch) -> Any:
        inputs = self.inputs(batch)
        out = self.module(**inputs)
        if self.head == "question-answering":
            import torch

            logits = torch.stack([out.start_logits, out.end_logits], dim=-1)
        else:
            logits = out.logits
        return logits[inputs["attention_mask"].bool()] if self.head in OF_TOKENS else logits

    def export(self) -> dict[str, Array]:
        return parameters_by_name(self.module)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. ValueError if transformers would initialise any of them at random."""
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
        module.pooler, absent = None, []  # not all checkpoints have a pooler
    if absent:
        raise ValueError(f"the checkpoint lacks {', '.join(map(str, absent))}")
    module = module.to(device).eval()
    if variant == "compiled":
        import torch._inductor.config

        torch._inductor.config.freezing = True  # constant weights can be laid out in advance
        module.compile()
    if head == "masked-lm":
        return MaskedWords(module, device, head)
    if variant:  # trained, it would be the same model as without the variant
        return Encoder(module, device, head)
    trainable: Trainable = TrainableEncoder(module, device, head)
    return trainable


def optimizer(parameters: dict[str, Any], recipe: dict[str, Any]) -> Callable[[], None]:
    """AdamW as the package's ``Trainer`` sets it up, under the package's linear schedule."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    decayed = {name: not name.endswith("bias") and "LayerNorm" not in name for name in parameters}
    groups = [
        {
            "params": [parameter for name, parameter in parameters.items() if decayed[name] == whether],
            "weight_decay": recipe["weight_decay"] if whether else 0.0,
        }
        for whether in (True, False)
    ]
    adamw = torch.optim.AdamW(groups, lr=recipe["learning_rate"])
    schedule = get_linear_schedule_with_warmup(adamw, recipe["warmup"], recipe["steps"])

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(parameters.values(), recipe["max_grad_norm"])
        adamw.step()
        schedule.step()

    return step
