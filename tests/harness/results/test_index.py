"""The index of published records, which the site is built from."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import BadInput
from harness.records import record
from harness.records.record import Quality, Speed
from harness.results.index import write_index


def test_the_index_holds_every_record_without_its_raw_timings(
    quality_record: Callable[..., Quality], speed_record: Callable[..., Speed], tmp_path: Path
) -> None:
    results, output = tmp_path / "results", tmp_path / "build" / "index.json"
    record.write(speed_record(), results / "machine" / "comparisons" / "one.json")
    record.write(quality_record(), results / "machine" / "reference" / "two.json")
    assert write_index(results, output) == 2
    index = json.loads(output.read_text())
    assert index["schema"] == record.SCHEMA
    assert sorted(each["kind"] for each in index["records"]) == ["quality", "speed"]
    timed = next(each for each in index["records"] if each["kind"] == "speed")["implementations"]
    assert timed
    assert all("p50" in figures and not {"wall", "cpu"} & figures.keys() for figures in timed.values())
    assert [score["implementation"] for score in index["scores"]] == ["reference"]


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no records in"):
        write_index(tmp_path, tmp_path / "index.json")
