"""The search of our store beside NumPy, faiss and usearch, all exact, on real sentences: recall and searches a second.

    python tests/benchmarks/search.py --data FOLDER --vectors build/search-vectors

Sentences are those of SST-2, GoEmotions, MSRA-NER and English Wikipedia in FOLDER, in turn, none twice; queries are
others, from their dev and test files. The vectors are kept, so that an interrupted run goes on where it was. faiss and
usearch are timed where they are installed (pip install faiss-cpu usearch). All take turns, with the same number of
threads; what is printed are medians, and ratios to them. Recall is against products in float64.
"""

import argparse
import hashlib
import importlib.util
import lzma
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from reference import SentenceEncoder
from reference.serving.store.disk import DiskCollection, DiskStore
from reference.serving.store.items import Item, Space

K = 10
PART = 2_500  # texts whose vectors are kept together
FROM_WIKIPEDIA = 15_000  # paragraphs that are read; each gives its first sentence
Search = Callable[[NDArray[np.float32]], Any]
Rows = NDArray[np.float32]


def sentences(data: Path) -> tuple[Iterator[str], Iterator[str]]:
    """Texts and queries, of all sources in turn."""
    sst2, emotions, chinese = data / "GLUE/SST-2", data / "GoEmotions", data / "MSRA-NER"
    texts = [column(sst2 / "train.tsv"), column(emotions / "train.tsv"), characters(chinese / "train.txt")]
    texts.append(wikipedia(data / "enwiki-sample/enwiki_sample.txt.xz"))
    queries = [column(sst2 / "dev.tsv"), column(emotions / "dev.tsv"), characters(chinese / "test.txt")]
    return in_turn(texts), in_turn(queries)


def in_turn(sources: list[Iterator[str]]) -> Iterator[str]:
    """Different texts; first of each source the first."""
    every = (text for text in chain.from_iterable(zip_longest(*sources)) if text)
    return iter(dict.fromkeys(every))


def column(file: Path, number: int = 0) -> Iterator[str]:
    """A column of a table with a header."""
    lines = file.read_text(encoding="utf-8").split("\n")
    return (line.split("\t")[number].strip() for line in lines[1:] if line)


def characters(file: Path) -> Iterator[str]:
    """Sentences that are written one character a line."""
    for block in file.read_text(encoding="utf-8").split("\n\n"):
        yield "".join(line.split(" ")[0] for line in block.split("\n"))


def wikipedia(file: Path) -> Iterator[str]:
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        for line in islice((line for line in lines if len(line) > 60), FROM_WIKIPEDIA):
            yield line.partition(". ")[0].strip()


def recall(collection: DiskCollection, rows: Rows, queries: Rows) -> float:
    """Of the K best by float64 the share that is found; one that ties with the K-th counts as one of them."""
    exact, found = rows.astype(np.float64), 0
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    for query in queries:
        scores = exact @ (query.astype(np.float64) / np.linalg.norm(query.astype(np.float64)))
        least = np.partition(scores, -K)[-K]
        ids = [int(hit.item.id) for hit in collection.search(query, K)]
        found += sum(bool(scores[i] >= least - 1e-14) for i in ids)
    return found / (K * len(queries))


def searches(collection: DiskCollection, rows: Rows, threads: int) -> dict[str, Search]:
    """By name: a function that finds the K best of one query."""

    def with_numpy(query: Rows) -> Any:
        scores = rows @ query
        best = np.argpartition(scores, -K)[-K:]
        return best[np.argsort(-scores[best])]

    found: dict[str, Search] = {
        "ours, ids, texts and metadata": lambda query: collection.search(query, K),
        "ours, rows alone": lambda query: collection._vectors.nearest(query, K),
        "NumPy": with_numpy,
    }
    if importlib.util.find_spec("faiss"):
        import faiss

        faiss.omp_set_num_threads(threads)
        index = faiss.IndexFlatIP(rows.shape[1])
        index.add(rows)
        found[f"faiss {faiss.__version__} Flat"] = lambda query: index.search(query[None], K)
    if importlib.util.find_spec("usearch"):
        import usearch
        from usearch.index import MetricKind, search

        name = f"usearch {usearch.__version__} exact"
        found[name] = lambda query: search(rows, query[None], K, MetricKind.IP, exact=True, threads=threads)
    return found


def seconds(every: dict[str, Search], queries: Rows) -> dict[str, float]:
    """The median time of one query, by name. All answer each query before the next one comes."""
    times: dict[str, list[float]] = {name: [] for name in every}
    for number, query in enumerate(queries):
        for name, search in every.items():
            start = time.perf_counter()
            search(query)
            if number >= 3:  # the first ones load what is measured
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def fill(folder: Path, rows: Rows, texts: list[str]) -> DiskStore:
    """A store with a collection ``all``, whose ids are the numbers of the rows."""
    store = DiskStore(folder, Space(rows.shape[1], {}))
    collection = store.create("all")
    for start in range(0, len(rows), 2048):
        part = rows[start : start + 2048]
        collection.put([Item(str(start + i), texts[start + i]) for i in range(len(part))], part)
    return store


def vectors(texts: list[str], folder: Path, layer: int) -> Rows:
    """The vectors of texts; a part that the folder has is not computed again."""
    encoder, parts = SentenceEncoder("minilm-l6", layers=[layer], precision="fp32", device="cpu"), []
    folder = folder / f"layer{layer}"
    folder.mkdir(parents=True, exist_ok=True)
    for start in tqdm(range(0, len(texts), PART), unit=f" x {PART} texts"):
        part = texts[start : start + PART]
        name = hashlib.sha256("\n".join(part).encode()).hexdigest()[:16]
        file = folder / f"{name}.npy"
        if not file.exists():
            np.save(folder / f"{name}.part.npy", encoder.encode(part))
            (folder / f"{name}.part.npy").replace(file)
        parts.append(np.load(file, allow_pickle=False))
    return np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of task data")
    parser.add_argument("--texts", type=int, default=100_000, help="texts that are searched (%(default)s)")
    parser.add_argument("--queries", type=int, default=200, help="queries (%(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads (%(default)s)")
    parser.add_argument("--vectors", type=Path, required=True, help="folder that keeps the vectors")
    parser.add_argument("--layer", type=int, default=-1, help="pooled; 0, the embeddings, is fast (%(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    every, others = sentences(given.data)
    texts = list(islice(every, given.texts))
    known = set(texts)
    asked = list(islice((text for text in others if text not in known), given.queries))
    rows, queries = (vectors(each, given.vectors, given.layer) for each in (texts, asked))
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(given.threads):
        start = time.perf_counter()
        store = fill(Path(folder), rows, texts)
        print(f"{len(rows)} texts of {rows.shape[1]} numbers kept in {time.perf_counter() - start:.1f} s")
        store.close()
        start = time.perf_counter()
        store = DiskStore(Path(folder), store.space)
        print(f"opened in {time.perf_counter() - start:.1f} s")
        collection = store.open("all")
        print(f"recall@{K} against float64: {recall(collection, rows, queries):.4f} of {len(queries)} queries")
        found = seconds(searches(collection, rows, given.threads), queries)
        base = found["ours, ids, texts and metadata"]
        for name, each in found.items():
            print(f"{1 / each:8.1f} searches a second, {each / base:5.2f} of our time: {name}")
        store.close()


if __name__ == "__main__":
    main()
