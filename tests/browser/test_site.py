"""The site in a real browser: what a visitor can find, use and read, in both languages."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from catalog.folding import fold

ROOT = Path(__file__).parents[2]
PAGES = (
    *("index.html", "catalog.html", "papers.html", "tags.html", "timeline.html", "list-2018.html", "family.html"),
    *(
        "leaderboard.html",
        "quality.html",
        "training.html",
        "tasks/stsb.html",
        "records.html",
        "method.html",
        "contribute.html",
        "api/reference.html",
        "entries/bert.html",
        "step-by-step.html",
        "reading-path.html",
        "recent.html",
        "years/2019.html",
        "reported/bert.html",
        "family-list.html",
    ),
)
# Bytes of a page and of the search's index, which the theme loads in the background.
SIZES = """() => {
  const found = [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]
  const sum = (chosen) => chosen.map(each => each.encodedBodySize).reduce((a, b) => a + b, 0)
  const index = (each) => each.name.endsWith('/search_index.json')
  return [sum(found.filter(each => !index(each))), sum(found.filter(index))]
}"""
SHIFT = """() => new Promise(done => {
  let sum = 0
  new PerformanceObserver(list => { for (const each of list.getEntries()) sum += each.value })
    .observe({type: 'layout-shift', buffered: true})
  setTimeout(() => done(sum), 300)
})"""


def search(page: Page, word: str) -> list[str]:
    """The titles that the site's search finds; typed, since it listens to keys."""
    page.wait_for_load_state("networkidle")
    page.locator(".md-search__input").click()
    page.keyboard.type(word)
    page.keyboard.press("End")  # Chinese is inserted without the key events that the search listens to
    page.locator(".md-search-result__item").first.wait_for(timeout=20_000)
    return page.locator(".md-search-result__item h1").all_inner_texts()


# --- searching ---


def test_the_index_holds_words_of_chinese(index: dict[str, Any]) -> None:
    assert any("\u200b" in each["text"] for each in index["docs"]), "jieba is not installed"


@pytest.mark.parametrize("home", ["index.html", "zh/index.html"])
@pytest.mark.parametrize("word", ["distillation", "蒸馏", "multilingual", "命名实体识别"])
def test_search_finds_words_of_both_languages(page: Page, site: str, home: str, word: str) -> None:
    page.goto(site + home)
    assert len(search(page, word)) >= 2


def test_search_leads_to_the_entry(page: Page, site: str) -> None:
    page.goto(site)
    search(page, "ModernBERT")
    page.keyboard.press("Enter")
    page.wait_for_url("**/entries/*modernbert*")


BERT = ("1810.04805", "10.18653/v1/N19-1423", "N19-1423", "https://arxiv.org/pdf/1810.04805v2.pdf?context=cs")
BERT += ("https://doi.org/10.18653/V1/n19-1423", "arXiv:1810.04805", "https://aclanthology.org/N19-1423/")
ENTRIES = {
    **dict.fromkeys(BERT, "bert"),
    "1907.11692": "roberta",
    "https://jalammar.github.io/illustrated-bert/?utm_source=x": "illustrated-bert",
    "google-research/bert": "google-research-bert",
    "https://github.com/google-research/bert.git": "google-research-bert",
    "git@github.com:google-research/bert.git": "google-research-bert",
    "https://huggingface.co/google-bert/bert-base-uncased/tree/main": "bert-base-uncased",
}


@pytest.mark.parametrize("home", ["index.html", "zh/index.html"])
@pytest.mark.parametrize("name", ENTRIES)
def test_an_identifier_finds_its_entry_first(page: Page, site: str, home: str, name: str) -> None:
    page.goto(site + home)
    search(page, name)
    first = page.locator(".md-search-result__item a").first  # the list changes with each letter that is typed
    expect(first).to_have_attribute("href", re.compile(rf"/entries/{ENTRIES[name]}\.html"), timeout=20_000)


@pytest.mark.parametrize("home", ["index.html", "zh/index.html"])
@pytest.mark.parametrize(
    ("asked", "plain"),
    [
        ("ＢＥＲＴ", "BERT"),
        ("命名實體識別", "命名实体识别"),
        ("知識蒸餾", "知识蒸馏"),
        ("Cafe", "Café"),
        ("情感分析", "情感分析"),
    ],
)
def test_search_compares_width_accents_and_traditional_characters_alike(
    page: Page, site: str, home: str, asked: str, plain: str
) -> None:
    page.goto(site + home)
    one = search(page, asked)
    page.reload()
    assert one == search(page, plain) != []


