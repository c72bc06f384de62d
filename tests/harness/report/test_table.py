"""Reports: every number with its interval, nothing hidden, nothing averaged over tasks, in five forms."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

import pytest
from rich.console import Console

from harness.errors import Failure
from harness.records.record import Parity, Quality, Record, Speed, flag
from harness.report.arrange import arrange
from harness.report.csv_table import to_csv
from harness.report.page import to_html
from harness.report.table import print_report, to_json, to_markdown, without_layers, write_report

Qualities: TypeAlias = Callable[..., Quality]
Speeds: TypeAlias = Callable[..., Speed]
Parities: TypeAlias = Callable[..., Parity]


def printed(records: list[Record], width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    print_report(arrange(records), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def scored(value: float) -> dict[str, Any]:
    return {
        "split": "dev",
        "name": "accuracy",
        "value": value,
        "low": value - 0.05,
        "high": value + 0.05,
        "n": 200,
        "signature": "accuracy|n:200",
        "baseline": 0.5,
    }


def test_a_program_that_trains_itself_says_how(quality_record: Qualities) -> None:
    report = arrange([quality_record("bert-ner", recipe={"own": "100 steps of 32 sentences", "select": "last"})])
    assert "bert-ner on mini-sentiment, a program that trains itself: 100 steps of 32 sentences" in report.notes


def test_a_row_for_each_implementation_and_a_column_for_what_was_measured(
    quality_record: Qualities, speed_record: Speeds, parity_record: Parities
) -> None:
    records: list[Record] = [parity_record(), quality_record(), quality_record("transformers"), speed_record()]
    report = arrange(records)
    assert list(report.rows) == ["reference", "transformers"]
    assert report.columns == ["parity\nto float64", "mini-sentiment\naccuracy", "8 x 128\nseq/s", "peak\nmemory"]
    assert report.rows["reference"]["parity\nto float64"] == ["exact", "2e-06 fp32", "3e-15 fp64"]
    assert report.rows["transformers"]["mini-sentiment\naccuracy"] == ["0.812", "0.750-0.875"]
    assert report.rows["reference"]["8 x 128\nseq/s"] == ["160", "1.00x"]
    assert report.rows["transformers"]["8 x 128\nseq/s"] == ["100", "0.62x"]
    assert report.signatures == ["accuracy|task:mini-sentiment|split:dev|n:200"]
    text = printed(records)
    for word in ("transformers", "0.812", "0.750-0.875", "0.62x", "300 MiB", *report.signatures):
        assert word in text


def test_what_is_absent_is_a_dash_and_never_an_average(quality_record: Qualities) -> None:
    records: list[Record] = [
        quality_record("reference", "mini-sentiment", metrics=[scored(0.9)]),
        quality_record("reference", "mini-paraphrase", metrics=[scored(0.7)]),
        quality_record("transformers", "mini-sentiment", metrics=[scored(0.9)]),
    ]
    report = arrange(records)
    assert report.columns == ["mini-sentiment\naccuracy", "mini-paraphrase\naccuracy"]
    assert "mini-paraphrase\naccuracy" not in report.rows["transformers"]
    assert "| transformers | 0.900<br>0.850-0.950 | - |" in to_markdown(report)
    assert "0.800" not in printed(records)


def test_failures_and_what_was_skipped_are_shown_with_their_reasons(
    quality_record: Qualities, speed_record: Speeds, parity_record: Parities
) -> None:
    broken = speed_record().implementations["reference"] | {"state": "failed", "reason": "it hung"}
    records: list[Record] = [
        quality_record(state="failed", reason="it lost its head", metrics=[]),
        parity_record(state="skipped", reason="no float64 here", differences={}),
        *[speed_record(shape, implementations={"reference": broken}) for shape in ("8 x 128", "32 x 128")],
    ]
    report = arrange(records)
    assert report.rows["reference"] == {
        "parity\nto float64": ["skipped"],
        "mini-sentiment": ["failed"],
        "speed": ["failed"],
    }
    text = printed(records)
    assert "reference on mini-sentiment, seed 42, failed: it lost its head" in text
    assert "reference, parity skipped: no float64 here" in text
    assert text.count("reference, timing failed: it hung") == 1


def test_implementations_that_show_no_layers_are_named(parity_record: Parities) -> None:
    layers = [{"max": 0.0, "mean": 0.0, "cosine": 1.0}]
    shown = parity_record(differences={"fp64": {"max": 0.0, "mean": 0.0, "cosine": 1.0, "layers": layers}})
    plain = parity_record("plain", differences={"fp64": {"max": 0.0, "mean": 0.0, "cosine": 1.0}})
    failed = parity_record("failed", state="failed", differences={})
    assert without_layers([shown, plain, failed]) == ["plain"]


def test_a_metric_of_another_version_is_shown_by_its_name(quality_record: Qualities) -> None:
    report = arrange([quality_record(metrics=[scored(0.6) | {"name": "balanced_accuracy"}])])
    assert "mini-sentiment\nbalanced_accuracy" in report.rows["reference"]


def test_a_failure_is_in_the_columns_in_which_others_have_scores(quality_record: Qualities) -> None:
    failed = quality_record("transformers", state="failed", reason="it hung", metrics=[])
    report = arrange([failed, quality_record("reference")])
    (column,) = report.columns
    assert column.startswith("mini-sentiment\n")
    assert report.rows["transformers"] == {column: ["failed"]}


def test_flags_mark_the_score_that_they_are_about(quality_record: Qualities) -> None:
    test_split = scored(0.7) | {"split": "test"}
    records: list[Record] = [
        quality_record(
            metrics=[scored(0.6), scored(0.5) | {"name": "f1"}, test_split],
            flags=[flag("every answer is the same", "dev"), flag("out of memory with whole batches")],
            limit=16,
        )
    ]
    report = arrange(records)
    assert report.rows["reference"] == {
        "mini-sentiment\naccuracy": ["0.600*", "0.550-0.650"],
        "mini-sentiment, test\naccuracy": ["0.700", "0.650-0.750"],
    }
    text = printed(records)
    assert "* reference on mini-sentiment, seed 42: dev: every answer is the same" in text
    assert "out of memory with whole batches" in text
    assert "limited to 16 examples" in text


def test_several_seeds_are_one_figure_that_says_what_is_what(quality_record: Qualities) -> None:
    records: list[Record] = [quality_record(seed=seed, metrics=[scored(value)]) for seed, value in ((1, 0.8), (2, 0.9))]
    assert arrange(records).rows["reference"]["mini-sentiment\naccuracy"] == [
        "0.850 ± 0.071 (2 seeds)",
        "seeds 0.800-0.900",
        "95% 0.800-0.900",
    ]
    for text in (printed(records), to_markdown(arrange(records))):
        assert "mean ± sample standard deviation" in text
        assert "a score of one seed" not in text
        assert "collapsed" not in text
    assert "a score of one seed: under it its 95% interval" in printed(records[:1])


def test_collapsed_and_failed_seeds_are_in_the_cell(quality_record: Qualities) -> None:
    values = {1: 0.7, 2: 0.5, 3: 0.72, 4: 0.74}
    records: list[Record] = [quality_record(seed=seed, metrics=[scored(value)]) for seed, value in values.items()]
    records.append(quality_record(seed=5, state="failed", reason="killed", metrics=[]))
    assert arrange(records).rows["reference"]["mini-sentiment\naccuracy"] == [
        "0.720 ± 0.020 (3 of 5 seeds)",
        "seeds 0.700-0.740",
        "95% 0.670-0.770",
        "1 of 5 seeds collapsed",
        "with them 0.665 ± 0.111",
        "1 of 5 seeds failed",
    ]
    text = printed(records)
    assert "reference on mini-sentiment, seed 5, failed: killed" in text
    assert "a seed has collapsed if it is no better than a constant answer" in text
    alone = arrange([quality_record(metrics=[scored(0.5)])])
    assert alone.rows["reference"]["mini-sentiment\naccuracy"] == ["0.500", "0.450-0.550", "collapsed"]


def test_what_is_said_of_several_seeds_is_said_once(quality_record: Qualities) -> None:
    records = [quality_record(seed=seed, flags=[flag("odd", "dev"), flag(f"odd in {seed}", "dev")]) for seed in (1, 2)]
    records += [quality_record(seed=seed, state="failed", reason="killed", metrics=[]) for seed in (3, 4)]
    notes = arrange([*records]).notes
    assert notes == [
        "* reference on mini-sentiment, seeds 1, 2: dev: odd",
        "* reference on mini-sentiment, seed 1: dev: odd in 1",
        "* reference on mini-sentiment, seed 2: dev: odd in 2",
        "reference on mini-sentiment, seeds 3, 4, failed: killed",
    ]


def test_runs_of_another_recipe_are_left_out_and_said(quality_record: Qualities) -> None:
    usual = quality_record()
    other = quality_record(seed=1, recipe=usual.recipe | {"epochs": 9}, started="2020-01-01T00:00:00+00:00")
    report = arrange([other, usual])
    assert report.rows["reference"]["mini-sentiment\naccuracy"] == ["0.812", "0.750-0.875"]
    assert "reference on mini-sentiment: runs with another recipe or other data, left out: 1" in report.notes


def test_the_reference_comes_first(quality_record: Qualities) -> None:
    names = ("bert-keras", "reference", "transformers")
    assert list(arrange([quality_record(name) for name in names]).rows) == ["reference", "bert-keras", "transformers"]


def test_of_the_same_run_the_last_counts(quality_record: Qualities, speed_record: Speeds) -> None:
    slow = speed_record(started="2026-01-01T00:00:00+00:00")
    alone = {"reference": slow.implementations["reference"] | {"sequences_per_second": 3.0}}
    records: list[Record] = [
        quality_record(metrics=[scored(0.9)], started="2026-02-01T00:00:00+00:00"),
        quality_record(metrics=[scored(0.8)]),
        speed_record(),
        speed_record(implementations=alone, started="2025-01-01T00:00:00+00:00"),
        slow,
    ]
    rows = arrange(records).rows
    assert rows["reference"]["mini-sentiment\naccuracy"] == ["0.900", "0.850-0.950"]
    assert rows["reference"]["8 x 128\nseq/s"] == ["160", "1.00x"]


GPU = {"cpu": "Xeon", "gpus": [{"name": "NVIDIA H100"}]}


def test_other_weights_and_machines_have_rows_of_their_own(quality_record: Qualities, parity_record: Parities) -> None:
    base = {"name": "bert-base-uncased", "sha256": "6" * 64, "source": "Hub"}
    assert list(arrange([parity_record(), quality_record(checkpoint=base)]).rows) == [
        "reference, minilm-l6",
        "reference, bert-base-uncased",
    ]
    assert list(arrange([quality_record(), quality_record(device="cuda", machine=GPU)]).rows) == [
        "reference, Intel(R) Xeon(R) Processor @ 2.60GHz, 2 cores",
        "reference, NVIDIA H100",
    ]


def test_other_precisions_and_contexts_have_columns_of_their_own(quality_record: Qualities) -> None:
    bf16 = {"asked": "bf16", "resolved": "bf16"}
    assert arrange([quality_record(), quality_record(precision=bf16)]).columns == [
        "mini-sentiment, fp32\naccuracy",
        "mini-sentiment, bf16\naccuracy",
    ]
    task = quality_record().task | {"name": "conll2003", "kind": "tagging"}
    ner = [quality_record(task=task | {"context": context}) for context in ("sentence", "document")]
    assert arrange([*ner]).columns == ["conll2003\naccuracy", "conll2003, document\naccuracy"]


def test_latency_is_in_percentiles_and_ratios_are_to_the_reference(speed_record: Speeds) -> None:
    shape = speed_record("1 x 128").shape | {"latency": True}
    own = speed_record("rte").shape | {"own_lengths": True}
    rows = arrange([speed_record(shape=shape), speed_record(shape=own)]).rows
    assert rows["transformers"]["1 x 128\nms p50/90/99"] == ["80.0 / 88.0 / –", "0.62x"], "of one pass"
    many = speed_record(shape=shape)
    many.implementations["transformers"]["wall"] = [[0.08] * 20] * 5
    assert arrange([many]).rows["transformers"]["1 x 128\nms p50/90/99"] == ["80.0 / 88.0 / 96.0", "0.62x"]
    assert rows["transformers"]["rte\nseq/s, own lengths"] == ["100", "0.62x"]
    without = {"transformers": speed_record().implementations["transformers"]}
    del without["transformers"]["ratio"]
    assert arrange([speed_record(implementations=without)]).rows["transformers"]["8 x 128\nseq/s"] == ["100"]


def test_ratios_with_tokenizing_and_its_rate(speed_record: Speeds) -> None:
    """8 sequences at 100 a second take 80 ms: what both do of it brings them nearer to each other."""
    own = speed_record("rte").shape | {"own_lengths": True, "tokenizer_sequences_per_second": 100.0}
    walls = {"reference": [[0.05, 0.05], [0.04, 0.06]], "transformers": [[0.08], [0.12]]}
    figures = speed_record().implementations
    timed = {name: figures[name] | {"wall": wall} for name, wall in walls.items()}
    report = arrange([speed_record(shape=own, implementations=timed)])
    expected = (130 / 160 + 130 / 200) / 2
    assert report.rows["transformers"]["rte\nseq/s, own lengths"][1:] == ["0.62x", f"{expected:.2f}x with tokenizing"]
    assert report.rows["reference"]["rte\nseq/s, own lengths"][1:] == ["1.00x"]
    assert "tokenizing rte: 100 sequences a second" in report.notes


def test_the_share_of_what_the_machine_can_do_at_most(speed_record: Speeds) -> None:
    timed = speed_record()
    p50 = timed.implementations["reference"]["p50"]
    report = arrange([replace(timed, limits={"seconds": p50 / 4, "flops_per_second": 1e11, "bytes_per_second": 1e10})])
    cells = report.rows["reference"]["8 x 128\nseq/s"]
    assert cells[-1] == "25% of limit"
    assert any(note.startswith("% of limit:") for note in report.notes)
    assert not any("above 100%" in note for note in report.notes)
    report = arrange([replace(timed, limits={"seconds": 1.5 * p50, "precision": "fp32", "by": "oneDNN"})])
    assert report.rows["reference"]["8 x 128\nseq/s"][-1] == "150% of limit"
    assert any(note.startswith("8 x 128: above 100% of limit: reference has products") for note in report.notes)
    older = arrange([replace(timed, limits={"seconds": 1.5 * p50})])
    shown = str(older.rows["reference"])
    assert "limit" not in shown, "it was measured once, beforehand and by one library alone"
    other = arrange([replace(timed, limits={"seconds": 1.0}, precision={"asked": "bf16", "resolved": "bf16"})])
    assert "limit" not in str(other.rows), "it computed in another precision"


def test_the_share_is_of_a_limit_in_what_computed(speed_record: Speeds) -> None:
    timed = speed_record()
    reference, other = timed.implementations["reference"], timed.implementations["transformers"]
    reference |= {"precision": "bf16", "computed": "fp32"}
    other |= {"precision": "int8", "computed": "int8", "limits": {"seconds": other["p50"] / 5, "precision": "int8"}}
    limits = {"seconds": reference["p50"] / 2, "precision": "fp32", "by": "ours"}
    report = arrange([replace(timed, limits=limits, precision={"asked": "bf16", "resolved": "bf16"})])
    assert report.rows["reference"]["8 x 128\nseq/s"][-1] == "50% of limit"
    assert report.rows["transformers"]["8 x 128\nseq/s"][-1] == "20% of limit"
    assert "reference: products in fp32, of weights in bf16: no such instructions here" in report.notes
    assert not any(note.startswith("transformers: products") for note in report.notes)


def test_a_fast_path_that_was_not_taken_is_said_below_the_table(
    speed_record: Speeds, quality_record: Qualities
) -> None:
    timed, run = speed_record(), quality_record()
    reason = "no compiler: g++ is not installed"
    for each in (timed.implementations["reference"], run.implementation):
        each["compiled"] = {"functions": None, "compiler": None, "reason": reason}
    timed.implementations["transformers"]["compiled"] = {
        "functions": "fp32_by_vectors",
        "compiler": "g++ 12.2.0",
        "reason": None,
    }
    notes = arrange([timed]).notes
    assert f"reference: computed without its compiled functions: {reason}" in notes
    assert not any(note.startswith("transformers: computed without") for note in notes)
    assert f"reference on mini-sentiment: computed without its compiled functions: {reason}" in arrange([run]).notes


def test_a_busy_machine_is_said(speed_record: Speeds) -> None:
    load = {"load_average": 3.0, "steal": 0.031, "others": 0.25, "noisy": True}
    text = printed([speed_record(load=load)])
    where = "timing of 8 x 128 is unreliable, of reference, transformers"
    assert f"{where}: other processes used 25.0% of the processor, 3.1% was taken by" in text
    assert "other processes used 25.0% of the processor" in printed([speed_record(load=load | {"steal": None})])
    assert "other processes used an unknown part" in printed([speed_record(load=load | {"others": None})])
    assert "busy" not in printed([speed_record()])


def test_a_quota_that_ran_out_is_said(speed_record: Speeds) -> None:
    load = {"load_average": 1.0, "steal": 0.0, "others": 0.01, "throttled": {"periods": 83, "seconds": 5.94}}
    text = printed([speed_record(load=load | {"noisy": True})])
    assert "transformers: a quota of CPU time ran out in 83 periods and stopped it for 5.9 s, other processes" in text
    for nothing in ({"periods": 0, "seconds": 0.0}, {"periods": "unknown", "seconds": "unknown"}):
        assert "quota" not in printed([speed_record(load=load | {"noisy": True, "throttled": nothing})])


def test_a_narrow_terminal_gets_several_tables(quality_record: Qualities) -> None:
    tasks = [f"mini-{name}" for name in ("sentiment", "paraphrase", "acceptability", "similarity")]
    records: list[Record] = [quality_record("reference", task, metrics=[scored(0.9)]) for task in tasks]
    wide, narrow = printed(records), printed(records, 60)
    assert wide.count("implementation") == 1
    assert narrow.count("implementation") > 1
    for text in (wide, narrow):
        assert all(task in text for task in tasks)
        assert text.count("0.850-0.950") == len(tasks)
    assert max(map(len, narrow.splitlines())) <= 60


def test_markup_in_names_and_reasons_is_shown_as_it_is(quality_record: Qualities) -> None:
    reason = "[red]no[/red] __init__ of <class 'Bert'> | *args\nsecond line"
    records: list[Record] = [quality_record("a_b|c[d]", state="failed", reason=reason, metrics=[])]
    assert "[red]no[/red] __init__ of <class 'Bert'> | *args" in printed(records)
    assert "a_b|c[d]" in printed(records)
    markdown = to_markdown(arrange(records))
    assert r"| a\_b\|c\[d\] | failed |" in markdown
    assert r"\_\_init\_\_ of \<class 'Bert'\> \| \*args second line" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert len({line.replace(r"\|", "").count("|") for line in rows}) == 1


TRAINING = {
    "state": "ok",
    "reason": None,
    "dropout": {"places": {}, "sentence": "none of embeddings"},
    "gradients": {
        "verdict": "exact",
        "differences": {"fp32": {"max": 2e-6, "cosine": 1.0}, "fp64": {"max": 3e-15, "cosine": 1.0}},
        "dropout": True,
        "diagnosis": {},
    },
    "weights": {
        "verdict": "differs",
        "optimizer": "own",
        "steps": 20,
        "precision": "fp64",
        "differences": {"max": 0.5, "cosine": 0.9},
        "diagnosis": {"sentence": "no bias correction"},
    },
}


def test_training_has_columns_beside_parity(parity_record: Parities) -> None:
    failed = parity_record("broken", training={"state": "failed", "reason": "it diverged"})
    records: list[Record] = [parity_record(training=TRAINING), failed]
    report = arrange(records)
    assert report.rows["reference"]["gradients\nto float64"] == ["exact", "2e-06 fp32", "3e-15 fp64"]
    assert report.rows["reference"]["weights after 20 steps\nto float64"] == ["differs", "5e-01 fp64", "own optimizer"]
    assert report.rows["broken"]["gradients\nto float64"] == ["failed"]
    assert "reference, weights after 20 steps: no bias correction" in report.notes
    assert "reference, training: applies dropout although the configuration sets it to 0" in report.notes
    assert "reference, dropout in training: none of embeddings" in report.notes
    assert "broken, training: it diverged" in report.notes
    rows = {row["name"]: row["value"] for row in csv.DictReader(io.StringIO(to_csv(records)))}
    assert float(rows["gradients_max_fp64"]) == 3e-15
    assert float(rows["weights_after_steps_max"]) == 0.5


def test_csv_is_read_back(quality_record: Qualities, speed_record: Speeds, parity_record: Parities) -> None:
    records: list[Record] = [
        quality_record('a,"b"\nc', metrics=[scored(0.8), scored(0.7) | {"name": "f1"}]),
        quality_record("broken", state="failed", reason="no", metrics=[]),
        parity_record(),
        speed_record(),
    ]
    rows = list(csv.DictReader(io.StringIO(to_csv(records))))
    assert all(None not in row and None not in row.values() for row in rows), "each line has every column"
    first = rows[0]
    assert (first["implementation"], first["name"], first["split"]) == ('a,"b"\nc', "accuracy", "dev")
    assert [float(first[name]) for name in ("value", "low", "high")] == pytest.approx([0.8, 0.75, 0.85])
    assert [row["state"] for row in rows if row["implementation"] == "broken"] == ["failed"]
    assert {row["name"] for row in rows if row["kind"] == "parity"} == {"max_fp32", "max_fp64"}
    speeds = {(row["implementation"], row["name"]): row["value"] for row in rows if row["kind"] == "speed"}
    assert float(speeds["transformers", "p50"]) == 0.08
    assert {(row["checkpoint"], row["precision"]) for row in rows} == {("minilm-l6", "fp32")}


def test_csv_says_what_several_seeds_give_together(quality_record: Qualities) -> None:
    records: list[Record] = [quality_record(seed=seed, metrics=[scored(value)]) for seed, value in ((1, 0.8), (2, 0.9))]
    records.append(quality_record("transformers"))
    rows = [row for row in csv.DictReader(io.StringIO(to_csv(records))) if row["kind"] == "seeds"]
    assert {(row["implementation"], row["seed"], row["split"]) for row in rows} == {("reference", "1 2", "dev")}
    values = {row["name"].removeprefix("accuracy_"): float(row["value"]) for row in rows}
    assert values == pytest.approx(
        {"mean": 0.85, "deviation": 0.0707107, "least": 0.8, "greatest": 0.9, "counted": 2, "collapsed": 0, "failed": 0}
    )


def test_files_are_written_and_json_is_the_records(
    quality_record: Qualities, speed_record: Speeds, tmp_path: Path
) -> None:
    records: list[Record] = [quality_record(), speed_record()]
    files = {file.name: file.read_text() for file in write_report(records, tmp_path / "new")}
    assert files.keys() == {"report.html", "report.md", "report.svg", "report.csv", "report.json"}
    read = json.loads(files["report.json"])
    assert read == json.loads(to_json(records))
    assert [each["kind"] for each in read] == ["quality", "speed"]
    assert read[0]["metrics"] == quality_record().metrics
    assert files["report.md"] == to_markdown(arrange(records))
    assert files["report.csv"] == to_csv(records)
    assert files["report.html"] == to_html(records)
    picture = ElementTree.fromstring(files["report.svg"])
    assert "0.812" in "".join(picture.itertext())
    assert not re.search(r"url\(\W*http|href=|@import", files["report.svg"]), "nothing is fetched to show it"


def test_a_report_is_replaced_as_a_whole(quality_record: Qualities, tmp_path: Path) -> None:
    write_report([quality_record()], tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    with (tmp_path / "report.md").open(encoding="utf-8") as being_read:
        write_report([quality_record("transformers")], tmp_path)
        assert "| reference |" in being_read.read()
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert "| transformers |" in (tmp_path / "report.md").read_text()


def test_a_report_that_cannot_be_written_is_a_failure(quality_record: Qualities, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match=r"report\.html could not be written: .*; make room or name another folder"):
        write_report([quality_record()], tmp_path / "file")


# -- under load --


def scenarios(rate: float | None, energy: dict[str, Any]) -> dict[str, Any]:
    return {
        "offline": {"samples": 12800, "seconds": 61.5, "samples_per_second": 208.1, "energy": energy},
        "server": {"rate": rate, "bound": 0.05, "trials": []},
        "load": {"noisy": False, "steal": 0.0, "others": 0.0},
    }


def under_load(speed_record: Speeds, **fields: Any) -> Speed:
    timed = speed_record("mini-sentiment")
    timed.implementations["reference"]["scenarios"] = scenarios(**fields)
    return timed


def test_energy_and_the_rate_that_is_held_stand_in_the_table(speed_record: Speeds) -> None:
    joules = {"joules": 430.0, "joules_per_1000_samples": 33.59, "idle_watts": 61.2, "source": "RAPL package-0"}
    report = arrange([under_load(speed_record, rate=94.64, energy=joules)])
    row = report.rows["reference"]
    assert row["mini-sentiment\noffline, samples/s"] == ["208", "33.6 J for 1,000"]
    assert row["mini-sentiment\nserver, queries/s"] == ["94.6", "p99 within 50 ms"]
    assert "mini-sentiment\nserver, queries/s" not in report.rows["transformers"]
    assert "energy of reference: RAPL package-0, beyond what the device takes when idle (61 W)" in report.notes


def test_energy_that_could_not_be_measured_and_a_bound_that_no_rate_holds_are_said(speed_record: Speeds) -> None:
    absent = {"absent": "RAPL: reading it needs root"}
    timed = under_load(speed_record, rate=None, energy=absent)
    report = arrange([timed])
    assert report.rows["reference"]["mini-sentiment\noffline, samples/s"] == ["208"]
    assert report.rows["reference"]["mini-sentiment\nserver, queries/s"] == ["none met", "p99 within 50 ms"]
    assert "no energy of reference: RAPL: reading it needs root" in report.notes
    lines = list(csv.DictReader(io.StringIO(to_csv([timed]))))
    values = {line["name"]: line["value"] for line in lines if line["implementation"] == "reference"}
    assert values["offline_samples_per_second"] == "208.1"
    assert (values["server_rate"], values["server_bound"], values["joules_per_1000_samples"]) == ("", "0.05", "")
