"""A reported result is added to a file, and nothing else of the file changes."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from catalog.add.add_result import add_result
from catalog.check import check
from catalog.cli import app
from catalog.errors import BadInput
from catalog.load import load
from catalog.reported.tables import results
from tests.catalog.conftest import Write
from tests.catalog.reported.test_tables import table

GIVEN: dict[str, Any] = {"model": "BERT-Base", "source": "a README", "by": "repository"}
GIVEN |= {"seen": "a/b@0123abc README.md:7", "unit": "percent", "dataset": "mnli", "split": "dev", "metric": "accuracy"}


@pytest.fixture
def bert(entries: Path, write: Write) -> Path:
    write("mnli", "dataset", title="MNLI", url="https://example.org/mnli", splits="[dev, dev_matched, test_matched]")
    return write("bert")


def test_the_first_result_begins_a_table_at_the_end(bert: Path, entries: Path) -> None:
    before = bert.read_text("utf-8")
    written = add_result("bert", GIVEN | {"value": "84.4", "condition": "length: 384"}, entries)
    assert bert.read_text("utf-8").startswith(before)
    assert bert.read_text("utf-8").splitlines()[written.line - 1] == (
        "      - {dataset: mnli, split: dev, metric: accuracy, value: '84.4'}"
    )
    assert check(entries) == []


def test_the_second_goes_into_the_same_table(bert: Path, entries: Path) -> None:
    add_result("bert", GIVEN | {"value": "84.4"}, entries)
    add_result("bert", GIVEN | {"value": "84.6", "split": "test_matched"}, entries)
    add_result("bert", GIVEN | {"value": "86.7", "model": "BERT-Large", "setting": ["ensemble"]}, entries)
    found = load(entries)
    assert [len(each.figures) for entry in found for each in getattr(entry, "reported", [])] == [2, 1]
    assert [row.written for row in results(found)] == ["84.4", "84.6", "86.7"]


def test_a_table_before_other_fields_stays_there(bert: Path, entries: Path, write: Write) -> None:
    write("bert", reported=table() + "\n# a remark", sources="[owner/name@0123456 README.md:1]", added='"2026-12-01"')
    add_result("bert", GIVEN | {"value": "90.0", "model": "BERT-Large"}, entries)
    text = bert.read_text("utf-8")
    assert text.endswith('sources: [owner/name@0123456 README.md:1]\nadded: "2026-12-01"\n')
    assert "# a remark" in text
    assert check(entries) == []


def test_figures_of_several_lines_stay_whole(bert: Path, entries: Path, write: Write) -> None:
    lines = [
        "  -   " + "model: BERT-Base",
        *(f"      {name}: {GIVEN[name]}" for name in ("source", "by", "seen", "unit")),
    ]
    lines += ["      figures:", "        - dataset: mnli", "          split: dev", "          metric: accuracy"]
    write(
        "bert", reported="\n" + "\n".join([*lines, "          value: 84.4"]), sources="[owner/name@0123456 README.md:1]"
    )
    written = add_result("bert", GIVEN | {"value": "84.6", "split": "test_matched"}, entries)
    assert bert.read_text("utf-8").splitlines()[written.line - 1].startswith("        - {dataset: mnli, split: test_m")
    assert [row.written for row in results(load(entries))] == ["84.4", "84.6"]


def test_an_entry_with_problems_is_left_alone(bert: Path, entries: Path, write: Write) -> None:
    write("bert", year="x")
    with pytest.raises(BadInput, match="the entry 'bert' has problems"):
        add_result("bert", GIVEN | {"value": "84.4"}, entries)


@pytest.mark.parametrize(
    ("entry", "more", "message"),
    [
        ("bret", {}, "there is no paper or model 'bret' - did you mean 'bert'?"),
        ("mnli", {}, "there is no paper or model 'mnli'"),
        ("bert", {"value": "0.844"}, "0.844 is a fraction in a table of percentages"),
        ("bert", {"split": "test"}, "mnli has no split 'test'"),
        ("bert", {"seen": ""}, "the required field is missing"),
        ("bert", {"value": "84.4\nid: x"}, "is not a number"),
    ],
)
def test_what_would_not_pass_is_not_written(
    entry: str, more: dict[str, str], message: str, bert: Path, entries: Path
) -> None:
    before = bert.read_bytes()
    with pytest.raises(BadInput) as refused:
        add_result(entry, GIVEN | {"value": "84.4"} | more, entries)
    assert message in str(refused.value)
    assert bert.read_bytes() == before
    assert sorted(each.name for each in bert.parent.iterdir()) == ["bert.yaml"]


def test_the_form_asks_for_what_is_not_given(bert: Path, entries: Path) -> None:
    options = ["--model", "BERT-Base", "--split", "dev", "--metric", "accuracy", "--by", "repository"]
    answers = "mnli\n84.4\npercent\na README\n\na/b@0123abc README.md:7\n"
    done = CliRunner().invoke(app, ["add-result", "bert", *options, "--entries", str(entries)], input=answers)
    assert done.exit_code == 0, done.output
    assert "Data set, the id of its entry:" in done.output
    assert done.output.rstrip().endswith(f"{bert}:14")
    assert check(entries) == []


def test_without_a_terminal_the_missing_option_is_named(bert: Path, entries: Path) -> None:
    done = CliRunner().invoke(app, ["add-result", "bert", "--model", "B", "--entries", str(entries)], input="")
    assert isinstance(done.exception, BadInput)
    assert str(done.exception) == "--dataset is missing: Data set, the id of its entry"
