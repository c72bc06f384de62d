"""The scripts of the guide's page on several machines: each job of theirs does its own share."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from harness.records import record
from harness.records.record import Quality

ROOT = Path(__file__).parents[3]
LANGUAGES = ("en", "zh")


def block(language: str, mark: str) -> str:
    """The fenced block under a comment with this mark."""
    page = (ROOT / f"docs/{language}/guide/cluster.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def shard_of(tmp_path: Path) -> Callable[..., str]:
    """A function: a shell command, and variables, to the share that it asks for; nothing is run."""
    (tmp_path / "python").write_text('#!/bin/sh\nfor last; do :; done\necho "$1 $2 $3 $last"\n')
    (tmp_path / "python").chmod(0o755)

    def ask(command: list[str], **variables: str) -> str:
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command, env=os.environ | {"PATH": path} | variables, capture_output=True, text=True, check=True
        )
        *start, share = done.stdout.split()
        assert start == ["-m", "harness", "run"]
        return share

    return ask


@pytest.mark.parametrize("language", LANGUAGES)
def test_jobs_of_a_slurm_array(language: str, shard_of: Callable[..., str], tmp_path: Path) -> None:
    script = tmp_path / "atlas.sh"
    script.write_text(block(language, "slurm"))
    asked = [shard_of(["sh", str(script)], SLURM_ARRAY_TASK_ID=str(number), SHARES="3") for number in (1, 2, 3)]
    assert asked == ["1/3", "2/3", "3/3"]
    without = {name: value for name, value in os.environ.items() if name != "SHARES"}
    done = subprocess.run(
        ["sh", str(script)], env=without | {"SLURM_ARRAY_TASK_ID": "1"}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "SHARES" in done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_pods_of_an_indexed_job(language: str, shard_of: Callable[..., str]) -> None:
    spec = yaml.safe_load(block(language, "kubernetes"))["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    command = [*container["command"], *container["args"]]
    asked = [shard_of(command, JOB_COMPLETION_INDEX=str(index)) for index in range(spec["completions"])]
    assert asked == [f"{number}/{spec['completions']}" for number in range(1, spec["completions"] + 1)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_nodes_of_a_skypilot_task(language: str, shard_of: Callable[..., str]) -> None:
    task = yaml.safe_load(block(language, "skypilot"))
    nodes = task["num_nodes"]
    variables = [{"SKYPILOT_NODE_RANK": str(rank), "SKYPILOT_NUM_NODES": str(nodes)} for rank in range(nodes)]
    asked = [shard_of(["bash", "-c", task["run"]], **each) for each in variables]
    assert asked == [f"{number}/{nodes}" for number in range(1, nodes + 1)]


@pytest.mark.soak
def test_an_array_of_real_jobs_on_this_machine(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitit = pytest.importorskip("submitit", reason="submitit is not installed: pip install submitit")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SHARES", "2")
    script, runs = tmp_path / "atlas.sh", tmp_path / "runs"
    script.write_text(block("en", "slurm"))
    options = ["--weights", tiny_checkpoint, "--tasks", "mini-sentiment,mini-ner", "--seeds", "2", "--runs", runs]
    options += ["--limit", "16", "--epochs", "1", "--threads", "1", "--device", "cpu"]
    executor = submitit.LocalExecutor(folder=tmp_path / "logs")
    executor.update_parameters(timeout_min=60)
    command = ["sh", script, *options]
    jobs = [
        executor.submit(
            submitit.helpers.CommandFunction(list(map(str, command)), env={**os.environ, "SLURM_ARRAY_TASK_ID": number})
        )
        for number in ("1", "2")
    ]
    for job in jobs:
        job.result()  # raises if the command failed
    found = [each for each in record.read_all([runs]) if isinstance(each, Quality)]
    assert [each.state for each in found] == ["ok"] * 4
    assert len({each.key for each in found}) == 4
