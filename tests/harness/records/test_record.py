"""Records: written whole or not at all, and read only if they are what they say."""

import dataclasses
import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BadInput, Failure
from harness.files import exclusive, sweep, write_json
from harness.records import record
from harness.records.record import Quality, Record

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["quality", "speed", "parity"])
def made(request: pytest.FixtureRequest) -> Record:
    """One record of each kind."""
    result: Record = request.getfixturevalue(f"{request.param}_record")()
    return result


@pytest.fixture
def written(quality_record: Callable[..., Quality], tmp_path: Path) -> Path:
    path = tmp_path / "one.json"
    record.write(quality_record(), path)
    return path


def edit(path: Path, **fields: Any) -> None:
    """Replace fields of a record; None takes one away."""
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


def test_what_is_written_is_read_again(made: Record, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "one.json"
    record.write(made, path)
    assert record.read(path) == made
    assert type(record.read(path)) is type(made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644, "others may read it"


def test_a_record_replaces_the_one_before(quality_record: Callable[..., Quality], written: Path) -> None:
    record.write(quality_record(seed=7), written)
    read = record.read(written)
    assert isinstance(read, Quality)
    assert read.seed == 7
    assert list(written.parent.iterdir()) == [written]


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(("crash", "error"), [(full_disk, Failure), (interrupted, KeyboardInterrupt)])
def test_a_crash_leaves_the_old_record_and_no_half_of_the_new(
    quality_record: Callable[..., Quality],
    written: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    crash: Callable[..., None],
    error: type[BaseException],
) -> None:
    before = written.read_bytes()
    monkeypatch.setattr(os, step, crash)
    monkeypatch.setattr(Path, "replace", crash if step == "replace" else Path.replace)
    with pytest.raises(error):
        record.write(quality_record(seed=7), written)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_a_full_disk_says_what_to_do(
    quality_record: Callable[..., Quality], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(Failure, match=r"one\.json could not be written: No space left on device; make room"):
        record.write(quality_record(), tmp_path / "one.json")


def test_a_file_in_the_folders_place_is_a_failure(quality_record: Callable[..., Quality], written: Path) -> None:
    with pytest.raises(Failure, match="could not be written"):
        record.write(quality_record(), written / "two.json")
    with pytest.raises(Failure, match="cannot be written to"), exclusive(written / "two.json", lambda: None):
        pass


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_neither_written_nor_read(
    quality_record: Callable[..., Quality], written: Path, number: float
) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        record.write(quality_record(seconds=number), written.with_name("two.json"))
    assert list(written.parent.iterdir()) == [written]
    edit(written, training={"losses": [0.5, number]})
    with pytest.raises(BadInput, match=r"one\.json: not a record: -?(NaN|Infinity) is not a number"):
        record.read(written)


def test_a_number_too_large_to_be_finite_is_refused(written: Path) -> None:
    written.write_text(written.read_text().replace('"seconds": 12.5', '"seconds": 1e999'))
    with pytest.raises(BadInput, match=r"one\.json: a number that is not finite"):
        record.read(written)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema": 99}, "schema 99 is of a newer BERT Atlas than this, which reads 2; update it"),
        ({"schema": 0}, "schema 0; this version of BERT Atlas reads schema 2"),
        ({"schema": "1"}, "schema 1; this version"),
        ({"schema": None}, "schema None"),
        ({"schema": True}, "schema True; this version"),
        ({"started": 3}, "started is 3, of another type"),
        ({"metrics": {}}, "metrics is not a list"),
        ({"metrics": [{"split": "dev"}]}, r"metrics\[0\].name is missing"),
        ({"checkpoint": {"name": "x"}}, "checkpoint.sha256 is missing"),
        ({"precision": {"resolved": "fp32"}}, "precision.computed is missing"),
        ({"flags": ["dev: odd"]}, r"flags\[0\] is not an object"),
        ({"flags": [{"split": 1, "text": "odd"}]}, r"flags\[0\].split is 1, of another type"),
        ({"repairs": {"dev": [{"what": "x", "first": "a:1"}]}}, r"repairs.dev\[0\].count is missing"),
        ({"machine": []}, "machine is not an object"),
        ({"seed": True}, "seed is True, of another type"),
        ({"kind": "opinion"}, "not a record: its kind is 'opinion', none of quality, speed, parity"),
        ({"kind": None}, "not a record: its kind is None"),
        ({"kind": ["quality"]}, "not a record: its kind is"),
        ({"colour": "blue"}, "unknown fields colour"),
        ({"seed": None}, "missing fields seed"),
        ({"checkpoint": None, "machine": None}, "missing fields checkpoint, machine"),
    ],
)
def test_a_field_that_is_wrong_is_named(written: Path, fields: dict[str, Any], message: str) -> None:
    edit(written, **fields)
    with pytest.raises(BadInput, match=rf"one\.json: {message}"):
        record.read(written)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'"text"', b"null", b"\xff\xfe", b'{"kind": "quality"}x'])
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "one.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"one\.json: not a record"):
        record.read(path)


