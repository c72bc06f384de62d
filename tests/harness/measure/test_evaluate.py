"""One quality run: what it puts into the record, and what it does not let pass."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import yaml

from harness.data.kinds import KINDS
from harness.data.task import load_task, suites
from harness.measure import evaluate
from harness.measure.bench import Bench
from harness.measure.client import Epoch, Job, Worker, WorkerError
from harness.measure.evaluate import load_splits
from harness.measure.plan import Options, Plan, prepare
from harness.measure.run import Run
from harness.port.batch import Array, Batch, in_order
from harness.predict import predict
from harness.records import record
from harness.records.record import Quality
from harness.statistics.score import Predictions, score
from harness.weights.checkpoints import Checkpoints

LIMIT = 40


class Answering:
    """In the place of a worker: it answers ``predict`` with what a function makes of the batch."""

    def __init__(self, logits: Callable[[Batch], Array], predictions: dict[str, Any] | None = None) -> None:
        self.logits, self.predictions, self.checkout = logits, predictions, None
        self.info = {"version": "1", "precision": "fp32", "computed": "fp32", "trainable": True}
        self.compiled = {"functions": "adamw", "compiler": "g++ 12.2.0", "reason": None}

    def __enter__(self) -> "Answering":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def load(self, *_: Any) -> None:
        pass

    def predict(self, batch: Batch, *_: Any) -> Array:
        return self.logits(batch)

    def job(self, *_: Any) -> Job:
        return Job("tool 1", "looks up", self.predictions or {})

    def start_training(self, *_: Any) -> dict[str, Any]:
        return self.compiled

    def train_epoch(self, *_: Any) -> Epoch:
        return Epoch(0.5, 1.0, 1.0)

    def keep(self) -> None:
        pass

    def restore(self) -> None:
        pass

    def cast(self, precision: str) -> str:
        return "fp32"

    def export(self) -> dict[str, Array]:
        return {}

    def memory(self) -> dict[str, int | None]:
        return {"resident": 1, "gpu": None}


@pytest.fixture
def prepared(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., Plan]:
    """A function: options, replaced, to the plan."""

    def make(**options: Any) -> Plan:
        usual: dict[str, Any] = {
            "implementations": ["reference"],
            "tasks": ["mini-sentiment"],
            "weights": str(tiny_checkpoint),
            "runs": tmp_path / "runs",
            "device": "cpu",
            "limit": LIMIT,
            "epochs": 1,
        }
        return prepare(Options(**(usual | options)))

    return make


@pytest.fixture
def empty(quality_record: Callable[..., Quality]) -> Callable[[Plan], Quality]:
    """A function: the record that a run of this plan begins with."""

    def make(made: Plan) -> Quality:
        recipe = made.recipe(made.tasks[0])
        return quality_record(metrics=[], flags=[], training={}, recipe=recipe, limit=made.options.limit)

    return make


Prepared = Callable[..., Plan]
Empty = Callable[[Plan], Quality]


def random_logits(outputs: int, tokens: bool = False) -> Callable[[Batch], Array]:
    def logits(batch: Batch) -> Array:
        rows = len(batch.ids) if tokens else len(batch.lengths)
        return np.random.default_rng(rows).standard_normal((rows, outputs)).astype(np.float32)

    return logits


def bench_of(worker: Answering) -> Bench:
    """A bench that starts this worker, whatever is asked for."""
    checkpoints = SimpleNamespace(bare=Path, with_head=lambda *_: Path())
    start = {name: lambda *_, **__: worker for name in ("start", "start_training")}
    bench = SimpleNamespace(**start, checkpoints=checkpoints, show=lambda *_: None)
    return cast(Bench, bench)


def run_of(made: Plan) -> Run:
    return Run(made, made.implementations[0], made.tasks[0], 42)


def run_encoder(made: Plan, result: Quality, worker: Answering) -> Predictions:
    return evaluate.encoded(bench_of(worker), run_of(made), result, cast(Worker, worker), Path())


# ---- what is recorded ----


def test_the_record_follows_from_the_predictions_that_are_stored(prepared: Prepared, empty: Empty) -> None:
    made = prepared()
    task, result = made.tasks[0], empty(made)
    answers = run_encoder(made, result, Answering(random_logits(2)))
    examples = load_splits(made, task)["dev"].examples
    assert [name for name, _ in answers["dev"]] == [example.id for example in examples]
    right = sum(answer == example.label for (_, answer), example in zip(answers["dev"], examples, strict=True))
    (metric,) = result.metrics
    assert metric["value"] == right / LIMIT
    assert metric["signature"].endswith(f"|limit={LIMIT}")
    assert score(result, task, {"dev": examples}, answers) == (result.metrics, result.flags), "and ever after"


def test_flags_of_other_origin_stay_and_those_of_predictions_are_made_anew(prepared: Prepared, empty: Empty) -> None:
    made = prepared()
    result = empty(made)
    result.flags = [
        record.flag("out of memory with whole batches; computed in two pieces each"),
        record.flag("what was once true", "dev"),
    ]
    run_encoder(made, result, Answering(lambda batch: np.tile(np.array([1, 0], np.float32), (len(batch.lengths), 1))))
    assert result.flags[0] == record.flag("out of memory with whole batches; computed in two pieces each")
    assert record.flag("negative is predicted for every example", "dev") in result.flags
    assert record.flag("what was once true", "dev") not in result.flags


def test_repairs_of_the_files_are_recorded_and_flagged(prepared: Prepared, empty: Empty, tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("# id 1\na O\nb I-PER\nc B-PER\n")
    (tmp_path / "dev.conll").write_text("a O\nb b-per\n")
    fields: dict[str, Any] = {"kind": "tagging", "format": "conll", "labels": "auto", "metrics": ["entity_f1"]}
    files = {split: f"{split}.conll" for split in ("train", "dev")}
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump(fields | {"name": "mine", "title": "Mine", "files": files, "evaluate": ["dev"]})
    )
    made = prepared(tasks=[str(tmp_path / "mine.yaml")])
    result = empty(made)
    run_encoder(made, result, Answering(random_logits(3, tokens=True)))
    impossible = "tags that cannot follow the one before in iob2, read as conlleval does"
    letters = "tags in other letters, such as b-loc or B_LOC for B-LOC, read as those of the task"
    assert result.repairs == {
        "train": [
            {"what": "comment lines, left out", "count": 1, "first": "train.conll:1"},
            {"what": impossible, "count": 1, "first": "train.conll:3"},
        ],
        "dev": [{"what": letters, "count": 1, "first": "dev.conll:2"}],
    }
    assert [
        record.flag_text(flag)
        for flag in result.flags
        if "the training split" in flag["text"] or "tags" in flag["text"]
    ] == [
        "train: `labels: auto` takes 1 labels from the training split: PER",
        f"train: {impossible}: 1, the first at train.conll:3",
        f"dev: {letters}: 1, the first at dev.conll:2",
    ]


def test_what_was_repaired_in_a_file_is_flagged_once_however_often_it_is_scored(
    prepared: Prepared, empty: Empty
) -> None:
    made = prepared()
    task, result = made.tasks[0], empty(made)
    answers = run_encoder(made, result, Answering(random_logits(2)))
    assert result.repairs == {}
    result.repairs = {"train": [{"what": "I- tags without a B- before them", "count": 3, "first": "train.conll:12"}]}
    examples = {"dev": load_splits(made, task)["dev"].examples}
    for _ in range(2):
        result.metrics, result.flags = score(result, task, examples, answers)
    assert [record.flag_text(flag) for flag in result.flags if flag["split"] == "train"] == [
        "train: I- tags without a B- before them: 3, the first at train.conll:12"
    ]


def test_what_was_cut_and_what_training_has_seen_is_recorded_and_flagged(
    prepared: Prepared, empty: Empty, tmp_path: Path
) -> None:
    rows = {"train": ["a fine soup", "never again", "rain " * 50], "dev": ["A  fine SOUP", "late", "late " * 60, "x"]}
    for split, texts in rows.items():
        lines = [f"{text}\t{('no', 'yes')[i % 2]}\n" for i, text in enumerate(texts)]
        (tmp_path / f"{split}.tsv").write_text("text\tlabel\n" + "".join(lines))
    declared = {
        "name": "own",
        "title": "own",
        "kind": "classification",
        "labels": ["no", "yes"],
        "format": "tsv",
        "columns": {"text": "text", "label": "label"},
        "files": {"train": "train.tsv", "dev": "dev.tsv"},
        "evaluate": ["dev"],
        "metrics": ["accuracy"],
        "max_length": 20,
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(declared))
    made = prepared(tasks=[str(tmp_path / "own.yaml")], limit=None)
    result = empty(made)
    run_encoder(made, result, Answering(random_logits(2)))
    assert result.sanity == {
        "train": {"examples": 3, "cut": 1, "tokens_lost": 32},
        "dev": {"examples": 4, "cut": 1, "tokens_lost": 42, "in_train": 1},
    }
    assert record.flag("1 of 4 examples (25.0%) are cut to what the model reads", "dev") in result.flags
    assert record.flag("1 of 4 examples (25.0%) are in the training split too", "dev") in result.flags
    tool = empty(made)
    job = Answering(random_logits(2), {"dev": ["no"] * 4})
    evaluate.done_by_itself(bench_of(job), run_of(made), tool)
    assert tool.sanity["dev"] == {"examples": 4, "in_train": 1}, "how a program cuts is not known"
    assert not [flag for flag in tool.flags if " cut " in str(flag["text"])]


def test_after_want_of_memory_no_metric_is_there_twice(
    prepared: Prepared, empty: Empty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "load_splits", with_a_second_split(evaluate.load_splits))
    made = prepared()
    run = run_of(replace(made, tasks=[replace(made.tasks[0], evaluate=("dev", "test"))]))
    result, calls = empty(made), []

    def logits(batch: Batch) -> Array:
        calls.append(len(batch.lengths))
        if len(calls) == 2:
            raise WorkerError("no room", "out of memory")
        return random_logits(2)(batch)

    evaluate.fine_tuned(bench_of(Answering(logits)), run, result)
    assert len(calls) == 4
    assert [metric["split"] for metric in result.metrics] == ["dev", "test"]
    said = list(map(record.flag_text, result.flags))
    assert len([text for text in said if text.startswith("out of memory")]) == 1
    assert len(set(said)) == len(said)


def with_a_second_split(load: Callable[..., Any]) -> Callable[..., Any]:
    """``load_splits`` of a task whose test split is its dev split."""

    def load_more(made: Plan, task: Any) -> Any:
        splits = load(made, replace(task, evaluate=("dev",)))
        return splits | {"test": splits["dev"]}

    return load_more


# ---- what is not let pass ----


@pytest.mark.parametrize("shape", [(LIMIT - 1, 2), (LIMIT + 1, 2), (LIMIT, 3), (LIMIT, 1), (LIMIT,)])
def test_logits_of_another_shape_fail_the_run(prepared: Prepared, empty: Empty, shape: tuple[int, ...]) -> None:
    made = prepared()
    result = empty(made)
    with pytest.raises(WorkerError, match=r"mini-sentiment dev: logits of shape .*, not \(40, 2\)"):
        run_encoder(made, result, Answering(lambda batch: np.zeros(shape, np.float32)))
    assert result.metrics == []


def test_tagging_has_logits_for_every_token(prepared: Prepared, empty: Empty) -> None:
    made = prepared(tasks=["mini-ner"])
    tags = len(made.tasks[0].outputs)
    with pytest.raises(WorkerError, match="logits of shape"):
        run_encoder(made, empty(made), Answering(random_logits(tags)))
    result = empty(made)
    run_encoder(made, result, Answering(random_logits(tags, tokens=True)))
    assert result.metrics[0]["n"] == LIMIT


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ({"dev": ["positive"] * (LIMIT - 1)}, f"{LIMIT - 1} predictions for {LIMIT} examples"),
        ({"dev": ["positive"] * (LIMIT + 1)}, f"{LIMIT + 1} predictions for {LIMIT} examples"),
        ({}, f"0 predictions for {LIMIT} examples"),
        ({"dev": ["1"] * LIMIT}, "prediction 1 is '1', which is none of the task's labels: negative, positive"),
    ],
)
def test_a_program_that_answers_what_is_no_answer_fails_its_run(
    prepared: Prepared, empty: Empty, predictions: dict[str, Any], message: str
) -> None:
    made = prepared()
    with pytest.raises(WorkerError, match=f"mini-sentiment dev: {message}"):
        evaluate.done_by_itself(bench_of(Answering(random_logits(2), predictions)), run_of(made), empty(made))


# ---- labels go by their names ----


def fine_tuned_elsewhere(bare: Path, folder: Path, kind: str, labels: list[str]) -> Path:
    """A checkpoint under a head whose outputs stand for these labels, in this order; its tokenizer beside it."""
    from reference.checkpoint import add_head, read, save

    checkpoint = add_head(read(bare), kind, sorted(labels), 0)
    weight = np.random.default_rng(0).standard_normal((len(labels), checkpoint.config.hidden_size))
    order = [sorted(labels).index(label) for label in labels]
    tensors = {"classifier.weight": weight[order], "classifier.bias": 0.1 * np.arange(len(labels))[order]}
    save(replace(checkpoint, tensors=checkpoint.tensors | as_tensors(tensors), labels=tuple(labels)), folder, kind)
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        (folder / name).write_bytes((bare / name).read_bytes())
    return folder


def as_tensors(arrays: dict[str, Array]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}


def test_the_head_of_weights_that_were_fine_tuned_elsewhere_is_never_used(
    prepared: Prepared, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """So that its labels, in whatever order, cannot be taken for the task's."""
    from reference.checkpoint import read

    turned = fine_tuned_elsewhere(tiny_checkpoint, tmp_path / "turned", "classification", ["positive", "negative"])
    task = load_task("mini-sentiment")
    assert task.outputs == ("negative", "positive")
    heads = [
        read(Checkpoints(weights, prepared().tokenizer, tmp_path / name).with_head(task, 42))
        for name, weights in (("one", tiny_checkpoint), ("two", turned))
    ]
    assert [head.labels for head in heads] == [task.outputs] * 2
    assert heads[0].tensors.keys() == heads[1].tensors.keys()
    for name, tensor in heads[0].tensors.items():
        assert tensor.equal(heads[1].tensors[name]), name


