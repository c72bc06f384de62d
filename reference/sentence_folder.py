"""Reads a folder of sentence-transformers: which BERT, and what makes one vector of its hidden states.

Read is what sentence-transformers 2 to 6 save of models with a BERT: Transformer, WeightedLayerPooling, Pooling,
Dense, LayerNorm, Normalize and Dropout. A folder without ``modules.json`` is a plain BERT, whose tokens are averaged.
Whatever else a folder asks for is refused; no code in a folder is ever run.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from reference.errors import CheckpointError
from reference.files.tensors import read_tensors
from reference.files.weights import find_weight_files
from reference.pooling import POOLINGS

PACKAGE = "sentence_transformers."  # how the names of its classes begin; all others are a model's own code
FLAGS = {  # of older files, in the order in which several are concatenated
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
TOKENS, SENTENCE = "token_embeddings", "sentence_embedding"  # what modules read and write
OUTPUTS = {("last_hidden_state", TOKENS): (), ("pooler_output", SENTENCE): ("pooler",)}  # of a Transformer -> pooling
# Arguments for transformers that do not change what is computed in float32, nor what is read from where.
HARMLESS = {"torch_dtype", "dtype", "attn_implementation", "add_pooling_layer", "low_cpu_mem_usage", "use_safetensors"}
HARMLESS |= {"use_fast", "output_hidden_states", "cache_dir", "revision", "local_files_only", "token", "use_cache"}
ARGUMENTS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


@dataclass(frozen=True)
class SentenceFolder:
    """What a folder says of its sentence vectors."""

    bert: Path  # the folder of the BERT and its tokenizer
    max_length: int | None = None  # in tokens, [CLS] and [SEP] included; None: as long as tokenizer and model allow
    lower_case: bool = False  # before the tokenizer, whatever that does itself
    layer_weights: Tensor | None = (
        None  # [last layers]: the tokens are a weighted mean of these; None: the last layer's
    )
    of_tokens: tuple[nn.Module, ...] = ()  # what follows on the tokens, [T, size] -> [T, other size]
    pooling: tuple[str, ...] = ("mean",)  # modes of ``reference.pooling``, or "pooler"
    include_prompt: bool = True  # whether the tokens of a prompt are pooled too
    of_sentences: tuple[nn.Module, ...] = ()  # what follows on the sentences, [B, size] -> [B, other size]
    normalize: bool = False  # whether these are then scaled to length 1
    truncate: int | None = None  # after which only so many numbers are kept
    prompts: dict[str, str] = field(default_factory=lambda: {"query": "", "document": ""})
    default_prompt_name: str | None = None
    similarity: str = "cosine"


class Dense(nn.Module):
    """activation(x W^T + b), and x added to it where ``residual`` says so. [..., inputs] -> [..., outputs]"""

    def __init__(self, inputs: int, outputs: int, bias: bool, activation: nn.Module, residual: bool) -> None:
        super().__init__()
        self.linear, self.activation_function = nn.Linear(inputs, outputs, bias), activation
        self.add = residual
        if residual and inputs != outputs:
            self.residual = nn.Linear(inputs, outputs, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        out = self.activation_function(self.linear(rows))
        return out + (self.residual(rows) if hasattr(self, "residual") else rows) if self.add else out


class Normalize(nn.Module):
    """Rows of length 1. [..., size] -> [..., size]"""

    def forward(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=-1)


def read_sentence_folder(folder: Path) -> SentenceFolder:
    """Read ``modules.json`` and what it names; CheckpointError, naming the file, for what is not computed here."""
    if not (folder / "modules.json").is_file():
        return SentenceFolder(folder)
    try:
        return _with_modules(folder)
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(f"{folder}: its modules cannot be read: {error}") from error


def _with_modules(folder: Path) -> SentenceFolder:
    file = folder / "modules.json"
    modules = [(_kind(file, str(each["type"])), _inside(file, str(each["path"]))) for each in _json(file, list)]
    if not modules or modules[0][0] != "Transformer":
        first = modules[0][0] if modules else "missing"
        raise CheckpointError(
            f"{file}: its first module is {first}; only models that begin with a Transformer are read"
        )
    read = _transformer(folder / modules[0][1])
    pooled = bool(read.pooling)
    for kind, path in modules[1:]:
        if kind == "Pooling" and not pooled:
            read, pooled = _pooling(folder / path, read), True
        elif kind == "WeightedLayerPooling" and not pooled and not read.of_tokens:
            read = _weighted_layers(folder / path, read)
        elif kind in READERS and pooled:
            read = replace(read, of_sentences=(*read.of_sentences, READERS[kind](folder / path, SENTENCE)))
        elif kind in READERS and kind != "LayerNorm":
            read = replace(read, of_tokens=(*read.of_tokens, READERS[kind](folder / path, TOKENS)))
        elif kind != "Dropout":  # which drops nothing after training
            where = "after" if pooled else "before"
            raise CheckpointError(f"{file}: a module {kind} {where} the Pooling is not computed here")
    if not pooled:
        raise CheckpointError(f"{file}: it has no Pooling, which makes one vector of a sentence")
    if read.of_sentences and isinstance(read.of_sentences[-1], Normalize):
        read = replace(read, of_sentences=read.of_sentences[:-1], normalize=True)
    return _settings(folder, read)


def _kind(file: Path, name: str) -> str:
    """The class of a module without its package, which has changed between versions."""
    if not name.startswith(PACKAGE):
        raise CheckpointError(f"{file}: the module {name} is code of the model's own, which is never run")
    return name.rpartition(".")[2]


def _inside(file: Path, path: str) -> str:
    parts = PurePosixPath(path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise CheckpointError(f"{file}: the path {path!r} leads out of the folder")
    return str(parts)


def _json(file: Path, kind: type = dict) -> Any:
    """What a file holds; nothing where there is none."""
    if not file.is_file():
        return kind()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: {error}") from error
    if not isinstance(content, kind):
        raise CheckpointError(f"{file}: it holds no JSON {'list' if kind is list else 'object'}")
    return content


def _settings(folder: Path, read: SentenceFolder) -> SentenceFolder:
    """The same with what ``config_sentence_transformers.json`` says."""
    file = folder / "config_sentence_transformers.json"
    said = _json(file)
    if (kind := said.get("model_type", "SentenceTransformer")) != "SentenceTransformer":
        raise CheckpointError(f"{file}: it is a {kind}, not a SentenceTransformer with one dense vector for a text")
    prompts = read.prompts | {name: prompt or "" for name, prompt in said.get("prompts", {}).items()}
    default = said.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise CheckpointError(f"{file}: default_prompt_name is {default!r}, which is not among its prompts")
    truncate, similarity = said.get("truncate_dim"), said.get("similarity_fn_name")
    if truncate is not None and (type(truncate) is not int or truncate < 1):
        raise CheckpointError(f"{file}: truncate_dim is {truncate!r}; it is a whole number from 1")
    return replace(
        read,
        prompts=prompts,
        default_prompt_name=default,
        truncate=truncate,
        similarity=similarity if similarity in SIMILARITIES else "cosine",
    )


def width_after(modules: Sequence[nn.Module], width: int) -> int:
    """The size of vectors of ``width`` numbers after these modules; ValueError where one takes others."""
    for module in modules:
        if isinstance(module, Dense):
            takes, gives = module.linear.in_features, module.linear.out_features
        elif isinstance(module, nn.LayerNorm):
            takes = gives = module.normalized_shape[0]
        else:
            takes = gives = width
        if takes != width:
            raise ValueError(f"{type(module).__name__} takes vectors of {takes} numbers, and is given {width}")
        width = gives
    return width


# -- the modules --


def _transformer(folder: Path) -> SentenceFolder:
    file = folder / "sentence_bert_config.json"
    said = _json(file)
    outputs = said.get("modality_config", {"text": {"method": "forward", "method_output_name": "last_hidden_state"}})
    text = outputs.get("text", {})
    output = (text.get("method_output_name"), said.get("module_output_name", TOKENS))
    unusual = [key for key in ("processing_kwargs", "tokenizer_name_or_path", "query_expansion") if said.get(key)]
    unusual += [f"{key}: {name}" for key in ARGUMENTS for name in said.get(key, {}) if name not in HARMLESS]
    if said.get("transformer_task", "feature-extraction") != "feature-extraction":
        unusual.append(f"transformer_task: {said['transformer_task']}")
    if set(outputs) != {"text"} or text.get("method") != "forward" or output not in OUTPUTS:
        unusual.append("modality_config")
    if unusual:
        raise CheckpointError(f"{file}: {', '.join(unusual)} asks for more than is computed here")
    length = said.get("max_seq_length")
    if length is not None and type(length) is not int:
        raise CheckpointError(f"{file}: max_seq_length is {length!r}; it is a whole number")
    return SentenceFolder(folder, length, bool(said.get("do_lower_case", False)), pooling=OUTPUTS[output])


def _pooling(folder: Path, read: SentenceFolder) -> SentenceFolder:
    said = _json(folder / "config.json")
    modes = said.get("pooling_mode") or [mode for flag, mode in FLAGS.items() if said.get(flag)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if unknown := [str(mode) for mode in modes if mode not in POOLINGS]:
        raise CheckpointError(f"{folder / 'config.json'}: pooling {unknown[0]} is not one of {', '.join(POOLINGS)}")
    return replace(read, pooling=tuple(modes), include_prompt=bool(said.get("include_prompt", True)))


def _weighted_layers(folder: Path, read: SentenceFolder) -> SentenceFolder:
    """Weights of the last layers; without ``output_hidden_states`` the module passes on the last layer's tokens."""
    if not _json(read.bert / "config.json").get("output_hidden_states"):
        return read
    return replace(read, layer_weights=_tensors(folder)["layer_weights"])