def test_a_folder_or_an_absent_file_is_no_record(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        record.read(tmp_path)
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        record.read(tmp_path / "absent.json")


def held_elsewhere(path: Path) -> subprocess.Popen[str]:
    """A process that works on this record until its standard input ends."""
    code = "import sys; from pathlib import Path; from harness.files import exclusive\n"
    code += "with exclusive(Path(sys.argv[1]), lambda: None): print('in', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    return process


@pytest.mark.parametrize("end", ["finished", "killed"])
def test_one_process_works_on_a_record_at_a_time(tmp_path: Path, end: str) -> None:
    with held_elsewhere(tmp_path / "one.json") as other:
        said: list[str] = []

        def waiting() -> None:
            said.append("waiting")
            assert other.poll() is None
            other.kill() if end == "killed" else other.communicate()

        with exclusive(tmp_path / "two.json", waiting):
            assert said == [], "that is another record"
        with exclusive(tmp_path / "one.json", waiting):
            assert said == ["waiting"]
            assert other.wait(timeout=10) == (-9 if end == "killed" else 0)


def test_what_a_killed_process_left_of_a_record_is_swept_away(tmp_path: Path) -> None:
    left = ["one.json1234.part", "one.predictions.json.gzabc.part"]
    others = ["two.json1234.part", "one.json", "one.predictions.json.gz"]
    for name in [*left, *others]:
        (tmp_path / name).write_text("{")
    with exclusive(tmp_path / "one.json", lambda: None):
        assert sorted(path.name for path in tmp_path.glob("[!.]*")) == sorted(others)
    sweep(tmp_path)
    assert not list(tmp_path.glob("*.part"))


PREDICTIONS: dict[str, list[Any]] = {
    "dev": [["s-1", "positive"], ["s-2", "中性"]],
    "test": [["0", 3.25], ["1", ["joy", "love"]]],
}


def test_predictions_are_read_again_and_have_the_same_bytes_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first.gz", tmp_path / "other" / "second.gz"
    record.write_predictions(first, PREDICTIONS)
    monkeypatch.setattr("time.time", lambda: 0.0)  # the time of day is not in them
    record.write_predictions(second, PREDICTIONS)
    assert first.read_bytes() == second.read_bytes()
    assert record.read_predictions(first) == PREDICTIONS


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: b"text", lambda raw: b""])
def test_damaged_predictions_are_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "one.gz"
    record.write_predictions(path, PREDICTIONS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadInput, match=r"one\.gz: not a file of predictions"):
        record.read_predictions(path)
    with pytest.raises(BadInput, match="not a file of predictions"):
        record.read_predictions(tmp_path / "absent.gz")


def test_all_records_of_folders_and_files_are_read_in_order(
    quality_record: Callable[..., Quality], tmp_path: Path
) -> None:
    for name, seed in (("b/2.json", 2), ("a/1.json", 1), ("c.json", 3)):
        record.write(quality_record(seed=seed), tmp_path / name)
    (tmp_path / "report.json").write_text("[]")
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "a" / "1.json1234.part").write_text("{")  # of a run that was killed
    seeds = [each.seed for each in record.read_all([tmp_path]) if isinstance(each, Quality)]
    assert seeds == [1, 2, 3]
    assert len(record.read_all([tmp_path / "a", tmp_path / "c.json"])) == 2
    assert record.read_all([]) == []


