"""Comparisons: planted differences are found, others are not, and what cannot be compared is refused."""

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from rich.console import Console

from harness.compare.compare import compare
from harness.compare.judge import judge, print_comparison, verdicts, write
from harness.compare.result import Comparison
from harness.data.read import read_split
from harness.data.task import load_task
from harness.errors import BadInput
from harness.records import record
from harness.records.record import Quality
from harness.statistics.metrics import METRICS, features, score
from harness.statistics.significance import holm, mcnemar, randomisation

Qualities: TypeAlias = Callable[..., record.Quality]
Save: TypeAlias = Callable[..., Path]
LABELS = ("no", "yes")
KINDS: dict[str, tuple[str, str]] = {  # kind to its main metric and the rest of the declaration
    "classification": ("accuracy", "labels: ['no', 'yes']"),
    "regression": ("pearson", ""),
    "multi-label": ("micro_f1", "labels: ['no', 'yes']"),
    "tagging": ("entity_f1", "labels: [PER]"),
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def save(runs: Path, tmp_path: Path, quality_record: Qualities) -> Save:
    """A function that writes the record of these answers to a task of one's own, its file and its predictions."""

    def make(
        name: str,
        answers: Sequence[Any],
        gold: Sequence[Any],
        /,
        kind: str = "classification",
        metric: str | None = None,
        folder: Path = runs,
        **fields: Any,
    ) -> Path:
        task_file = declare(tmp_path, kind, gold, metric)
        task = load_task(str(task_file))
        settings: dict[str, Any] = {"labels": task.outputs, "positive": task.positive, "draws": 2}
        scores = score(task.kind, task.metrics, gold, answers, task="own", split="dev", **settings)
        data = {"train": "1" * 64, "dev": hashlib.sha256((tmp_path / "dev").read_bytes()).hexdigest()}
        seed, precision = fields.get("seed", 42), fields.get("precision", {"resolved": ""})["resolved"]
        stem = f"{name}-{seed}-{precision}"
        made = quality_record(
            name,
            **{
                "task": {"name": "own", "title": "", "suite": "own", "kind": kind, "context": "sentence", "data": data},
                "metrics": [measured(each.value, each.name) for each in scores],
                "predictions": f"{stem}.gz",
                **fields,
            },
        )
        record.write_predictions(folder / f"{stem}.gz", {"dev": [[str(i), each] for i, each in enumerate(answers)]})
        record.write(made, folder / f"{stem}.json")
        return folder / f"{stem}.json"

    return make


def measured(value: float, name: str = "accuracy", split: str = "dev", baseline: float = -1.0) -> dict[str, Any]:
    """A metric as a record has it."""
    bounds = {"value": value, "low": value, "high": value, "n": 1, "baseline": baseline}
    return {"split": split, "name": name, "signature": f"{name}|{split}"} | bounds


def declare(folder: Path, kind: str, gold: Sequence[Any], metric: str | None = None) -> Path:
    """A task of one's own with these right answers; its YAML file."""
    if kind == "tagging":
        content = "\n\n".join("\n".join(f"secret {tag}" for tag in tags) for tags in gold) + "\n"
        form = "format: conll"
    else:
        content = "".join(json.dumps({"text": "secret", "label": each}) + "\n" for each in gold)
        form = "format: jsonl\ncolumns: {text: text, label: label}"
    (folder / "dev").write_text(content, encoding="utf-8")
    main, labels = KINDS[kind]
    positive = "positive: 'yes'" if metric == "f1" else ""
    parts = [f"name: own\ntitle: Own\nkind: {kind}", form, labels, positive, "files: {train: train, dev: dev}"]
    parts.append(f"evaluate: [dev]\nmetrics: [{metric or main}]")
    (folder / "own.yaml").write_text("\n".join(parts) + "\n", encoding="utf-8")
    return folder / "own.yaml"


def noisy(gold: Sequence[Any], right: float, seed: int) -> list[str]:
    """Answers of which this share is right."""
    rng = np.random.default_rng(seed)
    return [each if rng.random() < right else LABELS[each == "no"] for each in gold]


def labels(n: int, seed: int = 0) -> list[str]:
    return np.random.default_rng(seed).choice(LABELS, n).tolist()


def own(runs: Path, a: str = "a", b: str = "b") -> Comparison:
    return compare(a, b, runs, own_tasks=[runs.parent / "own.yaml"])


def printed(made: Comparison, examples: int = 10) -> str:
    console = Console(width=100, file=io.StringIO())
    print_comparison(made, console, examples)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_mcnemar_and_holm_by_hand() -> None:
    # Of seven that one alone gets right, one or fewer fall on one side: 2 (1 + 7) / 128.
    right_a = np.array([1, 0, 0, 0, 0, 0, 0, 1, 1, 0], np.float64)
    right_b = np.array([0, 1, 1, 1, 1, 1, 1, 1, 1, 0], np.float64)
    assert mcnemar(right_a, right_b) == pytest.approx(0.125)
    assert mcnemar(right_b, right_a) == pytest.approx(0.125)
    assert mcnemar(right_a, right_a) == 1
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1, 1]
    assert holm([]) == []


