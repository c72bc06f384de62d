"""How exactly an implementation computes BERT: its hidden states against the reference in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.batch import Batch, from_lists
from harness.protocol import Array

EXACT = 4.0  # times the rounding floor: below it, differences are those of another order of summation
CLOSE = 0.999  # lowest cosine of a token's hidden states

# The published batch: several lengths, pairs, Chinese, what tokenizers find hard.
TEXTS: list[tuple[str, str | None]] = [
    ("Why?", None),
    ("The lock-keeper waved us through before the rain came.", None),
    ("Café prices in Zürich rose by 12.5% last year, didn't they?", None),
    ("Is the ferry late?", "The board says it left at nine."),
    ("她在图书馆里等了一个小时。", None),
    ("这本书多少钱?", "那本书不卖。"),
    (
        "When the committee finally published its report, four hundred pages of tables and footnotes that nobody "
        "had asked for, the only sentence that anyone quoted was the apology at the end, and even that had been "
        "written by an intern who left the week before.",
        None,
    ),
]


@dataclass(frozen=True)
class Outputs:
    """What an implementation answered."""

    hidden: Array  # [tokens, hidden size]
    pooled: Array | None  # [sequences, hidden size]


def published_batch(tokenizer: Any, vocabulary: int, longest: int) -> Batch:
    """The texts above, and random ids of fixed seed in four lengths up to the position table's end."""
    encodings = [tokenizer.encode(text, pair, max_length=min(128, longest)) for text, pair in TEXTS]
    generator = np.random.default_rng(20181011)  # the day of the paper
    lengths = [min(length, longest) for length in (1, 17, 64, 200)]
    random = [generator.integers(0, vocabulary, length).tolist() for length in lengths]
    return from_lists(
        [e.ids for e in encodings] + random, [e.segments for e in encodings] + [[0] * len(ids) for ids in random]
    )


def differences(outputs: Outputs, exact: Outputs) -> dict[str, Any]:
    """Largest and mean absolute difference and lowest cosine of hidden states; the same of the pooled output."""
    result = _compare(outputs.hidden, exact.hidden)
    if outputs.pooled is not None and exact.pooled is not None:
        result["pooled"] = _compare(outputs.pooled, exact.pooled)
    return result


def _compare(values: Array, exact: Array) -> dict[str, Any]:
    if values.shape != exact.shape:
        raise ValueError(f"the implementation answered with shape {values.shape}, expected {exact.shape}")
    if not np.isfinite(values).all():
        raise ValueError("the implementation answered with numbers that are not finite")
    values, exact = values.astype(np.float64), exact.astype(np.float64)
    norms = np.linalg.norm(values, axis=-1) * np.linalg.norm(exact, axis=-1)
    cosines = (values * exact).sum(-1) / np.maximum(norms, np.finfo(np.float64).tiny)
    absolute = np.abs(values - exact)
    return {"max": float(absolute.max()), "mean": float(absolute.mean()), "cosine": float(cosines.min())}


def verdict(by_precision: dict[str, dict[str, Any]], floor: float) -> str:
    """exact: float32 within a few rounding floors, float64 (where it runs) to 1e-12; close; differs."""
    single = by_precision["fp32"]
    double = by_precision.get("fp64")
    if single["max"] <= EXACT * floor and (double is None or double["max"] <= 1e-12):
        return "exact"
    return "close" if single["cosine"] >= CLOSE else "differs"
