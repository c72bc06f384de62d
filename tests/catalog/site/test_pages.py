"""The pages that are written for MkDocs, and the published results on them."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("griffe")

from catalog.errors import BadInput
from catalog.links import Link
from catalog.load import ENTRIES, load
from catalog.site import family, leaderboard
from catalog.site.pages import build
from harness.records.record import Quality
from harness.results.index import scores as all_scores
from tests.catalog.conftest import Write
from tests.catalog.reported.test_tables import table
from tests.published import published_index

ROOT = Path(__file__).parents[3]
COMPARED = ("reference", "transformers")
NASTY = """'<img src=x onerror=alert(1)> **b** [l](javascript:alert(1)) "q" {{ 7 * 7 }} | `c`'"""


@pytest.fixture
def catalog(entries: Path, write: Write) -> Path:
    write("bert", title_zh="双向编码器", summary_en="Two ways at once.", summary_zh="同时看左右。", seed='"1.1"',
          language="[en]", added='"2026-11-22"')  # fmt: skip
    write("albert", arxiv='"1909.11942"', title="'ALBERT: A Lite BERT'", year="2019", relates_to="[bert]")
    write("child", arxiv='"2001.00001"', title="'Child: small'", year="2020", relates_to="[albert]")
    write("study", arxiv='"2002.00001"', title="A study of it all", year="2020", relates_to="[bert]", tags="[analysis]")
    write("nasty", arxiv='"1909.11740"', title=NASTY, authors=f"[{NASTY}]", summary_en=NASTY, year="2019",
          relates_to="[bert]", venue=NASTY)  # fmt: skip
    write("bert-atlas", "repository", implements="[bert]", url="https://github.com/a/atlas", license="none-found")
    return entries


def made(catalog: Path, tmp_path: Path, results: Path | None = None, links: dict[str, Link] | None = None) -> Path:
    results = results or written(tmp_path, published())
    build(load(catalog), results, ROOT / "docs", tmp_path / "out", "https://example.org/atlas", links)
    return tmp_path / "out"


EMBEDDED = ("mini-ner", "mini-sentiment", "mini-similarity")


def published() -> list[dict[str, Any]]:
    """The published records of two implementations on one machine, from the same weights, on the embedded tasks.

    In float32; of what was measured several times, the last.
    """
    records = json.loads(published_index().read_text("utf-8"))["records"]
    scored = {r["hardware"] for r in records if r["kind"] == "quality" and r["task"]["name"] in EMBEDDED}
    first = next(
        r
        for r in records
        if r["kind"] == "parity" and r["implementation"]["name"] == "reference" and r["hardware"] in scored
    )
    same = ("hardware", "model")
    found = [r for r in records if r["state"] == "ok" and all(r[name] == first[name] for name in same)]
    quality = [r for r in found if r["kind"] == "quality" and r["task"]["name"] in EMBEDDED]
    others = [*{r["implementation"]["name"]: r for r in found if r["kind"] == "parity"}.values()]
    timed = {
        r["shape"]["name"]: r
        for r in found
        if r["kind"] == "speed"
        and r["shape"]["name"] in ("1 x 128", "8 x 128", *EMBEDDED)
        and r["precision"]["resolved"] == "fp32"
        and r["implementations"].keys() >= set(COMPARED)
    }
    for record in timed.values():
        record["implementations"] = {name: record["implementations"][name] for name in COMPARED}
    return [r for r in quality + others if r["implementation"]["name"] in COMPARED] + [*timed.values()]


def written(tmp_path: Path, records: list[dict[str, Any]]) -> Path:
    path = tmp_path / "index.json"
    runs = [
        {name: value for name, value in r.items() if name not in ("kind", "hardware", "model")}
        for r in records
        if r["kind"] == "quality"
    ]
    scores = all_scores([Quality(**run) for run in runs])
    path.write_text(json.dumps({"schema": 2, "records": records, "scores": scores}), "utf-8")
    return path


def board_of(tmp_path: Path, records: list[dict[str, Any]]) -> leaderboard.Board:
    path = written(tmp_path, records)
    (board,) = leaderboard.boards(leaderboard.read_index(path), path)
    return board


def of(records: list[dict[str, Any]], kind: str, name: str = "transformers") -> list[dict[str, Any]]:
    """The records of one kind that are of this implementation alone."""
    return [r for r in records if r["kind"] == kind and r["implementation"]["name"] == name]


def page(out: Path, name: str) -> str:
    return (out / name).read_text(encoding="utf-8")


class Tags(HTMLParser):
    """The tags and attributes of a page as a browser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_both_languages_have_the_same_pages(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    english, chinese = ({str(p.relative_to(out / x)) for p in (out / x).rglob("*.md")} for x in ("en", "zh"))
    assert english == chinese
    assert {"index.md", "catalog.md", "entries/bert.md", "tags/pretraining.md", "api/reference.md"} <= english


def test_an_entry_in_each_language(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    english, chinese = page(out, "en/entries/bert.md"), page(out, "zh/entries/bert.md")
    assert "\n# Masked words, a study\n" in english
    assert "\n# 双向编码器\n" in chinese
    for text in (english, chinese):
        assert "Two ways at once." in text
        assert "同时看左右。" in text
        assert "@misc{bert," in text
        assert 'href="https://arxiv.org/abs/1810.04805"' in text
        assert "sources" not in text
    assert english.index("Two ways") < english.index("同时看")
    assert chinese.index("同时看", 300) < chinese.index("Two ways", 300)


def test_an_entry_is_found_by_what_others_call_it(catalog: Path, write: Write, tmp_path: Path) -> None:
    write("bert", doi="10.18653/v1/N19-1423", code="[https://github.com/Google-Research/BERT/tree/master]")
    write(
        "weights", "model", title="Weights", url="https://hf.co/someone/bert-weights/tree/main", authors="[Ana Núñez]"
    )
    write("glue", "dataset", title="命名實體", url="https://huggingface.co/datasets/nyu-mll/glue")
    out = made(catalog, tmp_path)
    for language in ("en", "zh"):
        for name, found in {
            "bert": ("1810.04805", "10.18653/v1/N19-1423", "n19-1423", "google-research/bert", "googleresearchbert"),
            "weights": ("someone/bert-weights", "nunez"),
            "glue": ("nyu-mll/glue", "命名实体"),
            "bert-atlas": ("a/atlas",),
        }.items():
            entry = page(out, f"{language}/entries/{name}.md")
            data = json.loads(page(out, f"{language}/assets/entries.js").removeprefix("window.CATALOG = "))
            hidden = entry.partition('<p class="sr">')[2].partition("</p>")[0].split()
            (row,) = (each for each in data["entries"] if each["id"] == name)
            assert set(found) <= set(hidden), name
            assert set(found) <= set(row["words"].split()), name


def test_relations_lead_both_ways(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    assert 'href="albert.html"' in page(out, "en/entries/bert.md")
    assert 'href="bert.html"' in page(out, "en/entries/albert.md")
    assert 'href="bert-atlas.html"' in page(out, "en/entries/bert.md")


def test_reported_results_are_on_the_pages_of_model_and_data_set(catalog: Path, write: Write, tmp_path: Path) -> None:
    splits = "[dev_matched, test_matched]"
    write("mnli", "dataset", title="MNLI", title_zh="多体裁推理", url="https://example.org/mnli", splits=splits)
    nasty = {"model": NASTY, "source": NASTY, "condition": NASTY}
    tables = table({}, {"split": "test_matched", "value": "84.6"}, **nasty)
    write("bert", reported=tables + table({"value": "83.9"}, seen="https://example.org/?a=b&c", **nasty))
    out = made(catalog, tmp_path)
    for name in ("en/entries/bert.md", "zh/entries/bert.md", "en/entries/mnli.md", "zh/entries/mnli.md"):
        text = page(out, name)
        assert "<img" not in text
        assert "https://github.com/a/b/blob/0123abc/README.md?plain=1#L7" in text
        assert text.count('scope="rowgroup"') == 2, "dev and test are apart"
        assert text.index("84.4") < text.index("83.9") < text.index("84.6")
    assert page(out, "en/entries/mnli.md").count("sources disagree") == 2
    assert "来源不一致" in page(out, "zh/entries/mnli.md")
    assert '<a href="mnli.html">多体裁推理</a>，dev_matched，准确率' in page(out, "zh/entries/bert.md")
    assert '<a href="bert.html">' in page(out, "en/entries/mnli.md")
    assert json.loads(page(out, "en/results.json"))["count"] == 3
    assert (out / "en/results.csv").exists()
    assert (out / "en/results.parquet").exists()
    assert "figures" in json.loads(page(out, "en/measured.json")), "ours have files with other names"


def test_what_entries_say_is_shown_as_text(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    markdown = pytest.importorskip("markdown")
    for path in out.rglob("*.md"):
        front, _, body = path.read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
        assert "<img" not in front
        rendered = Tags(markdown.markdown(body, extensions=["attr_list", "md_in_html", "tables"]))
        for tag, attributes in rendered.seen:
            assert tag != "img", path
            assert not any(name.startswith("on") for name in attributes), path
            assert not (attributes.get("href") or "").lower().startswith("javascript"), path
    assert "49" not in page(out, "en/entries/nasty.md").split("\n---\n")[0]


def test_a_second_build_leaves_nothing_of_the_first(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    (catalog / "papers" / "study.yaml").unlink()
    made(catalog, tmp_path)
    assert not (out / "en/entries/study.md").exists()


def test_without_results_the_leaderboard_says_so(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path, tmp_path / "absent.json")
    assert "Nothing is published yet." in page(out, "en/leaderboard.md")
    assert "目前还没有发布任何结果。" in page(out, "zh/leaderboard.md")
    assert "No measurement is published yet" in page(out, "en/index.md")


def test_an_empty_index_is_no_result(catalog: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    index.write_text('{"schema": 2, "records": []}')
    assert "Nothing is published yet." in page(made(catalog, tmp_path, index), "en/leaderboard.md")


def test_results_join_the_entry_by_its_id(catalog: Path, tmp_path: Path) -> None:
    records = published()
    out = made(catalog, tmp_path, written(tmp_path, records))
    entry, board = page(out, "en/entries/bert-atlas.md"), page(out, "en/leaderboard.md")
    assert "Measured here" in entry
    assert '<a href="../leaderboard.html">1.00×</a>' in entry
    assert 'href="entries/bert-atlas.html">Its entry</a>' in board
    assert records[0]["machine"]["cpu"] in board
    assert max(record["started"] for record in records)[:10] in board
    assert "Measured here" not in page(out, "en/entries/albert.md")


def test_every_record_is_named_with_its_commit_and_command(catalog: Path, tmp_path: Path) -> None:
    records = published()
    records[0] |= {"state": "failed", "reason": "the disk was full", "command": "python -m harness run --task <x>.yaml"}
    out = made(catalog, tmp_path, written(tmp_path, records))
    text = page(out, "en/records.md")
    rows = [line for line in text.splitlines() if line.startswith('<tr id="k-')]
    assert len(rows) == len(records)
    for each in records:
        (row,) = (row for row in rows if f"*-{each['key'][:12]}.json" in row)
        assert html.escape(each["command"]) in row
        assert f"<td>{each['commit'][:12]}</td>" in row
        assert f"<td>{each['seed'] if each['kind'] == 'quality' else '–'}</td>" in row
        assert ("<small>failed</small>" in row) == (each["state"] == "failed")
    assert "出自" in page(out, "zh/records.md")


def test_boards_keep_what_was_recorded(tmp_path: Path) -> None:
    records = published()
    board = board_of(tmp_path, records)
    row = next(row for row in board.rows if row.implementation == "reference")
    quality = next(r for r in of(records, "quality", "reference") if r["task"]["name"] == "mini-sentiment")
    score = row.scores["mini-sentiment"]
    assert (score.value, score.low, score.high) == tuple(quality["metrics"][0][k] for k in ("value", "low", "high"))
    assert set(row.speeds) == {r["shape"]["name"] for r in records if r["kind"] == "speed"}


def test_the_fastest_comes_first(tmp_path: Path) -> None:
    records = published()
    (timed,) = (r for r in records if r["kind"] == "speed" and r["shape"]["name"] == "8 x 128")
    for fast in COMPARED:
        for name, figures in timed["implementations"].items():
            figures["sequences_per_second"] = 200.0 if name == fast else 100.0
        board = board_of(tmp_path, records)
        assert board.throughput is not None
        assert (board.throughput.name, board.rows[0].implementation) == ("8 x 128", fast)


@pytest.mark.parametrize(("before", "after", "shown"), [(False, True, 0), (True, True, 1), (True, False, 1)])
def test_a_doubtful_timing_takes_the_place_of_a_doubtful_one_alone(
    before: bool, after: bool, shown: int, tmp_path: Path
) -> None:
    records = published()
    timed = next(r for r in records if r["kind"] == "speed" and r["shape"]["name"] == "8 x 128")
    reference = timed["implementations"]["reference"]
    timed["load"]["noisy"] = before
    later = {**timed, "started": "2999-01-01T00:00:00+00:00", "load": {**timed["load"], "noisy": after}}
    later["implementations"] = {"reference": {**reference, "sequences_per_second": 12345.0}}
    board = board_of(tmp_path, [*records, later])
    row = next(row for row in board.rows if row.implementation == "reference")
    assert row.speeds["8 x 128"].sequences_per_second == (reference["sequences_per_second"], 12345.0)[shown]


def test_a_task_that_was_not_measured_has_no_number(tmp_path: Path) -> None:
    records = published()
    dropped = next(r for r in of(records, "quality") if "ner" in r["task"]["name"])
    records.remove(dropped)
    row = next(row for row in board_of(tmp_path, records).rows if row.implementation == "transformers")
    assert set(row.scores) == {r["task"]["name"] for r in of(records, "quality")}


def test_a_run_without_a_result_says_why(catalog: Path, tmp_path: Path) -> None:
    """One port is skipped altogether; transformers differs, fails on a task, and dies while it is timed."""
    records = published()
    (parity,), failed = of(records, "parity"), of(records, "quality")[0]
    port = {**parity["implementation"], "name": "port", "catalog_id": "bert"}
    skipped = {"state": "skipped", "reason": "needs a checkout of <b>x</b>", "differences": {}, "verdict": ""}
    records.append({**parity, **skipped, "implementation": port})
    parity |= {"verdict": "differs", "diagnosis": {"sentence": "pre-norm (2.5); <b> unheard of"}}
    failed |= {"state": "failed", "reason": "out of memory", "metrics": []}
    last = max((r for r in records if r["kind"] == "speed"), key=lambda r: str(r["started"]))
    last["implementations"]["transformers"] = {"state": "failed", "reason": "killed"}
    out = made(catalog, tmp_path, written(tmp_path, records))
    text, chinese = page(out, "en/leaderboard.md"), page(out, "zh/leaderboard.md")
    assert "Left out, since they compute something else than BERT: transformers." in text
    assert "skipped: needs a checkout of &lt;b&gt;x&lt;/b&gt;" in text
    assert "跳过：needs a checkout" in chinese
    assert f"<td>{failed['task']['name']}</td><td>failed: out of memory</td>" in text
    assert "<td>timing</td><td>failed: killed</td>" in text
    assert "needs a checkout of" in page(out, "en/entries/bert.md")
    lines = page(out, "en/catalog.md").splitlines()
    assert "data-measured" not in next(line for line in lines if '"entries/bert.html"' in line)
    board = board_of(tmp_path, records)
    differing = next(row for row in board.rows if row.implementation == "transformers")
    assert failed["task"]["name"] not in differing.scores
    assert [row.implementation for row in board.rows][-1] == "port"


def test_an_entry_says_how_its_implementation_trains(catalog: Path, tmp_path: Path) -> None:
    records = published()
    (parity,) = of(records, "parity")
    gradients = {"verdict": "exact", "differences": {"fp32": {"max": 2e-6}}, "diagnosis": {}}
    weights = {"verdict": "differs", "optimizer": "own", "steps": 20, "diagnosis": {"sentence": "no bias correction"}}
    parity["training"] = {"state": "ok", "gradients": gradients, "weights": weights}
    for each in (parity, *of(records, "quality")):
        each["implementation"]["catalog_id"] = "bert"
    out = made(catalog, tmp_path, written(tmp_path, records))
    text, chinese = page(out, "en/entries/bert.md"), page(out, "zh/entries/bert.md")
    assert "gradients: exact" in text
    assert "weights after 20 steps: differs <small>own optimizer</small><br><small>no bias correction</small>" in text
    assert "训练 20 步后的权重：有差异 <small>自带优化器</small><br><small>无偏差校正</small>" in chinese


@pytest.mark.parametrize("year", [2020, 2999])
def test_a_run_that_failed_does_not_take_back_one_that_went_well(year: int, tmp_path: Path) -> None:
    records = published()
    tried = {"state": "failed", "reason": "out of memory", "started": f"{year}-01-01T00:00:00+00:00"}
    failed = [{**r, **tried} for kind in ("parity", "quality") for r in of(records, kind)]
    board = board_of(tmp_path, [*records, *failed])
    assert board.gaps == []
    assert [row.scores for row in board.rows] == [row.scores for row in board_of(tmp_path, records).rows]


def with_seeds(records: list[dict[str, Any]], values: dict[int, float], **fields: Any) -> list[dict[str, Any]]:
    """The records, but transformers' run on mini-sentiment in their middle is one of each seed, with this accuracy."""
    (run,) = (r for r in of(records, "quality") if r["task"]["name"] == "mini-sentiment")
    interval = {"low": 0.6, "high": 0.8, "baseline": 0.5}
    runs = [
        {**run, **fields, "seed": seed, "metrics": [{**run["metrics"][0], **interval, "value": value}]}
        for seed, value in values.items()
    ]
    return [r for r in records if r is not run] + runs


def test_several_seeds_are_a_mean_a_deviation_and_a_range(catalog: Path, tmp_path: Path) -> None:
    records = with_seeds(published(), {1: 0.70, 2: 0.72, 3: 0.5, 4: 0.74})
    lost = {**records[-1], "seed": 5, "state": "failed", "reason": "killed", "metrics": []}
    path = written(tmp_path, [*records, lost])
    (board,) = leaderboard.boards(leaderboard.read_index(path), path)
    score = next(row for row in board.rows if row.implementation == "transformers").scores["mini-sentiment"]
    assert (round(score.value, 3), round(score.deviation or 0, 3)) == (0.72, 0.02)
    assert (score.tried, score.counted, score.collapsed, score.failed) == (5, 3, [3], [5])
    out = made(catalog, tmp_path, path)
    text, chinese = page(out, "en/tasks/mini-sentiment.md"), page(out, "zh/tasks/mini-sentiment.md")
    assert "0.720<br><small>± 0.020</small>" in text
    assert "<small>1 collapsed</small>" in text
    assert "<small>1 个崩溃</small>" in chinese
    assert "killed" in page(out, "en/leaderboard.md"), "the reason is among the gaps"


def test_a_published_figure_links_to_its_source(catalog: Path, tmp_path: Path) -> None:
    path = written(tmp_path, published())
    index = json.loads(path.read_text("utf-8"))
    (score,) = (
        each
        for each in index["scores"]
        if each["main"] and (each["implementation"], each["task"]) == ("transformers", "mini-ner")
    )
    other = {"value": 0.912, "source": '"one" run'}
    score["published"] = [other | {"url": "https://example.org/paper"}, other | {"url": "javascript:alert(1)"}]
    path.write_text(json.dumps(index), "utf-8")
    text = page(made(catalog, tmp_path, path), "en/tasks/mini-ner.md")
    assert text.count("published, not measured here") == 1
    assert '0.912</td><td colspan="2"><a href="https://example.org/paper" rel="noopener">&#34;one&#34; run</a>' in text


def test_other_splits_and_contexts_have_columns_of_their_own(tmp_path: Path) -> None:
    records = published()
    run = next(r for r in of(records, "quality") if r["task"]["name"] == "mini-ner")
    run["metrics"].append({**run["metrics"][0], "split": "test", "value": 0.25})
    records.append({**run, "task": {**run["task"], "context": "document"}})
    board = board_of(tmp_path, records)
    columns = [task for task in board.tasks if "ner" in task]
    assert columns == ["mini-ner", "mini-ner, document", "mini-ner, document, test", "mini-ner, test"]
    assert (
        next(row for row in board.rows if row.implementation == "transformers").scores["mini-ner, test"].value == 0.25
    )


def test_timing_that_failed_is_forgotten_once_it_went_well(tmp_path: Path) -> None:
    records = published()
    timed = next(r for r in records if r["kind"] == "speed")
    figures = {"transformers": {"state": "failed", "reason": "killed"}}
    failed = {**timed, "started": "2020-01-01T00:00:00+00:00", "implementations": figures}
    assert board_of(tmp_path, [*records, failed]).gaps == []


def test_what_was_timed_in_another_precision_is_not_called_exact(tmp_path: Path) -> None:
    records = published()
    timed = next(r for r in records if r["kind"] == "speed")
    lower = {name: {**each, "precision": "bf16"} for name, each in timed["implementations"].items()}
    records.append({**timed, "precision": {"asked": "bf16", "resolved": "bf16"}, "implementations": lower})
    rows = {
        (row.computes, row.verdict) for row in board_of(tmp_path, records).rows if row.implementation == "reference"
    }
    assert rows == {("fp32", "exact"), ("bf16", None)}


def test_a_dead_link_says_so_beside_its_archived_copy(catalog: Path, write: Write, tmp_path: Path) -> None:
    write("post", "article", url="https://example.org/gone", archived_url="https://web.archive.org/web/2019/x")
    write("fine", "article", url="https://example.org/fine", title="Another walk")
    links = {
        "https://example.org/gone": Link("dead", "404", "2026-11-01", ["2026-11-01", "2026-11-08", "2026-11-15"]),
        "https://example.org/fine": Link("unknown", "timeout", "2026-11-01"),
    }
    out = made(catalog, tmp_path, links=links)
    dead = '<a href="https://example.org/gone" rel="noopener" class="dead">example.org</a><span class="since">'
    copy = '</span><a href="https://web.archive.org/web/2019/x" rel="noopener">'
    assert f"{dead}dead since 2026-11-01{copy}archived copy</a>" in page(out, "en/entries/post.md")
    assert f"{dead}失效于 2026-11-01{copy}存档</a>" in page(out, "zh/entries/post.md")
    assert "since" not in page(out, "en/entries/fine.md")


def changed(tmp_path: Path, **values: Any) -> Path:
    records = published()
    records[0] |= values
    return written(tmp_path, records)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 1, "records": []}', "schema 1; this version of BERT Atlas reads schema 2"),
        ("[]", "not an index of results"),
        ("{", "not an index of results"),
        ('{"schema": 2, "records": [{"schema": 2, "kind": "rumour"}]}', "'rumour'"),
        ('{"schema": 2, "records": [{"schema": 7, "kind": "speed"}]}', "schema 7"),
        ('{"schema": 2, "records": [{"schema": 2, "kind": "speed", "state": "ok"}]}', "lacks or misuses 'hardware'"),
        ('{"schema": 2, "records": [{"schema": 2, "kind": "speed", "state": "fine"}]}', "in state 'fine'"),
        (
            '{"schema": 2, "records": [{"schema": 2, "kind": "quality", "state": "ok", "metrics": [{}]}]}',
            "has runs and no scores",
        ),
        (
            '{"schema": 2, "records": [], "scores": [{"hardware": "x"}]}',
            "lacks or misuses 'checkpoint'",
        ),
    ],
)
def test_a_bad_index_is_refused(text: str, message: str, catalog: Path, tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=re.escape(message)):
        made(catalog, tmp_path, path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(number: float, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a number that a record may hold"):
        leaderboard.read_index(changed(tmp_path, seconds=number))


def test_infinity_in_disguise_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, seconds="BIG")
    path.write_text(path.read_text().replace('"BIG"', "1e999"))
    with pytest.raises(BadInput, match="not finite"):
        leaderboard.read_index(path)


def test_the_family_is_a_tree_of_models(catalog: Path, tmp_path: Path) -> None:
    from catalog.site.view import fields

    listed = [fields(entry) for entry in load(catalog)]
    root = family.family(listed, "bert")
    assert root is not None
    assert {child.entry["id"] for child in root.children} == {"albert", "nasty"}
    albert = next(child for child in root.children if child.entry["id"] == "albert")
    assert [child.entry["id"] for child in albert.children] == ["child"]
    out = made(catalog, tmp_path)
    for name in ("family", "family-list"):
        assert 'href="entries/child.html"' in page(out, f"en/{name}.md")
    assert family.family(listed, "absent") is None


def test_a_link_says_what_it_is_on_both_pages(entries: Path, write: Write, tmp_path: Path) -> None:
    write("bert")
    write("small", title="Small", arxiv='"1901.00001"', tags="[distillation]", distils="[bert]")
    write("study", title="Study", arxiv='"1901.00002"', tags="[analysis]", analyses="[bert]")
    out = made(entries, tmp_path)
    for file, titles in {"small": ["Distils"], "study": ["Analyses"], "bert": ["Distilled by", "Analysed in"]}.items():
        for title in titles:
            assert f">{title}</h2>" in page(out, f"en/entries/{file}.md"), (file, title)
    assert ">蒸馏它的工作</h2>" in page(out, "zh/entries/bert.md")


def test_a_parent_is_what_an_entry_builds_on_before_what_it_relates_to(entries: Path, write: Write) -> None:
    from catalog.site.view import fields

    write("bert")
    write("other", title="Other", arxiv='"1901.00001"', builds_on="[bert]")
    write("child", title="Child", arxiv='"1901.00002"', relates_to="[bert]", compresses="[other]")
    root = family.family([fields(entry) for entry in load(entries)], "bert")
    assert root is not None
    assert [[child.entry["id"] for child in node.children] for node in (root, root.children[0])] == [
        ["other"],
        ["child"],
    ]


def test_a_model_has_a_table_of_its_size_and_training(entries: Path, write: Write, tmp_path: Path) -> None:
    source = "google-research/bert@eedf571 README.md:350 (layers, parameters, context length, training data)"
    facts = {
        "parameters": "110000000",
        "layers": "12",
        "context_length": "512",
        "training_data": "[Wikipedia, <b>x</b>]",
    }
    write("bert", "model", **facts, for_language="[nl]", sources=f"['{source}']")
    out = made(entries, tmp_path)
    shown = page(out, "en/entries/bert.md")
    for text in ("110 million", "512 tokens", "Wikipedia; &lt;b&gt;x&lt;/b&gt;", "Dutch"):
        assert text in shown
    assert "1.1 亿" in page(out, "zh/entries/bert.md")
    assert "Dutch" in page(out, "en/languages.md")


def test_the_glossary_is_a_page(entries: Path, write: Write, tmp_path: Path) -> None:
    write("bert")
    assert "| token | 词元 |" in page(made(entries, tmp_path), "zh/glossary.md")


def test_a_member_says_by_which_link_it_came_and_small_branches_are_one(entries: Path, write: Write) -> None:
    from catalog.site.view import fields

    write("bert")
    for number, (link, tag) in enumerate(
        [("distils", "distillation"), ("builds_on", "legal"), ("compresses", "pruning")]
    ):
        write(
            f"m{number}",
            arxiv=f'"1901.{number:05}"',
            title=f"M{number}",
            year="2019",
            tags=f"[{tag}]",
            **{link: "[bert]"},
        )
    for number in range(3):
        write(f"p{number}", arxiv=f'"2002.{number:05}"', title=f"P{number}", year="2020", builds_on="[bert]")
    root = family.family([fields(entry) for entry in load(entries)], "bert")
    assert root is not None
    big, others = family.branches(root)
    assert (big.tag, len(big.nodes), big.years) == ("pretraining", 3, (2020, 2020))
    assert {node.entry["id"]: node.by for node in others.nodes} == {
        "m0": "distils",
        "m1": "builds_on",
        "m2": "compresses",
    }
    picture = family.draw(root, others, "{}.html".format)
    assert picture.count('<g class="member"') == 3
    assert picture.count('class="edge by-distils"') == 1


@pytest.mark.slow
def test_pages_have_a_bound_with_a_fifth_more_entries(tmp_path: Path) -> None:
    """Rendered, a page has 30 kB more, and may have 200 kB; those of the API are exempt."""
    folder = tmp_path / "entries"
    for number, file in enumerate(sorted(ENTRIES.glob("*/*.yaml"))):
        if number % 5:
            (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
            (folder / file.parent.name / file.name).write_text(file.read_text("utf-8"), "utf-8")
            continue
        copy = folder / file.parent.name / f"{file.stem}-copy.yaml"
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text("utf-8")
        copy.with_name(file.name).write_text(text, "utf-8")
        copy.write_text(re.sub(r"(?m)^id: .*$", f"id: {copy.stem}", re.sub(r"(?m)^seed: .*\n", "", text)), "utf-8")
    out = made(folder, tmp_path)
    sizes = {path: path.stat().st_size for path in out.rglob("*.md") if path.parent.name != "api"}
    assert len(list((out / "en/entries").glob("*.md"))) >= 1.2 * len(list(ENTRIES.glob("*/*.yaml")))
    largest = max(sizes, key=lambda path: sizes[path])
    assert sizes[largest] <= 170_000, largest


def test_each_tag_has_a_feed_that_its_page_names(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    assert "https://example.org/atlas/zh/tags/pretraining.html" in page(out, "zh/tags/pretraining.xml")
    assert 'feed: "tags/pretraining.xml"' in page(out, "en/tags/pretraining.md")


def test_a_circle_of_relations_does_not_hang(entries: Path, write: Write) -> None:
    from catalog.site.view import fields

    write("bert", relates_to="[one]")
    write("one", arxiv='"1901.00001"', year="2019", relates_to="[two]")
    write("two", arxiv='"1901.00002"', year="2019", relates_to="[one, bert]")
    root = family.family([fields(entry) for entry in load(entries)], "bert")
    assert root is not None
    assert family.size(root) == 3


def test_the_2018_list_stands_whole_and_leads_to_entries() -> None:
    import yaml

    from catalog.site.pages import LIST_2018

    lines = [line for section in yaml.safe_load(LIST_2018.read_text("utf-8")) for line in section["lines"]]
    assert len(lines) == 23
    seeds = {entry.seed for entry in load() if entry.seed}
    assert {line["number"] for line in lines} == seeds


@pytest.mark.parametrize("out", ["docs", "docs/en", "."])
def test_what_is_built_never_takes_the_place_of_what_was_written(out: str, catalog: Path, tmp_path: Path) -> None:
    page = tmp_path / "docs/en/page.md"
    page.parent.mkdir(parents=True)
    page.write_text("written")
    with pytest.raises(BadInput, match="overlap"):
        build(load(catalog), published_index(), tmp_path / "docs", tmp_path / out, "https://example.org/")
    assert page.read_text() == "written"


def test_a_missing_docs_folder_is_named(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--docs"):
        build(load(catalog), published_index(), tmp_path / "none", tmp_path / "out", "https://example.org/")


def test_a_flag_is_shown_with_its_split(catalog: Path, tmp_path: Path) -> None:
    records = [r for r in published() if r["kind"] != "quality" or r["task"]["name"] == "mini-sentiment"]
    for each in records:
        if each["kind"] == "quality":
            each["flags"] = [{"split": "dev", "text": "odd"}, {"split": None, "text": "out of memory once"}]
    text = page(made(catalog, tmp_path, written(tmp_path, records)), "en/tasks/mini-sentiment.md")
    assert "<li>dev: odd (" in text
    assert "<li>out of memory once (" in text
