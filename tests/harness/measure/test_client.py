"""Workers as the harness sees them: whatever an implementation does, the answer is right or a WorkerError."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from inspect import isfunction, signature
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import psutil
import pytest

from harness.measure import client
from harness.measure.client import Worker, WorkerError
from harness.port.batch import Batch, from_lists
from harness.registry.implementations import describe
from harness.worker.session import COMMANDS

STUBS = Path(__file__).parents[1] / "stubs"
BATCH = from_lists([[101, 7, 102], [101, 102]], [[0, 0, 0], [0, 0]])


def start(stub: str, variant: int = 0) -> Worker:
    return Worker(describe(STUBS / f"{stub}.py")[variant])


def load(worker: Worker, folder: str = "folder", threads: int | None = None) -> None:
    worker.load(Path(folder), None, "cpu", "fp32", threads)


@pytest.fixture(autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child not in before]
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="module")
def plain() -> Iterator[Worker]:
    with start("plain") as worker:
        load(worker)
        yield worker


def test_answers_with_what_the_implementation_computed(plain: Worker) -> None:
    answer = plain.encode(BATCH)
    assert answer.hidden.tolist() == [[101, 101], [7, 7], [102, 102], [101, 101], [102, 102]]
    assert answer.hidden.dtype == np.float32
    assert answer.pooled is None, "the stub has no pooler"


def test_an_interpreter_that_cannot_be_started_is_an_error_of_the_implementation(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"python could not be started: No such file .*; create its environment"):
        Worker(describe(STUBS / "plain.py")[0], tmp_path / "python")


def test_what_is_asked_for_reaches_the_implementation() -> None:
    with start("plain", variant=1) as worker:
        worker.load(Path("some/folder"), "tagging", "cpu", "bf16", 3)
        folder, *rest, torch_is_imported = worker.info["version"].split()
        assert (folder, rest) == ("some/folder", ["tagging", "cpu", "bf16", "other", "3"])
        assert torch_is_imported == "False", "its memory would be counted for an implementation without it"
        assert worker.info["batching"] == "padded"
        assert worker.info["trainable"] is False
        assert worker.info["seconds"] >= 0


def test_torch_is_bound_to_the_threads_asked_for() -> None:
    with start("threads") as worker:
        load(worker, threads=3)
        assert worker.info["version"] == "3"


def test_large_arrays_go_both_ways(plain: Worker) -> None:
    ids = np.arange(6_500_000)  # 52 MB there and 52 MB back, a thousand times what a pipe holds
    hidden = plain.encode(Batch(ids, ids[:1], np.array([0, len(ids)]))).hidden
    np.testing.assert_array_equal(hidden, np.stack([ids, ids], axis=1).astype(np.float32))


def test_prints_cannot_corrupt_answers() -> None:
    with start("chatty") as worker:
        load(worker)
        for _ in range(2):
            answer = worker.encode(BATCH)
            assert answer.hidden[:, 0].tolist() == [101, 7, 102, 101, 102]
            assert answer.pooled is not None
            assert answer.pooled[:, 0].tolist() == [101, 101]
        tail = worker.stderr_tail(lines=100)
    assert "a child speaks" in tail
    assert "encoding" in tail


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("raise", "ValueError", "the weights look odd"),
        ("raise a key", "KeyError", "KeyError: 'ordinal'"),
        ("raise without words", "ValueError", "ValueError"),
        ("memory", "out of memory", "out of memory"),
        ("cuda memory", "out of memory", "CUDA out of memory. Tried to allocate 20.00 MiB"),
        ("refuse", "NotImplementedError", "not on this CPU"),
        ("object", "TypeError", "array 'hidden' has type object, which the protocol does not carry"),
    ],
)
def test_an_error_is_an_answer_and_the_next_call_works(how: str, kind: str, message: str) -> None:
    with start("misbehaving") as worker:
        load(worker, f"later:{how}")
        for _ in range(2):
            with pytest.raises(WorkerError) as caught:
                worker.encode(BATCH)
            assert (str(caught.value), caught.value.kind) == (message, kind)
            assert caught.value.out_of_memory == (kind == "out of memory")
            assert caught.value.state == "failed"
            assert f"about to: {how}" in caught.value.stderr
            assert "Traceback" in caught.value.stderr
        load(worker, "later:nothing")
        assert worker.encode(BATCH).hidden.tolist() == [0]


def test_what_refuses_to_be_loaded_is_to_be_skipped() -> None:
    with start("misbehaving") as worker, pytest.raises(WorkerError, match="not on this CPU") as caught:
        load(worker, "refuse")
    assert caught.value.state == "skipped"


@pytest.mark.parametrize("when", ["", "later:"], ids=["loading", "encoding"])
@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("exit", "died", "the worker ended with exit code 3: about to: exit"),
        ("crash", "died", "the worker ended by SIGSEGV: about to: crash"),
        ("kill", "out of memory", "the worker was killed; usually the machine has run out of memory"),
        ("nonsense", "protocol", "the worker sent an invalid answer: a header of "),
    ],
)
def test_a_worker_that_is_lost_says_how(when: str, how: str, kind: str, message: str) -> None:
    with start("misbehaving") as worker:
        with pytest.raises(WorkerError) as caught:  # noqa: PT012 - it is lost in one of the two
            load(worker, when + how)
            worker.encode(BATCH)
        assert str(caught.value).startswith(message)
        assert caught.value.kind == kind
        assert f"about to: {how}" in caught.value.stderr
        with pytest.raises(WorkerError, match="the worker has ended"):
            worker.encode(BATCH)


def test_a_worker_that_closes_its_pipe_and_lives_on_is_ended() -> None:
    with start("misbehaving") as worker, pytest.raises(WorkerError, match="closed its pipe") as caught:
        load(worker, "close the pipe")
    assert caught.value.kind == "died"


def test_a_file_that_cannot_be_imported(tmp_path: Path) -> None:
    implementation = describe(STUBS / "plain.py")[0]
    file = tmp_path / "broken.py"
    file.write_text("import a_module_that_is_not_there")
    with Worker(type(implementation)(**{**vars(implementation), "file": file})) as worker:
        with pytest.raises(WorkerError, match="a_module_that_is_not_there") as caught:
            load(worker)
        assert caught.value.kind == "ModuleNotFoundError"


def test_a_python_that_cannot_run_the_worker(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no module named numpy' >&2\nexit 1\n")
    broken.chmod(0o755)
    with Worker(describe(STUBS / "plain.py")[0], python=str(broken)) as worker:
        with pytest.raises(WorkerError, match="exit code 1: no module named numpy") as caught:
            load(worker)
        assert caught.value.kind == "died"


def test_a_hanging_worker_is_ended_and_waiting_for_it_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with start("misbehaving") as worker:
        load(worker)
        monkeypatch.setattr(client, "LOAD_TIMEOUT", 1.0)
        wall, cpu = time.monotonic(), time.process_time()
        with pytest.raises(WorkerError, match="did not answer in time") as caught:
            load(worker, "sleep")
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        assert caught.value.kind == "timeout"
        assert "about to: sleep" in caught.value.stderr
        assert 1.0 <= wall < 20
        assert cpu < 0.1, "the harness spins while it waits"


def test_closing_twice() -> None:
    with start("plain") as worker:
        load(worker)
        worker.close()
        worker.close()
        assert worker.stderr_tail() == ""
    with start("plain"):
        pass  # one that was never asked anything ends too


def test_an_error_of_the_harness_ends_the_worker() -> None:
    with pytest.raises(ZeroDivisionError), start("plain") as worker:  # noqa: PT012
        load(worker)
        raise ZeroDivisionError


def test_an_interrupted_harness_ends_the_worker() -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), start("misbehaving") as worker:  # noqa: PT012
            load(worker, "later:sleep")
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            worker.encode(BATCH)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


HARNESS = """
import sys
from pathlib import Path
from harness.registry.implementations import describe
from harness.measure import client
from harness.measure.client import Worker

