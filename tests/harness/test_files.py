"""A path that begins with ``~``: the home folder where there is one, else a sentence."""

from pathlib import Path

import pytest

from harness.data.fetch import data_folder
from harness.data.task import load_task
from harness.errors import BadInput
from harness.files import cache_folder, expanded
from harness.weights.find import find_weights


def test_the_home_folder_is_put_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/runs") == tmp_path / "runs"
    assert expanded(Path("runs/~")) == Path("runs/~")


def test_a_user_that_is_not_there_is_bad_input_wherever_a_path_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERT_ATLAS_CACHE", "~nobody-at-all/cache")
    for use in (
        lambda: find_weights("~nobody-at-all/bert"),
        lambda: load_task("~nobody-at-all/task.yaml"),
        lambda: data_folder(Path("~nobody-at-all/data")),
        cache_folder,
    ):
        with pytest.raises(BadInput, match="no home folder is known for ~nobody-at-all; write the path out"):
            use()
