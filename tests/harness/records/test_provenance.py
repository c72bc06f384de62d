"""Provenance on this machine, and on imitations of others."""

import getpass
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness import affinity
from harness.errors import BadInput
from harness.records import provenance
from harness.records.provenance import command, commit_of, git_commit, machine, versions


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
    monkeypatch.delenv("BERT_ATLAS_MAX_CPU_ISA", raising=False)
    for name in ("PROC", "CPUS", "CGROUP"):
        monkeypatch.setattr(provenance, name, tmp_path / name.lower())
    monkeypatch.setattr(provenance.platform, "system", lambda: "Linux")
    monkeypatch.setattr(affinity, "CPUS", list(range(8)))
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


def test_what_is_switched_off_is_no_ability_and_is_named(other_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(other_machine / "proc/cpuinfo", "model name : EPYC\nflags : sse avx2 avx512f avx512_vnni avx512_bf16\n")
    for name in provenance.LIBRARY_SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    assert machine()["flags"] == ["avx2", "avx512_vnni", "avx512f"]
    assert machine()["hidden"] == ["avx512_bf16"]
    assert not provenance.hardware_bf16()

    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.delenv("BERT_ATLAS_MAX_CPU_ISA")
    assert machine()["flags"] == ["avx2", "avx512_bf16", "avx512_vnni", "avx512f"]
    assert machine()["hidden"] == ["ONEDNN_MAX_CPU_ISA=AVX2"]

    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "SSE")
    with pytest.raises(BadInput, match="SSE is not one of AVX2, AVX512_CORE"):
        machine()


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
