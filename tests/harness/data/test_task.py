"""Task files: the built-in ones, and what is said of a wrong one."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.data.kinds import KINDS
from harness.data.reading import task_files
from harness.data.task import FIELDS, FOLDER, load_task, suites, task_names
from harness.errors import BadInput

GLUE = ["ax", "cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli"]


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """The fields of a task that someone made from the text of rte.yaml."""
    fields = yaml.safe_load((FOLDER / "rte.yaml").read_text())
    return fields | {"name": "mine", "files": {"train": "train.tsv", "dev": "sub/dev.tsv"}}


def write(folder: Path, fields: dict[str, Any]) -> str:
    file = folder / "my_task.yaml"
    file.write_text(yaml.safe_dump(fields, sort_keys=False))
    return str(file)


def change(fields: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The fields with one of them changed, or left out where the value is Ellipsis."""
    *parents, last = path.split(".")
    inner = fields
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    if value is ...:
        del inner[last]
    return fields


def test_every_suite_has_its_tasks() -> None:
    assert suites() == {
        "glue": GLUE,
        "ner": ["conll2003", "msra_ner", "wnut17"],
        "classification": ["chnsenticorp", "go_emotions"],
        "questions": ["cmrc2018", "squad1", "squad2", "squadshifts"],
        "mini-questions": ["mini-questions"],
        "mini": ["mini-ner", "mini-sentiment", "mini-similarity"],
        "mini-hard": ["mini-acceptability", "mini-paraphrase"],
        "repositories": ["next-sentence", "sentiment-fine-grain"],
        "mini-pairs": ["mini-pairs"],
        "minimal-pairs": ["blimp"],
        "zero-shot": ["mini-similarity-cosine", "stsb-cosine"],
    }


@pytest.mark.parametrize("name", task_names())
def test_built_in_task_is_named_as_its_file_and_scored_on_a_known_metric(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert set(task.metrics) <= set(KINDS[task.kind].metrics)
    assert set(task.evaluate) <= set(task.files)
    assert task.recipe(384).learning_rate > task.recipe(768).learning_rate >= task.recipe(1024).learning_rate


def test_outputs_of_the_head_by_kind() -> None:
    assert load_task("mnli").outputs == ("contradiction", "entailment", "neutral")
    assert load_task("stsb").outputs == ("score",)
    assert load_task("msra_ner").outputs == ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
    assert len(load_task("go_emotions").outputs) == 28


def test_two_values_may_stand_for_one_label(tmp_path: Path, own: dict[str, Any]) -> None:
    own["labels"] = {1: "bad", 2: "bad", 5: "good"}
    task = load_task(write(tmp_path, own))
    assert task.labels == {"1": "bad", "2": "bad", "5": "good"}
    assert task.outputs == ("bad", "good")


def test_ax_is_answered_by_the_model_of_mnli() -> None:
    assert load_task("ax").train_task == "mnli"
    assert load_task("ax").outputs == load_task("mnli").outputs


@pytest.mark.parametrize(
    ("hidden_size", "epochs", "rate"), [(511, 5, 1e-4), (512, 3, 3e-5), (1023, 3, 3e-5), (1024, 3, 2e-5)]
)
def test_recipe_goes_by_hidden_size(hidden_size: int, epochs: int, rate: float) -> None:
    recipe = load_task("rte").recipe(hidden_size)
    assert (recipe.epochs, recipe.learning_rate, recipe.batch_size) == (epochs, rate, 32)


def test_recipe_may_be_one_number_some_sizes_or_nothing(tmp_path: Path, own: dict[str, Any]) -> None:
    own["recipe"] = {"epochs": 7, "learning_rate": {"base": "1e-5"}, "batch_size": 16}  # 1e-5 is text to YAML
    task = load_task(write(tmp_path, own))
    assert [task.recipe(size).epochs for size in (384, 768, 1024)] == [7, 7, 7]
    assert [task.recipe(size).learning_rate for size in (384, 768, 1024)] == [1e-4, 1e-5, 2e-5]
    assert task.recipe(768).batch_size == 16
    del own["recipe"], own["max_length"]
    task = load_task(write(tmp_path, own))
    assert (task.recipe(768).epochs, task.max_length) == (3, 128)


def test_paths_of_own_and_of_built_in_tasks(tmp_path: Path, own: dict[str, Any]) -> None:
    mine = load_task(write(tmp_path, own))
    assert task_files(mine, None) == {"train": tmp_path / "train.tsv", "dev": tmp_path / "sub/dev.tsv"}
    assert task_files(load_task("rte"), tmp_path)["dev"] == tmp_path / "GLUE/RTE/dev.tsv"
    assert task_files(load_task("mini-ner"), None)["dev"] == FOLDER / "mini/ner/dev.conll"
    with pytest.raises(BadInput, match="task rte needs a data folder: give --data FOLDER"):
        task_files(load_task("rte"), None)


def test_a_built_in_file_can_be_given_by_its_path() -> None:
    assert load_task(str(FOLDER / "rte.yaml")) == load_task("rte")


def test_the_example_names_every_field() -> None:
    lines = (FOLDER / "rte.yaml").read_text().splitlines()
    assert set(FIELDS) <= {line.removeprefix("# ").partition(":")[0] for line in lines}


def test_context_can_be_overridden_for_tagging_alone() -> None:
    assert load_task("conll2003").context == "sentence"
    assert load_task("conll2003", context="document").context == "document"
    with pytest.raises(BadInput, match=r"context: only a task of kind tagging has it"):
        load_task("rte", context="document")


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"no task is called 'conll2002'; did you mean conll2003\?"):
        load_task("conll2002")


