"""The plan without the run: what is recorded, what is to do, and how long it may take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.files import write_json
from harness.measure.dry_run import duration, outline, print_dry_run
from harness.measure.plan import Plan
from harness.measure.run import Run
from harness.records import machine, record
from harness.records.record import Quality

Prepared = Callable[..., Plan]
Records = Callable[..., Quality]


@pytest.fixture
def store(quality_record: Records) -> Callable[..., Quality]:
    """A function that puts the record of a planned run where ``run`` would, with these fields."""

    def put(made: Plan, number: int = 0, seed: int = 42, how: Any = "trained", **fields: Any) -> Quality:
        implementation, task = made.implementations[number], made.tasks[0]
        planned = Run(made, implementation, task, seed, how)
        usual = {"key": planned.key, "seed": seed, **like(made)}
        result = quality_record(implementation.name, task.name, **(usual | fields))
        record.write(result, planned.path)
        return result

    return put


def like(made: Plan, **fields: Any) -> dict[str, Any]:
    """What a record has in common with a run that is planned: weights, machine and threads, and the recipe."""
    recipe = {"epochs": 3, "max_length": made.tasks[0].max_length}
    checkpoint = {"name": "tiny", "sha256": made.weights.sha256, "config": made.config, "initialised": []}
    same = {"checkpoint": checkpoint, "machine": machine.describe()}
    return same | {"threads": made.threads, "recipe": recipe, "training": {}} | fields


def printed(plans: list[Plan], results: Path, capsys: pytest.CaptureFixture[str]) -> str:
    print_dry_run(plans, Console(width=200), results)
    return capsys.readouterr().out


def test_runs_are_told_apart_by_their_records(prepared: Prepared, store: Callable[..., Quality]) -> None:
    wanted = {"implementations": ["reference", "transformers"], "seeds": (42, 43, 44, 45)}
    made = prepared(**wanted)
    store(made, seed=43)
    store(made, seed=45, state="failed", reason="no luck")
    store(made, 1, how="encoded")
    seeds = [(row.implementation, row.to_do, row.recorded, row.failed) for row in outline([made], [])]
    assert seeds == [("reference", [42, 44], [43], [45]), ("transformers", [43, 44, 45], [42], [])]
    failed = outline([prepared(**wanted, rerun="failed")], [])
    assert (failed[0].to_do, failed[0].recorded, failed[0].failed) == ([42, 44, 45], [43], [])
    assert [row.to_do for row in outline([prepared(**wanted, rerun="all")], [])] == [[42, 43, 44, 45]] * 2
    assert outline([prepared(**wanted, epochs=7)], [])[0].recorded == [], "that is another recipe"


def test_each_task_and_precision_has_a_row(prepared: Prepared, store: Callable[..., Quality]) -> None:
    tasks = ["mini-sentiment", "mini-ner"]
    plans = [prepared(tasks=tasks, precision=precision) for precision in ("fp32", "bf16")]
    store(plans[1])
    rows = [(row.task, row.precision, len(row.recorded)) for row in outline(plans, [])]
    assert rows == [
        *(("mini-sentiment", "fp32", 0), ("mini-ner", "fp32", 0)),
        *(("mini-sentiment", "bf16", 1), ("mini-ner", "bf16", 0)),
    ]


def test_a_program_of_its_own_is_planned_once_and_one_without_its_repository_is_not(
    prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, tasks = ["bert-ner", "google-bert"], ["mini-ner", "mini-sentiment"]
    plans = [
        prepared(implementations=names, tasks=tasks, precision=each, checkouts={"bert-ner": tmp_path}, seeds=(1, 2))
        for each in ("fp32", "bf16")
    ]
    assert [(row.task, row.precision, row.to_do) for row in outline(plans, [])] == [("mini-ner", "its own", [1])]
    assert "google-bert: skipped, needs a checkout of https://github.com/google-research/bert" in printed(
        plans, tmp_path / "results", capsys
    )


OTHERS: list[dict[str, Any]] = [
    {"checkpoint": {"name": "other", "sha256": "6" * 64, "config": {}, "initialised": []}},
    {"device": "cuda", "machine": {"cpu": "x", "hidden": [], "gpus": [{"name": "NVIDIA H200"}]}},
    {"machine": {"cpu": "another processor", "hidden": []}},
    {"threads": 64},
    {"recipe": {"epochs": 3, "max_length": 512}},
    {"state": "failed"},
]


def test_the_time_is_the_median_of_like_runs(prepared: Prepared, quality_record: Records) -> None:
    made = prepared(implementations=["reference", "transformers"])
    ours = like(made)
    own = [quality_record(seconds=seconds, **ours) for seconds in (10.0, 30.0, 20.0)]
    others: list[record.Record] = [
        quality_record("reference", "mini-ner", **like(made, seconds=1000.0)),
        *(quality_record(**like(made, seconds=1000.0, **other)) for other in OTHERS),
    ]
    assert [row.seconds for row in outline([made], [*own, *others])] == [20.0, 20.0]
    assert [row.basis for row in outline([made], own)] == ["3 runs of its own", "3 runs of others"]
    known = [*own, quality_record("transformers", seconds=50.0, **ours)]
    assert [row.seconds for row in outline([made], [*known, *others])] == [20.0, 50.0]
    assert [(row.seconds, row.basis) for row in outline([made], others)] == [(None, "")] * 2
    scored = [quality_record(f"openvino{n}", **like(made, seconds=1.0, training={"by": "reference"})) for n in range(9)]
    assert [row.seconds for row in outline([made], [*own, *scored])] == [20.0, 20.0], "to score takes no training"
    assert [row.seconds for row in outline([made], scored)] == [1.0, 1.0]


def test_the_time_is_in_proportion_to_examples_and_epochs(prepared: Prepared, quality_record: Records) -> None:
    """280 examples of mini-sentiment to train on, 200 to score."""

    def planned(**options: Any) -> float | None:
        made = prepared(**options)
        sanity = {"train": {"examples": 280}, "dev": {"examples": 200}}
        training = {"examples": 280, "seconds": 30.0}
        known = quality_record(**like(made, seconds=40.0, training=training, sanity=sanity))
        return outline([made], [known])[0].seconds

    assert planned(epochs=3) == 40.0
    assert planned(epochs=6) == 70.0
    assert planned(epochs=3, limit=140) == pytest.approx(15 + 7)
    assert outline([prepared(epochs=3, limit=140)], [])[0].reads == "140 x 3"


def test_the_plan_is_printed_with_its_sums(
    prepared: Prepared, store: Callable[..., Quality], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = prepared(tasks=["mini-sentiment", "mini-ner"], seeds=(42, 43, 44, 50, 51), epochs=3)
    store(made, seconds=600.0)
    store(made, seed=50, state="failed", reason="no luck")
    store(made, seed=51, state="skipped", reason="not here")
    before = sorted(tmp_path.rglob("*"))
    text = printed([made], tmp_path / "results", capsys)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert cells == [
        [
            *("reference", "mini-sentiment", "fp32", "280 x 3", "43-44", "42", "failed 50; skipped 51"),
            "about 10 min, by 1 run of its own",
        ],
        ["reference", "mini-ner", "fp32", "240 x 3", "42-44, 50-51", "", "", "unknown"],
    ]
    assert "7 runs to do, 1 recorded, 1 failed before, 1 skipped before" in text
    assert "what failed is kept as it is; --rerun failed tries it again" in text
    assert "what was skipped is kept as it is; --rerun all tries it again" in text
    hardware = record.hardware_of(machine.describe(), "cpu", made.threads)
    assert f"about 20 min for 2 of the runs to do, by earlier runs on {hardware}, in proportion to examples" in text
    assert f"5 of the runs to do have no estimate: there is no earlier record of such a run on {hardware}" in text
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


def test_published_records_tell_the_time_too(
    prepared: Prepared, quality_record: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = prepared()
    published = quality_record(seconds=7200.0, **like(made))
    record.write(published, tmp_path / "results" / "machine" / "reference" / "one.json")
    write_json({"schema": 1}, tmp_path / "results" / "index.json")
    assert "about 2 h 0 min for 1 of the runs to do" in printed([made], tmp_path / "results", capsys)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (3599, "1 h 0 min"), (12_000, "3 h 20 min")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
