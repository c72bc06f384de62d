"""Compiled layers: their results, the models that they cannot compute, and the reasons that are given."""

import copy
import ctypes
import dataclasses
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import reference
from reference.checkpoint import Checkpoint, save, tensors_of
from reference.compile import Compiled, check_layout
from reference.frozen import FrozenLayer, NativeLayers, computed_by, freeze, lacks_products
from reference.model import Bert, BertConfig, Layer, Layers, Packed, attention_as_in_the_paper
from reference.native import (
    AMX,
    AVX2,
    AVX512,
    ROUTINES,
    SOURCE,
    TILES,
    PackedLayer,
    PackedLayers,
    PackedLinear,
    PackedNorm,
    Routine,
    abilities,
    library,
    routine_for,
    why_none,
)

HERE = [each for each in ROUTINES if each.needs <= abilities() and hasattr(library(), each.name)]
OLD = frozenset({"sse4_2", "avx"})
every_routine = pytest.mark.parametrize(
    "routine",
    [pytest.param(each, marks=[] if each in HERE else pytest.mark.skip("no such processor")) for each in ROUTINES],
    ids=lambda each: f"{each.precision} as {each.name}",
)
LENGTHS = [[1], [32], [7, 1, 128, 33, 64, 300, 32, 31], [5] * 50, [200, 180, 150]]


