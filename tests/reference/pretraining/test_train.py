"""Training: resumed runs are undisturbed ones, gradients are the whole batch's, several processes are one."""

import json
import math
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from reference import processes
from reference.checkpoint import build, read
from reference.errors import DivergedError, PretrainingError
from reference.model import pack
from reference.pretraining import state, train
from reference.pretraining.corpus import Corpus
from reference.pretraining.recipe import Recipe
from reference.pretraining.train import Run, Setting, pretrain

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
SETTING = Setting(CPU, "fp32", minutes=1e9)
SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_length": 32,
    "batch_tokens": 512,
    "micro_tokens": 200,
    "tokens": 12_000,
    "learning_rate": 5e-3,
    "warmup": 0.1,
}


def recipe(**changes: Any) -> Recipe:
    return Recipe.from_dict(SMALL | changes, "test")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def undisturbed(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert pretrain(corpus, recipe(), folder, SETTING)
    return folder


@pytest.mark.slow
def test_it_learns_more_than_frequencies(corpus: Corpus, tmp_path: Path) -> None:
    """The text has a few sentences over and over, so this takes seconds."""
    made = recipe(tokens=50_000, batch_tokens=256, learning_rate=1e-2, dropout=0.0)
    assert pretrain(corpus, made, tmp_path, SETTING)
    start, last = log(tmp_path)[0], log(tmp_path)[-1]
    assert last["held_out_loss"] < start["unigram_loss"] - 0.2
    assert last["held_out_accuracy"] > start["unigram_accuracy"] + 0.05


def test_the_log(undisturbed: Path) -> None:
    lines = log(undisturbed)
    assert lines[0]["event"] == "start"
    assert lines[-1]["event"] == "held out"
    assert lines[-1]["tokens"] >= 12_000
    steps = [line for line in lines if "mlm_loss" in line]
    assert all(0.5 <= line["nsp_majority"] <= 1 and math.isfinite(line["gradient_norm"]) for line in steps)
    assert [line["step"] for line in steps] == [10, 20, steps[-1]["step"]]


def test_the_folder_is_a_model_of_transformers(undisturbed: Path, corpus: Corpus) -> None:
    ids = torch.tensor([[102, *corpus.train.pieces[:20].tolist(), 102]]).long()
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        theirs = transformers.BertForPreTraining.from_pretrained(undisturbed, dtype=dtype).eval()
        ours = build(read(undisturbed), "pre-training", dtype)
        with torch.inference_mode():
            found, expected = ours(pack(ids)), theirs(input_ids=ids)
        assert (found[0] - expected.prediction_logits[0]).abs().max() < tolerance
        assert (found[1] - expected.seq_relationship_logits).abs().max() < tolerance
    tokenizer = transformers.AutoTokenizer.from_pretrained(undisturbed)
    assert len(tokenizer) == corpus.manifest["vocabulary"]["size"]


def test_the_card_says_from_what_and_at_what_cost(undisturbed: Path, corpus: Corpus) -> None:
    text = (undisturbed / "README.md").read_text(encoding="utf-8")
    assert corpus.manifest["sources"][0]["sha256"] in text
    assert f"{log(undisturbed)[-1]['held_out_loss']}" in text
    assert "FLOP" in text


def test_a_complete_run_is_left_alone(undisturbed: Path, corpus: Corpus) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    assert pretrain(corpus, recipe(), undisturbed, SETTING)
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}


@pytest.mark.parametrize("stops", [(1,), (3, 4, 17)], ids=str)
def test_an_interrupted_run_ends_with_the_same_weights(
    stops: tuple[int, ...], undisturbed: Path, corpus: Corpus, tmp_path: Path
) -> None:
    for stop in stops:  # the state of the step before is lost, as if the process was killed in the next one
        run = Run(corpus, recipe(), tmp_path, SETTING)
        run._begin_log(lambda line: None)
        while run.cursor.step < stop:
            run.step()
            run._report(lambda line: None)
        run.save()
        run.step()
        run._report(lambda line: None)
    assert pretrain(corpus, recipe(), tmp_path, SETTING)
    assert same(weights(tmp_path), weights(undisturbed))

    def without_times(folder: Path) -> list[dict[str, Any]]:
        kept = [line for line in log(folder) if line.get("event") != "part"]
        return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in kept]

    assert without_times(tmp_path) == without_times(undisturbed)


