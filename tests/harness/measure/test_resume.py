"""Runs that are killed and started again, and two at once in one folder: nothing is lost, repeated or half-read.

Real processes on the real main path; only what computes (training, parity, timing) is a stand-in that takes
milliseconds. Those that are killed are forked, so that each starts at once, with everything imported.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.records import record
from harness.records.record import Quality
from tests.conftest import new_cache

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
RUNS = 2 * 2 * 3 * 2  # implementations, tasks, seeds, precisions
PATIENCE = 900  # seconds; ten suffice on a quiet machine
STAND_INS = """
import os
import random
import sys
import time
from pathlib import Path

from harness.measure import evaluate, main_path, parity, quality, speed
from harness.measure.bench import Bench
from harness.weights.checkpoints import Checkpoints
from harness.measure.plan import Options, prepare_each

folder, weights, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])


def work(result):
    time.sleep(random.uniform(0, seconds))
    said = [result.implementation["name"], result.task["name"], result.seed, result.precision["resolved"]]
    with (folder / "log").open("a") as log:  # one write, at the end of the file
        log.write(" ".join(map(str, said)) + "\\n")
    return {"dev": [[str(number), "negative"] for number in range(50)]}


def fine_tuned(bench, run, result, keep=None, for_encoders=None):
    predictions = work(result)
    if for_encoders is not None:
        for name in ("bert_atlas.json", "config.json", "model.safetensors"):
            (for_encoders / name).write_text('{"record": "1"}')
    return predictions


def encoded(bench, run, result, worker, tuned):
    assert sorted(path.name for path in tuned.iterdir()) == ["bert_atlas.json", "config.json", "model.safetensors"]
    return work(result)


def measure(bench, implementation, target, result):
    result.verdict = "exact"
    result.implementation["trainable"] = implementation.name == "reference"


class NoWorker:
    alive = True

    def close(self):
        pass


evaluate.fine_tuned, evaluate.encoded = fine_tuned, encoded
parity._measure, parity._target = measure, lambda *_: None
Bench.start = lambda *_, **__: NoWorker()
speed.run_speed = lambda *_: iter(())
os.fsync = lambda _: time.sleep(0.003)  # a file is half-written for this long, on the fastest disk too
Checkpoints.with_head = lambda self, task, seed: self.folder


def plans_for(runs):
    names, tasks = ["reference", "transformers"], ["mini-sentiment", "mini-ner"]
    seeds = (42, 43, 44)
    return prepare_each(Options(names, tasks, weights=weights, runs=runs, device="cpu", seeds=seeds), ["fp32", "bf16"])
"""
# Kills as many processes as asked, in one folder after another, and checks all records after each.
KILLER = """
import dataclasses
import json
import signal
import traceback

from harness.records import record
from tests.conftest import new_cache

RUNS, KILLS = int(sys.argv[4]), int(sys.argv[5])
plans = plans_for(folder / "unused")
chance = random.Random(20181011)
kills = halves = finished = 0


def plans_in(runs):
    return [dataclasses.replace(each, options=dataclasses.replace(each.options, runs=runs)) for each in plans]


def start(plans):
    pid = os.fork()
    if pid:
        return pid
    try:
        assert len(list(main_path.run(plans, lambda *_: None))) == RUNS + 2
    except BaseException:
        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def look(runs):
    # Every record is whole, with its predictions; and which file it is, so that a second writing would show.
    found = {}
    for path in runs.rglob("*.json"):
        each = record.read(path)
        assert each.state == "ok"
        if isinstance(each, record.Quality):
            assert len(record.read_predictions(path.with_name(each.predictions))["dev"]) == 50
        found[path.name] = (path.stat().st_ino, path.stat().st_mtime_ns, each.started)
    return found


for name in ("first", "undisturbed"):  # after the first, what keys are made of is known to all that are forked
    os.environ["BERT_ATLAS_CACHE"] = new_cache(folder / f"cache-of-{name}")
    began = time.perf_counter()
    assert len(list(main_path.run(plans_in(folder / name), lambda *_: None))) == RUNS + 2
    longest = time.perf_counter() - began
while kills < KILLS:
    runs = folder / str(finished)
    os.environ["BERT_ATLAS_CACHE"] = new_cache(folder / f"cache-{finished}")
    before, code = {}, None
    while code != 0:
        pid = start(plans_in(runs))
        if kills < KILLS:
            time.sleep(chance.uniform(0, longest / 2))
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, -signal.SIGKILL), code
        kills += code != 0
        halves += any(runs.rglob("*.part"))
        now = look(runs)
        assert before.items() <= now.items(), "a finished run was lost, or done again"
        before = now
    assert len(before) == RUNS + 2
    left = [*runs.rglob("*.part"), *(folder / f"cache-{finished}").rglob(".part-*")]
    assert not left, left
    finished += 1
