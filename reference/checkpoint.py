"""Weights at the edge: from a Hugging Face folder or Google's TensorFlow checkpoint, and to a Hugging Face folder.

In between, a checkpoint is a plain dict of tensors under Hugging Face's names, with the prefix ``bert.``.
Nothing is ever initialised silently: a tensor that is missing, left over or of another shape is an error
that names it; a new head is asked for with ``add_head``.
"""

import json
import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reference.errors import CheckpointError
from reference.heads import HEADS
from reference.model import Bert, BertConfig
from reference.tf_checkpoint import read_tf_checkpoint, to_hugging_face_names

# From our names to Hugging Face's; the first rule that fits is applied.
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
LARGEST = 10**7  # of a configuration's sizes: far above any real one
HEAD_PREFIXES = ("cls.", "classifier.", "qa_outputs.")  # a checkpoint may carry heads that nobody asked for

ARCHITECTURES = {
    None: "BertModel",
    "pre-training": "BertForPreTraining",
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
    labels: tuple[str, ...] = ()  # names of the classes, in order, where the folder says them


def read(path: Path | str) -> Checkpoint:
    """Read a Hugging Face folder, a folder of Google's, or a TensorFlow checkpoint (``.../bert_model.ckpt``).

    Raises CheckpointError, naming the file, where there is no checkpoint or it cannot be read.
    """
    config, labels = read_config(path)
    return Checkpoint(config, standard_names(_read_tensors(Path(path))), labels)


def read_config(path: Path | str) -> tuple[BertConfig, tuple[str, ...]]:
    """The configuration of a checkpoint and the names of its classes, without its weights."""
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    file = next((f for f in (folder / "config.json", folder / "bert_config.json") if f.is_file()), None)
    if file is None:
        raise CheckpointError(f"{folder} has neither config.json nor bert_config.json")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        _check_config(values)
        labels = values.get("id2label") or {}
        return BertConfig.from_dict(values), tuple(labels[key] for key in sorted(labels, key=int))
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def _check_config(values: Any) -> None:
    """ValueError unless every size is there, as a whole number: one left out would be taken for BERT-base's."""
    if not isinstance(values, dict):
        raise ValueError("not an object of settings")
    if values.get("model_type", "bert") != "bert":
        return  # has other sizes; ``from_dict`` says that it is no BERT
    for field in fields(BertConfig):
        value = values.get(field.name, 0)  # what is no size may be left out
        said = f"{value!r:.40}" if field.name in values else "missing"
        if field.type is int and (type(value) is not int or not 1 <= value <= LARGEST):
            raise ValueError(f"{field.name} is {said}; it is a whole number from 1 to {LARGEST}")
        if field.type is float and (type(value) not in (int, float) or not 0 <= value < math.inf):
            raise ValueError(f"{field.name} is {said}; it is a number from 0 on")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors as their file names them."""
    if not path.is_dir():  # a TensorFlow prefix, with or without ".index"
        return _read_tensorflow(path.with_name(path.name.removesuffix(".index")))
    if (file := path / "model.safetensors.index.json").is_file():
        return _read_shards(file)
    if (file := path / "model.safetensors").is_file():
        return _read_safetensors(file)
    if (file := path / "pytorch_model.bin").is_file():
        return _read_pickle(file)
    indexes = sorted(path.glob("*.index"))
    if len(indexes) == 1:
        return _read_tensorflow(indexes[0].with_suffix(""))
    raise CheckpointError(
        f"{path} has no model.safetensors, pytorch_model.bin or (exactly one) TensorFlow checkpoint *.index"
    )


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot read the weights: {error}") from error
    return tensors


def _read_shards(index: Path) -> dict[str, Tensor]:
    try:
        files = sorted({index.parent / s for s in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: not an index of shards: {error!r}") from error
    return {name: tensor for file in files for name, tensor in _read_safetensors(file).items()}


def _read_pickle(file: Path) -> dict[str, Tensor]:
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damage shows as many classes of error, code that is refused as one of pickle's
        raise CheckpointError(f"{file}: not a plain file of tensors: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(n, str) and torch.is_tensor(t) for n, t in tensors.items()):
        raise CheckpointError(f"{file}: not a dictionary of tensors by name")
    return tensors


def _read_tensorflow(prefix: Path) -> dict[str, Tensor]:
    arrays = to_hugging_face_names(read_tf_checkpoint(prefix))
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def standard_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face names as they are today, from any of their older forms.

    Adds the prefix ``bert.`` where a bare encoder was saved, turns TensorFlow's gamma and beta into weight
    and bias, and drops what is not a weight of its own: position numbers and the copy of tied weights.
    """
    named = {}
    for name, tensor in tensors.items():
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
        if name.startswith(("embeddings.", "encoder.", "pooler.")):
            name = f"bert.{name}"
        named[name] = tensor
    named.pop("bert.embeddings.position_ids", None)
    for copy, original in (
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ):
        tied = named.pop(copy, None)
        if tied is not None and not torch.equal(tied, named.setdefault(original, tied)):
            raise CheckpointError(f"{copy} differs from {original}; in BERT they are one tensor")
    return named


def build(checkpoint: Checkpoint, head: str | None = None, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A ``Bert``, or a head of ``reference.heads`` on one, with the weights of the checkpoint; in eval mode.

    Raises CheckpointError naming every tensor that is missing, unexpected or of another shape.
    """
    with torch.device("meta"):  # nothing is initialised, nothing takes memory
        module = _empty(checkpoint, head)
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    wanted = {name: hugging_face_names(name, bare=head is None) for name in shapes}
    required = {name for names in wanted.values() for name in names}
    _check_names(checkpoint.tensors, required, head)
    state = {}
    for name, parts in wanted.items():
        expected = (shapes[name][0] // len(parts), *shapes[name][1:])
        for part in parts:
            if (shape := tuple(checkpoint.tensors[part].shape)) != expected:
                raise CheckpointError(f"{part}: shape {shape}, expected {expected}")
        state[name] = torch.cat([checkpoint.tensors[part].to(dtype) for part in parts])
    module.load_state_dict(state, assign=True)
    return module.eval()


def _empty(checkpoint: Checkpoint, head: str | None) -> nn.Module:
    """The module this checkpoint and head call for, on whatever device is current."""
    if head is None:
        return Bert(checkpoint.config, pooler="bert.pooler.dense.weight" in checkpoint.tensors)
    if head not in HEADS:
        raise ValueError(f"head {head!r} is not one of {', '.join(HEADS)}")
    bert = Bert(checkpoint.config, pooler=head not in ("tagging", "question-answering"))
    if head in ("pre-training", "question-answering"):
        return HEADS[head](bert)
    if "classifier.weight" not in checkpoint.tensors:
        raise CheckpointError(
            f"this checkpoint has no {head} head (classifier.weight, classifier.bias are missing); "
            "fine-tune it first, or start a new head with reference.checkpoint.add_head"
        )
    return HEADS[head](bert, checkpoint.tensors["classifier.weight"].shape[0])


def _check_names(tensors: dict[str, Tensor], required: set[str], head: str | None) -> None:
    missing = sorted(required - tensors.keys())
    if missing:
        without = f"this checkpoint has no {head} head; " if all(n.startswith(HEAD_PREFIXES) for n in missing) else ""
        raise CheckpointError(f"{without}missing tensors: {', '.join(missing)}")
    spare = ("bert.pooler.", *HEAD_PREFIXES)
    unexpected = sorted(name for name in tensors.keys() - required if not name.startswith(spare))
    if unexpected:
        raise CheckpointError(f"unexpected tensors: {', '.join(unexpected)}")


def hugging_face_names(name: str, bare: bool = False) -> list[str]:
    """What Hugging Face calls this tensor of ours; three names for the fused query, key and value.

    ``bare``: the name is that of a ``Bert`` without a head, so it lacks the prefix ``bert.``.
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


def add_head(checkpoint: Checkpoint, head: str, labels: list[str], seed: int) -> Checkpoint:
    """The same encoder under a new head, drawn as the paper initialises weights.

    A pooler that the checkpoint lacks and the head needs is new too. Any head it had is dropped.
    """
    config = checkpoint.config
    hidden, generator = config.hidden_size, torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        std = config.initializer_range
        return torch.nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std, generator=generator)

    tensors = {name: t for name, t in checkpoint.tensors.items() if not name.startswith(HEAD_PREFIXES)}
    if head in ("classification", "regression", "multi-label") and "bert.pooler.dense.weight" not in tensors:
        tensors |= {"bert.pooler.dense.weight": normal(hidden, hidden), "bert.pooler.dense.bias": torch.zeros(hidden)}
    if head in ("classification", "regression", "multi-label", "tagging"):
        tensors |= {"classifier.weight": normal(len(labels), hidden), "classifier.bias": torch.zeros(len(labels))}
    elif head == "question-answering":
        tensors |= {"qa_outputs.weight": normal(2, hidden), "qa_outputs.bias": torch.zeros(2)}
    else:
        raise ValueError(f"a new {head!r} head cannot be added")
    return Checkpoint(config, tensors, tuple(labels))


def save(checkpoint: Checkpoint, folder: Path | str, head: str | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors`` as transformers reads them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {"architectures": [ARCHITECTURES[head]], "model_type": "bert"}
    config |= asdict(checkpoint.config) | {"pad_token_id": 0}
    if head in PROBLEM_TYPES:
        config["problem_type"] = PROBLEM_TYPES[head]
    if checkpoint.labels:
        config["id2label"] = {str(i): label for i, label in enumerate(checkpoint.labels)}
        config["label2id"] = {label: i for i, label in enumerate(checkpoint.labels)}
    elif "classifier.weight" in checkpoint.tensors:  # without names, transformers would take it for two
        config["num_labels"] = checkpoint.tensors["classifier.weight"].shape[0]
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    partial = folder / "model.safetensors.part"  # a killed save never leaves half a file under the real name
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