FORK = multiprocessing.get_context("fork")  # a new interpreter would import torch, which takes seconds


def begin(corpus: Corpus, output: Path, rank: int = 0, world: int = 1, port: int = 0, **changes: Any) -> BaseProcess:
    """Start a process that trains and saves a state after every step; of several, it is the one with this rank."""

    def work() -> None:
        torch.set_num_threads(1)
        if world > 1:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        pretrain(corpus, recipe(**changes), output, replace(SETTING, minutes=1e-9))

    process = FORK.Process(target=work)
    process.start()
    return process


def goes_on(folder: Path, process: BaseProcess, after: list[Path]) -> None:
    """Wait until the process has written another state, or has ended."""
    while process.is_alive() and state.states(folder / "training")[-1:] == after[-1:]:
        time.sleep(0.002)


def killed_runs(corpus: Corpus, folder: Path, kills: int) -> int:
    """Train in a process that is killed again and again at random moments; how often it was killed."""
    rng, done = random.Random(kills), 0
    for left in range(kills, -1, -1):
        before = state.states(folder / "training")
        process = begin(corpus, folder)
        if left:
            goes_on(folder, process, before)
            time.sleep(rng.random() * 0.1)
            process.kill()
        process.join()
        done += process.exitcode == -signal.SIGKILL
    assert process.exitcode == 0
    return done


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(undisturbed: Path, corpus: Corpus, tmp_path: Path) -> None:
    assert killed_runs(corpus, tmp_path / "run", 2) > 0
    assert same(weights(tmp_path / "run"), weights(undisturbed))


@pytest.mark.soak
def test_a_run_that_is_killed_often_ends_with_the_same_weights(
    undisturbed: Path, corpus: Corpus, tmp_path: Path
) -> None:
    killed_runs(corpus, tmp_path / "run", 20)
    assert same(weights(tmp_path / "run"), weights(undisturbed))


def test_ctrl_c_saves_the_state(undisturbed: Path, corpus: Corpus, tmp_path: Path) -> None:
    def interrupt(line: dict[str, Any]) -> None:
        if line["step"] == 10 and "mlm_loss" in line:
            os.kill(os.getpid(), signal.SIGINT)

    assert not pretrain(corpus, recipe(), tmp_path, SETTING, interrupt)
    assert [path.name for path in state.states(tmp_path / "training")] == ["state-00000011.safetensors"]
    assert pretrain(corpus, recipe(), tmp_path, SETTING)
    assert same(weights(tmp_path), weights(undisturbed))


# -- gradients --


def gradients(run: Run) -> dict[str, torch.Tensor]:
    """Those of the first batch, before clipping."""
    run.optimizer.step = lambda closure=None: None  # type: ignore[assignment, method-assign]
    run.step()
    return {name: parameter.grad for name, parameter in run.model.named_parameters() if parameter.grad is not None}


def plain(**changes: Any) -> Recipe:
    return recipe(dropout=0.0, max_grad_norm=1e9, **changes)


