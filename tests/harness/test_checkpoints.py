"""Weights of a run: whatever form they come in, implementations get the one that they read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.checkpoints import Checkpoints
from harness.errors import BadInput
from harness.plan import Plan

Tensors = dict[str, torch.Tensor]


def old_names(tensors: Tensors) -> Tensors:
    """Those of Google's TensorFlow code, which older files on the Hub still have."""
    renamed = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    return {
        next((name.replace(new, old) for new, old in renamed.items() if name.endswith(new)), name): tensor
        for name, tensor in tensors.items()
    }


def halves(tensors: Tensors) -> Tensors:
    return {name: tensor.bfloat16() for name, tensor in tensors.items()}


def test_weights_as_the_ports_read_them_are_used_where_they_lie(
    prepared: Callable[..., Plan], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    made = prepared(weights=str(tiny_checkpoint))
    assert Checkpoints(made, tmp_path).bare() == tiny_checkpoint


@pytest.mark.parametrize("stored", [old_names, halves])
def test_other_names_and_precisions_are_written_anew(
    stored: Callable[[Tensors], Tensors], prepared: Callable[..., Plan], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "weights"))
    tensors = load_file(folder / "model.safetensors")
    save_file(stored(tensors), folder / "model.safetensors", {"format": "pt"})
    bare = Checkpoints(prepared(weights=str(folder)), tmp_path / "run").bare()
    assert bare != folder
    written = load_file(bare / "model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {torch.float32}
    assert {name.removeprefix("bert.") for name in written} == {name.removeprefix("bert.") for name in tensors}
    assert json.loads((bare / "config.json").read_text())["hidden_size"]
    assert (bare / "vocab.txt").is_file() or (bare / "tokenizer.json").is_file()


def test_weights_that_cannot_be_read_are_bad_input(
    prepared: Callable[..., Plan], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "weights"))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])  # an interrupted copy
    with pytest.raises(BadInput, match=f"{file}: cannot read the weights: "):
        Checkpoints(prepared(weights=str(folder)), tmp_path / "run").bare()
