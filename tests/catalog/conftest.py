"""A folder of entries that tests write into."""

from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.schema import FOLDERS

Write = Callable[..., Path]

GIVEN = {
    "paper": {"title": "Masked words, a study", "year": "2018", "tags": "[pretraining]", "arxiv": '"1810.04805"'},
    "article": {"title": "A walk through", "year": "2019", "tags": "[explainer]", "url": "https://example.org/post"},
    "repository": {"title": "bert", "year": "2018", "tags": "[pytorch]", "url": "https://github.com/someone/bert"},
    "model": {"title": "bert-base", "year": "2018", "tags": "[pretraining]", "url": "https://example.org/bert-base"},
    "dataset": {"title": "GLUE", "year": "2018", "tags": "[benchmark]", "url": "https://gluebenchmark.com"},
}


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    """An empty catalog."""
    for folder in FOLDERS:
        (tmp_path / "entries" / folder).mkdir(parents=True)
    return tmp_path / "entries"


@pytest.fixture
def write(entries: Path) -> Write:
    """``write("bert", "paper", year="2019", doi=None)``: a good entry but for the fields given; None leaves one out.

    Values stand in the file as they are given; the fields are in lines 1 (id), 2 (kind), 3 (title), 4 (year),
    5 (tags), 6 (the identifier), and then those that are given and not among these, in order.
    """

    def write_entry(name: str, kind: str = "paper", **fields: str | None) -> Path:
        folder = next(folder for folder, each in FOLDERS.items() if each == kind)
        lines = {"id": name, "kind": kind, **GIVEN[kind], **fields}
        file = entries / folder / f"{name}.yaml"
        file.write_text("".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None), "utf-8")
        return file

    return write_entry
