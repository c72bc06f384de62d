"""Figures that others published, beside ours where they are of the same checkpoint, data, metric and protocol."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.data.kinds import KINDS
from harness.data.task import load_task, task_names
from harness.statistics.seeds import Runs, Score

# Names of metrics in the catalog, where they differ from those of a kind of task.
NAMED = {"question-answering": {"f1": "answer_f1", "exact_match": "exact"}}
FILE = Path(__file__).with_name("published.json")  # written by `python -m catalog anchors` from the catalog's entries


@dataclass(frozen=True)
class Anchor:
    """One published figure, which nobody here measured."""

    source: str
    url: str
    checkpoints: tuple[str, ...]  # the same weights, under the names that `--weights` takes
    task: str
    split: str
    metric: str
    value: float
    protocol: dict[str, Any]  # runs, select, context, and what else the source states of the recipe

    @property
    def citation(self) -> str:
        """Such as ``one run; transformers, table of run_glue.py``."""
        runs = self.protocol.get("runs")
        return f"{'one run' if runs == 1 else f'mean of {runs} runs'}; {self.source}"


@cache
def anchors() -> tuple[Anchor, ...]:
    """The figures of the catalog that name weights of ours and a data set that a task of ours fine-tunes on."""
    known = map(load_task, task_names())
    tasks = {task.dataset: task for task in known if task.dataset and KINDS[task.kind].trained}
    return tuple(
        Anchor(
            source=table["source"],
            url=table["url"],
            checkpoints=tuple(table["checkpoints"]),
            task=task.name,
            split=figure["split"],
            metric=NAMED.get(task.kind, {}).get(figure["metric"], figure["metric"]),
            value=figure["value"],
            protocol=table["protocol"],
        )
        for table in json.loads(FILE.read_text(encoding="utf-8"))
        for figure in table["figures"]
        if (task := tasks.get(figure["dataset"]))
    )


def beside(runs: Runs, score: Score) -> list[Anchor]:
    """The published figures that a score of these runs may be compared with."""
    checkpoint = runs.any.checkpoint
    if checkpoint["source"] == "local":  # a folder may have any name
        return []
    wanted = (score.task, score.split, score.metric)
    return [
        each
        for each in anchors()
        if checkpoint["name"] in each.checkpoints
        and (each.task, each.split, each.metric) == wanted
        and _same_protocol(each.protocol, runs, score)
    ]


def _same_protocol(published: dict[str, Any], runs: Runs, score: Score) -> bool:
    """Whether all that a source states of how its figure came about is true of ours, the least of it being stated."""
    ours = dict(runs.any.recipe)
    needed = {"runs", "select"}
    if runs.any.task["kind"] == "tagging":
        ours["context"] = score.context
        needed.add("context")
    if runs.any.limit is not None or not needed <= published.keys():
        return False
    one_run = (published["runs"] == 1) == (len(score.values) == 1)
    return one_run and all(ours.get(name) == value for name, value in published.items() if name != "runs")
