"""Energy that the device uses between two moments, beyond what it uses when idle.

NVIDIA: the GPU's total energy counter, read with NVML. Processors: RAPL, packages and memory, as Linux's powercap shows
it. Both count the whole device, whoever uses it, and are updated about ten times a second at best, so only intervals of
seconds can be measured.
"""

import importlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
IDLE_SECONDS = 5.0  # duration of the measurement of idle power, beforehand

Joules = Callable[[], float]  # energy since a fixed moment


class Unavailable(Exception):
    """There is no counter, or it cannot be read; the message is the reason for the record."""


@contextmanager
def meter(device: str, idle_seconds: float = IDLE_SECONDS) -> Iterator[dict[str, Any]]:
    """Measure the energy used in the ``with`` block; the dict is filled in when the block ends.

    ``joules`` is the energy beyond idle (``gross_joules`` minus ``idle_watts`` times ``seconds``), ``source`` the
    counter. If it cannot be measured, ``absent`` is the only key and has the reason. The device must be idle for
    ``idle_seconds`` before the block: load weights first, and wait. Work on a GPU must be synchronized before the block
    ends.
    """
    result: dict[str, Any] = {}
    with ExitStack() as stack:
        try:
            source, joules = stack.enter_context(_nvml(device) if device.startswith("cuda") else _rapl())
            resting = joules(), time.perf_counter()
            time.sleep(idle_seconds)
            before, start = joules(), time.perf_counter()
        except Unavailable as reason:
            result["absent"] = str(reason)
        yield result
        if "absent" in result:
            return
        try:
            gross, seconds = joules() - before, time.perf_counter() - start
        except Unavailable as reason:
            result["absent"] = str(reason)
            return
        watts = (before - resting[0]) / (start - resting[1])
        if gross <= watts * seconds:
            result["absent"] = f"{source}: no more was taken than when idle ({watts:.1f} W); did other work end?"
            return
        result |= {
            "joules": gross - watts * seconds,
            "gross_joules": gross,
            "idle_watts": watts,
            "seconds": seconds,
            "source": source,
        }


# -- NVIDIA --


@contextmanager
def _nvml(device: str) -> Iterator[tuple[str, Joules]]:
    try:
        pynvml: Any = importlib.import_module("pynvml")  # it has no types, and most machines do not need it
    except ImportError:
        raise Unavailable("NVML: the package nvidia-ml-py is not installed") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise Unavailable(f"NVML: {error}") from error

    def joules() -> float:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
        except pynvml.NVMLError as error:
            raise Unavailable(f"NVML: {error}") from error

    try:
        try:
            handle = _handle(pynvml, device)
        except pynvml.NVMLError as error:
            raise Unavailable(f"NVML: {error}") from error
        yield "NVML total energy counter", joules
    finally:
        pynvml.nvmlShutdown()


def _handle(pynvml: Any, device: str) -> Any:
    """NVML's handle of a CUDA device; Unavailable if it may be another GPU."""
    place = int(device.partition(":")[2] or 0)
    count = pynvml.nvmlDeviceGetCount()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
    name = visible[place].strip() if place < len(visible) else ""
    if name.startswith("GPU-"):
        return pynvml.nvmlDeviceGetHandleByUUID(name)
    if not name.isdigit():
        raise Unavailable(f"NVML: no counter for {name!r} of CUDA_VISIBLE_DEVICES; only whole GPUs have one")
    if count > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise Unavailable("NVML: it numbers several GPUs otherwise than CUDA; set CUDA_DEVICE_ORDER=PCI_BUS_ID")
    return pynvml.nvmlDeviceGetHandleByIndex(int(name))


# -- processors --


@contextmanager
def _rapl() -> Iterator[tuple[str, Joules]]:
    """The sum over packages and their memory; other zones are parts of these, or contain them.

    A counter wraps around to 0 after its range, some minutes of full load; it must be read more often.
    """
    zones = sorted(zone for zone in POWERCAP.glob("intel-rapl:*") if re.match(r"package-|dram$", _text(zone / "name")))
    if not zones:
        raise Unavailable("RAPL: this machine shows none; virtual machines and most processors but x86 have none")
    ranges = [int(_text(zone / "max_energy_range_uj")) for zone in zones]
    last = [int(_text(zone / "energy_uj")) for zone in zones]
    total = 0

    def joules() -> float:
        nonlocal total
        for place, zone in enumerate(zones):
            now = int(_text(zone / "energy_uj"))
            # The largest value is the range itself, so 0 comes one step after it.
            total += (now - last[place]) % (ranges[place] + 1)
            last[place] = now
        return total / 1e6

    yield f"RAPL {', '.join(_text(zone / 'name') for zone in zones)}", joules


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError:
        raise Unavailable(f"RAPL: reading {path} needs root") from None
    except OSError as error:
        raise Unavailable(f"RAPL: {path}: {error.strerror}") from error
