"""Keys: they change with all that determines a result, and with nothing else."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from harness.data.reading import SplitFile
from harness.data.task import Task, load_task
from harness.measure import keys
from harness.measure.plan import Plan
from harness.measure.run import Run
from harness.records import code
from harness.registry.implementations import find, implementations
from tests.conftest import new_cache

ROOT = Path(keys.__file__).parents[2]


def key_of(made: Plan, seed: int = 42) -> str:
    """The key of the first run."""
    return Run(made, made.implementations[0], made.tasks[0], seed).key


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


@dataclasses.dataclass(frozen=True)
class FutureFile(SplitFile):
    """A file that may be compressed."""

    packed: bool = False


@dataclasses.dataclass(frozen=True)
class FutureTask(Task):
    """A task with fields that today's has not."""

    tags: str = "repair"
    ignored: tuple[str, ...] = dataclasses.field(default_factory=tuple)


def test_what_a_key_says_about_a_task_has_not_changed() -> None:
    """Otherwise every run would start again. The split into reading and task does not show."""
    usual = {"context": "sentence", "encoding": "utf-8", "label_separator": ",", "scheme": "iob2"}
    usual |= {"evaluate": ["dev"], "max_length": 128, "separator": "whitespace", "train_task": None, "positive": None}
    ner = {"header": True, "columns": {"word": 0, "tag": 1}}
    assert as_json(keys.declared(load_task("mini-ner"))) == usual | {
        "name": "mini-ner",
        "kind": "tagging",
        "labels": [[name, name] for name in ("PER", "LOC", "ORG", "MISC")],
        "files": {"train": ner, "dev": ner},
        "format": "conll",
        "metrics": ["entity_f1"],
    }
    similar = {"header": True, "columns": {"id": "id", "text": "text", "pair": "pair", "label": "score"}}
    assert as_json(keys.declared(load_task("mini-similarity"))) == usual | {
        "name": "mini-similarity",
        "kind": "regression",
        "labels": [],
        "files": {"train": similar, "dev": similar},
        "format": "tsv",
        "metrics": ["pearson", "spearman"],
    }


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_a_new_field_of_tasks_changes_the_key_only_where_a_task_uses_it(prepared: Callable[..., Plan]) -> None:
    made = prepared()

    def key_with(**fields: Any) -> str:
        task = made.tasks[0]
        old = {each.name: getattr(task, each.name) for each in dataclasses.fields(task)}
        packed = fields.pop("packed", False)
        files = {
            split: FutureFile(file.path, file.header, file.columns, packed=packed) for split, file in task.files.items()
        }
        return key_of(dataclasses.replace(made, tasks=[FutureTask(**(old | {"files": files} | fields))]))

    assert key_with() == key_of(made)
    changes: list[dict[str, Any]] = [{"tags": "strict"}, {"ignored": ("-",)}, {"packed": True}]
    assert len({key_of(made), *(key_with(**fields) for fields in changes)}) == 4


def test_the_key_changes_with_the_splits_that_are_scored(
    prepared: Callable[..., Plan], own_task: Callable[..., str]
) -> None:
    tasks = [own_task(files={"train": "train.tsv", "dev": "dev.tsv", "test": "dev.tsv"})]
    splits = [(), ("dev", "test"), ("test",)]
    assert len({key_of(prepared(tasks=tasks, splits=each)) for each in splits}) == 3
    assert key_of(prepared(tasks=tasks, splits=("dev",))) == key_of(prepared(tasks=tasks))


@pytest.fixture
def copied(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint, to be changed; without tokenizer.json, so that the vocabulary and settings are read."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copied"))
    (folder / "tokenizer.json").unlink()
    return folder


def edit(file: Path, **fields: Any) -> None:
    """Change fields of a JSON file."""
    values = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(values | fields))


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"num_attention_heads": 2}),
        ("config.json", {"layer_norm_eps": 1e-5}),
        ("config.json", {"hidden_dropout_prob": 0.0}),
        ("config.json", {"classifier_dropout": 0.3}),  # which other implementations may go by
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("special_tokens_map.json", {"additional_special_tokens": ["[unused1]"]}),
    ],
)
def test_every_key_changes_with_what_lies_beside_the_weights(
    prepared: Callable[..., Plan], copied: Path, file: str, fields: dict[str, Any]
) -> None:
    before = all_keys(prepared(weights=str(copied)))
    edit(copied / file, **fields)
    after = all_keys(prepared(weights=str(copied)))
    same = {name for name in before if before[name] == after[name]}
    assert same == {"reference code"}


