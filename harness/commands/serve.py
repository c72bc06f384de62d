"""The command serve: vectors of texts, over HTTP and for clients of bert-as-service."""

import importlib.util
import os
import re
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import (
    Device,
    Normalize,
    Pooling,
    Threads,
    VectorPrecision,
    Weights,
    names,
    thread_count,
)
from harness.errors import BadInput, Failure
from harness.files import expanded
from harness.printable import printable

app = typer.Typer()

KEY = "BERT_ATLAS_KEY"
NEEDED = ("starlette", "uvicorn", "prometheus_client", "zmq")


@app.command(
    epilog="Examples:\n\n"
    "python -m harness serve\n\n"
    "python -m harness serve --weights my-model --port 9000\n\n"
    "python -m harness serve --store my-store\n\n"
    "python -m harness serve --bert-serving-ports 5555,5556\n\n"
    "python -m harness serve --host 0.0.0.0 --key-file key.txt"
)
def serve(
    weights: Weights = "minilm-l6",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all networks.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.")] = 8080,
    key_file: Annotated[
        Path | None,
        typer.Option(help=f"File with a key that clients must send as a bearer token; or {KEY} holds the key itself."),
    ] = None,
    bert_serving_ports: Annotated[
        str,
        typer.Option(
            help="Also answer clients of bert-as-service 1.10 on these two ports: 5555,5556 are their defaults. Keys "
            "do not apply there."
        ),
    ] = "",
    store: Annotated[
        str,
        typer.Option(
            help="Keep collections of texts and search them: a folder, or the address of a PostgreSQL database with "
            "pgvector, postgresql://..."
        ),
    ] = "",
    pooling: Pooling = "",
    normalize: Normalize = None,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens that are read of a text.  [default: as the folder says]")
    ] = None,
    max_wait: Annotated[
        float, typer.Option(help="Refuse requests that would wait longer than this for the model, in seconds.")
    ] = 30.0,
    device: Device = "auto",
    precision: VectorPrecision = "auto",
    threads: Threads = None,
) -> None:
    """Answer requests for the vectors of texts, with the HTTP APIs of OpenAI and of Text Embeddings Inference.

    Routes: /v1/embeddings, /v1/models; /embed, /similarity, /tokenize, /info; /collections, with --store; /health,
    /ready, /metrics; and at / a page to try it. Vectors are those of sentence-transformers for the same folder. Ctrl-C
    and SIGTERM finish what was accepted. Standard error has a line of JSON for each request, without its texts.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise BadInput(f'serve needs {", ".join(missing)}: pip install -e ".[serve]" in the checkout')
    if not 0 <= port <= 65535:
        raise BadInput(f"--port is {port}; it is a number from 0 to 65535")
    if not 0 <= max_wait < float("inf"):
        raise BadInput(f"--max-wait is {max_wait}; it is a number of seconds from 0")
    from harness.predict.embed import load_encoder
    from reference.serving import service
    from reference.serving.batching import ComputationFailed
    from reference.serving.limits import NoAddress
    from reference.serving.search import open_store
    from reference.serving.store.items import StoreError
    from reference.serving.zmq import BertServing, Ports

    key, numbers = _key(key_file), _ports(bert_serving_ports)
    try:
        bound = service.listen(host, port)
        ports = Ports.bind(host, *numbers) if numbers else None
    except NoAddress as error:
        raise BadInput(f"{error}; give another host or port") from error
    count = thread_count(threads)
    encoder, made = load_encoder(weights, names(pooling) or None, normalize, device, precision, count, max_length)
    name = made["model"]
    with ExitStack() as ends:
        try:
            kept = open_store(store, encoder, made, ends) if store else None
            application = service.build(encoder, name, max_wait=max_wait, key=key, store=kept)
        except ComputationFailed as error:
            raise Failure(f"{weights}: {error}") from error
        except StoreError as error:
            raise BadInput(f"--store: {error}") from error
        parts = application.service
        if ports is not None:
            try:
                old = BertServing(parts.model, parts.batcher, parts.metrics, ports)
            except ValueError as error:
                raise BadInput(f"--bert-serving-ports: {error}") from error
            ends.callback(old.stop)
        bound.listen()
        address = service.address_of(bound)
        print(printable(f"Serving {name} at http://{address}: vectors of {encoder.size} numbers, {encoder.precision},"))
        print(printable(f"on {encoder.device}, of texts of up to {encoder.max_length} tokens. Try:"))
        print(printable(_example(address, name, key is not None)), flush=True)
        if ports is not None:
            first, second = ports.numbers
            print(f"Clients of bert-as-service: BertClient(port={first}, port_out={second})", flush=True)
        if host not in ("127.0.0.1", "localhost", "::1"):
            if key is None:
                print(f"warning: anyone who reaches {host} can use this service; see --key-file", file=sys.stderr)
            elif ports is not None:
                print("warning: the ports of bert-as-service take no key; anyone reaches them", file=sys.stderr)
        service.log_to(sys.stderr)
        service.run(application, [bound])


def _ports(text: str) -> tuple[int, int] | None:
    """The two ports of ``--bert-serving-ports``, if any."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,5}),(\d{1,5})", text, re.ASCII)
    if not found or int(found[1]) > 65535 or int(found[2]) > 65535 or found[1] == found[2] != "0":
        raise BadInput(f"--bert-serving-ports is {text}; give two ports with a comma, such as 5555,5556")
    return int(found[1]), int(found[2])


def _key(file: Path | None) -> str | None:
    """What clients must send, if anything."""
    from reference.serving.service import checked_key

    if file is None and KEY not in os.environ:
        return None
    try:
        return checked_key(os.environ[KEY] if file is None else expanded(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{KEY if file is None else f'--key-file {file}'}: {error}") from error


def _example(address: str, name: str, key: bool) -> str:
    header = ' -H "Authorization: Bearer $KEY"' if key else ""
    body = shlex.quote(f'{{"model": "{name}", "input": ["Where is my parcel?"]}}')
    return f"  curl http://{address}/v1/embeddings -H 'Content-Type: application/json'{header} -d {body}"
