"""Computes in a child process, which holds 200 MB and takes 0.2 s of CPU for every batch."""

import subprocess
import sys
from typing import Any

NAME = "two-processes"
TITLE = "Two processes"
CATALOG_ID = "two-processes"
VARIANTS = {"silent": "does not tell of its child", "ended": "tells of a child that has ended"}

CHILD = """
import sys, time
memory = b"x" * 200_000_000
print("ready", flush=True)
for line in sys.stdin:
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    print("done", flush=True)
"""


class Silent:
    batching = "padded"
    version = "1"

    def __init__(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.hear("ready")  # what it takes to start is no part of the first pass

    def hear(self, word: str) -> None:
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == f"{word}\n"

    def encode(self, batch: Any) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write("compute\n")
        self.hear("done")

    def synchronize(self) -> None:
        pass


class Model(Silent):
    def processes(self) -> list[int]:
        return [self.child.pid]


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Silent:
    model = Silent() if variant == "silent" else Model()
    if variant == "ended":
        model.child.kill()
        model.child.wait()
    return model
