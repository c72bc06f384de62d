"""Minimal pairs: pseudo-log-likelihoods against their definition, exactness across implementations, what is refused."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.data.encode import Encoded
from harness.data.kinds import KINDS
from harness.data.read import read
from harness.data.task import load_task
from harness.errors import BadInput, Failure
from harness.implementations import reference as ours
from harness.implementations import transformers as theirs
from harness.measure import quality
from harness.measure.bench import Bench
from harness.measure.plan import Plan
from harness.port.batch import Batch, from_lists
from harness.records.record import Quality, read_predictions
from harness.registry.implementations import find
from harness.results.rescore import rescore
from harness.statistics.metrics import METRICS, Answers
from harness.statistics.metrics import score as scores_of
from harness.weights.checkpoints import Checkpoints
from harness.worker.words import log_probabilities, masked_copies
from reference.tokenizer import Tokenizer

MASK = 103


def nothing(*_: Any, **__: Any) -> None:
    """Shows nothing."""


def batch_of(lengths: list[int], size: int = 30522) -> Batch:
    rng = np.random.default_rng(5)
    return from_lists(
        [[101, *rng.integers(1000, size, n).tolist(), 102] for n in lengths], [[0] * (n + 2) for n in lengths]
    )


# ---- the copies ----


@pytest.mark.parametrize("budget", [8, 60, 4096])
def test_every_inner_token_is_masked_once_and_alone(budget: int) -> None:
    batch = batch_of([3, 1, 12, 0, 7])
    seen, finished = [], 0
    for sequences, tokens, copies, chosen in masked_copies(batch, MASK, budget):
        finished += sequences
        assert len(copies.ids) <= max(budget, copies.lengths.max())
        owners = np.searchsorted(batch.cu_seqlens, tokens, "right") - 1
        for number, (owner, token) in enumerate(zip(owners, tokens, strict=True)):
            copy = copies.select(np.array([number])).ids
            original = batch.ids[batch.cu_seqlens[owner] : batch.cu_seqlens[owner + 1]]
            (place,) = np.flatnonzero(copy != original)
            assert (copy[place], place) == (MASK, token - batch.cu_seqlens[owner])
        assert (copies.ids[chosen] == MASK).all()
        seen += tokens.tolist()
    special = {*(batch.cu_seqlens[:-1]).tolist(), *(batch.cu_seqlens[1:] - 1).tolist()}
    assert sorted(seen) == sorted(set(range(len(batch.ids))) - special)
    assert finished in (4, 5)  # a text without a token may be in no batch


# ---- the numbers ----


def test_logarithms_are_those_of_the_definition_and_equal_in_both_implementations(words_checkpoint: Path) -> None:
    """Computed here one copy at a time, from transformers' own forward pass over all positions, in float64."""
    from transformers import BertForMaskedLM

    batch = batch_of([4, 9, 1])
    found = [
        log_probabilities(each.load(str(words_checkpoint), "masked-lm", "cpu", "fp64"), batch, MASK, 30, nothing)
        for each in (ours, theirs)
    ]
    plain = BertForMaskedLM.from_pretrained(words_checkpoint, dtype=torch.float64).eval()
    wanted = np.zeros(len(batch.ids))
    with torch.inference_mode():
        for start, end in zip(batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True):
            for place in range(start + 1, end - 1):
                ids = torch.from_numpy(batch.ids[start:end].copy())[None]
                ids[0, place - start] = MASK
                wanted[place] = plain(ids).logits[0, place - start].log_softmax(-1)[batch.ids[place]]
    for logarithms in found:
        np.testing.assert_allclose(logarithms, wanted, rtol=0, atol=1e-12)


def test_logits_of_both_implementations_are_equal(words_checkpoint: Path) -> None:
    batch, chosen = batch_of([4, 9, 1]), np.array([1, 7, 9])
    with torch.inference_mode():
        one, other = (
            each.load(str(words_checkpoint), "masked-lm", "cpu", "fp64").words(batch, chosen) for each in (ours, theirs)
        )
    assert one.shape == (3, 30522)
    np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=0, atol=1e-12)


def test_scores_are_equal_in_float32(words_checkpoint: Path) -> None:
    batch = batch_of([8] * 20)
    found = [
        log_probabilities(each.load(str(words_checkpoint), "masked-lm", "cpu", "fp32"), batch, MASK, 4096, nothing)
        for each in (ours, theirs)
    ]
    sums = [np.add.reduceat(each, batch.cu_seqlens[:-1]) for each in found]
    np.testing.assert_allclose(*sums, rtol=1e-6)


# ---- the kind ----


def decoded(pairs: list[tuple[list[int], list[int]]], logarithms: np.ndarray[Any, Any]) -> list[tuple[float, float]]:
    sequences = [[101, *text, 102] for pair in pairs for text in pair]
    batch = from_lists(sequences, [[0] * len(each) for each in sequences])
    encoded = Encoded(batch, None, np.array([], dtype=np.int64))
    task = load_task("mini-pairs")
    KINDS["minimal-pairs"].check_shape(task, batch, logarithms)
    return KINDS["minimal-pairs"].decode(task, logarithms, encoded, [None] * len(pairs))


def test_sentences_of_the_same_tokens_tie_whatever_rounding_says() -> None:
    logarithms = np.array([0, -1, -2, 0, 0, -1, -2 + 1e-9, 0, 0, -1, 0, 0, -3, 0])
    assert decoded([([7, 8], [7, 8]), ([7], [9])], logarithms) == [(-3.0, -3.0), (-1.0, -3.0)]
    with pytest.raises(ValueError, match="logits of shape"):
        decoded([([7], [9])], logarithms)


