"""One piece of work in a process of its own, and the CPUs that it is pinned to."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import affinity
from harness.cluster import on_ray, unit
from harness.cluster.pinning import pinned
from harness.data import fetch
from harness.errors import Failure
from harness.measure import main_path
from harness.measure.plan import Options, Plan
from harness.records import record
from harness.shares import Only

ROOT = Path(__file__).parents[3]


@pytest.fixture
def order(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """A function: what is ordered, and options, to the order as a machine reads it."""
    monkeypatch.setattr(unit, "_folder", lambda command: tmp_path / command)
    usual = Options(["reference"], ["mini-sentiment"], weights=str(tiny_checkpoint), device="cpu", threads=1)

    def make(what: str, **options: Any) -> dict[str, Any]:
        ordered = unit.order_of(replace(usual, **options), ["fp32"], what, "command")
        return json.loads(json.dumps(ordered))  # type: ignore[no-any-return]

    return make


def silent(message: dict[str, Any]) -> None:
    """Progress is not looked at."""


def test_options_arrive_as_they_were_typed(order: Callable[..., Any], tmp_path: Path) -> None:
    options = {"seeds": (1, 2), "splits": ("dev",), "shapes": ((1, 16),), "data": tmp_path, "limit": 3}
    read = unit._options(order("work", **options, share=Only("reference", "rte", 7))["options"], tmp_path / "runs")
    assert {name: getattr(read, name) for name in options} == options
    assert read.share == Only("reference", "rte", 7)
    assert read.runs == tmp_path / "runs"


def test_a_folder_of_data_that_is_not_here_is_the_one_that_this_machine_names(
    order: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERT_ATLAS_DATA", str(tmp_path / "here"))
    read = unit._options(order("work", data=tmp_path / "there")["options"], tmp_path)
    assert fetch.data_folder(read.data) == tmp_path / "here"


def test_a_check_says_what_this_machine_is_and_names_the_records_it_would_make(
    order: Callable[..., Any], prepared: Callable[..., Plan]
) -> None:
    said = unit.carry_out(order("check"), silent)
    assert said["machine"] == unit.about()
    plan = prepared(precision="fp32")
    assert json.loads(json.dumps(said["known"])) == json.loads(json.dumps(unit._known([plan])))
    assert said["known"][0]["run"] == ["reference", "mini-sentiment", 42]


def test_data_that_is_missing_is_fetched_and_what_cannot_be_is_said(
    order: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def get(names: list[str], folder: Path) -> None:
        asked.append((names, folder))
        raise Failure("dl.fbaipublicfiles.com does not answer")

    monkeypatch.setattr(fetch, "get", get)
    (tmp_path / "data").mkdir()
    said = unit.carry_out(order("check", tasks=["rte"], data=tmp_path / "data"), silent)
    assert asked == [(["rte"], tmp_path / "data")]
    assert said == {"unfit": "dl.fbaipublicfiles.com does not answer"}
    said = unit.carry_out(order("work", tasks=["rte"], data=tmp_path / "data"), silent)
    assert "RTE/train.tsv is not there" in said["unfit"], "a run finds it missing too, and another machine may have it"


def test_a_full_disk_is_the_machines_and_is_not_recorded(
    order: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(main_path, "run", full)
    assert "the disk is full" in unit.carry_out(order("work"), silent)["unfit"]
    assert not list(tmp_path.rglob("*.json"))


def test_files_of_records_come_with_their_predictions_first(
    tmp_path: Path, quality_record: Callable[..., Any], put: Callable[..., Path]
) -> None:
    each = quality_record(key="0123456789abcdef")
    put(each, tmp_path / "quality" / "reference-rte-42-0123456789ab.json")
    put(quality_record(key="other"), tmp_path / "quality" / "reference-rte-43-ffffffffffff.json")
    (tmp_path / "quality" / ".reference-rte-42-0123456789ab.lock").touch()
    names = [name for name, _ in unit._files(tmp_path, [each])]
    stem = "quality/reference-rte-42-0123456789ab"
    assert names == [f"{stem}.predictions.json.gz", f"{stem}.json"]


@pytest.mark.slow
def test_a_run_in_a_process_of_its_own_sends_its_record(order: Callable[..., Any], tmp_path: Path) -> None:
    said = order("work", limit=8, epochs=1, share=Only("reference", "mini-sentiment", 42))
    said["command"] = f"test-{os.getpid()}"
    folder = unit.Path(unit.tempfile.gettempdir()) / f"{unit.FOLDER}{said['command']}"
    try:
        *_, last = map(json.loads, on_ray.work(json.dumps(said), 1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    kinds = sorted(name.partition("/")[0] for name in last["files"])
    assert kinds == ["parity", "quality", "quality"], last
    name = next(name for name in last["files"] if name.startswith("quality") and name.endswith(".json"))
    (tmp_path / "received.json").write_bytes(unit.base64.b64decode(last["files"][name]))
    assert record.read(tmp_path / "received.json").state == "ok"


def test_the_process_is_pinned_and_sees_the_gpu_that_the_engine_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    before = os.sched_getaffinity(0)
    first, last = map(json.loads, on_ray.work(json.dumps({"what": "nothing"}), 1))
    assert len(first["cpus"]) == 1
    assert first["gpus"] == "3"
    assert last == {"files": {}}
    assert os.sched_getaffinity(0) == before


def test_a_process_that_dies_says_so() -> None:
    *_, last = map(json.loads, on_ray.work("no order", 1))
    assert "ended with 1" in last["lost"]
    assert "JSONDecodeError" in last["lost"]


def test_the_process_ends_when_its_engine_does() -> None:
    code = (
        "import json, sys, time; from harness.cluster import unit;"
        "unit.carry_out = lambda *_: time.sleep(600); unit.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"{}\n")
    process.stdin.flush()
    assert b"cpus" in process.stdout.readline()
    process.stdin.close()
    assert process.wait(timeout=60) == -9
    process.stdout.close()
    assert not psutil.pid_exists(process.pid)


@pytest.mark.skipif(len(affinity.CPUS) < 2, reason="one CPU")
def test_two_pieces_never_compute_on_one_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit.tempfile, "tempdir", str(tmp_path))
    code = (
        "import sys, time; from harness.cluster.pinning import pinned\n"
        "with pinned(1) as cpus: print(*cpus, flush=True); sys.stdin.readline()"
    )
    variables = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
    )
    assert other.stdout is not None
    theirs = int(other.stdout.readline())
    with pinned(1) as mine:
        assert mine != [theirs]
        assert os.sched_getaffinity(0) == set(mine)
    other.kill()
    other.communicate()
    began = time.monotonic()
    with pinned(len(affinity.CPUS)) as all_of_them:
        assert all_of_them == affinity.CPUS
    assert time.monotonic() - began < 60, "a killed process frees its CPUs"
    with pinned(len(affinity.CPUS) + 1) as none:
        assert none == []
