"""What a cell of the label column is: decided by its format and by the task, never by how Python prints or reads it."""

from pathlib import Path
from typing import Any

import pytest

from harness.data.examples import TextExample
from harness.data.read import read_split
from harness.data.task import Task
from harness.errors import BadInput
from tests.harness.splits import own_task, repairs

SEVERAL: dict[str, Any] = {"kind": "multi-label", "metrics": ["micro_f1"]}
SCORE: dict[str, Any] = {"kind": "regression", "metrics": ["pearson"], "labels": None}


def labels(task: Task, split: str = "train") -> list[Any]:
    return [each.label for each in read_split(task, split, None) if isinstance(each, TextExample)]


def json_task(folder: Path, *cells: str, **fields: Any) -> Task:
    """A task of JSON lines with these values, as JSON writes them, in the label column."""
    lines = "".join(f'{{"text": "x", "label": {cell}}}\n' for cell in cells)
    return own_task(folder, lines, format="jsonl", **fields)


def table_task(folder: Path, *cells: str, **fields: Any) -> Task:
    return own_task(folder, "text\tlabel\n" + "".join(f"x\t{cell}\n" for cell in cells), **fields)


# ---- JSON ----


@pytest.mark.parametrize(
    ("cell", "declared"),
    [("1", "1"), ('"1"', "1"), ("true", "true"), ("false", "false"), ('"null"', "null"), ('"None"', "None")],
)
def test_a_json_value_is_the_label_of_its_json_text(tmp_path: Path, cell: str, declared: str) -> None:
    task = json_task(tmp_path, cell, labels=[declared, "other"])
    assert labels(task) == [declared]
    assert repairs(task) == []


@pytest.mark.parametrize(
    ("cell", "declared"), [("1.0", "1"), ("1e2", "100"), ("-0.0", "0"), ("1.50", "1.5"), ("1", "1.0")]
)
def test_the_same_json_number_is_the_same_label_and_is_counted(tmp_path: Path, cell: str, declared: str) -> None:
    task = json_task(tmp_path, '"other"', cell, labels=[declared, "other"])
    assert labels(task) == ["other", declared]
    what = "numbers that are those of a label, though not written so, such as 1.0 for 1"
    assert repairs(task) == [(what, 1, "data:2")]


@pytest.mark.parametrize(
    ("cell", "declared", "message"),
    [
        ("true", "1", "is not declared; task mine has 1, other$"),
        ("true", "True", "is not declared; .* But for upper and lower case this one would be True"),
        ("1", "true", "is not declared"),
        ("1e99999999", "1", "is not declared"),
        ("null", "None", "is null, which is no label"),
        ("null", "null", "is null, which is no label"),
        ('["1"]', "1", "is a list, not one label"),
        ('{"a": 1}', "1", "is an object, not one label"),
        ('"1.0"', "1", "is not declared; .* As a number this one is 1, but 1.0 or 01 is not the text 1"),
    ],
)
def test_another_json_value_is_not(tmp_path: Path, cell: str, declared: str, message: str) -> None:
    task = json_task(tmp_path, cell, labels=[declared, "other"])
    with pytest.raises(BadInput, match=f"data:1: the label, column 'label', {message}"):
        read_split(task, "train", None)


def test_a_test_split_whose_labels_are_all_null_has_none(tmp_path: Path) -> None:
    assert labels(json_task(tmp_path, "null", "null"), "test") == [None, None]
    with pytest.raises(BadInput, match=r"data:2: the label is null, and others are not; `ignore: \[null\]`"):
        read_split(json_task(tmp_path, '"a"', "null"), "test", None)


# ---- labels that are not written as declared ----


