"""What is known of the tasks, and what was measured on them."""

import re
from pathlib import Path

import pytest

pytest.importorskip("griffe")

from catalog.errors import BadInput
from catalog.load import load
from catalog.schema import vocabulary
from catalog.site.tasks import measured, read_tasks
from harness.data.task import load_task
from tests.catalog.site.test_choices import cost
from tests.catalog.site.test_pages import board_of, of, published

ROOT = Path(__file__).parents[3]


def test_every_task_is_described_and_its_facts_are_of_this_catalog() -> None:
    tasks, entries = read_tasks(), {entry.id: entry for entry in load()}
    built_in = {path.stem for path in (ROOT / "harness/tasks").glob("*.yaml")}
    assert tasks.keys() <= built_in
    for name, task in tasks.items():
        assert task.entry is None or entries[task.entry].kind == "dataset", name
        assert set(task.metrics) <= vocabulary()["metrics"].keys(), name
        assert task.repeats.keys() <= task.sizes.keys(), name
        assert all(count <= task.sizes[split] for split, count in task.repeats.items()), name
        for words in (task.asks, *task.faults, *([task.licence] if task.licence else [])):
            assert not re.search("[一-鿿]", words.en), name
        answers = task.example.answer.split()
        if "entity_f1" in task.metrics:
            assert len(answers) == len(task.example.text.split()), name


@pytest.mark.parametrize("name", ["cola", "mrpc", "mini-paraphrase", "rte", "sst2", "chnsenticorp", "next-sentence"])
def test_an_answer_is_one_that_the_task_has(name: str) -> None:
    labels = load_task(name).labels
    named = labels.values() if isinstance(labels, dict) else labels
    assert read_tasks()[name].example.answer in named


@pytest.mark.parametrize("text", ["cola: {}", "cola", "cola: {asks: {en: x}}", "- [", "cola: {what: 1}"])
def test_a_file_that_is_wrong_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"tasks\.yaml"):
        read_tasks(tmp_path / "tasks.yaml")


def test_those_with_the_same_answers_are_named_once_and_losses_come_first(tmp_path: Path) -> None:
    records = published()
    (run,) = [r for r in of(records, "quality") if r["task"]["name"] == "mini-ner"]
    values = {"far": 0.1, "twin": 0.7, "other-twin": 0.7, "equal": run["metrics"][0]["value"]}
    for name, value in values.items():
        metrics = [{**run["metrics"][0], "value": value, "low": value - 0.05, "high": value + 0.05}]
        records.append({**run, "implementation": {**run["implementation"], "name": name}, "metrics": metrics})
    named = [("far", -0.6, 90), ("twin", -0.01, 2), ("other-twin", -0.01, 2), ("equal", 0.0, 0)]
    costs = [
        cost(implementation=name, task="mini-ner", difference=difference, differing=differing)
        for name, difference, differing in named
    ]
    found = measured([board_of(tmp_path, records)], costs)["mini-ner"]
    assert found.same == ["equal"]
    assert [each.names for each in found.others][:2] == [["far"], ["other-twin", "twin"]]
    assert found.others[0].dots == [0.0], "what is far off is at the end of the scale"
    assert found.reference is not None
    assert 0 < found.reference.dots[0] < 100
