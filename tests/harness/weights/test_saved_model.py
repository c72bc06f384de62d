"""What a saved model says of itself."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.data.task import load_task
from harness.errors import BadInput
from harness.weights.saved_model import DESCRIPTION, describe, read_description


def test_the_whole_task_is_kept_and_how_the_run_computed(tmp_path: Path) -> None:
    task = replace(load_task("msra_ner", "document"), separator="tab", encoding="gbk", max_length=77)
    describe(task, "0" * 64, "cuda:1", "bf16", tmp_path)
    saved = read_description(tmp_path)
    assert saved.reading == task
    assert (saved.device, saved.precision, saved.lacks) == ("cuda", "bf16", "")


def test_no_folder_of_its_owner_is_written_down(tmp_path: Path) -> None:
    task = load_task("rte")
    mine = replace(task, files={"dev": replace(task.files["dev"], path=tmp_path / "dev.tsv")}, evaluate=("dev",))
    describe(mine, "0" * 64, "cpu", "fp32", tmp_path)
    assert str(tmp_path) not in (tmp_path / DESCRIPTION).read_text(encoding="utf-8")
    assert read_description(tmp_path).reading.files["dev"].path == Path("dev.tsv")


def test_a_folder_of_an_older_version_says_what_it_lacks(tmp_path: Path) -> None:
    said = {"task": "mine", "kind": "regression", "pairs": True, "max_length": 32, "record": "0" * 64}
    (tmp_path / DESCRIPTION).write_text(json.dumps(said))
    saved = read_description(tmp_path)
    assert saved.reading.files["test"].columns == {"text": "text", "pair": "pair"}
    assert (saved.reading.max_length, saved.precision) == (32, None)
    assert "columns and encoding" in saved.lacks


def test_a_model_that_another_program_saved_is_told_by_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BadInput, match=rf"it has no {DESCRIPTION}.*run --task TASK.yaml --weights"):
        read_description(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "should have task, kind, pairs, max_length"),
        ('{"kind": "tagging"}', "should have task, kind, pairs, max_length"),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / DESCRIPTION).write_text(content)
    with pytest.raises(BadInput, match=message):
        read_description(tmp_path)


@pytest.mark.parametrize("lost", ["device", "declared.kind"])
def test_a_description_that_lost_a_field_is_refused(tmp_path: Path, lost: str) -> None:
    describe(load_task("rte"), "0" * 64, "cpu", "fp32", tmp_path)
    said = json.loads((tmp_path / DESCRIPTION).read_text())
    outer, _, inner = lost.partition(".")
    if inner:
        del said[outer][inner]
    else:
        del said[outer]
    (tmp_path / DESCRIPTION).write_text(json.dumps(said))
    with pytest.raises(BadInput, match=rf"{DESCRIPTION}.*field '?{inner or outer}"):
        read_description(tmp_path)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent is not a folder that .* there is no such folder"):
        read_description(tmp_path / "absent")
