"""The notebook of first steps: its cells run in order, and it is stored without results."""

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs/assets/first-steps.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    """The cells of a kind, in order."""
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    return [cell for cell in found["cells"] if cell["cell_type"] == kind]


def ran(limit: int | None = None) -> dict[str, Any]:
    """The names after all cells; ``limit``: with so many examples of each split only."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells("code"):
        exec("".join(cell["source"]), names)
        if limit and "train" in names:
            names["train"], names["dev"] = names["train"][:limit], names["dev"][:limit]
    return names


def test_it_is_stored_without_results() -> None:
    code = cells("code")
    assert len(code) >= 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    identifiers = [cell["id"] for kind in ("code", "markdown") for cell in cells(kind)]
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.slow
def test_its_cells_run() -> None:
    names = ran(limit=32)
    assert len(names["losses"]) == 1  # 32 examples are one batch
    assert names["maps"][0][2].diagonal(-1).mean() > 0.9  # the head that looks at the token before


@pytest.mark.soak
def test_it_learns_the_task() -> None:
    names = ran()
    assert names["accuracy"](names["dev"]) > 0.6