@pytest.mark.parametrize("metric", ["f1", "matthews", "accuracy"])
def test_randomisation_draws_what_all_swaps_would_give(metric: str) -> None:
    gold = labels(9, 1)
    a, b = noisy(gold, 0.9, 2), noisy(gold, 0.4, 3)
    rows = features("classification", metric, gold * 2, [*a, *b], labels=LABELS, positive="yes")
    rows_a, rows_b = rows[:9], rows[9:]

    def value(of: Any) -> float:
        return float(METRICS[metric].statistic(of)(np.ones((1, 9), np.int64))[0])

    apart = abs(value(rows_a) - value(rows_b))
    swaps = [np.array(each)[:, None] for each in itertools.product([False, True], repeat=9)]
    as_far = [abs(value(np.where(s, rows_b, rows_a)) - value(np.where(s, rows_a, rows_b))) for s in swaps]
    exact = np.mean(np.array(as_far) >= apart - 1e-12)
    assert randomisation(metric, rows_a, rows_b) == pytest.approx(exact, abs=0.02)
    assert randomisation(metric, rows_a, rows_a) == 1


def test_a_planted_difference_is_shown(save: Save, runs: Path) -> None:
    gold = labels(400)
    a, b = noisy(gold, 0.9, 1), noisy(gold, 0.8, 2)
    save("a", a, gold)
    save("b", b, gold)
    made = own(runs)
    (found,) = made.differences
    assert (found.test, found.n) == ("McNemar", 400)
    assert found.value == pytest.approx(np.mean(np.equal(b, gold)) - np.mean(np.equal(a, gold)))
    assert found.low is not None
    assert found.high is not None
    assert found.p is not None
    assert found.low < -0.1 < found.high < 0
    assert found.p < 0.001
    assert found.p_bootstrap == pytest.approx(found.p, abs=0.001)
    (sentence,) = verdicts(made)
    assert sentence.startswith(f"b is {-100 * found.value:.1f} points worse than a on own (accuracy, 95% interval -")
    shown = "a difference is shown by 400 examples and one seed, which says nothing of other seeds"
    assert sentence.endswith(f"p < 0.001): {shown}")
    assert judge(made, 1) == (["own"], [])
    assert judge(made, -100 * found.low - 0.01) == ([], ["own"])
    assert judge(made, 50) == ([], [])
    assert judge(own(runs, "b", "a"), 0) == ([], [])
    assert own(runs, "b", "a").differences[0].low == pytest.approx(-found.high, abs=1e-9)


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_where_there_is_no_difference_few_alarms_are_false(metric: str) -> None:
    alarms = 0
    for seed in range(200):
        gold = labels(150, seed)
        both = [*noisy(gold, 0.8, 1000 + seed), *noisy(gold, 0.8, 2000 + seed)]
        rows = features("classification", metric, gold * 2, both, labels=LABELS, positive="yes")
        pair = rows[:150], rows[150:]
        p = mcnemar(*(each[:, 0] for each in pair)) if metric == "accuracy" else randomisation(metric, *pair, draws=400)
        alarms += p < 0.05
    assert 0 < alarms <= 18  # 10 are expected at most


