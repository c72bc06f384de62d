"""Which CPUs compute, whatever a cluster's variables tell the libraries that are loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.measure.client import Worker
from harness.records import machine
from harness.registry.implementations import describe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no process is bound to CPUs here"),
]
STUBS = Path(__file__).parent / "stubs"
ALLOWED = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
ASKED = """
from harness.records import machine
import torch
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
import json, os
cpus = machine.cpus_for(machine.usable_threads())
print(json.dumps([machine.usable_cores(), cpus, sorted(os.sched_getaffinity(0))]))
"""
BINDINGS = [
    {"OMP_PROC_BIND": "true"},
    {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"},
    {"GOMP_CPU_AFFINITY": str(ALLOWED[0])},
    {"KMP_AFFINITY": "granularity=fine,compact,1,0", "OMP_PLACES": "{0}"},
]


def asked(environment: dict[str, str], *prefix: str) -> list[object]:
    command = [*prefix, sys.executable, "-c", ASKED]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    found: list[object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda each: ",".join(each))
def test_a_library_that_binds_its_threads_does_not_change_the_machine(binding: dict[str, str]) -> None:
    """What the harness computes itself may use all of them too."""
    assert asked(binding) == [machine.usable_cores(), ALLOWED, ALLOWED]


def test_a_process_that_was_given_one_cpu_uses_that_one() -> None:
    last = ALLOWED[-1]
    assert asked({"OMP_PROC_BIND": "true"}, "taskset", "-c", str(last)) == [1, [last], [last]]


@pytest.mark.parametrize("binding", BINDINGS[:3:2], ids=lambda each: ",".join(each))
def test_a_worker_computes_on_all_cpus_that_it_was_given(
    monkeypatch: pytest.MonkeyPatch, binding: dict[str, str]
) -> None:
    for name, value in binding.items():
        monkeypatch.setenv(name, value)
    with Worker(describe(STUBS / "bound.py")[0]) as worker:
        worker.load(Path("f"), None, "cpu", "fp32", len(ALLOWED))
        threads, *cpus = map(int, worker.info["version"].split())
    assert (threads, cpus) == (len(ALLOWED), ALLOWED)


def test_what_a_shell_tells_libraries_for_other_work_reaches_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer threads than asked for, float32 that is not, or a wait for every kernel would be another measurement."""
    other = {"OMP_THREAD_LIMIT": "1", "OMP_DYNAMIC": "true", "OMP_WAIT_POLICY": "active", "KMP_BLOCKTIME": "0"}
    other |= {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "NVIDIA_TF32_OVERRIDE": "1", "CUDA_LAUNCH_BLOCKING": "1"}
    other |= {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "TORCHDYNAMO_DISABLE": "1", "PYTHONMALLOC": "debug"}
    kept = {"KMP_DUPLICATE_LIB_OK": "TRUE", "SOME_SETTING": "1"}  # the first, as torch may not start without it
    for name, value in (other | kept).items():
        monkeypatch.setenv(name, value)
    with Worker(describe(STUBS / "variables.py")[0]) as worker:
        worker.load(Path("f"), None, "cpu", "fp32", 1)
        assert worker.info["version"] == "KMP_DUPLICATE_LIB_OK=TRUE OMP_NUM_THREADS=1 SOME_SETTING=1"
