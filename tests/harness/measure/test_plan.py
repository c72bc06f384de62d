"""Plans: options become objects, and every mistake is found before any work."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import affinity
from harness.errors import BadInput
from harness.measure import keys
from harness.measure.plan import Options, Plan, prepare_each, training_task
from harness.measure.run import Run
from harness.records import machine
from harness.weights.examine import drawn_at_random
from reference import checkpoint
from reference.native import abilities
from tests.conftest import new_cache

Tensors = dict[str, torch.Tensor]

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
    assert [task.name for task in made.tasks] == ["mini-ner", "mini-sentiment", "mini-similarity"]
    assert {task.max_length for task in made.tasks} == {64}
    assert (made.device, made.precision, made.threads, made.data) == ("cpu", "fp32", 1, tmp_path)
    assert made.config["hidden_size"] == 32
    assert len(made.weights.sha256) == 64
    assert (tmp_path / "runs").is_dir()


def test_the_recipe_is_the_tasks_and_options_override_it(prepared: Callable[..., Plan]) -> None:
    made = prepared()
    own = made.tasks[0].recipe(32)
    usual = made.recipe(made.tasks[0])
    assert (usual["epochs"], usual["learning_rate"], usual["batch_size"], usual["max_length"]) == (
        own.epochs,
        own.learning_rate,
        own.batch_size,
        128,
    )
    made = prepared(epochs=2, learning_rate=0.5, batch_size=7, max_length=16, select="dev")
    changed = made.recipe(made.tasks[0])
    assert [changed[name] for name in ("epochs", "learning_rate", "batch_size", "max_length", "select")] == [
        2,
        0.5,
        7,
        16,
        "dev",
    ]


def test_the_number_of_processes_is_in_the_recipe_and_the_key(prepared: Callable[..., Plan]) -> None:
    one = prepared()
    two = replace(one, options=replace(one.options, nproc=2))
    assert two.recipe(two.tasks[0]) == one.recipe(one.tasks[0]) | {"processes": 2}
    runs = [Run(made, made.implementations[0], made.tasks[0], 42) for made in (one, two)]
    assert runs[0].key != runs[1].key


def test_context_is_for_tagging_alone(prepared: Callable[..., Plan]) -> None:
    made = prepared(tasks=["mini-ner", "mini-sentiment"], context="document")
    assert [task.context for task in made.tasks] == ["document", "sentence"]


def test_a_task_without_training_data_is_scored_with_anothers_model(
    prepared: Callable[..., Plan], tmp_path: Path
) -> None:
    for name in ("GLUE/MNLI/train.tsv", "GLUE/diagnostic/diagnostic.tsv"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).write_text("index\tsentence1\tsentence2\tgold_label\n0\tA.\tB.\tneutral\n")
    made = prepared(tasks=["ax"], data=tmp_path / "data", max_length=64)
    trainer = training_task(made.tasks[0])
    assert (trainer.name, trainer.max_length) == ("mnli", 64)
    assert made.recipe(made.tasks[0])["epochs"] == trainer.recipe(32).epochs
    assert set(keys.data_hashes(made, made.tasks[0])) == {"train", "test"}


THREE = {"files": {"train": "train.tsv", "dev": "dev.tsv", "test_a": "dev.tsv", "test_b": "dev.tsv"}}


def test_other_splits_are_scored_instead_of_the_tasks(
    prepared: Callable[..., Plan], own_task: Callable[..., str]
) -> None:
    tasks = [own_task(**THREE)]
    wanted = [("dev", "test_b"), ("test",), ("test", "dev", "test_a")]
    scored = [prepared(tasks=tasks, splits=splits).tasks[0].evaluate for splits in wanted]
    assert scored == [("dev", "test_b"), ("test_a", "test_b"), ("test_a", "test_b", "dev")]
    with pytest.raises(BadInput, match="task mine has no split 'tests' to score; it has dev, test_a, test_b"):
        prepared(tasks=tasks, splits=("dev", "tests"))


def test_the_epoch_is_selected_on_a_dev_split_alone(
    prepared: Callable[..., Plan], own_task: Callable[..., str]
) -> None:
    tasks = [own_task(**THREE)]
    assert prepared(tasks=tasks, splits=("dev", "test"), select="dev").tasks[0].evaluate[0] == "dev"
    with pytest.raises(BadInput, match="first split that is scored, of mine test_a; name a dev split first"):
        prepared(tasks=tasks, splits=("test", "dev"), select="dev")
    tasks = [own_task(files={"train": "train.tsv", "test": "dev.tsv"}, evaluate=["test"])]
    with pytest.raises(BadInput, match="first split that is scored, of mine test; name a dev split first"):
        prepared(tasks=tasks, select="dev")


def test_a_split_that_is_scored_must_be_there(
    prepared: Callable[..., Plan], own_task: Callable[..., str], tmp_path: Path
) -> None:
    tasks = [own_task(files={"train": "train.tsv", "dev": "dev.tsv", "test": "absent.tsv"})]
    assert prepared(tasks=tasks).tasks[0].evaluate == ("dev",)
    with pytest.raises(BadInput, match=r"absent\.tsv"):
        prepared(tasks=tasks, splits=("dev", "test"))


def options(weights: Path, runs: Path, **changes: Any) -> Options:
    usual = {"weights": str(weights), "runs": runs, "device": "cpu"}
    return Options(["reference"], ["mini-sentiment"], **(usual | changes))


def test_each_precision_has_a_plan(tiny_checkpoint: Path, tmp_path: Path) -> None:
    plans = prepare_each(options(tiny_checkpoint, tmp_path), ["fp32", "bf16", "auto"])
    assert [(made.options.precision, made.precision) for made in plans] == [("fp32", "fp32"), ("bf16", "bf16")]
    found = {Run(made, made.implementations[0], made.tasks[0], 42).key for made in plans}
    assert len(found) == 2, "records of two precisions never take each other's place"


@pytest.mark.parametrize(
    ("precisions", "message"),
    [
        ([], "no precision is named; --precision takes some of auto, fp32, bf16, fp16"),
        (["fp32", "fp8"], "--precision 'fp8' is not one of auto, fp32, bf16, fp16"),
    ],
)
def test_wrong_precisions_are_bad_input(
    tiny_checkpoint: Path, tmp_path: Path, precisions: list[str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        prepare_each(options(tiny_checkpoint, tmp_path / "runs"), precisions)
    assert not (tmp_path / "runs").exists()


def test_a_model_is_saved_from_one_precision(tiny_checkpoint: Path, tmp_path: Path) -> None:
    wanted = options(tiny_checkpoint, tmp_path, save_model=tmp_path / "model")
    assert len(prepare_each(wanted, ["fp32", "auto"])) == 1
    with pytest.raises(BadInput, match="--save-model saves weights, which are the same"):
        prepare_each(wanted, ["fp32", "bf16"])


def test_a_program_of_its_own_is_run_once_on_the_tasks_that_it_does(prepared: Callable[..., Plan]) -> None:
    made = prepared(implementations=["reference", "bert-ner"], tasks=["mini-ner", "mini-sentiment"], seeds=(42, 43))
    found = [[made.seeds_of(each, task) for task in made.tasks] for each in made.implementations]
    assert found == [[(42, 43), (42, 43)], [(42,), ()]]


def test_all_leaves_out_what_takes_long_to_start(prepared: Callable[..., Plan]) -> None:
    names = [each.name for each in prepared(implementations=["all"]).implementations]
    assert names[0] == "reference"
    assert {"transformers", "transformers:eager", "openvino"} < set(names)
    assert "transformers:compiled" not in names
    assert prepared(implementations=["transformers:compiled"]).implementations[0].by_name


def test_all_may_stand_beside_names(prepared: Callable[..., Plan]) -> None:
    every = prepared(implementations=["all"]).implementations
    assert prepared(implementations=["all", "reference"]).implementations == every
    more = prepared(implementations=["transformers:compiled", "all"]).implementations
    assert [each.name for each in more] == ["transformers:compiled", *(each.name for each in every)]


def test_a_dry_run_makes_no_folders(prepared: Callable[..., Plan], tmp_path: Path) -> None:
    prepared(dry_run=True, save_model=tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


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
        ({"device": "gpu"}, "device 'gpu' is not one that torch computes on, such as cpu, cuda"),
        ({"precision": "fp8"}, "--precision 'fp8' is not one of auto, fp32, bf16, fp16"),
        ({"select": "best"}, "--select 'best' is not one of last, dev"),
        ({"rerun": "some"}, "--rerun 'some' is not one of missing, failed, all"),
        ({"splits": ("tset",)}, "--splits: task mini-sentiment has no split 'tset' to score; it has dev"),
        ({"splits": ("train",)}, "--splits: task mini-sentiment has no split 'train' to score"),
        ({"threads": 0}, "--threads is 0; it must be above 0"),
        ({"nproc": 0}, "--nproc is 0; it must be above 0"),
        ({"nproc": 2, "threads": 1}, "--nproc 2: each process needs a thread, and they have 1 in all"),
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


@pytest.mark.parametrize(
    ("cpus", "group", "most", "message"),
    [
        ([3, 5, 7], None, 3, r"--threads is 4; of them 3 can run .*affinity: 3, by quota: none\). Give 3 or fewer"),
        ([0, 1], "100000 100000", 1, r"--threads is 2; of them 1 can run .*affinity: 2, by quota: 1\). Give 1 or"),
        (
            [0, 1, 2, 3],
            "250000 100000",
            2,
            r"--threads is 3; of them 2 can run .*affinity: 4, by quota: 2\.5\). Give 2 or",
        ),
        ([0], "50000 100000", 1, r"--threads is 2; .*affinity: 1, by quota: 0\.5\). Give 1 or"),
    ],
)
def test_threads_that_could_not_run_at_once_are_refused(
    prepared: Callable[..., Plan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cpus: list[int],
    group: str | None,
    most: int,
    message: str,
) -> None:
    monkeypatch.setattr(affinity, "CPUS", cpus)
    for name in ("PROC", "CPUS", "CGROUP"):
        monkeypatch.setattr(machine, name, tmp_path / name)
    (tmp_path / "PROC/self").mkdir(parents=True)
    (tmp_path / "PROC/self/cgroup").write_text("0::/\n")
    (tmp_path / "CGROUP").mkdir()
    (tmp_path / "CGROUP/cpu.max").write_text(group or "max 100000")
    with pytest.raises(BadInput, match=message):
        prepared(threads=most + 1)
    assert prepared(threads=most).threads == most
    assert prepared().threads == most == machine.describe()["cores"], "what a record says of both agrees"


def test_nothing_is_written_where_the_input_is_bad(prepared: Callable[..., Plan], tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        prepared(tasks=["mini-sentiment", "minni"])
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_not_there_is_named_with_the_command_that_gets_it(
    prepared: Callable[..., Plan], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"GLUE/RTE/train\.tsv is not there; `python -m harness data get glue` gets it"):
        prepared(tasks=["mini-sentiment", "rte"], data=tmp_path)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("split", ["train", "dev"])
def test_all_data_is_read_before_any_run_begins(
    prepared: Callable[..., Plan], own_task: Callable[..., str], tmp_path: Path, split: str, dry_run: bool
) -> None:
    tasks = ["mini-sentiment", own_task()]
    assert prepared(tasks=tasks).examples == {
        "mini-sentiment": {"train": 280, "dev": 200},
        "mine": {"train": 2, "dev": 2},
    }
    with (tmp_path / f"{split}.tsv").open("a") as file:
        file.write("one more\tz\tperhaps\n")
    with pytest.raises(BadInput, match=rf"{split}\.tsv:4: "):
        prepared(tasks=tasks, dry_run=dry_run)


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


def test_a_cache_that_cannot_be_written_is_found_before_any_work(
    prepared: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match=r"BERT_ATLAS_CACHE: the folder .*/file cannot be made"):
        prepared()


def test_weights_that_are_not_berts_are_refused(prepared: Callable[..., Plan], tmp_path: Path) -> None:
    (tmp_path / "roberta").mkdir()
    (tmp_path / "roberta" / "config.json").write_text('{"model_type": "roberta"}')
    (tmp_path / "roberta" / "model.safetensors").write_bytes(b"\0" * 8)
    with pytest.raises(BadInput, match=r"config\.json: model_type is 'roberta'; the architecture"):
        prepared(weights=str(tmp_path / "roberta"))


def test_an_odd_configuration_is_bad_input(tiny_checkpoint: Path, tmp_path: Path, prepared: Any) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "odd")
    (folder / "config.json").write_text("[1]")
    with pytest.raises(BadInput, match="not an object of settings"):
        prepared(weights=str(folder))


# ---- weights ----


@pytest.fixture
def weights(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., str]:
    """A function: what becomes of the tiny checkpoint's tensors, and settings, to a folder of these."""

    def make(change: Callable[[Tensors], Any] = dict, file: str = "model.safetensors", **settings: Any) -> str:
        folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "weights", dirs_exist_ok=True))
        content = change(load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").unlink()
        save_file(content, folder / file) if file.endswith(".safetensors") else torch.save(content, folder / file)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | settings))
        return str(folder)

    return make


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def words(rows: int) -> Callable[[Tensors], Tensors]:
    """With so many rows in the table of words."""
    name = "bert.embeddings.word_embeddings.weight"
    return lambda tensors: tensors | {name: torch.zeros(rows, 32)}


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (
            words(30000),
            {"vocab_size": 30000},
            "pieces up to 30521, and its weights have rows for 0 to 29999",
        ),
        (
            words(30000),
            {},
            r"word_embeddings.*: shape \(30000, 32\), expected \(30522, 32\) by the",
        ),
        (without("layer.1.output"), {}, "model.safetensors: missing tensors: bert.encoder.layer.1.output"),
        (without("embeddings"), {}, "no encoder of BERT's among its"),
        (lambda t: t | {"bert.pooler.dense.bias": torch.full((32,), torch.nan)}, {}, r"not all numbers are finite"),
        (lambda t: t | {"bert.pooler.dense.bias": torch.ones(32).to(torch.int8)}, {}, "numbers of int8: quantised"),
        (dict, {"num_attention_heads": 5}, "hidden_size 32 does not divide into 5 attention heads"),
        (
            dict,
            {"max_position_embeddings": 256},
            r"position_embeddings.*: shape \(512, 32\), expected \(256, 32\)",
        ),
        (dict, {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        (dict, {"hidden_size": -32}, "hidden_size is -32; it is a whole number from 1"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_at_planning(
    prepared: Callable[..., Plan],
    weights: Callable[..., str],
    change: Callable[[Tensors], Tensors],
    settings: dict[str, Any],
    message: str,
    dry_run: bool,
    tmp_path: Path,
) -> None:
    with pytest.raises(BadInput, match=message):
        prepared(weights=weights(change, **settings), dry_run=dry_run)
    assert not (tmp_path / "runs").exists()


def test_a_vocabulary_padded_with_rows_is_fine(prepared: Callable[..., Plan], weights: Callable[..., str]) -> None:
    assert prepared(weights=weights(words(30528), vocab_size=30528)).config["vocab_size"] == 30528


def test_pairs_need_two_types_of_tokens(prepared: Callable[..., Plan], weights: Callable[..., str]) -> None:
    name = "bert.embeddings.token_type_embeddings.weight"
    folder = weights(lambda t: t | {name: t[name][:1].clone()}, type_vocab_size=1)

    with pytest.raises(BadInput, match="task mini-similarity has pairs, and these weights know one kind of text"):
        prepared(weights=folder, tasks=["mini-sentiment", "mini-similarity"])
    assert prepared(weights=folder, tasks=["mini-sentiment"]).config["type_vocab_size"] == 1


def test_what_was_done_with_the_files_is_noted(prepared: Callable[..., Plan], weights: Callable[..., str]) -> None:
    folder = weights(
        lambda t: {f"module.{name}": tensor for name, tensor in t.items()} | {"module.crf.transitions": torch.ones(2)},
        "pytorch_model.bin",
    )

    assert prepared().notes == ()
    assert prepared(weights=folder).notes == (
        "weights: the names of its tensors begin with module., which is taken off",
        "weights: no part of the encoder, and left out unless a task needs them: crf.transitions",
    )


def test_numbers_are_looked_at_once(
    prepared: Callable[..., Plan], weights: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BERT_ATLAS_CACHE", new_cache(tmp_path / "cache"))
    looked: list[bool] = []
    monkeypatch.setattr(checkpoint, "_check_finite", lambda tensors: looked.append(True))
    folder = weights()
    for dry_run, times in ((True, 1), (False, 2), (True, 2), (False, 2)):
        prepared(weights=folder, dry_run=dry_run)
        assert len(looked) == times, "a dry run makes no note of it"
    weights(lambda t: {name: tensor + 1 for name, tensor in t.items()})
    prepared(weights=folder)
    assert len(looked) == 3, "other files, though of the same name"


def test_a_pooler_that_is_missing_is_drawn_for_tasks_that_need_one(
    prepared: Callable[..., Plan], weights: Callable[..., str]
) -> None:
    made = prepared()
    assert made.pooler
    assert drawn_at_random(made.weights, made.pooler, "classification") == ([], "")
    made = prepared(weights=weights(without("pooler")))
    assert not made.pooler
    drawn, note = drawn_at_random(made.weights, made.pooler, "classification")
    assert drawn == ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]
    assert "it was drawn at random" in note
    assert drawn_at_random(made.weights, made.pooler, "tagging") == ([], "")
    for_timing = replace(made.weights, name="random/bert-base")
    assert "nothing was pre-trained" in drawn_at_random(for_timing, True, "tagging")[1]


# ---- processors ----


def test_what_has_no_fast_path_here_is_refused_by_name_and_skipped_among_all(
    prepared: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference.processor._all_features", lambda: frozenset({"avx"}))
    monkeypatch.setattr("reference.processor.seen_by_torch", frozenset)
    abilities.cache_clear()
    for names in (["reference:int8"], ["all", "reference:int8"]):
        for dry_run in (False, True):
            with pytest.raises(BadInput, match=r"^reference:int8: precision 'int8' would be slower than float32 here"):
                prepared(implementations=names, dry_run=dry_run)
    made = prepared(implementations=["all"])
    reasons = {each.name: made.lacks(each) for each in made.implementations if not each.checkout}
    assert {name for name, reason in reasons.items() if reason} == {"reference:int8"}
    assert "the processor lacks avx2, fma" in str(reasons["reference:int8"])
    abilities.cache_clear()


def test_a_processor_with_instructions_for_int8_takes_part(
    prepared: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference.processor.seen_by_torch", lambda: frozenset({"avx512_vnni"}))
    made = prepared(implementations=["reference:int8"])
    assert made.lacks(made.implementations[0]) is None
    on_gpu = replace(made, device="cuda")
    assert on_gpu.lacks(made.implementations[0]) == "it is for a CPU, and the device is cuda"


def test_a_switch_of_the_processor_that_is_set_to_nothing_known_is_refused(
    prepared: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "AVX3")
    with pytest.raises(BadInput, match="BERT_ATLAS_MAX_CPU_ISA=AVX3 is not one of AVX2, AVX512_CORE, "):
        prepared()
