"""The main path, end to end, on tiny weights: through the command line, and with implementations that fail."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from filelock import FileLock

from harness import cli
from harness.data.task import load_task
from harness.errors import Failure
from harness.measure import evaluate, main_path, parity, plan, quality, speed
from harness.measure.bench import Bench
from harness.measure.client import Worker, WorkerError
from harness.measure.parity import Outputs
from harness.measure.plan import Options, prepare
from harness.measure.run import Run
from harness.records import record
from harness.records.record import Parity, Quality, Record, Speed
from harness.weights.checkpoints import Checkpoints

ROOT = Path(__file__).parents[3]
LIMIT = 12
pytestmark = pytest.mark.slow  # each of about thirty workers imports torch

BROKEN = """
NAME = "broken"
TITLE = "Broken"
CATALOG_ID = "broken"


def load(folder, head, device, precision, variant=""):
    raise RuntimeError("no such kernel")
"""
UNABLE = """
NAME = "unable"
TITLE = "Unable"
CATALOG_ID = "unable"


def load(folder, head, device, precision, variant=""):
    raise NotImplementedError("unable does not compute on this CPU")
"""
# Computes as the reference does, in training with at most FITS sequences at a time.
SMALL = """
from harness.implementations import reference

NAME = "small"
TITLE = "Small"
CATALOG_ID = "small"
FITS = 4


class Model(reference.TrainableEncoder):
    def logits(self, batch):
        if self.module.training and len(batch.lengths) > FITS:
            raise MemoryError(f"{len(batch.lengths)} sequences")
        return super().logits(batch)


def load(folder, head, device, precision, variant=""):
    return Model(reference.load(folder, head, device, precision).module, device)
"""


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str
    runs: Path

    def records(self, kind: type[Record]) -> list[Any]:
        return [each for each in record.read_all([self.runs]) if isinstance(each, kind)]


@pytest.fixture(scope="module", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Short timing turns, and another package that registers implementations."""
    package = tmp_path_factory.mktemp("site")
    (package / "others_broken.py").write_text(BROKEN)
    (package / "others_small.py").write_text(SMALL)
    (package / "others_unable.py").write_text(UNABLE)
    info = package / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[bert_atlas.implementations]\nbroken = others_broken\nsmall = others_small\nunable = others_unable\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "SECONDS", 0.01)
        patch.syspath_prepend(package)
        yield


def main(runs: Path, *arguments: str) -> Done:
    """The command line, in this process; its workers are real."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["harness", "run", *arguments, "--runs", str(runs)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.getvalue(), err.getvalue(), runs)


def usual(weights: Path) -> list[str]:
    return ["--weights", str(weights), "--device", "cpu", "--threads", "1", "--limit", str(LIMIT), "--epochs", "1"]


@pytest.fixture(scope="module")
def done(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Three implementations, one of which fails, on two tasks; tbert needs torch alone, which imports quickly."""
    runs = tmp_path_factory.mktemp("project") / "runs"
    names = ["--impl", "reference,broken,tbert", "--tasks", "mini-sentiment,mini-ner"]
    return main(runs, *names, *usual(tiny_checkpoint))


@pytest.fixture
def options(tiny_checkpoint: Path, done: Done) -> Callable[..., Options]:
    """A function that makes the options of the run above, for the reference and one task, with changes."""

    def make(**changes: Any) -> Options:
        same: dict[str, Any] = {
            "implementations": ["reference"],
            "tasks": ["mini-sentiment"],
            "weights": str(tiny_checkpoint),
            "runs": done.runs,
            "device": "cpu",
            "threads": 1,
            "limit": LIMIT,
            "epochs": 1,
        }
        return Options(**(same | changes))

    return make


# ---- one run, looked at from all sides ----


