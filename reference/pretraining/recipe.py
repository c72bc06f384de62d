"""A recipe: everything that determines a run except the corpus. Schedules are functions of the share of the budget."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from reference.errors import PretrainingError
from reference.model import BertConfig
from reference.pretraining.instances import RULES

Range = tuple[float, float]  # at the beginning and at the end


@dataclass(frozen=True)
class Recipe:
    """Sizes, data, budget and optimizer. Those without a default must be given."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    tokens: int  # the budget: tokens to train on, special tokens included
    learning_rate: float  # at its peak
    dropout: float = 0.1
    initializer_range: float = 0.02  # standard deviation of the first weights; BERT's, for 768 or more hidden units
    max_position_embeddings: int = 512
    max_length: int = 128  # tokens of a sequence
    long_length: int = 512  # that of the last part of the budget
    long_share: float = 0.0  # how large that part is; BERT's was 0.1
    next_sentence: str = "exact"  # exact: half of the pairs are random; google: as its script; none: no pairs
    whole_words: bool = False  # mask whole words
    mask_rate: Range = (0.15, 0.15)  # changes linearly
    batch_tokens: Range = (16384, 16384)  # grows linearly over ``batch_growth``
    batch_growth: float = 0.0
    micro_tokens: int = 8192  # of a batch that are computed at once; changes nothing but rounding
    betas: Range = (0.9, 0.98)
    epsilon: float = 1e-6
    bias_correction: bool = True  # Google's AdamW has none
    weight_decay: float = 0.01  # not of biases and LayerNorm
    max_grad_norm: float = 1.0
    warmup: float = 0.06  # share of the budget in which the rate rises linearly
    decay: float = 0.25  # share at the end in which it falls linearly to 0; in between it is constant
    seed: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str) -> Self:
        """Check values that were read from ``source``. Raises PretrainingError, which names the field."""
        known = {field.name: field for field in fields(cls)}
        if unknown := sorted(set(map(str, values)) - known.keys()):
            raise PretrainingError(f"{source}: unknown fields {', '.join(unknown)}; a recipe has {', '.join(known)}")
        checked = {name: _checked(name, value, known[name].type, source) for name, value in values.items()}
        try:
            recipe = cls(**checked)
        except TypeError as error:
            raise PretrainingError(f"{source}: {str(error).partition('__init__() ')[2]}") from None
        recipe._check(source)
        return recipe

    def _check(self, source: str) -> None:
        shares = ("dropout", "long_share", "batch_growth", "warmup", "decay")
        positive = ("tokens", "micro_tokens", "initializer_range", "learning_rate", "epsilon", "max_grad_norm")
        conditions = [(f"{name} must be from 0 to 1", 0 <= getattr(self, name) <= 1) for name in shares]
        conditions += [(f"{name} must be above 0", getattr(self, name) > 0) for name in positive]
        conditions += [
            ("warmup and decay together must be at most 1", self.warmup + self.decay <= 1),
            ("mask_rate must be above 0 and at most 0.5", all(0 < rate <= 0.5 for rate in self.mask_rate)),
            ("batch_tokens must be at least the longest length", min(self.batch_tokens) >= self.longest),
            ("max_length and long_length must be at least 8", min(self.max_length, self.long_length) >= 8),
            ("max_position_embeddings must hold the longest length", self.max_position_embeddings >= self.longest),
            ("betas must be from 0 to below 1", all(0 <= beta < 1 for beta in self.betas)),
            ("weight_decay must not be below 0", self.weight_decay >= 0),
            (f"next_sentence must be one of {', '.join(RULES)}", self.next_sentence in RULES),
        ]
        for said, holds in conditions:
            if not holds:
                raise PretrainingError(f"{source}: {said}")
        try:
            self.config(104)
        except ValueError as error:
            raise PretrainingError(f"{source}: {error}") from None

    @property
    def longest(self) -> int:
        """Tokens of the longest sequences."""
        return max(self.max_length, self.long_length) if self.long_share else self.max_length

    def config(self, vocab_size: int) -> BertConfig:
        """The model's configuration."""
        return BertConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            initializer_range=self.initializer_range,
            max_position_embeddings=self.max_position_embeddings,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON and YAML."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def rate(self, share: float) -> float:
        """The learning rate after this share of the budget."""
        up = share / self.warmup if self.warmup else 1.0
        down = (1 - share) / self.decay if self.decay else 1.0
        return self.learning_rate * max(0.0, min(up, down, 1.0))

    def batch_size(self, share: float) -> int:
        """Tokens of a batch."""
        first, last = self.batch_tokens
        grown = min(1.0, share / self.batch_growth) if self.batch_growth else 1.0
        return round(first + (last - first) * grown)

    def masked(self, share: float) -> float:
        """The share of tokens that is masked."""
        first, last = self.mask_rate
        return first + (last - first) * min(1.0, share)


def _checked(name: str, value: Any, kind: Any, source: str) -> Any:
    """The value in the field's type. YAML reads 1e-3 as text, so text that is a number is one."""
    if kind is Range:
        parts = value if isinstance(value, list | tuple) else [value, value]
        if len(parts) != 2:
            raise PretrainingError(f"{source}: {name} is {value!r}; give a number, or [first, last]")
        return tuple(_checked(name, part, float, source) for part in parts)
    if kind is bool or kind is str:
        if isinstance(value, kind):
            return value
        raise PretrainingError(
            f"{source}: {name} is {value!r}; it must be {'true or false' if kind is bool else 'text'}"
        )
    try:
        number = float(value)
        if isinstance(value, bool) or number != number or (kind is int and number != int(number)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        what = "a whole number" if kind is int else "a number"
        raise PretrainingError(f"{source}: {name} is {value!r}; it must be {what}") from None
    return kind(number)