def test_other_files_among_records_are_left_alone_but_refused_by_name(
    quality_record: Callable[..., Quality], tmp_path: Path
) -> None:
    record.write(quality_record(), tmp_path / "one.json")
    write_json({"a": "x", "differences": []}, tmp_path / "comparison.json")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"model_type": "bert"}')
    assert len(record.read_all([tmp_path])) == 1
    with pytest.raises(BadInput, match="not a record"):
        record.read_all([tmp_path / "comparison.json"])
    whole = (tmp_path / "one.json").read_text()
    for left in (200, 20, 0):
        (tmp_path / "one.json").write_text(whole[:left])
        with pytest.raises(BadInput, match=r"one\.json: not a record: .*; delete it"):
            record.read_all([tmp_path])


def test_folders_that_overlap_give_each_record_once(quality_record: Callable[..., Quality], tmp_path: Path) -> None:
    record.write(quality_record(), tmp_path / "quality/one.json")
    assert len(record.read_all([tmp_path, tmp_path / "quality"])) == 1


def test_records_of_an_older_schema_are_brought_up_to_todays(
    quality_record: Callable[..., Quality], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.write(quality_record(), path := tmp_path / "one.json")
    monkeypatch.setattr(record, "SCHEMA", 4)
    monkeypatch.setitem(record.MIGRATIONS, 2, lambda values: values | {"limit": 7})
    monkeypatch.setitem(record.MIGRATIONS, 3, lambda values: values | {"limit": values["limit"] + 1})
    found = record.read(path)
    assert isinstance(found, Quality)
    assert (found.schema, found.limit) == (4, 8)


def as_schema_1(each: Record) -> dict[str, Any]:
    """What the first schema had of a record."""
    values = json.loads(json.dumps({"kind": each.kind, **dataclasses.asdict(each)})) | {"schema": 1}
    del values["checkpoint"]["config"], values["checkpoint"]["initialised"]
    del values["precision"]["computed"], values["machine"]["hidden"]
    if "flags" in values:
        values["flags"] = list(map(record.flag_text, each.flags))  # type: ignore[attr-defined]
        del values["repairs"]
    return values


def test_a_record_of_schema_1_says_unknown_where_it_lacks_a_field(made: Record, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    if isinstance(made, Quality):
        made.flags = [record.flag("odd: very", "dev"), record.flag("odd", "train"), record.flag("once: out of memory")]
    path.write_text(json.dumps(as_schema_1(made)))
    found = record.read(path)
    assert (found.schema, found.precision["computed"], found.machine["hidden"]) == (2, "unknown", [])
    assert (found.checkpoint["config"], found.checkpoint["initialised"]) == ({}, [])
    unknown = {"functions": None, "compiler": None, "reason": "unknown"}
    if isinstance(found, record.Speed):
        assert found.load["throttled"] == {"periods": "unknown", "seconds": "unknown"}
        assert {figures["compiled"]["reason"] for figures in found.implementations.values()} == {"unknown"}
    else:
        assert found.implementation["compiled"] == unknown  # type: ignore[attr-defined]
    if isinstance(made, Quality):
        assert (found.flags, found.repairs) == (made.flags, {})  # type: ignore[attr-defined]
    record.write(found, path)
    assert record.read(path) == found


@pytest.mark.parametrize("damage", [{"precision": 3}, {"checkpoint": None}, {"machine": []}, {"flags": [7]}])
def test_a_damaged_record_of_schema_1_is_refused(
    quality_record: Callable[..., Quality], tmp_path: Path, damage: dict[str, Any]
) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(as_schema_1(quality_record()) | damage))
    with pytest.raises(BadInput, match=r"one\.json: not a record of schema 1"):
        record.read(path)


def test_a_path_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere does not exist; name a folder of records or a record"):
        record.read_all([tmp_path / "nowhere"])
