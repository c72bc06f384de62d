"""Plans: every mistake is found before any work, and a key changes with what determines a result alone."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import plan
from harness.errors import BadInput
from harness.plan import Options, Plan, key, prepare, recipe, training_task

TASK = {
    "name": "mine",
    "title": "My task",
    "kind": "classification",
    "labels": {0: "no", 1: "yes"},
    "format": "tsv",
    "columns": {"text": "text", "label": "label"},
    "files": {"train": "train.tsv", "dev": "dev.tsv"},
    "evaluate": ["dev"],
    "metrics": ["accuracy"],
}
ROWS = "text\tother\tlabel\na fine day\tx\t1\na foul day\ty\t0\n"


@pytest.fixture
def own_task(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a task of one's own, with these fields replaced, and gives its path."""

    def write(**fields: Any) -> str:
        for split in ("train", "dev"):
            (tmp_path / f"{split}.tsv").write_text(ROWS)
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.safe_dump(TASK | fields, sort_keys=False))
        return str(file)

    return write


@pytest.fixture
def prepared(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., Plan]:
    """A function: options, replaced, to the plan."""

    def make(**options: Any) -> Plan:
        plan._hash.cache_clear()  # files change while a test runs, never while a run does
        usual: dict[str, Any] = {
            "implementations": ["reference"],
            "tasks": ["mini-sentiment"],
            "weights": str(tiny_checkpoint),
            "runs": tmp_path / "runs",
            "device": "cpu",
        }
        return prepare(Options(**(usual | options)))

    return make


def key_of(made: Plan, seed: int = 42) -> str:
    return key(made, made.implementations[0], made.tasks[0], seed)


# ---- what is planned ----


def test_options_are_resolved(prepared: Callable[..., Plan], tmp_path: Path) -> None:
    made = prepared(
        implementations=["reference", "transformers", "reference"],
        tasks=["mini-ner"],
        suite="mini",
        data=tmp_path,
        threads=1,
        max_length=64,
    )
    assert [each.name for each in made.implementations] == ["reference", "transformers"]
    assert [task.name for task in made.tasks] == [
        "mini-ner",
        "mini-acceptability",
        "mini-paraphrase",
        "mini-sentiment",
        "mini-similarity",
    ]
    assert {task.max_length for task in made.tasks} == {64}
    assert (made.device, made.precision, made.threads, made.data) == ("cpu", "fp32", 1, tmp_path)
    assert made.config["hidden_size"] == 32
    assert len(made.weights.sha256) == 64
    assert (tmp_path / "runs").is_dir()


def test_the_recipe_is_the_tasks_and_options_override_it(prepared: Callable[..., Plan]) -> None:
    made = prepared()
    own = made.tasks[0].recipe(32)
    usual = recipe(made, made.tasks[0])
    assert (usual["epochs"], usual["learning_rate"], usual["batch_size"], usual["max_length"]) == (
        own.epochs,
        own.learning_rate,
        own.batch_size,
        128,
    )
    made = prepared(epochs=2, learning_rate=0.5, batch_size=7, max_length=16, select="dev")
    changed = recipe(made, made.tasks[0])
    assert [changed[name] for name in ("epochs", "learning_rate", "batch_size", "max_length", "select")] == [
        2,
        0.5,
        7,
        16,
        "dev",
    ]


def test_context_is_for_tagging_alone(prepared: Callable[..., Plan]) -> None:
    made = prepared(tasks=["mini-ner", "mini-sentiment"], context="document")
    assert [task.context for task in made.tasks] == ["document", "sentence"]


def test_a_task_without_training_data_is_scored_with_anothers_model(
    prepared: Callable[..., Plan], tmp_path: Path
) -> None:
    for name in ("GLUE/MNLI/train.tsv", "GLUE/diagnostic/diagnostic.tsv"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).write_text("text\n")
    made = prepared(tasks=["ax"], data=tmp_path / "data", max_length=64)
    trainer = training_task(made.tasks[0])
    assert (trainer.name, trainer.max_length) == ("mnli", 64)
    assert recipe(made, made.tasks[0])["epochs"] == trainer.recipe(32).epochs
    assert set(plan.data_hashes(made, made.tasks[0])) == {"train", "test"}