with Worker(describe(Path(sys.argv[1]))[0]) as worker:
    print(worker._process.pid, flush=True)
    worker.load(Path(sys.argv[2]), None, "cpu", "fp32", None)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("doing", ["sleep", "spin beside a child"])
def test_a_worker_that_is_loading_ends_with_the_harness(number: signal.Signals, doing: str) -> None:
    command = [sys.executable, "-c", HARNESS, str(STUBS / "misbehaving.py"), doing]
    harness = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert harness.stdout is not None
    worker = psutil.Process(int(harness.stdout.readline()))
    processes = [worker]
    try:
        wait_until(lambda: worker.num_threads() > 1)  # it is about to be asked
        if "child" in doing:
            wait_until(worker.children)
            processes += worker.children()
        harness.send_signal(number)
        wait_until(lambda: not any(map(lives, processes)))
    finally:
        harness.kill()
        harness.communicate()
        for process in filter(lives, processes):
            process.kill()


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def test_what_a_worker_started_ends_with_it() -> None:
    with start("misbehaving") as worker:
        load(worker, "later:grandchild")
        grandchild = psutil.Process(int(worker.encode(BATCH).hidden[0]))
        assert grandchild.is_running()
    wait_until(lambda: not lives(grandchild))


def test_a_signal_to_the_terminal_does_not_reach_the_worker(plain: Worker) -> None:
    (child,) = (c for c in psutil.Process().children() if "plain.py" in " ".join(c.cmdline()))
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process reads another's peak")
def test_peak_memory_is_of_this_process_alone() -> None:
    ours = np.ones(400 * 2**20, dtype=np.uint8)
    with start("misbehaving") as large, start("misbehaving") as small:
        load(large, "later:allocate")
        load(small, "later:nothing")
        large.encode(BATCH), small.encode(BATCH)
        peaks = [worker.memory() for worker in (large, small)]
    assert len(ours) > 0
    assert 300 * 2**20 < peaks[0]["resident"] < 600 * 2**20, "what was freed since counts as well"
    assert 5 * 2**20 < peaks[1]["resident"] < 200 * 2**20, "the harness or another worker shows in it"
    assert peaks[1]["gpu"] is None


