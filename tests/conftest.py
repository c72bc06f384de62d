"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest


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
