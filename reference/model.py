"""Full definition of BERT, all of it in this single file.

The original model of Devlin et al. 2018 (arXiv 1810.04805) and of https://github.com/google-research/bert:
post-norm Transformer encoder, learned positions, two segments, gelu, a tanh pooler on the first token.

The native layout is *packed*: the tokens of all sequences end to end, ``[tokens, ...]``, with
``cu_seqlens`` saying where each sequence starts, so that no arithmetic is spent on padding.
``pack`` and ``unpack`` lead from a padded rectangle to it and back.

Shapes in the comments: T tokens of the batch, B sequences, S longest sequence, H hidden size,
N attention heads, D = H / N.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, partial
from itertools import groupby
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.dropout import Dropout, dropout

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,  # x Phi(x) by erf: Google's code until 2019-02, and what every released checkpoint means
    "gelu_new": partial(F.gelu, approximate="tanh"),  # Google's code since
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True)
class BertConfig:
    """The numbers that make a BERT; the defaults are those of BERT-base, uncased."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12  # Google's bert_config.json does not name it; its code has 1e-12

    def __post_init__(self) -> None:
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act {self.hidden_act!r} is not one of {', '.join(ACTIVATIONS)}")
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} does not divide into {self.num_attention_heads} attention heads"
            )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Take what is BERT's from a Hugging Face ``config.json`` or Google's ``bert_config.json``.

        Raises ValueError where the file describes another architecture.
        """
        model_type = values.get("model_type", "bert")
        if model_type != "bert":
            raise ValueError(f"model_type is {model_type!r}; this is the original BERT")
        if values.get("position_embedding_type", "absolute") != "absolute" or values.get("is_decoder"):
            raise ValueError("relative positions and decoders are not the original BERT")
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})


@dataclass(frozen=True)
class Packed:
    """The tokens of a batch, sequence after sequence, without padding."""

    ids: Tensor  # [T] word piece ids
    segments: Tensor  # [T] 0 for the first text, 1 for the second ("token type ids")
    positions: Tensor  # [T] index into the position table
    cu_seqlens: Tensor  # [B + 1] int32: sequence i is tokens cu_seqlens[i] to cu_seqlens[i + 1]
    lengths: tuple[int, ...]  # [B] the same as Python numbers, so that no GPU is asked for them

    @classmethod
    def from_lengths(cls, ids: Tensor, lengths: list[int], segments: Tensor | None = None) -> Self:
        """Pack ``ids`` [T], whose sequences have these lengths; positions count from 0 in each."""
        if not lengths or min(lengths) < 1:
            raise ValueError("a batch needs at least one sequence, and a sequence at least one token")
        if sum(lengths) != ids.numel():
            raise ValueError(f"the lengths add up to {sum(lengths)}, but there are {ids.numel()} tokens")
        positions = torch.cat([torch.arange(length) for length in lengths])
        cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
        return cls(
            ids=ids,
            segments=torch.zeros_like(ids) if segments is None else segments,
            positions=positions.to(ids.device, non_blocking=True),
            cu_seqlens=cu_seqlens.to(ids.device, non_blocking=True),
            lengths=tuple(lengths),
        )

    @cached_property
    def first(self) -> Tensor:
        """[B] where each sequence starts: the place of its [CLS]."""
        return self.cu_seqlens[:-1].long()

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """Neighbours of one length, as (sequences, length): a batch sorted by length has few of them."""
        return [(len(list(neighbours)), length) for length, neighbours in groupby(self.lengths)]

    @cached_property
    def slots(self) -> Tensor:
        """[T] each token's place in a flattened [B, S] rectangle whose rows are filled from the left."""
        longest = max(self.lengths)
        slots = torch.cat([torch.arange(n) + row * longest for row, n in enumerate(self.lengths)])
        return slots.to(self.ids.device, non_blocking=True)

    @cached_property
    def mask(self) -> Tensor | None:
        """[B, 1, 1, S] True where that rectangle holds a token; None if it has no holes."""
        longest = max(self.lengths)
        if min(self.lengths) == longest:
            return None
        lengths = torch.tensor(self.lengths)[:, None, None, None]
        return (torch.arange(longest) < lengths).to(self.ids.device, non_blocking=True)


def pack(input_ids: Tensor, attention_mask: Tensor | None = None, segments: Tensor | None = None) -> Packed:
    """Take the real tokens out of a padded rectangle [B, S].

    ``attention_mask`` [B, S] is 1 (or True) at real tokens. A token keeps the position of its column,
    whichever side the padding is on, as in Google's code and in transformers.
    """
    keep = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    lengths = keep.sum(1).tolist()
    packed = Packed.from_lengths(input_ids[keep], lengths, None if segments is None else segments[keep])
    columns = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    return Packed(packed.ids, packed.segments, columns[keep], packed.cu_seqlens, packed.lengths)


