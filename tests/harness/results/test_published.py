"""Published figures: true to their form, and beside ours only where nothing differs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from harness.data.kinds import KINDS
from harness.data.task import load_task, task_names
from harness.measure.keys import declared
from harness.records.record import Quality
from harness.report.arrange import arrange
from harness.report.table import to_markdown
from harness.results.published import Anchor, anchors, beside
from harness.statistics.seeds import group, scores
from harness.weights.find import weights_names

Qualities: TypeAlias = Callable[..., Quality]
RECIPE = {"epochs": 3, "learning_rate": 2e-5, "batch_size": 32, "max_length": 128, "select": "last"}
RECIPE |= {"warmup": 0.0, "weight_decay": 0.0}


def run(quality_record: Qualities, **fields: Any) -> Quality:
    """A run of CoLA that follows the protocol of the table of run_glue.py."""
    metric = {"split": "dev", "name": "matthews", "value": 0.571, "low": 0.53, "high": 0.61, "n": 1043}
    usual = {
        "checkpoint": {
            "name": "bert-base-cased",
            "sha256": "1" * 64,
            "source": "https://huggingface.co/x",
            "config": {},
            "initialised": [],
        },
        "recipe": RECIPE,
        "metrics": [metric | {"signature": "matthews", "baseline": 0.0}],
    }
    return quality_record("reference", "cola", **(usual | fields))


def shown(records: list[Quality]) -> list[Anchor]:
    (runs,) = group(records)
    return [each for score in scores(runs) for each in beside(runs, score)]


@pytest.mark.parametrize("anchor", anchors(), ids=lambda each: f"{each.source}-{each.task}-{each.split}-{each.metric}")
def test_each_figure_is_of_a_task_of_ours_and_says_where_it_is_from(anchor: Anchor) -> None:
    task = load_task(anchor.task)
    assert anchor.split in task.files
    assert anchor.metric in task.metrics
    assert 0 < anchor.value < 1
    assert anchor.url.startswith("https://")
    assert anchor.source
    if task.kind == "tagging":
        assert anchor.protocol["context"] in ("sentence", "document")


def test_each_task_names_the_entry_of_its_data_set() -> None:
    """All but those whose data we wrote ourselves."""
    entries = {path.stem for path in Path("catalog/entries/datasets").glob("*.yaml")}
    named = {name: load_task(name).dataset for name in task_names()}
    assert set(filter(None, named.values())) <= entries
    own = {name for name, dataset in named.items() if dataset is None}
    assert own == {name for name in named if name.startswith("mini-")} | {"next-sentence"}


def test_a_data_set_has_one_task_that_fine_tunes_on_it() -> None:
    """So that a published figure is beside ours of the same task: STS-B fine-tuned, and not by cosine."""
    trained = [task for task in map(load_task, task_names()) if task.dataset and KINDS[task.kind].trained]
    assert len({task.dataset for task in trained}) == len(trained)
    assert {each.task for each in anchors()} >= {"stsb", "squad2"}
    assert {each.metric for each in anchors() if each.task == "squad2"} == {"answer_f1"}


def test_the_entry_of_the_data_set_changes_no_key() -> None:
    task = load_task("rte")
    assert task.dataset == "rte"
    assert declared(task) == declared(replace(task, dataset=None))


def test_no_two_figures_of_one_source_are_of_the_same() -> None:
    keys = [(each.source, each.task, each.split, each.metric) for each in anchors()]
    assert len(keys) == len(set(keys))


def test_a_run_of_the_same_protocol_stands_beside_the_figure(quality_record: Qualities) -> None:
    (anchor,) = shown([run(quality_record)])
    assert anchor.value == 0.5653
    assert anchor.citation == "one run; transformers, table of run_glue.py"
    report = arrange([run(quality_record)])
    assert report.rows["reference"]["cola\nMatthews"][-1] == "published 0.565"
    (note,) = (note for note in report.notes if "published" in note)
    assert note.startswith("published, not measured by us: reference on cola, Matthews: 0.565 (one run; transformers,")
    assert anchor.url in note
    assert "published 0.565" in to_markdown(report)


@pytest.mark.parametrize(
    "fields",
    [
        {
            "checkpoint": {
                "name": "bert-base-uncased",
                "sha256": "1" * 64,
                "source": "https://huggingface.co/x",
                "config": {},
                "initialised": [],
            }
        },
        {
            "checkpoint": {
                "name": "bert-base-cased",
                "sha256": "1" * 64,
                "source": "local",
                "config": {},
                "initialised": [],
            }
        },
        {"recipe": RECIPE | {"learning_rate": 3e-5}},
        {"recipe": RECIPE | {"epochs": 5}},
        {"recipe": RECIPE | {"warmup": 0.1}},
        {"recipe": RECIPE | {"select": "dev"}},
        {"recipe": {"own": "its own way", "select": "last"}},
        {"limit": 100},
    ],
)
def test_whatever_differs_keeps_the_figure_away(fields: dict[str, Any], quality_record: Qualities) -> None:
    assert shown([run(quality_record, **fields)]) == []
    assert "published 0" not in to_markdown(arrange([run(quality_record, **fields)]))


def test_another_split_or_metric_keeps_it_away(quality_record: Qualities) -> None:
    metric = run(quality_record).metrics[0]
    assert shown([run(quality_record, metrics=[metric | {"split": "test"}])]) == []
    assert shown([run(quality_record, metrics=[metric | {"name": "accuracy", "baseline": 0.1}])]) == []


def test_a_single_run_is_not_held_against_a_mean(quality_record: Qualities) -> None:
    assert shown([run(quality_record, seed=seed) for seed in (42, 43)]) == []


def test_a_mean_stands_beside_a_mean_of_the_same_protocol(
    quality_record: Qualities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the default weights nothing is published; this figure is made up, and of several kinds of protocol."""
    same = {"runs": 5, "select": "last", "context": "document", "epochs": 3}
    kinds = {
        "same": same,
        "one run": same | {"runs": 1},
        "chosen on dev": same | {"select": "recipe on dev"},
        "sentences": same | {"context": "sentence"},
        "context not stated": {name: value for name, value in same.items() if name != "context"},
        "nothing stated": {},
    }
    made = tuple(
        Anchor(kind, "https://example.org", ("minilm-l6",), "conll2003", "dev", "entity_f1", 0.9, protocol)
        for kind, protocol in kinds.items()
    )
    monkeypatch.setattr("harness.results.published.anchors", lambda: made)
    metric = {"split": "dev", "name": "entity_f1", "value": 0.9, "low": 0.8, "high": 0.95, "n": 9, "baseline": 0.0}
    usual = quality_record()
    records = [
        quality_record(
            seed=seed,
            task=usual.task | {"name": "conll2003", "kind": "tagging", "context": "document"},
            metrics=[metric | {"signature": "f1"}],
        )
        for seed in (42, 43)
    ]
    assert [each.source for each in shown(records)] == ["same"]
    assert shown(records)[0].citation == "mean of 5 runs; same"


def test_nothing_is_published_of_the_default_weights() -> None:
    names = {name for each in anchors() for name in each.checkpoints}
    assert "minilm-l6" not in names
    assert {"bert-base-cased", "bert-base-uncased"} <= names & weights_names().keys()
