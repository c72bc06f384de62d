"""The search of our store on a few thousand vectors: it finds what float64 finds, and is as fast as a plain product."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from reference import SentenceEncoder
from tests.benchmarks.search import column, fill, recall, searches, seconds

ROOT = Path(__file__).parents[2]
SLOWER = 4  # times as long as NumPy, at most; about 1 is usual


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


def test_recall_is_that_of_float64_on_real_sentences(tmp_path: Path) -> None:
    texts = list(column(ROOT / "harness/tasks/mini/sentiment/train.tsv", 1))[:300]
    rows = SentenceEncoder("minilm-l6", precision="fp32", device="cpu").encode(texts)
    store = fill(tmp_path / "store", rows[20:], texts[20:])
    assert recall(store.open("all"), rows[20:], rows[:20]) == 1
    store.close()


def test_a_search_takes_about_as_long_as_a_product(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((20_000, 384)).astype(np.float32)
    store = fill(tmp_path / "store", rows, [str(i) for i in range(len(rows))])
    found = seconds(searches(store.open("all"), rows, 1), rows[:23])
    assert found["ours, ids, texts and metadata"] < SLOWER * found["NumPy"]
    store.close()
