"""Task heads: a small module for each kind of task, with its ``forward`` and ``loss``, on top of the encoder.

All take a ``Packed`` batch. ``reference.checkpoint`` has the names of their tensors in a Hugging Face folder.
Shapes: T tokens of the batch, B sequences. Sections and figures are the paper's (arXiv 1810.04805).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.dropout import Dropout
from reference.model import ACTIVATIONS, Bert, Packed, initialize

IGNORE = -100  # the loss skips tokens with this label


class Head(nn.Module):
    """A module on top of an encoder."""

    bert: Bert
    device_used: str  # these three are set by ``reference.load``
    precision_used: str
    precision_computed: str


class MaskedWords(Head):
    """Masked words (section 3.1). The output weights are the input embeddings (tied)."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        config = bert.config
        self.bert = bert
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        initialize(self.dense, config.initializer_range)

    def words(self, hidden: Tensor, chosen: Tensor | None) -> Tensor:
        """Logits of the word pieces [T, vocabulary] for the encoder's output.

        ``chosen`` [M] are indices of tokens: only theirs are computed, [M, vocabulary]. In training these are the
        masked tokens, a seventh of all, and the vocabulary is the largest product of a small model.
        """
        hidden = hidden if chosen is None else hidden[chosen]
        hidden = self.norm(self.activation(self.dense(hidden)))
        return F.linear(hidden, self.bert.embeddings.word.weight, self.bias)

    def forward(self, batch: Packed, chosen: Tensor | None = None) -> Tensor:
        """Logits of the word pieces, of all tokens or of the ``chosen`` ones."""
        return self.words(self.bert(batch), chosen)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens whose label, of [T], is not IGNORE."""
        return F.cross_entropy(logits, labels, ignore_index=IGNORE)


class PreTraining(MaskedWords):
    """Masked words and next sentence (section 3.1)."""

    def __init__(self, bert: Bert) -> None:
        super().__init__(bert)
        self.next_sentence = nn.Linear(bert.config.hidden_size, 2)
        initialize(self.next_sentence, bert.config.initializer_range)

    def forward(self, batch: Packed, chosen: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Logits of the word pieces, as above, and of (is next, is not next) [B, 2]."""
        hidden = self.bert(batch)
        return self.words(hidden, chosen), self.next_sentence(pooled(self.bert, hidden, batch))

    def loss(self, logits: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        """Sum of the two mean cross-entropies. Word labels [T] are IGNORE for tokens that were not masked."""
        words, next_sentence = (F.cross_entropy(x, y, ignore_index=IGNORE) for x, y in zip(logits, labels, strict=True))
        return words + next_sentence


class SequenceClassification(Head):
    """One of several classes for a sequence: pooler, dropout, linear (section 4.1)."""

    def __init__(self, bert: Bert, num_labels: int) -> None:
        super().__init__()
        self.bert = bert
        self.dropout = Dropout(bert.config.hidden_dropout_prob)
        self.classifier = nn.Linear(bert.config.hidden_size, num_labels)
        initialize(self.classifier, bert.config.initializer_range)

    def forward(self, batch: Packed) -> Tensor:
        """Logits [B, labels]."""
        hidden = self.bert(batch)
        return self.classifier(self.dropout(pooled(self.bert, hidden, batch)))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy. Labels [B] are class indices."""
        return F.cross_entropy(logits, labels, ignore_index=IGNORE)


class Regression(SequenceClassification):
    """A score for a sequence or a pair, such as the similarity of two sentences (STS-B)."""

    def __init__(self, bert: Bert, num_labels: int = 1) -> None:
        super().__init__(bert, num_labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error. Labels [B] are scores."""
        return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))


class MultiLabel(SequenceClassification):
    """Any number of labels for a sequence, each with a separate sigmoid."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean binary cross-entropy. Labels [B, labels] are 0 or 1."""
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


class TokenClassification(Head):
    """A label for every token: dropout, linear (section 5.3)."""

    def __init__(self, bert: Bert, num_labels: int) -> None:
        super().__init__()
        self.bert = bert
        self.dropout = Dropout(bert.config.hidden_dropout_prob)
        self.classifier = nn.Linear(bert.config.hidden_size, num_labels)
        initialize(self.classifier, bert.config.initializer_range)

    def forward(self, batch: Packed) -> Tensor:
        """Logits [T, labels]."""
        return self.classifier(self.dropout(self.bert(batch)))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens whose label, of [T], is not IGNORE."""
        return F.cross_entropy(logits, labels, ignore_index=IGNORE)


class QuestionAnswering(Head):
    """The tokens at which the answer starts and ends (section 4.2)."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert
        self.span = nn.Linear(bert.config.hidden_size, 2)
        initialize(self.span, bert.config.initializer_range)

    def forward(self, batch: Packed) -> Tensor:
        """Logits [T, 2] of each token as start and as end."""
        return self.span(self.bert(batch))

    def loss(self, logits: Tensor, batch: Packed, starts: Tensor, ends: Tensor) -> Tensor:
        """Mean of the two cross-entropies over each sequence's tokens. Starts and ends [B] are indices in the sequence.

        In Google's code and in transformers padding is part of the softmax; here there is no padding.
        """
        spans = logits.split(list(batch.lengths))
        losses = [
            F.cross_entropy(span.T, torch.stack([start, end]))
            for span, start, end in zip(spans, starts, ends, strict=True)
        ]
        return torch.stack(losses).mean()


HEADS: dict[str, Callable[..., Head]] = {
    "pre-training": PreTraining,
    "masked-lm": MaskedWords,
    "classification": SequenceClassification,
    "regression": Regression,
    "multi-label": MultiLabel,
    "tagging": TokenClassification,
    "question-answering": QuestionAnswering,
}


def pooled(bert: Bert, hidden: Tensor, batch: Packed) -> Tensor:
    """The pooler's output, [B, H]."""
    if bert.pooler is None:
        raise ValueError("this head needs a BERT with a pooler")
    return bert.pooler(hidden, batch)