def unpack(values: Tensor, attention_mask: Tensor) -> Tensor:
    """Put packed values [T, ...] back where ``attention_mask`` [B, S] is 1; zeros elsewhere. [B, S, ...]"""
    padded = values.new_zeros(*attention_mask.shape, *values.shape[1:])
    padded[attention_mask.bool()] = values
    return padded


def attention_as_in_the_paper(qkv: Tensor, batch: Packed, drop: float) -> Tensor:
    """softmax(q k^T / sqrt(D)) v, sequence by sequence. qkv [T, 3, N, D] -> [T, N, D]"""
    contexts = []
    for sequence in qkv.split(list(batch.lengths)):
        q, k, v = sequence.permute(1, 2, 0, 3)  # 3 x [N, length, D]
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # [N, length, length]
        contexts.append((F.dropout(scores.softmax(-1), drop) @ v).transpose(0, 1))
    return torch.cat(contexts)


def attention(qkv: Tensor, batch: Packed, drop: float) -> Tensor:
    """The same by fused kernels; ``drop`` is the probability of dropout. qkv [T, 3, N, D] -> [T, N, D]"""
    if drop:
        return attention_in_rectangle(qkv, batch, drop)
    if flash_attention_fits(qkv):
        from torch.nn.attention.varlen import varlen_attn  # here, as importing it takes a second

        q, k, v = qkv.unbind(1)  # 3 x [T, N, D]
        longest = max(batch.lengths)
        return varlen_attn(q, k, v, batch.cu_seqlens, batch.cu_seqlens, longest, longest)  # type: ignore[return-value]
    return attention_by_runs(qkv, batch, drop) if qkv.is_cpu else attention_in_rectangle(qkv, batch, drop)


def attention_by_runs(qkv: Tensor, batch: Packed, drop: float) -> Tensor:
    """Sequences of one length at a time, where they lie: no copy, no mask, but a call for each run."""
    contexts = []
    for run, (count, length) in zip(qkv.split([n * length for n, length in batch.runs]), batch.runs, strict=True):
        q, k, v = run.unflatten(0, (count, length)).permute(2, 0, 3, 1, 4)  # 3 x [count, N, length, D]
        context = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        contexts.append(context.transpose(1, 2).flatten(0, 1))
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


def attention_in_rectangle(qkv: Tensor, batch: Packed, drop: float) -> Tensor:
    """All sequences in one call; only attention pays for the padding."""
    rectangle = qkv.new_zeros(len(batch.lengths) * max(batch.lengths), *qkv.shape[1:])
    rectangle = rectangle.index_copy(0, batch.slots, qkv).unflatten(0, (len(batch.lengths), -1))
    q, k, v = rectangle.permute(2, 0, 3, 1, 4)  # 3 x [B, N, S, D]
    if drop and qkv.is_cpu:  # where PyTorch has no fused kernel that drops
        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)  # [B, N, S, S]
        scores = scores if batch.mask is None else scores.masked_fill(~batch.mask, -math.inf)
        context = dropout(scores.softmax(-1), drop) @ v
    else:
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=batch.mask, dropout_p=drop)
    return context.transpose(1, 2).flatten(0, 1).index_select(0, batch.slots)


def flash_attention_fits(qkv: Tensor) -> bool:
    """Whether flash attention takes packed sequences here: half precision, on a GPU from Ampere on."""
    half = qkv.dtype in (torch.bfloat16, torch.float16)
    return half and qkv.is_cuda and torch.cuda.get_device_capability(qkv.device) >= (8, 0)


class Embeddings(nn.Module):
    """Word piece + position + segment, then LayerNorm and dropout (section 3, figure 2 of the paper)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word = table(config.vocab_size, config.hidden_size)
        self.position = table(config.max_position_embeddings, config.hidden_size)
        self.segment = table(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, batch: Packed) -> Tensor:
        embedded = self.word(batch.ids) + self.segment(batch.segments) + self.position(batch.positions)
        return self.dropout(self.norm(embedded))  # [T, H]


def table(rows: int, size: int) -> nn.Embedding:
    """An embedding left for ``Bert`` to initialise, as PyTorch's own way takes a second on the meta device."""
    return nn.Embedding.from_pretrained(torch.empty(rows, size), freeze=False)