@pytest.fixture
def on_processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[frozenset[str]], None]]:
    """A function: the processor has these features, and functions for all of them are compiled."""

    def become(features: frozenset[str]) -> None:
        monkeypatch.setattr("reference.processor._all_features", lambda: features)
        monkeypatch.setattr("reference.processor.seen_by_torch", lambda: features)
        everything = SimpleNamespace(**{each.name: None for each in ROUTINES}, request_tiles=lambda: 0)
        monkeypatch.setattr("reference.native.compiled", lambda *_: Compiled(everything, "g++ 12.2.0"))
        monkeypatch.setattr("reference.native.panel_columns", lambda: 32 if features >= AVX512 else 16)
        abilities.cache_clear()

    monkeypatch.delenv("BERT_ATLAS_MAX_CPU_ISA", raising=False)
    yield become
    abilities.cache_clear()


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def bert(dtype: torch.dtype, **values: object) -> Bert:
    """Random weights, biases and LayerNorms too."""
    torch.manual_seed(1)
    config = {"vocab_size": 50, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config |= {"intermediate_size": 192, "max_position_embeddings": 320}
    model = Bert(BertConfig(**(config | values)))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def packed(lengths: list[int]) -> Packed:
    ids = torch.randint(1, 50, (sum(lengths),), generator=torch.Generator().manual_seed(2))
    return Packed.from_lengths(ids, lengths)


def furthest(hidden: Tensor, exact: Tensor) -> float:
    return (hidden.double() - exact).abs().max().item()


def layers_of(model: Bert) -> list[Layer]:
    return [cast(Layer, layer) for layer in model.layers]


def with_routine(routine: Routine, model: Bert) -> Bert:
    """The model frozen as on a processor whose fastest routine is this one."""
    frozen = copy.deepcopy(model)
    frozen.layers = NativeLayers(PackedLayers(layers_of(frozen), routine))
    return frozen


def on_onednn(model: Bert) -> Bert:
    """The model frozen in int8 as without compiled layers."""
    frozen = copy.deepcopy(model)
    frozen.layers = Layers(FrozenLayer(layer, model.config, int8=True) for layer in layers_of(model))
    return frozen


def made_for(routine: Routine) -> torch.dtype:
    return torch.bfloat16 if routine.precision == "bf16" else routine.activations


def check(routine: Routine, lengths: list[int], **values: object) -> None:
    """The error against float64 is at most PyTorch's, with a margin, as each rounds in another order.

    The margin is wide in float32, where PyTorch sums in shorter pieces. Half a rounding step is added, because a small
    PyTorch result may happen to be rounded exactly.
    """
    model, batch = bert(made_for(routine), **values), packed(lengths)
    compiled_ones = with_routine(routine, model)
    hidden = compiled_ones(batch)
    assert hidden.dtype == made_for(routine)

    exact = copy.deepcopy(model).double()(batch)
    usual = on_onednn(model)(batch) if routine.precision == "int8" else model(batch)
    step = torch.finfo(hidden.dtype).eps * exact.abs().max().item()
    most = (4 if routine.precision == "fp32" else 1.5) * furthest(usual, exact) + step / 2
    assert furthest(hidden, exact) <= most
    layer_by_layer = compiled_ones.all_hidden_states(batch)[-1]
    if routine.activations == hidden.dtype:
        assert torch.equal(layer_by_layer, hidden)
    else:  # layer by layer, hidden states are rounded in between; in one call they are not
        assert furthest(layer_by_layer, exact) <= most


@every_routine
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@torch.inference_mode()
def test_as_exact_as_the_layers_of_pytorch(routine: Routine, lengths: list[int], threads: int) -> None:
    check(routine, lengths)


@every_routine
@given(
    st.lists(st.integers(1, 70), min_size=1, max_size=9),
    st.integers(1, 5),
    st.sampled_from([16, 32, 64, 80, 96]),
    st.sampled_from([32, 64, 112, 480, 1024]),
)
@settings(max_examples=25, deadline=None)
@torch.inference_mode()
def test_whatever_the_lengths_and_sizes(routine: Routine, lengths: list[int], heads: int, size: int, wide: int) -> None:
    assume(heads * size % routine.columns == wide % routine.columns == size % routine.panel == 0)
    check(routine, lengths, hidden_size=heads * size, num_attention_heads=heads, intermediate_size=wide)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_freeze_takes_the_fastest_that_the_processor_has(dtype: torch.dtype) -> None:
    model, batch = bert(dtype), packed([7, 40])
    usual = "bf16" if dtype == torch.bfloat16 and not lacks_products(dtype) else "fp32"
    for int8, precision in ((False, usual), (True, "int8")):
        fastest = next((each for each in HERE if each.precision == precision), None)
        frozen = freeze(copy.deepcopy(model), int8)
        assert routine_for(model.config, layers_of(model), precision) == fastest
        assert isinstance(frozen.layers, NativeLayers) == (fastest is not None)
        said = computed_by(frozen)
        assert said["functions"] == (fastest and fastest.name)
        assert (said["reason"] is None) == (fastest is not None)
        assert frozen(batch).dtype == (dtype if int8 or usual == "bf16" else torch.float32)
        if fastest is not None:
            same = copy.deepcopy(model) if int8 or usual == "bf16" else copy.deepcopy(model).float()
            assert torch.equal(frozen(batch), with_routine(fastest, same)(batch))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_without_such_products_all_is_float32_of_rounded_weights(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "AVX2")
    abilities.cache_clear()
    model, batch = bert(dtype), packed([7, 40, 1])
    in_float32 = freeze(copy.deepcopy(model).float())
    frozen = freeze(model)
    assert {each.dtype for each in frozen.parameters()} == {torch.float32}
    assert torch.equal(frozen(batch), in_float32(batch))
    assert computed_by(frozen) == computed_by(in_float32)
    abilities.cache_clear()


@pytest.mark.parametrize(
    ("features", "names"),
    [
        (OLD, {}),
        (AVX2, {"fp32": "fp32_by_vectors", "int8": "int8_by_pairs"}),
        (AVX512, {"fp32": "fp32_by_vectors", "int8": "int8_by_pairs"}),
        (AVX512 | {"avx512_vnni"}, {"fp32": "fp32_by_vectors", "int8": "int8_by_vectors"}),
        (
            AVX512 | {"avx512_vnni", "avx512_bf16"},
            {"fp32": "fp32_by_vectors", "bf16": "bf16_by_vectors", "int8": "int8_by_vectors"},
        ),
        (
            AVX512 | {"avx512_vnni"} | AMX,
            {"fp32": "fp32_by_vectors", "bf16": "bf16_by_tiles", "int8": "int8_by_tiles"},
        ),
    ],
    ids=lambda each: "+".join(sorted(each)) if isinstance(each, frozenset) else "",
)
def test_what_computes_on_which_processor(
    features: frozenset[str], names: dict[str, str], on_processor: Callable[[frozenset[str]], None]
) -> None:
    on_processor(features)
    model = bert(torch.float32)
    for precision in ("fp32", "bf16", "int8"):
        routine = routine_for(model.config, layers_of(model), precision)
        assert (routine and routine.name) == names.get(precision)
        assert (why_none(model.config, layers_of(model), precision) is None) == (routine is not None)
        if precision != "int8":
            computed = "bf16" if precision == "bf16" and "bf16" in names else "fp32"
            assert reference.computed_precision(precision, "cpu") == computed
    assert (reference.no_int8(model.config) is None) == ("int8" in names)
    assert reference.computed_precision("bf16", "cuda") == "bf16"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"hidden_act": "relu"}, "no compiled layers for the activation relu"),
        ({"num_attention_heads": 8}, "no compiled layers for hidden size 128, intermediate size 192 and head size 16"),
        ({"num_hidden_layers": 0}, "the model has no layers"),
    ],
)
def test_why_nothing_compiled_is_taken_is_said(
    values: dict[str, object], reason: str, on_processor: Callable[[frozenset[str]], None]
) -> None:
    on_processor(AVX512)
    model = bert(torch.float32, **values)
    assert why_none(model.config, layers_of(model), "fp32") == reason
    if values.get("num_hidden_layers") != 0:
        assert computed_by(freeze(model)) == {"functions": None, "compiler": "g++ 12.2.0", "reason": reason}


