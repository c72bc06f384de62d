"""Repairs a fault in the lunr script of the theme's search, which loses words with digits.

lunr merges nodes of its word automaton whose text forms are equal: a mark for final nodes, then each label and the
number of the node that it leads to, without a separator. A digit as a label reads as part of such a number, so that
different nodes are merged too, and words such as 1810 are lost from the index; which ones depends on all other words.
"""

from importlib.util import find_spec
from pathlib import Path

from catalog.errors import Failure

FAULT, REPAIR = "e=e+s+o.id}return e", 'e=e+s+o.id+","}return e'
WORKERS = Path("assets/javascripts/workers")


def repaired() -> tuple[Path, str]:
    """The path of the script in a site, and its repaired text. Failure if the theme has another script."""
    spec = find_spec("material")
    folders = [Path(each) for each in spec.submodule_search_locations or ()] if spec else []
    files = [file for folder in folders for file in (folder / "templates" / WORKERS).glob("search.*.js")]
    script = files[0].read_text(encoding="utf-8") if len(files) == 1 else ""
    if script.count(FAULT) != 1:
        raise Failure(
            "the search of the installed mkdocs-material is not the one that catalog/site/theme_search.py repairs; "
            "install the version that pyproject.toml names, or check whether its lunr still needs the repair"
        )
    return WORKERS / files[0].name, script.replace(FAULT, REPAIR)
