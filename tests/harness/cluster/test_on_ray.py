"""Which run goes where, and what becomes of it: with a stand-in for Ray, whose machines answer as each test says."""

import base64
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cluster import on_ray, unit
from harness.errors import BadInput, Failure
from harness.measure.plan import Plan
from harness.measure.run import runs_of
from harness.records import record
from harness.records.record import Quality, Record

Main = Callable[..., tuple[int, str, str]]
Orders = list[tuple[str, dict[str, Any]]]


class Lost(Exception):
    """What Ray raises for a machine that is gone."""


class Ray:
    """Machines that answer at once. ``answer(machine, order)`` gives the last message, or raises."""

    exceptions = SimpleNamespace(RayError=Lost)

    def __init__(self, machines: dict[str, dict[str, int]], answer: Callable[[str, dict[str, Any]], Any]) -> None:
        self.machines, self.answer = machines, answer
        self.orders: Orders = []
        self.asked: list[dict[str, Any]] = []
        self.cancelled: list[Any] = []
        where = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda name, soft: name)
        self.util = SimpleNamespace(scheduling_strategies=where)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": name, "Alive": True, "NodeManagerAddress": f"10.0.0.{number}", "Resources": resources}
            for number, (name, resources) in enumerate(self.machines.items(), 1)
        ]

    def remote(self, **_: Any) -> Callable[[Any], "Ray"]:
        return lambda function: self

    def options(self, **asked: Any) -> Any:
        def start(text: str, cpus: int) -> Iterator[Any]:
            import json

            order, name = json.loads(text), asked["scheduling_strategy"]
            self.orders.append((name, order))
            self.asked.append(asked)

            def lines() -> Iterator[str]:
                yield json.dumps({"cpus": [0], "gpus": None})
                yield json.dumps({"progress": "training"})
                yield json.dumps(self.answer(name, order))

            return lines()

        return SimpleNamespace(remote=start)

    def wait(self, answers: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return answers[:1], answers[1:]

    def get(self, line: str) -> str:
        return line

    def cancel(self, answer: Any, force: bool) -> None:
        assert force
        self.cancelled.append(answer)


@pytest.fixture
def plan(prepared: Callable[..., Plan]) -> Plan:
    return prepared(implementations=["reference", "tbert"], tasks=["mini-sentiment", "mini-ner"], threads=1)


@pytest.fixture
def answers(plan: Plan, quality_record: Callable[..., Quality], tmp_path: Path) -> Callable[..., Any]:
    """A function: machine and order to what a machine that does all it should says."""
    known = unit._known([plan])

    def files(order: dict[str, Any]) -> dict[str, str]:
        name, task, seed = order["options"]["share"]
        if name is None:
            return {}
        planned = {(r.implementation.name, r.task.name): r for each in plan.implementations for r in _runs(plan, each)}
        run, folder = planned[name, task], tmp_path / "elsewhere"
        made = quality_record(name, task, key=run.key, seed=seed, predictions=f"{run.path.stem}.predictions.json.gz")
        record.write_predictions(folder / str(made.predictions), {"dev": [["0", "positive"]]})
        record.write(made, folder / run.path.name)
        both = (str(made.predictions), run.path.name)
        return {f"quality/{each}": base64.b64encode((folder / each).read_bytes()).decode() for each in both}

    def answer(machine: str, order: dict[str, Any]) -> dict[str, Any]:
        if order["what"] == "check":
            return {"machine": unit.about(), "known": known, "notes": []}
        return {"files": files(order)}

    return answer


def _runs(plan: Plan, implementation: Any) -> Iterator[Any]:
    return runs_of(plan, implementation, "trained")


@pytest.fixture
def run(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[Record], Ray]]:
    """A function: answers of machines, and their resources, to the records and what Ray was asked."""

    monkeypatch.setattr(on_ray, "REST", 0.05)

    def start(answer: Any, **machines: dict[str, int]) -> tuple[list[Record], Ray]:
        ray = Ray(machines or {"a": {"CPU": 2}, "b": {"CPU": 1}}, answer)
        return list(on_ray._Command(ray, [plan], ["auto"], lambda *_: None).run()), ray

    return start


def work_of(ray: Ray, machine: str | None = None) -> list[list[Any]]:
    """The runs that were ordered, of one machine or all, and the timing as [None, ...]."""
    return [
        order["options"]["share"] for name, order in ray.orders if order["what"] == "work" and machine in (None, name)
    ]


def test_every_run_is_ordered_once_and_recorded_and_the_timing_comes_last(run: Any, answers: Any, plan: Plan) -> None:
    records, ray = run(answers)
    orders = work_of(ray)
    assert len(orders) == len({tuple(each) for each in orders}) == 4 + 1
    assert orders[-1][0] is None
    assert {each.key for each in records} == {r.key for each in plan.implementations for r in _runs(plan, each)}
    assert all(
        record.predictions_of(plan.options.runs / "quality" / f"{Path(each.predictions).name.split('.')[0]}.json", each)
        for each in records
    )
    assert work_of(ray, "a"), "both machines work"
    assert work_of(ray, "b"), "both machines work"
    assert ray.asked[-1]["num_cpus"] == 2, "the timing has the whole of the larger machine"
    assert not ray.cancelled


def test_what_is_recorded_is_not_ordered_again(run: Any, answers: Any) -> None:
    first, _ = run(answers)
    second, ray = run(answers)
    assert work_of(ray) == [[None, "", 0]]
    assert {each.key for each in second} == {each.key for each in first}


