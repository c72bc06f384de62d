"""What an empty run costs on each engine: ``python tests/benchmarks/engine_overhead.py``, in seconds, on this machine.

Medians; the machine should be quiet. Ray is left out where it is not installed.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from harness.claims import Claims
from harness.cluster import on_ray
from harness.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
NOTHING = json.dumps({"what": "nothing"})
SHARE = ["--tasks", "mini-sentiment", "--shard", "1000000/1000000"]  # it has no run


def seconds(work: Callable[[], object], times: int) -> float:
    """The median of some repetitions."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return median(taken)


def claim(path: Path) -> None:
    with Claims().on(path, lambda: None) as one:
        assert one.seal()


def share(runs: Path) -> None:
    command = [sys.executable, "-m", "harness", "run", *SHARE, "--runs", str(runs)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def on_this_machine() -> None:
    *_, last = map(json.loads, on_ray.work(NOTHING, 1))
    assert last == {"files": {}}


def ray_figures() -> dict[str, float]:
    start = time.perf_counter()
    with on_ray._connected(None) as ray:
        figures = {"Ray: start": time.perf_counter() - start}
        remote = ray.remote(num_returns="streaming", max_retries=0, num_cpus=1)(on_ray.work)

        def one() -> None:
            *_, last = (json.loads(ray.get(line)) for line in remote.remote(NOTHING, 1))
            assert last == {"files": {}}

        figures["Ray: the first run, for which it starts a process"] = seconds(one, 1)
        figures["Ray: each further run"] = seconds(one, 7)
    return figures


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "share: a claim, taken, sealed and released": seconds(lambda: claim(Path(folder) / "record.json"), 200),
            "share: the command, when it has nothing to do": seconds(lambda: share(Path(folder)), 5),
            "a process for one run": seconds(on_this_machine, 7),
        }
    try:
        figures |= ray_figures()
    except BadInput as error:
        print(f"without Ray: {error}", file=sys.stderr)
    for what, took in figures.items():
        print(f"{took:10.4f} s  {what}")


if __name__ == "__main__":
    main()
