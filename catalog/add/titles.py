"""Compares the titles of papers with those on arXiv, since a mistyped id leads to another paper."""

import re
import time
import unicodedata
from difflib import SequenceMatcher
from pathlib import Path

from catalog.add.sources import Endpoints, arxiv_titles
from catalog.errors import Problem
from catalog.load import read_folder
from catalog.schema import Paper

BATCH = 50  # papers per request
PAUSE = 3.0  # seconds between two requests, as arXiv asks
ALIKE = 0.9  # similarity of equal papers; titles change a little between versions


def compare(folder: Path, endpoints: Endpoints | None = None) -> list[Problem]:
    """A problem for each paper whose title differs on arXiv, or that arXiv does not have.

    Raises:
        BadInput: there is no folder of entries.
        Failure: arXiv gives no usable answer.
    """
    papers = [d for d in read_folder(folder) if isinstance(d.entry, Paper) and d.entry.arxiv]
    by_id = {d.data["arxiv"]: d for d in papers}
    found: list[Problem] = []
    for start in range(0, len(by_id), BATCH):
        if start:
            time.sleep(PAUSE)
        batch = list(by_id)[start : start + BATCH]
        titles = arxiv_titles(batch, endpoints or Endpoints())
        for name in batch:
            document = by_id[name]
            title = document.data["title"]
            if name not in titles:
                found.append(Problem(document.file, document.lines[("arxiv",)], "arxiv", f"arXiv has no {name!r}"))
            elif similarity(title, titles[name]) < ALIKE:
                what = f"{title!r} is {titles[name]!r} on arXiv ({name}); is the id right?"
                found.append(Problem(document.file, document.lines[("title",)], "title", what))
    return found


def similarity(one: str, other: str) -> float:
    """The similarity of two titles from 0 to 1; 1 if only case and punctuation differ."""
    return SequenceMatcher(None, _plain(one), _plain(other), autojunk=False).ratio()


def _plain(title: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKD", title).casefold()).strip()
