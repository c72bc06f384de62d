"""The lists of entries: by kind, tag, year and language, and the latest. Long ones have several pages."""

from typing import Any

from catalog import export
from catalog.schema import FOLDERS
from catalog.site.view import Fields, View

Page = tuple[str, dict[str, Any]]  # a template and its values
PER_PAGE = 100  # entries in full
IN_GROUP = 24  # entries of one year or language, where all are shown together
RELATED = 40  # entries of one relation on an entry's page
LATEST = 30  # entries on the page of those added last


def list_pages(view: View, newest: list[str]) -> dict[str, Page]:
    """All lists, by file name; ``newest`` are the ids by the day they were added."""
    pages: dict[str, Page] = {}
    for folder, kind in FOLDERS.items():
        name = export.KIND_NAMES[kind][view.language]
        found = view.of_kind(kind)
        about = view.t(f"{name} about BERT: {len(found)} entries.", f"关于 BERT 的{name}：{len(found)} 个条目。")
        pages |= _parts(view, folder, folder, name, about, found, f"kind={kind}")
    for tag, found in view.by_tag:
        name = view.tag_name(tag)
        about = view.t(f"BERT resources on the subject: {name}.", f"主题为{name}的 BERT 资源。")
        pages |= _parts(view, f"tags/{tag}", "tags", name, about, found, f"tag={tag}", feed=f"tags/{tag}.xml")
    for year, found in view.by_year:
        about = view.t(f"BERT resources that first appeared in {year}.", f"{year} 年首次公开的 BERT 资源。")
        pages |= _parts(view, f"years/{year}", "timeline", str(year), about, found, f"year={year}")
    for code, found in view.by_language:
        name = view.language_name(code)
        about = view.t(f"BERT resources for {name}.", f"适用于{name}的 BERT 资源。")
        pages |= _parts(view, f"languages/{code}", "languages", name, about, found, f"language={code}")
    pages["timeline.md"] = ("groups", _timeline(view))
    pages["languages.md"] = ("groups", _languages(view))
    pages["recent.md"] = ("recent", {"days": _latest(view, newest)})
    return pages


def _parts(
    view: View, page: str, here: str, heading: str, description: str, found: list[Fields], query: str, feed: str = ""
) -> dict[str, Page]:
    """The pages of one list: ``page``, ``page``-2 and so on."""
    batches = [found[start : start + PER_PAGE] for start in range(0, max(len(found), 1), PER_PAGE)]
    names = [page if number == 1 else f"{page}-{number}" for number in range(1, len(batches) + 1)]
    same: dict[str, Any] = {"here": here, "description": description, "query": query, "feed": feed}
    same |= {"up": "../" if "/" in page else "", "parts": [name.rpartition("/")[2] for name in names]}
    same |= {"count": len(found)}
    pages: dict[str, Page] = {}
    for number, (name, batch) in enumerate(zip(names, batches, strict=True), 1):
        title = heading if number == 1 else view.t(f"{heading}, page {number}", f"{heading}，第 {number} 页")
        pages[f"{name}.md"] = ("list", {**same, "heading": title, "found": batch, "number": number})
    return pages


def _timeline(view: View) -> dict[str, Any]:
    return {
        "here": "timeline",
        "heading": view.t("Timeline", "时间线"),
        "description": view.t("The entries by the year they first appeared in.", "按首次公开年份排列的目录条目。"),
        "groups": [(f"y{year}", str(year), f"years/{year}", found) for year, found in view.by_year],
        "most": IN_GROUP,
    }


def _languages(view: View) -> dict[str, Any]:
    return {
        "here": "languages",
        "heading": view.t("Languages", "语言"),
        "description": view.t("The entries by the language that they are for.", "按适用语言排列的目录条目。"),
        "groups": [(code, view.language_name(code), f"languages/{code}", found) for code, found in view.by_language],
        "most": IN_GROUP,
    }


def _latest(view: View, newest: list[str]) -> list[tuple[str, list[Fields]]]:
    """The entries added last that say when, by day."""
    days: dict[str, list[Fields]] = {}
    dated = [view.by_id[each] for each in newest if view.by_id[each]["added"]]
    for entry in dated[:LATEST]:
        days.setdefault(entry["added"], []).append(entry)
    return list(days.items())


def related_pages(view: View) -> dict[str, Page]:
    """The pages of all that is linked with an entry, where its own page does not show it all."""
    pages: dict[str, Page] = {}
    for entry in view.entries:
        groups = view.relations(entry)
        if max((len(found) for _, found in groups), default=0) <= RELATED:
            continue
        parts: list[list[tuple[str, list[Fields]]]] = [[]]
        room = 6 * PER_PAGE
        for name, found in groups:
            while found:
                if not room:
                    parts.append([])
                    room = 6 * PER_PAGE
                parts[-1].append((name, found[:room]))
                found, room = found[room:], room - len(parts[-1][-1][1])
        names = [entry["id"] if number == 1 else f"{entry['id']}-{number}" for number in range(1, len(parts) + 1)]
        for number, (name, part) in enumerate(zip(names, parts, strict=True), 1):
            values = {"e": entry, "parts": names, "number": number, "groups": part}
            pages[f"related/{name}.md"] = ("related", values)
    return pages
