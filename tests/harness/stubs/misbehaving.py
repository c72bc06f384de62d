"""Misbehaves as the folder that it is to load says, or, with ``later:`` before it, when it is to encode."""

import os
import signal
import stat
import subprocess
import sys
import time
from typing import Any

import numpy as np

NAME = "misbehaving"
TITLE = "Misbehaving"
CATALOG_ID = "misbehaving"


def write_to_the_pipe() -> None:
    """Find the descriptor of the answers, whatever the worker calls it, and write nonsense to it."""
    for descriptor in range(3, 20):
        try:
            status = os.fstat(descriptor)
        except OSError:
            continue
        if stat.S_ISFIFO(status.st_mode):
            try:
                os.write(descriptor, b"Loading weights: 100%\n")
            except OSError:
                continue  # the pipe of requests, which can only be read


def misbehave(how: str) -> Any:
    print(f"about to: {how}", file=sys.stderr)
    if how == "sleep":
        time.sleep(3600)
    elif how == "spin beside a child":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        while True:
            pass
    elif how == "exit":
        sys.exit(3)
    elif how == "close the pipe":
        time.sleep(0.3)  # until the thread that watches the pipe waits on it
        os.closerange(3, 20)
        time.sleep(3600)
    elif how == "raise":
        raise ValueError("the weights look odd")
    elif how == "refuse":
        raise NotImplementedError("not on this CPU")
    elif how == "raise a key":
        raise KeyError("ordinal")
    elif how == "raise without words":
        raise ValueError
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "memory":
        raise MemoryError
    elif how == "cuda memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
    elif how == "nonsense":
        write_to_the_pipe()
    elif how == "object":
        return np.array([{"not": "numbers"}])
    elif how == "grandchild":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        return np.array([child.pid])
    elif how == "allocate":
        return np.ones(300 * 2**20, dtype=np.uint8)[:1]
    return np.zeros(1)


class Model:
    batching = "packed"
    version = "1"

    def __init__(self, later: str) -> None:
        self.later = later

    def encode(self, batch: Any) -> Any:
        return misbehave(self.later)

    def fetch(self, encoded: Any, batch: Any) -> Any:
        return encoded

    def pooled(self, encoded: Any, batch: Any) -> Any:
        return None


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    if folder.startswith("later:"):
        return Model(folder.removeprefix("later:"))
    misbehave(folder)
    return Model("nothing")
