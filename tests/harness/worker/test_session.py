"""The worker's side: requests and answers over streams, and the commands that need no child process."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.measure.client import Worker, WorkerError
from harness.port.batch import Batch, from_lists
from harness.registry.implementations import describe, find
from harness.worker import session as worker
from harness.worker.messages import Array, exactly, receive, send
from harness.worker.session import Session, serve

ROOT = Path(__file__).parents[3]
STUBS = Path(__file__).parents[1] / "stubs"
LENGTHS = [3, 9, 5, 2, 9]
BATCH = from_lists([list(range(n)) for n in LENGTHS], [[0] * n for n in LENGTHS])
LOAD = {"folder": "f", "head": None, "device": "cpu", "precision": "fp32", "variant": "", "threads": 1}


def conversation(*requests: tuple[dict[str, Any], dict[str, Array]]) -> list[tuple[dict[str, Any], dict[str, Array]]]:
    """What the stub ``plain`` answers to these requests, each answer in its turn."""
    asked, answered = io.BytesIO(), io.BytesIO()
    for message, arrays in requests:
        send(asked, message, arrays)
    asked.seek(0)
    serve(STUBS / "plain.py", asked, answered)
    size = answered.tell()
    answered.seek(0)
    answers = []
    while answered.tell() < size:
        answers.append(receive(exactly(answered)))
    return answers


class Recorder:
    """A model that notes the lengths of what it is fed."""

    def __init__(self, batching: str) -> None:
        self.batching, self.fed, self.synchronized = batching, list[list[int]](), 0

    def encode(self, batch: Batch) -> None:
        self.fed.append(batch.lengths.tolist())

    def synchronize(self) -> None:
        self.synchronized += 1


def timed(batching: str, repeats: int = 1, sequences: int | None = None, tokens: int | None = None) -> Recorder:
    session = Session(Path("unused"), lambda **_: None)
    session.model = Recorder(batching)
    _, arrays = session.time(BATCH, sequences, tokens, repeats)
    assert arrays["wall"].shape == arrays["cpu"].shape == (repeats,)
    assert (arrays["wall"] > 0).all()
    assert (arrays["cpu"] >= 0).all()
    assert session.model.synchronized == repeats, "the clock stops when the device is done, once a pass"
    return session.model


def test_a_conversation() -> None:
    (info, _), (_, encoded), (memory, _) = conversation(
        ({"command": "load", **LOAD}, {}), ({"command": "encode"}, BATCH._asdict()), ({"command": "memory"}, {})
    )
    assert info["version"].startswith("f None cpu fp32")
    assert encoded["hidden"][:, 0].tolist() == BATCH.ids.tolist()
    assert memory["resident"] > 2**20


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"command": "dance"}, "ValueError"),
        ({"command": "_import"}, "ValueError"),
        ({"command": "progress"}, "ValueError"),
        ({"no": "command"}, "ValueError"),
        ({"command": "load"}, "TypeError"),
        ({"command": "memory", "colour": "red"}, "TypeError"),
        ({"command": "encode"}, "TypeError"),
    ],
)
def test_a_wrong_request_is_answered_and_the_next_one_works(request_: dict[str, Any], kind: str) -> None:
    (answer, _), (memory, _) = conversation((request_, {}), ({"command": "memory"}, {}))
    assert answer["kind"] == kind
    assert answer["error"]
    assert "resident" in memory


def test_the_end_of_requests_is_the_end() -> None:
    assert conversation() == []


def test_training_what_cannot_be_trained_is_an_error() -> None:
    recipe = {"epochs": 1, "batch_size": 2, "weight_decay": 0.0, "learning_rate": 1.0, "warmup": 0.1}
    arrays = {**BATCH._asdict(), "labels": np.zeros(5, dtype=np.int64)}
    (info, _), (answer, _) = conversation(
        ({"command": "load", **LOAD}, {}),
        ({"command": "start_training", "recipe": recipe, "kind": "classification", "seed": 1}, arrays),
    )
    assert info["trainable"] is False
    assert (answer["kind"], "module" in answer["error"]) == ("AttributeError", True)


def test_timing_takes_the_whole_batch_unless_told_otherwise() -> None:
    for batching in ("padded", "packed"):
        assert timed(batching, repeats=3).fed == [LENGTHS] * 3


def test_padded_implementations_are_fed_so_many_sequences_in_their_order() -> None:
    assert timed("padded", sequences=2, tokens=11).fed == [[3, 9], [5, 2], [9]]
    assert timed("packed", sequences=2).fed == [[3, 9], [5, 2], [9]]


def test_packed_implementations_are_fed_so_many_tokens_longest_first() -> None:
    assert timed("packed", sequences=2, tokens=18, repeats=2).fed == [[9, 9], [5, 3, 2]] * 2


def of_two_processes(variant: str) -> Worker:
    """A worker whose model computes in a child process; see the stub."""
    name = f"two-processes{variant and ':'}{variant}"
    return Worker(next(each for each in describe(STUBS / "two_processes.py") if each.name == name))


def seconds_and_memory(variant: str) -> tuple[list[float], int]:
    """CPU seconds of three passes, and peak memory after them, as its worker reports them."""
    with of_two_processes(variant) as process:
        process.load(Path("unused"), None, "cpu", "fp32", 1)
        assert process.info["version"] == "1"
        seconds = process.time(BATCH, None, None, 3).cpu.tolist()
        return seconds, process.memory()["resident"]


@pytest.mark.skipif(not worker.OTHERS_ARE_SHOWN, reason="only Linux tells what other processes need")
def test_processes_that_compute_for_a_model_are_counted() -> None:
    (counted, more), (alone, less) = seconds_and_memory(""), seconds_and_memory("silent")
    assert counted == pytest.approx([0.2] * 3, abs=0.05), "its child takes 0.2 s a pass, read in steps of 10 ms"
    assert max(alone) < 0.1
    assert 200e6 <= more - less < 260e6, "its child holds 200 MB, and Python"


@pytest.mark.skipif(not worker.OTHERS_ARE_SHOWN, reason="only Linux tells what other processes need")
def test_a_process_that_has_ended_is_not_counted_as_nothing() -> None:
    with of_two_processes("ended") as process:
        process.load(Path("unused"), None, "cpu", "fp32", 1)
        with pytest.raises(WorkerError, match="has ended"):
            process.memory()
        with pytest.raises(WorkerError, match="No such file"):
            process.time(BATCH, None, None, 1)


def test_where_other_processes_are_hidden_the_version_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "OTHERS_ARE_SHOWN", False)
    session = Session(STUBS / "two_processes.py", lambda **_: None)
    try:
        version = session.load("unused", None, "cpu", "fp32", "", None)[0]["version"]
        assert version == "1 (CPU seconds and memory without those of its other processes)"
        assert session.memory()[0]["resident"] > 0
    finally:
        session.model.child.kill()
        session.model.child.communicate()


class Slow(Recorder):
    """A model that takes 20 ms, whatever it is fed."""

    def encode(self, batch: Batch) -> None:
        super().encode(batch)
        time.sleep(0.02)


def served(together: int, arrivals: list[float], bound: float = 9.0, allowed: int = 99) -> tuple[Slow, list[float]]:
    """Queries for sequences 0, 1, 2, ... at these times: the model without its warm-up, and their latencies."""
    session = Session(Path("unused"), lambda **_: None)
    session.model = Slow("padded")
    picks = np.arange(len(arrivals))
    _, arrays = session.serve(BATCH, np.array(arrivals), picks, together, bound, allowed)
    session.model.fed = session.model.fed[2:]
    return session.model, arrays["latencies"].tolist()


def test_queries_are_served_in_order_and_wait_for_those_before_them() -> None:
    model, latencies = served(1, [0.0, 0.0, 0.0])
    assert model.fed == [[3], [9], [5]]
    assert latencies == sorted(latencies)
    assert latencies[0] >= 0.02
    assert latencies[2] >= 0.06


def test_queries_that_are_there_together_are_computed_together() -> None:
    assert served(3, [0.0, 0.0, 0.0, 0.3])[0].fed == [[3, 9, 5], [2]]


def test_serving_ends_once_too_many_took_too_long() -> None:
    assert len(served(1, [0.0] * 5, bound=0.0, allowed=1)[1]) == 2


def test_a_job_and_a_tokenizer(tmp_path: Path) -> None:
    file = tmp_path / "both.py"
    file.write_text(
        "def job(checkout, weights, task, splits, out, progress):\n"
        "    progress(done=1, total=1)\n"
        "    return {'version': weights + out, 'recipe': checkout, 'predictions': {'dev': [task, splits]}}\n"
        "def tokenizer(folder):\n"
        "    return lambda text: [len(text), 1 // len(text)]\n"
    )
    seen: list[dict[str, Any]] = []
    session = Session(file, lambda **what: seen.append(what))
    answer, _ = session.job("w", {"name": "x"}, {"dev": []}, "o", threads=None, cpus=None, checkout="there")
    assert answer == {"version": "wo", "recipe": "there", "predictions": {"dev": [{"name": "x"}, {"dev": []}]}}
    assert seen == [{"done": 1, "total": 1}]
    assert session.tokenize(["ab", "", "c"])[0]["ids"] == [[2, 0], None, [1, 1]], "a text that it fails at is None"


def test_keep_restore_and_cast() -> None:
    import torch

    session = Session(Path("unused"), lambda **_: None)
    session.model = type("Model", (), {"module": torch.nn.Linear(2, 2)})()
    kept = session.model.module.weight.detach().clone()
    session.keep()
    with torch.no_grad():
        session.model.module.weight += 1
    session.restore()
    assert torch.equal(session.model.module.weight, kept)
    session.cast("bf16")
    assert {p.dtype for p in session.model.module.parameters()} == {torch.bfloat16}
    assert session.kept is None, "weights of another precision are no longer needed"


LOADED = """
class Model:
    version, batching = "1", {batching!r}
    module = None

    def encode(self, batch): ...
    def fetch(self, encoded, batch): ...
    def pooled(self, encoded, batch): ...
    def synchronize(self): ...
    {more}

