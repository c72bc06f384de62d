"""The command choose: on a tiny model and texts of a file, and the sentences that follow from figures."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.choose.agreement import agreement
from harness.choose.code import lines
from harness.choose.head import Head, packed
from harness.choose.installation import installation_of
from harness.choose.verdict import Row, rows, sentences
from harness.measure import speed
from harness.measure.client import Encoded
from harness.measure.plan import Plan
from harness.port.batch import Batch, from_lists
from harness.records.record import Speed, read_all
from harness.registry.implementations import find
from harness.weights.find import Weights
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


@pytest.fixture
def with_head(tiny_head: Callable[[str], Path], tiny_checkpoint: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A function: kind of task to a folder of the tiny checkpoint with such a head, and with its tokenizer."""

    def folder_of(kind: str) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(tiny_checkpoint, folder)
        shutil.copytree(tiny_head(kind), folder, dirs_exist_ok=True)
        return folder

    return folder_of


@pytest.mark.slow
def test_it_compares_on_the_users_texts_and_goes_on_from_what_is_finished(
    choose: Main, with_head: Callable[[str], Path], tmp_path: Path
) -> None:
    own = ["--weights", with_head("classification"), "--head-task", "classification", "--impl", "tbert"]
    code, out, err = choose(*own)
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
    assert agrees["same_answer"] == 1
    assert "same answers" in header
    assert all("100.0%" in line for line in lines[:2])
    assert any(line.startswith("The head, computed apart in float64, takes ") for line in lines)
    assert "from harness.implementations import" in out, "the lines of code"
    for file in (tmp_path / "runs").rglob("*.json"):
        assert "parcel" not in file.read_text(), "records contain no text of the user"

    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")}
    assert choose(*own)[:2] == (0, out)
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
        (b"a" * 10_000_000, [], "text 1 has 10,000,000 characters"),
        (
            b"text\n",
            ["--head-task", "regression"],
            "--head-task 'regression' is not one of classification, multi-label",
        ),
        (b"text\n", ["--head-task", "tagging"], "this needs a BertForTokenClassification"),
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


def test_texts_that_are_all_empty_or_weights_of_another_model_are_refused(choose: Main, tmp_path: Path) -> None:
    (tmp_path / "mails.txt").write_text("text")
    (tmp_path / "mails.csv").write_text('id,text\n1,""\n2," "\n')
    code, _, err = choose("--texts", tmp_path / "mails.csv")
    assert (code, err.count("\n")) == (2, 1)
    assert "all of its texts are empty" in err

    other = tmp_path / "gpt2"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2Model"]}')
    (other / "model.safetensors").write_bytes(b"")
    code, _, err = choose("--weights", other)
    assert (code, err.count("\n")) == (2, 1)
    assert "model_type is 'gpt2' (GPT2Model)" in err


# -- what a text is cut to --


@pytest.mark.parametrize(
    ("said", "longest"), [({"max_seq_length": 16}, 16), ({}, 512), ({"max_seq_length": 9999}, 512)]
)
def test_texts_are_cut_where_the_folder_of_weights_says_so(
    said: dict[str, int], longest: int, prepared: Callable[..., Plan], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sentences"
    shutil.copytree(tiny_checkpoint, folder)
    kinds = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    modules = [{"idx": i, "name": i, "path": p, "type": f"sentence_transformers.models.{k}"} for i, p, k in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps(said | {"do_lower_case": True}))
    texts = ["word " * 600, "Short"]
    plan = prepared(weights=str(folder), texts=tuple(texts))
    found = speed.of_texts(plan).batch
    assert found.lengths.tolist() == [longest, 3]
    assert found.ids[-2] == plan.tokenizer.encode("short").ids[1]


# -- heads --


@pytest.mark.parametrize(
    ("kind", "shares"),
    [("classification", [1.0, 1.0, 0.5]), ("multi-label", [1.0, 1.0, 0.5]), ("tagging", [1.0, 0.5, 1.0])],
)
def test_a_text_has_the_same_answer_unless_what_its_head_reads_differs(
    kind: str, shares: list[float], tiny_head: Callable[[str], Path]
) -> None:
    head = Head(Weights("tiny", tiny_head(kind), "0" * 64, "local"), kind)
    batch = from_lists([[101, 7592, 102], [101, 2088, 2088, 102]], [[0] * 3, [0] * 4])
    exact = head.module.bert(packed(batch)).detach().numpy()

    class Encoder:
        def __init__(self, change: int | None = None) -> None:
            self.change = change

        def encode(self, part: Batch) -> Encoded:
            hidden = exact.copy()
            if self.change is not None:
                hidden[self.change] *= -9
            return Encoded(hidden, None)

    question = head.compare(Encoder(), batch)  # type: ignore[arg-type]
    share = [question(Encoder(change))["agreement"]["same_answer"] for change in (None, 1, 0)]  # type: ignore[arg-type]
    assert share == shares, "a pooler reads [CLS], whose tag does not count"


# -- lines of code --


@pytest.mark.parametrize(
    ("name", "head", "gives"), [("reference", None, "vectors"), ("reference", "tagging", "logits")]
)
def test_the_lines_of_code_run(name: str, head: str | None, gives: str, with_head: Callable[[str], Path]) -> None:
    folder = with_head("tagging")
    there: dict[str, Any] = {"texts": ["Where is my parcel?", "Fine"]}
    exec(lines(find(name), folder, "cpu", 256, head), there)
    assert there[gives].shape == {"vectors": (2, 32), "logits": (10, 5)}[gives]


def test_code_of_an_implementation_in_a_file_of_the_users_own_names_the_file(tmp_path: Path) -> None:
    own = replace(find("transformers"), file=tmp_path / "mine.py")
    assert str(own.file) in lines(own, tmp_path, "cpu", 256, None)


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


def test_vectors_are_pooled_as_the_folder_of_weights_says(tmp_path: Path) -> None:
    kinds = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    modules = [{"idx": i, "name": i, "path": p, "type": f"sentence_transformers.models.{k}"} for i, p, k in kinds]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    batch = from_lists([[1, 3], [2, 1]], [[0, 0], [0, 0]])
    said = {"same_neighbour": 1.0, "texts": 2, "least": pytest.approx(1), "mean": pytest.approx(1)}
    question = agreement(Fixed(), batch, Weights("cls", tmp_path, "0" * 64, "local"))  # type: ignore[arg-type]
    assert question(Fixed(change=2.0))["agreement"] == said, "only the second token differs"  # type: ignore[arg-type]
    assert agreement(Fixed(), batch)(Fixed(change=2.0))["agreement"]["least"] < 0.99  # type: ignore[arg-type]


def test_what_is_installed_is_measured_where_it_runs() -> None:
    reference, transformers = installation_of(find("reference")), installation_of(find("transformers"))
    assert reference.size is not None
    assert transformers.size is not None
    assert transformers.size > reference.size > 100 * 2**20, "both need torch"
    assert reference.licence == "Apache-2.0"
    assert "Apache" in transformers.licence
    assert installation_of(find("bert-chainer")).size is None or find("bert-chainer").requirements.packages
    json.dumps([reference, transformers])
