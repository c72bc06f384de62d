"""The command choose: on a tiny model and texts of a file, and the sentences that follow from figures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.choose.agreement import agreement
from harness.choose.installation import installation_of
from harness.choose.verdict import Row, rows, sentences
from harness.measure import speed
from harness.port.batch import from_lists
from harness.records.record import Speed, read_all
from harness.registry.implementations import find
from tests.conftest import new_cache

Main = Callable[..., tuple[int, str, str]]
TEXTS = ["Where is my parcel?", "It came on Monday.", "", "A long complaint about the late parcel " * 9, "谢谢", "Fine"]


@pytest.fixture
def choose(main: Main, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """A function: further arguments to exit code, output and errors."""
    monkeypatch.setattr(speed, "SECONDS", 0.001)
    monkeypatch.setenv("BERT_ATLAS_CACHE", new_cache(tmp_path / "cache"))
    file = tmp_path / "mails.txt"
    file.write_text("".join(f"{text}\n" for text in TEXTS))
    own = ["--weights", tiny_checkpoint, "--runs", tmp_path / "runs", "--device", "cpu", "--threads", "1"]
    return lambda *arguments: main("choose", "--texts", file, *own, *arguments)


@pytest.mark.slow
def test_it_compares_on_the_users_texts_and_goes_on_from_what_is_finished(choose: Main, tmp_path: Path) -> None:
    code, out, err = choose("--impl", "tbert")  # which needs torch alone
    assert code == 0, err
    header, *lines = [line for line in out.splitlines() if line.strip()]
    assert "one of 7 tokens" in header
    assert "6 texts" in header
    assert {line.split()[0]: line.split()[1] for line in lines[:2]} == {"reference": "exact", "tbert": "exact"}
    assert any(line.startswith("In float32, for many texts: ") for line in lines)
    assert any(line.startswith("In float32, for one text at a time: ") for line in lines)

    records = read_all([tmp_path / "runs"])
    assert sorted(each.kind for each in records) == ["parity", "parity", "speed", "speed"]
    (of_texts,) = (each for each in records if isinstance(each, Speed) and each.shape["own_lengths"])
    assert of_texts.shape["sequences"] == len(TEXTS)
    agrees = of_texts.implementations["tbert"]["agreement"]
    assert agrees["least"] == pytest.approx(1, abs=1e-6)
    assert agrees["same_neighbour"] == 1
    for file in (tmp_path / "runs").rglob("*.json"):
        assert "parcel" not in file.read_text(), "records contain no text of the user"

    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")}
    assert choose("--impl", "tbert")[:2] == (0, out)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"", [], "mails.txt is empty"),
        (b" \n \n", [], "mails.txt is empty"),
        (b"\x00\xff\xfe\x00", [], "mails.txt"),
        (b"text\n", ["--impl", "no-such-engine"], "no implementation is called 'no-such-engine'"),
        (b"text\n", ["--sentences", "0"], "--sentences is 0; it must be above 0"),
        (b"text\n", ["--columns", "text"], "not of the form ROLE=COLUMN"),
        (b"text\n", ["--weights", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_bad_input_is_said_in_a_sentence(
    content: bytes, arguments: list[str], message: str, choose: Main, tmp_path: Path
) -> None:
    (tmp_path / "mails.txt").write_bytes(content)
    code, out, err = choose(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""


# -- what follows from figures --


def row(name: str, many: float, one: float | None = None, spread: float = 0.02, **fields: Any) -> Row:
    def figures(ratio: float) -> dict[str, Any]:
        return {"ratio": [ratio, ratio * (1 - spread), ratio * (1 + spread)]}

    agrees = {"agreement": {"texts": 9, "least": 0.9876, "mean": 0.99543, "same_neighbour": 8 / 9}}
    settled = {"verdict": "exact", "computed": "fp32"} | fields
    return Row(name, one=figures(one or many), many=figures(many) | agrees, **settled)


def test_the_fastest_is_named_with_the_next() -> None:
    many, one = sentences([row("reference", 1.0), row("openvino", 1.5, one=0.8), row("transformers", 0.5)])
    assert many == "In float32, for many texts: openvino, 1.50 times as fast as reference, the next."
    assert one == "In float32, for one text at a time: reference, 1.25 times as fast as openvino, the next."


def test_those_whose_ranges_overlap_are_level() -> None:
    many, _ = sentences([row("reference", 1.0, spread=0), row("openvino", 1.05, spread=0.1), row("slow", 0.5)])
    assert many == "In float32, for many texts: openvino, level with reference: their ranges overlap."


def test_lower_precision_says_what_it_costs_or_that_it_gains_nothing() -> None:
    said = sentences([row("reference", 1.0), row("reference:int8", 2.0, computed="int8", verdict="differs")])
    assert said[2].startswith("In int8, reference:int8 is 2.00 times as fast as the best of these;")
    assert "a cosine of at least 0.9876" in said[2]
    assert "88.9% of your texts" in said[2]
    assert len(said) == 3, "int8 is no fault of the implementation"
    slower = sentences([row("reference", 1.0), row("openvino:bf16", 0.5, computed="bf16", verdict="close")])
    assert slower[2] == "A lower precision is no faster here."


def test_one_that_computes_something_else_is_never_recommended() -> None:
    said = sentences([row("reference", 1.0), row("wrong", 9.0, verdict="differs", why="gelu by tanh")])
    assert said[0] == "In float32, for many texts: reference, the only one that was timed."
    assert said[-1] == "These compute something else than these weights: wrong."


def test_a_machine_that_was_busy_is_named() -> None:
    assert "doubtful" in sentences([row("reference", 1.0, disturbed=True)])[-1]


def test_nothing_that_could_be_timed() -> None:
    (said,) = sentences([Row("reference", state="failed", reason="it broke")])
    assert said.startswith("Nothing that computes BERT in float32 could be timed here")


def test_rows_are_of_all_records_those_that_failed_last(speed_record: Callable[..., Speed]) -> None:
    base = speed_record()
    failed = {"state": "failed", "reason": "no memory"}
    base.implementations = {"broken": failed, "reference": base.implementations["reference"]}
    found = rows([base])
    assert [each.name for each in found] == ["reference", "broken"]
    assert found[1].reason == "no memory"


class Fixed:
    """A worker whose hidden states are a function of the ids."""

    def __init__(self, change: float = 0.0) -> None:
        self.change = change

    def encode(self, batch: Any) -> Any:
        hidden = np.stack([np.cos(batch.ids), np.sin(batch.ids) + self.change * (batch.ids == 3)], axis=1)
        return type("Encoded", (), {"hidden": hidden.astype(np.float32)})()


def test_agreement_is_of_the_means_of_each_text() -> None:
    batch = from_lists([[1, 1], [2], [3, 3, 3]], [[0, 0], [0], [0, 0, 0]])
    same = agreement(Fixed(), batch)(Fixed())["agreement"]  # type: ignore[arg-type]
    assert same == {"texts": 3, "least": pytest.approx(1), "mean": pytest.approx(1), "same_neighbour": 1.0}
    other = agreement(Fixed(), batch)(Fixed(change=2.0))["agreement"]  # type: ignore[arg-type]
    a, b = np.array([np.cos(3), np.sin(3)]), np.array([np.cos(3), np.sin(3) + 2])
    assert other["least"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert other["mean"] == pytest.approx((2 + other["least"]) / 3)


def test_what_is_installed_is_measured_where_it_runs() -> None:
    reference, transformers = installation_of(find("reference")), installation_of(find("transformers"))
    assert reference.size is not None
    assert transformers.size is not None
    assert transformers.size > reference.size > 100 * 2**20, "both need torch"
    assert reference.licence == "Apache-2.0"
    assert "Apache" in transformers.licence
    assert installation_of(find("bert-chainer")).size is None or find("bert-chainer").requirements.packages
    json.dumps([reference, transformers])