@pytest.mark.slow
def test_several_seeds_are_a_sample_too(save: Save, runs: Path) -> None:
    """Each seed's luck is larger than the examples': what it alone brings about is rarely taken for a difference."""
    gold, alarms = labels(400), 0
    for repetition in range(16):
        rng = np.random.default_rng(repetition)
        for name, seed in itertools.product("ab", (1, 2, 3)):
            save(name, noisy(gold, rng.normal(0.8, 0.06), int(rng.integers(2**32))), gold, seed=seed)
        (found,) = own(runs).differences
        assert found.p is not None
        alarms += found.p < 0.05
    assert alarms <= 3
    assert found.test == "bootstrap of examples, t of seeds"
    assert list(found.by_seed) == [1, 2, 3]
    assert found.value == pytest.approx(np.mean(list(found.by_seed.values())))
    for name, seed in itertools.product("ab", (1, 2, 3)):
        save(name, noisy(gold, 0.9 if name == "a" else 0.7, seed + 10 * (name == "b")), gold, seed=seed)
    made = own(runs)
    assert verdicts(made)[0].endswith("a difference is shown by 400 examples and 3 seeds")
    assert judge(made, 2) == (["own"], [])


def test_equal_answers_differ_in_nothing(save: Save, runs: Path) -> None:
    gold = labels(50)
    answers = noisy(gold, 0.8, 1)
    save("a", answers, gold, metric="f1")
    save("b", answers, gold, metric="f1")
    made = own(runs)
    (found,) = made.differences
    assert (found.low, found.high, found.p, found.p_bootstrap, found.disagreements) == (0, 0, 1, 1, [])
    assert verdicts(made)[0].startswith("b is 0.0 points from a on own")
    assert judge(made, 0) == ([], [])


def numbers(rng: np.random.Generator, gold: Sequence[float], noise: float) -> list[float]:
    return [float(each + rng.normal(0, noise)) for each in gold]


def test_every_kind_of_task(save: Save, runs: Path) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 200).astype(float).tolist()
    sets = [("no", "yes") if each else ("no",) for each in rng.random(200) < 0.5]
    tags = [("O", "B-PER", "I-PER", "O") if each else ("B-PER", "O", "O", "O") for each in rng.random(200) < 0.5]
    cases: list[tuple[str, Sequence[Any], Sequence[Any]]] = [
        ("regression", scores, numbers(rng, scores, 3.0)),
        ("multi-label", sets, [each if rng.random() < 0.7 else ("yes",) for each in sets]),
        ("tagging", tags, [each if rng.random() < 0.7 else ("O", "O", "O", "B-PER") for each in tags]),
    ]
    for kind, gold, worse in cases:
        better = numbers(rng, scores, 0.5) if kind == "regression" else gold
        save("a", worse, gold, kind)
        save("b", better, gold, kind)
        made = own(runs)
        (found,) = made.differences
        assert found.test == "randomisation"
        assert found.p == pytest.approx(1 / 10_001), kind
        assert found.low is not None
        assert 0 < found.low < found.value, kind
        changed = sum(one != other for one, other in zip(worse, better, strict=True))
        assert len(found.disagreements) == changed
        assert "secret" not in printed(made)
    assert "place 0, 3: a O B-PER, b B-PER O; gold B-PER O" in printed(made)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"checkpoint": {"name": "other", "sha256": "7" * 64, "config": {}, "initialised": []}},
            "checkpoint (minilm-l6, 5.* against other, 7",
        ),
        ({"limit": 16}, "limit (None against 16)"),
        ({"metrics": [measured(0.5, "f1")]}, "metrics (accuracy against f1)"),
        ({"metrics": [measured(0.5, split="test")]}, "splits (dev against test)"),
        ({"data": {"train": "8" * 64}}, "data of train (1.* against 8"),
        ({"data": {"dev": "8" * 64}}, "data of dev (.* against 8"),
        ({"seed": 7}, "seeds differ (42 against 7)"),
    ],
)
def test_what_is_not_the_same_is_refused_and_named(fields: dict[str, Any], said: str, save: Save, runs: Path) -> None:
    gold = labels(20)
    save("a", gold, gold)
    path = save("b", gold, gold, **{key: value for key, value in fields.items() if key != "data"})
    if "data" in fields:
        values = json.loads(path.read_text())
        values["task"]["data"] |= fields["data"]
        path.write_text(json.dumps(values))
    with pytest.raises(BadInput, match=said.replace("(", r"\(").rstrip(")")):
        own(runs)


def test_a_metric_of_another_version_is_refused(save: Save, runs: Path) -> None:
    for name in ("a", "b"):
        save(name, labels(20), labels(20), metrics=[measured(0.5, "balanced_accuracy")])
    with pytest.raises(BadInput, match="this version has no metric 'balanced_accuracy' for tasks of kind"):
        own(runs)


