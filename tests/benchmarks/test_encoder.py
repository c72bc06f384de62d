"""Speed of sentence vectors, tokenizing included, beside sentence-transformers and beside the model alone.

Seconds are the processor's, so that other work on the machine does not decide; the least of several turns counts.
"""

import random
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from sentence_transformers import SentenceTransformer

from reference import SentenceEncoder

FASTER = 1.2  # than sentence-transformers, at least; about 1.45 is usual with one thread
SHARE = 0.15  # of the time that all but the model may take, at most; about 0.03 is usual
TURNS = 4
SENTENCE = "the film is a moving story of two people who never quite meet although unforgettable performances abound"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder("minilm-l6", precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """As many words in each as in reviews of films, 3 to 40."""
    draw, words = random.Random(0), SENTENCE.split()
    return [f"{' '.join(draw.choices(words, k=round(draw.triangular(3, 40, 14))))} {i}" for i in range(128)]


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def test_it_is_faster_than_sentence_transformers(encoder: SentenceEncoder, texts: list[str]) -> None:
    theirs = SentenceTransformer(str(encoder.folder), device="cpu", local_files_only=True)
    theirs.encode(texts[:32])
    encoder.encode(texts[:32])
    turns = [(seconds(lambda: theirs.encode(texts)), seconds(lambda: encoder.encode(texts))) for _ in range(TURNS)]
    slowest, fastest = (min(each) for each in zip(*turns, strict=True))
    assert slowest / fastest > FASTER


def test_most_of_the_time_is_the_models(encoder: SentenceEncoder, texts: list[str]) -> None:
    bert, inside = encoder.bert, 0.0

    def timed(batch: object) -> object:
        nonlocal inside
        start = time.process_time()
        hidden = bert(batch)
        inside += time.process_time() - start
        return hidden

    shares = []
    for _ in range(TURNS):
        inside = 0.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(encoder, "bert", Timed(bert, timed))
            whole = seconds(lambda: encoder.encode(texts))
        shares.append(1 - inside / whole)
    assert min(shares) < SHARE


class Timed:
    """A model whose calls go through a function."""

    def __init__(self, bert: torch.nn.Module, call: Callable[[object], object]) -> None:
        self.bert, self.call = bert, call

    def __call__(self, batch: object) -> object:
        return self.call(batch)

    def __getattr__(self, name: str) -> object:
        return getattr(self.bert, name)
