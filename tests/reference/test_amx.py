"""Layers on AMX tiles: what they compute, where they are not made for a model, and how they are compiled."""

import copy
import dataclasses
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import reference
from reference.amx import library
from reference.compiled import compiled
from reference.kernels import FrozenLayer, TiledLayers, freeze
from reference.model import Bert, BertConfig, Layer, Layers, Packed, attention_as_in_the_paper

needs_it = pytest.mark.skipif(library() is None, reason="cannot be compiled here: no compiler, or no AMX")
LENGTHS = [[1], [32], [7, 1, 128, 33, 64, 300, 32, 31], [5] * 50, [200, 180, 150]]


@pytest.fixture
def afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache without a compiled library; its folder."""
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path))
    forget()
    yield tmp_path / "compiled"
    forget()


def forget() -> None:
    """As in a new process."""
    library.cache_clear()
    compiled.cache_clear()


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def bert(**values: object) -> Bert:
    """In bfloat16; random weights, biases and LayerNorms too."""
    torch.manual_seed(1)
    config = {"vocab_size": 50, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config |= {"intermediate_size": 192, "max_position_embeddings": 320}
    model = Bert(BertConfig(**(config | values)))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.bfloat16().eval()


def packed(lengths: list[int]) -> Packed:
    ids = torch.randint(1, 50, (sum(lengths),), generator=torch.Generator().manual_seed(2))
    return Packed.from_lengths(ids, lengths)


def furthest(hidden: Tensor, exact: Tensor) -> float:
    return (hidden.double() - exact).abs().max().item()


def on_onednn(model: Bert) -> Bert:
    """Frozen in int8 as where there is no AMX."""
    model.layers = Layers(FrozenLayer(cast(Layer, layer), model.config, int8=True) for layer in model.layers)
    return model


def check(model: Bert, lengths: list[int]) -> None:
    """No further from float64 than the layers of PyTorch are, in bfloat16 and in int8."""
    batch = packed(lengths)
    exact, usual = copy.deepcopy(model).double()(batch), model(batch)

    frozen = freeze(copy.deepcopy(model))
    assert isinstance(frozen.layers, TiledLayers)
    hidden = frozen(batch)
    assert hidden.dtype == torch.bfloat16
    assert furthest(hidden, exact) <= 1.5 * furthest(usual, exact)
    assert torch.equal(frozen.all_hidden_states(batch)[-1], hidden), "layer by layer"

    if model.config.hidden_size % 64 == model.config.intermediate_size % 64 == 0:
        in_int8 = freeze(copy.deepcopy(model), int8=True)
        assert isinstance(in_int8.layers, TiledLayers)
        usual = on_onednn(model)(batch)
        assert furthest(in_int8(batch), exact) <= 1.5 * furthest(usual, exact)


@needs_it
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@torch.inference_mode()
def test_as_exact_as_the_layers_of_pytorch(lengths: list[int], threads: int) -> None:
    check(bert(), lengths)


@needs_it
@given(
    st.lists(st.integers(1, 70), min_size=1, max_size=9),
    st.integers(1, 5),
    st.sampled_from([32, 64, 96]),
    st.sampled_from([32, 64, 480, 1024]),
)
@settings(max_examples=25, deadline=None)
@torch.inference_mode()
def test_whatever_the_lengths_and_sizes(lengths: list[int], heads: int, size: int, wide: int) -> None:
    check(bert(hidden_size=heads * size, num_attention_heads=heads, intermediate_size=wide), lengths)


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": 48, "num_attention_heads": 1},
        {"num_attention_heads": 8},
        {"intermediate_size": 100},
        {"hidden_act": "gelu_new"},
        {"hidden_act": "relu"},
    ],
    ids=str,
)
@torch.inference_mode()
def test_what_it_is_not_made_for_is_done_by_onednn(values: dict[str, object]) -> None:
    model, batch = bert(**values), packed([4, 5, 40])
    exact, usual = copy.deepcopy(model).double()(batch), model(batch)
    in_int8, frozen = freeze(copy.deepcopy(model), int8=True), freeze(model)
    for each in (in_int8, frozen):
        assert all(isinstance(layer, FrozenLayer) for layer in each.layers)
    assert furthest(frozen(batch), exact) <= 1.5 * furthest(usual, exact)
    assert torch.cosine_similarity(in_int8(batch).double(), exact).min() > 0.99


@torch.inference_mode()
def test_another_attention_stays() -> None:
    model = bert()
    model.use_attention(attention_as_in_the_paper)
    assert not isinstance(freeze(model).layers, TiledLayers)


@needs_it
@torch.inference_mode()
def test_large_scores_do_not_overflow_and_those_far_below_vanish() -> None:
    model, batch = bert(), packed([40, 3])
    for layer in model.layers:
        layer.attention.qkv.weight.mul_(100)
    exact = copy.deepcopy(model).double()(batch)
    hidden = freeze(model)(batch)
    assert hidden.isfinite().all()
    cosine = torch.cosine_similarity(hidden.double(), exact)
    assert cosine.median() > 0.999, "but where two scores are so near that rounding decides which of them wins"


@needs_it
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@torch.inference_mode()
def test_what_is_not_a_number_is_seen_in_its_own_sequence_alone(value: float, int8: bool) -> None:
    model = bert()
    model.embeddings.word.weight[0, 5] = value
    batch = packed([5, 300, 7])
    batch.ids[3] = 0
    hidden = freeze(model, int8)(batch)
    assert hidden[:5].isnan().all()
    assert hidden[5:].isfinite().all()


@needs_it
def test_lengths_of_other_tokens_are_refused() -> None:
    batch = dataclasses.replace(packed([4, 6]), lengths=(4, 5))
    with pytest.raises(ValueError, match="add up to 9, but there are 10"):
        freeze(bert())(batch)


def test_int8_is_for_frozen_models(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen models on a CPU"):
        reference.load(tmp_path, precision="int8")


@needs_it
def test_it_is_compiled_once(afresh: Path) -> None:
    assert library() is not None
    made = [(file.name, file.stat().st_mtime_ns) for file in afresh.iterdir()]
    assert len(made) == 1
    forget()
    assert library() is not None
    assert [(file.name, file.stat().st_mtime_ns) for file in afresh.iterdir()] == made


@torch.inference_mode()
def test_without_a_compiler_the_layers_are_onednns(
    afresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert all(isinstance(layer, FrozenLayer) for layer in freeze(bert()).layers)
    assert library() is None
    assert not afresh.exists()
    assert not caplog.records, "that there is no compiler is nothing to warn of"


@needs_it
def test_a_compiler_that_fails_is_said_and_the_layers_are_onednns(
    afresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "false")
    with caplog.at_level(logging.WARNING):
        assert all(isinstance(layer, FrozenLayer) for layer in freeze(bert()).layers)
    assert "is not compiled" in caplog.text
    assert not list(afresh.iterdir())
