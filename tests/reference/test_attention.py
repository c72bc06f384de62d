"""Compiled attention: the same as in the paper, and PyTorch's own where it cannot be compiled."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.attention import compiled_attention, library
from reference.model import Packed, attention_as_in_the_paper

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}  # bfloat16 has 8 bits: of values up to 4, half a step is 8e-3
COMPILED = library() is not None
needs_it = pytest.mark.skipif(not COMPILED, reason="cannot be compiled here: no compiler, or no AMX")
LENGTHS = [[1], [32], [7, 1, 128, 33, 64, 300, 32, 31], [5] * 50]


@pytest.fixture
def afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache without a compiled library; its folder."""
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path))
    library.cache_clear()
    yield tmp_path / "compiled"
    library.cache_clear()


def packed(lengths: list[int]) -> Packed:
    return Packed.from_lengths(torch.zeros(sum(lengths), dtype=torch.long), lengths)


def queries_keys_values(tokens: int, heads: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(tokens, 3, heads, size, generator=torch.Generator().manual_seed(tokens)).to(dtype)


def check(lengths: list[int], heads: int, size: int, dtype: torch.dtype) -> None:
    qkv, batch = queries_keys_values(sum(lengths), heads, size, dtype), packed(lengths)
    exact = attention_as_in_the_paper(qkv.double(), batch, 0.0)

    context = compiled_attention(qkv, batch, 0.0)

    assert context.dtype == dtype
    torch.testing.assert_close(context.double(), exact, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_the_same_as_in_the_paper(lengths: list[int], dtype: torch.dtype) -> None:
    check(lengths, 12, 32, dtype)


@given(st.lists(st.integers(1, 70), min_size=1, max_size=9), st.integers(1, 5), st.sampled_from([16, 32, 64, 96]))
@settings(max_examples=25, deadline=None)
def test_whatever_the_lengths_the_heads_and_their_size(lengths: list[int], heads: int, size: int) -> None:
    for dtype in TOLERANCE:
        check(lengths, heads, size, dtype)


@pytest.mark.parametrize(("size", "dtype"), [(5, torch.bfloat16), (32, torch.float64), (32, torch.float16)])
def test_what_it_is_not_made_for_is_done_by_pytorch(size: int, dtype: torch.dtype) -> None:
    qkv, batch = queries_keys_values(9, 2, size, dtype), packed([4, 5])
    exact = attention_as_in_the_paper(qkv.double(), batch, 0.0)
    torch.testing.assert_close(compiled_attention(qkv, batch, 0.0).double(), exact, rtol=0, atol=2e-2)
    assert (compiled_attention(qkv, batch, 1.0) == 0).all(), "dropout"


def test_large_scores_do_not_overflow_and_those_far_below_vanish() -> None:
    qkv, batch = 40 * queries_keys_values(40, 2, 32, torch.bfloat16), packed([40])
    exact = attention_as_in_the_paper(qkv.double(), batch, 0.0)
    torch.testing.assert_close(compiled_attention(qkv, batch, 0.0).double(), exact, rtol=2e-2, atol=1.0)
    assert compiled_attention(qkv, batch, 0.0).isfinite().all()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_what_is_not_a_number_is_seen_in_its_own_sequence_alone(dtype: torch.dtype) -> None:
    qkv = queries_keys_values(12, 2, 32, dtype)
    qkv[3] = torch.nan
    context = compiled_attention(qkv, packed([5, 7]), 0.0)
    assert context[:5].isnan().all()
    assert context[5:].isfinite().all()


def test_lengths_of_other_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 9, but there are 10"):
        compiled_attention(torch.zeros(10, 3, 2, 4), packed([4, 5]), 0.0)


@needs_it
def test_it_is_compiled_once(afresh: Path) -> None:
    assert library() is not None
    made = [(file.name, file.stat().st_mtime_ns) for file in afresh.iterdir()]
    assert len(made) == 1
    library.cache_clear()
    assert library() is not None
    assert [(file.name, file.stat().st_mtime_ns) for file in afresh.iterdir()] == made


def test_without_a_compiler_attention_is_pytorchs(
    afresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    check([3, 40, 5], 2, 32, torch.bfloat16)
    assert library() is None
    assert not afresh.exists()
    assert not caplog.records, "that there is no compiler is nothing to warn of"


@needs_it
def test_a_compiler_that_fails_is_said_and_attention_is_pytorchs(
    afresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "false")
    with caplog.at_level(logging.WARNING):
        check([3, 40, 5], 2, 32, torch.bfloat16)
    assert "could not be compiled" in caplog.text
    assert not list(afresh.iterdir())