def load(folder, head, device, precision, variant):
    return Model()
"""


@pytest.mark.parametrize(
    ("batching", "more", "error"),
    [
        ("pakced", "", "batching is 'pakced'; it must be 'packed' or 'padded'"),
        ("packed", "def logits(self, batch): ...", "has logits, but not all that harness.port.Trainable asks for"),
    ],
)
def test_a_model_that_would_be_misunderstood_is_refused(tmp_path: Path, batching: str, more: str, error: str) -> None:
    file = tmp_path / "refused.py"
    file.write_text(LOADED.format(batching=batching, more=more))
    with pytest.raises((TypeError, ValueError), match=error):
        Session(file, lambda **_: None).load(**LOAD)


@pytest.mark.parametrize(("more", "trainable"), [("", False), ("logits = export = synchronize", True)])
def test_a_model_with_logits_and_export_is_trainable(tmp_path: Path, more: str, trainable: bool) -> None:
    file = tmp_path / "accepted.py"
    file.write_text(LOADED.format(batching="padded", more=more))
    assert Session(file, lambda **_: None).load(**LOAD)[0]["trainable"] is trainable


# ---- what computed ----

WARNING = """
import logging

NAME = "warning"
TITLE = "Warning"
CATALOG_ID = "warning"


class Model:
    version, batching, precision, computed = "1", "packed", "bf16", "fp32"
    native = {"functions": None, "compiler": None, "reason": "no compiler"}