@pytest.mark.parametrize(
    ("cell", "declared", "what"),
    [
        ("a ", "a", "in white space"),
        (" a", "a", "in white space"),
        ("a\u00a0", "a", "in white space"),
        ("a\u3000", "a", "in white space"),
        ("New\u00a0York", "New York", "in white space"),
        ("cafe\u0301", "caf\u00e9", "in their Unicode form"),
        ("caf\u00e9", "cafe\u0301", "in their Unicode form"),
        ("a\u200b", "a", "in characters that cannot be seen"),
        ("\ufeffa", "a", "in characters that cannot be seen"),
        ("a\u200d", "a", "in characters that cannot be seen"),
    ],
)
@pytest.mark.parametrize("format", ["tsv", "csv", "jsonl"])
def test_what_differs_invisibly_is_read_as_declared_and_counted(
    tmp_path: Path, format: str, cell: str, declared: str, what: str
) -> None:
    if format == "jsonl":
        task = json_task(tmp_path, '"other"', f'"{cell}"', labels=[declared, "other"])
    else:
        between = "\t" if format == "tsv" else ","
        content = f"text{between}label\nx{between}other\nx{between}{cell}\n"
        task = own_task(tmp_path, content, format=format, labels=[declared, "other"])
    assert labels(task) == ["other", declared]
    line = 2 if format == "jsonl" else 3
    assert repairs(task) == [
        (f"labels that differ from the declared ones only {what}, read as those", 1, f"data:{line}")
    ]


def test_labels_that_the_task_itself_tells_apart_are_exact(tmp_path: Path) -> None:
    task = table_task(tmp_path, "a ", "a", labels={"a": "one", "a ": "two"})
    assert labels(task) == ["two", "one"]
    assert repairs(task) == []
    with pytest.raises(BadInput, match="data:2: the label, column 'label', is not declared"):
        read_split(table_task(tmp_path, " a", labels={"a": "one", "a ": "two"}), "train", None)


