# /// script
# requires-python = ">=3.11"
# dependencies = ["pytorch-pretrained-bert==0.6.2", "torch>=2.11", "numpy>=1.26", "safetensors>=0.5"]
# ///
"""pytorch-pretrained-bert, the predecessor of Hugging Face transformers, with its own heads and tokenizer.

Its model classes are called with padded batches. Its numbers are those of the original BERT.
"""

import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.port import (
    OF_TOKENS,
    Array,
    Batch,
    Trainable,
    dtype,
    is_uncased,
    pad,
    parameters_by_name,
    read_folder,
    read_vocabulary,
    synchronize,
    to_numpy,
    unpad,
)

NAME = "pytorch-pretrained-bert"
TITLE = "pytorch-pretrained-bert"
CATALOG_ID = "huggingface-pytorch-pretrained-bert"
VARIANTS: dict[str, str] = {}
DEVIATIONS: dict[str, str] = {}


class Encoder:
    """A model class of the package as a ``harness.port.Trainable``."""

    batching = "padded"

    def __init__(self, module: Any, device: str, head: str | None, has_pooler: bool) -> None:
        self.module, self.device, self.head, self.has_pooler = module, device, head, has_pooler
        self.bert = getattr(module, "bert", module)
        self.version = f"pytorch-pretrained-bert {version('pytorch-pretrained-bert')}, torch {version('torch')}"

    def inputs(self, batch: Batch) -> tuple[Any, Any, Any]:
        import torch

        ids, segments, mask = (torch.from_numpy(x).to(self.device) for x in pad(batch))
        return ids, segments, mask

    def encode(self, batch: Batch) -> Any:
        return self.bert(*self.inputs(batch), output_all_encoded_layers=False)  # hidden states, pooled output

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(to_numpy(encoded[0]), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return to_numpy(encoded[1]) if self.has_pooler else None

    def layers(self, batch: Batch) -> list[Array]:
        ids, segments, mask = self.inputs(batch)
        states = [self.bert.embeddings(ids, segments), *self.bert(ids, segments, mask)[0]]
        return [unpad(to_numpy(hidden), batch) for hidden in states]

    def logits(self, batch: Batch) -> Any:
        inputs = self.inputs(batch)
        logits = self.module(*inputs)
        if self.head == "question-answering":  # logits of starts, and of ends
            import torch

            logits = torch.stack(logits, dim=-1)
        return logits[inputs[2].bool()] if self.head in OF_TOKENS else logits

    def export(self) -> dict[str, Array]:
        return parameters_by_name(self.module)

    def synchronize(self) -> None:
        synchronize(self.device)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Trainable:
    """Load the weights of a Hugging Face folder. RuntimeError names all that are missing, left over or misshapen.

    The package's own ``from_pretrained`` only logs them.
    """
    import pytorch_pretrained_bert as package
    import torch

    config, state, classifier = read_folder(folder)
    settings = package.BertConfig.from_dict(config)
    if head is None:
        module = package.BertModel(settings)
    elif head == "question-answering":
        module = package.BertForQuestionAnswering(settings)
    else:
        kind = package.BertForTokenClassification if head == "tagging" else package.BertForSequenceClassification
        module = kind(settings, len(classifier.get("classifier.bias", ())))
    has_pooler = "pooler.dense.weight" in state and head not in OF_TOKENS
    if not has_pooler and head in (None, *OF_TOKENS):  # the classes have one even if its output is not used
        getattr(module, "bert", module).pooler = torch.nn.Identity()
        state = {name: array for name, array in state.items() if not name.startswith("pooler.")}
    if head is not None:
        state = {f"bert.{name}": array for name, array in state.items()} | classifier
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return Encoder(module.to(device, dtype(precision)).eval(), device, head, has_pooler)


def optimizer(parameters: dict[str, Any], recipe: dict[str, Any]) -> Callable[[], Any]:
    """The package's ``BertAdam``, set up as in its ``run_classifier.py``."""
    from pytorch_pretrained_bert import BertAdam

    undecayed = ("bias", "LayerNorm.bias", "LayerNorm.weight")
    groups: dict[float, list[Any]] = {recipe["weight_decay"]: [], 0.0: []}
    for name, parameter in parameters.items():
        groups[0.0 if name.endswith(undecayed) else recipe["weight_decay"]].append(parameter)
    own = BertAdam(
        [{"params": members, "weight_decay": decay} for decay, members in groups.items()],
        lr=recipe["learning_rate"],
        warmup=recipe["warmup"] / recipe["steps"],
        t_total=recipe["steps"],
        max_grad_norm=recipe["max_grad_norm"],
    )
    step: Callable[[], Any] = own.step
    return step


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The package's own tokenizer, with the folder's vocabulary."""
    from pytorch_pretrained_bert import BertTokenizer

    pieces = read_vocabulary(folder)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "vocab.txt"
        file.write_text("\n".join(pieces), encoding="utf-8")
        own = BertTokenizer(str(file), do_lower_case=is_uncased(folder, pieces))
    return lambda text: own.convert_tokens_to_ids(["[CLS]", *own.tokenize(text), "[SEP]"])
