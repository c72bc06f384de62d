"""Reads weights from a Hugging Face folder or Google's TensorFlow checkpoint, and writes a Hugging Face folder.

In between, a checkpoint is a plain dict of tensors under Hugging Face's names, with the prefix ``bert.``.
Nothing is initialised silently. If a tensor of the encoder is missing, unexpected or of another shape, an error names
it. A new head has to be asked for, with ``add_head``; if the head needs a pooler and there is none, ``drawn`` says that
``add_head`` draws one.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reference.errors import CheckpointError
from reference.files.config import read_config_file
from reference.files.names import HEADS as HEAD_PREFIXES
from reference.files.names import TIED, standard_names, unwrap
from reference.files.tensors import read_tensors
from reference.files.weights import WeightFiles, config_file, find_weight_files
from reference.heads import HEADS, Head
from reference.model import Bert, BertConfig

# From our names to Hugging Face's; the first rule that matches is applied.
RENAMES = [
    (r"^bert\.embeddings\.(word|position)\.", r"bert.embeddings.\1_embeddings."),
    (r"^bert\.embeddings\.segment\.", r"bert.embeddings.token_type_embeddings."),
    (r"^bert\.embeddings\.norm\.", r"bert.embeddings.LayerNorm."),
    (r"^bert\.layers\.(\d+)\.attention\.output\.", r"bert.encoder.layer.\1.attention.output.dense."),
    (r"^bert\.layers\.(\d+)\.attention_norm\.", r"bert.encoder.layer.\1.attention.output.LayerNorm."),
    (r"^bert\.layers\.(\d+)\.up\.", r"bert.encoder.layer.\1.intermediate.dense."),
    (r"^bert\.layers\.(\d+)\.down\.", r"bert.encoder.layer.\1.output.dense."),
    (r"^bert\.layers\.(\d+)\.output_norm\.", r"bert.encoder.layer.\1.output.LayerNorm."),
    (r"^dense\.", "cls.predictions.transform.dense."),
    (r"^norm\.", "cls.predictions.transform.LayerNorm."),
    (r"^bias$", "cls.predictions.bias"),
    (r"^next_sentence\.", "cls.seq_relationship."),
    (r"^span\.", "qa_outputs."),
]
QKV = re.compile(r"^bert\.layers\.(\d+)\.attention\.qkv\.(weight|bias)$")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
POOLED = ("classification", "regression", "multi-label")  # the heads that need a pooler
POOLER = ("bert.pooler.dense.weight", "bert.pooler.dense.bias")
WORDS = tuple(  # of the vocabulary head; its output weights are the input embeddings
    f"cls.predictions.{name}"
    for name in (
        "transform.dense.weight",
        "transform.dense.bias",
        "transform.LayerNorm.weight",
        "transform.LayerNorm.bias",
        "bias",
    )
)

ARCHITECTURES = {
    None: "BertModel",
    "pre-training": "BertForPreTraining",
    "masked-lm": "BertForMaskedLM",
    "classification": "BertForSequenceClassification",
    "regression": "BertForSequenceClassification",
    "multi-label": "BertForSequenceClassification",
    "tagging": "BertForTokenClassification",
    "question-answering": "BertForQuestionAnswering",
}
PROBLEM_TYPES = {
    "classification": "single_label_classification",
    "regression": "regression",
    "multi-label": "multi_label_classification",
}


@dataclass(frozen=True)
class Checkpoint:
    """A configuration and the tensors that go with it."""

    config: BertConfig
    tensors: dict[str, Tensor]  # Hugging Face names, encoder under "bert."
    labels: tuple[str, ...] = ()  # names of the classes, in order, if the folder has them
    notes: tuple[str, ...] = ()  # sentences about tensors that were renamed or left out


def read(path: Path | str, values: bool = True) -> Checkpoint:
    """Read a Hugging Face folder, a folder of Google's, one file of weights, or a TensorFlow checkpoint's prefix.

    The encoder that is returned is complete: it has exactly the tensors of the configuration, each in its shape; only a
    pooler is optional. ``values``: also check that all numbers are finite, and TensorFlow's checksums, which takes time
    for large models.
    Raises CheckpointError, which names the file and says what to do, if there is no such checkpoint.
    """
    found = find_weight_files(path)
    config, labels = read_config(path)
    tensors, others = read_tensors(found, verify=values)
    try:
        unwrapped = unwrap(tensors)
        named = standard_names(unwrapped.tensors)
        kept = {name: tensor for name, tensor in named.items() if name.startswith(("bert.", *HEAD_PREFIXES))}
        _check_encoder(kept, config)
        if values:
            _check_finite({name: tensor for name, tensor in kept.items() if name.startswith("bert.")})
    except CheckpointError as error:
        raise CheckpointError(f"{_location(found)}: {error}") from error
    others += [*unwrapped.others, *(name for name in named if name not in kept)]
    return Checkpoint(config, kept, labels, tuple(_notes(unwrapped.prefix, others, kept)))


def read_config(path: Path | str) -> tuple[BertConfig, tuple[str, ...]]:
    """The configuration of a checkpoint and the names of its classes; does not read the weights."""
    return read_config_file(config_file(path))


def _location(found: WeightFiles) -> str:
    return str(found.files[0] if len(found.files) == 1 else found.folder)


def _notes(prefix: str, others: list[str], kept: Mapping[str, Tensor]) -> Iterator[str]:
    if prefix:
        yield f"the names of its tensors begin with {prefix}, which is taken off"
    heads = sorted({name.rpartition(".")[0] for name in kept if not name.startswith("bert.")})
    if left := heads + others:
        yield f"no part of the encoder, and left out unless a task needs them: {_some(left)}"


def _check_encoder(tensors: Mapping[str, Tensor], config: BertConfig) -> None:
    """Raise CheckpointError unless the tensors under ``bert.`` are the encoder of this configuration."""
    own = {name: tensor for name, tensor in tensors.items() if name.startswith("bert.")}
    _check_layers(own, config)
    with torch.device("meta"):
        bert = Bert(config, pooler=any(name.startswith("bert.pooler.") for name in own))
    wanted = {part: shape for _, parts, shape in _wanted(bert, bare=True) for part in parts}
    if unexpected := sorted(own.keys() - wanted.keys()):
        raise CheckpointError(f"unexpected tensors in the encoder: {_some(unexpected)}")
    _check_there(own, wanted.keys())
    _check_shapes(own, wanted)


def _check_there(tensors: Mapping[str, Tensor], wanted: Collection[str], hint: str = "") -> None:
    if missing := sorted(set(wanted) - tensors.keys()):
        raise CheckpointError(f"{hint}missing tensors: {_some(missing)}")


def _check_shapes(tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError, which names the tensor, for another shape or for numbers that no model computes with."""
    for name, expected in wanted.items():
        tensor = tensors[name]
        if (shape := tuple(tensor.shape)) != expected:
            raise CheckpointError(f"{name}: shape {shape}, expected {expected} by the configuration; one is wrong")
        if tensor.layout != torch.strided or tensor.dtype not in DTYPES:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"{name}: numbers of {kind}: quantised weights are not read; give the original ones")


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    if bad := [name for name, tensor in tensors.items() if not _finite(tensor)]:
        raise CheckpointError(f"not all numbers are finite (NaN or infinite) in {_some(bad)}; training it failed")


