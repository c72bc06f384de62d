"""The machine as a record describes it: processor, cores, quotas, memory, GPUs, operating system; no host name."""

import math
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from harness import affinity
from harness.errors import BadInput

PROC, CPUS, CGROUP = Path("/proc"), Path("/sys/devices/system/cpu"), Path("/sys/fs/cgroup")
# Instructions that determine how fast matrices are multiplied: the operating systems' names, and ours.
ABILITIES = {
    **{name: name for name in ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16")},
    **{name: name for name in ("amx_tile", "amx_bf16", "amx_int8", "bf16", "i8mm", "neon")},
    **{"asimd": "neon", "avx2_0": "avx2", "FEAT_BF16": "bf16", "FEAT_I8MM": "i8mm", "AdvSIMD": "neon"},
}
# Switches of libraries that hide instructions, beside ours.
LIBRARY_SWITCHES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def describe() -> dict[str, Any]:
    """Processor, its instructions, the cores and bytes of memory that we may use, GPUs, operating system, Python."""
    model, flags, _ = _processor()
    return {
        "cpu": model,
        "architecture": platform.machine(),
        "flags": flags,
        "hidden": hidden(),
        "cores": usable_cores(),
        "logical_cores": len(affinity.CPUS),
        "memory": _memory(),
        "gpus": [dict(gpu) for gpu in _gpus()],
        "os": _operating_system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def usable_cores() -> int:
    """Number of physical cores that this process may use, by its affinity and its control group's quota.

    ``joblib.cpu_count(only_physical_cores=True)`` counts logical CPUs once affinity restricts them.
    """
    cores = psutil.cpu_count(logical=False) or 1
    if hasattr(os, "sched_getaffinity"):
        siblings = [_words(CPUS / f"cpu{cpu}/topology/thread_siblings_list") for cpu in affinity.CPUS]
        cores = len({words[0] if words else cpu for cpu, words in enumerate(siblings)})
    return max(1, int(min(cores, cpu_quota())))


def usable_threads() -> int:
    """The most threads that can run at once, by affinity and quota: one for each logical CPU."""
    return max(1, int(min(len(affinity.CPUS), cpu_quota())))


def cpu_quota() -> float:
    """The CPU time per second that control groups allow us; infinite without a quota."""
    quota = math.inf
    for folder in _control_groups("cpu"):
        given = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(given) == 2 and given[0].isdigit():  # else "max" or -1: no quota
            quota = min(quota, int(given[0]) / int(given[1]))
    return quota


def throttled() -> tuple[int, float]:
    """How often quotas have stopped the processes of our control groups so far, and for how many CPU seconds."""
    periods, seconds = 0, 0.0
    for folder in _control_groups("cpu"):
        lines = (line.split() for line in _text(folder / "cpu.stat").splitlines())
        said = {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}
        periods += said.get("nr_throttled", 0)
        seconds += said.get("throttled_usec", 0) / 1e6 + said.get("throttled_time", 0) / 1e9
    return periods, seconds


def cpus_for(threads: int | None) -> list[int] | None:
    """CPUs for this many threads, on different cores as far as possible; None: any."""
    if not threads or not hasattr(os, "sched_getaffinity"):
        return None
    by_core: dict[str, list[int]] = {}
    for cpu in affinity.CPUS:
        words = _words(CPUS / f"cpu{cpu}/topology/thread_siblings_list")
        by_core.setdefault(words[0] if words else str(cpu), []).append(cpu)
    ranked = sorted((place, cpu) for cpus in by_core.values() for place, cpu in enumerate(cpus))
    return sorted(cpu for _, cpu in ranked[:threads])


def hardware_bf16() -> bool:
    """Whether this processor multiplies bf16 faster than float32; does not import torch."""
    from reference.processor import PRODUCTS

    return not PRODUCTS["bf16"].isdisjoint(_processor()[1])


def hidden() -> list[str]:
    """The instructions that our switch hides, and the switches of libraries that hide some."""
    return [*_processor()[2], *(f"{name}={os.environ[name]}" for name in LIBRARY_SWITCHES if os.environ.get(name))]


def _processor() -> tuple[str, list[str], list[str]]:
    """Name of the processor, and its ``ABILITIES``: those that may be used, and those that are hidden, sorted."""
    if platform.system() == "Darwin":
        lines = _output("sysctl", "machdep.cpu.brand_string", "hw.optional").splitlines()
        facts = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        names = [name.rpartition(".")[2] for name, value in facts.items() if value == "1"]
        model = facts.get("machdep.cpu.brand_string")
    else:
        lines = _text(PROC / "cpuinfo").splitlines()
        facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        names = facts.get("flags", facts.get("Features", "")).split()
        model = facts.get("model name") or _arm_model()
    found = {ABILITIES[name] for name in names if name in ABILITIES}
    hidden = _hidden_of(found)
    return model or platform.machine(), sorted(found - hidden), sorted(hidden)


def _hidden_of(found: set[str]) -> frozenset[str]:
    from reference import processor

    try:
        return processor.hidden(found)
    except ValueError as error:
        raise BadInput(str(error)) from None


def _arm_model() -> str | None:
    """The processor's name from lscpu: on Arm, the kernel only has numbers."""
    found = re.search(r"^Model name:\s*(.+)$", _output("lscpu"), re.MULTILINE)
    return found[1].strip() if found else None


@cache
def _gpus() -> list[dict[str, Any]]:
    query = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
    rows = [line.split(", ") for line in _output("nvidia-smi", *query).splitlines()]
    return [
        {"name": row[0], "memory": int(row[1]) * 2**20 if row[1].isdigit() else None, "driver": row[2]}
        for row in rows
        if len(row) == 3
    ]


def _operating_system() -> str:
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _memory() -> int:
    """Bytes of memory that the machine has, or that control groups allow us."""
    memory = int(psutil.virtual_memory().total)
    for folder in _control_groups("memory"):
        given = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        if given and given[0].isdigit():
            memory = min(memory, int(given[0]))
    return memory


def _control_groups(controller: str) -> Iterator[Path]:
    """Folders of this process's control group and its ancestors, in either version of control groups."""
    for line in _text(PROC / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = CGROUP / controller if controllers else CGROUP
        folder = top / path.lstrip("/")
        while folder != top:
            yield folder
            folder = folder.parent
        yield top


def _text(path: Path) -> str:
    """The content of a file of the kernel; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _output(*command: str) -> str:
    """The output of a program; empty if it does not exist, fails or hangs."""
    done = completed(*command)
    return done.stdout if done is not None and done.returncode == 0 else ""


def completed(
    *command: str, env: dict[str, str] | None = None, timeout: float = 30
) -> subprocess.CompletedProcess[str] | None:
    """A program that has ended; None if it does not exist or hangs. Its output is decoded as names of files are."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False, env=env)
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = (os.fsdecode(text) for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(command, done.returncode, *said)
