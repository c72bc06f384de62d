"""Runs in a folder that several machines write to: what another process took over is dropped, and counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import claims
from harness.claims import Claims
from harness.measure import evaluate, parity, quality
from harness.measure.bench import Bench
from harness.measure.plan import Plan
from harness.measure.run import Run
from harness.records import record
from harness.shares import Share
from harness.weights.checkpoints import Checkpoints


@pytest.fixture
def bench(prepared: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(claims, "POLL", 0.01)
    monkeypatch.setattr(claims, "DEAD", 0.1)
    plan = prepared(share=Share(1, 1))
    checkpoints = Checkpoints(plan.weights.folder, plan.tokenizer, tmp_path)
    return Bench(plan, {}, checkpoints, lambda *_: None, Claims())


def take_over(path: Path) -> None:
    """As another process does that thinks this one dead; it then falls silent itself."""
    path.with_name(f".{path.name}.claim-2").write_text('{"token": "of another"}')


def test_a_run_that_was_taken_over_is_not_recorded_by_the_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(bench.plan, bench.plan.implementations[0], bench.plan.tasks[0], 42)
    seen: list[list[str]] = []

    def fine_tuned(*_: Any, **__: Any) -> dict[str, Any]:
        seen.append([path.name for path in run.path.parent.glob("[!.]*")])
        if len(seen) == 1:
            take_over(run.path)
        return {"dev": [["0", "positive"]]}

    monkeypatch.setattr(evaluate, "fine_tuned", fine_tuned)
    result = quality.run_trained(bench, run, for_encoders=False)
    assert seen == [[], []], "nothing was recorded before either ended"
    assert "not recorded (work done twice so far: 1," in caplog.text
    assert record.read(run.path) == result
    assert sorted(path.name for path in run.path.parent.iterdir()) == sorted([run.path.name, str(result.predictions)])


def test_so_is_parity(bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    measured: list[Path] = []

    def measure(bench: Bench, implementation: Any, target: Any, result: Any) -> None:
        path = parity.path_of(bench.plan, result)
        measured.append(path)
        assert not path.is_file()
        if len(measured) == 1:
            take_over(path)
        result.verdict = "exact"

    monkeypatch.setattr(parity, "_measure", measure)
    monkeypatch.setattr(parity, "_target", lambda bench: None)
    (result,) = parity.measure_parities(bench, bench.plan.implementations)
    assert len(measured) == 2
    assert "reference: parity: this process showed no sign of life" in caplog.text
    assert record.read(measured[0]) == result
    assert [path.name for path in measured[0].parent.iterdir()] == [measured[0].name]
