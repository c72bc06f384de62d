"""Keys: they change with all that determines a result, and with nothing else."""

import ast
import dataclasses
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from harness import keys
from harness.implementation import find, implementations
from harness.plan import Plan


def key_of(made: Plan, seed: int = 42) -> str:
    """The key of the first run, of files and versions as they are at this moment."""
    for looked_at in (keys._file, keys._code, keys._versions, keys._imported):
        looked_at.cache_clear()
    return keys.quality_key(made, made.implementations[0], made.tasks[0], seed)


def test_the_same_plan_has_the_same_key_wherever_records_go(prepared: Callable[..., Plan], tmp_path: Path) -> None:
    first = key_of(prepared())
    same: list[dict[str, Any]] = [
        {},
        {"runs": tmp_path / "others"},
        {"command": "typed otherwise"},
        {"threads": 1},
        {"rerun": "all"},
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
    found = [key_of(prepared(**options)) for options in changes]
    found.append(key_of(prepared(), seed=43))
    assert len(set(found)) == len(found)


def test_the_key_changes_with_the_content_of_the_data(
    prepared: Callable[..., Plan], own_task: Callable[..., str], tmp_path: Path
) -> None:
    tasks = [own_task()]
    found = [key_of(prepared(tasks=tasks))]
    for split in ("train", "dev"):
        with (tmp_path / f"{split}.tsv").open("a") as file:
            file.write("one more\tz\t1\n")
        found.append(key_of(prepared(tasks=tasks)))
    assert len(set(found)) == 3


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
    found = [key_of(prepared(tasks=[own_task(**fields)])) for fields in changes]
    assert len(set(found)) == len(found)
    assert key_of(prepared(tasks=[own_task(title="Another title", download="mine")])) == found[0]


def test_the_key_changes_with_the_splits_that_are_scored(
    prepared: Callable[..., Plan], own_task: Callable[..., str]
) -> None:
    tasks = [own_task(files={"train": "train.tsv", "dev": "dev.tsv", "test": "dev.tsv"})]
    splits = [(), ("dev", "test"), ("test",)]
    assert len({key_of(prepared(tasks=tasks, splits=each)) for each in splits}) == 3
    assert key_of(prepared(tasks=tasks, splits=("dev",))) == key_of(prepared(tasks=tasks))


def test_the_key_changes_with_the_versions_of_what_computes(
    prepared: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the implementation names in its header, of what runs beside the harness."""

    def changed_by(made: Plan, package: str) -> bool:
        before = key_of(made)
        with monkeypatch.context() as patch:
            patch.setattr(keys, "version", lambda name: "99" if name == package else version(name))
            return key_of(made) != before

    reference, transformers = (prepared(implementations=[name]) for name in ("reference", "transformers"))
    assert all(changed_by(reference, name) for name in ("torch", "tokenizers", "numpy", "safetensors"))
    assert not changed_by(reference, "transformers")
    assert changed_by(transformers, "transformers")


def test_what_has_an_environment_of_its_own_does_not_depend_on_what_is_installed_here(
    prepared: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared(implementations=["transformers-flax"])
    before = key_of(made)
    monkeypatch.setattr(keys, "version", lambda name: "99" if name in ("transformers", "numpy") else version(name))
    assert key_of(made) == before


def test_the_key_changes_with_the_code_but_not_with_its_comments(
    prepared: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared()
    mine = Path(shutil.copyfile(made.implementations[0].file, tmp_path / "mine.py"))
    shared = [Path(shutil.copyfile(file, tmp_path / file.name)) for file in (*keys.CODE, *keys.RUN_CODE)]
    assert {"evaluate.py", "worker.py", "tokenizer.py", "checkpoint.py"} < {file.name for file in shared}
    monkeypatch.setattr(keys, "CODE", shared)
    monkeypatch.setattr(keys, "RUN_CODE", [])
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
    before = [keys.code_of(each) for each in made.implementations]
    changed = tmp_path / "model.py"
    changed.write_text("x = 1\n")
    monkeypatch.setattr(keys, "REFERENCE_CODE", [*keys.REFERENCE_CODE, changed])
    after = [keys.code_of(each) for each in made.implementations]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_what_nothing_trains_with_is_code_of_what_is_frozen_alone(
    prepared: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared()
    task = made.tasks[0]

    def all_keys() -> dict[str, str]:
        how: tuple[keys.How, ...] = ("trained", "encoded")
        found = {each: keys.quality_key(made, made.implementations[0], task, 42, each) for each in how}
        return found | {"parity": parity_key_of(made), "code": keys.code_of(made.implementations[0])}

    before = all_keys()
    changed = tmp_path / "layers.cpp"
    changed.write_text("int x;")
    monkeypatch.setattr(keys, "FROZEN_CODE", [*keys.FROZEN_CODE, changed])
    after = all_keys()
    assert {name for name in before if before[name] != after[name]} == {"encoded", "parity", "code"}


# ---- of parity ----


def parity_key_of(made: Plan, starts: bool = True) -> str:
    key_of(made)  # looks at everything anew
    return keys.parity_key(made, made.implementations[0], starts)


@pytest.mark.parametrize("name", [name for name in implementations() if ":" not in name])
def test_code_is_all_of_ours_that_an_implementation_imports(name: str) -> None:
    """By their syntax: whatever way of importing is used, and what is imported by what is imported."""
    root, files = Path(keys.__file__).parents[1], set(keys._files(find(name)))
    for file in [file for file in files if root / "harness" in file.parents]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness"):
                place = root / (node.module or "").replace(".", "/")
                named = [place.with_suffix(".py"), *(place / f"{alias.name}.py" for alias in node.names)]
                assert {each for each in named if each.is_file()} <= files, f"{file} imports {ast.unparse(node)}"


def test_parity_depends_on_code_weights_and_device_kind_alone(prepared: Callable[..., Plan], tmp_path: Path) -> None:
    first = parity_key_of(prepared())
    same: list[dict[str, Any]] = [
        {"precision": "bf16", "seeds": (1, 2), "tasks": ["mini-ner"], "epochs": 2, "limit": 3},
        {"threads": 1, "runs": tmp_path / "others", "command": "typed otherwise", "rerun": "all"},
    ]
    assert {parity_key_of(prepared(**options)) for options in same} == {first}
    others: list[dict[str, Any]] = [
        {"weights": "minilm-l6"},
        {"implementations": ["transformers"]},
        {"implementations": ["transformers:eager"]},
    ]
    found = [first, *(parity_key_of(prepared(**options)) for options in others)]
    assert len(set(found)) == len(found)
    assert parity_key_of(prepared(), starts=False) not in found, "that it could not be started is another finding"


@pytest.mark.parametrize("name", ["deviations.py", "parity.py"])
def test_parity_depends_on_the_code_that_compares(
    prepared: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = prepared(implementations=["transformers"])
    copies = [Path(shutil.copyfile(file, tmp_path / file.name)) for file in keys.PARITY_CODE]
    monkeypatch.setattr(keys, "PARITY_CODE", copies)
    quality, parity = key_of(made), parity_key_of(made)
    with (tmp_path / name).open("a") as file:
        file.write("\nCHANGED = True\n")
    assert parity_key_of(made) != parity
    assert key_of(made) == quality


def test_keys_depend_on_the_commit_of_the_repository_that_is_used(
    prepared: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = {"one": "1" * 40, "two": "2" * 40}
    monkeypatch.setattr(keys.provenance, "commit_of", lambda folder: commits[folder.name])
    found = []
    for name in commits:
        (tmp_path / name).mkdir()
        made = prepared(implementations=["google-bert"], checkouts={"google-bert": tmp_path / name})
        found += [key_of(made), parity_key_of(made)]
    assert len(set(found)) == 4