def test_accuracy_is_the_mean_over_groups_and_a_tie_is_wrong() -> None:
    gold = ["a"] * 4 + ["b"] * 2
    predicted = [(-1.0, -2.0), (-1.0, -1.0), (-2.0, -1.0), (-2.0, -1.0), (-1.0, -2.0), (-1.0, -3.0)]
    (found,) = scores_of("minimal-pairs", ["pair_accuracy"], gold, predicted, task="t", split="dev", labels=())
    assert found.value == pytest.approx((1 / 4 + 2 / 2) / 2)
    assert found.low <= found.value <= found.high
    assert "|groups:2|ties:wrong" in found.signature
    kind = KINDS["minimal-pairs"]
    assert kind.groups(gold, predicted) == {"a": {"n": 4, "right": 1, "ties": 1}, "b": {"n": 2, "right": 2, "ties": 0}}
    assert kind.degenerate(gold, predicted) == "1 of 6 pairs are ties, which count as wrong"
    assert METRICS["pair_accuracy"].baseline(Answers(gold, predicted)) == 0.5
    with pytest.raises(Failure, match="not two finite numbers"):
        scores_of("minimal-pairs", ["pair_accuracy"], ["a"], [(np.nan, 0.0)], task="t", split="dev", labels=())
    with pytest.raises(BadInput, match="not the scores of two sentences"):
        scores_of("minimal-pairs", ["pair_accuracy"], ["a"], ["good"], task="t", split="dev", labels=())


def test_files_of_one_paradigm_each_may_number_their_pairs_alike(tmp_path: Path) -> None:
    """In the form of BLiMP's own files; its fields for other ways to score, such as one_prefix, are not read."""
    names = ("islands", "agreement")
    for name in names:
        lines = [
            {"sentence_good": f"{name} {i}", "sentence_bad": f"bad {i}", "UID": name, "pairID": str(i)}
            | {"one_prefix_method": True, "one_prefix_prefix": "x"}
            for i in range(2)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    file = replace(
        load_task("blimp").files["test"], path=tmp_path / "islands.jsonl", more=(tmp_path / "agreement.jsonl",)
    )
    examples = read(replace(load_task("blimp"), files={"test": file}), "test", None).examples
    assert [each.id for each in examples] == ["islands-0", "islands-1", "agreement-0", "agreement-1"]
    assert KINDS["minimal-pairs"].gold(examples) == ["islands", "islands", "agreement", "agreement"]
    assert examples[0].texts == ("islands 0", "bad 0")


def test_blimp_has_all_its_paradigms() -> None:
    split = load_task("blimp").files["test"]
    assert len({split.path, *split.more}) == 67


# ---- whole runs ----


def done(plan: Plan, folder: Path, name: str = "reference") -> Quality:
    """The record of the plan's one run."""
    checkpoints = Checkpoints(plan.weights.folder, plan.tokenizer, folder)
    bench = Bench(plan, {name: Path(sys.executable)}, checkpoints, nothing)
    (result,) = quality.run_zero_shot(bench, find(name))
    return result


@pytest.mark.slow
def test_random_weights_are_right_half_of_the_time(
    prepared: Callable[..., Plan], words_checkpoint: Path, tmp_path: Path
) -> None:
    plan = prepared(tasks=["mini-pairs"], weights=str(words_checkpoint), seeds=(1, 2))
    result = done(plan, tmp_path)
    assert result.state == "ok", result.reason
    (metric,) = result.metrics
    assert metric["low"] < 0.5 < metric["high"]
    assert (metric["n"], metric["baseline"]) == (60, 0.5)
    assert {name: counts["n"] for name, counts in metric["groups"].items()} == dict.fromkeys(
        ("agreement", "articles", "reflexives", "tense", "order", "quantity"), 10
    )
    assert result.recipe == {"max_length": 128, "score": "pseudo-log-likelihood", "select": "last"}
    assert "score=pseudo-log-likelihood" in metric["signature"]
    (path,) = (tmp_path / "runs" / "quality").glob("*-1-*.json")
    predictions = read_predictions(path.with_name(str(result.predictions)))
    assert len(predictions["dev"]) == 60
    assert [changes for _, changes in rescore([path])] == [[]]


def test_weights_without_the_vocabulary_head_are_refused_before_any_work(
    prepared: Callable[..., Plan], minilm_folder: Path
) -> None:
    with pytest.raises(
        BadInput, match=r"mini-pairs needs a model that predicts masked words: .* has no vocabulary head"
    ):
        prepared(tasks=["mini-pairs"], weights=str(minilm_folder))


def test_a_tokenizer_without_mask_is_refused(
    prepared: Callable[..., Plan], words_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Tokenizer.from_folder(words_checkpoint)
    assert made.mask_id == MASK
    made.mask_id = None
    monkeypatch.setattr(Tokenizer, "from_folder", lambda folder: made)
    with pytest.raises(BadInput, match=r"has no \[MASK\]"):
        prepared(tasks=["mini-pairs"], weights=str(words_checkpoint))


def test_an_implementation_that_only_encodes_is_skipped_with_the_reason(
    prepared: Callable[..., Plan], words_checkpoint: Path, tmp_path: Path
) -> None:
    plan = prepared(tasks=["mini-pairs"], weights=str(words_checkpoint), implementations=["torch-encoder"])
    result = done(plan, tmp_path, "torch-encoder")
    assert (result.state, result.reason) == ("skipped", "it does not predict masked words here, only hidden states")
