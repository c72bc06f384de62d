"""Tasks without training: the cosines of the vectors of weights as they are, and what is refused."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.kinds import KINDS
from harness.data.task import load_task
from harness.errors import BadInput
from harness.measure import quality
from harness.measure.bench import Bench
from harness.measure.plan import Plan, splits_read
from harness.measure.run import Run
from harness.port.batch import from_lists
from harness.records.record import Quality
from harness.registry.implementations import find
from harness.weights.checkpoints import Checkpoints
from harness.weights.sentences import sentence_folder


def done(plan: Plan, folder: Path) -> Quality:
    """The record of the plan's one run."""
    bench = Bench(
        plan, {"reference": Path(sys.executable)}, Checkpoints(plan.weights.folder, plan.tokenizer, folder), _
    )
    (result,) = quality.run_zero_shot(bench, find("reference"))
    assert result.state == "ok", result.reason
    return result


def _(*_: Any) -> None:
    """Shows nothing."""


@pytest.mark.slow
def test_scores_are_those_of_sentence_transformers(
    prepared: Callable[..., Plan], data_folder: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator

    plan = prepared(tasks=["stsb-cosine"], weights="minilm-l6", data=data_folder, limit=300, precision="fp32")
    result = done(plan, tmp_path)
    lines = (data_folder / "GLUE/STS-B/dev.tsv").read_text(encoding="utf-8").splitlines()[1:301]
    cells = [line.split("\t") for line in lines]
    firsts, seconds, scores = [c[7] for c in cells], [c[8] for c in cells], [float(c[9]) for c in cells]
    evaluator = EmbeddingSimilarityEvaluator(firsts, seconds, scores, write_csv=False)
    theirs = evaluator(SentenceTransformer(str(plan.weights.folder), device="cpu"))
    ours = {metric["name"]: metric["value"] for metric in result.metrics}
    assert ours["pearson"] == pytest.approx(theirs["pearson_cosine"], abs=1e-5)
    assert ours["spearman"] == pytest.approx(theirs["spearman_cosine"], abs=1e-4)  # two cosines may change places
    assert result.recipe == {"max_length": 128, "pooling": "mean", "select": "last"}
    assert "pooling=mean" in result.metrics[0]["signature"]


def test_one_seed_and_no_training_split_are_read(prepared: Callable[..., Plan]) -> None:
    plan = prepared(tasks=["mini-similarity-cosine"], seeds=(1, 2, 3))
    (task,) = plan.tasks
    assert plan.seeds_of(find("reference"), task) == (1,)
    assert list(splits_read(task)) == ["dev"]
    assert plan.examples == {"mini-similarity-cosine": {"dev": 200}}


def test_key_depends_on_how_the_folder_makes_vectors(
    prepared: Callable[..., Plan], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    keys = []
    for mode in ("mean", "cls"):
        folder = tmp_path / mode / "weights"
        shutil.copytree(tiny_checkpoint, folder)
        with_pooling(folder, mode)
        plan = prepared(tasks=["mini-similarity-cosine"], weights=str(folder))
        assert plan.recipe(plan.tasks[0])["pooling"] == mode
        keys.append(Run(plan, find("reference"), plan.tasks[0], 1, "zero-shot").key)
    assert keys[0] != keys[1]


def with_pooling(folder: Path, mode: str, **settings: Any) -> None:
    """Make a folder of sentence-transformers of a BERT's."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"similarity_fn_name": "dot"}, "compares vectors by dot"),
        ({"truncate_dim": 8}, "first numbers of a vector only"),
        ({"prompts": {"query": "find: "}, "default_prompt_name": "query"}, "puts the prompt 'find: ' before each text"),
    ],
)
def test_vectors_that_are_not_computed_are_refused_before_any_work(
    prepared: Callable[..., Plan], tiny_checkpoint: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(tiny_checkpoint, folder)
    with_pooling(folder, "mean", **settings)
    with pytest.raises(BadInput, match=message):
        prepared(tasks=["mini-similarity-cosine"], weights=str(folder))
    sentence_folder.cache_clear()


def test_cosine_of_vectors_is_exact_and_zero_for_a_vector_of_zeros() -> None:
    vectors = np.array([[1, 0], [1, 1], [0, 0], [3, 4]], dtype=np.float32)
    kind, task = KINDS["similarity"], load_task("mini-similarity-cosine")
    cosines = kind.decode(task, vectors, None, [])  # type: ignore[arg-type]
    assert cosines == pytest.approx([0.5**0.5, 0.0], abs=1e-15)
    batch = from_lists([[1, 2]] * 4, [[0, 0]] * 4)
    with pytest.raises(ValueError, match="logits of shape"):
        kind.check_shape(task, batch, vectors[:3])


def test_task_needs_pairs_and_takes_no_training_split(tmp_path: Path) -> None:
    text = "name: own\ntitle: own\nkind: similarity\nformat: tsv\nmetrics: [spearman]\nevaluate: [dev]\n"
    file = tmp_path / "own.yaml"
    file.write_text(text + "columns: {text: a, label: score}\nfiles: {dev: dev.tsv}\n")
    with pytest.raises(BadInput, match="columns: pair: missing; a task of kind similarity compares two texts"):
        load_task(str(file))
    file.write_text(text + "columns: {text: a, pair: b, label: score}\nfiles: {train: train.tsv, dev: dev.tsv}\n")
    with pytest.raises(BadInput, match="is not trained"):
        load_task(str(file))
