"""Every published metric follows from its stored predictions and the data, without a model."""

import re
from pathlib import Path
from typing import Any

import pytest

from harness.data.task import load_task, task_names
from harness.records import record
from harness.results.rescore import Change, rescore
from harness.statistics import metrics

pytestmark = pytest.mark.slow
RESULTS = Path(__file__).parents[1] / "results"
EMBEDDED = {name for name in task_names() if all(file.path.is_absolute() for file in load_task(name).files.values())}


def published(embedded: bool) -> list[Path]:
    """Records of finished quality runs on tasks whose data is in the repository, or on the other tasks."""
    found = [(path, record.read(path)) for path in record.files(RESULTS)]
    return [
        path
        for path, each in found
        if isinstance(each, record.Quality) and each.state == "ok" and (each.task["name"] in EMBEDDED) == embedded
    ]


def unversioned(value: Any) -> Any:
    """A signature without the version of the library that computed it, which may be another here."""
    return re.sub(r"\b(sklearn|scipy|seqeval):[^|]+", r"\1", value) if isinstance(value, str) else value


def differing(paths: list[Path], data: Path | None = None) -> dict[str, list[Change]]:
    """The differences from what was published, by file name of the record."""
    found = {}
    for path, changes in rescore(paths, data):
        if true := [each for each in changes if unversioned(each.old) != unversioned(each.new)]:
            found[path.name] = true
    return found


def test_metrics_of_the_embedded_suite_follow_from_their_predictions() -> None:
    paths = published(embedded=True)
    assert paths
    assert differing(paths) == {}


def test_metrics_of_real_tasks_follow_from_their_predictions(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intervals of thousands of examples take seconds, so that those of the first record of each task are compared."""
    first: dict[str, Path] = {}
    paths = published(embedded=False)
    for path in paths:
        first.setdefault(record.read(path).task["name"], path)  # type: ignore[attr-defined]
    if not paths:
        pytest.skip("none is published yet")
    assert differing([*first.values()], data_folder) == {}
    monkeypatch.setattr(metrics, "bootstrap", lambda *_: (0.0, 0.0))
    for name, changes in differing([path for path in paths if path not in first.values()], data_folder).items():
        assert [each for each in changes if each.what.endswith((" value", " n", " baseline"))] == [], name


def test_the_records_hold_what_is_scored_again() -> None:
    """Without metrics there would be nothing to compare above."""
    for path in [*published(embedded=True), *published(embedded=False)]:
        each = record.read(path)
        assert isinstance(each, record.Quality)
        assert each.predictions, path
        assert each.metrics or any("no labels" in str(flag["text"]) for flag in each.flags), path
