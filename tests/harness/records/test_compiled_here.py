"""What is compiled on this machine is part of a key."""

from collections.abc import Callable, Iterator

import pytest

from harness.measure import keys
from harness.measure.plan import Plan
from harness.measure.run import Run
from harness.records.compiled_here import compiled_here
from reference.compile import compiled

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    for cached in (compiled, compiled_here):
        cached.cache_clear()


def keys_of(made: Plan) -> list[str]:
    """Of fine-tuning, of encoding with what the reference fine-tuned, of parity and of timing; each looked up again."""
    for cached in (compiled, compiled_here):
        cached.cache_clear()
    implementation, task = made.implementations[0], made.tasks[0]
    shape = {"name": "1 x 16", "sequences": 1, "tokens": 16, "lengths": [[16, 1]]}
    return [
        Run(made, implementation, task, 42).key,
        Run(made, implementation, task, 42, "encoded").key,
        keys.parity_key(made, implementation),
        keys.speed_key(made, [implementation], shape, "inference"),
    ]


@pytest.mark.parametrize(("name", "same"), [("reference", [False] * 4), ("transformers", [True, False, True, True])])
def test_with_another_compiler_or_none_the_reference_is_another(
    name: str, same: list[bool], prepared: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared(implementations=[name])
    monkeypatch.delenv("CXX", raising=False)
    usual = keys_of(made)
    assert keys_of(made) == usual
    for compiler in ("/no/such/compiler", "false", "g++ --no-such-option"):
        monkeypatch.setenv("CXX", compiler)
        assert [one == other for one, other in zip(keys_of(made), usual, strict=True)] == same
    monkeypatch.setenv("CXX", "env g++")
    assert keys_of(made) == usual, "which is the same compiler"


def test_what_is_hidden_of_the_processor_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference.processor._all_features", lambda: frozenset({"avx2", "avx512f", "amx_tile"}))
    monkeypatch.setenv("BERT_ATLAS_MAX_CPU_ISA", "AVX2")
    assert compiled_here()[2:] == ["amx_tile", "avx512f"]
