# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#     "infinity-emb[torch,server,optimum]==0.0.78", "torch==2.13.0", "transformers==4.57.6",
#     "sentence-transformers==3.4.1",
# ]
# ///
"""infinity with torch, batching up to 32 texts."""

import os
import sys
from pathlib import Path

NAME = "infinity"
TITLE = "infinity, torch"
CATALOG_ID = "michaelfeil-infinity"
PATH = "/embeddings"


def main(folder: str, port: str, threads: str) -> None:
    """Serve the vectors of a folder on a port of this machine, until the process is ended."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}
    os.environ |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    program = str(Path(sys.executable).with_name("infinity_emb"))
    options = ["--model-id", folder, "--served-model-name", "model", "--device", "cpu", "--engine", "torch"]
    options += ["--no-bettertransformer", "--host", "127.0.0.1", "--port", port, "--no-trust-remote-code"]
    os.execv(program, [program, "v2", *options])  # noqa: S606 - no shell


if __name__ == "__main__":
    main(*sys.argv[1:])