def load(folder, head, device, precision, variant=""):
    logging.getLogger("reference.anywhere").warning("products in %s are slow", precision)
    logging.getLogger("others").warning("nothing of ours")
    return Model()
"""


def test_what_computed_and_what_the_reference_warned_of_is_told_when_it_is_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "warning.py"
    file.write_text(WARNING)
    for _ in range(2):
        with Worker(describe(file)[0]) as started:
            started.load(Path("f"), None, "cpu", "bf16", 1)
            said = started.info
            assert (said["precision"], said["computed"], said["compiled"]["reason"]) == ("bf16", "fp32", "no compiler")
            assert "warnings" not in said
    assert [each.getMessage() for each in caplog.records] == ["warning: products in bf16 are slow"], "once"


def test_one_that_does_not_tell_computes_as_it_was_asked() -> None:
    (said, _) = conversation(({"command": "load", **LOAD, "precision": "bf16"}, {}))[0]
    assert (said["precision"], said["computed"]) == ("bf16", "bf16")
    assert "compiled" not in said


def test_the_reference_is_cast_to_what_the_processor_has(
    tiny_head: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "AVX2")
    session = Session(ROOT / "harness/implementations/reference.py", lambda **_: None)
    session.load(str(tiny_head("classification")), "classification", "cpu", "fp32", "", 1)
    before = {name: value.clone() for name, value in session.model.module.state_dict().items()}
    said, _ = session.cast("bf16")
    assert said["computed"] == "fp32"
    for name, value in session.model.module.state_dict().items():
        assert torch.equal(value, before[name].bfloat16().float()), "rounded, and float32"


def test_limits_are_measured_in_a_worker_that_loads_nothing() -> None:
    config = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    with Worker(find("reference")) as started:
        answer = started.limits(config, 16, ["fp32"], "cpu", threads=1)
    assert set(answer) == {"fp32", "copying"}
    assert answer["fp32"]["by"] in ("ours", "oneDNN", "PyTorch")


def test_int8_on_a_processor_without_instructions_for_it_is_skipped(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "AVX2")
    with Worker(find("reference:int8")) as started:
        with pytest.raises(WorkerError, match="slower than float32 here: no compiled layers for hidden") as refused:
            started.load(tiny_checkpoint, None, "cpu", "fp32", 1)
        assert refused.value.state == "skipped"
