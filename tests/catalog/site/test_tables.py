"""All figures for other programs, and the records in parts."""

import csv
import json
from pathlib import Path

import pytest

pytest.importorskip("griffe")
pytest.importorskip("pyarrow")

from pyarrow import parquet

from catalog.site import leaderboard
from catalog.site.tables import COLUMNS, PART, figures, record_parts, write_figures
from tests.catalog.site.test_choices import cost
from tests.catalog.site.test_pages import board_of, of, published
from tests.published import published_index


def test_the_three_files_hold_the_same(tmp_path: Path) -> None:
    records = published()
    of(records, "parity")[0] |= {"verdict": "differs", "diagnosis": {"sentence": "=cmd()"}}
    board = board_of(tmp_path, records)
    rows = figures([board], [cost(difference=-0.25)])
    write_figures([board], [cost(difference=-0.25)], tmp_path)
    with (tmp_path / "measured.csv").open(encoding="utf-8") as file:
        as_csv = list(csv.DictReader(file))
    as_json = json.loads((tmp_path / "measured.json").read_text("utf-8"))["figures"]
    as_parquet = parquet.read_table(tmp_path / "measured.parquet").to_pylist()
    assert len(as_csv) == len(as_json) == len(as_parquet) == len(rows)
    assert tuple(as_csv[0]) == COLUMNS
    for plain, text, table in zip(as_json, as_csv, as_parquet, strict=True):
        assert {name: value for name, value in table.items() if value is not None} == plain
        assert (float(text["value"]) if text["value"] else None) == plain.get("value")
        assert text["note"].removeprefix("'") == plain.get("note", "")
    assert as_csv[-1]["value"] == "-0.25", "a number is no formula"
    assert {row["what"] for row in rows} >= {"parity", "inference", "score", "difference to the reference"}


def test_every_record_is_on_one_page_and_no_page_holds_too_many() -> None:
    index = leaderboard.read_index(published_index())
    parts = record_parts(leaderboard.boards(index, published_index()))
    keys = [source.key for part in parts.values() for _, source in part]
    assert sorted(keys) == sorted(each["key"][:12] for each in index["records"])
    assert max(map(len, parts.values())) <= PART
    assert list(parts)[:2] == ["records", "records-2"]
    assert list(record_parts([])) == ["records"]
