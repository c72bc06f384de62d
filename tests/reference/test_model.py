"""The model alone: configuration, initialisation, dropout, packing, and rejected input."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from reference.heads import PreTraining, QuestionAnswering, SequenceClassification, TokenClassification
from reference.model import (
    ACTIVATIONS,
    Bert,
    BertConfig,
    Packed,
    attention,
    attention_as_in_the_paper,
    attention_by_runs,
    attention_in_rectangle,
    initialize,
    pack,
    unpack,
)

ATTENTIONS = [attention, attention_as_in_the_paper, attention_by_runs, attention_in_rectangle]
LENGTHS = [7, 1, 4]
Attend = Callable[[Tensor, Packed, float], Tensor]


def config(**values: Any) -> BertConfig:
    tiny = {
        "vocab_size": 50,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "max_position_embeddings": 16,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return BertConfig(**(tiny | values))


def bert(**values: Any) -> Bert:
    """A tiny float64 model whose tensors are all random, including biases and LayerNorms."""
    torch.manual_seed(1)
    model = Bert(config(**values)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def batch(lengths: list[int] = LENGTHS, seed: int = 2) -> Packed:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 50, (sum(lengths),), generator=generator)
    return Packed.from_lengths(ids, lengths, torch.randint(0, 2, (sum(lengths),), generator=generator))


# -- configuration --


def test_google_s_configuration_and_hugging_face_s_are_read() -> None:
    numbers: dict[str, Any] = {"vocab_size": 21128, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    google = numbers | {"directionality": "bidi", "pooler_fc_size": 768, "hidden_act": "gelu"}
    hugging_face = numbers | {"model_type": "bert", "layer_norm_eps": 1e-7, "torch_dtype": "float32"}

    assert BertConfig.from_dict(google) == BertConfig(**numbers, layer_norm_eps=1e-12)
    assert BertConfig.from_dict(hugging_face) == BertConfig(**numbers, layer_norm_eps=1e-7)


def test_the_defaults_are_bert_base() -> None:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Bert(BertConfig()).parameters())

    assert count == 109_482_240  # of bert-base-uncased


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_act": "swish"}, "'swish' is not one of gelu"),
        ({"hidden_size": 25}, "25 does not divide into 3"),
        ({"num_attention_heads": 0}, "0 attention heads"),
    ],
)
def test_bad_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**values)


@pytest.mark.parametrize(
    "values",
    [{"model_type": "roberta"}, {"position_embedding_type": "relative_key_query"}, {"is_decoder": True}],
)
def test_other_architectures(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the original BERT"):
        BertConfig.from_dict(values)


@pytest.mark.parametrize(
    ("name", "at_one"),
    [
        ("gelu", 0.8413447460685429),
        ("gelu_new", 0.8411919906082768),
        ("gelu_pytorch_tanh", 0.8411919906082768),
        ("relu", 1.0),
    ],
)
def test_activations(name: str, at_one: float) -> None:
    """Phi(1), and its approximation by tanh."""
    assert ACTIVATIONS[name](torch.ones((), dtype=torch.float64)).item() == pytest.approx(at_one, abs=1e-15)


# -- initialisation --


def test_initialisation_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    std = 0.05
    model = PreTraining(Bert(config(vocab_size=2000, hidden_size=96, initializer_range=std)))
    seen = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all(), name
            assert not module.bias.any(), name
        elif isinstance(module, nn.Linear | nn.Embedding):
            assert module.weight.abs().max() <= 2 * std, name
            assert abs(module.weight.mean()) < 0.02, name
            if module.weight.numel() > 5000:
                # truncation at 2 sigma reduces the standard deviation to 0.8796 sigma
                assert module.weight.std().item() == pytest.approx(0.8796 * std, rel=0.03), name
                assert module.weight.abs().max() > 1.9 * std, name
            if isinstance(module, nn.Linear):
                assert not module.bias.any(), name
        else:
            continue
        seen.add(type(module))
    assert seen == {nn.LayerNorm, nn.Linear, nn.Embedding}
    assert not model.bias.any()


def test_the_new_layers_of_a_head_are_initialised_too() -> None:
    torch.manual_seed(0)
    encoder = Bert(config(hidden_size=96))
    for head in (SequenceClassification(encoder, 40), TokenClassification(encoder, 40)):
        assert head.classifier.weight.abs().max() <= 0.04
        assert head.classifier.weight.std().item() == pytest.approx(0.8796 * 0.02, rel=0.05)
        assert not head.classifier.bias.any()


def test_a_layer_without_bias_can_be_initialised() -> None:
    layer = nn.Linear(30, 30, bias=False)
    initialize(layer, 0.01)

    assert 0 < layer.weight.abs().max() <= 0.02


# -- dropout --


@torch.no_grad()
def test_hidden_dropout_is_after_the_embeddings_and_before_each_residual() -> None:
    """If everything is dropped, only the LayerNorms of zeros remain, one after the other."""
    model = bert(hidden_dropout_prob=1.0).train()
    hidden = torch.zeros(sum(LENGTHS), 24, dtype=torch.float64)
    states = [hidden]
    for layer in model.layers:
        states.append(layer.output_norm(layer.attention_norm(states[-1])))  # type: ignore[operator]

    for actual, expected in zip(model.all_hidden_states(batch()), states, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("attend", ATTENTIONS)
@torch.no_grad()
def test_attention_dropout_is_on_the_probabilities(attend: Attend) -> None:
    """If all probabilities are dropped, attention returns the bias of its output layer."""
    model = bert(attention_probs_dropout_prob=1.0).train()
    model.use_attention(attend)
    hidden = model.embeddings(batch())
    for layer in model.layers:
        hidden = layer.attention_norm(hidden + layer.attention.output.bias)  # type: ignore[operator, union-attr]
        hidden = layer.output_norm(hidden + layer.down(layer.activation(layer.up(hidden))))  # type: ignore[operator]

    torch.testing.assert_close(model(batch()), hidden, rtol=0, atol=1e-12)


@pytest.mark.parametrize("attend", ATTENTIONS)
def test_a_probability_is_dropped_or_scaled_up(attend: Attend) -> None:
    """A single token attends to itself with probability 1, so its value is kept or dropped as a whole."""
    torch.manual_seed(0)
    alone = batch([1] * 400)
    qkv = torch.randn(400, 3, 5, 4, dtype=torch.float64)

    context = attend(qkv, alone, 0.25)

    dropped = (context == 0).all(-1)
    assert dropped.double().mean().item() == pytest.approx(0.25, abs=0.04)
    torch.testing.assert_close(context[~dropped], qkv[:, 2][~dropped] / 0.75)


def test_the_rate_of_hidden_dropout() -> None:
    torch.manual_seed(0)
    model = bert(hidden_dropout_prob=0.3).train()

    embedded = model.embeddings(batch([16] * 20))

    assert (embedded == 0).double().mean().item() == pytest.approx(0.3, abs=0.03)


@torch.no_grad()
def test_dropout_before_the_classifiers_and_in_no_other_head() -> None:
    encoder = bert(hidden_dropout_prob=1.0)
    for classifier in (SequenceClassification(encoder, 3), TokenClassification(encoder, 3)):
        nn.init.normal_(classifier.classifier.bias)
        logits = classifier.double().train()(batch())
        assert torch.equal(logits, classifier.classifier.bias.expand_as(logits))
    spans = QuestionAnswering(encoder).double().train()
    assert torch.equal(spans(batch()), spans.span(encoder(batch())))
    words = PreTraining(encoder).double().train()
    assert words(batch())[1].abs().min() > 0


@torch.no_grad()
def test_eval_drops_nothing_and_train_does() -> None:
    without = bert()
    dropping = bert(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)

    assert torch.equal(dropping(batch()), without(batch()))
    assert torch.equal(without.train()(batch()), without.eval()(batch()))
    dropping.train()
    assert not torch.equal(dropping(batch()), dropping(batch()))


# -- packing --

masks = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()).filter(
    lambda mask: mask.any(1).all()
)


@given(masks)
def test_unpack_is_the_inverse_of_pack(array: np.ndarray) -> None:
    mask = torch.from_numpy(array)
    ids = torch.arange(1, mask.numel() + 1).view(mask.shape)
    packed = pack(ids, mask, -ids)

    assert torch.equal(unpack(packed.ids, mask), ids * mask)
    assert torch.equal(packed.segments, -packed.ids)
    assert torch.equal(packed.positions, torch.cat([row.nonzero()[:, 0] for row in mask]))
    assert list(packed.lengths) == mask.sum(1).tolist() == packed.cu_seqlens.diff().tolist()
    assert packed.cu_seqlens.dtype == torch.int32
    for row, sequence in zip(ids, packed.ids.split(list(packed.lengths)), strict=True):
        assert set(sequence.tolist()) <= set(row.tolist())


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_the_rectangle_of_packed_sequences(lengths: list[int]) -> None:
    packed = batch(lengths)
    rectangle = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    rectangle.view(-1)[packed.slots] = packed.ids + 1

    expected = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    assert torch.equal(rectangle > 0, expected)
    assert torch.equal(packed.ids[packed.first], rectangle[:, 0] - 1)
    if packed.mask is None:
        assert expected.all()
    else:
        assert torch.equal(packed.mask[:, 0, 0], expected)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=9))
def test_runs_are_neighbours_of_one_length(lengths: list[int]) -> None:
    runs = batch(lengths).runs

    assert [length for count, length in runs for _ in range(count)] == lengths
    assert all(one[1] != other[1] for one, other in pairwise(runs))


def test_unpack_keeps_further_dimensions() -> None:
    mask = torch.tensor([[1, 1, 0], [0, 1, 0]])
    values = torch.arange(6.0).view(3, 2)

    assert unpack(values, mask).tolist() == [[[0, 1], [2, 3], [0, 0]], [[0, 0], [4, 5], [0, 0]]]


@pytest.mark.parametrize("attend", ATTENTIONS)
@torch.no_grad()
def test_a_sequence_does_not_depend_on_those_beside_it(attend: Attend) -> None:
    model = bert()
    model.use_attention(attend)
    together = batch([5, 16, 1, 9])

    hidden = model(together).split(list(together.lengths))

    for i, (start, end) in enumerate(zip(together.cu_seqlens[:-1], together.cu_seqlens[1:], strict=True)):
        alone = Packed.from_lengths(together.ids[start:end], [together.lengths[i]], together.segments[start:end])
        torch.testing.assert_close(hidden[i], model(alone), rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_last_of_all_hidden_states_is_the_output() -> None:
    model = bert()
    states = model.all_hidden_states(batch())

    assert len(states) == 3
    assert torch.equal(states[-1], model(batch()))
    assert torch.equal(states[0], model.embeddings(batch()))


# -- rejected input --


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([], "at least one sequence"),
        ([3, 0, 2], "at least one token"),
        ([6, -1], "at least one token"),
        ([2, 2], "add up to 4, but there are 5"),
    ],
)
def test_lengths_that_do_not_fit(lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Packed.from_lengths(torch.zeros(5, dtype=torch.long), lengths)


def test_a_row_of_padding_only() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        pack(torch.ones(2, 3, dtype=torch.long), torch.tensor([[1, 1, 1], [0, 0, 0]]))


def test_an_empty_rectangle() -> None:
    with pytest.raises(ValueError, match="at least one sequence"):
        pack(torch.ones(0, 3, dtype=torch.long))


def test_a_sequence_longer_than_the_position_table() -> None:
    model = bert()
    model(batch([16]))

    for run in (model, model.all_hidden_states):
        with pytest.raises(ValueError, match="17 tokens does not fit the 16 positions"):
            run(batch([3, 17]))


@pytest.mark.parametrize("wrong", [50, -1])
def test_ids_that_the_model_does_not_have(wrong: int) -> None:
    good = batch()
    ids = good.ids.clone()
    ids[3] = wrong

    with pytest.raises(ValueError, match=f"word piece ids from .*{wrong}.*: this model has those from 0 to 49"):
        bert()(Packed.from_lengths(ids, LENGTHS))
    with pytest.raises(ValueError, match="segment ids from 0 to 2: this model has those from 0 to 1"):
        bert()(Packed.from_lengths(good.ids, LENGTHS, torch.full_like(ids, 2).index_fill(0, torch.tensor([0]), 0)))