def test_task_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read the task file .*none\.yaml: No such file"):
        load_task(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: mine\nlabels: [a, b\n", r"mine\.yaml:3: not valid YAML"),
        (b"name: mine\ntitle: a\nname: yours\n", r"mine\.yaml:3: not valid YAML: name is given twice"),
        (b"name: mine\nfiles: {dev: a, dev: b}\n", r"mine\.yaml:2: not valid YAML: dev is given twice"),
        (b"name: !!python/object/apply:os.getcwd []\n", r"mine\.yaml:1: not valid YAML"),
        (b"name: mine\ntitle: 2024-13-45\n", r"mine\.yaml:2: not valid YAML: '2024-13-45' is no value: month must be"),
        (b"name: !!bool maybe\n", r"mine\.yaml:1: not valid YAML: 'maybe' is no value"),
        (b"name: !!timestamp now\n", r"mine\.yaml:1: not valid YAML: 'now' is no value"),
        (b"name: " + b"[" * 5000, r"mine\.yaml: not valid YAML: values inside values, too deep"),
        (b'name: "a\\x1b[31m"\n', r"mine\.yaml:1: not valid YAML: a value with the character U\+001B"),
        (b'name: mine\ntitle: "\\ud800"\n', r"mine\.yaml:2: not valid YAML: a value with the character U\+D800"),
        (b"- name\n", "a task file is a mapping"),
        (b"", "a task file is a mapping"),
        (b"name: \xff\n", "a task file is UTF-8 text"),
    ],
)
def test_file_that_is_no_mapping(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        load_task(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("metric", ["accuracy"], r"unknown field 'metric'; did you mean metrics\?"),
        ("name", ..., "name: missing"),
        ("name", "rte", "name: rte is a built-in task; choose another name"),
        ("name", "../up", "name: '../up' may have only letters"),
        ("title", 7, "title: should be text, not 7"),
        ("kind", "clasification", r"kind: 'clasification' is none of .*; did you mean classification\?"),
        ("format", "tvs", r"format: 'tvs' is none of tsv, csv, jsonl, conll, squad; did you mean tsv\?"),
        ("format", "conll", "format: conll does not go with kind classification"),
        ("encoding", "utf-88", "encoding: Python knows no 'utf-88'"),
        ("encoding", "hex", "encoding: Python knows no 'hex'"),
        ("labels", ..., "labels: say which there are"),
        ("labels", [], "labels: say which there are"),
        ("labels", ["one"], "labels: a classification task needs two or more"),
        ("labels", ["a", "a"], "labels: the same value is given twice"),
        ("labels", [True, False], r'my_task\.yaml:\d+: labels: to YAML, true is a boolean; put it in quotes: "true"'),
        (
            "labels",
            {"0": None, "1": "b"},
            r'my_task\.yaml:\d+: labels: to YAML, null is null; put it in quotes: "null"',
        ),
        ("ignore", "-", r"""ignore: a list of values in the label column, such as \["-"\], not '-'"""),
        ("ignore", [True], "ignore: to YAML, true is a boolean"),
        ("ignore", [["-"]], r"ignore: \['-'\] is not text"),
        ("ignore", ["entailment"], "ignore: 'entailment' is one of the labels"),
        ("tags", "strict", "tags: only a task of kind tagging has it"),
        ("label", "multi-hot", "label: only a task of kind multi-label has it"),
        ("metrics", ["acuracy"], r"metrics: 'acuracy' is none of .*; did you mean accuracy\?"),
        ("metrics", ["pearson"], "metrics: 'pearson' is none of the metrics of a classification task"),
        ("metrics", "accuracy", "metrics: a list such as"),
        ("metrics", ["accuracy", "accuracy"], "metrics: a list such as"),
        ("metrics", ["f1"], "positive: say which label counts as positive"),
        ("positive", "entailed", r"positive: 'entailed' is none of .*; did you mean entailment\?"),
        ("evaluate", ["devel"], r"evaluate: 'devel' is none of the splits in files: dev; did you mean dev\?"),
        ("evaluate", ["train"], "evaluate: 'train' is none of the splits in files"),
        ("evaluate", ..., "evaluate: a list such as"),
        ("files", {}, "files: name the file of each split"),
        ("files", {"dev": "dev.tsv"}, "files: give a train split, or else the train_task"),
        ("files", {"train": "a", "validation": "b"}, "files: 'validation' is no split"),
        ("files.dev", 3, "files.dev: should be a mapping"),
        ("files.dev", {"file": "x"}, "files.dev: unknown field 'file'"),
        ("files.dev", {"header": False}, "path: missing"),
        ("header", "no", "header: true or false, not 'no'"),
        ("header", False, "columns: id: 'index' should be a 0-based number"),
        ("columns", ..., "columns: say which are text and label"),
        ("columns.texts", "x", r"columns: unknown field 'texts'; did you mean text\?"),
        ("columns.text", ..., "columns: text: missing"),
        ("columns.text", 1, "columns: text: 1 should be a column's name"),
        ("columns.label", ..., "columns: label: split train needs it"),
        ("columns.pair", "sentence1", "columns: two of them are the same column"),
        ("max_length", 0, "max_length: a whole number from 1 on, not 0"),
        ("max_length", "128", "max_length: a whole number from 1 on"),
        ("recipe.lr", 1e-5, "recipe: unknown field 'lr'"),
        ("recipe.epochs", 2.5, "recipe.epochs: a whole number from 1 on, not 2.5"),
        ("recipe.epochs", {"tiny": 3}, "recipe.epochs: unknown field 'tiny'"),
        ("recipe.learning_rate", -1e-5, "recipe.learning_rate: a positive number"),
        ("recipe.learning_rate", {"base": "fast"}, "recipe.learning_rate.base: a positive number"),
        ("scheme", "iob1", "scheme: only a task of kind tagging has it"),
        ("label_separator", ";", "label_separator: only a task of kind multi-label has it"),
        ("train_task", "mnli", "files: give a train split, or else the train_task"),
    ],
)
def test_mistake_is_named_by_file_and_field(
    tmp_path: Path, own: dict[str, Any], field: str, value: Any, message: str
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        load_task(write(tmp_path, change(own, field, value)))
    assert str(tmp_path / "my_task.yaml") in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train_task": "mnly"}, r"train_task: 'mnly' is not built in; did you mean mnli\?"),
        ({"train_task": "mnli"}, "labels: not those of mnli, in their order: contradiction, entailment, neutral"),
        ({"train_task": "stsb"}, "labels: not those of stsb"),
    ],
)
def test_train_task_must_have_the_same_outputs(
    tmp_path: Path, own: dict[str, Any], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        load_task(write(tmp_path, own | {"files": {"dev": "dev.tsv"}} | fields))


def test_positive_is_for_two_labels_alone(tmp_path: Path, own: dict[str, Any]) -> None:
    own |= {"labels": ["a", "b", "c"], "metrics": ["f1"], "positive": "a"}
    with pytest.raises(BadInput, match="positive: only where there are two labels; macro_f1 is for more"):
        load_task(write(tmp_path, own))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("010", "the number 8"),
        ("0x1F", "the number 31"),
        ("0b11", "the number 3"),
        ("1_000", "the number 1000"),
        ("12:30", "the number 750"),
        ("+1", "the number 1"),
        ("-0", "the number 0"),
        ("1.0", "the number 1.0"),
        (".5", "the number 0.5"),
        ("1e3", "a number to some programs"),
        ("0o17", "a number to some programs"),
        ("yes", "a boolean"),
        ("NO", "a boolean"),
        ("off", "a boolean"),
        ("true", "a boolean"),
        ("null", "null"),
        ("~", "null"),
        ("2024-01-01", "a date"),
    ],
)
def test_labels_that_yaml_changes_are_refused_where_they_are_declared(tmp_path: Path, written: str, read: str) -> None:
    lines = "name: mine\ntitle: Mine\nkind: classification\nformat: tsv\ncolumns: {text: t, label: l}\n"
    lines += "files: {train: a, dev: b}\nevaluate: [dev]\nmetrics: [accuracy]\nlabels:\n"
    file = tmp_path / "mine.yaml"
    for labels in (f"  - ok\n  - {written}\n", f"  a: ok\n  {written}: other\n", f"  a: ok\n  b: {written}\n"):
        file.write_text(lines + labels)
        message = (
            rf'mine\.yaml:11: labels: to YAML, {re.escape(written)} is {read}; put it in quotes: "{re.escape(written)}"'
        )
        with pytest.raises(BadInput, match=message):
            load_task(str(file))
    for quote in "'\"":
        file.write_text(lines + f"  - ok\n  - {quote}{written}{quote}\n")
        assert load_task(str(file)).outputs == ("ok", written)


