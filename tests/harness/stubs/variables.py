"""Says what OpenMP is told here."""

import os
from typing import Any

NAME = "variables"
TITLE = "Variables"
CATALOG_ID = "variables"


class Model:
    batching = "packed"
    version = " ".join(sorted(f"{name}={value}" for name, value in os.environ.items() if "MP_" in name))


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Any:
    return Model()
