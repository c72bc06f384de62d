"""Provenance on this machine, and on imitations of others."""

import getpass
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness import provenance
from harness.provenance import command, commit_of, git_commit, load_between, load_snapshot, machine, versions

BURN = "import time\nwhile time.process_time() < {seconds}: pass"


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """What is asked once a process is asked again in every test."""
    provenance._gpus.cache_clear()
    git_commit.cache_clear()
    yield
    provenance._gpus.cache_clear()
    git_commit.cache_clear()


@pytest.fixture
def other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux machine of which nothing is known but what a test writes into the folder."""
    for name in ("PROC", "CPUS", "CGROUP"):
        monkeypatch.setattr(provenance, name, tmp_path / name.lower())
    monkeypatch.setattr(provenance.platform, "system", lambda: "Linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def program(folder: Path, name: str, script: str) -> None:
    write(folder / "bin" / name, f"#!/bin/sh\n{script}\n")
    (folder / "bin" / name).chmod(0o755)


# -- the machine --


def test_this_machine_is_described() -> None:
    found = machine()

    assert found["cpu"]
    assert 1 <= found["cores"] <= found["logical_cores"] <= (psutil.cpu_count() or 1)
    assert 2**28 < found["memory"] <= psutil.virtual_memory().total
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert json.loads(json.dumps(found)) == found


def test_an_x86_processor_tells_its_abilities(other_machine: Path) -> None:
    cpu = "processor : 0\nmodel name\t: AMD EPYC 9654 96-Core Processor\nflags\t\t: fpu sse avx2 avx512f avx512_bf16\n"
    write(other_machine / "proc/cpuinfo", cpu * 8)

    assert machine()["cpu"] == "AMD EPYC 9654 96-Core Processor"
    assert machine()["flags"] == ["avx2", "avx512_bf16", "avx512f"]
    assert provenance.hardware_bf16()


def test_avx512_alone_is_not_fast_bf16(other_machine: Path) -> None:
    write(other_machine / "proc/cpuinfo", "model name : Xeon Gold 6148\nflags : avx2 avx512f\n")

    assert not provenance.hardware_bf16()


def test_an_arm_processor_is_named_by_lscpu(other_machine: Path) -> None:
    write(other_machine / "proc/cpuinfo", "processor : 0\nFeatures : fp asimd bf16 i8mm sve\nCPU part : 0xd4f\n")
    program(other_machine, "lscpu", "echo 'Architecture:  aarch64'; echo 'Model name:    Neoverse-V2'")

    assert machine()["cpu"] == "Neoverse-V2"
    assert machine()["flags"] == ["bf16", "i8mm", "neon"]
    assert provenance.hardware_bf16()


def test_a_mac_is_asked_by_sysctl(other_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance.platform, "system", lambda: "Darwin")
    lines = "machdep.cpu.brand_string: Apple M3 Pro", "hw.optional.neon: 1", "hw.optional.avx2_0: 0"
    lines = (*lines, "hw.optional.arm.FEAT_BF16: 1", "hw.optional.arm.FEAT_I8MM: 1")
    program(other_machine, "sysctl", f"printf '{chr(92)}n'; echo '{chr(10).join(lines)}'")

    assert machine()["cpu"] == "Apple M3 Pro"
    assert machine()["flags"] == ["bf16", "i8mm", "neon"]


def test_an_unknown_processor_is_no_error(other_machine: Path) -> None:
    assert machine()["cpu"] == provenance.platform.machine()
    assert machine()["flags"] == machine()["gpus"] == []


def test_hyperthreads_are_one_core(other_machine: Path) -> None:
    for cpu in range(8):
        write(other_machine / f"cpus/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")

    assert provenance.usable_cores() == 4
    assert machine()["logical_cores"] == 8


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

    assert provenance.usable_cores() == cores


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

    assert machine()["memory"] == min(limit, psutil.virtual_memory().total)


def test_gpus_are_those_of_nvidia_smi(other_machine: Path) -> None:
    rows = "NVIDIA H100 80GB HBM3, 81559, 570.86.15\nNVIDIA A100-SXM4-40GB, [N/A], 570.86.15"
    program(other_machine, "nvidia-smi", f"echo '{rows}'")

    assert machine()["gpus"] == [
        {"name": "NVIDIA H100 80GB HBM3", "memory": 81559 * 2**20, "driver": "570.86.15"},
        {"name": "NVIDIA A100-SXM4-40GB", "memory": None, "driver": "570.86.15"},
    ]


def test_a_broken_driver_means_no_gpu(other_machine: Path) -> None:
    program(other_machine, "nvidia-smi", "echo 'NVIDIA-SMI has failed, no driver, no luck'; exit 9")

    assert machine()["gpus"] == []


# -- versions and code --


def test_versions_are_those_that_packages_state() -> None:
    import numpy

    from harness import __version__

    assert versions()["numpy"] == numpy.__version__
    assert versions()["bert-atlas"] == __version__
    assert {"torch", "transformers", "tokenizers", "safetensors", "scipy"} <= versions().keys()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with one commit, which provenance takes for its own."""
    root = tmp_path / "checkout"
    write(root / "harness/a.py", "x = 1\n")
    write(root / "README.md", "text\n")
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    for each in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", str(root), *each], check=True)
    monkeypatch.setattr(provenance, "ROOT", root)
    return root


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    write(checkout / "results/record.json", "{}")  # just published
    write(checkout / "README.md", "other text\n")

    assert re.fullmatch(r"[0-9a-f]{40}", git_commit() or "")


