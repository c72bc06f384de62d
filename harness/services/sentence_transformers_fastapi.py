# /// script
# dependencies = ["sentence-transformers==6.2.0", "fastapi>=0.115", "uvicorn>=0.40"]
# ///
"""sentence-transformers behind FastAPI: what a programmer writes first.

One request computes at a time. Requests wait for each other in FastAPI's threads, and are not batched together.
"""

import sys
import threading

NAME = "sentence-transformers-fastapi"
TITLE = "sentence-transformers behind FastAPI"
CATALOG_ID = "sentence-transformers"
PATH = "/v1/embeddings"


def main(folder: str, port: str, threads: str) -> None:
    """Serve the vectors of a folder on a port of this machine, until the process is ended."""
    import torch
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(int(threads))
    model, one = SentenceTransformer(folder, device="cpu"), threading.Lock()
    app = FastAPI()

    class Request(BaseModel):
        input: list[str]

    @app.post(PATH)
    def embeddings(request: Request) -> dict[str, object]:
        with one:
            vectors = model.encode(request.input, show_progress_bar=False)
        return {"data": [{"index": i, "embedding": vector.tolist()} for i, vector in enumerate(vectors)]}

    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
