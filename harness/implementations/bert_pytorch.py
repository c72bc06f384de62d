# /// script
# requires-python = ">=3.11"
# dependencies = ["bert-pytorch==0.0.1a4", "torch>=2.11", "numpy>=1.26", "safetensors>=0.5"]
# ///
"""codertimo's BERT-pytorch, written from the paper in its first days: not the model that Google released.

It is used as shipped, with padded batches and BERT's segment ids; it detects padding by token id 0. A checkpoint's
weights are assigned by their role. The model has no place for learned positions, the LayerNorm of the embeddings and a
pooler: these are exported unchanged, and the pooler under a head is added here.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from harness.port import OF_TOKENS, Array, Batch, Trainable, dtype, pad, read_folder, synchronize, to_numpy, unpad

NAME = "bert-pytorch"
TITLE = "codertimo BERT-pytorch"
CATALOG_ID = "codertimo-bert-pytorch"
VARIANTS: dict[str, str] = {}
DEVIATIONS = {
    "pre-norm": "LayerNorm on the input of attention and feed-forward, not on their sum with it; none at the end",
    "no-embedding-norm": "no LayerNorm after the embeddings; the checkpoint's is left out",
    "sinusoidal-positions": "fixed sines and cosines; the checkpoint's learned positions are left out",
    "segment-ids": "counted from 1: BERT's segment 0 is its padding, of zeros, and 1 gets the vector of the first",
    "layer-norm-unbiased": "LayerNorm divides by the unbiased standard deviation plus 1e-6",
    "gelu-tanh": "gelu by its tanh approximation",
}

PRECISIONS = ("fp64", "fp32", "bf16")  # its mask is too low for fp16
SEGMENTS = "embeddings.token_type_embeddings.weight"
EMBEDDINGS = {
    "bert.embedding.token.weight": "embeddings.word_embeddings.weight",
    "bert.embedding.segment.weight": SEGMENTS,
}
LAYER = {
    "attention.linear_layers.0": "attention.self.query",
    "attention.linear_layers.1": "attention.self.key",
    "attention.linear_layers.2": "attention.self.value",
    "attention.output_linear": "attention.output.dense",
    "feed_forward.w_1": "intermediate.dense",
    "feed_forward.w_2": "output.dense",
    "input_sublayer.norm": "attention.output.LayerNorm",
    "output_sublayer.norm": "output.LayerNorm",
}
NO_PLACE = {
    "embeddings.position_embeddings.weight",
    "embeddings.LayerNorm.weight",
    "embeddings.LayerNorm.bias",
    "pooler.dense.weight",
    "pooler.dense.bias",
}


def last_layer(head: str) -> str:
    """The name of the last layer of a head."""
    return "qa_outputs" if head == "question-answering" else "classifier"


def hugging_face_names(layers: int, head: str | None) -> dict[str, str]:
    """Hugging Face's names of the weights, by the package's names."""
    pairs = {
        f"bert.transformer_blocks.{i}.{own}": f"encoder.layer.{i}.{LAYER[own]}" for i in range(layers) for own in LAYER
    }
    pairs |= {} if head is None else {last_layer(head): last_layer(head)}
    pairs |= {} if head is None or head in OF_TOKENS else {"pooler": "pooler.dense"}
    names = dict(EMBEDDINGS)
    for own, theirs in pairs.items():
        weight, bias = ("a_2", "b_2") if own.endswith(".norm") else ("weight", "bias")
        names |= {f"{own}.{weight}": f"{theirs}.weight", f"{own}.{bias}": f"{theirs}.bias"}
    return names


class Encoder:
    """The package's ``BERT``, with a pooler and a classifier for training, as a ``harness.port.Trainable``."""

    batching = "padded"

    def __init__(self, module: Any, device: str, head: str | None, names: dict[str, str], spare: dict[str, Array]):
        self.module, self.device, self.head, self.names, self.spare = module, device, head, names, spare
        self.version = f"bert-pytorch {version('bert-pytorch')}, torch {version('torch')}"

    def encode(self, batch: Batch) -> Any:
        import torch

        ids, segments, _ = pad(batch)
        return self.module["bert"](torch.from_numpy(ids).to(self.device), torch.from_numpy(segments).to(self.device))

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(to_numpy(encoded), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return None

    def layers(self, batch: Batch) -> list[Array]:
        bert, states = self.module["bert"], []
        hooks = [bert.embedding.register_forward_hook(lambda module, inputs, output: states.append(output))]
        for block in bert.transformer_blocks:  # hooks do not see the call of a block itself, only of its parts
            hooks.append(block.dropout.register_forward_hook(lambda module, inputs, output: states.append(output)))
        self.encode(batch)
        for hook in hooks:
            hook.remove()
        return [self.fetch(hidden, batch) for hidden in states]

    def logits(self, batch: Batch) -> Any:
        import torch

        hidden = self.encode(batch)
        if self.head in OF_TOKENS:
            hidden = hidden[torch.from_numpy(pad(batch)[2] == 1).to(self.device)]
        else:
            hidden = self.module["pooler"](hidden[:, 0]).tanh()
        if self.head == "question-answering":
            return self.module["qa_outputs"](hidden)
        return self.module["classifier"](self.module["dropout"](hidden))

    def export(self) -> dict[str, Array]:
        state = {name: to_numpy(tensor) for name, tensor in self.module.state_dict().items()}
        weights = self.spare | {theirs: state[own] for own, theirs in self.names.items()}
        weights[SEGMENTS] = weights[SEGMENTS][1:]
        prefix = {name: "" if name.startswith(("classifier.", "qa_outputs.")) else "bert." for name in weights}
        return {prefix[name] + name: np.ascontiguousarray(array) for name, array in weights.items()}

    def synchronize(self) -> None:
        synchronize(self.device)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Trainable:
    """Load the weights of a Hugging Face folder. ValueError or RuntimeError names those that do not fit."""
    import torch

    if precision not in PRECISIONS:
        raise NotImplementedError(f"{NAME} does not compute in {precision}")
    config, encoder, last = read_folder(folder)
    weights = encoder | (last if head is not None else {})
    names = hugging_face_names(config["num_hidden_layers"], head)
    wanted = set(names.values())
    if wrong := wanted ^ (weights.keys() - (NO_PLACE - wanted)):
        raise ValueError(f"missing or left over: {', '.join(sorted(wrong))}")
    module = build(config, head, len(last.get(f"{last_layer(head)}.bias", ())) if head else 0)
    tensors = {own: torch.from_numpy(weights[theirs]) for own, theirs in names.items()}
    segments = tensors["bert.embedding.segment.weight"]
    tensors["bert.embedding.segment.weight"] = torch.cat([torch.zeros_like(segments[:1]), segments])
    tensors["bert.embedding.position.pe"] = module["bert"].embedding.position.pe
    module.load_state_dict(tensors)
    spare = {name: weights[name] for name in weights.keys() - wanted}
    return Encoder(module.to(device, dtype(precision)).eval(), device, head, names, spare)


def optimizer(parameters: dict[str, Any], recipe: dict[str, Any]) -> Callable[[], Any]:
    """Adam under the package's ``ScheduledOptim``, set up as in its trainer, which clips nothing.

    The learning rate follows from the hidden size and the warm-up.
    """
    import torch
    from bert_pytorch.trainer.optim_schedule import ScheduledOptim

    hidden = parameters["bert.embedding.token.weight"].shape[1]
    adam = torch.optim.Adam(parameters.values(), betas=(0.9, 0.999), weight_decay=recipe["weight_decay"])
    step: Callable[[], Any] = ScheduledOptim(adam, hidden, recipe["warmup"]).step_and_update_lr
    return step


def build(config: dict[str, Any], head: str | None, labels: int) -> Any:
    """The package's ``BERT`` and a head. Positions and layers are replaced, because the constructor fixes sizes."""
    import torch
    from bert_pytorch.model import BERT
    from bert_pytorch.model.embedding.position import PositionalEmbedding
    from bert_pytorch.model.transformer import TransformerBlock

    hidden, heads, dropout = config["hidden_size"], config["num_attention_heads"], config["hidden_dropout_prob"]
    bert = BERT(config["vocab_size"], hidden, 0, heads, dropout)
    bert.embedding.position = PositionalEmbedding(hidden, config["max_position_embeddings"])
    for _ in range(config["num_hidden_layers"]):
        bert.transformer_blocks.append(TransformerBlock(hidden, heads, config["intermediate_size"], dropout))
    modules = {"bert": bert}
    modules |= {} if head is None else {last_layer(head): torch.nn.Linear(hidden, labels)}
    modules |= {} if head is None else {"dropout": torch.nn.Dropout(dropout)}
    modules |= {} if head is None or head in OF_TOKENS else {"pooler": torch.nn.Linear(hidden, hidden)}
    return torch.nn.ModuleDict(modules)