@pytest.mark.parametrize("word", ["pretraining", "finetuning"])
def test_words_are_found_without_their_hyphen(page: Page, site: str, word: str) -> None:
    page.goto(site)
    assert len(search(page, word)) >= 5


def test_accents_are_found_with_and_without(page: Page, site: str) -> None:
    for asked in ("Zürcher Straße", "zurcher strasse", "ZU\u0308RCHER"):
        page.goto(site)
        assert any("Zürcher" in title for title in search(page, asked)), asked
        page.goto(site + "catalog.html")
        page.locator("[name=words]").fill(asked)
        assert shown(page) == 1, asked


def test_the_filter_finds_identifiers(page: Page, site: str) -> None:
    page.goto(site + "catalog.html")
    for name in ENTRIES:
        page.locator("[name=words]").fill(name)
        found = page.locator("#found a").evaluate_all("all => all.map(each => each.href)")
        assert any(f"/entries/{ENTRIES[name]}.html" in address for address in found), (name, found)
    page.locator("[name=words]").fill("命名實體識別 ＢＥＲＴ")
    traditional = shown(page)
    page.locator("[name=words]").fill("命名实体识别 bert")
    assert shown(page) == traditional > 1


def test_the_browser_folds_letters_as_the_build_does(page: Page, site: str, index: dict[str, Any]) -> None:
    texts = [each["title"] for each in index["docs"]] + ["Ｎúñez ﬁne ß Łódź 命名實體 が각 क्षि می‌شود ½ İI"]
    page.goto(site)
    assert page.evaluate("texts => texts.map(fold)", texts) == [fold(text) for text in texts]
    assert page.evaluate("SEPARATOR.source") == index["config"]["separator"]


def test_search_works_from_a_folder(page: Page, built: Path) -> None:
    page.goto((built / "index.html").as_uri())
    assert search(page, "蒸馏")
    page.goto((built / "zh/entries/bert.html").as_uri())
    assert search(page, "distillation")
    assert search(page, "ＢＥＲＴ 命名實體識別")


# --- nothing from elsewhere ---


@pytest.mark.parametrize("where", ["server", "folder"])
def test_no_request_leaves_the_site(page: Page, site: str, built: Path, where: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    root = site if where == "server" else f"{built.as_uri()}/"
    for name in PAGES:
        page.goto(root + name)
        page.goto(f"{root}zh/{name}")
    search(page, "bert")
    assert len(asked) > 2 * len(PAGES)
    assert {url for url in asked if not url.startswith((root, "data:", "about:", "blob:"))} == set()


def test_nothing_is_missing_and_nothing_fails(page: Page, site: str) -> None:
    wrong: list[str] = []
    page.on("response", lambda response: wrong.append(response.url) if response.status >= 400 else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    for name in PAGES:
        page.goto(site + name, wait_until="load")
        page.goto(f"{site}zh/{name}", wait_until="load")
    assert wrong == []


# --- the two languages ---


def test_each_language_has_its_own_words(page: Page, site: str) -> None:
    page.goto(site + "entries/bert.html")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator(".md-tabs")).to_contain_text("Leaderboard")
    page.locator("a.language").click()
    page.wait_for_url("**/zh/entries/bert.html")
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    expect(page.locator(".md-tabs")).to_contain_text("排行榜")
    expect(page.locator(".md-search__input")).to_have_attribute("placeholder", "搜索")
    page.locator("a.language").click()
    page.wait_for_url(site + "entries/bert.html")


def test_a_chinese_visitor_is_led_to_the_chinese_home(browser: Browser, site: str) -> None:
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(site + "index.html")
    page.wait_for_url("**/zh/index.html")
    page.locator("a.language").click()
    page.wait_for_url(site + "index.html")
    page.reload()
    page.wait_for_timeout(300)
    assert page.url == site + "index.html"  # who chose English stays
    context.close()


# --- the catalog ---


def shown(page: Page) -> int:
    """How many entries fit, as the page says."""
    return int(page.locator("#count").inner_text().split()[0])


def at(page: Page, state: str) -> None:
    """Wait for an address with this state, of which the browser tells late."""
    expect(page).to_have_url(re.compile(re.escape(state)))


def counted(page: Page, facet: str, value: str) -> int:
    return int(
        page.locator(f".facet-{facet} label", has=page.locator(f"input[value='{value}']"))
        .locator(".number")
        .inner_text()
    )


def choose(page: Page, facet: str, value: str) -> None:
    box = page.locator(f".facet-{facet} input[value='{value}']")
    if not box.is_visible():  # among the rarer values
        page.locator(f".facet-{facet} .all").click()
    box.check()


def test_the_catalog_is_filtered_by_words_of_both_languages(page: Page, site: str) -> None:
    page.goto(site + "catalog.html")
    everything = shown(page)
    page.locator("[name=words]").fill("蒸馏")
    chinese = shown(page)
    page.locator("[name=words]").fill("distillation")
    assert 0 < chinese < everything
    assert 0 < shown(page) < everything
    at(page, "?words=distillation")
    choose(page, "kind", "model")
    assert set(page.locator("#found .kind").all_inner_texts()) == {"model"}
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator("#count")).to_have_text(f"{everything} of {everything} entries")
    expect(page).to_have_url(site + "catalog.html")