def _dense(folder: Path, where: str) -> nn.Module:
    said = _checked(folder, where)
    name = said.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation = getattr(nn, name.rpartition(".")[2], None) if name.startswith("torch.nn.modules.") else None
    if not (isinstance(activation, type) and issubclass(activation, nn.Module)):
        raise CheckpointError(f"{folder / 'config.json'}: the activation {name} is none of torch.nn's")
    residual = bool(said.get("use_residual", False))
    module = Dense(said["in_features"], said["out_features"], said.get("bias", True), activation(), residual)
    return _loaded(module, folder)


def _layer_norm(folder: Path, where: str) -> nn.Module:
    norm = nn.ModuleDict({"norm": nn.LayerNorm(_checked(folder, where)["dimension"])})
    return _loaded(norm, folder)["norm"]  # type: ignore[index]


def _normalize(folder: Path, where: str) -> nn.Module:
    _checked(folder, where)
    return Normalize()


READERS: dict[str, Callable[[Path, str], nn.Module]] = {
    "Dense": _dense,
    "LayerNorm": _layer_norm,
    "Normalize": _normalize,
}


def _checked(folder: Path, where: str) -> dict[str, Any]:
    """The configuration of a module, which reads and writes ``where``."""
    said: dict[str, Any] = _json(folder / "config.json")
    source = said.get("module_input_name", SENTENCE)
    target = said.get("module_output_name") or source
    if (source, target) != (where, where):
        place = "before" if where == TOKENS else "after"
        why = f"it reads {source} and writes {target}; {place} the Pooling only {where} is computed"
        raise CheckpointError(f"{folder / 'config.json'}: {why}")
    return said


def _tensors(folder: Path) -> dict[str, Tensor]:
    return read_tensors(find_weight_files(folder))[0]


def _loaded(module: nn.Module, folder: Path) -> nn.Module:
    """A module with the weights in its folder; CheckpointError naming what is missing, left over or misshapen."""
    tensors: Mapping[str, Tensor] = _tensors(folder)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: {' '.join(str(error).split())}") from error
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise CheckpointError(f"{folder}: not all its numbers are finite")
    return module.eval().requires_grad_(False)