def test_joiners_inside_a_label_have_a_meaning(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not declared"):
        read_split(table_task(tmp_path, "می\u200cشود", labels=["میشود", "other"]), "train", None)


@pytest.mark.parametrize(
    ("cell", "declared", "message"),
    [
        ("", "a", r'This one is empty; `ignore: \[""\]` leaves such examples out'),
        (" ", "a", "This one is white space"),
        ("-", "a", r"""This one is '-', as examples without a gold label have; `ignore: \["-"\]` leaves"""),
        ("-1", "0", r"""This one is '-1', as examples without a gold label have; `ignore: \["-1"\]` leaves"""),
        ("A", "a", "But for upper and lower case this one would be a"),
        ("ａ", "a", "But for full-width letters, or other forms of the same, this one would be a"),
        ("1.0", "1", "As a number this one is 1, but 1.0 or 01 is not the text 1"),
        ("01", "1", "As a number this one is 1, but 1.0 or 01 is not the text 1"),
        ("label", "a", "This line is the header once more"),
    ],
)
def test_what_is_different_about_another_label_is_said(tmp_path: Path, cell: str, declared: str, message: str) -> None:
    with pytest.raises(
        BadInput, match=rf"data:2: the label, column 'label', is not declared; task mine has .*\. {message}"
    ):
        read_split(table_task(tmp_path, cell, labels=[declared, "other"]), "train", None)


@pytest.mark.parametrize("cell", ["NA", "None", "NaN", "null", "True", "yes", "010", "1_0", "12:30"])
def test_text_in_a_table_is_text(tmp_path: Path, cell: str) -> None:
    task = table_task(tmp_path, cell, labels=[cell, "other"])
    assert labels(task) == [cell]
    assert repairs(task) == []


# ---- several labels ----


@pytest.mark.parametrize("cell", ["a|b", "a| b", " a |b"])
def test_labels_between_separators(tmp_path: Path, cell: str) -> None:
    assert labels(table_task(tmp_path, cell, "", label_separator="|", **SEVERAL)) == [("a", "b"), ()]


def test_a_json_list_of_names_or_one_text(tmp_path: Path) -> None:
    assert labels(json_task(tmp_path, '["a", "b"]', "[]", '"a"', '"a,b"', '""', **SEVERAL)) == [
        ("a", "b"), (), ("a",), ("a", "b"), (),
    ]  # fmt: skip


def test_a_label_with_the_separator_in_it(tmp_path: Path) -> None:
    assert labels(table_task(tmp_path, "a, b", "c", labels=["a, b", "c"], **SEVERAL)) == [("a, b",), ("c",)]


def test_two_values_of_one_name_are_that_name_once(tmp_path: Path) -> None:
    assert labels(table_task(tmp_path, "1,2", labels={"1": "bad", "2": "bad", "3": "good"}, **SEVERAL)) == [("bad",)]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("a,a", "names a label twice$"),
        ("a,a ", "names a label twice$"),
        ("a,", "has nothing before, behind or between its separators"),
        (",a", "has nothing before, behind or between its separators"),
        ("a,,b", "has nothing before, behind or between its separators"),
        ("['a', 'b']", "is a list as a program prints it; write the labels alone"),
        ("a;b", "is not declared; task mine has a, b"),
        ("0,1", "is not declared; .*; for a 0 or 1 for each label, declare `label: multi-hot`"),
    ],
)
def test_several_labels_that_are_none(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(BadInput, match=f"data:3: the label, column 'label', {message}"):
        read_split(table_task(tmp_path, "b", cell, **SEVERAL), "train", None)


@pytest.mark.parametrize("cell", ["null", "[null]", '[["a"]]', '["a", "a"]', '{"a": 1}'])
def test_several_labels_that_are_no_labels_in_json(tmp_path: Path, cell: str) -> None:
    with pytest.raises(
        BadInput, match=r"data:1: the label, column 'label', (is null|is a list|is an obj|names a label tw)"
    ):
        read_split(json_task(tmp_path, cell, **SEVERAL), "train", None)


HOT = SEVERAL | {"label": "multi-hot", "labels": ["x", "y", "z"]}


def test_a_declared_multi_hot_list_names_the_labels_at_its_ones(tmp_path: Path) -> None:
    cells = ("[1, 0, 1]", "[0, 0, 0]", "[0.0, 1.0, 0]", '["0", "0", "1"]', "[true, false, false]", '"1,1,0"')
    assert labels(json_task(tmp_path, *cells, **HOT)) == [("x", "z"), (), ("y",), ("z",), ("x",), ("x", "y")]
    assert labels(table_task(tmp_path, "1,0,1", "[0, 0, 1]", " 0, 1,0", **HOT)) == [("x", "z"), ("z",), ("y",)]
    numbered = HOT | {"labels": [0, 1, 2]}
    assert labels(json_task(tmp_path, "[1, 0, 1]", **numbered)) == [("0", "2")]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("[1, 0]", "has 2 entries; multi-hot, it has one for each of the 3 labels"),
        ("[1, 0, 2]", "has entries other than 0 and 1"),
        ("[1, 0, 0.5]", "has entries other than 0 and 1"),
        ('["x", "y", "z"]', "has entries other than 0 and 1"),
        ("[1, 0, null]", "is null"),
        ("null", "is null"),
    ],
)
def test_another_list_is_not_multi_hot(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(BadInput, match=f"data:1: the label, column 'label', {message}"):
        read_split(json_task(tmp_path, cell, **HOT), "train", None)


def test_zeros_and_ones_are_not_read_as_names(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"data:1: .* names a label twice; for a 0 or 1 for each label, declare `label: mul"
    ):
        read_split(json_task(tmp_path, "[1, 0, 1]", labels=[0, 1, 2], **SEVERAL), "train", None)
    both = "data:2: .* has in every line a 0 or 1 for each of the 2 labels, .*: declare `label: multi-hot`, or give"
    with pytest.raises(BadInput, match=both):
        read_split(json_task(tmp_path, "[1, 0]", "[0, 1]", labels=[0, 1], **SEVERAL), "train", None)
    assert labels(json_task(tmp_path, "[1, 0]", "[1]", labels=[0, 1], **SEVERAL)) == [("1", "0"), ("1",)]


# ---- numbers ----


@pytest.mark.parametrize(
    ("cell", "number"),
    [("4", 4.0), ("4.50", 4.5), ("-.5", -0.5), ("+3.", 3.0), ("1e-3", 1e-3), ("2.5E2", 250.0), ("007", 7.0)],
)
def test_decimal_numbers_in_a_table(tmp_path: Path, cell: str, number: float) -> None:
    task = table_task(tmp_path, cell, **SCORE)
    assert labels(task) == [number]
    assert repairs(task) == []


def test_numbers_with_white_space_or_in_json_strings_are_counted(tmp_path: Path) -> None:
    spaced = table_task(tmp_path, "1", " 2 ", **SCORE)
    assert (labels(spaced), repairs(spaced)) == (
        [1.0, 2.0], [("numbers with white space around them, read without it", 1, "data:3")],
    )  # fmt: skip
    strings = json_task(tmp_path, "1", "2.50", '"3.5"', **SCORE)
    assert (labels(strings), repairs(strings)) == (
        [1.0, 2.5, 3.5], [("numbers that are JSON strings, read as numbers", 1, "data:3")],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("", r', and is empty; `ignore: \[""\]`'),
        ("-", r""", and is '-'; `ignore: \["-"\]`"""),
        ("high", "$"),
        ("nan", "; this one is not finite"),
        ("-inf", "; this one is not finite"),
        ("4,5", "; it has a comma: decimals are written with a point"),
        ("1,000.5", "; it has a comma"),
        ("1_0", "; it has an underscore"),
        ("\uff13", "; its digits are not 0 to 9"),
        ("\u0663", "; its digits are not 0 to 9"),
        ("0x1F", "$"),
        ("1e5e", "$"),
        ("50%", "$"),
        ("1e999", " that float64 can hold$"),
    ],
)
def test_a_score_that_is_no_decimal_number(tmp_path: Path, cell: str, why: str) -> None:
    with pytest.raises(BadInput, match=rf"data:2: the label, column 'label', must be a number{why}"):
        read_split(table_task(tmp_path, cell, **SCORE), "train", None)


