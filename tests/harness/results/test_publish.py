"""Publishing: what may not be published is refused, and what may is copied to its place."""

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.errors import BadInput
from harness.records import record
from harness.records.record import Parity, Quality, Record, Speed
from harness.results.publish import check_record, publish

Put = Callable[[Record, Path], Path]
PREDICTIONS: dict[str, list[Any]] = {"dev": [["0", "positive"]]}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_records_and_predictions_are_copied_by_machine_and_implementation(
    put: Put,
    quality_record: Callable[..., Quality],
    speed_record: Callable[..., Speed],
    parity_record: Callable[..., Parity],
    runs: Path,
    tmp_path: Path,
) -> None:
    metrics = [quality_record().metrics[0] | {"n": 1}]
    named = {"predictions": "one.json.gz", "metrics": metrics}
    put(quality_record("transformers:eager", **named), runs / "quality" / "one.json")
    record.write_predictions(runs / "quality" / "one.json.gz", PREDICTIONS)
    put(speed_record(), runs / "speed" / "two.json")
    put(parity_record(), runs / "parity" / "three.json")
    (runs / "report.json").write_text("[]")
    results = tmp_path / "results"
    copied = publish([runs], results)
    machine = results / "intel-xeon-processor-2-60ghz-2-cores"
    assert set(copied) == {
        machine / "transformers-eager" / "one.json",
        machine / "transformers-eager" / "one.json.gz",
        machine / "comparisons" / "two.json",
        machine / "reference" / "three.json",
    }
    assert {path for path in results.rglob("*") if path.is_file()} == set(copied)
    assert record.read_predictions(machine / "transformers-eager" / "one.json.gz") == PREDICTIONS
    assert (machine / "comparisons" / "two.json").read_bytes() == (runs / "speed" / "two.json").read_bytes()
    assert len(record.read_all([results])) == 3