def test_threads_that_share_their_cores_do_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    said = {}
    for beside_others in (False, True):
        with Worker(describe(STUBS / "waiting.py")[0], beside_others=beside_others) as worker:
            load(worker)
            said[beside_others] = worker.info["version"]
    assert said == {False: "as they like", True: "passive"}


# ---- the two sides of the pipe: ``Worker`` here, ``Session`` in the child process ----

FILLED_IN = {"variant", "cpus", "checkout"}  # what the client adds to what its caller gives
NOT_COMMANDS = {"interrupt", "close", "stderr_tail"}
ARGUMENTS: dict[str, Any] = {
    "allowed": 1,
    "arrivals": np.zeros(2),
    "batch": BATCH,
    "batch_tokens": 100,
    "bound": 0.1,
    "config": {"hidden_size": 8},
    "device": "cpu",
    "folder": Path("folder"),
    "head": None,
    "kind": "tagging",
    "labels": np.zeros(5, np.int64),
    "mask_id": 103,
    "meeting": Path("meeting"),
    "on_progress": print,
    "out": Path("out"),
    "picks": np.zeros(2, np.int64),
    "precision": "fp32",
    "precisions": ["fp32"],
    "rank": 1,
    "recipe": {"epochs": 1},
    "repeats": 3,
    "seed": 0,
    "sequences": 2,
    "splits": {"dev": []},
    "task": {"name": "any"},
    "texts": ["any"],
    "threads": 1,
    "together": 8,
    "tokens": 16,
    "weights": Path("weights"),
    "world": 2,
}


def parameters(function: Callable[..., Any], but: set[str]) -> dict[str, Any]:
    """Names and types, in their order; a path is sent as text."""
    hints = get_type_hints(function)
    names = [name for name in signature(function).parameters if name not in {"self", *but}]
    return {name: str if hints[name] is Path else hints[name] for name in names}


def test_the_client_has_a_method_for_each_command_and_no_other() -> None:
    public = {name for name, value in vars(Worker).items() if isfunction(value) and not name.startswith("_")}
    assert public - NOT_COMMANDS == set(COMMANDS)
    assert public > NOT_COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_client_and_session_agree_on_a_commands_parameters(command: str) -> None:
    theirs = parameters(COMMANDS[command], FILLED_IN)
    assert parameters(getattr(Worker, command), {"on_progress"}) == theirs


@pytest.mark.parametrize("command", COMMANDS)
def test_a_method_of_the_client_sends_all_that_its_command_needs(
    command: str, plain: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sent(Exception):
        pass

    def ask(name: str, on_progress: Any = None, timeout: float | None = None, **arguments: Any) -> None:
        raise Sent(name, arguments)

    monkeypatch.setattr(plain, "_ask", ask)
    method = getattr(plain, command)
    given = {name: ARGUMENTS[name] for name in signature(method).parameters}
    with pytest.raises(Sent) as sent:
        method(**given)
    name, arguments = sent.value.args
    assert name == command
    assert arguments.keys() == signature(COMMANDS[command]).parameters.keys() - {"self"}
    for name in arguments.keys() & given.keys():
        assert arguments[name] is given[name] or arguments[name] == str(given[name]), name
