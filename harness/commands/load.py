"""The command load: services of sentence vectors, driven side by side."""

import importlib.util
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.options import Data, Runs, Threads, Weights, command_line, names
from harness.commands.terminal import log_console, progress, terminal
from harness.errors import BadInput
from harness.printable import printable

if TYPE_CHECKING:
    from harness.records.record import Load

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "python -m harness load --seconds 3\n\n"
    "python -m harness load --service sentence-transformers-fastapi,infinity --clients 1,16,256 --bound 130\n\n"
    "python -m harness load --service all --tasks sst2,mrpc,qnli --rounds 5 --seconds 60 --bound 130"
)
def load(
    service: Annotated[
        str, typer.Option(help="Services, separated by commas, or all. Ours always takes part, as ratios are to it.")
    ] = "bert-atlas",
    tasks: Annotated[str, typer.Option(help="Tasks whose texts are sent; see `list`.")] = "mini-sentiment",
    clients: Annotated[str, typer.Option(help="Numbers of clients that ask at a time.")] = "1,16,64,256",
    seconds: Annotated[float, typer.Option(help="Length of each turn, and of each trial of a rate.")] = 10.0,
    rounds: Annotated[int, typer.Option(help="Turns of each service with each number of clients.")] = 3,
    bound: Annotated[
        float | None,
        typer.Option(metavar="MS", help="Also find the highest rate of arrivals with a p99 latency below this."),
    ] = None,
    weights: Weights = "minilm-l6",
    data: Data = None,
    runs: Runs = Path("runs"),
    threads: Threads = None,
) -> None:
    """Drive services of sentence vectors side by side.

    All get the same texts over HTTP, on this machine, in float32, and take turns.

    Before anything is timed, vectors are compared with ours; a service whose vectors differ is not timed. Services run
    in separate environments, which are created on first use. The record is written to the folder `load` of --runs.
    """
    needed = ("aiohttp", "starlette", "uvicorn", "prometheus_client", "zmq")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise BadInput(f'load needs {", ".join(missing)}: pip install -e ".[load]" in the checkout')
    if not 0 < seconds < math.inf or rounds < 1:
        raise BadInput(f"--seconds is {seconds} and --rounds {rounds}; both are above 0")
    if bound is not None and not 0 < bound < math.inf:
        raise BadInput(f"--bound is {bound}; it is a latency in milliseconds, above 0")
    from harness.load import drive
    from harness.load.services import find
    from harness.measure.plan import Options, prepare

    asked = drive.Asked(_counts(clients), rounds, seconds, None if bound is None else bound / 1000)
    chosen = find(names(service))
    options = Options(
        implementations=["reference"],
        tasks=names(tasks),
        weights=weights,
        data=data,
        runs=runs,
        device="cpu",
        precision="fp32",
        threads=threads,
        command=command_line(data),
    )
    plan = prepare(options)
    with progress(log_console()) as show:
        result = drive.run(plan, chosen, asked, show)
    _print(result)
    print(f"record in {runs}/load/", file=sys.stderr)
    if any(each["state"] != "ok" for each in result.services.values()):
        raise SystemExit(1)


def _counts(text: str) -> tuple[int, ...]:
    found = names(text)
    if not found or not all(each.isdecimal() and 0 < int(each) <= 4096 for each in found):
        raise BadInput(f"--clients is {text}; give numbers from 1 to 4096 with commas, such as 1,16,64,256")
    return tuple(map(int, found))


def _print(result: "Load") -> None:
    """A table for each number of clients, and what the services are like at rest."""
    from rich.table import Table

    table = Table(title=f"{result.texts['number']} texts of {', '.join(result.texts['tasks'])}")
    for column in ("service", "clients x texts", "texts/s", "ratio", "ms p50/99", "CPU s per 1000 texts"):
        table.add_column(column, justify="left" if column == "service" else "right")
    for name, each in result.services.items():
        for turn in each.get("closed", []):
            latency = f"{1000 * turn['p50']:.0f} / {1000 * turn['p99']:.0f}"
            who, cells = f"{turn['clients']} x {turn['texts']}", f"{turn['cpu_seconds_per_1000_texts']:.2f}"
            ratio = "-" if turn["ratio"] is None else f"{turn['ratio']:.2f}x"
            table.add_row(name, who, f"{turn['texts_per_second']:.0f}", ratio, latency, cells)
    terminal().print(table)
    for name, each in result.services.items():
        print(printable(f"{name}: {_sentence(each, result.bound)}"))
    load = result.load
    if load["noisy"]:
        print(
            f"timings are unreliable: load average {load['load_average']}, other processes used "
            f"{100 * (load['others'] or 0):.0f}% of the processor"
        )


def _sentence(each: dict[str, Any], bound: float | None) -> str:
    """Version, start and memory, and the highest rate; or why it failed."""
    said = []
    if "cold_seconds" in each:
        memory = each.get("memory", each["memory_at_start"]) / 2**20
        said.append(f"version {each['version']}, first answer after {each['cold_seconds']:.1f} s, {memory:.0f} MiB")
    if "parity" in each:
        said.append(f"least cosine with ours {each['parity']['least_cosine']:.6f}")
    if "server" in each:
        rate = each["server"]["rate"]
        what = "no rate" if rate is None else f"{rate:.1f} texts/s"
        said.append(f"{what} with p99 within {1000 * (bound or 0):g} ms")
    if each["state"] != "ok":
        said.append(f"{each['state']}: {each['reason']}")
    return "; ".join(said)
