"""The machine: this one, and imitations of others."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness import affinity
from harness.errors import BadInput
from harness.records import machine
from harness.records.machine import describe


@pytest.fixture(autouse=True)
def gpus_are_looked_for_again() -> Iterator[None]:
    """They are remembered for as long as a process lives."""
    machine._gpus.cache_clear()
    yield
    machine._gpus.cache_clear()


@pytest.fixture
def other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux machine of which nothing is known but what a test writes into the folder."""
    monkeypatch.delenv("BERT_ATLAS_MAX_CPU_ISA", raising=False)
    for name in ("PROC", "CPUS", "CGROUP"):
        monkeypatch.setattr(machine, name, tmp_path / name.lower())
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(affinity, "CPUS", list(range(8)))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def program(folder: Path, name: str, script: str) -> None:
    write(folder / "bin" / name, f"#!/bin/sh\n{script}\n")
    (folder / "bin" / name).chmod(0o755)


def test_this_machine_is_described() -> None:
    found = describe()

    assert found["cpu"]
    assert 1 <= found["cores"] <= found["logical_cores"] <= (psutil.cpu_count() or 1)
    assert 2**28 < found["memory"] <= psutil.virtual_memory().total
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert json.loads(json.dumps(found)) == found


def test_an_x86_processor_tells_its_abilities(other_machine: Path) -> None:
    cpu = "processor : 0\nmodel name\t: AMD EPYC 9654 96-Core Processor\nflags\t\t: fpu sse avx2 avx512f avx512_bf16\n"
    write(other_machine / "proc/cpuinfo", cpu * 8)

    assert describe()["cpu"] == "AMD EPYC 9654 96-Core Processor"
    assert describe()["flags"] == ["avx2", "avx512_bf16", "avx512f"]
    assert machine.hardware_bf16()


def test_what_is_switched_off_is_no_ability_and_is_named(other_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(other_machine / "proc/cpuinfo", "model name : EPYC\nflags : sse avx2 avx512f avx512_vnni avx512_bf16\n")
    for name in machine.LIBRARY_SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    assert describe()["flags"] == ["avx2", "avx512_vnni", "avx512f"]
    assert describe()["hidden"] == ["avx512_bf16"]
    assert not machine.hardware_bf16()

    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.delenv("BERT_ATLAS_MAX_CPU_ISA")
    assert describe()["flags"] == ["avx2", "avx512_bf16", "avx512_vnni", "avx512f"]
    assert describe()["hidden"] == ["ONEDNN_MAX_CPU_ISA=AVX2"]

    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "SSE")
    with pytest.raises(BadInput, match="SSE is not one of AVX2, AVX512_CORE"):
        describe()


def test_avx512_alone_is_not_fast_bf16(other_machine: Path) -> None:
    write(other_machine / "proc/cpuinfo", "model name : Xeon Gold 6148\nflags : avx2 avx512f\n")

    assert not machine.hardware_bf16()


def test_an_arm_processor_is_named_by_lscpu(other_machine: Path) -> None:
    write(other_machine / "proc/cpuinfo", "processor : 0\nFeatures : fp asimd bf16 i8mm sve\nCPU part : 0xd4f\n")
    program(other_machine, "lscpu", "echo 'Architecture:  aarch64'; echo 'Model name:    Neoverse-V2'")

    assert describe()["cpu"] == "Neoverse-V2"
    assert describe()["flags"] == ["bf16", "i8mm", "neon"]
    assert machine.hardware_bf16()


def test_a_mac_is_asked_by_sysctl(other_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    lines = "machdep.cpu.brand_string: Apple M3 Pro", "hw.optional.neon: 1", "hw.optional.avx2_0: 0"
    lines = (*lines, "hw.optional.arm.FEAT_BF16: 1", "hw.optional.arm.FEAT_I8MM: 1")
    program(other_machine, "sysctl", f"printf '{chr(92)}n'; echo '{chr(10).join(lines)}'")

    assert describe()["cpu"] == "Apple M3 Pro"
    assert describe()["flags"] == ["bf16", "i8mm", "neon"]


def test_an_unknown_processor_is_no_error(other_machine: Path) -> None:
    assert describe()["cpu"] == machine.platform.machine()
    assert describe()["flags"] == describe()["gpus"] == []


def test_hyperthreads_are_one_core(other_machine: Path) -> None:
    for cpu in range(8):
        write(other_machine / f"cpus/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")

    assert machine.usable_cores() == 4
    assert describe()["logical_cores"] == 8


@pytest.mark.parametrize(
    ("own_group", "files", "cores"),
    [
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/pod/box", {"pod/box/cpu.max": "max 100000", "pod/cpu.max": "300000 100000"}, 3),
        ("4:cpu,cpuacct:/box", {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_a_quota_bounds_the_cores(other_machine: Path, own_group: str, files: dict[str, str], cores: int) -> None:
    write(other_machine / "proc/self/cgroup", f"{own_group}\n")
    for name, text in files.items():
        write(other_machine / "cgroup" / name, f"{text}\n")

    assert machine.usable_cores() == cores


@pytest.mark.parametrize(
    ("own_group", "file", "limit"),
    [
        ("0::/box", "box/memory.max", 2**20),
        ("5:memory:/", "memory/memory.limit_in_bytes", 2**20),
        ("5:memory:/", "memory/memory.limit_in_bytes", 9223372036854771712),  # version 1's way to say none
    ],
)
def test_a_container_has_the_memory_it_was_given(other_machine: Path, own_group: str, file: str, limit: int) -> None:
    write(other_machine / "proc/self/cgroup", f"{own_group}\n")
    write(other_machine / "cgroup" / file, f"{limit}\n")

    assert describe()["memory"] == min(limit, psutil.virtual_memory().total)


def test_gpus_are_those_of_nvidia_smi(other_machine: Path) -> None:
    rows = "NVIDIA H100 80GB HBM3, 81559, 570.86.15\nNVIDIA A100-SXM4-40GB, [N/A], 570.86.15"
    program(other_machine, "nvidia-smi", f"echo '{rows}'")

    assert describe()["gpus"] == [
        {"name": "NVIDIA H100 80GB HBM3", "memory": 81559 * 2**20, "driver": "570.86.15"},
        {"name": "NVIDIA A100-SXM4-40GB", "memory": None, "driver": "570.86.15"},
    ]


def test_a_broken_driver_means_no_gpu(other_machine: Path) -> None:
    program(other_machine, "nvidia-smi", "echo 'NVIDIA-SMI has failed, no driver, no luck'; exit 9")

    assert describe()["gpus"] == []
