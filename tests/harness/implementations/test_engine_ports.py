"""Ports to inference engines: what they compute, in which precision, what they refuse, and what they leave behind.

Exports happen in this process here, which has torch already; test_every_implementation.py sees them as users do.
"""

import importlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.implementations import reference
from harness.measure.parity import Outputs, differences
from harness.port import export
from harness.port.batch import Batch, from_lists
from harness.registry.environments import unmet
from harness.registry.implementations import find
from harness.worker.messages import Array
from reference.checkpoint import Checkpoint, read, save

pytestmark = [
    pytest.mark.engines,
    pytest.mark.filterwarnings("ignore"),  # the exporters', of their own and of torch's
]

EXACT = ["onnxruntime", "openvino", "ctranslate2"]
EIGHT_BITS = ["onnxruntime:int8", "ctranslate2:int8", "openvino-int8", "openvino-int8:calibrated"]
SHORTENED = {**dict.fromkeys(EIGHT_BITS, "int8"), "ctranslate2:int16": "int16", "openvino:bf16": "bf16"}
Load = Callable[..., Any]


@pytest.fixture(scope="module")
def load() -> Load:
    """A function: name of an implementation, folder and precision to its model; no model is loaded twice."""
    patch = pytest.MonkeyPatch()

    @cache
    def load(name: str, folder: Path, precision: str = "fp32") -> Any:
        implementation = find(name)
        if lacking := unmet(implementation.requirements):
            pytest.skip(f"{name} needs {', '.join(lacking)}")
        port = importlib.import_module(f"harness.implementations.{implementation.file.stem}")
        for module in (port, importlib.import_module("harness.implementations.openvino")):
            patch.setattr(module, "apart", lambda function, *arguments: function(*arguments), raising=False)
        return port.load(str(folder), None, "cpu", precision, implementation.variant)

    yield load
    patch.undo()


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Random ids from one token to as many as the model reads, and a pair."""
    generator = np.random.default_rng(0)
    ids = [generator.integers(0, 30522, n).tolist() for n in (7, 1, 40, 512, 33)] + [[101, 7, 102, 8, 9, 102]]
    return from_lists(ids, [[0] * len(sequence) for sequence in ids[:-1]] + [[0, 0, 0, 1, 1, 1]])


@torch.inference_mode()
def outputs(model: Any, batch: Batch) -> Outputs:
    encoded = model.encode(batch)
    model.synchronize()
    layers = model.layers(batch) if hasattr(model, "layers") else []
    return Outputs(model.fetch(encoded, batch), model.pooled(encoded, batch), layers)


@pytest.fixture(scope="module")
def exact(tiny_checkpoint: Path, batch: Batch) -> Outputs:
    return outputs(reference.load(str(tiny_checkpoint), None, "cpu", "fp64"), batch)


@pytest.fixture(scope="module")
def tolerance(tiny_checkpoint: Path, batch: Batch, exact: Outputs) -> float:
    """Four times the rounding of float32."""
    single = outputs(reference.load(str(tiny_checkpoint), None, "cpu", "fp32"), batch)
    return 4 * differences(single, exact)["max"]


def largest(values: Array | None, expected: Array | None) -> float:
    assert values is not None
    assert expected is not None
    assert values.shape == expected.shape
    return float(np.abs(values - expected).max())


@pytest.mark.parametrize("name", EXACT)
def test_hidden_states_and_pooled_output_are_berts(
    load: Load, tiny_checkpoint: Path, batch: Batch, exact: Outputs, tolerance: float, name: str
) -> None:
    model = load(name, tiny_checkpoint)
    found = outputs(model, batch)
    assert found.hidden.dtype == np.float32
    assert largest(found.hidden, exact.hidden) <= tolerance
    assert largest(found.pooled, exact.pooled) <= tolerance
    assert (model.precision, model.batching) == ("fp32", "padded")
    assert model.version.startswith(f"{name} ")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_every_layer_is_shown(
    load: Load, tiny_checkpoint: Path, batch: Batch, exact: Outputs, tolerance: float, name: str
) -> None:
    found = outputs(load(name, tiny_checkpoint), batch)
    assert len(found.layers) == len(exact.layers) == 3
    for mine, theirs in zip(found.layers, exact.layers, strict=True):
        assert largest(mine, theirs) <= tolerance
    assert largest(found.layers[-1], found.hidden) <= tolerance


@pytest.mark.parametrize("name", EXACT)
def test_neighbours_in_the_batch_do_not_matter(
    load: Load, tiny_checkpoint: Path, batch: Batch, exact: Outputs, tolerance: float, name: str
) -> None:
    model = load(name, tiny_checkpoint)
    for sequence in range(len(batch.lengths)):
        alone = batch.select(np.array([sequence]))
        hidden = model.fetch(model.encode(alone), alone)
        assert largest(hidden, exact.hidden[batch.tokens_of(np.array([sequence]))]) <= tolerance


@pytest.mark.parametrize("name", EXACT)
def test_the_next_batch_leaves_the_last_one_alone(load: Load, tiny_checkpoint: Path, batch: Batch, name: str) -> None:
    model = load(name, tiny_checkpoint)
    encoded = model.encode(batch)
    before = model.fetch(encoded, batch).copy()
    other = Batch(batch.ids[::-1].copy(), batch.segments, batch.cu_seqlens)
    assert largest(model.fetch(model.encode(other), other), before) > 0.1
    np.testing.assert_array_equal(model.fetch(encoded, batch), before)


@pytest.mark.parametrize("name", SHORTENED)
def test_fewer_bits_are_near_and_are_said(
    load: Load, minilm_folder: Path, batch: Batch, tolerance: float, name: str
) -> None:
    """On real weights: eight bits for a number suit those that training made, not random ones."""
    text = from_lists([[101, 1996, 2158, 5702, 2075, 1012, 102], [101, 2339, 1029, 102]], [[0] * 7, [0] * 4])
    try:
        model = load(name, minilm_folder)
    except NotImplementedError as error:
        pytest.skip(str(error))
    assert model.precision == SHORTENED[name]
    target = outputs(reference.load(str(minilm_folder), None, "cpu", "fp64"), text)
    found = differences(Outputs(model.fetch(model.encode(text), text), None), target)
    assert found["max"] > 1e-3, "it computes in float32"
    assert found["cosine"] > (0.8 if name in EIGHT_BITS else 0.99)


@pytest.mark.parametrize("name", EXACT)
def test_what_it_cannot_do_is_refused(load: Load, tiny_checkpoint: Path, name: str) -> None:
    said = {
        "onnxruntime": "computes in float32 only",
        "openvino": "does not compute in float64",
        "ctranslate2": "does not compute in float64",
    }
    with pytest.raises(NotImplementedError, match=f"^{name} {said[name]}"):
        load(name, tiny_checkpoint, "fp64")
    port = importlib.import_module(f"harness.implementations.{find(name).file.stem}")
    with pytest.raises(NotImplementedError, match=f"^{name} runs on the CPU only"):
        port.load(str(tiny_checkpoint), None, "cuda", "fp32")


@pytest.mark.parametrize("name", SHORTENED)
def test_fewer_bits_are_no_float64(load: Load, tiny_checkpoint: Path, name: str) -> None:
    with pytest.raises(NotImplementedError):
        load(name, tiny_checkpoint, "fp64")


@pytest.mark.parametrize("name", EXACT)
def test_weights_that_do_not_fit_are_named(load: Load, tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    from safetensors.torch import save_file

    checkpoint, own = read(tiny_checkpoint), "bert.encoder.layer.1.output.dense.weight"
    weight = checkpoint.tensors[own]
    broken: dict[str, dict[str, Any]] = {
        r'Missing key\(s\).*"encoder.layer.1.output.dense.weight"': {own: None},
        r'Unexpected key\(s\).*"encoder.layer.2.output.dense.weight"': {own.replace("1", "2"): weight},
        "size mismatch for encoder.layer.1.output.dense.weight": {own: weight[:, :60].contiguous()},
        r'Missing key\(s\).*"pooler.dense.bias"': {"bert.pooler.dense.bias": None},
    }
    for number, (message, changes) in enumerate(broken.items()):
        folder = tmp_path / str(number)
        shutil.copytree(tiny_checkpoint, folder)
        tensors = {n: t.clone() for n, t in (checkpoint.tensors | changes).items() if t is not None}
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(RuntimeError, match=message):
            load(name, folder)


@pytest.mark.parametrize("name", EXACT)
def test_a_checkpoint_without_a_pooler_is_one_without_pooled_output(
    load: Load, tiny_checkpoint: Path, tmp_path: Path, batch: Batch, exact: Outputs, tolerance: float, name: str
) -> None:
    checkpoint = read(tiny_checkpoint)
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    save(Checkpoint(checkpoint.config, {n: t for n, t in checkpoint.tensors.items() if "pooler" not in n}), tmp_path)
    found = outputs(load(name, tmp_path), batch)
    assert largest(found.hidden, exact.hidden) <= tolerance
    assert found.pooled is None


def test_onnx_runtime_fuses_attention_and_embeddings(load: Load, tiny_checkpoint: Path, tmp_path: Path) -> None:
    load("onnxruntime", tiny_checkpoint)
    onnx, port = (importlib.import_module(name) for name in ("onnx", "harness.implementations.onnxruntime"))
    kinds = {}
    for variant in ("", "int8"):
        file = port.export(str(tiny_checkpoint), str(tmp_path), variant, False)
        kinds[variant] = Counter(node.op_type for node in onnx.load(file).graph.node)
    assert (kinds[""]["Attention"], kinds[""]["EmbedLayerNormalization"], kinds[""]["Softmax"]) == (2, 1, 0)
    assert (kinds["int8"]["QAttention"], kinds["int8"]["MatMul"]) == (2, 0)


@pytest.mark.parametrize("name", EXACT)
def test_the_export_is_removed(
    load: Load, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    temporary, folder = tmp_path / "temporary", tmp_path / "weights"
    temporary.mkdir()
    shutil.copytree(tiny_checkpoint, folder)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    load(name, folder)
    assert not list(temporary.glob("bert-atlas-*"))


def test_what_is_done_apart_is_done_in_another_process() -> None:
    assert export.apart(os.getpid) != os.getpid()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        export.apart(os.listdir, "/nowhere")
