"""Deviations: the plain BERT against other code, and diagnoses of differences that were planted."""

import copy
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, BertConfig, BertModel
from transformers.masking_utils import eager_mask

import reference
from harness.measure.deviations import DEVIATIONS, Diagnosis, Found, diagnose, plain_bert, sentence
from harness.measure.parity import Outputs, published_batch
from harness.port.batch import Array, Batch, from_lists, pad
from harness.port.hf_folder import read_folder
from reference.model import Packed
from reference.tokenizer import Tokenizer

EXACT = 1e-12  # in float64, what another order of summation may change
CODERTIMO = {
    "pre-norm",
    "no-embedding-norm",
    "sinusoidal-positions",
    "segment-ids",
    "layer-norm-unbiased",
    "layer-norm-epsilon-1e-6",
    "gelu-tanh",
}
LANGUAGE_UNDERSTANDING = {
    "no-embedding-norm",
    "relu",
    "layer-norm-epsilon-1e-6",
    "no-padding-mask",
    "no-segments",
    "head-transposition",
}


class Subject(NamedTuple):
    """A checkpoint, what it is run on, and what the reference computes."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Array]
    batch: Batch
    exact: Outputs
    single: Outputs  # the same in float32

    @property
    def floor(self) -> float:
        return float(np.abs(self.single.hidden - self.exact.hidden).max())

    def plain(self, on: Iterable[str], dtype: torch.dtype = torch.float64, **config: Any) -> Outputs:
        """What the plain BERT computes with these switches."""
        tensors = {name: torch.from_numpy(values).to(dtype) for name, values in self.tensors.items()}
        states = plain_bert(tensors, self.config | config, self.batch, on)
        layers = [hidden.double().numpy() for hidden in states]
        return Outputs(layers[-1], None, layers)

    def diagnose(self, observed: Outputs) -> Diagnosis:
        return diagnose(self.tensors, self.config, self.batch, observed, self.floor)


def subject(folder: Path, batch: Batch) -> Subject:
    found = read_folder(folder)
    ids, segments = torch.from_numpy(batch.ids), torch.from_numpy(batch.segments)
    packed = Packed.from_lengths(ids, batch.lengths.tolist(), segments)

    def outputs(precision: str) -> Outputs:
        model: Any = reference.load(folder, None, "cpu", precision)
        with torch.inference_mode():
            layers = model.all_hidden_states(packed)
            pooled = model.pooler(layers[-1], packed)
        return Outputs(layers[-1].numpy(), pooled.numpy(), [hidden.numpy() for hidden in layers])

    return Subject(folder, found.config, found.encoder, batch, outputs("fp64"), outputs("fp32"))


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Path) -> Subject:
    """Short and long sequences, a pair among them, and token id 0 inside some."""
    generator = np.random.default_rng(0)
    lengths = (1, 6, 9, 3, 24, 40)
    ids = [generator.integers(1, 30522, length).tolist() for length in lengths]
    ids[4][7] = ids[5][30] = 0
    segments = [[int(n in (6, 9, 24) and place > 2) for place in range(n)] for n in lengths]
    return subject(tiny_checkpoint, from_lists(ids, segments))


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path) -> Subject:
    return subject(minilm_folder, published_batch(Tokenizer.from_folder(minilm_folder), 30522, 512))


def names(diagnosis: Diagnosis) -> set[str]:
    return {each.name for each in diagnosis.deviations}


def assert_equal(mine: Outputs, theirs: Outputs, tolerance: float = EXACT) -> None:
    for left, right in zip(mine.layers, theirs.layers, strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance * max(1, np.abs(right).max()))


# -- the plain BERT --


@pytest.mark.parametrize("which", ["tiny", "minilm"])
def test_without_deviations_it_is_the_reference(which: str, request: pytest.FixtureRequest) -> None:
    checkpoint: Subject = request.getfixturevalue(which)
    assert_equal(checkpoint.plain(()), checkpoint.exact)
    assert checkpoint.diagnose(checkpoint.exact).pooled == pytest.approx(0, abs=EXACT)


def huggingface(
    checkpoint: Subject,
    change: Callable[[BertModel], None] = lambda model: None,
    feed: Callable[[dict[str, Tensor]], object] = lambda inputs: None,
    dtype: torch.dtype = torch.float64,
    **config: Any,
) -> Outputs:
    """transformers' BERT from the same weights, changed, and fed something else."""
    settings = BertConfig(**json.loads((checkpoint.folder / "config.json").read_text()) | config)
    settings._attn_implementation = config.get("attn_implementation", "eager")
    model = BertModel(settings).eval()
    weights = {name: torch.from_numpy(values.copy()) for name, values in checkpoint.tensors.items()}
    model.load_state_dict(weights)
    change(model.to(dtype))
    ids, segments, mask = (torch.from_numpy(values) for values in pad(checkpoint.batch))
    inputs = {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask}
    feed(inputs)
    with torch.inference_mode():
        output = model(**inputs, output_hidden_states=True)
    layers = [hidden[mask.bool()].double().numpy() for hidden in output.hidden_states]
    return Outputs(layers[-1], output.pooler_output.double().numpy(), layers)


