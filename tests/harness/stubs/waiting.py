"""Reports how OpenMP's threads are set to wait."""

import os
from typing import Any

NAME = "waiting"
TITLE = "Waiting"
CATALOG_ID = "waiting"


class Model:
    batching, version = "packed", os.environ.get("OMP_WAIT_POLICY", "as they like")


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Any:
    return Model()
