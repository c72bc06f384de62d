"""Energy, from counters that are known: a tree as powercap shows it, and a module that answers as pynvml does."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from harness.measure import energy


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only moves when somebody sleeps, or the test moves it."""
    now = [100.0]

    class Time(ModuleType):
        @staticmethod
        def perf_counter() -> float:
            return now[0]

        @staticmethod
        def sleep(seconds: float) -> None:
            now[0] += seconds
            for tick in ticks:
                tick(seconds)

    ticks = Time.ticks = []  # type: ignore[attr-defined]
    monkeypatch.setattr(energy, "time", Time("time"))
    return now


class Rapl:
    """Two packages, one with memory and a part of its own, and the whole board."""

    def __init__(self, root: Path) -> None:
        self.root = root
        names = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "2": "psys"}
        for place, name in names.items():
            zone = root / f"intel-rapl:{place}"
            zone.mkdir(parents=True)
            (zone / "name").write_text(f"{name}\n")
            (zone / "max_energy_range_uj").write_text("65532610987\n")
            (zone / "energy_uj").write_text("65532000000\n" if name == "dram" else "1000\n")
        (root / "intel-rapl").mkdir()

    def take(self, place: str, joules: float) -> None:
        file = self.root / f"intel-rapl:{place}" / "energy_uj"
        file.write_text(f"{(int(file.read_text()) + round(joules * 1e6)) % (65532610987 + 1)}\n")


@pytest.fixture
def rapl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rapl:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "powercap")
    return Rapl(tmp_path / "powercap")


def test_packages_and_memory_less_what_they_take_idle(rapl: Rapl, clock: list[float]) -> None:
    def rest(seconds: float) -> None:
        rapl.take("0", 20 * seconds)
        rapl.take("0:1", 2 * seconds)  # wraps around
        rapl.take("0:0", 1000.0)  # a part of the package
        rapl.take("2", 1000.0)  # the packages and more

    energy.time.ticks.append(rest)  # type: ignore[attr-defined]
    with energy.meter("cpu", idle_seconds=4.0) as result:
        assert result == {}
        clock[0] += 10
        rapl.take("0", 500.0)
        rapl.take("1", 60.0)
        rapl.take("0:1", 40.0)
        rapl.take("0:0", 1000.0)
    assert result == {
        "joules": pytest.approx(600 - 10 * 22),
        "gross_joules": pytest.approx(600),
        "idle_watts": pytest.approx(22),
        "seconds": 10,
        "source": "RAPL package-0, dram, package-1",
    }


def test_a_counter_that_starts_again_is_seen(rapl: Rapl, clock: list[float]) -> None:
    (rapl.root / "intel-rapl:0" / "energy_uj").write_text("65532610987")
    with energy.meter("cpu") as result:
        clock[0] += 1
        (rapl.root / "intel-rapl:0" / "energy_uj").write_text("2999999")
    assert result["gross_joules"] == pytest.approx(3.0)


def test_where_only_root_may_read_the_record_says_so(rapl: Rapl, monkeypatch: pytest.MonkeyPatch) -> None:
    read_text = Path.read_text

    def refuse(path: Path, *arguments: str) -> str:
        if path.name == "energy_uj":  # root, who may run this test, is refused nothing
            raise PermissionError(13, "Permission denied")
        return read_text(path, *arguments)

    monkeypatch.setattr(Path, "read_text", refuse)
    with energy.meter("cpu") as result:
        pass
    assert list(result) == ["absent"]
    assert "needs root" in result["absent"]


def test_without_a_counter_the_record_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    with energy.meter("cpu") as result:
        pass
    assert list(result) == ["absent"]
    assert "this machine shows none" in result["absent"]
    assert str(tmp_path) not in result["absent"], "a record with a path is not published"