def test_each_facet_counts_what_choosing_would_leave(page: Page, site: str) -> None:
    page.goto(site + "catalog.html")
    for facet, value in (("kind", "paper"), ("year", "2019"), ("subject", "distillation")):
        promised = counted(page, facet, value)
        choose(page, facet, value)
        assert shown(page) == promised > 0, (facet, value)
    other = counted(page, "kind", "repository")  # of one facet, another value adds to the first
    before = shown(page)
    choose(page, "year", "2020")
    assert shown(page) == before + counted(page, "year", "2020")
    assert counted(page, "kind", "repository") >= other
    page.get_by_role("button", name="Remove: Kind: paper").click()
    expect(page).not_to_have_url(re.compile("kind="))
    expect(page.locator("[name=words]")).to_be_focused()


def test_a_choice_is_an_address(page: Page, site: str, built: Path) -> None:
    page.goto(site + "index.html")
    page.get_by_label("Search the catalog").fill("蒸馏 bert")
    page.get_by_role("button", name="Search").last.click()
    page.wait_for_url("**/catalog.html?words=*")
    expect(page.locator("[name=words]")).to_have_value("蒸馏 bert")
    assert shown(page) > 0
    page.goto(site + "catalog.html?measured=1")  # an address of before
    assert page.locator("#found .measured").count() == shown(page) > 0
    for root in (site, f"{built.as_uri()}/"):
        page.goto(f"{root}catalog.html?kind=paper,dataset&tag=ner&language=zh&sort=title")
        titles = [title.lower() for title in page.locator("#found .card-title").all_inner_texts()]
        assert len(titles) == shown(page) > 1
        assert page.locator("#facets input:checked").evaluate_all("all => all.map(each => each.value)") == [
            "paper",
            "dataset",
            "ner",
            "zh",
        ]
        at(page, "?kind=paper,dataset&tag=ner&language=zh&sort=title")
    page.goto(site + "catalog.html?kind=nothing&tag=%3Cscript%3E&sort=odd")
    assert shown(page) > 100
    expect(page.locator("[name=sort]")).to_have_value("")


def test_the_catalog_is_ordered(page: Page, site: str) -> None:
    page.goto(site + "catalog.html")
    for order, first in (("oldest", None), ("links", "BERT: Pre-training"), ("added", None), ("title", None)):
        page.locator("[name=sort]").select_option(order)
        at(page, f"?sort={order}")
        title = page.locator("#found .card-title").first.inner_text()
        assert first is None or title.startswith(first)
    page.locator("[name=sort]").select_option("oldest")
    years = list(map(int, page.locator("#found .meta > span:nth-child(2)").all_inner_texts()))
    assert years == sorted(years)


def test_the_catalog_can_be_used_with_the_keyboard_and_shows_more(page: Page, site: str) -> None:
    page.goto(site + "catalog.html")
    assert page.locator("#found > li").count() == 50
    page.get_by_role("button", name="Show 50 more").focus()
    page.keyboard.press("Enter")
    assert page.locator("#found > li").count() == 100
    expect(page.locator("#found .card-title").nth(50)).to_be_focused()
    page.locator(".facet-kind input").first.focus()
    page.keyboard.press("Space")
    at(page, "?kind=paper")
    page.locator(".facet-task .all").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".facet-task .all")).to_have_attribute("aria-expanded", "true")
    assert page.locator(".facet-task label:visible").count() > 7