@pytest.mark.parametrize(
    ("device", "folder"),
    [("cuda:0", "nvidia-h100-80gb-hbm3"), ("cpu", "amd-epyc-7b13-64-core-processor-2-cores")],
)
def test_the_machines_folder_is_a_plain_name(
    put: Put, quality_record: Callable[..., Quality], runs: Path, tmp_path: Path, device: str, folder: str
) -> None:
    machine = {"cpu": "AMD EPYC 7B13 / 64-Core Processor ", "hidden": [], "gpus": [{"name": "NVIDIA H100 80GB HBM3"}]}
    path = put(quality_record(device=device, machine=machine), runs / "one.json")
    results = tmp_path / "results"
    names = ("one.json", "one.predictions.json.gz")
    assert publish([path], results) == [results / folder / "reference" / name for name in names]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"state": "failed", "reason": None}, r"the run failed and does not say why; run it again"),
        ({"limit": 8}, "limited to 8 examples; run it without --limit"),
        (
            {"checkpoint": {"name": "mine", "sha256": "5" * 64, "source": "local", "config": {}, "initialised": []}},
            "the weights mine are your own, which nobody else has",
        ),
        ({"commit": None}, "names no commit of BERT Atlas: it was made outside a git checkout"),
        ({"commit": "a" * 40 + "+changes"}, "not a clean commit"),
        ({"predictions": "absent.json.gz"}, r"its predictions, absent\.json\.gz, are not beside it"),
    ],
)
def test_a_run_that_proves_nothing_is_refused(
    put: Put, quality_record: Callable[..., Quality], runs: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    path = put(quality_record(**fields), runs / "one.json")
    with pytest.raises(BadInput, match=rf"one\.json: .*{message}"):
        publish([path], tmp_path / "results")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"implementation": {"name": "../../escaped"}}, "no implementation is called"),
        ({"implementation": {"name": ".."}}, "no implementation is called"),
        ({"predictions": "../one.json.gz"}, "not the name of a file beside it"),
        ({"commit": 5}, "names no commit of BERT Atlas"),
        ({"metrics": []}, "no score"),
        ({"value": 7.5}, "scores beyond -1 and 1, accuracy"),
    ],
)
def test_what_leads_out_of_its_folder_or_is_no_score_is_refused(
    put: Put, quality_record: Callable[..., Quality], runs: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    if "value" in fields:
        fields = {"metrics": [quality_record().metrics[0] | {"name": "accuracy", **fields}]}
    path = put(quality_record(), runs / "one.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    for check in (lambda: check_record(path), lambda: publish([path], tmp_path / "results")):
        with pytest.raises(BadInput, match=rf"one\.json: .*{message}"):
            check()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("wall", [[], [[]], [[0.1, -1.0]], -1, None])
def test_timings_that_are_no_seconds_are_refused(
    put: Put, speed_record: Callable[..., Speed], runs: Path, tmp_path: Path, wall: Any
) -> None:
    path = put(speed_record(), runs / "one.json")
    values = json.loads(path.read_text())
    name = next(iter(values["implementations"]))
    values["implementations"][name]["wall"] = wall
    path.write_text(json.dumps(values))
    with pytest.raises(BadInput, match=rf"one\.json: timings that are no seconds, of {name}; run it again"):
        publish([path], tmp_path / "results")


def test_parity_without_a_difference_is_refused(
    put: Put, parity_record: Callable[..., Parity], runs: Path, tmp_path: Path
) -> None:
    path = put(parity_record(differences={}), runs / "one.json")
    with pytest.raises(BadInput, match=r"one\.json: no differences; run it again"):
        publish([path], tmp_path / "results")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([["0", "positive"]], "1 predictions of 1 examples of dev, and 2 were scored"),
        ([["0", "positive"]] * 2, "2 predictions of 1 examples of dev, and 2 were scored"),
        ([], "0 predictions of 0 examples of dev"),
    ],
)
def test_predictions_that_are_not_one_for_each_example_are_refused(
    put: Put, quality_record: Callable[..., Quality], runs: Path, tmp_path: Path, pairs: list[Any], message: str
) -> None:
    metrics = [quality_record().metrics[0] | {"n": 2}]
    path = put(quality_record(predictions="one.json.gz", metrics=metrics), runs / "one.json")
    record.write_predictions(runs / "one.json.gz", {"dev": pairs})
    with pytest.raises(BadInput, match=rf"one\.json: {message}.*; run it again"):
        publish([path], tmp_path / "results")
    record.write_predictions(runs / "one.json.gz", {"dev": [["0", "positive"], ["1", "negative"]]})
    assert len(publish([path], tmp_path / "results")) == 2


def test_a_score_without_predictions_is_refused(
    quality_record: Callable[..., Quality], runs: Path, tmp_path: Path
) -> None:
    record.write(quality_record(predictions=None), runs / "one.json")
    with pytest.raises(BadInput, match=r"one\.json: it has no predictions; copy both, or run it again"):
        publish([runs], tmp_path / "results")


def test_a_task_of_ones_own_is_refused(
    put: Put, quality_record: Callable[..., Quality], runs: Path, tmp_path: Path
) -> None:
    task = quality_record("reference", "my-task").task | {"suite": "own"}
    path = put(quality_record(task=task), runs / "one.json")
    with pytest.raises(BadInput, match="my-task is a task of your own"):
        publish([path], tmp_path / "results")