@pytest.mark.parametrize("written", ["0", "1", "-1", "12", "y", "1.2.3", "a b", "否", "on time"])
def test_labels_that_yaml_leaves_alone_need_no_quotes(tmp_path: Path, own: dict[str, Any], written: str) -> None:
    own |= {"labels": ["other", "LABEL"]}
    file = Path(write(tmp_path, own))
    file.write_text(file.read_text().replace("LABEL", written), encoding="utf-8")
    assert load_task(str(file)).outputs == ("other", written)


@pytest.mark.parametrize(
    "field", ["max_length: 0128", "max_length: 010", "recipe: {epochs: 1:30}", "columns: {text: 010}"]
)
def test_numbers_that_yaml_changes_are_refused_too(tmp_path: Path, own: dict[str, Any], field: str) -> None:
    name, _, value = field.partition(":")
    del own[name]
    file = Path(write(tmp_path, own))
    file.write_text(f"{file.read_text()}{field}\n")
    wanted = "max_length: a whole number" if value == " 0128" else f"{name}: to YAML, .* is the number "
    with pytest.raises(BadInput, match=wanted):
        load_task(str(file))


def test_a_label_that_is_left_out(tmp_path: Path, own: dict[str, Any]) -> None:
    file = Path(write(tmp_path, own | {"labels": ["LABEL", "other"]}))
    file.write_text(file.read_text().replace("LABEL", ""))
    with pytest.raises(BadInput, match=r'labels: a value is missing; the empty text is ""'):
        load_task(str(file))


