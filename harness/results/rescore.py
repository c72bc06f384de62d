"""Metrics computed again without a model: from the predictions that a run stored, and the data they are of.

For when the code of the metrics has changed, or a number is doubted. ``run`` never does this: a finished run whose
record it finds is taken with the metrics that stand there, however old the code that computed them, because that code
is not part of a run's key (``harness.measure.keys.quality_key``).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from harness.data.fetch import data_folder
from harness.data.kinds import KINDS
from harness.data.read import read_split
from harness.data.reading import Context, all_files
from harness.data.task import Task, load_task
from harness.errors import BadInput, Failure
from harness.measure.keys import sha256_of_all
from harness.records import record
from harness.statistics.score import Predictions, score

MOST = 64  # tasks, and splits whose examples are kept, while records are scored
Scores = tuple[list[dict[str, Any]], list[record.Flag]]  # metrics, flags
SAME = 1e-12  # the most that another order of summation may change


class Change(NamedTuple):
    """Something that is not as the record has it."""

    what: str  # such as "dev accuracy low", or "flag"
    old: Any  # None where the record had none
    new: Any  # None where there is none any more


def rescore(
    paths: Sequence[Path], data: Path | None = None, own_tasks: Sequence[Path] = (), write: bool = False
) -> Iterator[tuple[Path, list[Change]]]:
    """Each record of a quality run that went well, and what its predictions say otherwise than it does.

    Paths are records and folders of them. ``write`` puts the new metrics and flags into the records' files. BadInput
    where data or predictions are absent, or not those of the run; Failure where predictions are not of the data's
    examples.
    """
    found = [(path, record.read(path)) for folder in paths for path in record.files(folder)]
    finished = [(path, each) for path, each in found if isinstance(each, record.Quality) and each.state == "ok"]
    if not finished:
        raise BadInput(f"no finished quality run in {', '.join(map(str, paths))}; `python -m harness run` makes some")
    known = _Data(own_tasks, data_folder(data))
    scored: dict[str, Scores] = {}
    for path, each in finished:
        metrics, flags = _rescored(path, each, known, scored)
        changes = _changes(each, metrics, flags)
        if changes and write:
            record.write(replace(each, metrics=metrics, flags=flags), path)
        yield path, changes


class _Data:
    """Tasks and their examples, read once for all records that are of them."""

    def __init__(self, own_tasks: Sequence[Path], folder: Path) -> None:
        self.sources = {load_task(str(path)).name: str(path) for path in own_tasks}  # of those that are not built in
        self.folder = folder
        self.task = lru_cache(maxsize=MOST)(self._task)
        self.examples = lru_cache(maxsize=MOST)(self._examples)

    def _task(self, name: str, context: Context | None) -> Task:
        return load_task(self.sources.get(name, name), context)

    def _examples(self, name: str, context: Context | None, split: str, sha256: str) -> list[Any]:
        """A split's examples; ``sha256`` is of the file that they are in, so that another file is read again."""
        return [*read_split(self.task(name, context), split, self.folder)]

    def check(self, name: str, context: Context | None, split: str, sha256: str | None) -> None:
        """BadInput where the split's file here is another than the one that this is the sha256 of."""
        task = self.task(name, context)
        files = all_files(task, split, self.folder) if split in task.files else []
        if files and all(file.is_file() for file in files) and sha256_of_all(files) != sha256:
            raise BadInput(
                f"{files[0].name} here is not the file that the run had (another sha256); name its folder with --data"
            )


def _rescored(path: Path, each: record.Quality, known: _Data, scored: dict[str, Scores]) -> Scores:
    """Metrics and flags as they are computed today.

    Implementations that compute the same thing predict the same: equal predictions are scored once, and ``scored``
    keeps the result for the next record.
    """
    name, kind, hashes = each.task["name"], each.task["kind"], each.task["data"]
    if each.task["suite"] == "own" and name not in known.sources:
        raise BadInput(f"{path}: task {name} is not built in; name its YAML file with --task")
    if kind not in KINDS:
        raise BadInput(f"{path}: this version has no tasks of kind {kind!r}; it has {', '.join(KINDS)}")
    context: Context | None = each.task["context"] if "context" in KINDS[kind].fields else None
    answers: Predictions = record.predictions_of(path, each, *(metric["split"] for metric in each.metrics))
    try:
        for split in answers:
            known.check(name, context, split, hashes.get(split))
        if (determinants := _determinants(each, answers)) not in scored:
            examples = {split: known.examples(name, context, split, hashes.get(split, "")) for split in answers}
            of_run = {split: those[: each.limit] for split, those in examples.items()}
            scored[determinants] = score(each, known.task(name, context), of_run, answers)
        return scored[determinants]
    except (BadInput, Failure) as error:
        raise type(error)(f"{path}: {error}") from error


def _determinants(each: record.Quality, answers: Predictions) -> str:
    """All that ``score`` reads of a record and its predictions, and the data that they are of, as one hash."""
    of_record = [each.task, each.limit, each.recipe, each.flags, each.repairs, each.sanity]
    return sha256(json.dumps([of_record, answers]).encode()).hexdigest()


def _changes(old: record.Quality, metrics: list[dict[str, Any]], flags: list[record.Flag]) -> list[Change]:
    """What differs, field by field."""
    before, after = ({(m["split"], m["name"]): m for m in each} for each in (old.metrics, metrics))
    changes = []
    for split, name in dict.fromkeys([*before, *after]):
        one, other = before.get((split, name), {}), after.get((split, name), {})
        changes += [
            Change(f"{split} {name} {field}", one.get(field), other.get(field))
            for field in dict.fromkeys([*one, *other])
            if field not in ("split", "name") and not _same(one.get(field), other.get(field))
        ]
    changes += [Change("flag", record.flag_text(flag), None) for flag in old.flags if flag not in flags]
    return changes + [Change("flag", None, record.flag_text(flag)) for flag in flags if flag not in old.flags]


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, int | float) and isinstance(new, int | float):
        return abs(old - new) <= SAME
    return bool(old == new)