def test_entries_can_be_kept_and_the_list_shared(page: Page, browser: Browser, site: str) -> None:
    page.goto(site + "catalog.html?sort=links")
    for number in (0, 1):
        page.locator(".star").nth(number).click()
    page.reload()
    expect(page.locator(".star[aria-pressed=true]")).to_have_count(2)
    page.get_by_role("link", name="Kept by you 2").click()
    at(page, "?list=")
    expect(page.locator("#count")).to_have_text(re.compile(r"^2 "))  # waits: the address is there before the page
    address = page.url
    context = browser.new_context(locale="en-US")  # somebody else
    other = context.new_page()
    other.goto(address)
    expect(other.locator("#count")).to_have_text(re.compile(r"^2 "))
    expect(other.locator(".star[aria-pressed=true]")).to_have_count(0)
    context.close()


def test_all_entries_can_be_reached_without_scripts(browser: Browser, built: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((built / "catalog.html").as_uri())
    expect(page.locator("#filter")).to_be_hidden()
    assert page.locator("#found > li").count() == 50
    page.locator(".plain-lists").get_by_role("link", name="Papers").click()
    page.get_by_role("navigation", name="Parts").first.get_by_role("link", name="2").click()
    page.locator(".card-title").first.click()
    expect(page.locator(".entry")).to_be_visible()
    context.close()


# --- an entry, the leaderboard ---


def test_an_entry_has_both_summaries_and_bibtex(page: Page, site: str) -> None:
    page.goto(site + "entries/bert.html")
    expect(page.locator(".summaries p")).to_have_count(2)
    expect(page.locator(".summaries p[lang=zh]")).to_be_visible()
    expect(page.locator("pre code")).to_contain_text("@inproceedings{bert,")
    assert page.locator("meta[name=description]").get_attribute("content")
    assert page.locator("button.md-clipboard, .md-code__button").count() >= 1


def test_a_hostile_entry_is_only_text(page: Page, site: str) -> None:
    page.goto(site + "entries/nasty-title.html")
    expect(page.locator("h1")).to_contain_text('<img src=x onerror="document.title=1"> [link](javascript:alert(1))')
    assert page.locator("article img, article script").count() == 0
    assert "owned" not in page.title()
    page.goto(site + "catalog.html")
    search(page, "nasty")
    assert page.locator(".md-search-result img").count() == 0
    assert page.title() != "1"


# --- boards ---

SCREEN = {"width": 1400, "height": 1200}


def test_the_fastest_exact_engine_is_found_from_the_home_page(page: Page, site: str) -> None:
    """In three clicks at most: a kind of machine, then what is fed."""
    page.goto(site + "index.html")
    page.locator(".questions").get_by_role("link", name="On AMX").click()
    page.get_by_role("navigation", name="Input").get_by_role("link", name="one long sentence").click()
    expect(page.locator(".choices [aria-current]").last).to_have_text("exact only")
    expect(page.locator(".verdict")).to_contain_text("On AMX, with one long sentence (1 × 128 tokens)")
    rows = page.locator(".bar-row:visible")
    expect(page.locator(".verdict b").first).to_have_text(str(rows.first.get_attribute("data-name")))
    ratios = [float(each.split("×")[0]) for each in page.locator(".bar-row .ratio").evaluate_all(
        "all => all.map(each => each.lastChild.textContent.trim())")]  # fmt: skip
    assert ratios == sorted(ratios, reverse=True)
    assert set(page.locator(".bar-row .badge").all_text_contents()) == {"exact"}


def test_what_int8_costs_is_found_from_the_home_page(page: Page, site: str) -> None:
    page.goto(site + "index.html")
    page.get_by_role("link", name="What bf16 and int8 cost in quality").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="stsb", exact=True))
    expect(row).to_contain_text("none shown: reference:int8 −0.01 (−0.08 to +0.07; 5 seeds)")
    row.get_by_role("link").click()
    expect(page.locator("article")).to_contain_text("What int8 costs: none shown")


def test_a_row_opens_and_two_can_be_compared_by_address(page: Page, site: str) -> None:
    page.goto(site + "leaderboard.html")
    row = page.locator(".bar-row").nth(1)
    row.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(row.locator("dl")).to_contain_text("python -m harness")
    for number in (0, 1):
        page.locator(".bar-row .pick").nth(number).check()
    names = page.locator("#compare thead th").all_inner_texts()[1:]
    assert page.url.endswith("#compare=" + ",".join(names))
    expect(page.locator("#compare tbody tr").first.locator("td")).to_have_count(2)
    page.locator(".bar-row .pick").nth(2).check()
    expect(page.locator(".bar-row .pick").nth(3)).to_be_disabled()
    address = page.url
    page.goto(site + "index.html")
    page.goto(address)
    expect(page.locator("#compare thead th")).to_have_count(4)


