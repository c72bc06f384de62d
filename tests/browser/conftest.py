"""The whole site, built from the real catalog, behind a server as it will be: compressed, on one host."""

import gzip
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from pyarrow import parquet

from catalog.load import load
from tests.published import explained_file, published_index

ROOT = Path(__file__).parents[2]
NASTY = """id: nasty-title
kind: paper
title: '<img src=x onerror="document.title=1"> [link](javascript:alert(1)) {{ 7*7 }}'
year: 2019
tags: [pretraining]
url: https://example.org/nasty
summary_en: '<script>document.title = "owned"</script> and **not bold**'
"""
ACCENTS = """id: accents
kind: article
title: Zürcher Straße, ein Café
year: 2019
tags: [explainer]
url: https://example.org/accents
"""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, in both languages, with the published records, two failures and two odd entries."""
    folder = tmp_path_factory.mktemp("site")
    entries, pages, site = folder / "entries", folder / "docs", folder / "site"
    shutil.copytree(ROOT / "catalog/entries", entries)
    (entries / "papers/nasty-title.yaml").write_text(NASTY, encoding="utf-8")
    (entries / "articles/accents.yaml").write_text(ACCENTS, encoding="utf-8")
    results = folder / "index.json"
    results.write_text(json.dumps(with_failures()), encoding="utf-8")
    vectors = with_vectors(entries, folder / "summaries.parquet")
    made = ("--results", results, "--explained", explained_file(), "--vectors", vectors)
    run("catalog", "build", "--entries", entries, *made, "--output", pages)
    for config, language, target in (("mkdocs.yml", "en", site), ("mkdocs.zh.yml", "zh", site / "zh")):
        own = folder / config
        own.write_text(
            f"INHERIT: {ROOT / config}\ndocs_dir: {pages / language}\nsite_dir: {target}\n"
            f"theme: {{custom_dir: {ROOT / 'docs/overrides'}}}\n"
        )
        run("mkdocs", "build", "--quiet", "--strict", "--config-file", own)
    return site


def with_vectors(entries: Path, path: Path) -> Path:
    """Vectors of the summaries as the harness would write them, from counts of pairs of letters."""
    texts = [entry.summary_en for entry in load(entries) if entry.summary_en]
    vectors = [[float(text.count(a + b)) for a in "aeiost" for b in "lmnrst"] for text in texts]
    table = pyarrow.table({"text": texts, "vector": vectors})
    parquet.write_table(table.replace_schema_metadata({"model": "minilm-l6"}), path)
    return path


def with_failures() -> dict[str, Any]:
    """The published records, and beside them one implementation that failed and one that was skipped."""
    index: dict[str, Any] = json.loads(published_index().read_text(encoding="utf-8"))
    index["against"] = differences(index["scores"])
    parity = next(r for r in index["records"] if r["kind"] == "parity" and r["implementation"]["name"] == "reference")
    for name, state, reason in (("broken", "failed", "out of memory"), ("absent", "skipped", "needs a checkout")):
        who = {"name": name, "catalog_id": None, "code": ""}
        index["records"].append({**parity, "implementation": who, "state": state, "reason": reason})
    return index


def differences(scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Paired differences as the harness would write them, without the minute that computing them takes."""
    main = [each for each in scores if each["main"] and each["split"] == "dev"]
    base = {(each["hardware"], each["task"]): each for each in main if each["implementation"] == "reference"}
    found = []
    for each in main:
        reference = base.get((each["hardware"], each["task"]))
        if reference is None or each is reference:
            continue
        value = each["mean"] - reference["mean"]
        same, tested = abs(value) < 1e-9, each["task"] == "stsb"
        names = ("hardware", "checkpoint", "implementation", "precision", "task", "metric", "n", "seeds")
        found.append({name: each[name] for name in names} | {
            **{"same_weights": True, "difference": value, "test": None, "answers": each["n"]},
            **{"low": value - 0.00075 if tested else None, "high": value + 0.00075 if tested else None},
            **{"differing": 0 if same else 3},
        })  # fmt: skip
    return found


def run(*arguments: object) -> None:
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


class Compressed(http.server.SimpleHTTPRequestHandler):
    """Sends text compressed, as hosts of static pages do."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        if path.suffix in (".html", ".css", ".js", ".json", ".svg", ".xml"):
            body = gzip.compress(body, 6)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="session")
def site(built: Path) -> Iterator[str]:
    """The address of the English home page, with a slash."""

    def handler(*arguments: Any) -> Compressed:
        return Compressed(*arguments, directory=str(built))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An English visitor's window."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def index(built: Path) -> dict[str, Any]:
    """The English search index."""
    read: dict[str, Any] = json.loads((built / "search/search_index.json").read_text(encoding="utf-8"))
    return read
