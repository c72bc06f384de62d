"""What stands on the encoder: one small module per task, each with its ``forward`` and its ``loss``.

All take a ``Packed`` batch. Names of their tensors in a Hugging Face folder are in ``reference.checkpoint``.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.dropout import Dropout
from reference.model import ACTIVATIONS, Bert, Packed, initialize

IGNORE = -100  # a label that takes no part in the loss


class PreTraining(nn.Module):
    """Masked words and next sentence (section 3.1 of the paper); the output words are the input embeddings."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        config = bert.config
        self.bert = bert
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.next_sentence = nn.Linear(config.hidden_size, 2)
        for layer in (self.dense, self.next_sentence):
            initialize(layer, config.initializer_range)

    def forward(self, batch: Packed) -> tuple[Tensor, Tensor]:
        """Scores of the words [T, vocabulary] and of (is next, is not next) [B, 2]."""
        hidden = self.bert(batch)
        words = self.norm(self.activation(self.dense(hidden)))
        word_logits = F.linear(words, self.bert.embeddings.word.weight, self.bias)
        return word_logits, self.next_sentence(pooled(self.bert, hidden, batch))

    def loss(self, logits: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor]) -> Tensor:
        """Sum of the two mean cross-entropies; word labels [T] are IGNORE where nothing was masked."""
        words, next_sentence = (F.cross_entropy(x, y, ignore_index=IGNORE) for x, y in zip(logits, labels, strict=True))
        return words + next_sentence


class SequenceClassification(nn.Module):
    """One of several classes: pooled output, dropout, linear (section 4.1)."""

    def __init__(self, bert: Bert, num_labels: int) -> None:
        super().__init__()
        self.bert = bert
        self.dropout = Dropout(bert.config.hidden_dropout_prob)
        self.classifier = nn.Linear(bert.config.hidden_size, num_labels)
        initialize(self.classifier, bert.config.initializer_range)

    def forward(self, batch: Packed) -> Tensor:
        """[B, labels]"""
        hidden = self.bert(batch)
        return self.classifier(self.dropout(pooled(self.bert, hidden, batch)))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy; labels [B] are class numbers."""
        return F.cross_entropy(logits, labels, ignore_index=IGNORE)


class Regression(SequenceClassification):
    """A score, such as the similarity of two sentences."""

    def __init__(self, bert: Bert, num_labels: int = 1) -> None:
        super().__init__(bert, num_labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error; labels [B] are scores."""
        return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))


class MultiLabel(SequenceClassification):
    """Any number of labels at once, each with a sigmoid of its own."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean binary cross-entropy; labels [B, labels] are 0 or 1."""
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


class TokenClassification(nn.Module):
    """A label for every token: dropout, linear (section 5.3)."""

    def __init__(self, bert: Bert, num_labels: int) -> None:
        super().__init__()
        self.bert = bert
        self.dropout = Dropout(bert.config.hidden_dropout_prob)
        self.classifier = nn.Linear(bert.config.hidden_size, num_labels)
        initialize(self.classifier, bert.config.initializer_range)

    def forward(self, batch: Packed) -> Tensor:
        """[T, labels]"""
        return self.classifier(self.dropout(self.bert(batch)))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over labels [T] that are not IGNORE."""
        return F.cross_entropy(logits, labels, ignore_index=IGNORE)


class QuestionAnswering(nn.Module):
    """Where the answer starts and where it ends (section 4.2)."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert
        self.span = nn.Linear(bert.config.hidden_size, 2)
        initialize(self.span, bert.config.initializer_range)

    def forward(self, batch: Packed) -> Tensor:
        """[T, 2]: score of each token as start and as end."""
        return self.span(self.bert(batch))

    def loss(self, logits: Tensor, batch: Packed, starts: Tensor, ends: Tensor) -> Tensor:
        """Mean of the two cross-entropies over the tokens of each sequence; starts and ends [B] count within it.

        Padding takes no part (there is none); in Google's code and in transformers padded places do.
        """
        spans = logits.split(list(batch.lengths))
        losses = [
            F.cross_entropy(span.T, torch.stack([start, end]))
            for span, start, end in zip(spans, starts, ends, strict=True)
        ]
        return torch.stack(losses).mean()


class SentenceEmbedding(nn.Module):
    """One vector per sentence, by the pooling strategies of bert-as-service.

    ``pooling``: "none" (a vector for every token), "pooled" (the pooler's output) or one of POOLINGS.
    ``layers`` are numbers of hidden states (0 the embeddings, -1 the last layer); several are concatenated.
    """

    def __init__(self, bert: Bert, pooling: str = "mean", layers: Sequence[int] = (-1,)) -> None:
        super().__init__()
        if pooling not in POOLINGS and pooling not in ("none", "pooled"):
            raise ValueError(f"pooling {pooling!r} is not one of none, pooled, {', '.join(POOLINGS)}")
        self.bert, self.pooling, self.layers = bert, pooling, tuple(layers)

    def forward(self, batch: Packed) -> Tensor:
        """[B, size]; for "none" the tokens themselves, [T, size]."""
        states = self.bert.all_hidden_states(batch)
        if self.pooling == "pooled":  # as bert-as-service does, whatever the layers
            return pooled(self.bert, states[-1], batch)
        hidden = torch.cat([states[layer] for layer in self.layers], dim=-1)
        if self.pooling == "none":
            return hidden
        return torch.stack([POOLINGS[self.pooling](tokens) for tokens in hidden.split(list(batch.lengths))])


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda tokens: tokens.amax(0),
    "mean": lambda tokens: tokens.mean(0),
    "mean-max": lambda tokens: torch.cat([tokens.mean(0), tokens.amax(0)]),
    "first token": lambda tokens: tokens[0],  # [CLS]
    "last token": lambda tokens: tokens[-1],  # [SEP]
}

HEADS: dict[str, type[nn.Module]] = {
    "pre-training": PreTraining,
    "classification": SequenceClassification,
    "regression": Regression,
    "multi-label": MultiLabel,
    "tagging": TokenClassification,
    "question-answering": QuestionAnswering,
}


def pooled(bert: Bert, hidden: Tensor, batch: Packed) -> Tensor:
    """The pooler's output, [B, H]."""
    if bert.pooler is None:
        raise ValueError("this needs a BERT with a pooler")
    return bert.pooler(hidden, batch)
