"""The same 24 runs by one process, by a cluster that loses a machine, and by shares of which one is killed.

Real processes that really train: two raylets on this machine are the cluster's two machines.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.records import record
from harness.records.record import Quality

ROOT = Path(__file__).parents[3]
NAMES = "reference,transformers,pytorch-pretrained-bert,tbert,simple-bert-pytorch,curated-transformers"
TASKS = "mini-sentiment,mini-paraphrase,mini-ner,mini-similarity"
RUNS = 6 * 4
PATIENCE = 3600  # seconds; a quiet machine takes some minutes
Command = Callable[..., "subprocess.Popen[str]"]
pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def command(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A function that starts ``run`` with a folder of records and further options."""
    own = {"BERT_ATLAS_CACHE": str(tmp_path_factory.mktemp("cache")), "PYTHONPATH": str(ROOT)}
    usual = ["--weights", str(tiny_checkpoint), "--impl", NAMES, "--tasks", TASKS, "--limit", "16", "--epochs", "1"]
    usual += ["--threads", "1", "--device", "cpu", "--precision", "fp32"]

    def start(runs: Path, *options: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "harness", "run", *usual, "--runs", str(runs), *options],
            env=os.environ | own,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    out, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, out


def results(runs: Path) -> dict[tuple[str, str], Any]:
    """Scores and predictions of every run, none of which is recorded twice."""
    found = [each for each in record.read_all([runs]) if isinstance(each, Quality)]
    assert all(each.state == "ok" for each in found), [each.reason for each in found]
    by_run = {(each.implementation["name"], each.task["name"]): each for each in found}
    assert len(by_run) == len(found) == RUNS
    return {
        run: (each.metrics, record.read_predictions(runs / "quality" / str(each.predictions)))
        for run, each in by_run.items()
    }


@pytest.fixture(scope="module")
def of_one_process(command: Command, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    runs = tmp_path_factory.mktemp("one") / "runs"
    code, said = ended(command(runs))
    assert code == 0, said
    return results(runs)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head that computes nothing, and two machines of one CPU each."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def wait_for(process: "subprocess.Popen[str]", runs: Path, count: int) -> None:
    """Until so many runs are recorded."""
    while len(list((runs / "quality").glob("*.json"))) < count:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)


def test_a_machine_that_is_killed_costs_no_record_and_no_digit(
    command: Command, cluster: Any, of_one_process: dict[tuple[str, str], Any], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    process = command(runs, "--on", f"ray:{cluster.address}")
    wait_for(process, runs, 6)
    (raylet,) = cluster.worker_nodes.copy().pop().all_processes["raylet"]
    os.kill(raylet.process.pid, signal.SIGKILL)
    code, said = ended(process)
    assert code == 0, said
    assert "none is recorded twice" in said
    assert results(runs) == of_one_process


def test_shares_of_which_one_is_killed_and_started_again(
    command: Command, of_one_process: dict[tuple[str, str], Any], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    first, second = command(runs, "--shard", "1/2"), command(runs, "--shard", "2/2")
    wait_for(second, runs, 6)
    second.kill()
    second.communicate()
    again = command(runs, "--shard", "2/2")
    codes = [ended(process) for process in (first, again)]
    assert [code for code, _ in codes] == [0, 0], codes
    assert results(runs) == of_one_process
    assert not list(runs.rglob(".*.claim-*"))
