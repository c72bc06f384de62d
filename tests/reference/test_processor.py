"""The processor's features, and those that the switch hides."""

import pytest

import reference
from reference import processor

LARGE = frozenset({"sse4_2", "avx", "avx2", "fma", "avx_vnni"}).union(*processor.LEVELS.values())


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_all_features", lambda: LARGE)
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported", "_is_vnni_supported"):
        monkeypatch.setattr(f"torch.cpu.{name}", lambda: False)
    monkeypatch.delenv(processor.SWITCH, raising=False)


def test_nothing_is_hidden_unless_asked_for() -> None:
    assert processor.features() == LARGE
    assert processor.hidden() == set()
    assert processor.compiler_flags() == []


@pytest.mark.parametrize(
    ("level", "multiplied"),
    [
        ("AVX2", set()),
        ("avx2", set()),
        ("AVX512_CORE", set()),
        ("AVX512_CORE_VNNI", {"int8"}),
        ("AVX512_CORE_BF16", {"int8", "bf16"}),
        ("AVX512_CORE_AMX", {"int8", "bf16", "fp16"}),
    ],
)
def test_each_level_has_what_is_before_it(level: str, multiplied: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.SWITCH, level)
    assert {each for each in processor.PRODUCTS if processor.multiplies(each)} == multiplied
    assert processor.features() | processor.hidden() == LARGE
    assert not processor.features() & processor.hidden()
    assert processor.features() >= {"sse4_2", "avx", "avx2", "fma"}, "which no level hides"
    assert ("avx512f" in processor.features()) == (level.upper() != "AVX2")
    assert ("-mno-avx512f" in processor.compiler_flags()) == (level.upper() == "AVX2")
    assert ("-mno-amx-tile" in processor.compiler_flags()) == (not level.endswith("AMX"))


def test_an_unknown_level_is_refused_with_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.SWITCH, "AVX3")
    for ask in (processor.features, processor.hidden, processor.compiler_flags, reference.fast_bf16):
        with pytest.raises(ValueError, match="AVX3 is not one of AVX2, AVX512_CORE, AVX512_CORE_VNNI"):
            ask()


@pytest.mark.parametrize(("level", "fast"), [("AVX2", False), ("AVX512_CORE_BF16", True), ("", True)])
def test_what_pytorch_sees_is_hidden_too(level: str, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: True)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    monkeypatch.setenv(processor.SWITCH, level)
    assert reference.fast_bf16() == fast


def test_a_smaller_processor_has_nothing_to_hide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_all_features", lambda: frozenset({"avx", "avx2", "fma"}))
    monkeypatch.setenv(processor.SWITCH, "AVX2")
    assert processor.hidden() == set()
    assert processor.features() == {"avx", "avx2", "fma"}
