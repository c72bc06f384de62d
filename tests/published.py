"""The index of the published records, made once in each process that asks for it."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from harness.results.index import write_index

ROOT = Path(__file__).parents[1]


@cache
def published_index() -> Path:
    """The file that ``python -m harness index`` writes; it is deleted when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="bert-atlas-index-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_index(ROOT / "results", folder / "index.json")
    return folder / "index.json"


@cache
def explained_file() -> Path:
    """The file that ``python -m harness explain`` writes; it is deleted when the process ends."""
    from harness.files import write_json
    from harness.predict.explain import PAIR, TEXT, explain

    folder = Path(tempfile.mkdtemp(prefix="bert-atlas-explained-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_json(explain(TEXT, PAIR), folder / "explained.json")
    return folder / "explained.json"
