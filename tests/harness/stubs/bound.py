"""Says on how many threads torch computes here, and which CPUs the thread that asks it may use."""

import os
from typing import Any

NAME = "bound"
TITLE = "Bound"
CATALOG_ID = "bound"


class Model:
    batching = "packed"

    @property
    def version(self) -> str:
        import torch

        torch.ones(500, 500) @ torch.ones(500, 500)
        return " ".join(map(str, [torch.get_num_threads(), *sorted(os.sched_getaffinity(0))]))


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Any:
    import torch  # noqa: F401

    return Model()
