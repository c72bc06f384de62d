"""Full definition of BERT, all of it in this single file.

The original model of Devlin et al. 2018 (arXiv 1810.04805) and of https://github.com/google-research/bert:
post-norm Transformer encoder, learned positions, two segments, gelu, a tanh pooler on the first token.

The layout is *packed*: the tokens of all sequences end to end, ``[T, ...]``, without padding. Only attention needs to
know where a sequence ends; everything else treats each token alone. So most of the code below has no batch dimension,
and no arithmetic is spent on padding. ``pack`` and ``unpack`` convert from and to a padded rectangle.

Shapes in the comments: T tokens of the batch, B sequences, S longest sequence, H hidden size (768 in BERT-base),
N attention heads (12), D = H / N size of a head (64), I intermediate size (3072).
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
    "gelu": F.gelu,  # x Phi(x), exact: in Google's code until 2019-02, and in every checkpoint that Google released
    "gelu_new": partial(F.gelu, approximate="tanh"),  # in Google's code since then
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),  # another name for it in transformers
    "relu": F.relu,
}


@dataclass(frozen=True)
class BertConfig:
    """The sizes and settings of a BERT, under Hugging Face's names; the defaults are BERT-base, uncased."""

    vocab_size: int = 30522
    hidden_size: int = 768  # H
    num_hidden_layers: int = 12
    num_attention_heads: int = 12  # N
    intermediate_size: int = 3072  # I: 4 H in all of Google's models
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02  # standard deviation of the initial weights
    layer_norm_eps: float = 1e-12  # not in Google's bert_config.json, but in its code

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
        """Select the settings of BERT from a Hugging Face ``config.json`` or Google's ``bert_config.json``.

        Raises ValueError if the values describe another architecture.
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
    cu_seqlens: Tensor  # [B + 1] int32, cumulative lengths: sequence i is tokens cu_seqlens[i] to cu_seqlens[i + 1] - 1
    lengths: tuple[int, ...]  # B lengths, on the host: reading them from a GPU would wait for all its pending work

    @classmethod
    def from_lengths(cls, ids: Tensor, lengths: list[int], segments: Tensor | None = None) -> Self:
        """Pack ``ids`` [T], whose sequences have these lengths; positions count from 0 in each sequence.

        ``segments`` [T] are 0 by default. Raises ValueError for a length below 1 or lengths that do not add up to T.
        """
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
        """[B] index of each sequence's first token, [CLS]."""
        return self.cu_seqlens[:-1].long()

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """Runs of neighbouring sequences of equal length, as (sequences, length); few in a batch sorted by length."""
        return [(len(list(neighbours)), length) for length, neighbours in groupby(self.lengths)]

    @cached_property
    def slots(self) -> Tensor:
        """[T] each token's index in a flattened [B, S] rectangle that is padded on the right."""
        longest = max(self.lengths)
        slots = torch.cat([torch.arange(n) + row * longest for row, n in enumerate(self.lengths)])
        return slots.to(self.ids.device, non_blocking=True)

    @cached_property
    def mask(self) -> Tensor | None:
        """[B, 1, 1, S] True where that rectangle holds a token; None if it has no padding."""
        longest = max(self.lengths)
        if min(self.lengths) == longest:
            return None
        lengths = torch.tensor(self.lengths)[:, None, None, None]
        return (torch.arange(longest) < lengths).to(self.ids.device, non_blocking=True)