def _finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite. Their sum shows it without extra memory, unless the sum itself overflows."""
    total = tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))
    return bool(total.isfinite()) or bool(tensor.isfinite().all())


def _check_layers(tensors: Mapping[str, Tensor], config: BertConfig) -> None:
    numbers = [int(match[1]) for name in tensors if (match := re.match(r"bert\.encoder\.layer\.(\d+)\.", name))]
    if (layers := max(numbers, default=-1) + 1) != config.num_hidden_layers:
        raise CheckpointError(
            f"num_hidden_layers is {config.num_hidden_layers}, and the weights have {layers} layers; "
            "use the configuration that belongs to the weights"
        )


def build(checkpoint: Checkpoint, head: str | None = None, dtype: torch.dtype = torch.float32) -> Bert | Head:
    """A ``Bert``, or with ``head`` one of ``reference.heads.HEADS``, with the checkpoint's weights; in eval mode.

    Raises CheckpointError, which names the tensors that are missing or of another shape.
    """
    with torch.device("meta"):  # without initial values and without memory
        module = _empty(checkpoint, head)
    wanted = list(_wanted(module, bare=head is None))
    _check_head(checkpoint.tensors, {part for _, parts, _ in wanted for part in parts}, head)
    _check_shapes(checkpoint.tensors, {part: shape for _, parts, shape in wanted for part in parts})
    _check_finite({part: checkpoint.tensors[part] for _, parts, _ in wanted for part in parts if _of_head(part)})
    state = {name: torch.cat([checkpoint.tensors[part].to(dtype) for part in parts]) for name, parts, _ in wanted}
    module.load_state_dict(state, assign=True)
    return module.eval()


def _of_head(name: str) -> bool:
    return name.startswith(HEAD_PREFIXES)


def _wanted(module: nn.Module, bare: bool) -> Iterator[tuple[str, list[str], tuple[int, ...]]]:
    """Each of our tensors' names, with Hugging Face's names of its parts and the shape of a part."""
    for name, tensor in module.state_dict().items():
        parts = hugging_face_names(name, bare)
        yield name, parts, (tensor.shape[0] // len(parts), *tensor.shape[1:])


def _empty(checkpoint: Checkpoint, head: str | None) -> Bert | Head:
    """The module for this checkpoint and head, on torch's current device."""
    if head is None:
        return Bert(checkpoint.config, pooler="bert.pooler.dense.weight" in checkpoint.tensors)
    if head not in HEADS:
        raise ValueError(f"head {head!r} is not one of {', '.join(HEADS)}")
    bert = Bert(checkpoint.config, pooler=head not in ("tagging", "question-answering", "masked-lm"))
    if head in ("pre-training", "question-answering", "masked-lm"):
        return HEADS[head](bert)
    if "classifier.weight" not in checkpoint.tensors:
        raise CheckpointError(
            f"this checkpoint has no {head} head (classifier.weight, classifier.bias are missing); "
            "fine-tune it first, or start a new head with reference.checkpoint.add_head"
        )
    return HEADS[head](bert, checkpoint.tensors["classifier.weight"].shape[0])


