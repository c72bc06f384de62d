"""Entries that are near in meaning: cosines of the vectors of their English summaries, which the harness computes.

`python -m catalog summaries` writes the texts, `python -m harness embed` their vectors, as Parquet with the columns
text and vector. A vector belongs to an entry if its text is the entry's summary: a stale file shows nothing wrong.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from catalog.errors import BadInput
from catalog.schema import Entry

MOST = 24  # neighbours that are kept of each entry
LEAST = 0.35  # cosine below which two summaries have little in common


@dataclass(frozen=True)
class Near:
    """The neighbours of each entry, the nearest first, with their cosines, and the weights that made the vectors."""

    weights: str = ""
    neighbours: dict[str, list[tuple[str, float]]] = field(default_factory=dict)


def summaries(entries: list[Entry]) -> str:
    """The English summaries as JSON lines, each text once."""
    texts = dict.fromkeys(entry.summary_en for entry in entries if entry.summary_en)
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)


def read(path: Path, entries: list[Entry]) -> Near:
    """The neighbours by the vectors of a file. BadInput if it is no such file."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path, columns=["text", "vector"])
        rows = dict(zip(table.column("text").to_pylist(), table.column("vector").to_pylist(), strict=True))
        known = [entry for entry in entries if entry.summary_en in rows]
        vectors = np.array([rows[entry.summary_en] for entry in known], dtype=np.float32).reshape(len(known), -1)
    except (OSError, KeyError, ValueError, TypeError, pyarrow.ArrowException) as error:
        raise BadInput(f"{path} is not a file of vectors of `python -m harness embed`: {error}") from error
    if not np.isfinite(vectors).all():
        raise BadInput(f"{path} has vectors with numbers that are not finite")
    weights = (table.schema.metadata or {}).get(b"model", b"").decode()
    return Near(weights, _neighbours([entry.id for entry in known], vectors))


def _neighbours(ids: list[str], vectors: np.ndarray) -> dict[str, list[tuple[str, float]]]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths == 0, 1, lengths)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -1)
    found = {}
    for row, name in enumerate(ids):
        best = np.argsort(-cosines[row], kind="stable")[:MOST]
        found[name] = [(ids[each], float(cosines[row, each])) for each in best if cosines[row, each] >= LEAST]
    return found