def pack(input_ids: Tensor, attention_mask: Tensor | None = None, segments: Tensor | None = None) -> Packed:
    """Take the real tokens out of a padded rectangle [B, S].

    ``attention_mask`` [B, S] is 1 (or True) at real tokens; None: everywhere. A token's position is its column,
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


# Attention: first as the paper writes it, to be read; then the same with fused kernels. It has no weights itself.
# ``drop`` is the dropout probability, which is 0 unless the model is in training.


def attention_as_in_the_paper(qkv: Tensor, batch: Packed, drop: float) -> Tensor:
    """softmax(q k^T / sqrt(D)) v, sequence by sequence. qkv [T, 3, N, D] -> [T, N, D]"""
    contexts = []
    for sequence in qkv.split(list(batch.lengths)):
        q, k, v = sequence.permute(1, 2, 0, 3)  # 3 x [N, length, D]
        # Each token (row) scores every token (column) of its sequence, in both directions: there is no causal mask.
        # A dot product sums D products; if these have unit variance, it has the variance D. Dividing it by sqrt(D)
        # keeps the softmax from saturating, where its gradient vanishes.
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # [N, length, length]
        # Dropout of probabilities, not of values: now and then, a token ignores another one entirely.
        contexts.append((F.dropout(scores.softmax(-1), drop) @ v).transpose(0, 1))  # [length, N, D]
    return torch.cat(contexts)


def attention(qkv: Tensor, batch: Packed, drop: float) -> Tensor:
    """The same by the fastest kernel for the device. qkv [T, 3, N, D] -> [T, N, D]"""
    if drop:
        return attention_in_rectangle(qkv, batch, drop)
    if flash_attention_fits(qkv):  # it takes packed sequences as they are
        from torch.nn.attention.varlen import varlen_attn  # imported late, because the import takes a second

        q, k, v = qkv.unbind(1)  # 3 x [T, N, D]
        longest = max(batch.lengths)
        return varlen_attn(q, k, v, batch.cu_seqlens, batch.cu_seqlens, longest, longest)  # type: ignore[return-value]
    return attention_by_runs(qkv, batch, drop) if qkv.is_cpu else attention_in_rectangle(qkv, batch, drop)


def attention_by_runs(qkv: Tensor, batch: Packed, drop: float) -> Tensor:
    """All sequences of a run at once, as views of qkv: no copy and no mask, but one call for each run of lengths."""
    contexts = []
    for run, (count, length) in zip(qkv.split([n * length for n, length in batch.runs]), batch.runs, strict=True):
        q, k, v = run.unflatten(0, (count, length)).permute(2, 0, 3, 1, 4)  # 3 x [count, N, length, D]
        context = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        contexts.append(context.transpose(1, 2).flatten(0, 1))
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


def attention_in_rectangle(qkv: Tensor, batch: Packed, drop: float) -> Tensor:
    """All sequences in one call, copied into a padded rectangle. Only attention pays for the padding."""
    rectangle = qkv.new_zeros(len(batch.lengths) * max(batch.lengths), *qkv.shape[1:])
    rectangle = rectangle.index_copy(0, batch.slots, qkv).unflatten(0, (len(batch.lengths), -1))
    q, k, v = rectangle.permute(2, 0, 3, 1, 4)  # 3 x [B, N, S, D]
    if drop and qkv.is_cpu:  # PyTorch has no fused kernel with dropout for the CPU
        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)  # [B, N, S, S]
        scores = scores if batch.mask is None else scores.masked_fill(~batch.mask, -math.inf)
        context = dropout(scores.softmax(-1), drop) @ v
    else:
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=batch.mask, dropout_p=drop)
    return context.transpose(1, 2).flatten(0, 1).index_select(0, batch.slots)


def flash_attention_fits(qkv: Tensor) -> bool:
    """Whether flash attention for packed sequences is available: half precision, on a GPU since Ampere."""
    half = qkv.dtype in (torch.bfloat16, torch.float16)
    return half and qkv.is_cuda and torch.cuda.get_device_capability(qkv.device) >= (8, 0)


class Embeddings(nn.Module):
    """Word piece + position + segment, then LayerNorm and dropout (section 3, figure 2 of the paper).

    Attention does not depend on the order of tokens, so the order enters here, as a learned vector for each position;
    a text longer than the position table cannot be computed.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word = table(config.vocab_size, config.hidden_size)
        self.position = table(config.max_position_embeddings, config.hidden_size)
        self.segment = table(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, batch: Packed) -> Tensor:
        # In this order, as in Google's code: another one rounds differently.
        embedded = self.word(batch.ids) + self.segment(batch.segments) + self.position(batch.positions)  # [T, H]
        return self.dropout(self.norm(embedded))


def table(rows: int, size: int) -> nn.Embedding:
    """An uninitialised embedding [rows, size], for ``Bert`` to initialise: PyTorch takes a second, even on meta."""
    return nn.Embedding.from_pretrained(torch.empty(rows, size), freeze=False)


