"""Tasks of one's own for the tests of reading."""

from pathlib import Path
from typing import Any

import yaml

from harness.data.read import read
from harness.data.task import Task, load_task


def own_task(folder: Path, content: str | bytes, split: str = "train", **fields: Any) -> Task:
    """A task of one's own whose every split is one file of this content."""
    declared: dict[str, Any] = {
        "name": "mine",
        "title": "Mine",
        "kind": "classification",
        "labels": ["a", "b"],
        "format": "tsv",
        "columns": {"text": "text", "label": "label"},
        "files": {"train": "data", "dev": "data", "test": "data"},
        "evaluate": ["dev"],
        "metrics": ["accuracy"],
    }
    if fields.get("kind") == "tagging":
        declared |= {"labels": ["PER", "LOC"], "format": "conll", "metrics": ["entity_f1"]}
        del declared["columns"]
    (folder / "data").write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "mine.yaml").write_text(yaml.safe_dump(declared | fields, sort_keys=False))
    return load_task(str(folder / "mine.yaml"))


def repairs(task: Task, split: str = "train") -> list[tuple[str, int, str]]:
    """What was repaired in a split: what, how often, and where first."""
    return [(each["what"], each["count"], each["first"]) for each in read(task, split, None).repairs]
