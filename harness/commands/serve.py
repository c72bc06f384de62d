"""The command serve: vectors of texts, over HTTP and for clients of bert-as-service."""

import importlib.util
import os
import re
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import (
    Device,
    Normalize,
    Pooling,
    Threads,
    VectorPrecision,
    names,
    thread_count,
)
from harness.errors import BadInput, Failure
from harness.files import expanded
from harness.printable import printable

if TYPE_CHECKING:
    from reference import SentenceEncoder
    from reference.serving.bert_options import Options
    from reference.serving.classifier import Classifier

app = typer.Typer()

KEY = "BERT_ATLAS_KEY"
NEEDED = ("starlette", "uvicorn", "prometheus_client", "zmq")


@app.command(
    epilog="Examples:\n\n"
    "python -m harness serve\n\n"
    "python -m harness serve --weights my-model --port 9000\n\n"
    "python -m harness serve --weights minilm-l6 --weights my-pair-model\n\n"
    "python -m harness serve --store my-store\n\n"
    "python -m harness serve --bert-serving-ports 5555,5556 --bert-serving-options '-pooling_layer -1'\n\n"
    "python -m harness serve --host 0.0.0.0 --key-file key.txt"
)
def serve(
    weights: Annotated[
        list[str],
        typer.Option(
            help="Weights: a name that `list` shows, or a folder; several times for several models. A folder of "
            "`run --save-model` also answers with its head."
        ),
    ] = ["minilm-l6"],  # noqa: B006 - typer copies it
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
    bert_serving_options: Annotated[
        str,
        typer.Option(
            help="Options of bert-serving-start that decide about vectors, in its own form, such as "
            "'-pooling_strategy NONE -pooling_layer -4 -3 -max_seq_len 40'; -http_port for its HTTP mode."
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

    Routes: /v1/embeddings, /v1/models; /embed, /similarity, /predict, /rerank, /tokenize, /info; /collections, with
    --store; /health, /ready, /metrics; and at / a page to try it. Vectors are those of sentence-transformers for the
    same folder. Ctrl-C and SIGTERM finish what was accepted. Standard error has a line of JSON for each request,
    without its texts.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise BadInput(f'serve needs {", ".join(missing)}: pip install -e ".[serve]" in the checkout')
    if not 0 <= port <= 65535:
        raise BadInput(f"--port is {port}; it is a number from 0 to 65535")
    if not 0 <= max_wait < float("inf"):
        raise BadInput(f"--max-wait is {max_wait}; it is a number of seconds from 0")
    from reference.serving import bert_http, service
    from reference.serving.batching import ComputationFailed
    from reference.serving.bert_vectors import BertVectors
    from reference.serving.limits import NoAddress
    from reference.serving.search import open_store
    from reference.serving.store.items import StoreError
    from reference.serving.zmq import BertServing, Ports

    key, numbers = _key(key_file), _ports(bert_serving_ports)
    options = _options(bert_serving_options, numbers)
    try:
        bound = [service.listen(host, port)]
        if options.http_port is not None:
            bound.append(service.listen(host, options.http_port))
        ports = Ports.bind(host, *numbers) if numbers else None
    except NoAddress as error:
        raise BadInput(f"{error}; give another host or port") from error
    models, classifiers = _models(weights, pooling, normalize, max_length, device, precision, thread_count(threads))
    encoders = {each: encoder for each, (encoder, _) in models.items()}
    name, (encoder, made) = next(iter(models.items()))
    with ExitStack() as ends:
        try:
            kept = open_store(store, encoder, made, ends) if store else None
            application = service.build(
                encoder, name, more=encoders, classifiers=classifiers, max_wait=max_wait, key=key, store=kept
            )
        except ComputationFailed as error:
            raise Failure(f"{name}: {error}") from error
        except StoreError as error:
            raise BadInput(f"--store: {error}") from error
        parts = application.service
        if ports is not None:
            try:
                vectors = BertVectors(parts.model, options)
            except ValueError as error:
                raise BadInput(f"--bert-serving-options: {error}") from error
            bert_http.add_to(application, vectors, ports.numbers)
            ends.callback(BertServing(vectors, parts.batcher, parts.metrics, ports).stop)
        for each in bound:
            each.listen(service.BACKLOG)
        address = service.address_of(bound[0])
        print(printable(f"Serving {name} at http://{address}: vectors of {encoder.size} numbers, {encoder.precision},"))
        print(printable(f"on {encoder.device}, of texts of up to {encoder.max_length} tokens. Try:"))
        print(printable(_example(address, name, key is not None)), flush=True)
        if ports is not None:
            first, second = ports.numbers
            print(f"Clients of bert-as-service: BertClient(port={first}, port_out={second})", flush=True)
            if len(bound) > 1:
                print(f"Its HTTP mode: http://{service.address_of(bound[1])}/encode", flush=True)
        if host not in ("127.0.0.1", "localhost", "::1"):
            if key is None:
                print(f"warning: anyone who reaches {host} can use this service; see --key-file", file=sys.stderr)
            elif ports is not None:
                print("warning: the ports of bert-as-service take no key; anyone reaches them", file=sys.stderr)
        service.log_to(sys.stderr)
        service.run(application, bound)


def _options(text: str, ports: tuple[int, int] | None) -> "Options":
    """The options of bert-as-service; those that have no effect here are named."""
    from reference.serving.bert_options import parse

    if text and ports is None:
        raise BadInput("--bert-serving-options are for --bert-serving-ports, which are not given")
    try:
        options, idle = parse(text)
    except ValueError as error:
        raise BadInput(f"--bert-serving-options: {error}") from error
    if idle:
        print(printable(f"without effect here: {', '.join(idle)}"), file=sys.stderr)
    return options


def _models(
    weights: list[str],
    pooling: str,
    normalize: bool | None,
    max_length: int | None,
    device: str,
    precision: str,
    threads: int | None,
) -> tuple[dict[str, tuple["SentenceEncoder", dict[str, str]]], list["Classifier"]]:
    """The encoders by name, with how their vectors are made; and those of the weights that have a head."""
    from harness.predict.embed import load_encoder
    from harness.predict.heads import load_classifier

    encoders: dict[str, tuple[SentenceEncoder, dict[str, str]]] = {}
    classifiers = []
    for each in weights:
        encoder, made = load_encoder(each, names(pooling) or None, normalize, device, precision, threads, max_length)
        name = made["model"]
        if name in encoders:
            raise BadInput(f"--weights: two models are called {name}; rename a folder")
        encoders[name] = encoder, made
        if (found := load_classifier(encoder.folder, name, device, precision)) is not None:
            classifiers.append(found)
    return encoders, classifiers


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
