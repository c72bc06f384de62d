"""Weights of a run: whatever form they come in, implementations get the one that they read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.errors import BadInput
from harness.measure.plan import Plan
from harness.weights.checkpoints import Checkpoints

Tensors = dict[str, torch.Tensor]


def checkpoints_of(plan: Plan, folder: Path) -> Checkpoints:
    return Checkpoints(plan.weights.folder, plan.tokenizer, folder)


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
    assert checkpoints_of(made, tmp_path).bare() == tiny_checkpoint


@pytest.mark.parametrize("stored", [old_names, halves])
def test_other_names_and_precisions_are_written_anew(
    stored: Callable[[Tensors], Tensors], prepared: Callable[..., Plan], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "weights"))
    tensors = load_file(folder / "model.safetensors")
    save_file(stored(tensors), folder / "model.safetensors", {"format": "pt"})
    bare = checkpoints_of(prepared(weights=str(folder)), tmp_path / "run").bare()
    assert bare != folder
    written = load_file(bare / "model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {torch.float32}
    assert {name.removeprefix("bert.") for name in written} == {name.removeprefix("bert.") for name in tensors}
    assert json.loads((bare / "config.json").read_text())["hidden_size"]
    assert (bare / "vocab.txt").is_file() or (bare / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        (lambda t: {f"module.{name}": tensor for name, tensor in t.items()}, {}),
        (lambda t: t | {"crf.transitions": torch.zeros(5, 5)}, {}),
        (lambda t: t | {"bert.embeddings.token_type_ids": torch.zeros(1, 512).long()}, {}),
        (dict, {"torch_dtype": "float16"}),
        (dict, {"auto_map": {"AutoModel": "modeling.py--Own"}}),
        (dict, {"model_type": None}),
        (dict, {"hidden_act": None}),
    ],
)
def test_what_no_port_reads_is_written_as_all_read_it(
    change: Callable[[Tensors], Tensors],
    settings: dict[str, Any],
    prepared: Callable[..., Plan],
    tiny_checkpoint: Path,
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "weights"))
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps({name: v for name, v in config.items() if v is not None}))

    bare = checkpoints_of(prepared(weights=str(folder)), tmp_path / "run").bare()

    assert bare != folder
    written = load_file(bare / "model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors.items())
    said = json.loads((bare / "config.json").read_text())
    assert (said["model_type"], said["hidden_act"]) == ("bert", "gelu")
    assert not {"auto_map", "torch_dtype"} & said.keys()


def test_weights_that_cannot_be_read_are_bad_input(
    prepared: Callable[..., Plan], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "weights"))
    file = folder / "model.safetensors"
    made = prepared(weights=str(folder))
    file.write_bytes(file.read_bytes()[:-1000])  # an interrupted copy
    with pytest.raises(BadInput, match=f"{file}: cannot read the weights: "):
        checkpoints_of(made, tmp_path / "run").bare()
    with pytest.raises(BadInput, match=f"{file}: cannot read the weights: "):
        prepared(weights=str(folder))