class SelfAttention(nn.Module):
    """Multi-head attention of every token over the tokens of its own sequence."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)  # query, key, value in one product
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = config.attention_probs_dropout_prob
        self.attend = attention

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        qkv = self.qkv(hidden).unflatten(-1, (3, self.heads, -1))  # [T, 3, N, D]
        tokens = batch.ids.numel()
        context = self.attend(qkv[:tokens], batch, self.dropout if self.training else 0.0)  # [T, N, D]
        return self.output(fill(context.flatten(1), len(hidden)))  # [T, H]


class Layer(nn.Module):
    """Attention and feed-forward, each followed by dropout, the residual and LayerNorm, in that order."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        hidden = self.attention_norm(hidden + self.dropout(self.attention(hidden, batch)))
        return self.output_norm(hidden + self.dropout(self.down(self.activation(self.up(hidden)))))


class Layers(nn.ModuleList):
    """All of them, one after another."""

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        for layer in self:
            hidden = layer(hidden, batch)
        return hidden


class Pooler(nn.Module):
    """tanh of a dense layer on the first token; pre-training taught it next-sentence prediction."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        return self.dense(hidden[batch.first]).tanh()  # [B, H]


class Bert(nn.Module):
    """The encoder. Heads (``reference.heads``) stand on it; weights come from ``reference.checkpoint``."""

    def __init__(self, config: BertConfig, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = Layers(Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler = Pooler(config) if pooler else None
        self.apply(partial(initialize, std=config.initializer_range))

    def forward(self, batch: Packed) -> Tensor:
        """Hidden states of the last layer, [T, H]."""
        check(batch, self.config)
        hidden = self.embeddings(batch)
        tokens = len(hidden)
        return self.layers(fill(hidden, kernel_rows(hidden)), batch)[:tokens]

    def all_hidden_states(self, batch: Packed) -> list[Tensor]:
        """The embeddings and then every layer's hidden states, each [T, H]."""
        check(batch, self.config)
        embedded = self.embeddings(batch)
        states = [fill(embedded, kernel_rows(embedded))]
        for layer in self.layers:
            states.append(layer(states[-1], batch))
        return [hidden[: len(embedded)] for hidden in states]

    def padded(self, ids: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """The same for a rectangle [B, S] of ids -> [B, S, H]; zeros where ``mask`` [B, S] is 0."""
        hidden = self(pack(ids, mask, segments))
        return unpack(hidden, torch.ones_like(ids) if mask is None else mask)

    def use_attention(self, attend: Callable[[Tensor, Packed, float], Tensor]) -> None:
        """Compute attention by this function: ``attention`` (the default) or ``attention_as_in_the_paper``.

        ValueError of a frozen model, whose layers have their own.
        """
        if not all(isinstance(layer, Layer) for layer in self.layers):
            raise ValueError("a frozen model has an attention of its own; choose one before it is frozen")
        for layer in self.layers:
            layer.attention.attend = attend  # type: ignore[union-attr]


def kernel_rows(hidden: Tensor) -> int:
    """How many rows to compute with: those of ``hidden`` [T, H], on the CPU a few more.

    oneDNN compiles a kernel for every new number of rows and keeps it; unrounded, fine-tuning fills the memory.
    """
    if not hidden.is_cpu:
        return len(hidden)
    step = 16 if len(hidden) <= 256 else 32 if len(hidden) <= 512 else 64 if len(hidden) <= 1024 else 128
    return -(-len(hidden) // step) * step


def fill(rows: Tensor, count: int) -> Tensor:
    """Add rows of zeros, which nothing reads, up to ``count``."""
    return rows if len(rows) == count else F.pad(rows, (0, 0, 0, count - len(rows)))


def check(batch: Packed, config: BertConfig) -> None:
    """Raise ValueError for a sequence longer than the position table, and on the CPU for ids outside of theirs.

    A GPU would have to be waited for; there the embedding stops the process with an assertion of CUDA's.
    """
    longest = max(batch.lengths)
    if longest > config.max_position_embeddings:
        raise ValueError(
            f"a sequence of {longest} tokens does not fit the {config.max_position_embeddings} positions of this model"
        )
    if batch.ids.is_cpu and not torch.compiler.is_compiling():
        for name, ids, count in (
            ("word piece", batch.ids, config.vocab_size),
            ("segment", batch.segments, config.type_vocab_size),
        ):
            low, high = (int(value) for value in ids.aminmax())
            if low < 0 or high >= count:
                raise ValueError(f"{name} ids from {low} to {high}: this model has those from 0 to {count - 1}")


def initialize(module: nn.Module, std: float) -> None:
    """Truncated normal weights, zero biases (google-research/bert, modeling.py: create_initializer)."""
    if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.is_meta:
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