class UnbiasedNorm(nn.Module):
    """LayerNorm as codertimo's code has it."""

    def __init__(self, weight: Tensor, bias: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = weight, bias, epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + self.eps) + self.bias


def unbias(model: BertModel) -> None:
    for module in list(model.modules()):
        if hasattr(module, "LayerNorm"):
            module.LayerNorm = UnbiasedNorm(module.LayerNorm.weight, module.LayerNorm.bias, 1e-12)


def sinusoids(length: int, width: int) -> Tensor:
    """Section 3.5 of Attention is All You Need, number by number, in float32."""
    table = torch.zeros(length, width)
    for column in range(width):
        rate = torch.tensor(-(np.log(10000.0) / width) * (column - column % 2)).float().exp()
        table[:, column] = (torch.cos if column % 2 else torch.sin)(torch.arange(length).float() * rate)
    return table


def scrambled(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **_: Any) -> tuple[Tensor, None]:
    """Attention whose result [B, N, S, D] is taken for [B, S, N, D]."""
    context = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return context.reshape(len(context), context.shape[2], context.shape[1], context.shape[3]), None


def no_embedding_norm(model: BertModel) -> None:
    model.embeddings.LayerNorm = nn.Identity()


def fix_positions(model: BertModel) -> None:
    weight = model.embeddings.position_embeddings.weight
    weight.data = sinusoids(*weight.shape).to(weight.dtype)


def shift_segments(model: BertModel) -> None:
    weight = model.embeddings.token_type_embeddings.weight
    weight.data = torch.stack([torch.zeros_like(weight[0]), weight[0]])