def _check_head(tensors: Mapping[str, Tensor], required: Collection[str], head: str | None) -> None:
    missing = set(required) - tensors.keys()
    without = missing and all(map(_of_head, missing))
    _check_there(tensors, required, f"this checkpoint has no {head} head; " if without else "")
    if head in ("pre-training", "masked-lm") and (untied := [copy for copy, _ in TIED if copy in tensors]):
        originals = dict(TIED)
        raise CheckpointError(
            f"{untied[0]} differs from {originals[untied[0]]}; in BERT's pre-training head they are one tensor"
        )


def hugging_face_names(name: str, bare: bool = False) -> list[str]:
    """Hugging Face's name of one of our tensors; three names for the fused query, key and value.

    ``bare``: the name is from a ``Bert`` without a head, so it lacks the prefix ``bert.``.
    """
    if bare:
        name = f"bert.{name}"
    if match := QKV.match(name):
        layer, kind = match.groups()
        return [f"bert.encoder.layer.{layer}.attention.self.{part}.{kind}" for part in ("query", "key", "value")]
    for pattern, replacement in RENAMES:
        if re.search(pattern, name):
            return [re.sub(pattern, replacement, name)]
    return [name]


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The weights of a ``Bert`` or of a head on one, on the CPU, under Hugging Face's names."""
    tensors: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        names = hugging_face_names(name, bare=isinstance(module, Bert))
        tensors.update(zip(names, value.detach().cpu().chunk(len(names)), strict=True))
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def lacks_words(checkpoint: Checkpoint) -> list[str]:
    """The tensors of the vocabulary head that the checkpoint does not have; none: it predicts masked words."""
    return [name for name in WORDS if name not in checkpoint.tensors]


def drawn(checkpoint: Checkpoint, head: str) -> list[str]:
    """The tensors of a pooler if ``add_head`` draws one, because the head needs it and the checkpoint lacks it."""
    return [name for name in POOLER if head in POOLED and name not in checkpoint.tensors]


def add_head(checkpoint: Checkpoint, head: str, labels: list[str], seed: int) -> Checkpoint:
    """The same encoder with a new head, drawn at random as the paper initialises weights, with this ``seed``.

    A pooler that the head needs and the checkpoint lacks is drawn too. A previous head is dropped.
    """
    config = checkpoint.config
    hidden, generator = config.hidden_size, torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        std = config.initializer_range
        return torch.nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std, generator=generator)

    tensors = {name: t for name, t in checkpoint.tensors.items() if not name.startswith(HEAD_PREFIXES)}
    if drawn(checkpoint, head):
        tensors |= dict(zip(POOLER, (normal(hidden, hidden), torch.zeros(hidden)), strict=True))
    if head in (*POOLED, "tagging"):
        tensors |= {"classifier.weight": normal(len(labels), hidden), "classifier.bias": torch.zeros(len(labels))}
    elif head == "question-answering":
        tensors |= {"qa_outputs.weight": normal(2, hidden), "qa_outputs.bias": torch.zeros(2)}
    else:
        raise ValueError(f"a new {head!r} head cannot be added")
    return Checkpoint(config, tensors, tuple(labels))


def save(checkpoint: Checkpoint, folder: Path | str, head: str | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors`` in the format of transformers."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {"architectures": [ARCHITECTURES[head]], "model_type": "bert"}
    config |= asdict(checkpoint.config) | {"pad_token_id": 0}
    if head in PROBLEM_TYPES:
        config["problem_type"] = PROBLEM_TYPES[head]
    if checkpoint.labels:
        config["id2label"] = {str(i): label for i, label in enumerate(checkpoint.labels)}
        config["label2id"] = {label: i for i, label in enumerate(checkpoint.labels)}
    elif "classifier.weight" in checkpoint.tensors:  # transformers assumes two otherwise
        config["num_labels"] = checkpoint.tensors["classifier.weight"].shape[0]
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    partial = folder / "model.safetensors.part"  # so that an interrupted save leaves no partial file under the name
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _some(names: Collection[str], most: int = 5) -> str:
    shown = list(names)[:most]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
