"""Heads: the pooler compared with plain numpy, and corner cases of the losses. Parity is in test_parity.py."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reference.heads import (
    IGNORE,
    MultiLabel,
    PreTraining,
    QuestionAnswering,
    Regression,
    SequenceClassification,
    TokenClassification,
    pooled,
)
from reference.model import Bert, BertConfig, Packed

LENGTHS = [6, 1, 3]


@pytest.fixture
def bert() -> Bert:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=12, num_hidden_layers=3, num_attention_heads=2, intermediate_size=20)
    model = Bert(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def batch() -> Packed:
    return Packed.from_lengths(torch.arange(1, 11), LENGTHS)


@torch.no_grad()
def test_pooled_is_the_tanh_of_a_dense_layer_on_cls(bert: Bert, batch: Packed) -> None:
    assert bert.pooler is not None
    weight, bias = bert.pooler.dense.weight.numpy(), bert.pooler.dense.bias.numpy()
    hidden = bert(batch)
    cls = hidden.numpy()[[0, 6, 7]]

    np.testing.assert_allclose(pooled(bert, hidden, batch).numpy(), np.tanh(cls @ weight.T + bias), rtol=0, atol=1e-14)


@pytest.mark.parametrize("head", [SequenceClassification, Regression, MultiLabel])
def test_a_head_that_needs_the_pooler_says_so(head: type[SequenceClassification], batch: Packed) -> None:
    config = BertConfig(vocab_size=50, hidden_size=12, num_hidden_layers=1, num_attention_heads=2)

    with pytest.raises(ValueError, match="with a pooler"):
        head(Bert(config, pooler=False), 2)(batch)


def test_shapes(bert: Bert, batch: Packed) -> None:
    assert SequenceClassification(bert, 4).double()(batch).shape == (3, 4)
    assert Regression(bert).double()(batch).shape == (3, 1)
    assert TokenClassification(bert, 5).double()(batch).shape == (10, 5)
    assert QuestionAnswering(bert).double()(batch).shape == (10, 2)
    words, next_sentence = PreTraining(bert).double()(batch)
    assert words.shape == (10, 50)
    assert next_sentence.shape == (3, 2)


def test_labels_to_ignore_take_no_part_in_the_loss(bert: Bert) -> None:
    logits = torch.randn(4, 5, dtype=torch.float64)
    head = TokenClassification(bert, 5)

    loss = head.loss(logits, torch.tensor([IGNORE, 2, IGNORE, 4]))

    torch.testing.assert_close(loss, head.loss(logits[[1, 3]], torch.tensor([2, 4])))


def test_the_loss_of_question_answering_is_over_each_sequence_alone(bert: Bert, batch: Packed) -> None:
    """The mean over sentences of the mean over (start, end) of log-sum-exp minus the score of the answer."""
    logits = torch.randn(10, 2, dtype=torch.float64)
    starts, ends = torch.tensor([1, 0, 0]), torch.tensor([4, 0, 2])

    loss = QuestionAnswering(bert).loss(logits, batch, starts, ends)

    terms = []
    for scores, start, end in zip(np.split(logits.numpy(), np.cumsum(LENGTHS)[:-1]), starts, ends, strict=True):
        for column, answer in ((0, start), (1, end)):
            terms.append(np.log(np.exp(scores[:, column]).sum()) - scores[answer, column])
    assert loss.item() == pytest.approx(np.mean(terms), abs=1e-14)


def test_an_answer_outside_its_sequence_is_an_error(bert: Bert, batch: Packed) -> None:
    with pytest.raises(IndexError):
        QuestionAnswering(bert).loss(torch.randn(10, 2), batch, torch.tensor([1, 0, 0]), torch.tensor([4, 1, 2]))


def test_pre_training_shares_the_input_embeddings(bert: Bert, batch: Packed) -> None:
    head = PreTraining(bert).double()
    words = head(batch)[0]

    transformed = head.norm(F.gelu(head.dense(bert(batch))))
    torch.testing.assert_close(words, transformed @ bert.embeddings.word.weight.T + head.bias)
    assert not any(parameter.shape == (50, 12) for name, parameter in head.named_parameters() if "bert." not in name)