def test_predictions_that_lack_or_do_not_fit_are_refused(save: Save, runs: Path) -> None:
    gold = labels(20)
    save("a", gold, gold)
    path = save("b", noisy(gold, 0.7, 1), gold)
    file = path.with_suffix(".gz")
    kept = record.read_predictions(file)
    record.write_predictions(file, {"dev": kept["dev"][:-1]})
    with pytest.raises(BadInput, match="not of the examples of the others"):
        own(runs)
    record.write_predictions(file, {"dev": [[i, "yes"] for i, _ in kept["dev"]]})
    with pytest.raises(BadInput, match=r"accuracy is .* there, but .* of its predictions"):
        own(runs)
    record.write_predictions(file, {"test": kept["dev"]})
    with pytest.raises(BadInput, match="no predictions of the split dev"):
        own(runs)
    file.unlink()
    with pytest.raises(BadInput, match=r"b-42-\.json: its predictions, .*, are not beside it"):
        own(runs)


def test_without_the_data_there_are_values_and_no_interval(save: Save, runs: Path) -> None:
    gold = labels(20)
    save("a", gold, gold)
    save("b", noisy(gold, 0.5, 1), gold)
    made = compare("a", "b", runs)
    assert "name its YAML file with --task" in made.notes[0]
    (found,) = made.differences
    assert (found.low, found.p, found.p_holm) == (None, None, None)
    assert found.disagreements
    assert all(each.gold is None for each in found.disagreements)
    assert verdicts(made)[0].endswith("20 examples, one seed, no interval): too little to tell")
    with pytest.raises(BadInput, match="cannot tell of own"):
        judge(made, 1)
    (runs.parent / "dev").write_text("changed")
    assert "dev here is not the file that the records were made with" in own(runs).notes[0]
    (runs.parent / "dev").unlink()
    assert "its data is not at hand" in own(runs).notes[0]


def test_what_is_left_out_or_may_be_the_reason_is_noted(save: Save, runs: Path) -> None:
    gold = labels(20)
    for seed in (1, 2):
        save("a", gold, gold, seed=seed)
    save("b", gold, gold, seed=1, recipe={"epochs": 9, "select": "last"})
    save("b", gold, gold, seed=3, state="failed", reason="it hung")
    notes = "\n".join(own(runs).notes)
    assert "b on own, seed 3, failed: it hung" in notes
    assert "own: seeds 1, 2 against 1; only those of both are compared" in notes
    assert "recipe: epochs (3 against 9)" in notes


def test_each_setting_is_compared_with_its_like(save: Save, runs: Path) -> None:
    gold = labels(20)
    for name, precision in itertools.product("ab", ("fp32", "bf16")):
        save(name, gold, gold, precision={"asked": precision, "resolved": precision, "computed": precision})
    subjects = [each.subject for each in own(runs).differences]
    assert sorted(subjects) == ["own (precision bf16)", "own (precision fp32)"]
    for path in runs.glob("b-42-fp32*"):
        path.unlink()
    made = own(runs)
    assert [each.subject for each in made.differences] == ["own"]
    assert "own: 1 kinds of runs have no counterpart and are left out" in made.notes
    for path in runs.glob("b-42-bf16*"):
        path.unlink()
    save("b", gold, gold, precision={"asked": "fp16", "resolved": "fp16", "computed": "fp16"})
    with pytest.raises(BadInput, match="none alike: precision bf16 / fp32 / fp16; name the record files"):
        own(runs)


def test_several_tasks_are_corrected_for(save: Save, runs: Path, quality_record: Qualities) -> None:
    gold = labels(20)
    save("a", gold, gold)
    save("b", noisy(gold, 0.7, 1), gold)
    task = load_task("mini-sentiment")
    examples: list[Any] = [*read_split(task, "dev", None)]
    right = {example.id: example.label for example in examples}
    file = task.files["dev"].path
    for name, wrong in (("a", 0), ("b", 12)):
        answers: list[Any] = [
            [key, label if i >= wrong else "positive"] for i, (key, label) in enumerate(right.items())
        ]
        value = float(np.mean([answer == right[key] for key, answer in answers]))
        made = quality_record(name, metrics=[measured(value)])
        made.task["data"]["dev"] = hashlib.sha256(file.read_bytes()).hexdigest()
        made.predictions = f"{name}-mini.gz"
        record.write_predictions(runs / made.predictions, {"dev": answers})
        record.write(made, runs / f"{name}-mini.json")
    found = own(runs)
    ps = [each.p for each in found.differences if each.p is not None]
    assert [each.p_holm for each in found.differences] == pytest.approx(holm(ps))
    assert all("after Holm's correction over 2 tests" in sentence for sentence in verdicts(found))