class SelfAttention(nn.Module):
    """Multi-head attention of every token over the tokens of its own sequence."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        # Query, key and value of all heads in one product, which is faster than three: the outputs are [3, N, D].
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)  # mixes the heads
        self.dropout = config.attention_probs_dropout_prob
        self.attend = attention  # see ``Bert.use_attention``

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        qkv = self.qkv(hidden).unflatten(-1, (3, self.heads, -1))  # [T, 3, N, D]
        tokens = batch.ids.numel()  # on the CPU ``hidden`` has a few more rows: see ``kernel_rows``
        context = self.attend(qkv[:tokens], batch, self.dropout if self.training else 0.0)  # [T, N, D]
        return self.output(fill(context.flatten(1), len(hidden)))  # heads side by side: [T, N, D] -> [T, H]


class Layer(nn.Module):
    """Attention and feed-forward, each followed by dropout, the residual and LayerNorm, in that order (post-norm).

    LayerNorm is on the residual path itself, not inside the branch as in most later models. Deep post-norm models need
    a warm-up of the learning rate to train.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        # The feed-forward network treats each token alone. It has two thirds of a layer's weights: 8 H^2 of 12 H^2.
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        hidden = self.attention_norm(hidden + self.dropout(self.attention(hidden, batch)))
        return self.output_norm(hidden + self.dropout(self.down(self.activation(self.up(hidden)))))


class Layers(nn.ModuleList):
    """The stack of layers. ``reference.frozen`` replaces it by one that computes all layers in one call."""

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        for layer in self:
            hidden = layer(hidden, batch)
        return hidden


class Pooler(nn.Module):
    """tanh of a dense layer on the first token, [CLS]: one vector for a sequence.

    Pre-training taught it next-sentence prediction, and classification is fine-tuned on top of it. Without
    fine-tuning, it is not a good sentence embedding.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, batch: Packed) -> Tensor:
        return self.dense(hidden[batch.first]).tanh()  # [T, H] -> [B, H]


class Bert(nn.Module):
    """The encoder. ``reference.heads`` has task heads for it; ``reference.checkpoint`` loads weights.

    ``pooler=False`` leaves out the pooler, as in checkpoints for tagging and question answering.
    """

    device_used: str  # these three are set by ``reference.load``
    precision_used: str
    precision_computed: str

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
        hidden = self.embeddings(batch)  # [T, H]
        tokens = len(hidden)
        return self.layers(fill(hidden, kernel_rows(hidden)), batch)[:tokens]  # [T, H]

    def all_hidden_states(self, batch: Packed) -> list[Tensor]:
        """The output of the embeddings and of every layer, each [T, H]: ``num_hidden_layers + 1`` tensors."""
        check(batch, self.config)
        embedded = self.embeddings(batch)
        states = [fill(embedded, kernel_rows(embedded))]
        for layer in self.layers:
            states.append(layer(states[-1], batch))
        return [hidden[: len(embedded)] for hidden in states]

    def padded(self, ids: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Hidden states of the last layer for a rectangle of ids, [B, S] -> [B, S, H]; 0 where ``mask`` [B, S] is 0."""
        hidden = self(pack(ids, mask, segments))
        return unpack(hidden, torch.ones_like(ids) if mask is None else mask)

    def use_attention(self, attend: Callable[[Tensor, Packed, float], Tensor]) -> None:
        """Compute attention by this function: ``attention`` (the default) or ``attention_as_in_the_paper``.

        Raises ValueError for a frozen model, whose layers have fixed their attention.
        """
        if not all(isinstance(layer, Layer) for layer in self.layers):
            raise ValueError("the attention of a frozen model cannot be changed; choose it before freezing")
        for layer in self.layers:
            layer.attention.attend = attend  # type: ignore[union-attr]


def kernel_rows(hidden: Tensor) -> int:
    """The number of rows to compute with: T for ``hidden`` [T, H]; on the CPU, T rounded up.

    oneDNN compiles a kernel for every new number of rows and keeps it. T differs from batch to batch, so without
    rounding, fine-tuning would fill the memory with kernels. The steps grow with T, so that few rows are added.
    """
    if not hidden.is_cpu:
        return len(hidden)
    step = 16 if len(hidden) <= 256 else 32 if len(hidden) <= 512 else 64 if len(hidden) <= 1024 else 128
    return -(-len(hidden) // step) * step


def fill(rows: Tensor, count: int) -> Tensor:
    """Append rows of zeros up to ``count`` rows. No token attends to them, and they are cut off in the end."""
    return rows if len(rows) == count else F.pad(rows, (0, 0, 0, count - len(rows)))


def check(batch: Packed, config: BertConfig) -> None:
    """Raise ValueError for a sequence longer than the position table and, on the CPU, for ids outside their table.

    Checking ids on a GPU would wait for it; there, the embedding fails with an assertion of CUDA's.
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
    """Truncated normal weights, zero biases (google-research/bert, modeling.py: create_initializer).

    LayerNorm keeps PyTorch's initial values, 1 and 0, which are Google's too. Weights on the meta device are skipped.
    """
    if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.is_meta:
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
