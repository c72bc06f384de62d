"""Which implementation to use: the answers, and the pages that show them."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("griffe")

from catalog.site import choices, leaderboard
from catalog.site.choices import Answer, Choice, answers
from catalog.site.costs import Cost, quality
from tests.catalog.site.test_pages import catalog, made, of, page, published, written

__all__ = ["catalog"]  # a fixture
AVX2 = ["avx2", "fma"]


def answered(tmp_path: Path, records: list[dict[str, Any]]) -> dict[Choice, Answer]:
    path = written(tmp_path, records)
    return answers(leaderboard.boards(leaderboard.read_index(path), path))


def only(found: dict[Choice, Answer], **parts: str) -> Answer:
    (answer,) = [a for c, a in found.items() if all(getattr(c, part) == value for part, value in parts.items())]
    return answer


def timed(records: list[dict[str, Any]], shape: str = "1 x 128") -> dict[str, Any]:
    return next(r for r in records if r["kind"] == "speed" and r["shape"]["name"] == shape)


def variant(record: dict[str, Any], name: str, factor: float, precision: str = "fp32") -> None:
    """Add an implementation ``factor`` times as fast as the reference."""
    base = record["implementations"]["reference"]
    ratio = [factor, 0.9 * factor, 1.1 * factor]
    speed = {"sequences_per_second": factor * base["sequences_per_second"], "p50": base["p50"] / factor}
    record["implementations"][name] = {**copy.deepcopy(base), **speed, "ratio": ratio, "precision": precision}


def known(records: list[dict[str, Any]], name: str, verdict: str, precision: str = "fp32") -> None:
    """Add the parity of an implementation."""
    (parity,) = of(records, "parity")
    described = {**parity["implementation"], "name": name, "precision": precision}
    records.append({**parity, "verdict": verdict, "implementation": described})


@pytest.mark.parametrize(
    ("flags", "gpu", "kind"),
    [
        (AVX2, "", "avx2"),
        ([*AVX2, "avx_vnni"], "", "avx2-vnni"),
        ([*AVX2, "avx_vnni", "avx512f"], "", "avx-512"),
        ([*AVX2, "avx512f", "avx512_vnni"], "", "avx-512-vnni"),
        ([*AVX2, "avx512f", "avx512_vnni", "amx_tile"], "", "amx"),
        (["neon", "bf16"], "", "arm"),
        ([], "", "other"),
        ([*AVX2, "avx512f"], "NVIDIA H200", "nvidia-h200"),
    ],
)
def test_kinds_of_machines_are_what_people_call_them(flags: list[str], gpu: str, kind: str) -> None:
    assert choices.machine_of(flags, gpu) == kind


def test_one_row_for_each_implementation_in_its_fastest_exact_variant(tmp_path: Path) -> None:
    records = published()
    record = timed(records)
    variant(record, "transformers:eager", 3.0)
    variant(record, "transformers:tanh", 5.0)
    known(records, "transformers:eager", "exact")
    known(records, "transformers:tanh", "differs")
    lines = only(answered(tmp_path, records), feed="long", level="exact").lines
    assert [line.row.implementation for line in lines] == ["transformers:eager", "reference"]
    assert [other.row.implementation for other in lines[0].others] == ["transformers"]
    assert lines[0].ratio == pytest.approx((3.0, 2.7, 3.3))


def test_what_is_not_bert_is_named_and_not_recommended(tmp_path: Path) -> None:
    records = published()
    variant(timed(records), "port", 9.0)
    for verdict, lines in (("close", 2), ("differs", 2), ("exact", 3)):
        changed = copy.deepcopy(records)
        known(changed, "port", verdict)
        answer = only(answered(tmp_path, changed), feed="long", level="exact")
        assert (len(answer.lines), answer.otherwise) == (lines, [] if verdict == "exact" else ["port"])


def test_a_lower_precision_is_offered_where_it_was_timed_and_adds_to_the_rows(tmp_path: Path) -> None:
    records = published()
    variant(timed(records), "transformers:int8", 4.0, "int8")
    found = answered(tmp_path, records)
    assert {choice.level for choice in found if choice.feed == "long"} == {"exact", "int8"}
    lines = only(found, feed="long", level="int8").lines
    assert [(line.row.implementation, line.row.computes) for line in lines] == [
        ("transformers:int8", "int8"),
        ("reference", "fp32"),
    ]
    assert {choice.level for choice in found if choice.feed == "batches"} == {"exact"}


def test_ratios_to_the_reference_in_bf16_are_multiplied_by_its_own(tmp_path: Path) -> None:
    records = published()
    variant(timed(records), "reference:bf16", 2.0, "bf16")
    lower = copy.deepcopy(timed(records))
    lower |= {"precision": {**lower["precision"], "resolved": "bf16"}, "started": "2999-01-01T00:00:00+00:00"}
    lower["implementations"] = {"reference": {**lower["implementations"]["reference"], "precision": "bf16"}}
    variant(lower, "transformers", 0.5, "bf16")
    found = answered(tmp_path, [*records, lower])
    answer = only(found, feed="long", level="bf16")
    line = next(line for line in answer.lines if line.family == "transformers")
    ratio = timed(records)["implementations"]["transformers"]["ratio"][0]
    best = line if line.chained else next(other for other in line.others if other.chained)
    assert best.ratio[0] == pytest.approx(1.0)
    assert line.ratio[0] == max(1.0, ratio)
    assert answer.base == "fp32"
    assert answer.lines[0].row.implementation == "reference:bf16"


def test_machines_of_a_kind_share_a_board(tmp_path: Path) -> None:
    records = published()
    one = answered(tmp_path, records)
    other = copy.deepcopy(records)
    for each in other:
        each |= {"hardware": "another", "key": each["key"][::-1], "machine": {**each["machine"], "cpu": "another"}}
    del timed(other)["implementations"]["transformers"]
    both = answered(tmp_path, [*records, *other])
    assert both.keys() == one.keys()
    answer = only(both, feed="batches", level="exact")
    assert answer.machines == 2
    assert all(len(line.elsewhere) == 1 for line in answer.lines)
    assert only(both, feed="long", level="exact").board.hardware == records[0]["hardware"], "the more complete one"


def test_the_address_of_a_choice_leads_to_its_page(catalog: Path, tmp_path: Path) -> None:
    records = published()
    variant(timed(records), "transformers:int8", 4.0, "int8")
    path = written(tmp_path, records)
    found = answers(leaderboard.boards(leaderboard.read_index(path), path))
    out = made(catalog, tmp_path, path)
    first = choices.default(found)
    assert first is not None
    for choice in found:
        name = "leaderboard" if choice == first else f"boards/{choice.slug}"
        assert (out / f"en/{name}.md").is_file()
        assert (out / f"zh/{name}.md").is_file()
    text = page(out, "en/leaderboard.md")
    assert '<a href="leaderboard.html" aria-current="true">exact only</a>' in text
    assert not (out / "en/services.md").exists(), "nothing was timed of it"
    lower = next(choice for choice in found if choice.level == "int8")
    assert f'href="boards/{lower.slug}.html"' in text
    assert 'href="../leaderboard.html"' in page(out, f"en/boards/{lower.slug}.md")


def test_a_machine_without_records_is_not_offered_and_one_with_them_is(catalog: Path, tmp_path: Path) -> None:
    records = published()
    lacking = "No records yet of AVX2 without VNNI"
    before = page(made(catalog, tmp_path, written(tmp_path, records)), "en/leaderboard.md")
    assert lacking in before
    assert re.search(r"No records yet of [^<]*, Arm: <a [^<]*</a> <code>python -m harness contribute</code>", before)
    for each in records:
        each["machine"] = {**each["machine"], "flags": AVX2}
    text = page(made(catalog, tmp_path, written(tmp_path, records)), "en/leaderboard.md")
    assert lacking not in text
    assert "On AVX2 without VNNI, with one long sentence (1 × 128 tokens), <b>" in text
    assert "在不带 VNNI 的 AVX2 上，输入为一个长句" in page(tmp_path / "out", "zh/leaderboard.md")


def test_a_board_appears_with_its_kind_of_record(catalog: Path, tmp_path: Path) -> None:
    records = published()
    made_up = {"speed": "rte, training", "service": "16 clients", "pretraining": "wiki"}
    for kind, shape in made_up.items():
        record = copy.deepcopy(timed(records, "8 x 128"))
        record |= {"kind": kind, "key": f"{kind}{record['key']}"}
        record["shape"] |= {"name": shape}
        variant(record, "transformers", 1.5)
        records.append(record)
    out = made(catalog, tmp_path, written(tmp_path, records))
    for name, shape in zip(("training", "services", "pretraining"), made_up.values(), strict=True):
        text = page(out, f"en/{name}.md")
        assert shape in text
        assert text.index('data-name="transformers"') < text.index('data-name="reference"')
        assert f'href="{name}.html"' in page(out, "en/leaderboard.md")
        assert "cost in quality, points" not in text
    assert "fine-tuning on rte, <b>transformers</b>" in page(out, "en/training.md")


def test_the_sentence_says_when_no_difference_is_shown(tmp_path: Path) -> None:
    for factor, overlapping in ((0.98, ["transformers"]), (0.5, [])):
        records = published()
        record = timed(records)
        record["implementations"]["reference"]["ratio"] = [1.0, 0.95, 1.05]
        variant(record, "transformers", factor)
        answer = only(answered(tmp_path, records), feed="long", level="exact")
        assert [line.row.implementation for line in answer.level_with_first] == overlapping


# --- what it costs in quality ---


def cost(**values: Any) -> Cost:
    given: dict[str, Any] = {
        **{"hardware": "here", "implementation": "port", "precision": "fp32", "same_weights": True, "task": "rte"},
        **{"metric": "accuracy", "n": 100, "seeds": [1], "difference": 0.0, "low": None, "high": None, "test": None},
        **{"answers": 100, "differing": 3},
    }
    return Cost(**given | values)


def test_one_seed_shows_a_cost_only_with_the_same_weights() -> None:
    assert cost(difference=-0.1, low=-0.2, high=-0.01).shown
    assert not cost(difference=-0.1, low=-0.2, high=-0.01, same_weights=False).shown
    assert cost(difference=-0.1, low=-0.2, high=-0.01, same_weights=False, seeds=[1, 2]).shown
    assert not cost(difference=-0.1, low=-0.2, high=0.01).shown
    assert not cost(difference=-0.1).tested


def test_of_each_task_the_difference_from_most_seeds_counts() -> None:
    row = leaderboard.Row("port", "fp32", computes="int8")
    costs = [cost(difference=-0.5), cost(difference=-0.1, low=-0.2, high=-0.05, seeds=[1, 2, 3]), cost(task="cola")]
    found = quality([*costs, cost(implementation="other")], row, "there")
    assert [(each.task, each.difference) for each in found.costs] == [("cola", 0.0), ("rte", -0.1)]
    assert found.worst == costs[1]
    assert found.unsure == [costs[2]]


def test_an_implementation_asked_for_bf16_has_the_costs_of_the_variant_that_computes_it() -> None:
    row = leaderboard.Row("openvino", "bf16", computes="bf16")
    assert quality([cost(implementation="openvino:bf16"), cost(implementation="openvino")], row, "").costs == [
        cost(implementation="openvino:bf16")
    ]


def test_costs_are_on_the_board_and_on_the_page_of_the_task(catalog: Path, tmp_path: Path) -> None:
    records = published()
    variant(timed(records), "reference:int8", 4.0, "int8")
    (run,) = [r for r in of(records, "quality", "reference") if r["task"]["name"] == "mini-ner"]
    records.append({**run, "implementation": {**run["implementation"], "name": "reference:int8"}})
    path = written(tmp_path, records)
    index = json.loads(path.read_text("utf-8"))
    known = {"implementation": "reference:int8", "task": "mini-ner", "metric": "entity_f1"}
    index["against"] = [
        vars(cost(**known, difference=-0.0123, low=-0.02, high=-0.004)) | {"extra": "of a later version"},
        vars(cost(implementation="transformers", task="mini-ner", differing=0)),
    ]
    path.write_text(json.dumps(index), "utf-8")
    out = made(catalog, tmp_path, path)
    (board,) = (out / "en/boards").glob("*-long-int8.md")
    assert "−1.2 on mini-ner" in board.read_text("utf-8")
    task = page(out, "en/tasks/mini-ner.md")
    assert "What int8 costs: <b>reference:int8 −1.2 (−2.0 to −0.4; 1 seed)</b>" in task
    assert "The answers of the reference to every example (1): transformers." in task
    assert "reference:int8 −1.2" in page(out, "en/quality.md")
    assert "−1.2 至" not in page(out, "zh/tasks/mini-ner.md")
    assert "−2.0 至 −0.4" in page(out, "zh/tasks/mini-ner.md")
