"""All published records in one file, which the catalog's site is built from."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.files import write_json
from harness.records import record
from harness.records.models import model_of
from harness.results import published
from harness.statistics import seeds


def write_index(results: Path, output: Path, against: Sequence[dict[str, Any]] = ()) -> int:
    """Write the records of a folder, and the scores of all seeds together, as one JSON file; how many records.

    ``against`` are the paired differences to the reference, from ``harness.compare.against``.

    Raw timings stay in the records. Beside each score are the figures that others published of the same. BadInput where
    there are no records.
    """
    found = record.read_all([results])
    if not found:
        raise BadInput(f"no records in {results}; `python -m harness publish` puts some there")
    index = {
        "schema": record.SCHEMA,
        "records": [_values(each) for each in found],
        "scores": scores(found),
        "against": [*against],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(index, output)
    return len(found)


def _values(each: record.Record) -> dict[str, Any]:
    values = {"kind": each.kind, "hardware": record.hardware(each), "model": model_of(each), **dataclasses.asdict(each)}
    if isinstance(each, record.Speed):
        values["implementations"] = {name: _summary(each, those) for name, those in each.implementations.items()}
    return values


def _summary(timed: record.Speed, figures: dict[str, Any]) -> dict[str, Any]:
    """What was timed of one implementation, with the range of the rounds instead of the seconds of each pass."""
    if figures["state"] != "ok":
        return figures
    _, slowest, fastest = record.rates(timed.shape, figures)
    short = {key: value for key, value in figures.items() if key not in ("wall", "cpu")}
    return short | {"slowest": slowest, "fastest": fastest}


def scores(records: list[record.Record]) -> list[dict[str, Any]]:
    """The scores over all seeds, each with the figures that were published of the same."""
    return [
        dataclasses.asdict(score)
        | {"published": [{"value": a.value, "source": a.citation, "url": a.url} for a in published.beside(runs, score)]}
        for runs in seeds.group(records)
        for score in seeds.scores(runs)
    ]
