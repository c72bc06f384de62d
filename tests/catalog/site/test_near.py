"""Which entries are near in meaning, from a file of vectors."""

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from catalog.errors import BadInput
from catalog.load import load
from catalog.site import near
from tests.catalog.conftest import Write
from tests.catalog.site.views import view_of

VECTORS = {"One.": [1.0, 0.0], "Like one.": [2.0, 0.2], "A bit.": [1.0, 1.0], "Another thing.": [-1.0, 0.1]}


@pytest.fixture
def catalog(entries: Path, write: Write) -> Path:
    for number, text in enumerate(VECTORS):
        write(f"e{number}", arxiv=f'"1901.{number:05}"', summary_en=text)
    write("silent", arxiv='"1902.00001"')
    return entries


def written(path: Path, vectors: dict[str, list[float]]) -> Path:
    table = pyarrow.table({"text": list(vectors), "vector": list(vectors.values())})
    parquet.write_table(table.replace_schema_metadata({"model": "minilm-l6"}), path)
    return path


def test_the_nearest_come_first_and_the_distant_not_at_all(catalog: Path, tmp_path: Path) -> None:
    found = near.read(written(tmp_path / "v.parquet", VECTORS), load(catalog))
    assert found.weights == "minilm-l6"
    assert [(name, round(cosine, 2)) for name, cosine in found.neighbours["e0"]] == [("e1", 1.0), ("e2", 0.71)]
    assert found.neighbours["e3"] == []
    assert "silent" not in found.neighbours


def test_a_vector_of_a_former_summary_is_not_used(catalog: Path, write: Write, tmp_path: Path) -> None:
    file = written(tmp_path / "v.parquet", VECTORS)
    write("e1", arxiv='"1901.00001"', summary_en="Changed.")
    assert [name for name, _ in near.read(file, load(catalog)).neighbours["e0"]] == ["e2"]


def test_what_the_page_links_already_is_left_out(catalog: Path, write: Write, tmp_path: Path) -> None:
    write("e0", arxiv='"1901.00000"', summary_en="One.", builds_on="[e1]")
    view = view_of(catalog, near=near.read(written(tmp_path / "v.parquet", VECTORS), load(catalog)))
    assert [each["id"] for each, _ in view.near(view.by_id["e0"])] == ["e2"]


def test_summaries_are_json_lines_each_once(catalog: Path, write: Write) -> None:
    write("twin", arxiv='"1902.00002"', summary_en="One.")
    assert [json.loads(line)["text"] for line in near.summaries(load(catalog)).splitlines()] == list(VECTORS)


@pytest.mark.parametrize("content", [b"", b"no parquet"])
def test_another_file_is_refused(content: bytes, catalog: Path, tmp_path: Path) -> None:
    (tmp_path / "v.parquet").write_bytes(content)
    with pytest.raises(BadInput, match="is not a file of vectors of `python -m harness embed`"):
        near.read(tmp_path / "v.parquet", load(catalog))


def test_a_table_without_vectors_is_refused(catalog: Path, tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ["One."]}), tmp_path / "v.parquet")
    with pytest.raises(BadInput, match="is not a file of vectors"):
        near.read(tmp_path / "v.parquet", load(catalog))


@pytest.mark.parametrize("wrong", [[1.0], [float("nan"), 0.0]])
def test_vectors_of_two_lengths_or_without_a_number_are_refused(
    wrong: list[float], catalog: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput):
        near.read(written(tmp_path / "v.parquet", VECTORS | {"One.": wrong}), load(catalog))