def test_boards_can_be_read_and_chosen_without_scripts(browser: Browser, built: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport=SCREEN)
    page = context.new_page()
    page.goto((built / "leaderboard.html").as_uri())
    expect(page.locator(".bar-row .pick").first).to_be_hidden()
    page.get_by_role("link", name="int8 too").click()
    expect(page.locator(".verdict")).to_contain_text("int8")
    page.locator(".bar-row summary").first.click()
    expect(page.locator(".bar-row dl").first).to_be_visible()
    context.close()


# --- step by step ---


def test_attention_is_explored_from_the_home_page(page: Page, site: str) -> None:
    page.goto(site + "index.html")
    page.locator(".questions").get_by_role("link", name="Look at its attention").click()
    figure = page.locator("#map")
    expect(figure.locator(".said")).to_contain_text("it attends to ferry")
    figure.get_by_role("combobox", name="Layer").select_option("1")
    figure.get_by_role("combobox", name="Head").select_option("3")
    expect(figure.locator(".at")).to_have_text("layer 1, head 3")
    figure.get_by_role("button", name="ferry").focus()  # as Tab does
    expect(figure.locator(".said")).to_contain_text("ferry attends to the")
    expect(figure.get_by_role("button", name="ferry")).to_have_attribute("aria-pressed", "true")
    shares = figure.locator("tbody tr").nth(3).locator("td").all_inner_texts()
    assert int(shares[2]) > 90
    figure.locator("tbody tr").nth(8).hover()
    expect(figure.locator(".said")).to_contain_text("lock attends to the")
    page.locator(".heads a").nth(1).click()
    expect(figure.locator(".at")).to_have_text("layer 2, head 9")


def test_attention_can_be_read_without_scripts(browser: Browser, built: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport=SCREEN)
    page = context.new_page()
    page.goto((built / "zh/step-by-step.html").as_uri())
    expect(page.locator("#map .controls")).to_be_hidden()
    expect(page.locator("#map tbody tr")).to_have_count(17)
    assert page.locator("#map tbody tr").nth(11).locator("td").nth(3).inner_text() == "63"
    assert page.locator(".deviations").get_by_role("link", name="codertimo-bert-pytorch").count() >= 3
    page.locator("details.answers summary").click()
    expect(page.locator("details.answers li").first).to_be_visible()
    context.close()


def test_step_by_step_is_small(built: Path) -> None:
    for name in ("step-by-step.html", "zh/step-by-step.html", "reading-path.html"):
        assert (built / name).stat().st_size < 200_000


def test_what_failed_is_said(page: Page, site: str) -> None:
    page.goto(site + "leaderboard.html")
    page.get_by_text("What gave no result on this machine").click()
    expect(page.locator("table.gaps")).to_be_visible()


def test_pages_have_a_bound(page: Page, site: str, built: Path) -> None:
    """No page but those of the API is over 200 kB; a board is little more than one screen, others at most four."""
    page.set_viewport_size(SCREEN)
    boards = sorted((built / "boards").glob("*.html"))
    tasks = sorted((built / "tasks").glob("*.html"))
    entries = sorted((built / "entries").glob("*.html"), key=lambda path: -path.stat().st_size)
    for path in built.rglob("*.html"):
        assert path.stat().st_size <= 200_000 or path.parent.name == "api", path.name
    largest = [max(those, key=lambda path: path.stat().st_size) for those in (boards, tasks)]
    for path in (*largest, *entries[:3], built / "index.html", built / "quality.html"):
        page.goto(site + str(path.relative_to(built)))
        screens = page.evaluate("document.documentElement.scrollHeight") / SCREEN["height"]
        assert screens <= (1.2 if path in boards else 4), path.name


def test_the_family_can_be_filtered_by_link_words_and_language(page: Page, site: str) -> None:
    page.goto(site + "family.html")
    members = page.locator("svg.family .member")
    everyone = members.count()
    page.get_by_label("builds on it").uncheck()
    at(page, "?by=")
    bright = page.locator("svg.family .member:not(.dim)")
    assert 0 < bright.count() < everyone
    assert "builds_on" not in bright.evaluate_all("all => all.map(each => each.dataset.by)")
    expect(page.get_by_role("status").first).to_have_text(f"{bright.count()} of {everyone}")
    address = page.url
    page.goto(site + "index.html")
    page.goto(address)
    expect(page.get_by_label("builds on it")).not_to_be_checked()
    page.goto(site + "family.html?words=distilbert")
    expect(bright).to_have_count(1)
    expect(bright).to_be_visible()  # its branch is open


