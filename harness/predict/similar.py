"""Texts of a file that are nearly the same: pairs by the cosine of their vectors, and what such pairs connect.

All pairs are compared, block by block, so that memory grows with the texts and not with their pairs. Products are in
float32; what its rounding could decide is computed again in float64.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from harness.errors import BadInput
from harness.files import write_whole
from harness.port import Array
from harness.predict.embed import cut_notes, encode, load_encoder, read_texts

ROWS, COLUMNS = 1024, 8192  # of a block of products
AT_ONCE = 16_384  # pairs that are computed in float64 together
ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows at or above a threshold: the most similar ones, best first, and how many there are."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    scores: NDArray[np.float64]
    count: int


def similar_file(
    file: Path,
    output: Path | None,
    weights: str,
    *,
    threshold: float,
    top: int,
    clusters: bool,
    form: str | None = None,
    columns: dict[str, str] | None = None,
    pooling: list[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    show_progress: bool = False,
) -> tuple[str, list[str]]:
    """Find near-duplicates among a file's texts: what was found, if there is no ``output``; and notes for the user.

    The other arguments are those of ``harness.predict.embed.embed_file``.
    """
    given = read_texts(file, form, columns)
    texts = [example.text for example in given.examples]
    encoder, _ = load_encoder(weights, pooling or None, None, device, precision, threads)
    rows = unit(encode(encoder, texts, show_progress))
    as_json = output is not None and output.suffix == ".jsonl"
    if clusters:
        groups, count = clusters_of(rows, threshold, show_progress)
        inside = sum(map(len, groups))
        lines = _cluster_lines(groups, texts, as_json)
        found = (
            f"{count} pairs at {threshold:g} or above connect {inside} of {len(texts)} texts to {len(groups)} clusters"
        )
    else:
        pairs = pairs_of(rows, threshold, top, show_progress)
        lines = _pair_lines(pairs, texts, as_json)
        found = f"{pairs.count} pairs of {len(texts)} texts are at {threshold:g} or above"
        if pairs.count > len(pairs.scores):
            found += f"; these are the {len(pairs.scores)} most similar (--top)"
    notes = [*given.notes, *cut_notes(encoder, len(texts)), found]
    content = "".join(f"{line}\n" for line in lines)
    if output is None:
        return content, notes
    write_whole(output, content.encode())
    return "", notes


def check_form(output: Path) -> None:
    """BadInput for the name of a file that is not written here."""
    if output.suffix not in (".tsv", ".jsonl"):
        raise BadInput(f"--output: {output} ends in none of .tsv, .jsonl")


def unit(vectors: Array) -> NDArray[np.float32]:
    """The vectors scaled to length 1; one of zeros stays as it is, and is similar to none."""
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return (exact / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def pairs_of(rows: NDArray[np.float32], threshold: float, top: int, show_progress: bool = False) -> Pairs:
    """The ``top`` most similar pairs of rows of length 1 [n, size]; of equally similar ones the first."""
    error, count = _error(rows), 0
    best = np.empty((0, 3))  # score, first, second
    floor = -np.inf  # what a pair must reach to be among the best
    for first, second, products in _blocks(rows, threshold, show_progress):
        count += len(products)
        if len(products) > top:
            floor = max(floor, float(np.partition(products, -top)[-top]) - error)
        kept = np.flatnonzero(products >= floor - error)
        exact = _products(rows, first[kept], second[kept])
        best = np.concatenate([best, np.stack([exact, first[kept], second[kept]], axis=1)])
        best = best[np.lexsort((best[:, 2], best[:, 1], -best[:, 0]))[:top]]
        if len(best) == top:
            floor = max(floor, float(best[-1, 0]))
    return Pairs(best[:, 1].astype(np.int64), best[:, 2].astype(np.int64), best[:, 0], count)


def clusters_of(
    rows: NDArray[np.float32], threshold: float, show_progress: bool = False
) -> tuple[list[list[int]], int]:
    """What pairs at or above the threshold connect, the largest first, each in order; and how many pairs there are."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    names, count = np.arange(len(rows)), 0  # by row: the number of its cluster
    for first, second, _ in _blocks(rows, threshold, show_progress):
        count += len(first)
        ends = names[first], names[second]
        graph = coo_matrix((np.ones(len(first), np.bool_), ends), shape=(len(rows), len(rows)))
        names = connected_components(graph, directed=False)[1][names]
    order = np.argsort(names, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(names[order])) + 1)
    large = [group.tolist() for group in groups if len(group) > 1]
    return sorted(large, key=lambda group: (-len(group), group[0])), count


def _blocks(
    rows: NDArray[np.float32], threshold: float, show_progress: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """The pairs at or above the threshold, from all blocks that have some: first, second and product in float32."""
    tensor, error = torch.from_numpy(rows), _error(rows)
    with tqdm(total=len(rows), unit=" texts", disable=not show_progress) as progress:
        for top in range(0, len(rows), ROWS):
            for left in range(top, len(rows), COLUMNS):
                products = (tensor[top : top + ROWS] @ tensor[left : left + COLUMNS].T).numpy()
                first, second = np.nonzero(products >= threshold - error)
                found = products[first, second]
                first, second = first + top, second + left
                later = second > first
                first, second, found = first[later], second[later], found[later]
                near = np.flatnonzero(found < threshold + error)
                right = np.ones(len(found), np.bool_)
                right[near] = _products(rows, first[near], second[near]) >= threshold
                if right.any():
                    yield first[right], second[right], found[right]
            progress.update(min(ROWS, len(rows) - top))


def _products(rows: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of pairs of rows, in float64."""
    found = np.empty(len(first))
    for start in range(0, len(first), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        a, b = rows[first[part]].astype(np.float64), rows[second[part]].astype(np.float64)
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found[part] = np.einsum("ns,ns->n", a, b) / np.where(lengths > 0, lengths, 1)
    return np.where(np.abs(found - 1) < 1e-12, 1.0, found)  # equal texts: the last digits are rounding alone


def _error(rows: NDArray[np.float32]) -> float:
    """By how much a product in float32 may be wrong, in whatever order it is summed, and the lengths with it."""
    return 1.01 * (rows.shape[1] + 16) * 2.0**-24


def _pair_lines(pairs: Pairs, texts: list[str], as_json: bool) -> Iterator[str]:
    if not as_json:
        yield "similarity\tfirst\tsecond\tfirst_text\tsecond_text"
    for score, i, j in zip(pairs.scores.tolist(), pairs.first.tolist(), pairs.second.tolist(), strict=True):
        if as_json:
            both = {"first": {"number": i + 1, "text": texts[i]}, "second": {"number": j + 1, "text": texts[j]}}
            yield _json({"similarity": round(score, 6), **both})
        else:
            yield f"{score:.6f}\t{i + 1}\t{j + 1}\t{texts[i].translate(ESCAPED)}\t{texts[j].translate(ESCAPED)}"


def _cluster_lines(groups: list[list[int]], texts: list[str], as_json: bool) -> Iterator[str]:
    if not as_json:
        yield "cluster\tnumber\ttext"
    for number, group in enumerate(groups, 1):
        if as_json:
            yield _json({"cluster": number, "texts": [{"number": i + 1, "text": texts[i]} for i in group]})
        else:
            for i in group:
                yield f"{number}\t{i + 1}\t{texts[i].translate(ESCAPED)}"


_json: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False).encode