def test_the_pieces_of_a_batch_add_up(corpus: Corpus, tmp_path: Path) -> None:
    """One loss over the whole batch with the vocabulary head on all positions, as Google's formula has it."""
    setting = replace(SETTING, precision="fp64")
    run = Run(corpus, plain(micro_tokens=64), tmp_path, setting)
    (epoch, indices), *rest = Run(corpus, plain(), tmp_path, setting).take()
    assert not rest
    batch = run.instances[False].batch(epoch, indices, 0.15)
    labels = torch.full((len(batch.ids),), -100)
    labels[torch.from_numpy(batch.chosen)] = torch.from_numpy(batch.labels)
    model = train.initial_model(run.config, 0, torch.float64)
    model.loss(model(batch.packed(CPU)), (labels, torch.from_numpy(batch.is_random))).backward()
    found = gradients(run)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert (found[name] - parameter.grad).abs().max() < 1e-12, name


def test_shares_of_processes_add_up_and_means_of_means_do_not(corpus: Corpus, tmp_path: Path) -> None:
    """Two and four processes: sums over all counts are the gradient of the whole; a mean of their means is not."""
    setting = replace(SETTING, precision="fp64")
    whole = gradients(Run(corpus, plain(), tmp_path, setting))
    for world in (2, 4):
        total: dict[str, torch.Tensor] = {}
        mean: dict[str, torch.Tensor] = {}
        runs = [Run(corpus, plain(), tmp_path, setting, rank, world) for rank in range(world)]
        parts = [run._mine(run.take(), False, 0.15) for run in runs]
        masked = [sum(len(piece.labels) for piece in part) for part in parts]
        pairs = [sum(len(piece.lengths) for piece in part) for part in parts]
        assert len(set(masked)) > 1  # unequal counts, or the test shows nothing
        for by_own_counts, sums in ((False, total), (True, mean)):
            for rank, run in enumerate(runs):
                run.optimizer.zero_grad()
                run.model.train()
                for piece in parts[rank]:
                    counts = (masked[rank], pairs[rank]) if by_own_counts else (sum(masked), sum(pairs))
                    run._backward(piece, *counts)
                for name, parameter in run.model.named_parameters():
                    assert parameter.grad is not None
                    value = parameter.grad / (world if by_own_counts else 1)
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value
        assert max((total[name] - whole[name]).abs().max() for name in whole) < 1e-12
        assert max((mean[name] - whole[name]).abs().max() for name in whole) > 1e-6


def test_every_pair_is_used_once_by_any_number_of_processes(corpus: Corpus, tmp_path: Path) -> None:
    used: dict[int, list[list[int]]] = {}
    for world in (1, 3):
        run = Run(corpus, recipe(batch_tokens=[512, 700]), tmp_path, SETTING, 0, world)
        order: list[list[int]] = []
        while run.cursor.epoch < 2:
            taken = run.take()
            order.append([epoch * 10_000 + int(i) for epoch, indices in taken for i in indices])
            for epoch, indices in taken:
                lengths = run.instances[False].lengths(epoch)[indices]
                shares = [processes.share(lengths, rank, world) for rank in range(world)]
                assert sorted(np.concatenate(shares).tolist()) == list(range(len(indices)))
        used[world] = order
    assert used[1] == used[3]
    flat = [index for batch in used[1] for index in batch]
    run = Run(corpus, recipe(), tmp_path, SETTING)
    for epoch in (0, 1):
        assert [i for i in flat if i // 10_000 == epoch] == [
            epoch * 10_000 + i for i in range(len(run.instances[False].pairs(epoch)))
        ]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


FEW: dict[str, Any] = {"tokens": 3000, "dropout": 0.0}


@pytest.mark.slow
def test_several_processes_are_one(corpus: Corpus, tmp_path: Path) -> None:
    """They end with the weights of one process, but for rounding; and bit by bit with their own if one is killed."""
    assert pretrain(corpus, recipe(**FEW), tmp_path / "one", SETTING)
    for folder in (tmp_path / "two", tmp_path / "killed"):
        for part in range(2 if folder.name == "killed" else 1):
            port = free_port()
            both = [begin(corpus, folder, rank, 2, port, **FEW) for rank in range(2)]
            if folder.name == "killed" and part == 0:
                goes_on(folder, both[0], [])
                both[1].kill()
                both[0].join(5)  # it fails by itself, or torchrun would end it
                both[0].kill()
            for process in both:
                process.join()
        assert [process.exitcode for process in both] == [0, 0]
    for name, value in weights(tmp_path / "one").items():
        assert (weights(tmp_path / "two")[name] - value).abs().max() < 1e-4, name
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "two"))