def test_the_key_changes_with_the_vocabulary_and_not_with_how_a_configuration_is_written(
    prepared: Callable[..., Plan], copied: Path
) -> None:
    first = key_of(prepared(weights=str(copied)))
    values = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(dict(reversed(values.items())), indent=7))
    assert key_of(prepared(weights=str(copied))) == first
    words = (copied / "vocab.txt").read_text().splitlines()
    words[-1] = "zzzzzz"
    (copied / "vocab.txt").write_text("\n".join(words))
    assert key_of(prepared(weights=str(copied))) != first


def test_keys_of_what_our_compiled_routines_take_part_in_change_with_them(
    prepared: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared(implementations=["reference", "transformers"])
    before = all_keys(made)
    monkeypatch.setattr(keys, "compiled_here", lambda: ["None, there is no compiler"])
    same = {name for name, key in all_keys(made).items() if key == before[name]}
    of_transformers = {f"transformers {name}" for name in ("code", "trained", "job", "zero-shot", "parity")}
    assert same == {"reference code"} | of_transformers, "which is compared with float64, that nothing is compiled for"


def test_the_key_changes_with_the_versions_of_what_computes(
    prepared: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the implementation names in its header, of what runs beside the harness."""

    def changed_by(made: Plan, package: str) -> bool:
        before = key_of(made)
        with monkeypatch.context() as patch:
            patch.setattr(keys, "installed", lambda name: "99" if name == package else version(name))
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
    monkeypatch.setattr(keys, "installed", lambda name: "99" if name in ("transformers", "numpy") else version(name))
    assert key_of(made) == before


@pytest.fixture
def with_changed() -> Iterator[Callable[[str], Path]]:
    """A function: the name of one of our files, whose code is another afterwards; files are not written to."""
    with pytest.MonkeyPatch.context() as patch:
        usual, changed = code.read, set[Path]()
        patch.setattr(code, "hash_of_closure", lambda *which: code.code_hash(code.closure(*which)))

        def read(file: Path) -> code.Source:
            found = usual(file)
            return dataclasses.replace(found, structure="changed") if file in changed else found

        def change(name: str) -> Path:
            file = ROOT / name
            assert file.is_file()
            changed.clear()
            changed.add(file)
            return file

        patch.setattr(code, "read", read)
        yield change


def all_keys(made: Plan) -> dict[str, str]:
    """Every key that a plan of the reference and of others has."""
    task, shape = made.tasks[0], {"name": "1 x 8", "sequences": 1, "tokens": 8, "lengths": [[8, 1]]}
    found = {}
    for each in made.implementations:
        found |= {f"{each.name} {how}": Run(made, each, task, 42, how).key for how in keys.QUALITY}
        found |= {f"{each.name} parity": keys.parity_key(made, each), f"{each.name} code": keys.code_of(each)}
    return found | {"speed": keys.speed_key(made, made.implementations, shape, "inference")}


def test_each_key_changes_with_the_code_that_determines_it(
    prepared: Callable[..., Plan], with_changed: Callable[[str], Path]
) -> None:
    made = prepared(implementations=["reference", "transformers"])
    before = all_keys(made)

    def changed_by(name: str) -> set[str]:
        with_changed(name)
        return {which for which, key in all_keys(made).items() if key != before[which]}

    quality = {name for name in before if name.endswith(keys.QUALITY)}
    parity = {name for name in before if name.endswith(" parity")}
    of_reference = {name for name in before if name.startswith("reference ")}
    encoded = {name for name in before if name.endswith(" encoded")}
    for name in ("measure/evaluate", "data/encode", "data/read", "data/leakage", "worker/finetune"):
        assert changed_by(f"harness/{name}.py") == {*quality, "speed"}, name
    for name in ("worker/session", "port/batch", "weights/checkpoints"):
        assert {*quality, *parity, "speed"} <= changed_by(f"harness/{name}.py"), name
    timing = ("measure/scenarios", "measure/energy", "worker/roofline", "measure/speed", "measure/training_speed")
    for name in (*timing, "records/machine"):
        assert changed_by(f"harness/{name}.py") == {"speed"}, name
    for name in ("deviations", "parity", "tokenization"):
        assert changed_by(f"harness/measure/{name}.py") == parity, name
    assert changed_by("reference/model.py") == {*quality, *parity, *of_reference, "speed"}, "which draws new heads too"
    assert changed_by("reference/adamw.py") == {*of_reference, *encoded, *parity, "speed"}
    assert changed_by("reference/native.py") == {
        *parity,
        "reference encoded",
        "reference job",
        "reference zero-shot",
        "reference code",
        "speed",
    }
    for name in ("harness/weights/sentences.py", "reference/pooling.py"):
        assert changed_by(name) == {name for name in before if name.endswith(" zero-shot")}, name
    for name in ("statistics/score", "statistics/metrics", "statistics/intervals"):
        assert changed_by(f"harness/{name}.py") == set(), name
    for name in ("measure/plan", "records/record", "report/table"):
        assert changed_by(f"harness/{name}.py") == set(), name
    for name in ("data/task", "data/download", "measure/client", "measure/keys"):
        assert changed_by(f"harness/{name}.py") == set(), name


@pytest.mark.parametrize("name", ["score", "metrics"])
def test_what_chooses_an_epoch_counts_where_one_is_chosen(
    prepared: Callable[..., Plan], with_changed: Callable[[str], Path], name: str
) -> None:
    plans = [prepared(select=select) for select in ("last", "dev")]
    before = list(map(key_of, plans))
    with_changed(f"harness/statistics/{name}.py")
    assert [key_of(made) == key for made, key in zip(plans, before, strict=True)] == [True, False]


def test_comments_in_an_implementations_file_do_not_count(prepared: Callable[..., Plan], tmp_path: Path) -> None:
    made = prepared()
    mine = Path(shutil.copyfile(made.implementations[0].file, tmp_path / "mine.py"))
    made = dataclasses.replace(made, implementations=[dataclasses.replace(made.implementations[0], file=mine)])
    first, source = key_of(made), mine.read_text()
    mine.write_text(f"# A comment.\n\n{source}\n# Another.\n")
    assert key_of(made) == first
    mine.write_text(source + "\nCHANGED = True\n")
    assert key_of(made) != first


def test_every_file_of_ours_determines_a_record_or_is_excluded_with_a_reason() -> None:
    """And no module is named as excluded that there is not."""
    known = implementations().values()
    needed = {file for kind in keys.ALL for file in keys.files_for(kind, *known)}
    left_out = {file for each in keys.EXCLUDED for module in each.modules for file in keys.files_in(module)}
    ours = {file for package in code.PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert sorted(file.relative_to(ROOT).as_posix() for file in ours - needed - left_out) == []
    for each in keys.EXCLUDED:
        assert each.why, each.modules
        for module in each.modules:
            assert keys.files_in(module), f"there is no {module}"


# Written to the standard error of each process: the files that it runs.
TRACE = """
import os, sys

def heard(event, arguments):
    if event == "exec" and hasattr(arguments[0], "co_filename"):
        with open(os.environ["TRACED"], "a") as file:
            file.write(arguments[0].co_filename + "\\n")

sys.addaudithook(heard)
"""


@pytest.mark.slow
def test_whatever_of_ours_a_run_loads_in_any_process_is_in_a_key_or_excluded(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Of training, parity and timing, in the harness and in its workers."""
    (tmp_path / "sitecustomize.py").write_text(TRACE)
    traced = tmp_path / "traced"
    command = ["run", "--impl", "reference", "--task", "mini-sentiment", "--weights"]
    command += [str(tiny_checkpoint), "--runs", str(tmp_path / "runs"), "--limit", "8", "--epochs", "1"]
    command += ["--select", "dev", "--precision", "fp32"]
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    variables = os.environ | {
        "PYTHONPATH": path,
        "TRACED": str(traced),
        "BERT_ATLAS_CACHE": new_cache(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "harness", *command], cwd=ROOT, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # A template of the report runs too, under its own name; reports are made from records.
    ran = {Path(line).resolve() for line in traced.read_text().splitlines() if not line.endswith(".j2")}
    ours = {file for file in ran for package in code.PACKAGES if file.is_relative_to(ROOT / package)}
    determining = {file for kind in keys.ALL for file in keys.files_for(kind, find("reference"))}
    assert {
        ROOT / "harness/worker/session.py",
        ROOT / "harness/measure/quality.py",
        ROOT / "reference/frozen.py",
    } <= ours & determining
    left_out = {file for each in keys.EXCLUDED for module in each.modules for file in keys.files_in(module)}
    assert sorted(file.relative_to(ROOT).as_posix() for file in ours - determining - left_out) == []


PRINT_KEYS = """
import sys
from pathlib import Path
from harness.measure import keys
from harness.records import code
from harness.measure.plan import Options, prepare
from harness.measure.run import Run

made = prepare(Options(["reference", "transformers"], ["mini-sentiment"], weights=sys.argv[1], device="cpu"))
shape = {"name": "1 x 8", "sequences": 1, "tokens": 8, "lengths": [[8, 1]]}
print(keys.speed_key(made, made.implementations, shape, "inference"))
for each in made.implementations:
    print(keys.parity_key(made, each), keys.code_of(each))
    for how in keys.QUALITY:
        print(Run(made, each, made.tasks[0], 42, how).key)
"""
MOVED = {
    "harness/port/batch.py": "harness/batches/batch.py",
    "harness/data/read.py": "harness/batches/reading.py",
    "harness/measure/scenarios.py": "harness/under_load.py",
    "reference/native.py": "reference/layers.py",
    "reference/native_layers.cpp": "reference/layers.cpp",
    "reference/compile.py": "reference/compiled.py",
}


def test_moving_files_and_rewording_imports_changes_no_key(tiny_checkpoint: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for package in code.PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))

    def printed() -> str:
        command = [sys.executable, "-P", "-c", PRINT_KEYS, str(tiny_checkpoint)]
        variables = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=tree, env=variables, check=True, capture_output=True, text=True).stdout

    before = printed()
    _move(tree)
    assert printed() == before


def _move(tree: Path) -> None:
    """Move files of ours, and reword all imports of them."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tree), *arguments], check=True, capture_output=True)

    git("init")
    git("add", "-A")
    (tree / "harness/batches").mkdir()
    (tree / "harness/batches/__init__.py").write_text('"""A package."""\n')
    for old, new in MOVED.items():
        git("mv", old, new)
    places = {name: place.removesuffix(".py").replace("/", ".") for name, place in MOVED.items() if ".py" in name}
    for file in tree.rglob("*.py"):
        text = file.read_text()
        for name, place in places.items():
            old = name.removesuffix(".py").replace("/", ".")
            package, _, module = old.rpartition(".")
            text = re.sub(rf"\b{old}\b", place, text)
            new_package, _, new_module = place.rpartition(".")
            text = re.sub(
                rf"from {package} import (.*)\b{module}\b(.*)",
                lambda m, parts=(package, new_package, new_module, module): _split(m, *parts),
                text,
            )
        file.write_text(text.replace('"native_layers.cpp"', '"layers.cpp"'))
    encode = tree / "harness/data/encode.py"
    text = encode.read_text()
    imported = re.search(r"from harness.batches.batch import (.*)\n", text)
    assert imported is not None
    text = text.replace(imported[0], "import harness.batches.batch\n")
    for name in imported[1].split(", "):
        text = re.sub(rf"\b{name}\b", f"harness.batches.batch.{name}", text)
    encode.write_text(text)


def _split(found: re.Match[str], package: str, new_package: str, new_module: str, module: str) -> str:
    """``from harness import a, b`` without b, which is imported from elsewhere."""
    others = [each.strip() for each in f"{found[1]},{found[2]}".split(",") if each.strip()]
    moved = f"from {new_package} import {new_module} as {module}"
    return "; ".join([moved, *([f"from {package} import {', '.join(others)}"] if others else [])])


# ---- of parity ----


def parity_key_of(made: Plan, starts: bool = True) -> str:
    return keys.parity_key(made, made.implementations[0], starts)


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