def test_runs_of_a_lost_machine_go_to_another_and_that_is_said(
    run: Any, answers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[Any] = []

    def answer(machine: str, order: dict[str, Any]) -> Any:
        if machine == "a" and order["what"] == "work" and len(lost) < 2:
            lost.append(order["options"]["share"])
            raise Lost("the node died")
        return answers(machine, order)

    records, ray = run(answer, a={"CPU": 4}, b={"CPU": 1})
    assert len(records) == 4
    assert len(lost) == 2
    assert all(each in work_of(ray, "b") for each in lost)
    assert "begun again because a machine was lost: 2 runs; none is recorded twice" in caplog.text


def test_a_machine_that_lost_a_run_gets_no_other_until_it_is_checked_again(run: Any, answers: Any) -> None:
    def answer(machine: str, order: dict[str, Any]) -> Any:
        if machine == "a" and len(ray_orders) == 0 and order["what"] == "work":
            ray_orders.append(order)
            raise Lost("a worker was killed")
        return answers(machine, order)

    ray_orders: list[Any] = []
    records, ray = run(answer, a={"CPU": 1})
    assert len(records) == 4
    messages = [order["what"] for _, order in ray.orders]
    assert messages == ["check", "work", "check", *["work"] * 5]


def test_a_run_that_every_machine_is_lost_with_ends_the_command(run: Any, answers: Any) -> None:
    def answer(machine: str, order: dict[str, Any]) -> Any:
        if order["options"]["share"] == ["tbert", "mini-ner", 42]:
            raise Lost("killed")
        return answers(machine, order)

    with pytest.raises(Failure, match="tbert on mini-ner, seed 42: lost 3 times"):
        run(answer)


def test_a_full_disk_or_missing_data_leaves_a_machine_out(
    run: Any, answers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(machine: str, order: dict[str, Any]) -> Any:
        if machine == "a" and order["what"] == "work":
            return {"unfit": "the disk is full (No space left on device); make room"}
        if machine == "c":
            return {"unfit": "task mini-ner: there is no file train.conll"}
        return answers(machine, order)

    records, ray = run(answer, a={"CPU": 1}, b={"CPU": 1}, c={"CPU": 1})
    assert len(records) == 4
    assert len(work_of(ray, "a")) == 1
    assert not work_of(ray, "c")
    assert "left out: 10.0.0.1 (a): the disk is full" in caplog.text
    assert "left out: 10.0.0.3 (c): task mini-ner" in caplog.text


def test_with_no_machine_left_it_says_why(run: Any, answers: Any) -> None:
    def nothing(machine: str, order: dict[str, Any]) -> Any:
        return {"unfit": "task mini-ner: there is no file train.conll"}

    with pytest.raises(BadInput, match=r"no machine of the cluster can do the work: 10.0.0.1 \(a\): task mini-ner"):
        run(nothing, a={"CPU": 1})
    with pytest.raises(BadInput, match="there is none with a CPU"):
        run(nothing, a={"memory": 1})

    def full(machine: str, order: dict[str, Any]) -> Any:
        return answers(machine, order) if order["what"] == "check" else {"unfit": "the disk is full"}

    with pytest.raises(Failure, match=r"4 runs are left and no machine: .*the disk is full.*start again"):
        run(full)


@pytest.mark.parametrize(("what", "there"), [("Python", "3.12.1"), ("commit", "f" * 40), ("code", "0123456789ab")])
def test_a_machine_with_other_code_is_refused_with_both_named(run: Any, answers: Any, what: str, there: str) -> None:
    def answer(machine: str, order: dict[str, Any]) -> Any:
        said = answers(machine, order)
        return said | {"machine": unit.about() | {what: there}} if machine == "b" else said

    said = f"10.0.0.2 (b) has {what} {there}, and this machine {unit.about()[what]}"
    with pytest.raises(BadInput, match=re.escape(said)):
        run(answer)


@pytest.mark.parametrize(
    "name", ["../outside.json", "quality/../../x.json", "/etc/x.json", "quality/.hidden", "x.json"]
)
def test_only_records_are_written(run: Any, answers: Any, name: str) -> None:
    def answer(machine: str, order: dict[str, Any]) -> Any:
        return answers(machine, order) if order["what"] == "check" else {"files": {name: ""}}

    with pytest.raises(Failure, match="sent a file that is no record"):
        run(answer)


def test_each_run_gets_a_gpu_where_there_are_some(run: Any, answers: Any, plan: Plan) -> None:
    object.__setattr__(plan.options, "device", "auto")
    _, ray = run(answers, a={"CPU": 8, "GPU": 2})
    assert [asked["num_gpus"] for asked in ray.asked] == [1, 1, 1, 1, 1, 2]


def test_an_end_in_the_middle_cancels_what_is_under_way(plan: Plan, answers: Any) -> None:
    ray = Ray({"a": {"CPU": 4}}, answers)
    steps = on_ray._Command(ray, [plan], ["auto"], lambda *_: None).run()
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert len(ray.cancelled) == 3


def test_an_address_that_nobody_answers(main: Main, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        code, _, err = main("run", "--on", f"ray:{address}", "--runs", tmp_path, "--tasks", "mini-sentiment")
    assert code == 2
    assert f"nobody answers at {address}" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--on", "dask"], "neither ray nor"),
        (["--on", "rays"], "neither ray nor"),
        (["--on", "ray", "--shard", "1/2"], "give one"),
        (["--on", "ray", "--save-model", "m"], "without --on"),
        (["--on", "ray", "--device", "cuda:1"], "gives each run a GPU"),
    ],
)
def test_what_an_engine_cannot_do_is_said_before_any_work(main: Main, options: list[str], said: str) -> None:
    code, _, err = main("run", *options)
    assert code == 2
    assert said in err


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"pip install -e '.\[ray\]'"), on_ray._connected(None):
        pass
