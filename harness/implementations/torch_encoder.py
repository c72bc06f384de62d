# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.11", "numpy>=1.26", "safetensors>=0.5"]
# ///
"""BERT built from torch's own modules: ``torch.nn.TransformerEncoder`` over embeddings and a LayerNorm.

It is called with padded batches and a padding mask. Its numbers are those of the original BERT.
"""

from importlib.metadata import version
from typing import Any

from harness.port import Array, Batch, Model, dtype, pad, read_folder, synchronize, to_numpy, unpad

NAME = "torch-encoder"
TITLE = "torch.nn.TransformerEncoder"
CATALOG_ID = "pytorch"
VARIANTS: dict[str, str] = {}
DEVIATIONS: dict[str, str] = {}

EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings")
LAYER = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}


class Encoder:
    """Modules of torch as a ``harness.port.Model``."""

    batching = "padded"

    def __init__(self, module: Any, device: str) -> None:
        self.module, self.device = module, device
        self.version = f"torch {version('torch')}"

    def embed(self, batch: Batch) -> tuple[Any, Any]:
        """Hidden states before the first layer, [sequences, longest, hidden], and where padding is."""
        import torch

        ids, segments, mask = (torch.from_numpy(x).to(self.device) for x in pad(batch))
        positions = torch.arange(ids.shape[1], device=self.device)
        tables = (self.module[name] for name in EMBEDDINGS)
        rows = [table(numbers) for table, numbers in zip(tables, (ids, positions, segments), strict=True)]
        return self.module["LayerNorm"](sum(rows)), mask == 0

    def encode(self, batch: Batch) -> Any:
        hidden, padding = self.embed(batch)
        return self.module["encoder"](hidden, src_key_padding_mask=padding)

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        return unpad(to_numpy(encoded), batch)

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        return to_numpy(self.module["pooler"](encoded[:, 0]).tanh()) if "pooler" in self.module else None

    def layers(self, batch: Batch) -> list[Array]:
        hidden, padding = self.embed(batch)
        states = [hidden]
        for layer in self.module["encoder"].layers:
            states.append(layer(states[-1], src_key_padding_mask=padding))
        return [self.fetch(hidden, batch) for hidden in states]

    def synchronize(self) -> None:
        synchronize(self.device)


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. RuntimeError names all that are missing, left over or misshapen."""
    import torch

    config, encoder, _ = read_folder(folder)
    module = build(config, "pooler.dense.weight" in encoder)
    tensors = {name: torch.from_numpy(array) for name, array in encoder.items()}
    module.load_state_dict(torch_names(tensors, config["num_hidden_layers"]))
    return Encoder(module.to(device, dtype(precision)).eval(), device)


def build(config: dict[str, Any], has_pooler: bool) -> Any:
    """The modules, with random weights."""
    from torch import nn

    hidden, eps = config["hidden_size"], config.get("layer_norm_eps", 1e-12)
    layer = nn.TransformerEncoderLayer(
        hidden,
        config["num_attention_heads"],
        config["intermediate_size"],
        activation=config["hidden_act"],
        layer_norm_eps=eps,
        batch_first=True,
    )
    sizes = (config["vocab_size"], config["max_position_embeddings"], config["type_vocab_size"])
    modules: dict[str, nn.Module] = {
        name: nn.Embedding(size, hidden) for name, size in zip(EMBEDDINGS, sizes, strict=True)
    }
    modules["LayerNorm"] = nn.LayerNorm(hidden, eps=eps)
    modules["encoder"] = nn.TransformerEncoder(layer, config["num_hidden_layers"])
    if has_pooler:
        modules["pooler"] = nn.Linear(hidden, hidden)
    return nn.ModuleDict(modules)


def torch_names(tensors: dict[str, Any], layers: int) -> dict[str, Any]:
    """The weights under the names of ``build``. Unknown names are kept, so that loading reports them."""
    import torch

    state = dict(tensors)
    names = {"pooler": "pooler.dense"} | {name: f"embeddings.{name}" for name in (*EMBEDDINGS, "LayerNorm")}
    for i in range(layers):
        own, theirs = f"encoder.layers.{i}", f"encoder.layer.{i}"
        names |= {f"{own}.{a}": f"{theirs}.{b}" for a, b in LAYER.items()}
        for kind in ("weight", "bias"):
            parts = [f"{theirs}.attention.self.{part}.{kind}" for part in ("query", "key", "value")]
            if all(part in state for part in parts):
                state[f"{own}.self_attn.in_proj_{kind}"] = torch.cat([state.pop(part) for part in parts])
    for own, theirs in names.items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" in state:
                state[f"{own}.{kind}"] = state.pop(f"{theirs}.{kind}")
    return state