# ---- mistakes ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"implementations": ["referense"]}, "no implementation is called 'referense'; did you mean reference"),
        ({"implementations": ["transformers:eagre"]}, "did you mean transformers:eager"),
        ({"implementations": []}, "no implementation is named; `python -m harness list`"),
        ({"tasks": ["mini-sentimnet"]}, "no task is called 'mini-sentimnet'; did you mean mini-sentiment"),
        ({"tasks": ["mine.yaml"]}, "cannot read the task file mine.yaml: No such file"),
        ({"tasks": []}, "no task is named; `python -m harness list`"),
        ({"suite": "minni"}, "no suite is called 'minni' .known: .*mini"),
        ({"weights": "bert-base-uncasd"}, "bert-base-uncasd: no such weights. Did you mean bert-base-uncased"),
        ({"device": "gpu"}, "device 'gpu' is not one that torch knows, such as cpu, cuda"),
        ({"precision": "fp8"}, "--precision 'fp8' is not one of auto, fp32, bf16, fp16"),
        ({"select": "best"}, "--select 'best' is not one of last, dev"),
        ({"threads": 0}, "--threads is 0; it must be above 0"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"epochs": -1}, "--epochs is -1"),
        ({"learning_rate": 0.0}, r"--lr is 0\.0"),
        ({"learning_rate": float("nan")}, "--lr is nan"),
        ({"learning_rate": float("inf")}, "--lr is inf"),
        ({"batch_size": -8}, "--batch-size is -8"),
        ({"limit": 0}, "--limit is 0"),
        ({"seeds": (42, -1)}, "--seed is -1"),
        ({"max_length": 2}, "task mini-sentiment: a max length under 3"),
        ({"max_length": 513}, "reads 513 tokens, and these weights have 512 positions; give --max-length 512 or less"),
    ],
)
def test_a_mistake_is_named_with_what_to_do(
    prepared: Callable[..., Plan], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        prepared(**options)


def test_nothing_is_written_where_the_input_is_bad(prepared: Callable[..., Plan], tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        prepared(tasks=["mini-sentiment", "minni"])
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_not_there_is_named_with_the_command_that_gets_it(
    prepared: Callable[..., Plan], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"GLUE/RTE/train\.tsv is not there; `python -m harness data get glue` gets it"):
        prepared(tasks=["mini-sentiment", "rte"], data=tmp_path)


def test_the_environment_names_the_data_folder(
    prepared: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERT_ATLAS_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(BadInput, match=r"elsewhere/GLUE/RTE/train\.tsv is not there"):
        prepared(tasks=["rte"])


def test_a_task_longer_than_the_weights_reach_is_refused(
    prepared: Callable[..., Plan], own_task: Callable[..., str]
) -> None:
    with pytest.raises(BadInput, match="task mine reads 600 tokens, and these weights have 512 positions"):
        prepared(tasks=[own_task(max_length=600)])
    assert prepared(tasks=[own_task(max_length=600)], max_length=100).tasks[0].max_length == 100


def test_two_tasks_of_one_name_are_refused(
    prepared: Callable[..., Plan], own_task: Callable[..., str], tmp_path: Path
) -> None:
    first = own_task()
    second = shutil.copyfile(first, tmp_path / "other.yaml")
    with pytest.raises(BadInput, match="two tasks have the same name, among mine, mine"):
        prepared(tasks=[first, str(second)])


@pytest.mark.parametrize("option", ["runs", "save_model"])
def test_a_folder_that_cannot_be_made_is_found_before_any_work(
    prepared: Callable[..., Plan], tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=f"--{option.replace('_', '-')}: the folder .*/file.* cannot be made"):
        prepared(**{option: tmp_path / "file" / "inside"})


def test_weights_that_are_not_berts_are_refused(prepared: Callable[..., Plan], tmp_path: Path) -> None:
    (tmp_path / "roberta").mkdir()
    (tmp_path / "roberta" / "config.json").write_text('{"model_type": "roberta"}')
    (tmp_path / "roberta" / "model.safetensors").write_bytes(b"\0" * 8)
    with pytest.raises(BadInput, match=r"roberta.*this is the original BERT"):
        prepared(weights=str(tmp_path / "roberta"))


# ---- keys ----


def test_the_same_plan_has_the_same_key_wherever_records_go(prepared: Callable[..., Plan], tmp_path: Path) -> None:
    first = key_of(prepared())
    same: list[dict[str, Any]] = [
        {},
        {"runs": tmp_path / "others"},
        {"command": "typed otherwise"},
        {"threads": 1},
        {"rerun": True},
        {"save_model": tmp_path / "model"},
        {"tasks": ["mini-sentiment", "mini-ner"]},
        {"implementations": ["reference", "transformers"]},
        {"data": tmp_path},
    ]
    assert {key_of(prepared(**options)) for options in same} == {first}


def test_the_key_changes_with_every_option_that_changes_the_result(prepared: Callable[..., Plan]) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"precision": "bf16"},
        {"implementations": ["transformers"]},
        {"implementations": ["transformers:eager"]},
        {"tasks": ["mini-acceptability"]},
        {"weights": "minilm-l6"},
        {"epochs": 2},
        {"learning_rate": 3e-3},
        {"batch_size": 16},
        {"max_length": 32},
        {"select": "dev"},
        {"limit": 16},
    ]
    keys = [key_of(prepared(**options)) for options in changes]
    keys.append(key_of(prepared(), seed=43))
    assert len(set(keys)) == len(keys)


def test_the_key_changes_with_the_content_of_the_data(
    prepared: Callable[..., Plan], own_task: Callable[..., str], tmp_path: Path
) -> None:
    tasks = [own_task()]
    keys = [key_of(prepared(tasks=tasks))]
    for split in ("train", "dev"):
        (tmp_path / f"{split}.tsv").write_text(ROWS + "one more\tz\t1\n")
        keys.append(key_of(prepared(tasks=tasks)))
    assert len(set(keys)) == 3


def test_the_key_changes_with_how_a_task_reads_its_data(
    prepared: Callable[..., Plan], own_task: Callable[..., str]
) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"columns": {"text": "other", "label": "label"}},
        {"labels": {1: "no", 0: "yes"}},
        {"labels": {1: "yes", 0: "no"}},  # the outputs in another order
        {"metrics": ["macro_f1"]},
        {"max_length": 64},
    ]
    keys = [key_of(prepared(tasks=[own_task(**fields)])) for fields in changes]
    assert len(set(keys)) == len(keys)
    assert key_of(prepared(tasks=[own_task(title="Another title", download="mine")])) == keys[0]


def test_the_key_changes_with_the_code_but_not_with_its_comments(
    prepared: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared()
    mine = Path(shutil.copyfile(made.implementations[0].file, tmp_path / "mine.py"))
    shared = [Path(shutil.copyfile(file, tmp_path / file.name)) for file in plan.CODE]
    monkeypatch.setattr(plan, "CODE", shared)
    made = dataclasses.replace(made, implementations=[dataclasses.replace(made.implementations[0], file=mine)])
    first = key_of(made)
    for file in (mine, *shared):
        source = file.read_text()
        file.write_text(f"# A comment.\n\n{source}\n# Another.\n")
        assert key_of(made) == first
        file.write_text(source + "\nCHANGED = True\n")
        assert key_of(made) != first, file.name
        file.write_text(source)


def test_the_references_code_is_the_model_itself(
    prepared: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared(implementations=["reference", "transformers"])
    before = [plan.code_of(each) for each in made.implementations]
    changed = tmp_path / "model.py"
    changed.write_text("x = 1\n")
    monkeypatch.setattr(plan, "REFERENCE_CODE", [*plan.REFERENCE_CODE, changed])
    after = [plan.code_of(each) for each in made.implementations]
    assert before[0] != after[0]
    assert before[1] == after[1]
