"""Commands on what is on this machine: list, doctor, data, env."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.terminal import print_rows, progress
from harness.errors import BadInput, Failure
from harness.progress import labelled

app = typer.Typer()
data_app = typer.Typer(
    help="Download task data and list what is there.",
    epilog="Examples:\n\npython -m harness data get glue conll2003\n\npython -m harness data list",
    no_args_is_help=True,
)
env_app = typer.Typer(
    help="List, create and remove environments of implementations.\n\n"
    "They are for implementations whose packages conflict with ours; `run` creates what it needs by itself.",
    epilog="Examples:\n\npython -m harness env list\n\npython -m harness env create bert-for-tf2 keras-bert",
    no_args_is_help=True,
)


@app.command("list", epilog="Example: python -m harness list")
def list_() -> None:
    """Show implementations, tasks and weights that can be named."""
    from harness.data.task import load_task, task_names
    from harness.registry.implementations import implementations
    from harness.weights.find import weights_names

    tasks = map(load_task, task_names())
    for title, rows in {
        "implementations": [(each.name, each.title) for each in implementations().values()],
        "tasks": [(t.name, f"{t.title}; {t.kind}, {t.metrics[0]}; suite {t.suite}") for t in tasks],
        "weights": list(weights_names().items()),
    }.items():
        print_rows(("name", "what it is"), rows, title)
        print()


@app.command(epilog="Example: python -m harness doctor")
def doctor() -> None:
    """Show this machine, what it can do and what is missing."""
    from rich.text import Text

    from harness.commands.doctor import diagnose

    checks = diagnose()
    colours = {"ok": "green", "missing": "red", "warning": "yellow", "info": "dim"}
    rows = [(each.name, Text(each.state, colours[each.state]), each.detail, each.advice) for each in checks]
    print_rows(("check", "state", "detail", "advice"), rows)
    if any(check.state == "missing" for check in checks):
        raise SystemExit(1)


@data_app.command("get", epilog="Example: python -m harness data get glue conll2003")
def data_get(
    names: Annotated[list[str], typer.Argument(help="glue, one of its tasks, conll2003, wnut17, msra_ner, ...")],
    data: Annotated[Path | None, typer.Option(envvar="BERT_ATLAS_DATA", help="Folder for task data.")] = None,
    source: Annotated[str, typer.Option(help="official, or hub (the Hugging Face Hub's copies).")] = "official",
) -> None:
    """Download data sets, check them by sha256 and unpack them. Broken downloads resume."""
    from harness.data.fetch import data_folder, get

    folder = data_folder(data)
    get(names, folder, source)  # type: ignore[arg-type]
    print(f"ready in {folder}; use it with: --data {shlex.quote(str(folder))}")


@data_app.command("list", epilog="Example: python -m harness data list")
def data_list(
    data: Annotated[Path | None, typer.Option(envvar="BERT_ATLAS_DATA", help="Folder of task data.")] = None,
) -> None:
    """Show which data sets are there, and where the others come from."""
    from harness.data.fetch import data_folder, listing

    folder = data_folder(data)
    rows = listing(folder)
    print(f"data folder: {folder}")
    print_rows(rows[0]._fields, [tuple(map(str, row)) for row in rows])


@env_app.command("list", epilog="Example: python -m harness env list")
def env_list() -> None:
    """Show which implementations need a separate environment, and which of these exist."""
    from harness.registry.environments import find_environment, folder_of, listing, unmet
    from harness.registry.implementations import implementations

    rows = []
    for each in implementations().values():
        lacking = unmet(each.requirements)
        if not lacking:
            rows.append((each.name, "the harness's own", "ok"))
            continue
        environment = find_environment(each.requirements)
        state = (
            f"ok, {environment.size / 2**20:.0f} MiB"
            if environment
            else f"not created; missing here: {', '.join(lacking[:3])}"
        )
        rows.append((each.name, folder_of(each.requirements).name, state))
    print_rows(("implementation", "runs in", "state"), rows)
    for environment in listing():
        if not environment.used_by():
            print(f"{environment.key}: used by nothing any more; `env remove {environment.key}` deletes it")


@env_app.command("create", epilog="Example: python -m harness env create bert-for-tf2 keras-bert")
def env_create(
    names: Annotated[list[str], typer.Argument(help="Implementations, or all.")],
) -> None:
    """Create the environments of implementations; those that exist are kept."""
    from rich.console import Console

    from harness.registry.environments import create, unmet
    from harness.registry.implementations import find, implementations

    chosen = list(implementations().values()) if names == ["all"] else [find(name) for name in names]
    failed = []
    with progress(Console(stderr=True)) as show:
        for each in chosen:
            if not unmet(each.requirements):
                print(f"{each.name}: runs beside the harness, needs no environment")
                continue
            try:
                environment = create(each.requirements, labelled(show, each.name))
                print(f"{each.name}: {environment.folder}")
            except Failure as error:
                failed.append(f"{each.name}: {error}")
    if failed:
        raise Failure("\n".join(failed))


@env_app.command("remove", epilog="Example: python -m harness env remove bert-for-tf2")
def env_remove(
    names: Annotated[list[str], typer.Argument(help="Implementations or keys of `env list`, or all.")],
) -> None:
    """Delete environments; `run` makes them again when it needs them."""
    from harness.registry.environments import listing, remove

    gone = []
    for environment in listing():
        users = environment.used_by()
        if names == ["all"] or environment.key in names or set(users) & set(names):
            remove(environment)
            gone.append(environment)
            print(f"removed {environment.key} ({', '.join(users) or 'used by nothing'})")
    if not gone:
        raise BadInput(f"there is no environment of {', '.join(names)}; `python -m harness env list` shows them")