def test_how_the_two_are_named(save: Save, runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gold = labels(20)
    path_a, path_b = save("a", gold, gold), save("b", gold, gold)
    older = tmp_path / "older"
    save("a", gold, gold, folder=older)
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)  # where a folder is called as the implementation is
    for a, b in [("a", "b"), (f"{runs}/a", f"{runs}/b"), (str(path_a), str(path_b)), (str(older), "b")]:
        assert (own(runs, a, b).a, own(runs, a, b).b) == ("a", "b")
    assert own(runs, "older", "a").a == "older"
    for wrong, why in [("a", "are the same"), ("c", r"recorded in .* \(there: a, b\)"), ("runs", "records of a, b;")]:
        with pytest.raises(BadInput, match=why):
            own(runs, "a", wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="nothing to compare"):
        own(runs, "empty", "b")
    with pytest.raises(BadInput, match="no records, and nowhere does not exist; say where they are with --runs"):
        compare("empty", "b", Path("nowhere"))


def test_a_score_that_b_lacks_counts_as_worse(save: Save, runs: Path, quality_record: Qualities) -> None:
    gold = labels(20)
    for seed in (1, 2, 3):
        save("a", gold, gold, seed=seed)
    done = record.read(save("b", gold, gold, seed=1))
    assert isinstance(done, Quality)
    record.write(replace(done, seed=2, state="failed", reason="it crashed", metrics=[]), runs / "failed.json")
    record.write(quality_record("a", "mini-paraphrase"), runs / "other.json")
    made = own(runs)
    assert sorted(made.lacking) == ["mini-paraphrase", "own, seed 2"]
    assert "own: seeds 1, 2, 3 against 1; only those of both are compared" in made.notes, "seed 3 was not run"
    assert judge(made, 50) == ([f"{subject} (no score of b)" for subject in made.lacking], [])
    assert judge(own(runs, "b", "a"), 50) == ([], [])


def test_collapsed_seeds_are_named(save: Save, runs: Path) -> None:
    gold = labels(20)
    save("a", gold, gold)
    save("b", ["no"] * 20, gold, metrics=[measured(gold.count("no") / 20, baseline=gold.count("no") / 20)])
    assert "own: collapsed, and compared like the others: b, seed 42" in own(runs).notes


def test_scores_that_rounding_alone_tells_apart_are_not_shown(save: Save, runs: Path) -> None:
    gold = np.linspace(0, 5, 20).tolist()
    save("a", gold, gold, "regression")
    save("b", [value + 1e-6 for value in gold[:-1]] + [gold[-1] + 0.1], gold, "regression")
    assert [each.id for each in own(runs).differences[0].disagreements] == ["19"]


def test_nothing_in_common_is_refused(runs: Path, quality_record: Qualities) -> None:
    for name, task in (("a", "mini-sentiment"), ("b", "mini-paraphrase")):
        record.write(quality_record(name, task), runs / f"{name}.json")
    with pytest.raises(BadInput, match="no task and no timing is in both; mini-sentiment: only a has it; mini-para"):
        compare("a", "b", runs)


@pytest.mark.slow
def test_published_records_and_what_is_written_of_them(tmp_path: Path) -> None:
    results = Path(__file__).parents[3] / "results"
    made = compare("reference", "transformers", results)
    sentiment = next(each for each in made.differences if each.subject.startswith("mini-sentiment"))
    assert sentiment.n == 200
    assert made.ratios
    text = printed(made, examples=1000)
    texts = [each.text for each in read_split(load_task("mini-sentiment"), "dev", None) if hasattr(each, "text")]
    assert "; gold positive" in text
    assert not any(each in text for each in texts)
    write(made, tmp_path / "comparison.json")
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert "gold" not in (tmp_path / "comparison.json").read_text()
    assert written["verdicts"] == verdicts(made)
    assert len(written["differences"][0]["disagreements"]) == len(made.differences[0].disagreements)


@pytest.mark.parametrize("margin", [-1.0, float("nan"), float("inf")])
def test_a_margin_is_a_number_of_points(margin: float) -> None:
    with pytest.raises(BadInput, match="is no margin"):
        judge(Comparison("a", "b"), margin)