@pytest.mark.parametrize("file", ["harness/a.py", "harness/implementations/new.py", "reference/model.py"])
def test_changed_code_is_told(checkout: Path, file: str) -> None:
    write(checkout / file, "x = 2\n")

    assert re.fullmatch(r"[0-9a-f]{40}\+changes", git_commit() or "")


def test_an_installation_inside_another_checkout_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = checkout / ".venv/lib/site-packages"
    write(site / "harness/a.py", "x = 1\n")
    monkeypatch.setattr(provenance, "ROOT", site)

    assert git_commit() is None


def test_a_folder_inside_a_checkout_is_no_repository_of_its_own(checkout: Path) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", commit_of(checkout) or "")
    assert commit_of(checkout / "harness") is None


def test_neither_outside_a_checkout_nor_without_git_is_there_a_commit(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    assert git_commit() is None
    monkeypatch.undo()
    shutil.rmtree(checkout / ".git")
    git_commit.cache_clear()
    monkeypatch.setattr(provenance, "ROOT", checkout)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(checkout.parent))
    assert git_commit() is None


def test_a_hook_of_another_repository_does_not_mislead(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = git_commit()
    git_commit.cache_clear()
    monkeypatch.setenv("GIT_DIR", str(checkout / "nowhere"))

    assert here is not None
    assert git_commit() == here


# -- the command --


@pytest.fixture
def alice(monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Alice's folders."""
    monkeypatch.setenv("HOME", "/home/alice")
    return {"BERT_ATLAS_DATA": Path("/home/alice/corpora"), "BERT_ATLAS_CACHE": Path("/scratch/alice/cache")}


@pytest.mark.parametrize(
    ("argument", "stored"),
    [
        ("--impl", "--impl"),
        ("reference,transformers", "reference,transformers"),
        ("google-bert/bert-base-uncased@main", "google-bert/bert-base-uncased@main"),
        ("two words", "'two words'"),
        ("", "''"),
        ("--context=", "--context="),
        ("runs/today", "runs/today"),
        ("/home/alice/corpora", "$BERT_ATLAS_DATA"),
        ("/home/alice/corpora/", "$BERT_ATLAS_DATA"),
        ("--data=/home/alice/corpora/GLUE", "--data=$BERT_ATLAS_DATA/GLUE"),
        ("/home/alice/corpora-2", "~/corpora-2"),
        ("/home/alice", "~"),
        ("~/my runs", "~/'my runs'"),
        ("/scratch/alice/cache/weights", "$BERT_ATLAS_CACHE/weights"),
        ("/scratch/alice/secret/bert", ".../bert"),
        ("/home/alicette/bert", ".../bert"),
        ("/home/alice/corpora/../bert", "~/bert"),
        ("a.yaml,/scratch/alice/b.yaml", "a.yaml,.../b.yaml"),
        ("/", "/"),
    ],
)
def test_an_argument_is_stored_without_private_folders(alice: dict[str, Path], argument: str, stored: str) -> None:
    assert command(["python", argument], alice) == f"python {stored}"


def test_a_path_upwards_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alice/work").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "alice/work")

    assert command(["../../alice/bert"], {}) == ".../bert"
    assert command(["../../alice/bert"], {"HERE": tmp_path / "alice"}) == "$HERE/bert"


def test_a_link_into_a_known_folder_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert command([f"{tmp_path}/link/x"], {"D": tmp_path / "real"}) == "$D/x"
    assert command([f"{tmp_path}/link/x", f"{tmp_path}/real/x"], {"D": tmp_path / "link"}) == "$D/x $D/x"


def test_a_home_that_is_the_root_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")

    assert command(["/scratch/alice/bert"], {}) == ".../bert"


def test_nothing_says_who_or_where() -> None:
    home = Path.home()
    argv = ["python", "-m", "harness", f"--data={home}/data", str(home), str(Path.cwd()), f"/{getpass.getuser()}/x"]
    text = json.dumps([machine(), versions(), git_commit(), command(argv, {"BERT_ATLAS_DATA": home / "data"})])
    private = {socket.gethostname(), socket.getfqdn(), getpass.getuser(), str(home), str(Path.cwd())} - {"localhost"}

    for each in private:
        assert not re.search(rf"(?<!\w){re.escape(each)}(?!\w)", text), each


# -- load --

Times = namedtuple("Times", "user nice system idle iowait irq softirq steal guest guest_nice")
MacTimes = namedtuple("MacTimes", "user nice system idle")


def between(monkeypatch: pytest.MonkeyPatch, before: list[tuple], after: list[tuple], own: float = 0.0) -> dict:
    """``load_between`` on a machine whose CPUs' counters were ``before`` and are ``after``."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(len(before))), raising=False)
    seconds = iter([0.0, own])
    monkeypatch.setattr(provenance, "_own_seconds", lambda: next(seconds))
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: before)
    snapshot = load_snapshot()
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: after)
    return load_between(snapshot)


def linux(user: float = 0, idle: float = 0, steal: float = 0, iowait: float = 0, guest: float = 0) -> Times:
    return Times(user, 0, 0, idle, iowait, 0, 0, steal, guest, 0)


def test_an_idle_machine_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    load = between(monkeypatch, [linux()] * 2, [linux(user=10), linux(idle=8, iowait=2)], own=10)

    assert (load["steal"], load["others"], load["noisy"]) == (0, 0, False)


def test_work_of_others_is_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    load = between(monkeypatch, [linux()] * 2, [linux(user=10), linux(user=3, idle=7)], own=10)

    assert (load["others"], load["noisy"]) == (0.15, True)


def test_a_little_of_others_is_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    load = between(monkeypatch, [linux()] * 2, [linux(user=10), linux(user=1, idle=9)], own=10)

    assert (load["others"], load["noisy"]) == (0.05, False)


def test_steal_is_noise_and_not_work_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    load = between(monkeypatch, [linux(steal=100)], [linux(user=9.7, steal=100.3)], own=9.7)

    assert (load["steal"], load["others"], load["noisy"]) == (0.03, 0, True)


def test_guests_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    load = between(monkeypatch, [linux()], [linux(user=5, guest=5, idle=5)])

    assert load["others"] == 0.5


def test_a_system_that_does_not_tell_of_steal(monkeypatch: pytest.MonkeyPatch) -> None:
    load = between(monkeypatch, [MacTimes(0, 0, 0, 0)], [MacTimes(6, 0, 3, 1)], own=8)

    assert (load["steal"], load["others"], load["noisy"]) == (None, 0.1, False)


def test_cpus_that_are_not_ours_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1}, raising=False)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [linux(), linux()])
    before = load_snapshot()
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [linux(user=10), linux(idle=10)])

    assert load_between(before)["others"] == 0


def test_no_time_at_all_is_no_division_by_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    load = between(monkeypatch, [linux(user=5)], [linux(user=5)])

    assert all(math.isfinite(load[name]) for name in ("steal", "others", "load_average"))
    assert not load["noisy"]


def test_children_are_ours_alive_or_ended() -> None:
    before = load_snapshot()
    subprocess.run([sys.executable, "-c", BURN.format(seconds=0.3)], check=True)
    ended = load_snapshot()
    assert 0.25 < ended.own - before.own < 5

    with subprocess.Popen(
        [sys.executable, "-c", BURN.format(seconds=0.3) + "\nprint(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # as the harness starts its workers
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive = load_snapshot()
        child.communicate(b"\n")
    assert 0.25 < alive.own - ended.own < 5
    assert 0 <= load_snapshot().own - alive.own < 1  # its end is not counted again


def test_a_stranger_is_not_ours() -> None:
    before = load_snapshot()
    # The shell ends at once, so that the process is nobody's child here.
    burn = BURN.format(seconds=0.5)
    subprocess.run(["sh", "-c", '"$0" -c "$1" >/dev/null 2>&1 &', sys.executable, burn], check=True)
    deadline = time.monotonic() + 30
    while load_snapshot().total - before.total < 1.2 and time.monotonic() < deadline:
        time.sleep(0.1)
    now = load_snapshot()
    others = load_between(before)["others"]

    assert now.own - before.own < 0.4
    assert others * (now.total - before.total) > 0.3
