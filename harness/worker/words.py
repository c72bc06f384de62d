"""Pseudo-log-likelihood: how probable a masked language model finds each token of a text, given all others.

Each token is masked in turn, and the logarithm of its probability is taken (Salazar et al., arXiv 1910.14659). The
first and the last token of a sequence, [CLS] and [SEP], are never masked and have no part in it.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from harness.port.batch import Array, Batch, IntArray, by_tokens
from harness.port.model import PredictsWords


@torch.inference_mode()
def log_probabilities(
    model: PredictsWords, batch: Batch, mask_id: int, batch_tokens: int, progress: Callable[..., None]
) -> Array:
    """[tokens], float64: the logarithm of each token's probability where it alone is masked; 0 for the special ones.

    Copies of sequences of similar length are computed together, up to ``batch_tokens`` tokens at a time.
    """
    found, done = np.zeros(len(batch.ids)), 0
    for sequences, tokens, copies, chosen in masked_copies(batch, mask_id, batch_tokens):
        logits = model.words(copies, chosen)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        wanted = torch.from_numpy(batch.ids[tokens]).to(logits.device)
        found[tokens] = -torch.nn.functional.cross_entropy(logits, wanted, reduction="none").double().cpu().numpy()
        done += sequences
        progress(done=done, total=len(batch.lengths))
    return found


def masked_copies(batch: Batch, mask_id: int, batch_tokens: int) -> Iterator[tuple[int, IntArray, Batch, IntArray]]:
    """How many sequences are finished, which tokens are masked, the copies with them, and where these are in there.

    Copies of one long sequence may be divided over several batches.
    """
    inner = np.maximum(batch.lengths - 2, 0)
    for sequences in by_tokens(batch.lengths * inner, batch_tokens):
        owners = np.repeat(sequences, inner[sequences])
        places = np.concatenate([np.arange(0), *(np.arange(1, 1 + inner[each]) for each in sequences)])
        if not len(owners):  # texts without a token
            continue
        most = max(1, batch_tokens // int(batch.lengths[owners].max()))
        for start in range(0, len(owners), most):
            part = slice(start, start + most)
            copies = batch.select(owners[part])
            chosen = copies.cu_seqlens[:-1] + places[part]
            copies.ids[chosen] = mask_id
            finished = len(sequences) if start + most >= len(owners) else 0
            yield finished, batch.cu_seqlens[owners[part]] + places[part], copies, chosen
