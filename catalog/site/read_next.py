"""What to read next after an entry, from what the catalog's links say: each with the reason."""

from collections.abc import Iterator

from catalog.site.view import Fields, View

MOST = 5
BUILDS = ("builds_on", "distils", "compresses", "analyses", "implements", "base_model", "translates")
REASONS = {  # field: of what an entry names, and of the best known that names the entry
    "builds_on": (("It builds on", "前作"), ("Builds on it", "后续工作")),
    "distils": (("It distils", "蒸馏自"), ("Distils it", "蒸馏它的")),
    "compresses": (("It compresses", "它压缩的"), ("Compresses it", "压缩它的")),
    "analyses": (("It studies", "它分析的"), ("Studies it", "分析它的")),
    "implements": (("It implements", "它实现的"), ("Implements it", "实现")),
    "base_model": (("It starts from", "权重来源"), ("Starts from it", "由它而来")),
    "translates": (("It translates", "原文"), ("Translates it", "译文")),
}


def read_next(view: View, entry: Fields) -> list[tuple[str, Fields]]:
    """At most MOST entries, each once, with the reason in the reader's language."""
    seen = {entry["id"]}
    found = []
    for words, each in _candidates(view, entry):
        if each["id"] not in seen:
            seen.add(each["id"])
            found.append((view.t(*words), each))
    return found[:MOST]


def _candidates(view: View, entry: Fields) -> Iterator[tuple[tuple[str, str], Fields]]:
    """What comes first is what replaces the entry, then its roots, an explanation, and the best known that follow."""
    name = entry["id"]
    for each in view.referring.get(("supersedes", name), []):
        yield ("Replaces it", "取代它的"), each
    for field in BUILDS:
        if parent := _first(view, entry, field):
            yield REASONS[field][0], parent
    related = [view.by_id[each] for each in entry["relates_to"] or [] if each in view.by_id]
    if entry["kind"] == "article" and related:
        yield ("It is about", "内容涉及"), related[0]
    articles = [each for each in view.referring.get(("relates_to", name), []) if each["kind"] == "article"]
    if articles:
        yield ("Explains it", "解读"), max(articles, key=lambda each: (_readable(view, each), *_known(view, each)))
    for field in BUILDS:
        if followers := view.referring.get((field, name)):
            yield REASONS[field][1], max(followers, key=lambda each: _known(view, each))
    for field in ("builds_on", "distils", "compresses"):  # what else was made of the same, at that time or later
        if parent := _first(view, entry, field):
            later = [e for e in view.referring[field, parent["id"]] if e["year"] >= entry["year"] and e["id"] != name]
            if later:
                title = view.short(parent)
                words = {
                    "builds_on": (f"Builds on {title} too", f"同样基于 {title}"),
                    "distils": (f"Distils {title} too", f"同样蒸馏 {title}"),
                    "compresses": (f"Compresses {title} too", f"同样压缩 {title}"),
                }
                yield words[field], max(later, key=lambda each: _known(view, each))
    if related:
        yield ("Belongs with it", "相关"), max(related, key=lambda each: _known(view, each))


def _first(view: View, entry: Fields, field: str) -> Fields | None:
    """What an entry names first in a field, which is the main one."""
    named = entry[field] or []
    names = [named] if isinstance(named, str) else named
    return next((view.by_id[each] for each in names if each in view.by_id), None)


def _readable(view: View, entry: Fields) -> bool:
    return view.language in (entry["language"] or [])


def _known(view: View, entry: Fields) -> tuple[int, int, str]:
    """Sort key: by how many entries name it; the earlier of two that are equal."""
    return view.fame[entry["id"]], -entry["year"], entry["id"]