def test_an_entry_says_what_to_read_next_and_what_is_near(page: Page, site: str) -> None:
    page.goto(site + "entries/roberta.html")
    page.locator(".next").get_by_role("link", name="BERT: Pre-training").click()
    page.wait_for_url("**/entries/bert.html")
    expect(page.locator("#reported ~ .scroll tbody th[scope=rowgroup]").first).to_contain_text("XNLI")
    page.goto(site + "entries/distilbert.html")
    expect(page.get_by_role("heading", name="Near in meaning")).to_be_visible()
    expect(page.locator("article")).to_contain_text("minilm-l6")


def test_the_family_can_be_clicked(page: Page, site: str) -> None:
    page.goto(site + "family.html")
    page.locator("svg.family a", has_text="BERT").first.click()
    page.wait_for_url("**/entries/bert.html")


# --- how it is to use ---


def test_the_scheme_can_be_switched_and_stays(page: Page, site: str) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(site + "index.html")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_title("Dark colours").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.goto(site + "entries/bert.html")
    expect(page.locator("body")).to_have_attribute("data-md-color-scheme", "slate")


def test_no_page_is_wider_than_a_narrow_screen(page: Page, site: str) -> None:
    for name in (*PAGES, "zh/index.html", "zh/entries/bert.html"):
        page.goto(site + name)
        for width in (768, 375, 320):
            page.set_viewport_size({"width": width, "height": 700})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)


def test_an_entry_can_be_reached_with_the_keyboard_alone(page: Page, site: str) -> None:
    page.goto(site + "tags.html")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.tags')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/tags/*.html")
    page.locator(".card-title").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/entries/*.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "catalog.html",
        "recent.html",
        "entries/bert.html",
        "entries/bert-atlas.html",
        "leaderboard.html",
        "tasks/cola.html",
        "family.html",
        "step-by-step.html",
    ],
)
def test_axe_finds_nothing_serious(page: Page, site: str, name: str, scheme: Any) -> None:
    axe = Axe()
    page.emulate_media(color_scheme=scheme)
    for address in (site + name, f"{site}zh/{name}"):
        page.goto(address)
        page.evaluate("document.querySelectorAll('article details').forEach(each => { each.open = true })")
        found = [each for each in axe.run(page).response["violations"] if each["impact"] in ("serious", "critical")]
        assert [
            (each["id"], each["nodes"][0]["html"][:200], each["nodes"][0]["failureSummary"]) for each in found
        ] == []


@pytest.mark.parametrize("name", ["index.html", "entries/bert.html", "leaderboard.html"])
def test_a_page_is_small_and_does_not_jump(page: Page, site: str, name: str) -> None:
    page.goto(site + name, wait_until="networkidle")
    size, index = page.evaluate(SIZES)
    assert size < 200_000
    assert 0 < index < 600 * len(list((ROOT / "catalog/entries").rglob("*.yaml")))  # it grows with the catalog
    assert page.evaluate("performance.getEntriesByType('resource').length") <= 15
    shifts = [page.evaluate(SHIFT)]
    while shifts[-1] >= 0.01 and len(shifts) < 4:  # a starved browser lays out before its style sheet has come
        page.reload(wait_until="networkidle")
        shifts.append(page.evaluate(SHIFT))
    assert min(shifts) < 0.01


def test_the_page_for_lost_visitors(page: Page, site: str, built: Path) -> None:
    assert "页面不存在" in (built / "404.html").read_text(encoding="utf-8")
    assert "zh/entries/bert.html" in (built / "sitemap.xml").read_text(encoding="utf-8")


def test_every_link_within_the_site_leads_somewhere(built: Path) -> None:
    lychee = str(Path(sys.executable).with_name("lychee"))
    options = ("--offline", "--no-progress", "--include-fragments", "--root-dir", str(built))
    done = subprocess.run([lychee, *options, f"{built}/**/*.html"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    checked = re.search(r"([\d,]+) OK", done.stdout)
    assert checked is not None, done.stdout
    assert int(checked[1].replace(",", "")) > 10_000
