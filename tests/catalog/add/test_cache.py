"""One folder for what can be downloaded again: catalog and harness, which do not import each other, agree on it."""

from pathlib import Path

import pytest

from catalog.add import fetch
from harness import files


@pytest.mark.parametrize("given", ["plain", "~/of-the-home", None])
def test_the_catalog_keeps_its_answers_in_the_cache_of_the_harness(
    given: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "platform"))
    monkeypatch.delenv("BERT_ATLAS_CACHE", raising=False)
    if given:
        monkeypatch.setenv("BERT_ATLAS_CACHE", given if given.startswith("~") else str(tmp_path / given))
    expected = {"plain": tmp_path / "plain", "~/of-the-home": tmp_path / "home/of-the-home"}
    assert (
        fetch.cache_folder().parent
        == files.cache_folder()
        == expected.get(str(given), tmp_path / "platform/bert-atlas")
    )
