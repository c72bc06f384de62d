# /// script
# dependencies = ["starlette", "uvicorn", "prometheus-client", "pyzmq"]
# ///
"""Our own service, as ``python -m harness serve`` starts it."""

import os
import sys

NAME = "bert-atlas"
TITLE = "BERT Atlas, serve"
CATALOG_ID = "bert-atlas"
PATH = "/v1/embeddings"


def main(folder: str, port: str, threads: str) -> None:
    """Serve the vectors of a folder on a port of this machine, until the process is ended."""
    options = ["--weights", folder, "--port", port, "--threads", threads, "--precision", "fp32", "--device", "cpu"]
    os.execv(sys.executable, [sys.executable, "-m", "harness", "serve", *options])  # noqa: S606 - no shell


if __name__ == "__main__":
    main(*sys.argv[1:])
