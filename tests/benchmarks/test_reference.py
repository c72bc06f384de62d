"""Speed of the reference's parts, by pytest-benchmark: run on its own to compare two versions of the code."""

from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import reference
from reference.model import Packed
from reference.tokenizer import Tokenizer

SENTENCE = "the committee will publish its unanimous report on internationalisation before Thursday, 12 March ."


def test_tokenizing_1000_sentences(benchmark: BenchmarkFixture, minilm_folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(minilm_folder)
    words = SENTENCE.split()
    sentences = [" ".join(words[i % 7 :] + words[: i % 5]) for i in range(1000)]

    encodings = benchmark(tokenizer.encode_batch, sentences)

    assert len(encodings) == 1000


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_forward_pass_of_minilm_8_x_64(benchmark: BenchmarkFixture, minilm_folder: Path, precision: str) -> None:
    model = reference.load(minilm_folder, device="cpu", precision=precision)
    ids = torch.randint(1000, 30000, (8 * 64,), generator=torch.Generator().manual_seed(0))
    batch = Packed.from_lengths(ids, [64] * 8)

    with torch.inference_mode():
        hidden = benchmark(model, batch)

    assert hidden.shape == (512, 384)
    assert hidden.isfinite().all()
