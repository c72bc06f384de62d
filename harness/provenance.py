"""What a record says of its circumstances: machine, versions, code, command, and what else the machine did.

No host name, no user name, no path: records are published.
"""

import importlib.metadata
import math
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from harness import __version__

ROOT = Path(__file__).resolve().parent.parent
PROC, CPUS, CGROUP = Path("/proc"), Path("/sys/devices/system/cpu"), Path("/sys/fs/cgroup")
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "scikit-learn", "seqeval")
# What decides how fast matrices are multiplied; the operating systems' names for it, and ours.
ABILITIES = {
    **{name: name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")},
    **{name: name for name in ("bf16", "i8mm", "neon")},
    **{"asimd": "neon", "avx2_0": "avx2", "FEAT_BF16": "bf16", "FEAT_I8MM": "i8mm", "AdvSIMD": "neon"},
}
FAST_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
# Fractions of the CPUs' time above which timings are to be doubted. Steal is time that the hypervisor gave to
# other guests while we wanted it: it stretches timings directly, so that 2 % is as much as implementations may
# differ by. Other processes may run on cores that we leave idle; of them more is borne.
NOISY_STEAL, NOISY_OTHERS = 0.02, 0.10


# -- the machine --


def machine() -> dict[str, Any]:
    """Processor, its abilities, cores and memory (bytes) that we may use, GPUs, operating system, Python."""
    model, flags = _processor()
    return {
        "cpu": model,
        "architecture": platform.machine(),
        "flags": flags,
        "hidden": [],
        "cores": usable_cores(),
        "logical_cores": len(_allowed_cpus()),
        "memory": _memory(),
        "gpus": [dict(gpu) for gpu in _gpus()],
        "os": _operating_system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def usable_cores() -> int:
    """Physical cores that this process may use: those of its affinity, and no more than its cgroup's quota."""
    cores = psutil.cpu_count(logical=False) or 1
    if hasattr(os, "sched_getaffinity"):
        siblings = [_words(CPUS / f"cpu{cpu}/topology/thread_siblings_list") for cpu in _allowed_cpus()]
        cores = len({words[0] if words else cpu for cpu, words in enumerate(siblings)})
    return max(1, int(min(cores, _cpu_quota())))


def commit_of(folder: Path) -> str | None:
    """The commit that a repository is at, with "+changes" where its files are not those; None: not a repository."""
    return _commit_at(folder, "--untracked-files=no")


def cpus_for(threads: int | None) -> list[int] | None:
    """CPUs to run so many threads on, each on a core of its own as far as they go; None: any."""
    if not threads or not hasattr(os, "sched_getaffinity"):
        return None
    by_core: dict[str, list[int]] = {}
    for cpu in _allowed_cpus():
        words = _words(CPUS / f"cpu{cpu}/topology/thread_siblings_list")
        by_core.setdefault(words[0] if words else str(cpu), []).append(cpu)
    ranked = sorted((place, cpu) for cpus in by_core.values() for place, cpu in enumerate(cpus))
    return sorted(cpu for _, cpu in ranked[:threads])


def hardware_bf16() -> bool:
    """Whether this processor multiplies bf16 faster than float32, without asking torch."""
    return not FAST_BF16.isdisjoint(_processor()[1])


def _processor() -> tuple[str, list[str]]:
    """Name of the processor, and those of its ``ABILITIES`` that it has, sorted."""
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
    return model or platform.machine(), sorted({ABILITIES[name] for name in names if name in ABILITIES})


def _arm_model() -> str | None:
    """On Arm the kernel states only numbers; lscpu knows their names."""
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


def _allowed_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpu_quota() -> float:
    """CPUs' worth of time that control groups leave us; infinite without a quota."""
    quota = math.inf
    for folder in _control_groups("cpu"):
        given = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(given) == 2 and given[0].isdigit():  # else "max" or -1: no quota
            quota = min(quota, int(given[0]) / int(given[1]))
    return quota


def _memory() -> int:
    """Bytes of memory, or what control groups leave of it."""
    memory = int(psutil.virtual_memory().total)
    for folder in _control_groups("memory"):
        given = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        if given and given[0].isdigit():
            memory = min(memory, int(given[0]))
    return memory


def _control_groups(controller: str) -> Iterator[Path]:
    """Folders of this process's control group and of those above it, in either version of cgroups."""
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
    """What the kernel says there; nothing where it does not say it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _output(*command: str, **options: Any) -> str:
    """What a program prints; nothing if it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **options)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


# -- versions --


def versions() -> dict[str, str]:
    """Versions of BERT Atlas and of the installed packages that results depend on."""
    found = {"bert-atlas": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """Commit of this source tree, "+changes" added where its code differs; None outside a checkout."""
    # Only what computes: results that were just published must not spoil the next run's commit.
    return _commit_at(ROOT, "--", "harness", "reference", "pyproject.toml")


def _commit_at(folder: Path, *changed: str) -> str | None:
    """The commit that is checked out here, "+changes" where ``git status`` with these arguments shows some.

    None where this is not the top of a repository, but a folder inside some other one.
    """
    # Inside a hook git sets GIT_DIR and the like, which would point it at another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    git = ("git", "--no-optional-locks", "-C", str(folder))
    top, _, commit = _output(*git, "rev-parse", "--show-toplevel", "HEAD", env=environment).partition("\n")
    if not top or Path(top).resolve() != folder.resolve():
        return None
    changes = _output(*git, "status", "--porcelain", *changed, env=environment)
    return commit.strip() + ("+changes" if changes else "")


# -- the command --


def command(argv: list[str], folders: dict[str, Path]) -> str:
    """The command line as a record may hold it: quoted for the shell, and without folders of this machine.

    ``folders`` maps the names of environment variables to what they stand for: a path in one of these becomes
    ``$NAME/...``, in the home folder ``~/...``, and any other absolute path ``.../<its last part>``.
    """
    named = {f"${name}": folder for name, folder in folders.items()} | {"~": Path.home()}
    known = [(path, name) for name, folder in named.items() for path in (folder.absolute(), folder.resolve())]
    known = [each for each in known if each[0] != Path(each[0].anchor)]
    known.sort(key=lambda each: -len(each[0].parts))  # the innermost first
    return " ".join(_public_argument(argument, known) for argument in argv)


def _public_argument(argument: str, known: list[tuple[Path, str]]) -> str:
    option, value = re.match(r"(--[\w-]+=)?(.*)", argument, re.DOTALL).groups("")  # type: ignore[union-attr]
    if not value:
        return option or "''"
    return option + ",".join(_public_path(part, known) for part in value.split(","))


def _public_path(text: str, known: list[tuple[Path, str]]) -> str:
    """``text``, quoted, where it does not lead out of the working folder; else what may be said of the path."""
    if not text.startswith(("/", "~")) and ".." not in Path(text).parts:
        return shlex.quote(text) if text else ""
    path = Path(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111 - pathlib keeps the ".."
    for candidate in (path, path.resolve()):
        for folder, name in known:
            if candidate.is_relative_to(folder):
                inside = candidate.relative_to(folder).as_posix()
                return name if inside == "." else f"{name}/{shlex.quote(inside)}"
    return f".../{shlex.quote(path.name)}" if path.name else "/"


# -- what else the machine did --


class LoadSnapshot(NamedTuple):
    """CPU seconds so far, over the CPUs that we may use: all, idle, stolen (None: not told), and our own."""

    total: float
    idle: float
    steal: float | None
    own: float


def load_snapshot() -> LoadSnapshot:
    """The CPUs' counters at this moment, for ``load_between``."""
    every = psutil.cpu_times(percpu=True)
    allowed = _allowed_cpus()
    # The list has only CPUs that are online: where numbers and places differ, take them all.
    cpus = [every[cpu] for cpu in allowed] if allowed[-1] < len(every) else every
    seconds = {name: sum(getattr(cpu, name) for cpu in cpus) for name in every[0]._fields}
    guests = seconds.get("guest", 0.0) + seconds.get("guest_nice", 0.0)  # counted in user and nice already
    return LoadSnapshot(
        total=sum(seconds.values()) - guests,
        idle=seconds["idle"] + seconds.get("iowait", 0.0),
        steal=seconds.get("steal"),
        own=_own_seconds(),
    )


def load_between(before: LoadSnapshot) -> dict[str, Any]:
    """What kept the machine from us since ``before``.

    ``load_average``: of the last minute; ``steal``: fraction of the CPUs' time that the hypervisor gave to
    others (None where the system does not tell); ``others``: fraction that went to processes other than this
    one, its children and theirs; ``noisy``: whether timings made meanwhile are to be doubted.
    """
    now = load_snapshot()
    elapsed = now.total - before.total
    total = max(elapsed, 1e-9)
    steal = None if now.steal is None or before.steal is None else max(0.0, now.steal - before.steal)
    busy = elapsed - (now.idle - before.idle) - (steal or 0.0)
    others = max(0.0, busy - (now.own - before.own)) / total
    stolen = None if steal is None else steal / total
    return {
        "load_average": round(os.getloadavg()[0], 2),
        "steal": None if stolen is None else round(stolen, 4),
        "others": round(others, 4),
        "noisy": (stolen or 0.0) > NOISY_STEAL or others > NOISY_OTHERS,
    }


def _own_seconds() -> float:
    """CPU seconds of this process and all below it; those that have ended are in their parents' counters."""
    this, seconds = psutil.Process(), 0.0
    for process in [this, *this.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # it ended just now
        seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
