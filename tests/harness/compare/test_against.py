"""Published implementations against the reference, from records and predictions as they are published."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.compare.against import against_reference
from harness.data.kinds import KINDS
from harness.data.read import read_split
from harness.data.task import load_task

ROOT = Path(__file__).parents[3]
MACHINE = ROOT / "results/amd-epyc-with-avx-512-2-cores"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The reference's and OpenVINO's runs on the embedded sentiment task, of one commit and seed."""
    commits = []
    for name in ("reference", "openvino"):
        found = sorted((MACHINE / name).glob(f"{name}-mini-sentiment-42-*.json"))
        runs = {json.loads(path.read_text("utf-8"))["commit"]: path for path in found}
        commits.append(runs)
    commit = min(commits[0].keys() & commits[1].keys())
    for runs, name in zip(commits, ("reference", "openvino"), strict=True):
        (tmp_path / name).mkdir()
        for path in (runs[commit], runs[commit].with_suffix(".predictions.json.gz")):
            shutil.copy(path, tmp_path / name / path.name)
    return tmp_path


def run_of(results: Path, name: str) -> tuple[Path, dict[str, Any]]:
    (path,) = (results / name).glob("*[0-9a-f].json")
    return path, json.loads(path.read_text("utf-8"))


def change(results: Path, answers: int) -> None:
    """Turn round the first answers of OpenVINO."""
    path, run = run_of(results, "openvino")
    predictions = path.with_name(run["predictions"])
    found = json.loads(gzip.decompress(predictions.read_bytes()))
    other = {"positive": "negative", "negative": "positive"}
    for pair in found["dev"][:answers]:
        pair[1] = other[pair[1]]
    predictions.write_bytes(gzip.compress(json.dumps(found).encode()))
    right = gold(found["dev"])
    for metric in run["metrics"]:
        if metric["name"] == "accuracy":
            metric["value"] = right / len(found["dev"])
    path.write_text(json.dumps(run), "utf-8")


def gold(answered: list[list[str]]) -> int:
    """How many answers are right."""
    task = load_task("mini-sentiment")
    examples = read_split(task, "dev", None)
    right = KINDS[task.kind].gold(examples)
    assert right is not None
    known = {example.id: answer for example, answer in zip(examples, right, strict=True)}
    return sum(known[name] == answer for name, answer in answered)


def test_the_same_answers_need_no_test(results: Path) -> None:
    (found,) = against_reference(results)
    assert (found["implementation"], found["task"], found["metric"]) == ("openvino", "mini-sentiment", "accuracy")
    assert (found["difference"], found["low"], found["high"], found["differing"]) == (0, 0, 0, 0)
    assert (found["seeds"], found["n"], found["answers"]) == ([42], 200, 200)
    assert found["same_weights"]


def test_other_answers_have_a_paired_difference_with_an_interval(results: Path) -> None:
    change(results, 30)
    (found,) = against_reference(results)
    assert found["differing"] == 30
    assert found["low"] <= found["difference"] <= found["high"]
    assert found["low"] < found["high"]
    assert found["test"] == "McNemar"


def test_what_cannot_be_paired_is_left_out(results: Path) -> None:
    path, run = run_of(results, "openvino")
    path.write_text(json.dumps(run | {"seed": 7}), "utf-8")
    assert against_reference(results) == []
    path.write_text(json.dumps(run), "utf-8")
    path.with_name(run["predictions"]).unlink()
    assert against_reference(results) == []


def test_the_run_of_the_same_commit_is_the_pair(results: Path) -> None:
    """A later run of the reference may have fine-tuned another model."""
    path, run = run_of(results, "reference")
    later = {**run, "commit": "0" * 40, "key": "0" * 64, "started": "2999-01-01T00:00:00+00:00"}
    later["predictions"] = "later.predictions.json.gz"
    found = json.loads(gzip.decompress(path.with_name(run["predictions"]).read_bytes()))
    found["dev"] = [[name, "positive"] for name, _ in found["dev"]]
    (path.parent / "later.predictions.json.gz").write_bytes(gzip.compress(json.dumps(found).encode()))
    (path.parent / "reference-mini-sentiment-42-000000000000.json").write_text(json.dumps(later), "utf-8")
    (pair,) = against_reference(results)
    assert pair["differing"] == 0


def test_without_the_right_answers_several_seeds_have_an_interval_of_their_own(results: Path) -> None:
    for name in ("reference", "openvino"):
        path, run = run_of(results, name)
        predictions = path.with_name(run["predictions"])
        answers = json.loads(gzip.decompress(predictions.read_bytes()))
        answers["dev"][0][1] = "unheard of" if name == "openvino" else answers["dev"][0][1]
        predictions.write_bytes(gzip.compress(json.dumps(answers).encode()))
        for seed in (1, 2, 3):
            task = {**run["task"], "name": "elsewhere"}
            metrics = [{**m, "value": 0.5 + 0.01 * seed * (name == "openvino")} for m in run["metrics"]]
            made = {**run, "seed": seed, "task": task, "metrics": metrics, "key": f"{seed}" * 64}
            path.with_name(f"{name}-elsewhere-{seed}-{str(seed) * 12}.json").write_text(json.dumps(made), "utf-8")
    found = next(each for each in against_reference(results) if each["task"] == "elsewhere")
    assert found["test"] == "t of seeds"
    assert found["difference"] == pytest.approx(0.02)
    assert found["low"] == pytest.approx(0.02 - 4.302653 * 0.01 / 3**0.5)
    assert found["high"] == pytest.approx(0.02 + 4.302653 * 0.01 / 3**0.5)
