"""The theme's search: the script that is put right is the one that the site has."""

from pathlib import Path

import pytest

from catalog.errors import Failure
from catalog.site import theme_search


def test_the_script_keeps_labels_and_numbers_apart() -> None:
    place, script = theme_search.repaired()
    assert place.name.startswith("search.")
    assert theme_search.REPAIR in script
    assert theme_search.FAULT not in script


def test_another_theme_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(theme_search, "WORKERS", tmp_path)
    with pytest.raises(Failure, match="is not the one that catalog/site/theme_search"):
        theme_search.repaired()
