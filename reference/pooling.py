"""One vector for each sequence of a packed batch, by the pooling modes of sentence-transformers."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reference.model import Packed

# By mode: the tokens of B sequences of one length [B, S, H] and their places [S], counted from 1 -> [B, H].
POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": lambda tokens, places: tokens[:, 0],
    "max": lambda tokens, places: tokens.amax(1),
    "mean": lambda tokens, places: tokens.mean(1),
    "mean_sqrt_len_tokens": lambda tokens, places: tokens.sum(1) / math.sqrt(tokens.shape[1]),
    "weightedmean": lambda tokens, places: (tokens * places[:, None]).sum(1) / places.sum(),
    "lasttoken": lambda tokens, places: tokens[:, -1],
}


def pool(hidden: Tensor, batch: Packed, modes: Sequence[str], skip: int = 0) -> Tensor:
    """Pool the tokens of each sequence; several modes are concatenated. hidden [T, H] -> [B, H x modes]

    The first ``skip`` tokens of each sequence take no part (its last token always does). Sequences of one length are
    pooled together, so a batch that is sorted by length needs few calls.
    """
    pooled = []
    for run, (count, length) in zip(hidden.split([n * length for n, length in batch.runs]), batch.runs, strict=True):
        first = min(skip, length - 1)
        tokens = run.unflatten(0, (count, length))[:, first:]
        places = torch.arange(first + 1, length + 1, dtype=hidden.dtype, device=hidden.device)
        pooled.append(torch.cat([POOLINGS[mode](tokens, places) for mode in modes], dim=-1))
    return torch.cat(pooled)
