"""Frozen layers compute the same as the layers that they replace."""

import copy
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import reference
from reference.compile import compiled
from reference.frozen import FrozenLayer, _log_slower_layers, fits, freeze, lacks_products
from reference.heads import HEADS, SequenceClassification
from reference.model import ACTIVATIONS, Bert, BertConfig, Packed, attention_as_in_the_paper
from reference.native import abilities

LENGTHS = [[9], [5, 5, 5], [16, 3, 3, 1], [7] * 40]  # one run, equal lengths, mixed, more rows than a rounding step


def bert(dtype: torch.dtype, **values: object) -> Bert:
    """Random weights, biases and LayerNorms too."""
    torch.manual_seed(1)
    settings = {"vocab_size": 50, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6}
    settings |= {"intermediate_size": 80, "max_position_embeddings": 16}
    model = Bert(BertConfig(**(settings | values)))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def batch(lengths: list[int]) -> Packed:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 50, (sum(lengths),), generator=generator)
    return Packed.from_lengths(ids, lengths, torch.randint(0, 2, (sum(lengths),), generator=generator))


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.inference_mode()
def test_the_same_in_float32(activation: str, lengths: list[int]) -> None:
    model = bert(torch.float32, hidden_act=activation)
    double = copy.deepcopy(model).double()(batch(lengths))

    frozen = freeze(model)

    assert isinstance(frozen, Bert)
    assert all(isinstance(layer, FrozenLayer) for layer in frozen.layers)
    torch.testing.assert_close(frozen(batch(lengths)).double(), double, rtol=0, atol=1e-5)
    assert torch.equal(frozen.all_hidden_states(batch(lengths))[-1], frozen(batch(lengths)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lengths", LENGTHS)
@torch.inference_mode()
def test_the_same_in_half_precision(lengths: list[int], dtype: torch.dtype) -> None:
    """Without instructions for it, the products are in float32 with the same weights, and as exact as that."""
    model = bert(dtype)
    double = copy.deepcopy(model).double()(batch(lengths))

    hidden = freeze(model)(batch(lengths))

    if lacks_products(dtype):
        assert hidden.dtype == torch.float32
        torch.testing.assert_close(hidden.double(), double, rtol=0, atol=1e-5)
    else:
        assert hidden.dtype == dtype
    cosine = torch.cosine_similarity(hidden.double(), double, dim=-1)
    assert cosine.min() > 0.9999


@torch.inference_mode()
def test_other_precisions_stay_as_they_are() -> None:
    model = bert(torch.float64)
    before = model(batch([4, 6]))

    assert not fits(model.embeddings.word.weight.device, "fp64")
    assert torch.equal(freeze(model)(batch([4, 6])), before)


@torch.inference_mode()
def test_the_readable_attention_can_be_frozen_too() -> None:
    model = bert(torch.float32)
    model.use_attention(attention_as_in_the_paper)
    before = model(batch([4, 6]))

    torch.testing.assert_close(freeze(model)(batch([4, 6])), before, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_head_on_a_frozen_encoder() -> None:
    head = SequenceClassification(bert(torch.float32), 3).eval()
    before = head(batch([4, 6, 6]))

    assert freeze(head) is head
    torch.testing.assert_close(head(batch([4, 6, 6])), before, rtol=0, atol=1e-5)


def test_a_frozen_model_has_nothing_to_train() -> None:
    frozen = freeze(bert(torch.float32))

    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_a_frozen_model_is_neither_moved_nor_cast_nor_saved() -> None:
    frozen = freeze(bert(torch.float32))

    for change in (frozen.double, frozen.bfloat16, lambda: frozen.to("cpu")):
        with pytest.raises(RuntimeError, match="load it again"):
            change()
    with pytest.raises(RuntimeError, match="load it unfrozen"):
        frozen.state_dict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_attention_of_a_frozen_model_is_not_to_be_chosen(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="a frozen model cannot be changed; choose it before freezing"):
        freeze(bert(dtype)).use_attention(attention_as_in_the_paper)


def test_what_is_refused_is_refused_when_frozen() -> None:
    frozen = freeze(bert(torch.float32))

    with pytest.raises(ValueError, match="17 tokens does not fit the 16 positions"):
        frozen(batch([17]))
    with pytest.raises(ValueError, match="word piece ids"):
        frozen(Packed.from_lengths(torch.tensor([1, 50]), [2]))


@pytest.mark.parametrize("precision", ["fp32", "auto"])
@torch.inference_mode()
def test_minilm_loaded_frozen(precision: str, minilm_folder: Path) -> None:
    """On real weights: float32 within rounding of float64, and "auto" as exact as the precision that it says."""
    ids = torch.randint(1000, 30000, (100,), generator=torch.Generator().manual_seed(0))
    sentences = Packed.from_lengths(ids, [40, 30, 30])
    double = reference.load(minilm_folder, device="cpu", precision="fp64")(sentences)

    model = reference.load(minilm_folder, device="cpu", precision=precision, frozen=True)

    assert model.device_used == "cpu"
    assert model.precision_used == ("bf16" if precision == "auto" and reference.fast_bf16() else "fp32")
    hidden = model(sentences).double()
    if model.precision_used == "fp32":
        torch.testing.assert_close(hidden, double, rtol=0, atol=2e-5)
    assert torch.cosine_similarity(hidden, double, dim=-1).min() > 0.999


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("frozen", [True, False])
@torch.inference_mode()
def test_half_precision_without_such_products_is_float32_and_said_once(
    precision: str, frozen: bool, minilm_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "AVX2")
    reference._warn_once.cache_clear()
    sentences = Packed.from_lengths(torch.arange(1000, 1030), [20, 10])

    model = reference.load(minilm_folder, device="cpu", precision=precision, frozen=frozen)
    again = reference.load(minilm_folder, device="cpu", precision=precision, frozen=frozen)

    assert (model.precision_used, model.precision_computed) == (precision, "fp32")
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    word = model.embeddings.word.weight
    assert torch.equal(word, word.to(reference.torch_dtype(precision)).float()), "they are rounded"
    rounded = reference.load(minilm_folder, device="cpu", precision="fp32")
    exact = reference.load(minilm_folder, device="cpu", precision="fp64")(sentences)
    assert torch.equal(again(sentences), model(sentences))
    far = (model(sentences).double() - exact).abs().max()
    assert far > 10 * (rounded(sentences).double() - exact).abs().max()
    assert far < 0.2
    said = [each.getMessage() for each in caplog.records]
    assert [text for text in said if precision in text] == [
        f"this processor has no instructions for {precision}: computing in float32 with rounded weights"
    ]


@pytest.fixture
def on_processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A function: the processor has these features and nothing has been compiled or logged yet."""

    def forget() -> None:
        for each in (compiled, abilities, _log_slower_layers):
            each.cache_clear()

    def become(*features: str) -> None:
        monkeypatch.setattr("reference.processor._all_features", lambda: frozenset(features))
        monkeypatch.setattr("reference.processor.seen_by_torch", frozenset)
        forget()

    monkeypatch.delenv("BERT_ATLAS_MAX_CPU_ISA", raising=False)
    yield become
    forget()


def logged(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == level]


def test_without_a_compiler_a_warning_names_the_remedy_once(
    minilm_folder: Path,
    on_processor: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    on_processor("avx2", "fma")
    monkeypatch.setenv("CXX", "no-such-compiler")
    for _ in range(2):
        reference.load(minilm_folder, device="cpu", precision="fp32", frozen=True)
    assert logged(caplog, logging.WARNING) == [
        "PyTorch's slower code is used instead of native_layers.cpp: CXX names no-such-compiler, which is not there; "
        "install g++, or set CXX to a C++ compiler"
    ]


@pytest.mark.parametrize(
    ("features", "values", "reason"),
    [
        (("avx",), {}, "the processor lacks avx2, fma"),
        (("avx2", "fma"), {"hidden_act": "relu"}, "no compiled layers for the activation relu"),
        (("avx2", "fma"), {}, "no compiled layers for hidden size 48, intermediate size 80 and head size 8"),
    ],
)
def test_what_the_user_cannot_change_is_logged_once_and_no_warning(
    features: tuple[str, ...],
    values: dict[str, object],
    reason: str,
    on_processor: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "reference")
    on_processor(*features)
    for _ in range(2):
        freeze(bert(torch.float32, **values))
    expected = f"the layers are computed by oneDNN, more slowly than by native_layers.cpp: {reason}"
    assert logged(caplog, logging.INFO) == [expected]
    assert logged(caplog, logging.WARNING) == []


def test_nothing_is_logged_of_an_unfrozen_model(
    minilm_folder: Path, on_processor: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "reference")
    on_processor("avx")
    reference.load(minilm_folder, device="cpu", precision="fp32")
    assert caplog.records == []


@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_head_has_the_encoder_where_freeze_looks(name: str) -> None:
    encoder = bert(torch.float32)
    sized = {"classification", "multi-label", "tagging"}
    head: nn.Module = HEADS[name](encoder, 2) if name in sized else HEADS[name](encoder)

    freeze(head)

    assert all(isinstance(layer, FrozenLayer) for layer in encoder.layers)