@pytest.mark.parametrize(
    "text",
    [
        "python -m harness run --data /home/alice/data",
        "python -m harness run --data=/srv/data",
        "/opt/models/tiny",
        "read '/etc/hosts'",
        "one line\n/var/lib/models",
        "file:///mnt/models",
        f"python -m harness run --weights {platform.node()}.example.org",
        f"from {platform.node()}",
        f"{psutil.Process().username()}@somewhere",
    ],
)
def test_a_path_or_a_name_of_this_machine_is_refused_wherever_it_stands(
    put: Put,
    quality_record: Callable[..., Quality],
    speed_record: Callable[..., Speed],
    runs: Path,
    tmp_path: Path,
    text: str,
) -> None:
    source = {"name": "tiny", "sha256": "5" * 64, "source": text, "config": {}, "initialised": []}
    holding = [
        quality_record(command=text),
        quality_record(flags=[record.flag("fine", "dev"), record.flag(text)]),
        speed_record(checkpoint=source),
    ]
    for each in holding:
        path = put(each, runs / "one.json")
        with pytest.raises(BadInput, match=r"one\.json: holds the (path|host name|user name) "):
            publish([path], tmp_path / "results")


@pytest.mark.parametrize(
    "text",
    [
        "python -m harness run --data $BERT_ATLAS_DATA/GLUE --runs ~/runs --task tasks/my/rte.yaml",
        "python -m harness run --weights .../tiny --task ../mine.yaml",
        "https://storage.googleapis.com/bert_models/2018_10_18/uncased.zip",
        "Debian GNU/Linux 13, 130 seq/s, google-bert/bert-base-uncased",
    ],
)
def test_what_everybody_has_may_be_published(
    put: Put, quality_record: Callable[..., Quality], runs: Path, tmp_path: Path, text: str
) -> None:
    path = put(quality_record(command=text), runs / "one.json")
    assert len(publish([path], tmp_path / "results")) == 2


def test_nothing_is_copied_where_one_record_is_refused(
    put: Put, quality_record: Callable[..., Quality], runs: Path, tmp_path: Path
) -> None:
    put(quality_record(), runs / "1.json")
    put(quality_record(limit=8), runs / "2.json")
    with pytest.raises(BadInput, match=r"2\.json"):
        publish([runs], tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_what_is_published_already_stays_as_it_is(
    runs: Path, tmp_path: Path, quality_record: Callable[..., Quality]
) -> None:
    results = tmp_path / "results"
    record.write(
        quality_record(state="failed", reason="out of memory", metrics=[], predictions=None), runs / "one.json"
    )
    first = publish([runs], results)
    contents = {path: path.read_bytes() for path in first}
    publish([results], results)
    assert {path: path.read_bytes() for path in first} == contents


def test_no_records_and_no_folder_are_said(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="runs does not exist; name a folder of records"):
        publish([runs], tmp_path / "results")
    runs.mkdir()
    with pytest.raises(BadInput, match="no records in"):
        publish([runs], tmp_path / "results")


def test_a_record_is_checked_without_being_published(
    put: Put, quality_record: Callable[..., Quality], runs: Path
) -> None:
    path = put(quality_record(), runs / "one.json")
    check_record(path)
    assert sorted(each.name for each in runs.iterdir()) == ["one.json", "one.predictions.json.gz"]
    put(quality_record(limit=8), path)
    with pytest.raises(BadInput, match=r"one\.json: the run was limited to 8 examples"):
        check_record(path)
    path.write_text(path.read_text().replace('"seed": ', '"seed": NaN, "was": '))
    with pytest.raises(BadInput, match=r"one\.json: not a record: NaN"):
        check_record(path)


@pytest.mark.parametrize("hidden", [["avx512f", "avx512_bf16"], ["ONEDNN_MAX_CPU_ISA=AVX2"]])
def test_a_record_made_with_parts_of_the_processor_switched_off_is_refused(
    put: Put, speed_record: Callable[..., Speed], runs: Path, tmp_path: Path, hidden: list[str]
) -> None:
    timed = speed_record()
    timed.machine["hidden"] = hidden
    path = put(timed, runs / "one.json")
    for refuse in (check_record, lambda path: publish([path], tmp_path / "results")):
        with pytest.raises(BadInput, match=rf"parts of the processor were switched off \({', '.join(hidden)}\)"):
            refuse(path)