def test_a_counter_that_is_lost_on_the_way_gives_no_number(rapl: Rapl) -> None:
    with energy.meter("cpu") as result:
        (rapl.root / "intel-rapl:0" / "energy_uj").unlink()
    assert list(result) == ["absent"]
    assert "No such file" in result["absent"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_fails_in_the_block_is_not_hidden(device: str, rapl: Rapl, gpu: "Gpu") -> None:
    with pytest.raises(ZeroDivisionError), energy.meter(device):
        raise ZeroDivisionError
    assert gpu.open == 0


class NVMLError(Exception):
    """As pynvml's."""


class Gpu(ModuleType):
    """GPUs that take 50 W at rest; what is asked of them is written down."""

    NVMLError = NVMLError

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.millijoules, self.open, self.count = 7_000_000.0, 0, 1
        self.asked: list[object] = []
        self.broken = ""

    def nvmlInit(self) -> None:  # noqa: N802 - pynvml's names
        if self.broken == "init":
            raise NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        self.asked.append(index)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self.asked.append(uuid)
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:  # noqa: N802
        if self.broken == "energy":
            raise NVMLError("Not Supported")
        return round(self.millijoules)

    def rest(self, seconds: float) -> None:
        self.millijoules += 50_000 * seconds


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    module = Gpu()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    energy.time.ticks.append(module.rest)  # type: ignore[attr-defined]
    return module


def test_a_gpu_less_what_it_takes_idle(gpu: Gpu, clock: list[float]) -> None:
    with energy.meter("cuda") as result:
        clock[0] += 2
        gpu.millijoules += 700_000
    assert result == {
        "joules": pytest.approx(600),
        "gross_joules": pytest.approx(700),
        "idle_watts": pytest.approx(50),
        "seconds": 2,
        "source": "NVML total energy counter",
    }
    assert gpu.asked == [0]
    assert gpu.open == 0


@pytest.mark.parametrize(
    ("visible", "order", "count", "device", "asked"),
    [
        ("3", "PCI_BUS_ID", 4, "cuda", 3),
        ("3, 1", "PCI_BUS_ID", 4, "cuda:1", 1),
        ("GPU-8a6b", None, 4, "cuda", "GPU-8a6b"),
        (None, None, 1, "cuda:0", 0),
        (None, "PCI_BUS_ID", 2, "cuda:1", 1),
    ],
)
def test_it_is_the_gpu_that_cuda_uses(
    gpu: Gpu,
    clock: list[float],
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    order: str | None,
    count: int,
    device: str,
    asked: object,
) -> None:
    gpu.count = count
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        if value is not None:
            monkeypatch.setenv(name, value)
    with energy.meter(device) as result:
        clock[0] += 2
        gpu.millijoules += 700_000
    assert "joules" in result
    assert gpu.asked == [asked]


def test_less_than_when_idle_is_no_energy(gpu: Gpu, clock: list[float]) -> None:
    with energy.meter("cuda") as result:
        clock[0] += 2
        gpu.millijoules += 90_000
    assert result == {
        "absent": "NVML total energy counter: no more was taken than when idle (50.0 W); did other work end?"
    }


@pytest.mark.parametrize(
    ("visible", "count", "why"), [("0", 2, "CUDA_DEVICE_ORDER=PCI_BUS_ID"), ("MIG-1", 1, "whole GPUs"), ("", 1, "''")]
)
def test_where_it_may_be_another_gpu_there_is_no_number(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, visible: str, count: int, why: str
) -> None:
    gpu.count = count
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with energy.meter("cuda") as result:
        pass
    assert list(result) == ["absent"]
    assert why in result["absent"]
    assert gpu.open == 0


@pytest.mark.parametrize(("broken", "why"), [("init", "Driver Not Loaded"), ("energy", "Not Supported")])
def test_what_nvml_complains_of_is_the_reason(gpu: Gpu, broken: str, why: str) -> None:
    gpu.broken = broken
    with energy.meter("cuda") as result:
        pass
    assert result == {"absent": f"NVML: {why}"}
    assert gpu.open == 0


def test_without_the_package_the_record_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with energy.meter("cuda") as result:
        pass
    assert result == {"absent": "NVML: the package nvidia-ml-py is not installed"}
