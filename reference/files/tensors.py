"""Reads the tensors in files of weights, under the files' own names. Code in a pickle is never run."""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reference.errors import CheckpointError
from reference.files.names import ANCHOR
from reference.files.weights import WeightFiles
from reference.tf_checkpoint import bundle_variables, google_names, read_tf_checkpoint, to_hugging_face_names

Tensors = dict[str, Tensor]
CLASS = re.compile(r"GLOBAL ([\w.]+)")  # in torch's message about code that it refuses to run


def read_tensors(found: WeightFiles, verify: bool = True) -> tuple[Tensors, list[str]]:
    """The tensors in all files, and the names of other entries. TensorFlow's variables get Hugging Face's names.

    If the format allows it, the file is mapped, and numbers are read when they are needed. ``verify``: compare
    TensorFlow's checksums. Raises CheckpointError for a file that is damaged or contains no tensors.
    """
    if found.form == "tensorflow":
        return _read_tensorflow(found.prefix, verify)
    tensors: Tensors = {}
    others: list[str] = []
    for file in found.files:
        own, left = (_read_safetensors(file), []) if file.suffix == ".safetensors" else _read_pickle(file)
        if twice := sorted(own.keys() & tensors.keys()):
            raise CheckpointError(f"{file}: {twice[0]} is in another shard too; download all shards of one save again")
        tensors |= own
        others += left
    return tensors, others


def _read_safetensors(file: Path) -> Tensors:
    try:
        tensors: Tensors = load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{file}: cannot read the weights: {error}") from error
    return tensors


def _read_tensorflow(prefix: Path, verify: bool) -> tuple[Tensors, list[str]]:
    wanted, others = google_names(bundle_variables(prefix))
    arrays = to_hugging_face_names(read_tf_checkpoint(prefix, verify=verify, wanted=wanted))
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, others


def _read_pickle(file: Path) -> tuple[Tensors, list[str]]:
    """A file of ``torch.save``: a state dict, perhaps inside a dictionary with other state of a training run."""
    mapped = zipfile.is_zipfile(file)  # the format since torch 1.6 can be mapped
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # damage raises many classes of errors, refused code one of pickle's
        raise CheckpointError(f"{file}: not a plain file of tensors: {_why(error)}") from error
    state = _state_dict(content, file)
    tensors = {name: tensor for name, tensor in state.items() if torch.is_tensor(tensor)}
    return tensors, [str(name) for name in state if name not in tensors]


def _why(error: Exception) -> str:
    """The cause and the remedy, for an error of torch. (Torch's own advice is to run the code in the file.)"""
    alone = "save only the tensors, with torch.save(model.state_dict(), FILE), where the file was made"
    text = str(error)
    if code := CLASS.search(text):
        return f"it contains objects of {code[1]}, which can only be read by running code; {alone}"
    if "TorchScript" in text:
        return f"it is a TorchScript program; {alone}"
    return "it is damaged or truncated; download it again"


def _state_dict(content: Any, file: Path) -> dict[Any, Any]:
    """The dictionary of tensors in a file's content, however nested. Raises CheckpointError if it is ambiguous."""
    if _has_tensors(content):
        return dict(content)
    found = dict(_wrapped(content, 2)) if isinstance(content, dict) else {}
    encoders = {name: each for name, each in found.items() if _has_encoder(each)} or found
    if len(encoders) > 1:
        raise CheckpointError(
            f"{file}: contains weights under several names ({', '.join(encoders)}); save only those that you mean"
        )
    if not encoders:
        raise CheckpointError(f"{file}: not a dictionary of tensors by name")
    return dict(next(iter(encoders.values())))


def _wrapped(content: dict[Any, Any], depth: int) -> list[tuple[str, dict[Any, Any]]]:
    """Dictionaries of tensors inside another dictionary, each with its path of names."""
    found: list[tuple[str, dict[Any, Any]]] = []
    for name, each in content.items():
        if _has_tensors(each):
            found.append((str(name), each))
        elif isinstance(each, dict) and depth > 1:
            found += [(f"{name}.{inner}", state) for inner, state in _wrapped(each, depth - 1)]
    return found


def _has_tensors(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and any(map(torch.is_tensor, content.values()))
        and all(isinstance(name, str) for name in content)
    )


def _has_encoder(state: dict[Any, Any]) -> bool:
    return any(name.endswith(ANCHOR) for name in state)
