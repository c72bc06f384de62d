"""Reported results for people and programs: chosen, printed, exported, and handed to the harness."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.errors import BadInput
from catalog.load import ENTRIES, load
from catalog.reported import results
from tests.catalog.conftest import Write
from tests.catalog.reported.test_tables import table

PUBLISHED = Path("harness/results/published.json")


@pytest.fixture
def glue(entries: Path, write: Write) -> Path:
    """A benchmark of two data sets, with results of two models."""
    write("glue-benchmark", "dataset", title="GLUE", url="https://example.org/glue", splits="[test]")
    for name, splits in (("mnli", "[dev_matched, test_matched]"), ("rte", "[dev, test]")):
        address = f"https://example.org/{name}"
        write(name, "dataset", title=name, url=address, splits=splits, relates_to="[glue-benchmark]")
    rte = {"dataset": "rte", "split": "test", "value": "66.4"}
    write("bert", reported=table({}, {"split": "test_matched", "value": "84.6"}, rte))
    second = table({"value": "0.9080"}, model="RoBERTa", unit="fraction", parameters="355M", setting="[ensemble]")
    other = table({"value": "90.2"}, model="RoBERTa", setting="[ensemble]", seen="https://example.org/x", source="=x")
    write("roberta", arxiv="1907.11692", year="2019", reported=second + other)
    return entries


def test_a_data_set_alone_of_a_benchmark_or_a_whole_benchmark(glue: Path) -> None:
    entries = load(glue)
    assert [row.model for row in results.choose(entries, "mnli", None)] == ["RoBERTa", "RoBERTa", *["BERT-Base"] * 2]
    assert results.choose(entries, "glue/mnli", "dev") == results.choose(entries, "mnli", "dev_matched")
    assert {row.dataset for row in results.choose(entries, "glue", "test")} == {"mnli", "rte"}
    assert len(results.choose(entries, None, None)) == 5


@pytest.mark.parametrize(
    ("what", "split", "message"),
    [
        ("mnlii", None, "there is no data set 'mnlii' - did you mean 'mnli'?"),
        ("glue/cola", None, "glue-benchmark has no data set 'cola'"),
        ("clue/mnli", None, "there is no data set 'clue/mnli'"),
        ("rte", "dev", "no result is on 'dev'; there are test"),
        ("rte", "tset", "no result is on 'tset' - did you mean 'test'?; there are test"),
    ],
)
def test_what_is_not_there(what: str, split: str | None, message: str, glue: Path) -> None:
    with pytest.raises(BadInput, match=message.replace("?", r"\?")):
        results.choose(load(glue), what, split)


def test_tables_for_a_terminal_never_mix_splits(glue: Path) -> None:
    text = results.to_text(results.choose(load(glue), "mnli", None))
    assert text.split("\n\n")[0].splitlines() == [
        "mnli, dev_matched, accuracy",
        "      90.80* RoBERTa    ensemble; a README; a/b@0123abc README.md:7",
        "       90.2* RoBERTa    ensemble; =x; https://example.org/x",
        "       84.4  BERT-Base  a README; a/b@0123abc README.md:7",
    ]
    assert text.endswith("* sources disagree")


def test_json_and_csv_have_the_same_rows(glue: Path) -> None:
    rows = results.choose(load(glue), None, None)
    listed = json.loads(results.to_json(rows))
    assert listed["count"] == 5
    first = listed["results"][0]
    assert (first["value"], first["unit"], first["as_written"], first["disputed"]) == (90.8, "percent", "0.9080", True)
    read = list(csv.DictReader(io.StringIO(results.to_csv(rows))))
    assert [row["model"] for row in read] == [each["model"] for each in listed["results"]]
    assert [float(row["value"]) for row in read] == [each["value"] for each in listed["results"]]
    assert {row["source"] for row in read} == {"a README", "'=x"}, "a spreadsheet would run =x"


def test_parquet_has_them_too(glue: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = results.choose(load(glue), None, None)
    read = parquet.read_table(results.write_parquet(rows, tmp_path / "new" / "results.parquet")).to_pylist()
    assert read == json.loads(results.to_json(rows))["results"]


def test_the_harness_reads_what_the_catalog_says() -> None:
    assert PUBLISHED.read_text("utf-8") == results.anchors(load(ENTRIES)), "run: python -m catalog anchors"


def test_only_tables_that_name_weights_go_to_the_harness(entries: Path, write: Write) -> None:
    write("mnli", "dataset", title="MNLI", url="https://example.org/mnli", splits="[dev_matched]")
    recipe = "{runs: 1, select: last, learning_rate: 2.0e-5}"
    named = table(model="A", weights="[bert-base-cased]", recipe=recipe)
    write("bert", reported=named + table(model="B"))
    assert json.loads(results.anchors(load(entries))) == [
        {
            "source": "a README",
            "url": "https://github.com/a/b/blob/0123abc/README.md?plain=1#L7",
            "checkpoints": ["bert-base-cased"],
            "protocol": {"runs": 1, "select": "last", "learning_rate": 2e-05},
            "figures": [{"dataset": "mnli", "split": "dev_matched", "metric": "accuracy", "value": 0.844}],
        }
    ]


def command(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", "catalog", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_command_prints_tables_and_json_and_says_what_is_wrong(glue: Path) -> None:
    code, out, _ = command("results", "glue/mnli", "--split", "test", "--json", "--entries", str(glue))
    assert code == 0
    assert [each["as_written"] for each in json.loads(out)["results"]] == ["84.6"]
    code, out, error = command("results", "nothing", "--entries", str(glue))
    assert (code, out) == (2, "")
    assert error.startswith("error: there is no data set 'nothing'")