@pytest.mark.soak
def test_torchrun_restarts_a_killed_process(corpus: Corpus, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import json, os, sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "from reference.pretraining import train\n"
        "from reference.pretraining.corpus import open_corpus\n"
        "from reference.pretraining.recipe import Recipe\n"
        "save, first = train.Run.save, os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'\n"
        "def saved(run):\n"
        "    save(run)\n"
        "    if sys.argv[4] == 'killed' and first and run.rank == 1 and run.cursor.step == 3: os.kill(os.getpid(), 9)\n"
        "train.Run.save = saved\n"
        "recipe = Recipe.from_dict(json.loads(sys.argv[3]), 'test')\n"
        "setting = train.Setting(torch.device('cpu'), 'fp32', 1e-9)\n"
        "train.pretrain(open_corpus(Path(sys.argv[1])), recipe, Path(sys.argv[2]), setting)"
    )
    for name in ("two", "killed"):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=3"]
        command += [f"--master-port={free_port()}", str(script), str(corpus.folder), str(tmp_path / name)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, json.dumps(SMALL | FEW), name], env=environment, check=True, capture_output=True)
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "two"))


# -- the optimizer --


def test_without_bias_correction_a_step_is_googles(corpus: Corpus, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"bias_correction": False, "betas": [0.9, 0.999], "weight_decay": 0.1, "warmup": 0.0}
    made = plain(**changes)
    run = Run(corpus, made, tmp_path, replace(SETTING, precision="fp64"))
    name, parameter = next((n, p) for n, p in run.model.named_parameters() if n.endswith("up.weight"))
    value, m, v = parameter.detach().clone(), torch.zeros_like(parameter), torch.zeros_like(parameter)
    for _ in range(4):
        before = run.cursor.tokens
        run.step()
        assert parameter.grad is not None
        rate = made.rate((before + run.cursor.tokens) / 2 / made.tokens)
        m = 0.9 * m + 0.1 * parameter.grad
        v = 0.999 * v + 0.001 * parameter.grad**2
        value = value - rate * (m / (v.sqrt() + made.epsilon) + 0.1 * value)
        assert (parameter - value).abs().max() < 1e-9, name


def test_schedules() -> None:
    made = recipe(warmup=0.1, decay=0.5, batch_tokens=[100, 300], batch_growth=0.5, mask_rate=[0.3, 0.1])
    assert [round(made.rate(share) / 5e-3, 6) for share in (0, 0.05, 0.1, 0.5, 0.75, 1)] == [0, 0.5, 1, 1, 0.5, 0]
    assert [made.batch_size(share) for share in (0, 0.25, 0.5, 1)] == [100, 200, 300, 300]
    assert [round(made.masked(share), 6) for share in (0, 0.5, 1)] == [0.3, 0.2, 0.1]


def test_the_last_part_has_longer_sequences(corpus: Corpus, tmp_path: Path) -> None:
    run = Run(corpus, recipe(long_share=0.5, long_length=64), tmp_path, SETTING)
    longest = {False: 0, True: 0}
    while run.cursor.tokens < 12_000:
        taken = run.take()
        for epoch, indices in taken:
            lengths = run.instances[run.cursor.long].lengths(epoch)[indices]
            longest[run.cursor.long] = max(longest[run.cursor.long], int(lengths.max()))
            run.cursor.tokens += int(lengths.sum())
    assert longest == {False: 32, True: 64}