def test_every_record_is_written(done: Done) -> None:
    assert {each.implementation["name"] for each in done.records(Parity)} == {"reference", "broken", "tbert"}
    assert len(done.records(Quality)) == 6
    assert [each.shape["name"] for each in done.records(Speed)] == sorted(
        ["1 x 128", "8 x 128", "mini-sentiment", "mini-ner"], key=lambda name: name.replace(" ", "")
    )
    assert not list(done.runs.rglob("*.part"))
    assert {"report.md", "report.csv", "report.json"} <= {path.name for path in done.runs.iterdir()}


def test_the_one_that_fails_is_said_and_the_others_go_on(done: Done) -> None:
    assert done.code == 1
    for each in [*done.records(Parity), *done.records(Quality)]:
        failed = each.implementation["name"] == "broken"
        assert each.state == ("failed" if failed else "ok"), each.reason
        assert each.reason == ("no such kernel" if failed else None)
    for timed in done.records(Speed):
        states = {name: figures["state"] for name, figures in timed.implementations.items()}
        assert states == {"reference": "ok", "broken": "failed", "tbert": "ok"}
        assert timed.state == "ok"
    assert "no such kernel" in done.out
    assert "Traceback" not in done.err + done.out


def test_one_that_does_no_such_thing_is_skipped_and_that_is_no_failure(tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = main(tmp_path / "runs", "--impl", "unable", "--tasks", "mini-sentiment", *usual(tiny_checkpoint))
    assert done.code == 0, done.err
    said = "unable does not compute on this CPU"
    found = [*done.records(Parity), *done.records(Quality)]
    assert [(each.state, each.reason) for each in found] == [("skipped", said)] * 2
    assert "skipped" in done.out
    assert said in done.out


def test_the_table_is_printed(done: Done) -> None:
    rows = [line for line in done.out.splitlines() if re.match(r"│ (reference|tbert) +│", line)]
    assert len(rows) >= 2
    for each in done.records(Quality):
        for metric in each.metrics[:1]:
            assert f"{metric['value']:.3f}" in done.out
            assert f"{metric['low']:.3f}-{metric['high']:.3f}" in done.out
    assert f"limited to {LIMIT} examples a split" in done.out
    assert "mini-ner, seed 42: dev entity_f1" in done.err, "a line as soon as a run has ended"


def test_scores_have_intervals_and_predictions(done: Done) -> None:
    for each in [each for each in done.records(Quality) if each.state == "ok"]:
        names = ["entity_f1"] if each.task["name"] == "mini-ner" else ["accuracy"]
        assert [metric["name"] for metric in each.metrics] == names
        for metric in each.metrics:
            assert metric["low"] <= metric["value"] <= metric["high"]
            assert metric["n"] == LIMIT
            assert f"limit={LIMIT}" in metric["signature"]
        predictions = record.read_predictions(done.runs / "quality" / each.predictions)
        assert predictions.keys() == {"dev"}
        assert len({name for name, _ in predictions["dev"]}) == LIMIT
        assert each.training["examples"] == LIMIT
        assert len(each.training["losses"]) == 1
        assert each.training["memory"]["resident"] > 2**20
        assert each.recipe["micro_batches"] == 1


def test_provenance_is_complete_and_private(done: Done, tiny_checkpoint: Path) -> None:
    for each in record.read_all([done.runs]):
        assert len(each.checkpoint["sha256"]) == 64
        assert each.precision["resolved"] == "fp32"
        assert (each.device, each.threads) == ("cpu", 1)
        assert each.machine["cpu"]
        assert each.versions["torch"]
        assert each.command.startswith("python -m harness run --impl reference,broken,tbert")
        assert each.seconds > 0
    for path in done.runs.rglob("*.json"):
        assert str(tiny_checkpoint) not in path.read_text()
        assert str(done.runs) not in path.read_text()


def test_parity_of_sound_implementations_is_no_less_than_close(done: Done) -> None:
    by_name = {each.implementation["name"]: each for each in done.records(Parity)}
    assert by_name["reference"].verdict == "exact"
    assert by_name["tbert"].verdict in ("exact", "close")
    assert by_name["tbert"].differences["fp64"]["max"] < 1e-12
    assert 0 < by_name["reference"].floor < 1e-4
    assert by_name["broken"].verdict == ""


def test_speeds_are_of_one_comparison(done: Done) -> None:
    timed = done.records(Speed)
    assert len({each.comparison for each in timed}) == 1
    for each in timed:
        assert each.implementations["reference"]["ratio"] == [1, 1, 1]
        assert each.implementations["reference"]["batching"] == "packed"
        figures = each.implementations["tbert"]
        assert figures["batching"] == "padded"
        assert len(figures["wall"]) == speed.ROUNDS
        low, high = figures["ratio"][1:]
        assert low <= figures["ratio"][0] <= high
        seconds = np.median([np.mean(turn) for turn in figures["wall"]])
        assert figures["sequences_per_second"] == pytest.approx(each.shape["sequences"] / seconds, rel=1e-3)
        assert each.load["throttled"].keys() == {"periods", "seconds"}


# ---- again ----


def no_parity(worker: Worker, bench: Bench, batch: Any, precision: str) -> Any:
    """What workers would answer, for tests of what comes after them."""
    info = {"version": "1", "trainable": True, "precision": precision, "computed": precision}
    return Outputs(np.ones((len(batch.ids), 32)), None), info


def first_quality(options: Options) -> tuple[Quality, list[str | None]]:
    """Run up to the first quality record; returns it, and the heads that workers loaded."""
    heads: list[str | None] = []
    load = Worker.load

    def spy(self: Worker, folder: Path, head: str | None, *arguments: Any) -> None:
        heads.append(head)
        load(self, folder, head, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "load", spy)
        patch.setattr(parity, "_outputs", no_parity)
        records = main_path.run([prepare(options)], lambda *_: None)
        quality = next(each for each in records if isinstance(each, Quality))
        records.close()  # type: ignore[attr-defined]
    return quality, heads


def test_a_finished_run_is_not_repeated_unless_asked(
    options: Callable[..., Options], done: Done, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(done.runs, tmp_path / "runs"))
    before = {each.key: each for each in done.records(Quality)}
    again, heads = first_quality(options(runs=runs))
    assert again == before[again.key]
    assert heads == [], "no worker was started for it"
    again, heads = first_quality(options(runs=runs, rerun="all"))
    assert heads == ["classification"]
    first = before[again.key]
    assert again.started > first.started
    assert (again.metrics, again.training["losses"]) == (first.metrics, first.training["losses"]), "same seed, same run"
    assert record.read(runs / "quality" / f"reference-mini-sentiment-42-{again.key[:12]}.json") == again


@pytest.mark.parametrize(("rerun", "times"), [("missing", 0), ("failed", 1), ("all", 1)])
def test_a_failed_run_is_kept_unless_it_is_to_be_repeated(
    options: Callable[..., Options], done: Done, tmp_path: Path, rerun: str, times: int
) -> None:
    runs = Path(shutil.copytree(done.runs, tmp_path / "runs"))
    again, heads = first_quality(options(runs=runs, implementations=["broken"], rerun=rerun))
    assert len(heads) == times
    assert (again.state, again.reason) == ("failed", "no such kernel")


def test_nothing_starts_for_parity_that_is_recorded(
    options: Callable[..., Options], done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whether an implementation can be trained is known from the record."""
    monkeypatch.setattr(Bench, "start", None)
    made = prepare(options(implementations=["reference", "tbert"], tasks=["mini-sentiment", "mini-ner"]))
    records = main_path.run([made], lambda *_: None)
    before = {each.key: each for each in record.read_all([done.runs])}
    again = [next(records) for _ in range(6)]
    records.close()  # type: ignore[attr-defined]
    assert [each.kind for each in again] == ["parity"] * 2 + ["quality"] * 4
    assert all(before[each.key] == each for each in again)


def test_parity_is_measured_anew_by_its_own_command_and_where_it_failed(
    options: Callable[..., Options], done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "_outputs", no_parity)
    runs = Path(shutil.copytree(done.runs, tmp_path / "runs"))
    (before,) = [each for each in done.records(Parity) if each.implementation["name"] == "reference"]
    again = next(main_path.run_parity(prepare(options(runs=runs)), lambda *_: None))
    assert (again.key, again.verdict) == (before.key, "exact")
    assert again.started > before.started
    broken = next(main_path.run([prepare(options(runs=runs, implementations=["broken"]))], lambda *_: None))
    assert broken.state == "failed"
    again = prepare(options(runs=runs, implementations=["broken"], rerun="failed"))
    assert next(main_path.run([again], lambda *_: None)).started > broken.started


def test_each_seed_and_precision_has_a_record_of_its_own(tiny_checkpoint: Path, tmp_path: Path) -> None:
    matrix = ["--tasks", "mini-sentiment", "--seeds", "2", "--precision", "fp32,bf16"]
    done = main(tmp_path / "runs", *matrix, *usual(tiny_checkpoint))
    assert done.code == 0, done.err
    found = {(each.seed, each.precision["resolved"]): each for each in done.records(Quality)}
    assert sorted(found) == [(42, "bf16"), (42, "fp32"), (43, "bf16"), (43, "fp32")]
    assert {each.precision["asked"] for each in found.values()} == {"fp32", "bf16"}
    assert len(done.records(Quality)) == 4
    assert len(done.records(Parity)) == 1
    own_lengths = [each for each in done.records(Speed) if each.shape["own_lengths"]]
    assert {each.precision["resolved"] for each in own_lengths} == {"fp32", "bf16"}
    losses = [found[seed, precision].training["losses"] for seed in (42, 43) for precision in ("fp32", "bf16")]
    assert losses[0] == losses[1] != losses[2] == losses[3], "a seed is trained alike for each precision"


def test_a_model_that_is_saved_whole_is_not_made_again(
    options: Callable[..., Options], done: Done, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(done.runs, tmp_path / "runs"))
    wanted = options(runs=runs, save_model=tmp_path / "model")
    first, heads = first_quality(wanted)
    assert heads == ["classification"], "it is recorded, but there is no model yet"
    files = {"bert_atlas.json", "config.json", "model.safetensors"}
    assert files < {path.name for path in (tmp_path / "model").iterdir()}
    again, heads = first_quality(wanted)
    assert (again, heads) == (first, [])
    (tmp_path / "model" / "bert_atlas.json").unlink()  # it comes last: without it the others may be half of a model
    (tmp_path / "model" / ".part-killed").mkdir()
    assert first_quality(wanted)[1] == ["classification"]
    assert files < {path.name for path in (tmp_path / "model").iterdir()}
    assert not list((tmp_path / "model").glob(".part-*"))


def test_what_is_finished_is_shown_where_the_work_cannot_go_on(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise Failure("no room is left")

    monkeypatch.setattr(parity, "_outputs", no_parity)
    monkeypatch.setattr(quality, "run_trained", full)
    done = main(tmp_path / "runs", "--suite", "mini", *usual(tiny_checkpoint))
    assert done.code == 1
    assert "error: no room is left" in done.err
    assert "exact" in done.out, "the table of what was measured before"
    assert (tmp_path / "runs" / "report.md").is_file()


# ---- out of memory ----


def compute(made: plan.Plan, result: Quality, folder: Path) -> dict[str, list[Any]]:
    checkpoints = Checkpoints(made.weights.folder, made.tokenizer, folder)
    bench = Bench(made, {"small": Path(sys.executable)}, checkpoints, lambda *_: None)
    return evaluate.fine_tuned(bench, Run(made, made.implementations[0], made.tasks[0], 42), result)


@pytest.fixture
def small(options: Callable[..., Options], quality_record: Callable[..., Quality]) -> tuple[plan.Plan, Quality]:
    """An implementation with too little memory for a batch of 8, and the record that its run fills."""
    made = prepare(options(implementations=["small"], batch_size=8))
    return made, quality_record(recipe=made.recipe(made.tasks[0]), metrics=[], limit=LIMIT)


def test_out_of_memory_each_batch_goes_in_two_pieces(small: tuple[plan.Plan, Quality], tmp_path: Path) -> None:
    made, result = small
    assert len(compute(made, result, tmp_path)["dev"]) == LIMIT
    assert result.metrics
    assert result.recipe["micro_batches"] == 2
    assert [flag["text"] for flag in result.flags if "out of memory" in str(flag["text"])] == [
        "out of memory with whole batches; computed in two pieces each"
    ]


def test_out_of_memory_twice_is_a_failure(
    small: tuple[plan.Plan, Quality], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []

    def too_large(self: Worker, folder: Path, *_: Any) -> None:
        loads.append(folder)
        raise WorkerError("no room", "out of memory")

    monkeypatch.setattr(Worker, "load", too_large)
    with pytest.raises(WorkerError, match="no room") as error:
        compute(*small, tmp_path)
    assert error.value.out_of_memory
    assert len(loads) == 2


# ---- tasks of one's own, and models kept ----

TEXTS = [("the soup was cold", "no"), ("a fine soup", "yes"), ("never again", "no"), ("we shall come back", "yes")]
OWN: dict[str, dict[str, Any]] = {
    "own-classes": {
        "kind": "classification",
        "labels": ["no", "yes"],
        "format": "tsv",
        "columns": {"text": "text", "label": "label"},
        "metrics": ["accuracy"],
        "rows": "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in TEXTS * 3),
    },
    "own-scores": {
        "kind": "regression",
        "format": "csv",
        "columns": {"text": "first", "pair": "second", "label": "score"},
        "metrics": ["pearson", "spearman"],
        "rows": "score,first,second\n"
        + "".join(f'{i % 5}.5,"{text}, then",{text}\n' for i, (text, _) in enumerate(TEXTS * 3)),
    },
    "own-labels": {
        "kind": "multi-label",
        "labels": ["soup", "back", "again"],
        "format": "jsonl",
        "columns": {"text": "text", "label": "labels"},
        "metrics": ["micro_f1"],
        "rows": "".join(
            json.dumps({"text": text, "labels": [name for name in ("soup", "back", "again") if name in text]}) + "\n"
            for text, _ in TEXTS * 3
        ),
    },
    "own-tags": {
        "kind": "tagging",
        "labels": ["FOOD"],
        "format": "conll",
        "metrics": ["entity_f1"],
        "rows": "".join(
            "".join(f"{word} {'B-FOOD' if word == 'soup' else 'O'}\n" for word in text.split()) + "\n"
            for text, _ in TEXTS * 3
        ),
    },
}


@pytest.fixture(scope="module")
def own(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """A task of each kind, written by a user; and the folder of the models that were kept."""
    folder = tmp_path_factory.mktemp("mine")
    arguments = []
    for name, fields in OWN.items():
        file = f"{name}.{fields['format']}"
        (folder / file).write_text(fields["rows"])
        declared = {"name": name, "title": name, "files": {"train": file, "dev": file}, "evaluate": ["dev"]}
        said = {key: value for key, value in fields.items() if key != "rows"}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(declared | said))
        arguments += ["--task", str(folder / f"{name}.yaml")]
    models = folder / "models"
    done = main(folder / "runs", *arguments, *usual(tiny_checkpoint), "--save-model", str(models))
    return done, models


def model_of(models: Path, name: str) -> Path:
    return models / f"reference-{name}-42"


def test_tasks_of_every_kind_run(own: tuple[Done, Path]) -> None:
    done, _ = own
    assert done.code == 0, done.err
    records = {each.task["name"]: each for each in done.records(Quality)}
    assert records.keys() == OWN.keys()
    for name, each in records.items():
        assert each.task["suite"] == "own"
        assert [metric["name"] for metric in each.metrics] == OWN[name]["metrics"]


@pytest.mark.parametrize("name", OWN)
def test_a_kept_model_loads_in_transformers_with_its_labels(own: tuple[Done, Path], name: str) -> None:
    import transformers

    kind = OWN[name]["kind"]
    cls = "AutoModelForTokenClassification" if kind == "tagging" else "AutoModelForSequenceClassification"
    folder = model_of(own[1], name)
    model, report = getattr(transformers, cls).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    expected = load_task(str(own[1].parent / f"{name}.yaml")).outputs
    assert [model.config.id2label[i] for i in range(len(expected))] == list(expected)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    logits = model(**tokenizer(["a fine soup"], return_tensors="pt")).logits.detach().numpy()
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("name", "file", "content", "lines"),
    [
        ("own-classes", "a.txt", "a fine soup\nnever again\n", 3),
        ("own-scores", "a.tsv", "text\tpair\na fine soup\tsoup\n", 2),
        ("own-labels", "a.tsv", "text\na fine soup\n", 2),
        ("own-tags", "a.conll", "a\nfine\nsoup\n\nnever\n", 5),
    ],
)
def test_a_kept_model_answers(
    own: tuple[Done, Path],
    name: str,
    file: str,
    content: str,
    lines: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / file).write_text(content)
    model, output = model_of(own[1], name), tmp_path / "answers.tsv"
    monkeypatch.setattr(sys, "argv", ["harness", "predict", str(model), str(tmp_path / file), "--output", str(output)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert len(output.read_text().splitlines()) == lines


# ---- ended from outside ----


def started(runs: Path, weights: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness", "run", "--tasks", "mini-sentiment,mini-paraphrase", "--runs", str(runs)]
    return subprocess.Popen(
        [*command, *usual(weights)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def gone(workers: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(workers, timeout=15)[1]


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, "quality"), (signal.SIGKILL, "parity")])
def test_what_is_finished_is_kept_when_it_is_ended(
    tiny_checkpoint: Path, tmp_path: Path, number: signal.Signals, kind: str
) -> None:
    """Ctrl-C prints the table and says so; kill -9 cannot, but leaves whole records; neither leaves a worker."""
    process = started(tmp_path, tiny_checkpoint)
    try:
        wait_for(lambda: list(tmp_path.glob(f"{kind}/*.json")), process)
        harness = psutil.Process(process.pid)
        wait_for(lambda: harness.children(recursive=True), process)
        workers = harness.children(recursive=True)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert gone(workers), "a worker was left behind"
    records = record.read_all([tmp_path])
    assert {each.kind for each in records} >= {"parity", kind}, "more, where the signal came late"
    assert all(each.state == "ok" for each in records)
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted; the same command goes on" in err
        assert "reference" in out
        assert "mini-sentiment" in out
        assert (tmp_path / "report.md").is_file()


def test_what_a_killed_process_left_in_the_temporary_folder_is_deleted(
    prepared: Callable[..., plan.Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, alive, young = (tmp_path / f"bert-atlas-run-{name}" for name in ("left", "alive", "young"))
    for folder in (left, alive, young):
        (folder / "bare").mkdir(parents=True)
        if folder != young:
            os.utime(folder, times=(time.time() - 7200,) * 2)
    with FileLock(alive / "lock"):
        os.utime(alive, times=(time.time() - 7200,) * 2)
        steps = main_path.run([prepared(runs=tmp_path / "runs", implementations=["reference"])], lambda *_: None)
        next(steps)
        (own,) = {*tmp_path.glob("bert-atlas-run-*")} - {left, alive, young}
        assert not left.exists()
        steps.close()
    assert not own.exists()
    assert (alive / "bare").exists()
    assert (young / "bare").exists()