@pytest.mark.parametrize("cell", ["true", "null", "[1]", '"1_0"', "1e999"])
def test_a_score_that_is_no_json_number(tmp_path: Path, cell: str) -> None:
    with pytest.raises(BadInput, match=r"data:1: the label, column 'label', must be a number"):
        read_split(json_task(tmp_path, cell, **SCORE), "train", None)


@pytest.mark.parametrize("cell", ["NaN", "Infinity", "-Infinity"])
def test_json_has_no_such_number(tmp_path: Path, cell: str) -> None:
    with pytest.raises(BadInput, match=f"data:1: not valid JSON: {cell} is no JSON value"):
        read_split(json_task(tmp_path, cell, **SCORE), "train", None)


# ---- examples without gold ----


def test_examples_that_the_task_ignores_are_left_out_and_counted(tmp_path: Path) -> None:
    task = table_task(tmp_path, "-", "a", "- ", "b", ignore=["-"])
    assert [(each.id, each.label) for each in read_split(task, "train", None) if isinstance(each, TextExample)] == [
        ("1", "a"),
        ("3", "b"),
    ]
    assert repairs(task) == [("examples that `ignore` names, left out", 2, "data:2")]


@pytest.mark.parametrize(
    ("cell", "ignore"), [("-1", [-1]), ("-1.0", ["-1"]), ("null", [None]), ('"-"', ["-"]), ('""', [""])]
)
@pytest.mark.parametrize("kind", [{}, SEVERAL, SCORE])
def test_what_is_ignored_in_json(tmp_path: Path, cell: str, ignore: list[Any], kind: dict[str, Any]) -> None:
    right = "4" if kind is SCORE else '"a"'
    assert len(labels(json_task(tmp_path, cell, right, ignore=ignore, **kind))) == 1


def test_a_number_is_ignored_however_it_is_written(tmp_path: Path) -> None:
    assert labels(table_task(tmp_path, "-1.0", "-1", "3", ignore=["-1"], **SCORE)) == [3.0]


def test_a_split_of_ignored_examples_alone(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match="data has only examples that `ignore` names; if it has no labels, declare no la"
    ):
        read_split(table_task(tmp_path, "-1", ignore=["-1"]), "test", None)