def test_regression_has_no_labels(tmp_path: Path, own: dict[str, Any]) -> None:
    own |= {"kind": "regression", "metrics": ["pearson"]}
    with pytest.raises(BadInput, match="labels: a regression task has none"):
        load_task(write(tmp_path, own))


def test_a_pair_stands_in_all_splits_or_none(tmp_path: Path, own: dict[str, Any]) -> None:
    own["files"]["test"] = {"path": "test.tsv", "columns": {"text": "sentence1"}}
    with pytest.raises(BadInput, match="columns: pair: all splits have it, or none"):
        load_task(write(tmp_path, own))


def test_columns_without_a_header_are_numbered_from_0(tmp_path: Path, own: dict[str, Any]) -> None:
    own |= {"header": False, "columns": {"text": -1, "label": 0}}
    with pytest.raises(BadInput, match="columns: text: columns are numbered from 0, not -1"):
        load_task(write(tmp_path, own))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scheme": "iob3"}, r"scheme: 'iob3' is none of iob1, iob2, iob, bmes, bioes, bilou; did you mean iob"),
        ({"separator": ","}, "separator: ',' is none of whitespace, tab"),
        ({"tags": "loose"}, "tags: 'loose' is none of repair, strict"),
        ({"ignore": ["-"]}, "ignore: a task of kind tagging has no such field"),
        ({"context": "page"}, "context: 'page' is none of sentence, document"),
        ({"columns": {"word": "word", "tag": -1}}, "columns: word: 'word' should be a 0-based number"),
        ({"columns": {"tag": -1}}, "columns: word: missing"),
        ({"columns": {"word": 0}}, "columns: tag: split train needs it"),
        ({"format": "tsv"}, "format: tsv does not go with kind tagging"),
        ({"metrics": ["f1"]}, "metrics: 'f1' is none of the metrics of a tagging task: entity_f1"),
    ],
)
def test_mistake_in_a_tagging_task(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    declared = yaml.safe_load((FOLDER / "mini-ner.yaml").read_text()) | {"name": "mine"}
    with pytest.raises(BadInput, match=message):
        load_task(write(tmp_path, declared | fields))
