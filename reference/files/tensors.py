"""Reads the tensors of a file of weights, under the names that the file has; no code in a file is ever run."""

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
CLASS = re.compile(r"GLOBAL ([\w.]+)")  # in what torch says of code that it does not run


def read_tensors(found: WeightFiles, verify: bool = True) -> tuple[Tensors, list[str]]:
    """The tensors of all files, and the names of what else is in them; of TensorFlow's, renamed as Hugging Face does.

    Where the file allows it, the numbers are read from the disk when they are needed. ``verify``: compare them with
    TensorFlow's checksums. CheckpointError where a file is damaged, or no file of tensors.
    """
    if found.form == "tensorflow":
        return _read_tensorflow(found.prefix, verify)
    tensors: Tensors = {}
    others: list[str] = []
    for file in found.files:
        own, left = (_read_safetensors(file), []) if file.suffix == ".safetensors" else _read_pickle(file)
        if twice := sorted(own.keys() & tensors.keys()):
            raise CheckpointError(f"{file}: {twice[0]} is in another shard too; get the shards again, all of one save")
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
    """What ``torch.save`` wrote: a state dict, or one wrapped with what training keeps beside it."""
    mapped = zipfile.is_zipfile(file)  # torch's format since 1.6
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # damage shows as many classes of error, code that is refused as one of pickle's
        raise CheckpointError(f"{file}: not a plain file of tensors: {_why(error)}") from error
    state = _state_dict(content, file)
    tensors = {name: tensor for name, tensor in state.items() if torch.is_tensor(tensor)}
    return tensors, [str(name) for name in state if name not in tensors]


def _why(error: Exception) -> str:
    """What torch's error comes to. (Its own advice is to run the code in the file.)"""
    alone = "where it comes from, save the tensors alone, with torch.save(model.state_dict(), FILE)"
    text = str(error)
    if code := CLASS.search(text):
        return f"it holds objects of {code[1]}, which only running code could read; {alone}"
    if "TorchScript" in text:
        return f"it is a program of TorchScript's; {alone}"
    return "it is damaged or was cut off; get it again"


def _state_dict(content: Any, file: Path) -> dict[Any, Any]:
    """The dictionary of tensors in what a file holds, however it is wrapped; CheckpointError where it is uncertain."""
    if _has_tensors(content):
        return dict(content)
    found = dict(_wrapped(content, 2)) if isinstance(content, dict) else {}
    encoders = {name: each for name, each in found.items() if _has_encoder(each)} or found
    if len(encoders) > 1:
        raise CheckpointError(
            f"{file}: holds weights under several names ({', '.join(encoders)}); save those that you mean alone"
        )
    if not encoders:
        raise CheckpointError(f"{file}: not a dictionary of tensors by name")
    return dict(next(iter(encoders.values())))


def _wrapped(content: dict[Any, Any], depth: int) -> list[tuple[str, dict[Any, Any]]]:
    """Dictionaries of tensors inside another, by the names that lead to them."""
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
