"""Two implementations compared from their stored records: quality example by example, speed round by round."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from harness.compare.pairing import failed, find, grouped, pairs
from harness.compare.quality import differences
from harness.compare.result import Comparison, Difference, Ratio
from harness.compare.speed import ratios
from harness.data.task import load_task
from harness.errors import BadInput
from harness.records import record
from harness.statistics.significance import holm

Tested = TypeVar("Tested", Difference, Ratio)


def compare(a: str, b: str, runs: Path, data: Path | None = None, own_tasks: Sequence[Path] = ()) -> Comparison:
    """Compare B with A: each an implementation recorded in ``runs``, FOLDER/NAME, a record file or a folder.

    Gold answers come from the data folder; without them there are differences but no intervals. BadInput where
    the two were not measured on the same data, splits, metrics and checkpoint, and where nothing is in both.
    """
    sides = [find(text, runs) for text in (a, b)]
    (name_a, found_a), (name_b, found_b) = sides
    names = (name_a, name_b) if name_a != name_b else (a, b)
    if names[0] == names[1]:
        raise BadInput(f"{a} and {b} are the same; name two implementations, or two folders of records")
    comparison = Comparison(*names)
    tasks = {task.name: task for task in (load_task(str(path)) for path in own_tasks)}
    side_a, side_b = grouped(comparison, names[0], found_a), grouped(comparison, names[1], found_b)
    paired = pairs(comparison, side_a, side_b, failed(found_b))
    for what, runs_a, runs_b in paired:
        comparison.differences += differences(comparison, what, runs_a, runs_b, data, tasks)
    speeds = {path.resolve(): each for path, each in [*found_a, *found_b] if isinstance(each, record.Speed)}
    comparison.ratios = ratios(comparison, list(speeds.values()), name_a, name_b)
    if not comparison.differences and not comparison.ratios:
        raise BadInput(
            f"{a} and {b}: no task and no timing is in both; {'; '.join(comparison.notes) or 'run both first'}"
        )
    comparison.differences, comparison.ratios = _corrected(comparison.differences), _corrected(comparison.ratios)
    return comparison


def _corrected(tested: list[Tested]) -> list[Tested]:
    """With p corrected over all that were tested."""
    corrected = iter(holm([each.p for each in tested if each.p is not None]))
    return [each if each.p is None else replace(each, p_holm=next(corrected)) for each in tested]
