"""Says on how many threads torch computes here."""

from typing import Any

NAME = "threads"
TITLE = "Threads"
CATALOG_ID = "threads"


class Model:
    batching = "packed"

    @property
    def version(self) -> str:
        import torch

        return str(torch.get_num_threads())


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Any:
    import torch  # noqa: F401

    return Model()