@pytest.mark.parametrize(
    "changes", [{"next_sentence": "google"}, {"next_sentence": "none"}, {"whole_words": True}], ids=str
)
def test_other_ways_to_make_instances(changes: dict[str, Any], corpus: Corpus, tmp_path: Path) -> None:
    assert pretrain(corpus, recipe(tokens=1500, **changes), tmp_path, SETTING)
    assert ("nsp_loss" in log(tmp_path)[-2]) == (changes.get("next_sentence") != "none")


def test_bf16(corpus: Corpus, tmp_path: Path) -> None:
    assert pretrain(corpus, recipe(tokens=1500), tmp_path, replace(SETTING, precision="bf16"))
    assert all(value.dtype == torch.float32 for value in weights(tmp_path).values())


# -- what goes wrong --


def test_a_loss_that_is_not_a_number(corpus: Corpus, tmp_path: Path) -> None:
    run = Run(corpus, recipe(), tmp_path, SETTING)
    run.step()
    run.save()
    kept = state.states(tmp_path / "training")[0].read_bytes()
    run = Run(corpus, recipe(), tmp_path, SETTING)
    with torch.no_grad():
        run.model.dense.weight[0, 0] = float("nan")
    with pytest.raises(DivergedError, match=r"step 2.*lower learning_rate"):
        run.train(lambda line: None, lambda: False)
    assert state.states(tmp_path / "training")[0].read_bytes() == kept


def test_a_state_that_cannot_be_written_leaves_the_last(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(corpus, recipe(), tmp_path, SETTING)
    run.step()
    run.save()

    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "save_file", full)
    run.step()
    with pytest.raises(OSError, match="No space"):
        run.save()
    assert [path.name for path in (tmp_path / "training").iterdir()] == ["state-00000001.safetensors"]


def test_a_damaged_state_gives_way_to_the_one_before(corpus: Corpus, tmp_path: Path) -> None:
    run = Run(corpus, recipe(), tmp_path, SETTING)
    for _ in range(3):
        run.step()
        run.save()
    kept = state.states(tmp_path / "training")
    assert [path.name for path in kept] == ["state-00000002.safetensors", "state-00000003.safetensors"]
    kept[-1].write_bytes(kept[-1].read_bytes()[:-100])
    assert Run(corpus, recipe(), tmp_path, SETTING).cursor.step == 2


def test_another_recipe_or_corpus_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    run = Run(corpus, recipe(), tmp_path, SETTING)
    run.step()
    run.save()
    with pytest.raises(PretrainingError, match=r"another recipe \(learning_rate 0.005 -> 0.1\)"):
        Run(corpus, recipe(learning_rate=0.1), tmp_path, SETTING)
    with pytest.raises(PretrainingError, match="another corpus"):
        Run(replace(corpus, manifest=corpus.manifest | {"held_out": 0.5}), recipe(), tmp_path, SETTING)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rat": 1}, "unknown fields learning_rat"),
        ({"tokens": "many"}, "tokens is 'many'; it must be a whole number"),
        ({"tokens": 1.5}, "whole number"),
        ({"whole_words": 1}, "true or false"),
        ({"betas": [0.9]}, r"\[first, last\]"),
        ({"betas": [0.9, 1.0]}, "betas"),
        ({"warmup": 0.5, "decay": 0.6}, "together"),
        ({"mask_rate": 0.9}, "mask_rate"),
        ({"next_sentence": "yes"}, "one of exact, google, none"),
        ({"hidden_size": 25}, "attention heads"),
        ({"batch_tokens": 10}, "batch_tokens"),
        ({"long_share": 0.1, "long_length": 600, "batch_tokens": 600}, "max_position_embeddings"),
        ({"learning_rate": float("nan")}, "a number"),
    ],
    ids=str,
)
def test_recipes_that_cannot_be_used(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PretrainingError, match=said):
        recipe(**changes)
    with pytest.raises(PretrainingError, match="missing 1 required"):
        Recipe.from_dict({name: value for name, value in SMALL.items() if name != "tokens"}, "test")