def test_a_processor_without_instructions_is_named_with_what_it_lacks(
    on_processor: Callable[[frozenset[str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bert(torch.float32)
    on_processor(OLD)
    assert why_none(model.config, layers_of(model), "fp32") == "the processor lacks avx2, fma"
    on_processor(AVX512)
    assert why_none(model.config, layers_of(model), "bf16") == "the processor lacks avx512_bf16"
    on_processor(AVX512 | {"avx512_bf16"})
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "AVX2")
    assert why_none(model.config, layers_of(model), "bf16") == "BERT_ATLAS_MAX_CPU_ISA hides avx512_bf16, avx512f"


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": 40, "num_attention_heads": 1},
        {"num_attention_heads": 16},
        {"intermediate_size": 100},
        {"hidden_act": "gelu_new"},
        {"hidden_act": "relu"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_what_it_is_not_made_for_is_done_by_onednn(dtype: torch.dtype, values: dict[str, object]) -> None:
    model, batch = bert(dtype, **values), packed([4, 5, 40])
    exact, usual = copy.deepcopy(model).double()(batch), model(batch)
    in_int8, frozen = freeze(copy.deepcopy(model), int8=True), freeze(model)
    assert not any(isinstance(each.layers, NativeLayers) for each in (in_int8, frozen))
    assert furthest(frozen(batch), exact) <= 1.5 * furthest(usual, exact)
    assert torch.cosine_similarity(in_int8(batch).double(), exact).min() > 0.99


@torch.inference_mode()
def test_another_attention_stays() -> None:
    model = bert(torch.float32)
    model.use_attention(attention_as_in_the_paper)
    assert not isinstance(freeze(model).layers, NativeLayers)


@every_routine
@torch.inference_mode()
def test_large_scores_do_not_overflow_and_those_far_below_vanish(routine: Routine) -> None:
    model, batch = bert(made_for(routine)), packed([40, 3])
    for layer in layers_of(model):
        layer.attention.qkv.weight.mul_(100)
    exact = copy.deepcopy(model).double()(batch)
    hidden = with_routine(routine, model)(batch)
    assert hidden.isfinite().all()
    cosine = torch.cosine_similarity(hidden.double(), exact)
    least = 0.99 if routine.precision == "int8" else 0.999
    assert cosine.median() > least, "except where two scores are so close that rounding decides the larger one"


@every_routine
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@torch.inference_mode()
def test_what_is_not_a_number_is_seen_in_its_own_sequence_alone(value: float, routine: Routine) -> None:
    model = bert(made_for(routine))
    model.embeddings.word.weight[0, 5] = value
    batch = packed([5, 300, 7])
    batch.ids[3] = 0
    hidden = with_routine(routine, model)(batch)
    assert hidden[:5].isnan().all()
    assert hidden[5:].isfinite().all()


@every_routine
@torch.inference_mode()
def test_scores_in_the_thousands_of_millions_lose_nothing(routine: Routine) -> None:
    model, batch = bert(made_for(routine)), packed([20, 3])
    for layer in layers_of(model):
        layer.attention.qkv.weight.zero_()
        layer.attention.qkv.bias.fill_(1e5)  # all scores of a row are equal, and so are the probabilities
    hidden, usual = with_routine(routine, model)(batch), model(batch)
    assert torch.cosine_similarity(hidden.double(), usual.double()).min() > 0.99


@every_routine
@torch.inference_mode()
def test_far_below_0_gelu_is_0(routine: Routine) -> None:
    model, batch = bert(made_for(routine)), packed([20, 3])
    for layer in layers_of(model):
        layer.up.weight.zero_()
        layer.up.bias.fill_(-1e6)
    exact = copy.deepcopy(model).double()(batch)
    assert furthest(with_routine(routine, model)(batch), exact) <= (1e-5 if routine.precision == "fp32" else 0.1)


@every_routine
def test_lengths_of_other_tokens_and_other_widths_are_refused(routine: Routine) -> None:
    frozen = with_routine(routine, bert(made_for(routine)))
    for lengths in ((4, 5), (40, -30)):
        with pytest.raises(ValueError, match=f"add up to {sum(lengths)}, but there are 10"):
            frozen(dataclasses.replace(packed([4, 6]), lengths=lengths))
    with pytest.raises(ValueError, match="the hidden states have size 64, the layers 128"):
        frozen.layers(torch.zeros(10, 64), packed([4, 6]))


@torch.inference_mode()
def test_a_model_without_layers_can_be_frozen() -> None:
    model, batch = bert(torch.float32, num_hidden_layers=0), packed([4, 6])
    before = model(batch)
    assert torch.equal(freeze(model)(batch), before)


def test_what_the_compiler_made_no_function_of_is_not_wanted(
    on_processor: Callable[[frozenset[str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clang does that with tiles, on a processor that has them."""
    model = bert(torch.float32)
    on_processor(AMX | AVX512)
    monkeypatch.setattr("reference.native.compiled", lambda *_: Compiled(SimpleNamespace(), "clang++ 14.0.6"))
    assert abilities() == (AMX | AVX512) - TILES
    assert routine_for(model.config, layers_of(model), "fp32") is None
    assert why_none(model.config, layers_of(model), "fp32") == "the compiler does not support the instructions"


def test_int8_is_for_frozen_models(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen models on a CPU"):
        reference.load(tmp_path, precision="int8")


def test_int8_that_would_be_slower_is_refused(
    tmp_path: Path, on_processor: Callable[[frozenset[str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(Checkpoint(BertConfig(50, 32, 1, 1, 64), tensors_of(Bert(BertConfig(50, 32, 1, 1, 64)))), tmp_path)
    on_processor(OLD)
    with pytest.raises(ValueError, match="'int8' would be slower than float32 here: the processor lacks avx2, fma"):
        reference.load(tmp_path, device="cpu", precision="int8", frozen=True)
    on_processor(AVX2)
    monkeypatch.setattr("reference.native.compiled", lambda *_: Compiled(None, None, "no compiler"))
    abilities.cache_clear()
    with pytest.raises(ValueError, match="'int8' would be slower than float32 here: no compiler"):
        reference.load(tmp_path, device="cpu", precision="int8", frozen=True)


def test_int8_of_a_model_that_it_is_not_made_for_is_refused(
    tmp_path: Path, on_processor: Callable[[frozenset[str]], None]
) -> None:
    config = BertConfig(50, 40, 1, 1, 64)
    save(Checkpoint(config, tensors_of(Bert(config))), tmp_path)
    on_processor(AVX2)
    with pytest.raises(
        ValueError, match="float32 here: no compiled layers for hidden size 40, intermediate size 64 and head size 40"
    ):
        reference.load(tmp_path, device="cpu", precision="int8", frozen=True)


def test_the_structs_are_those_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every processor: without AVX2 the source can still be compiled, only not run."""
    found = library() or compiled_for_another_processor()
    check_layout(found, (PackedLinear, PackedNorm, PackedLayer), "native_layers.cpp")
    with pytest.raises(RuntimeError, match=r"the structs of native_layers\.cpp differ"):
        check_layout(found, (PackedLinear, PackedLayer, PackedNorm), "native_layers.cpp")


def compiled_for_another_processor() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "layers.so"
        flags = ["-std=c++20", "-O0", "-march=skylake-avx512", "-fopenmp", "-shared", "-fPIC"]
        subprocess.run(["g++", *flags, str(SOURCE), "-o", str(target)], check=True)
        return ctypes.CDLL(str(target))


@every_routine
def test_products_alone_can_be_timed(routine: Routine, threads: int) -> None:
    """The harness times them. Their results are not used, but they must stay within their memory."""
    packed_layers = PackedLayers(layers_of(bert(made_for(routine))), routine)
    for tokens in (1, 33, 300):
        packed_layers.multiply(tokens)
