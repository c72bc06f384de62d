"""Shares: each run is in exactly one, wherever and whenever the command is given."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import BadInput
from harness.measure.dry_run import outline
from harness.measure.plan import Plan
from harness.measure.run import runs_of
from harness.shares import Share

Main = Callable[..., tuple[int, str, str]]
TASKS = ["mini-sentiment", "mini-paraphrase", "mini-ner"]


def units(plan: Plan) -> list[tuple[str, str, int]]:
    """The runs of a plan."""
    found = [run for each in plan.implementations for run in runs_of(plan, each, "trained")]
    return [(run.implementation.name, run.task.name, run.seed) for run in found]


def of_share(plan: Plan, share: Share) -> Plan:
    """The same plan for one share; prepared once, because reading weights takes time."""
    return replace(plan, options=replace(plan.options, share=share))


def test_every_run_is_in_one_share(prepared: Callable[..., Plan]) -> None:
    plan = prepared(implementations=["reference", "tbert"], tasks=TASKS, seeds=tuple(range(20)))
    every = units(plan)
    shares = [units(of_share(plan, Share(number, 4))) for number in range(1, 5)]
    assert sorted(unit for share in shares for unit in share) == sorted(every)
    assert {len(share) for share in shares} == {len(every) / 4}, "the seeds of each task are dealt in turn"


def test_what_is_added_moves_no_run_to_another_share(prepared: Callable[..., Plan]) -> None:
    few = prepared(tasks=TASKS[:2], seeds=tuple(range(6)))
    many = prepared(tasks=TASKS, seeds=tuple(range(9)), implementations=["reference", "tbert"])
    share = Share(2, 3)
    assert set(units(of_share(few, share))) == set(units(of_share(many, share))) & set(units(few)) != set()


def test_shares_are_the_same_in_every_version() -> None:
    numbers = [next(n for n in range(1, 17) if Share(n, 16).holds("reference", "rte", seed)) for seed in range(42, 47)]
    assert numbers == [6, 7, 8, 9, 10], "records of earlier commands lie in folders of these shares"


def test_only_the_first_share_times_and_the_others_start_only_what_they_run(prepared: Callable[..., Plan]) -> None:
    names = ["reference", "tbert", "transformers"]
    plans = [prepared(implementations=names, share=Share(number, 3)) for number in range(1, 4)]
    assert [plan.times for plan in plans] == [True, False, False]
    assert [each.name for each in plans[0].implementations] == names
    for plan in plans[1:]:
        assert {each.name for each in plan.implementations} == {unit[0] for unit in units(plan)}
    assert len(plans[1].implementations) + len(plans[2].implementations) < 2 * len(names)


def test_a_share_says_what_it_has(main: Main, tiny_checkpoint: Path, tmp_path: Path) -> None:
    usual = ["--weights", tiny_checkpoint, "--runs", tmp_path / "runs", "--seeds", 5, "--tasks", "mini-sentiment"]
    code, out, err = main("run", *usual, "--dry-run", "--shard", "1/2")
    assert code == 0
    assert "share 1/2: 3 of 5 runs, and the timing" in err
    assert "3 runs to do" in out
    code, _, err = main("run", *usual, "--shard", "77/1000")
    assert code == 0, "a share may be empty"
    assert "share 77/1000: 0 of 5 runs; share 1 times" in err
    assert not list((tmp_path / "runs").rglob("*.json"))


def test_models_of_shares_never_meet_in_one_folder(prepared: Callable[..., Plan], tmp_path: Path) -> None:
    plan = prepared(save_model=tmp_path / "model", share=Share(1, 1))
    (run,) = runs_of(plan, plan.implementations[0], "trained")
    assert run.model_folder == tmp_path / "model" / "reference-mini-sentiment-42"


def test_estimates_are_of_the_share(prepared: Callable[..., Plan]) -> None:
    rows = outline([prepared(seeds=tuple(range(10)), share=Share(2, 3))], [])
    assert rows[0].to_do == [seed for seed in range(10) if Share(2, 3).holds("reference", "mini-sentiment", seed)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0/16", "numbered from 1 to 16"),
        ("17/16", "numbered from 1 to 16"),
        ("1/0", "one share at least"),
        ("3", "not of the form"),
        ("3/", "not of the form"),
        ("-1/4", "not of the form"),
        ("1.5/4", "not of the form"),
        ("٣/٤", "not of the form"),
        ("", "not of the form"),
        ("1" * 50 + "/4", "not of the form"),
    ],
)
def test_what_is_no_share_is_refused(main: Main, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Share.parse(text)
    code, _, err = main("run", "--shard", text)
    assert code == 2
    assert said in err


def test_a_share_reads_back_as_it_is_written() -> None:
    assert Share.parse("003/16") == Share(3, 16)
    assert str(Share(3, 16)) == "3/16"