print(json.dumps({"kills": kills, "halves": halves, "finished": finished}))
"""
# Two of these wait for each other, then go.
ONE_OF_TWO = """
waited = []
plans = plans_for(folder / "runs")
(folder / f"ready-{os.getpid()}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.02)
states = [each.state for each in main_path.run(plans, lambda what, *_: waited.append(what))]
assert set(states) == {"ok"}
print(len(states), sum("another process" in what for what in waited))
"""
# Five processes, forked, do three shares in one folder: two shares were started twice, as after a time-out; two
# processes are killed and one is suspended until the others have taken its work over. Then the same, a folder a share.
SHARES = """
import dataclasses
import json
import shutil
import signal
import traceback

from harness import claims
from harness.records import record
from harness.shares import Share

claims.POLL, claims.BEAT, claims.DEAD = 0.01, 0.05, 1.0
every, shares = plans_for(folder / "unused"), [Share(number, 3) for number in (1, 2, 3)]


def of_share(share, runs):
    said = [dataclasses.replace(each.options, share=share, runs=runs) for each in every]
    return [dataclasses.replace(each, options=options) for each, options in zip(every, said)]


plans = {share: of_share(share, folder / "runs") for share in shares}
apart = {share: of_share(share, folder / f"apart-{share.number}") for share in shares}
list(main_path.run(of_share(None, folder / "first"), lambda *_: None))  # what keys are made of is then known to all
(folder / "log").unlink()
shutil.rmtree(os.environ["BERT_ATLAS_CACHE"] + "/tuned")


def start(plans):
    pid = os.fork()
    if not pid:
        try:
            list(main_path.run(plans, lambda *_: None))
        except BaseException:
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    return pid


def codes(pids):
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


pids = [start(plans[share]) for share in (*shares, *shares[:2])]
time.sleep(2 * seconds)
for pid, what in zip(pids, (signal.SIGSTOP, signal.SIGKILL, signal.SIGKILL)):
    os.kill(pid, what)
assert set(codes(pids[1:3])) <= {0, -signal.SIGKILL}
others = codes(pids[3:])
os.kill(pids[0], signal.SIGCONT)
again = start(plans[shares[2]])
assert [*others, *codes([pids[0], again])] == [0] * 4
done = [tuple(line.split()) for line in (folder / "log").read_text().splitlines()]
assert codes(map(start, apart.values())) == [0] * 3
for share in shares:
    shutil.copytree(folder / f"apart-{share.number}", folder / "merged", dirs_exist_ok=True)
print(json.dumps({"done": len(done), "once": len(set(done))}))
"""


@pytest.fixture
def environment_of_runs(tmp_path: Path) -> dict[str, str]:
    """Temporary files and caches inside the test's folder: what is killed cannot tidy up."""
    (tmp_path / "tmp").mkdir()
    own = {"TMPDIR": str(tmp_path / "tmp"), "BERT_ATLAS_CACHE": new_cache(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    return os.environ | own


@pytest.mark.parametrize("kills", [25, pytest.param(100, marks=pytest.mark.soak)])
def test_killed_at_any_moment_nothing_is_lost_repeated_or_half_read(
    tiny_checkpoint: Path, tmp_path: Path, environment_of_runs: dict[str, str], kills: int
) -> None:
    arguments = [str(tmp_path), str(tiny_checkpoint), "0.004", str(RUNS), str(kills)]
    done = subprocess.run(
        [sys.executable, "-c", STAND_INS + KILLER, *arguments],
        env=environment_of_runs,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["kills"] == kills
    assert kills / 50 < said["finished"] < kills / 2, "the kills came early or late, not in between"
    assert said["halves"] > 0, "none came in the middle of writing"
    assert done.stderr == ""


def test_two_processes_share_the_work_of_one_folder(
    tiny_checkpoint: Path, tmp_path: Path, environment_of_runs: dict[str, str]
) -> None:
    command = [sys.executable, "-c", STAND_INS + ONE_OF_TWO, str(tmp_path), str(tiny_checkpoint), "0.02"]
    options: dict[str, Any] = {"env": environment_of_runs, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, text=True, **options) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    counts = [tuple(map(int, out.split())) for out, _ in said]
    assert [records for records, _ in counts] == [RUNS + 2] * 2, "each has all records, whoever made them"
    assert sum(waits for _, waits in counts) > 0, "one said that it waits for the other"
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == len(set(lines)) == RUNS, "every run was done once"
    found = [each for each in record.read_all([tmp_path / "runs"]) if isinstance(each, Quality)]
    assert len({each.key for each in found}) == len(found) == RUNS
    assert all(record.read_predictions(tmp_path / "runs" / "quality" / str(each.predictions)) for each in found)


@pytest.mark.soak
def test_shares_in_one_folder_or_merged_from_several_are_the_runs_of_one_process(
    tiny_checkpoint: Path, tmp_path: Path, environment_of_runs: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STAND_INS + SHARES, str(tmp_path), str(tiny_checkpoint), "0.1"],
        env=environment_of_runs,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["once"] == RUNS
    assert said["done"] <= RUNS + 3, "only what was under way when it was disturbed is done again"
    for name in ("runs", "merged"):
        found = [each for each in record.read_all([tmp_path / name]) if isinstance(each, Quality)]
        assert len({each.key for each in found}) == len(found) == RUNS
        assert all(record.read_predictions(tmp_path / name / "quality" / str(each.predictions)) for each in found)
        assert not list((tmp_path / name).rglob(".*.claim-*"))
    assert {path.name for path in (tmp_path / "runs").rglob("*.json")} == {
        path.name for path in (tmp_path / "merged").rglob("*.json")
    }
