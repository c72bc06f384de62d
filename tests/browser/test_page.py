"""The page of the service in a real browser: comparing, searching, both languages, narrow windows, dark and light."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from reference import SentenceEncoder
from reference.serving import search, service
from reference.serving.store.disk import DiskStore
from tests.reference.serving.conftest import (  # noqa: F401 - fixtures
    NAME,
    Running,
    encoder,
    folder,
    serve,
)

TEXTS = ["a face", "he fed a bad cab.", "<b>head</b> & \"head\" 'bead'", "dab 世"]
Serve = Callable[..., Iterator[Running]]


@pytest.fixture
def start(encoder: SentenceEncoder, serve: Serve, tmp_path: Path) -> Iterator[Callable[..., Running]]:  # noqa: F811
    """A function that starts a service of the small encoder, with an empty store unless ``store`` is false."""
    store = DiskStore(tmp_path / "store", search.space_of(encoder, {"model": NAME}))
    started = []

    def begin(with_store: bool = True, key: str | None = None) -> Running:
        started.append(serve(service.build(encoder, NAME, store=store if with_store else None, key=key)))
        return next(started[-1])

    yield begin
    for each in started:
        assert next(each, None) is None
    store.close()


@pytest.fixture
def running(start: Callable[..., Running]) -> Running:
    """A service with the collections ``letters``, of TEXTS, and ``none``."""
    found = start()
    found.post("/collections", {"name": "letters"})
    found.post("/collections", {"name": "none"})
    metadata = [{"number": i, "new": i == 0} for i in range(4)]
    found.post("/collections/letters/add", {"texts": TEXTS, "ids": [*"0123"], "metadata": metadata})
    return found


@pytest.fixture
def window(page: Page, running: Running) -> Page:
    """The page, of which every request goes to the service, and which logs no error."""
    address = f"http://{running.address}/"

    def check(url: str) -> None:
        assert url.startswith((address, "data:")), url

    problems: list[str] = []
    page.on("request", lambda request: check(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(address)
    expect(page.locator("#model")).to_have_text("Model tiny, vectors of 24 numbers.")
    assert not problems
    return page


def compare(window: Page, first: str, second: str) -> None:
    window.get_by_label("First sentence").fill(first)
    window.get_by_label("Second sentence").fill(second)
    window.get_by_role("button", name="Compare").click()


def find(window: Page, query: str) -> None:
    window.get_by_label("Text to search for").fill(query)
    window.get_by_role("button", name="Search").click()


def test_two_sentences_are_compared_by_their_vectors_and_tokens(
    window: Page,
    encoder: SentenceEncoder,  # noqa: F811
) -> None:
    compare(window, "a face", "he fed a bad cab.")
    a, b = encoder.encode(["a face", "he fed a bad cab."])
    expect(window.locator("#similarity")).to_have_text(f"Similarity: {float(a @ b):.3f}")
    rows = window.locator("#matches table").nth(0).locator("tbody tr")
    expect(rows).to_have_count(2)
    assert rows.nth(1).locator("td").first.inner_text() == "face"
    compare(window, "a face", "a face")
    expect(window.locator("#similarity")).to_have_text("Similarity: 1.000")
    expect(rows.nth(1).locator("td").nth(1)).to_have_text("face")


def test_a_collection_is_searched_and_its_texts_are_no_html(window: Page) -> None:
    expect(window.get_by_role("combobox")).to_have_value("letters")
    assert "letters (4 texts)" in window.get_by_role("combobox").inner_text()
    window.get_by_label("Results").fill("3")
    find(window, TEXTS[2])
    items = window.locator("#results li")
    expect(items).to_have_count(3)
    texts = items.all_inner_texts()
    assert any(TEXTS[2] in text and "number: 2" in text for text in texts)
    assert window.locator("#results b").count() == 0
    window.get_by_role("combobox").select_option("none")
    find(window, "a")
    expect(window.locator("#found")).to_have_text("0 texts of none, the most similar first:")


def test_errors_are_shown(window: Page) -> None:
    compare(window, "a" * 100_001, "a")
    expect(window.locator("#similarity")).to_contain_text("at most 100000 are taken")
    expect(window.locator("#matches")).to_be_hidden()


def test_the_request_runs_as_curl_and_as_python(window: Page, running: Running, tmp_path: Path) -> None:
    window.get_by_label("Text to search for").fill('it\'s "bad" \\ $HOME 世 🍏')
    window.locator("#search-request summary").click()
    curl, python = window.locator("#search-request pre").all_inner_texts()
    done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True, timeout=60)
    assert '"results":[' in done.stdout
    assert "🍏" in curl
    (tmp_path / "asked.py").write_text(python, encoding="utf-8")
    script = subprocess.run(["python3", "-c", f"compile({python!r}, 'page', 'exec')"], check=False, timeout=60)
    assert script.returncode == 0
    assert f"http://{running.address}/collections/letters/search" in python


def test_the_page_is_in_chinese_for_chinese_readers(window: Page, browser: Browser, running: Running) -> None:
    compare(window, "a", "b")
    expect(window.locator("#similarity")).to_contain_text("Similarity")
    window.get_by_role("button", name="中文").click()
    assert window.locator("html").get_attribute("lang") == "zh-CN"
    expect(window.locator("h2").first).to_have_text("比较两个句子")
    expect(window.locator("#similarity")).to_contain_text("相似度：")
    expect(window.locator("#collection option").first).to_have_text("letters（4 段文本）")
    window.get_by_role("button", name="English").click()
    expect(window.locator("h2").first).to_have_text("Compare two sentences")
    context = browser.new_context(locale="zh-CN")
    chinese = context.new_page()
    chinese.goto(f"http://{running.address}/")
    expect(chinese.locator("h1")).to_have_text("句向量")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_is_accessible_and_fits(browser: Browser, running: Running, scheme: str, width: int) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 700},
        color_scheme=scheme,  # type: ignore[arg-type]
        locale="en-US",
        bypass_csp=True,  # for axe, which is put into the page
    )
    window = context.new_page()
    window.goto(f"http://{running.address}/")
    compare(window, "a face " + "abc" * 30, "he fed a bad cab.")
    expect(window.locator("#matches")).to_be_visible()
    find(window, "bead")
    expect(window.locator("#results li")).to_have_count(4)
    for details in window.locator("summary").all():
        details.click()
    found = Axe().run(window)
    assert found.violations_count == 0, found.generate_report()
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_a_key_is_asked_for_where_the_service_has_one(page: Page, start: Callable[..., Running]) -> None:
    page.goto(f"http://{start(with_store=False, key='secret').address}/")
    expect(page.locator("#model")).to_contain_text("the key is missing")
    page.get_by_label("Key of this service").fill("secret")
    page.get_by_role("button", name="Use it").click()
    expect(page.locator("#model")).to_have_text("Model tiny, vectors of 24 numbers.")
    expect(page.locator("#no-collection")).to_contain_text("--store")
    compare(page, "a", "a")
    expect(page.locator("#similarity")).to_have_text("Similarity: 1.000")
    assert "secret" not in page.content()


def test_without_a_collection_it_says_how_to_make_one(page: Page, start: Callable[..., Running]) -> None:
    page.goto(f"http://{start().address}/")
    expect(page.locator("#no-collection")).to_contain_text("There is no collection yet")
    for command in page.locator("#search-request pre").all_inner_texts()[::2]:
        subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
    page.reload()
    expect(page.get_by_role("combobox")).to_have_value("mine")
    find(page, "Where is my parcel?")
    expect(page.locator("#results li")).to_have_count(2)