@pytest.mark.parametrize(
    ("on", "change"),
    [
        (["gelu-tanh"], {"hidden_act": "gelu_new"}),
        (["relu"], {"hidden_act": "relu"}),
        (["layer-norm-epsilon-1e-14"], {"layer_norm_eps": 1e-14}),
        (["layer-norm-epsilon-1e-6"], {"layer_norm_eps": 1e-6}),
        (["layer-norm-epsilon-1e-5"], {"layer_norm_eps": 1e-5}),
        (["layer-norm-epsilon-1e-3"], {"layer_norm_eps": 1e-3}),
        (["layer-norm-unbiased"], {"change": unbias}),
        (["no-embedding-norm"], {"change": no_embedding_norm}),
        (["no-padding-mask"], {"feed": lambda inputs: inputs.pop("attention_mask")}),
        (
            ["padding-mask-from-ids"],
            {"feed": lambda inputs: inputs.update(attention_mask=(inputs["input_ids"] != 0).long())},
        ),
        (["sinusoidal-positions"], {"change": fix_positions}),
        (["segment-ids"], {"change": shift_segments}),
        (["no-segments"], {"feed": lambda inputs: inputs["token_type_ids"].zero_()}),
        (["head-transposition"], {"attn_implementation": "scrambled"}),
        (["gelu-tanh", "layer-norm-epsilon-1e-6"], {"hidden_act": "gelu_new", "layer_norm_eps": 1e-6}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_each_switch_does_what_it_says_and_is_found(tiny: Subject, on: list[str], change: dict[str, Any]) -> None:
    AttentionInterface.register("scrambled", scrambled)
    AttentionMaskInterface.register("scrambled", eager_mask)
    observed = huggingface(tiny, **change)
    assert np.abs(observed.hidden - tiny.exact.hidden).max() > 1e-11, "the deviation must show"
    sine_rounding = 1e-6 if on == ["sinusoidal-positions"] else EXACT
    assert_equal(tiny.plain(on), observed, sine_rounding)
    assert names(tiny.diagnose(observed)) == set(on)


def test_the_constant_mask_shows_where_scores_are_great(tiny: Subject) -> None:
    """A query of one great number makes scores that -10000 does not drown."""
    tensors = copy.deepcopy(tiny.tensors)
    for name, values in tensors.items():
        if ".self.query." in name or ".self.key." in name:
            values *= 300
    great = tiny._replace(tensors=tensors)

    def constant(inputs: dict[str, Tensor]) -> None:
        inputs["attention_mask"] = ((inputs["attention_mask"] - 1) * 10000.0).double()[:, None, None, :]

    observed = huggingface(great, feed=constant)
    assert np.abs(observed.hidden - great.plain(()).hidden).max() > 0.1
    assert_equal(great.plain(["mask-constant"]), observed, 1e-9)
    assert names(great.diagnose(replace(observed, pooled=None))) == {"mask-constant"}


def codertimo(checkpoint: Subject, dtype: torch.dtype = torch.float64) -> Outputs:
    """The six deviations of codertimo's BERT-pytorch, built on torch's own TransformerEncoderLayer."""
    tensors = {name: torch.from_numpy(values).to(dtype) for name, values in checkpoint.tensors.items()}
    ids, segments, mask = (torch.from_numpy(values) for values in pad(checkpoint.batch))
    words = tensors["embeddings.word_embeddings.weight"]
    kinds = torch.cat([torch.zeros_like(words[:1]), tensors["embeddings.token_type_embeddings.weight"]])
    hidden = words[ids] + sinusoids(ids.shape[1], words.shape[1]).to(dtype) + kinds[segments]
    layers = [hidden]
    for number in range(checkpoint.config["num_hidden_layers"]):
        layers.append(_prenorm_layer(checkpoint, tensors, f"encoder.layer.{number}")(layers[-1], None, ids == 0))
    shown = [hidden[mask.bool()].double().numpy() for hidden in layers]
    return Outputs(shown[-1], None, shown)


def _prenorm_layer(checkpoint: Subject, tensors: dict[str, Tensor], name: str) -> nn.Module:
    own = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
    layer = nn.TransformerEncoderLayer(
        checkpoint.config["hidden_size"],
        checkpoint.config["num_attention_heads"],
        checkpoint.config["intermediate_size"],
        activation=lambda x: nn.functional.gelu(x, approximate="tanh"),
        batch_first=True,
        norm_first=True,
    )
    weights = {}
    for kind in ("weight", "bias"):
        parts = [own[f"attention.self.{each}.{kind}"] for each in ("query", "key", "value")]
        weights[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
    theirs = {
        "self_attn.out_proj": "attention.output.dense",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm1": "attention.output.LayerNorm",
        "norm2": "output.LayerNorm",
    }
    for mine, other in theirs.items():
        weights |= {f"{mine}.{kind}": own[f"{other}.{kind}"] for kind in ("weight", "bias")}
    layer.to(next(iter(own.values())).dtype).load_state_dict(weights)
    for norm in ("norm1", "norm2"):
        setattr(layer, norm, UnbiasedNorm(getattr(layer, norm).weight, getattr(layer, norm).bias, 1e-6))
    return layer.eval().requires_grad_(False)


# -- diagnoses --


@pytest.mark.parametrize("layers", [True, False], ids=["layers", "final"])
@pytest.mark.parametrize(
    "on",
    [
        *([name] for name in DEVIATIONS if name != "mask-constant"),
        ["gelu-tanh", "layer-norm-epsilon-1e-6"],
        ["no-padding-mask", "gelu-tanh"],
        ["pre-norm", "no-embedding-norm"],
        ["sinusoidal-positions", "no-segments"],
        ["head-transposition", "relu"],
        ["padding-mask-from-ids", "layer-norm-epsilon-1e-14"],
        sorted(CODERTIMO),
        sorted(LANGUAGE_UNDERSTANDING),
    ],
    ids="+".join,
)
def test_what_was_planted_is_found_and_nothing_else(tiny: Subject, on: list[str], layers: bool) -> None:
    observed = tiny.plain(on)
    found = tiny.diagnose(observed if layers else replace(observed, layers=[]))
    assert names(found) == set(on)
    assert (found.reproduced, found.complete) == (True, True)
    assert found.difference <= EXACT
    assert len(found.layers) == (3 if layers else 0)


def test_the_six_of_codertimo_in_torchs_own_code(tiny: Subject) -> None:
    observed = codertimo(tiny)
    assert_equal(tiny.plain(CODERTIMO | {"padding-mask-from-ids"}), observed, 1e-6)
    found = tiny.diagnose(replace(observed, layers=[]))
    assert names(found) == CODERTIMO | {"padding-mask-from-ids"}, "and its mask, which this batch has zeros for"
    assert found.reproduced


def test_costs_are_those_of_one_switch(tiny: Subject) -> None:
    on = ["relu", "layer-norm-epsilon-1e-3"]
    observed = tiny.plain(on)
    found = tiny.diagnose(observed)
    for each, other in zip(found.deviations, reversed(found.deviations), strict=True):
        alone, without = tiny.plain([each.name]).hidden, tiny.plain([other.name]).hidden
        assert each.alone == pytest.approx(np.abs(alone - tiny.exact.hidden).max(), rel=1e-6)
        assert each.left_off == pytest.approx(np.abs(without - observed.hidden).max(), rel=1e-6)
    assert found.deviations[0].alone > found.deviations[1].alone


def test_float32_rounding_is_no_deviation(tiny: Subject) -> None:
    for observed in (tiny.single, replace(tiny.single, layers=[]), huggingface(tiny, dtype=torch.float32)):
        found = tiny.diagnose(observed)
        assert found.reproduced
        assert found.deviations == ()
        assert 0 < found.difference <= found.tolerance
        assert sentence(found) == "no deviation: what differs is rounding"


def test_float32_hides_no_deviation_that_is_greater(tiny: Subject) -> None:
    observed = huggingface(tiny, dtype=torch.float32, hidden_act="gelu_new", layer_norm_eps=1e-3)
    found = tiny.diagnose(replace(observed, layers=[]))
    assert names(found) == {"gelu-tanh", "layer-norm-epsilon-1e-3"}
    assert found.reproduced


def test_reduced_precision_is_not_taken_for_a_deviation(tiny: Subject) -> None:
    found = tiny.diagnose(huggingface(tiny, dtype=torch.bfloat16))
    assert (found.deviations, found.reproduced) == ((), False)
    assert found.cosine > 0.99
    assert sentence(found).startswith("reduced precision (")
    both = tiny.diagnose(replace(huggingface(tiny, dtype=torch.bfloat16, hidden_act="relu"), layers=[]))
    assert names(both) == {"relu"}
    assert sentence(both).startswith("ReLU (")
    assert "; reduced precision (" in sentence(both)


def test_noise_is_not_reproduced(tiny: Subject) -> None:
    noise = np.random.default_rng(0).normal(size=tiny.exact.hidden.shape)
    found = tiny.diagnose(Outputs(tiny.exact.hidden + noise, None))
    assert (found.deviations, found.reproduced) == ((), False)
    assert found.complete
    assert found.difference == pytest.approx(np.abs(noise).max())
    assert sentence(found).startswith("not reproduced by known deviations (")


def test_a_search_that_takes_too_long_tells_the_best_it_has(tiny: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = itertools.count()
    monkeypatch.setattr("harness.measure.deviations.process_time", lambda: float(next(trials)))  # a second for each
    observed = huggingface(tiny, dtype=torch.bfloat16, hidden_act="relu")
    found = tiny.diagnose(replace(observed, layers=[]))
    assert 60 < next(trials) < 100, "what was found is measured afterwards"
    assert (names(found), found.reproduced, found.complete) == ({"relu"}, False, False)
    assert sentence(found).endswith("; the search was stopped after 60 s of CPU")


def test_a_search_without_any_time_has_found_nothing(tiny: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.measure.deviations.BUDGET", -1.0)
    found = tiny.diagnose(tiny.plain(["relu"]))
    assert (names(found), found.reproduced, found.complete) == (set(), False, False)


def test_a_missing_layer_is_not_reproduced(tiny: Subject) -> None:
    found = tiny.diagnose(tiny.plain((), num_hidden_layers=1))
    assert not found.reproduced
    assert "not reproduced by known deviations" in sentence(found)


def test_what_is_known_is_told_beside_what_is_not(tiny: Subject) -> None:
    """The second layer's feed-forward lacks its bias: the first difference is there."""
    tensors = dict(tiny.tensors)
    tensors["encoder.layer.1.output.dense.bias"] = np.zeros_like(tensors["encoder.layer.1.output.dense.bias"])
    found = tiny.diagnose(tiny._replace(tensors=tensors).plain(["no-segments", "layer-norm-epsilon-1e-6"]))
    assert names(found) == {"no-segments", "layer-norm-epsilon-1e-6"}
    assert not found.reproduced
    assert max(found.layers[:2]) < found.tolerance < found.layers[2]
    assert "one segment (" in sentence(found)
    assert "remains from layer 2 on" in sentence(found)


def test_a_pooler_that_differs_is_told(tiny: Subject) -> None:
    assert tiny.exact.pooled is not None
    found = tiny.diagnose(replace(tiny.exact, pooled=np.arctanh(tiny.exact.pooled)))
    assert (found.deviations, found.reproduced) == ((), True)
    assert found.pooled is not None
    assert found.pooled > 0.01
    assert "the pooled output differs" in sentence(found)


def test_equal_sequences_have_no_padding(tiny: Subject) -> None:
    """Where nothing is padded, the mask is no explanation."""
    even = tiny._replace(batch=tiny.batch.select(np.array([2, 2])))
    observed = even.plain(["no-padding-mask", "gelu-tanh"])
    assert names(diagnose(even.tensors, even.config, even.batch, observed, tiny.floor)) == {"gelu-tanh"}


@pytest.mark.parametrize("act", ["gelu_new", "gelu_pytorch_tanh", "relu"])
def test_what_the_configuration_says_is_no_deviation(tiny: Subject, act: str) -> None:
    configured = tiny._replace(config=tiny.config | {"hidden_act": act, "layer_norm_eps": 1e-6})
    observed = huggingface(tiny, hidden_act=act, layer_norm_eps=1e-6)
    assert_equal(configured.plain(()), observed)
    assert configured.diagnose(observed).deviations == ()


def test_outputs_that_cannot_be_compared_are_refused(tiny: Subject) -> None:
    with pytest.raises(ValueError, match="answered with shape"):
        tiny.diagnose(Outputs(tiny.exact.hidden[1:], None))
    hidden = tiny.exact.hidden.copy()
    hidden[3, 5] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        tiny.diagnose(Outputs(hidden, None))


@pytest.mark.parametrize("alone", [1.9e-4, 4.6e-3, 0.35, 7.74, 222.6])
def test_a_sentence_is_one_plain_line(alone: float) -> None:
    expected = {1.9e-4: "1.9e-4", 4.6e-3: "4.6e-3", 0.35: "0.35", 7.74: "7.7", 222.6: "223"}[alone]
    found = tuple(Found(name, alone, alone) for name in ("gelu-tanh", "layer-norm-epsilon-1e-6"))
    diagnosis = Diagnosis(found, True, True, 1e-6, 1e-5, 1.0, (), None)
    assert sentence(diagnosis) == f"tanh gelu ({expected}); LayerNorm epsilon 1e-6 ({expected})"


@pytest.mark.slow
def test_a_diagnosis_of_minilm_from_transformers(minilm: Subject) -> None:
    observed = huggingface(minilm, dtype=torch.float32, hidden_act="gelu_new", layer_norm_eps=1e-6)
    found = minilm.diagnose(replace(observed, layers=[]))
    assert names(found) == {"gelu-tanh", "layer-norm-epsilon-1e-6"}
    assert found.reproduced


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [pytest.param(torch.float64, marks=pytest.mark.soak), torch.float32])
def test_the_six_of_codertimo_on_minilm(minilm: Subject, dtype: torch.dtype) -> None:
    """In float32 the numbers, which pre-norm lets grow to a hundred, hide the epsilon."""
    found = minilm.diagnose(replace(codertimo(minilm, dtype), layers=[]))
    assert names(found) | {"layer-norm-epsilon-1e-6"} == CODERTIMO
    assert found.reproduced
    assert len(found.deviations) >= (7 if dtype == torch.float64 else 6)


@pytest.mark.soak
def test_the_six_of_bert_language_understanding_on_minilm(minilm: Subject) -> None:
    found = minilm.diagnose(replace(minilm.plain(LANGUAGE_UNDERSTANDING, torch.float32), layers=[]))
    assert names(found) == LANGUAGE_UNDERSTANDING
    assert found.reproduced
