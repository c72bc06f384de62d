# /// script
# requires-python = ">=3.11"
# dependencies = ["tbert==0.1.8", "torch>=2.11", "numpy>=1.26", "safetensors>=0.5"]
# ///
"""tbert by Innodata Labs, a port of Google's code to PyTorch; its ``BertPooler`` is called with padded batches.

Its numbers are those of the original BERT. In training it applies dropout to attention and its output, but not to the
embeddings or the output of feed-forward.
"""

from importlib.metadata import version
from typing import Any

import numpy as np

from harness.port import OF_TOKENS, Array, Batch, Trainable, dtype, pad, read_folder, synchronize, to_numpy, unpad

NAME = "tbert"
TITLE = "tbert"
CATALOG_ID = "innodatalabs-tbert"
VARIANTS: dict[str, str] = {}
DEVIATIONS: dict[str, str] = {}

EMBEDDINGS = {
    "bert.embedding.token_embedding.weight": "embeddings.word_embeddings.weight",
    "bert.embedding.segment_embedding.weight": "embeddings.token_type_embeddings.weight",
    "bert.embedding.position_embedding": "embeddings.position_embeddings.weight",
    "bert.embedding.layer_norm.weight": "embeddings.LayerNorm.weight",
    "bert.embedding.layer_norm.bias": "embeddings.LayerNorm.bias",
}
HEADS = ("classifier", "qa_outputs")  # the last layer of a head, which is added here
LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "dense": "attention.output.dense",
    "dense_layer_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}


def hugging_face_names(layers: int) -> dict[str, str]:
    """Hugging Face's names of the weights, by tbert's names; those of the heads are the same."""
    return EMBEDDINGS | {
        f"{own}.{kind}": f"{name}.{kind}"
        for kind in ("weight", "bias")
        for own, name in [
            ("pooler", "pooler.dense"),
            *((name, name) for name in HEADS),
            *((f"bert.encoder.{i}.{own}", f"encoder.layer.{i}.{LAYER[own]}") for i in range(layers) for own in LAYER),
        ]
    }


class Encoder:
    """A ``BertPooler``, with a linear layer for training, as a ``harness.port.Trainable``."""

    batching = "padded"

    def __init__(self, module: Any, device: str, head: str | None, names: dict[str, str]) -> None:
        self.module, self.device, self.head, self.names = module, device, head, names
        self.version = f"tbert {version('tbert')}, torch {version('torch')}"

    def inputs(self, batch: Batch) -> tuple[Any, Any, Any]:
        import torch

        ids, segments, mask = (torch.from_numpy(x).to(self.device) for x in pad(batch))
        return ids, segments, mask

    def states(self, batch: Batch) -> list[Any]:
        """[sequences, longest, hidden] after each layer; tbert returns [sequences * longest, hidden]."""
        inputs = self.inputs(batch)
        return [hidden.unflatten(0, inputs[0].shape) for hidden in self.module.bert(*inputs)]

    def encode(self, batch: Batch) -> Any:
        return self.states(batch)[-1]

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(to_numpy(encoded), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return to_numpy(self.module.pooler(encoded[:, 0]).tanh()) if hasattr(self.module, "pooler") else None

    def layers(self, batch: Batch) -> list[Array]:
        embedded = self.module.bert.embedding(*self.inputs(batch)[:2])
        return [self.fetch(hidden, batch) for hidden in (embedded, *self.states(batch))]

    def logits(self, batch: Batch) -> Any:
        inputs = self.inputs(batch)
        hidden = self.encode(batch)[inputs[2].bool()] if self.head in OF_TOKENS else self.module(*inputs)
        if self.head == "question-answering":
            return self.module.qa_outputs(hidden)
        return self.module.classifier(self.module.dropout(hidden))

    def export(self) -> dict[str, Array]:
        state = {self.names[name]: to_numpy(tensor) for name, tensor in self.module.state_dict().items()}
        prefix = {name: "" if name.startswith(HEADS) else "bert." for name in state}
        return {prefix[name] + name: np.ascontiguousarray(array) for name, array in state.items()}

    def synchronize(self) -> None:
        synchronize(self.device)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Trainable:
    """Load the weights of a Hugging Face folder. ValueError or RuntimeError names those that do not fit."""
    import torch
    from tbert.bert import BertPooler

    config, encoder, last = read_folder(folder)
    module = BertPooler(config)
    if head in OF_TOKENS or (head is None and "pooler.dense.weight" not in encoder):
        del module.pooler
        encoder = {name: array for name, array in encoder.items() if not name.startswith("pooler.")}
    if head is not None:
        name = "qa_outputs" if head == "question-answering" else "classifier"
        module.add_module(name, torch.nn.Linear(config["hidden_size"], len(last.get(f"{name}.bias", ()))))
    weights = encoder | (last if head is not None else {})
    names = hugging_face_names(config["num_hidden_layers"])
    wanted = {names[name] for name in module.state_dict()}
    if wanted != weights.keys():
        raise ValueError(f"missing or left over: {', '.join(sorted(wanted ^ weights.keys()))}")
    module.load_state_dict({name: torch.from_numpy(weights[names[name]]) for name in module.state_dict()})
    return Encoder(module.to(device, dtype(precision)).eval(), device, head, names)
