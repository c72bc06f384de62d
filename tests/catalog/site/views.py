"""The catalog in one language, from a folder of entries and without records."""

from pathlib import Path

from catalog.load import load
from catalog.reported import results
from catalog.site.near import Near
from catalog.site.view import Atlas, Language, View, fields


def view_of(folder: Path, language: Language = "en", near: Near | None = None) -> View:
    """The view that ``catalog build`` makes of the same entries."""
    found = load(folder)
    listed = sorted(map(fields, found), key=lambda e: (-e["year"], e["title"].lower()))
    return View(Atlas(listed, [], {}, results.choose(found, None, None), near or Near()), language)