LABELS = ["joy", "fear", "envy", "none"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.mark.parametrize(
    ("kind", "orders"),
    [
        ("classification", [LABELS, LABELS[::-1], LABELS[2:] + LABELS[:2]]),
        ("multi-label", [LABELS, LABELS[::-1], LABELS[2:] + LABELS[:2]]),
        ("tagging", [TAGS, TAGS[:1] + TAGS[3:] + TAGS[1:3]]),
        ("tagging", [TAGS, TAGS[::-1]]),
    ],
)
def test_a_model_whose_labels_are_in_another_order_answers_the_same_names(
    tiny_checkpoint: Path, tmp_path: Path, kind: str, orders: list[list[str]]
) -> None:
    tagging = kind == "tagging"
    file = tmp_path / ("a.conll" if tagging else "a.txt")
    words = ["The", "ferry", "is", "late", "again", "and", "so", "are", "we"]
    file.write_text("".join(f"{word}\n" for word in words))
    answers = []
    for place, order in enumerate(orders):
        folder = fine_tuned_elsewhere(tiny_checkpoint, tmp_path / str(place), kind, order)
        said = {"task": "mine", "kind": kind, "pairs": False, "max_length": 32, "record": "0" * 64}
        (folder / "bert_atlas.json").write_text(json.dumps(said))
        lines = predict.predict_file(folder, file, "cpu").text.splitlines()[0 if tagging else 1 :]
        answers.append([set(line.split(" " if tagging else "\t")[1].split(",")) for line in lines])
    assert len(answers[0]) == len(words)
    assert any(names != set(orders[0]) for names in answers[0]), "all labels at once would show no order"
    assert all(each == answers[0] for each in answers)


# ---- how examples are fed makes no difference ----


@pytest.mark.parametrize("name", suites()["mini"])
def test_batches_of_1_and_of_64_packed_and_padded_give_the_same(
    prepared: Prepared, tiny_checkpoint: Path, tmp_path: Path, name: str
) -> None:
    from harness.implementations import reference, transformers

    made = prepared(tasks=[name], limit=100)
    task = made.tasks[0]
    split = load_splits(made, task)["dev"]
    folder = fine_tuned_elsewhere(tiny_checkpoint, tmp_path / "model", task.kind, list(task.outputs))
    models = {
        "packed": reference.load(str(folder), task.kind, "cpu", "fp32"),
        "padded": transformers.load(str(folder), task.kind, "cpu", "fp32"),
    }
    found = {
        (how, size): logits_of(model, split.encoded.batch, task.kind, size)
        for how, model in models.items()
        for size in (1, 64)
    }
    expected = found["packed", 1]
    answers = KINDS[task.kind].decode(task, expected, split.encoded, split.examples)
    assert np.ptp(expected, axis=0).max() > 0.01, "it matters what is read"
    for way, logits in found.items():
        assert np.abs(logits - expected).max() <= 1e-5, way
        if task.kind != "regression":
            assert KINDS[task.kind].decode(task, logits, split.encoded, split.examples) == answers, way


def logits_of(model: Any, batch: Batch, kind: str, size: int) -> Array:
    """Logits of all sequences, or tokens, computed ``size`` sequences at a time."""
    import torch

    model.module.eval()
    with torch.inference_mode():
        return np.concatenate([model.logits(batch.select(some)).numpy() for some in in_order(batch.lengths, size)])


def test_what_computed_is_in_the_record(prepared: Prepared, empty: Empty, tmp_path: Path) -> None:
    made = prepared(precision="bf16")
    result, worker = empty(made), Answering(random_logits(2))
    result.precision = {"asked": "bf16", "resolved": "bf16", "computed": "bf16"}

    evaluate.fine_tuned(bench_of(worker), run_of(made), result)

    assert result.precision["computed"] == "fp32", "as the worker said when it was cast"
    assert result.implementation["compiled"] == worker.compiled
    encoded = empty(made)
    worker.info |= {"computed": "int8", "compiled": {"functions": None, "compiler": None, "reason": "no compiler"}}
    run_encoder(made, encoded, worker)
    assert encoded.precision["computed"] == "int8"
    assert encoded.implementation["compiled"]["reason"] == "no compiler"
