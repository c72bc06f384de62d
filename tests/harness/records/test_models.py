"""Two models are told apart wherever their records are put beside each other."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.compare.compare import compare
from harness.errors import BadInput
from harness.records import record
from harness.records.models import model_of, named_apart
from harness.records.record import Parity, Quality, Record, Speed
from harness.report.arrange import arrange
from harness.report.csv_table import to_csv
from harness.report.page import to_html
from harness.results.history import histories
from harness.statistics.seeds import group

GELU = {"hidden_size": 32, "num_attention_heads": 2, "hidden_act": "gelu"}
RELU = GELU | {"num_attention_heads": 4, "hidden_act": "relu"}
PINNED = "https://pypi.org/project/weights/1.0"


def checkpoint(config: dict[str, Any], source: str = "local", name: str = "mine", sha256: str = "5") -> dict[str, Any]:
    return {"name": name, "sha256": sha256 * 64, "source": source, "config": config, "initialised": []}


@pytest.fixture(params=["quality", "speed", "parity"])
def two_models(request: pytest.FixtureRequest) -> list[Record]:
    """Records of one file of weights under two configurations, the second a day later."""
    make = request.getfixturevalue(f"{request.param}_record")
    days = {"2026-01-01T00:00:00+00:00": GELU, "2026-01-02T00:00:00+00:00": RELU}
    return [make(checkpoint=checkpoint(config), started=day) for day, config in days.items()]


def test_a_model_is_its_weights_and_a_configuration_that_may_change(quality_record: Callable[..., Quality]) -> None:
    def of(*said: Any, **more: Any) -> str:
        return model_of(quality_record(checkpoint=checkpoint(*said, **more)))

    hub = "https://huggingface.co/org/name/tree/" + "a" * 40
    for source in ("local", hub):
        assert of(GELU, source) != of(RELU, source)
        assert of(GELU, source) == of(dict(reversed(GELU.items())), source, name="elsewhere")
        assert of(GELU, source) != of(GELU, source, sha256="6")
    assert of(GELU, PINNED) == of({}, PINNED) == "5" * 64, "as records of schema 1 are, which have no configuration"


def test_a_table_has_a_row_for_each_model(two_models: list[Record]) -> None:
    rows = [row for row in arrange(two_models).rows if row.startswith("reference")]
    assert rows == [
        "reference, mine (num_attention_heads 2, hidden_act gelu)",
        "reference, mine (num_attention_heads 4, hidden_act relu)",
    ]


def test_the_page_has_a_section_for_each_model_and_csv_says_which(two_models: list[Record]) -> None:
    for text in (to_html(two_models), to_csv(two_models)):
        assert "hidden_act gelu)" in text
        assert "hidden_act relu)" in text
    names = {row["checkpoint"] for row in csv.DictReader(io.StringIO(to_csv(two_models)))}
    assert len(names) == 2


def test_seeds_of_two_models_are_no_mean_and_steps_are_of_one_model(quality_record: Callable[..., Quality]) -> None:
    runs = [quality_record(checkpoint=checkpoint(config), key=key) for key, config in (("1", GELU), ("2", RELU))]
    assert len(group(runs)) == 2
    assert len({series.subject for series in histories([*runs])}) == 2


def test_models_that_differ_in_weights_alone_are_named_by_these(quality_record: Callable[..., Quality]) -> None:
    runs = [quality_record(checkpoint=checkpoint(GELU, sha256=sha256)) for sha256 in "56"]
    assert [each.checkpoint["name"] for each in named_apart(runs)] == [
        "mine (weights 55555555)",
        "mine (weights 66666666)",
    ]
    unknown = [quality_record(checkpoint=checkpoint(config)) for config in (GELU, {})]
    assert named_apart(unknown)[1].checkpoint["name"] == "mine (configuration unknown)"


def test_one_model_keeps_its_name(quality_record: Callable[..., Quality], speed_record: Callable[..., Speed]) -> None:
    old, new = (quality_record(checkpoint=checkpoint(config, PINNED)) for config in ({}, GELU))
    assert {each.checkpoint["name"] for each in named_apart([old, new])} == {"mine"}
    assert len(group([old, new])) == 1
    assert named_apart([speed_record()]) == [speed_record()]


def test_two_models_are_not_compared(
    quality_record: Callable[..., Quality], parity_record: Callable[..., Parity], tmp_path: Path
) -> None:
    for name, config in (("a", GELU), ("b", RELU)):
        each = quality_record(checkpoint=checkpoint(config), predictions="one.gz")
        record.write(each, tmp_path / name / "one.json")
        record.write_predictions(tmp_path / name / "one.gz", {"dev": [[str(i), "positive"] for i in range(200)]})
    with pytest.raises(
        BadInput, match=r"not comparable, these differ: configuration: num_attention_heads \(2 against 4\)"
    ):
        compare(str(tmp_path / "a"), str(tmp_path / "b"), runs=tmp_path)
