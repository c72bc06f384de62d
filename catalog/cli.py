"""The command line. Heavy imports stand inside the commands, so that ``--help`` answers at once."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from catalog.errors import BadInput, Failure

app = typer.Typer(
    help="The catalog of BERT papers, articles, repositories, models and data sets.",
    epilog="Start with: python -m catalog check",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Entries = Annotated[Path, typer.Option(help="Folder of the entries.")]
ENTRIES = Path(__file__).with_name("entries")
Site = Annotated[str, typer.Option(envvar="SITE_URL", help="Address of the English home page.")]
EXPORT, PAGES, INDEX = Path("build/export"), Path("build/docs"), Path("results/index.json")
HOME = "http://127.0.0.1:8000/"  # of `mkdocs serve`
STATUS = Path(__file__).with_name("link_status.json")


class Format(StrEnum):
    """How `check` prints problems."""

    text = "text"
    github = "github"


def main() -> None:
    """Run the command line; exit code 0 all well, 1 something is wrong with the entries or failed, 2 bad input."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # letters that it cannot show are written as escapes
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except (BadInput, Failure) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, BadInput) else 1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        raise SystemExit(0) from None


@app.command(epilog="Example: python -m catalog check --format github")
def check(
    entries: Entries = ENTRIES,
    form: Annotated[Format, typer.Option("--format", help="text, or github for annotations.")] = Format.text,
) -> None:
    """Check all entries; print what is wrong as file:line: field: message. Exit code 1 if anything is."""
    from catalog.check import check as find
    from catalog.check import github_annotation

    problems = find(entries)
    for problem in problems:
        print(problem if form is Format.text else github_annotation(problem))
    files = len({problem.file for problem in problems})
    if problems:
        print(f"{len(problems)} problems in {files} files", file=sys.stderr)
        raise SystemExit(1)
    print("no problems", file=sys.stderr)


@app.command(epilog="Example: python -m catalog schema")
def schema(
    output: Annotated[Path | None, typer.Option(help="The file to write.  [default: the committed one]")] = None,
) -> None:
    """Write the JSON Schema of an entry, for editors."""
    from catalog.schema import ENTRY_SCHEMA, written_schema

    target = output or ENTRY_SCHEMA
    try:
        target.write_text(written_schema(), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--output: {target} cannot be written: {error.strerror}") from error
    print(target)


@app.command(
    epilog="Examples:\n\npython -m catalog add 1810.04805\n\npython -m catalog add https://github.com/google-research/bert"
)
def add(
    what: Annotated[str, typer.Argument(help="An arXiv id, a DOI, or the address of a repository or any page.")],
    kind: Annotated[
        str | None, typer.Option(help="paper, article, repository, model or dataset, where unclear.")
    ] = None,
    name: Annotated[str | None, typer.Option("--id", help="The entry's id.  [default: from the title]")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no server; write a skeleton.")] = False,
    entries: Entries = ENTRIES,
) -> None:
    """Write a new entry's file, filled in from arXiv, Crossref or GitHub, and say what is missing."""
    from catalog.add.add import add as write
    from catalog.errors import printable

    done = write(what, kind=kind, name=name, offline=offline, entries=entries)
    print(printable(done.file))
    for note in done.notes:
        print(f"note: {note}")
    if done.required:
        print(f"still needed: {', '.join(done.required)}")
    print(f"wanted too: {', '.join(done.wanted)}")
    print("then: python -m catalog check")


@app.command(epilog="Example: python -m catalog links")
def links(
    entries: Entries = ENTRIES,
    status: Annotated[Path, typer.Option(help="File that keeps what is known of each link.")] = STATUS,
) -> None:
    """Ask after all links of the entries, slowly; note which are dead, and where an archived copy is.

    Meant for a schedule, not for pull requests: whatever the links' state, the exit code is 0.
    """
    from catalog.links import update

    found = update(entries, status)
    for address, link in found.items():
        if link.state == "dead":
            copy = f"; archived: {link.archived}" if link.archived else ""
            print(f"dead since {link.first_failed}: {address} ({link.reason}){copy}")
    counts = {state: sum(link.state == state for link in found.values()) for state in ("ok", "unknown", "dead")}
    print(", ".join(f"{count} {state}" for state, count in counts.items()))


@app.command(epilog="Example: python -m catalog titles")
def titles(entries: Entries = ENTRIES) -> None:
    """Compare the titles of all papers with those at arXiv; exit code 1 if one differs or arXiv has no such paper.

    Meant for a schedule, not for pull requests.
    """
    from catalog.add.titles import compare

    problems = compare(entries)
    for problem in problems:
        print(problem)
    if problems:
        raise SystemExit(1)
    print("all titles are those at arXiv")


@app.command(epilog="Example: python -m catalog export --output build/export")
def export(
    output: Annotated[Path, typer.Option(help="Folder for the JSON, CSV, BibTeX and Atom files.")] = EXPORT,
    markdown: Annotated[Path, typer.Option(help="The catalog for reading on GitHub.")] = Path("CATALOG.md"),
    site: Site = HOME,
    entries: Entries = ENTRIES,
) -> None:
    """Write the catalog as JSON, CSV, BibTeX, Atom and Markdown."""
    from catalog import export as formats
    from catalog.load import load

    found = load(entries)
    for path in [*formats.export(found, output, site), formats.write(markdown, formats.to_markdown(found))]:
        print(path)


@app.command(epilog="Example: python -m catalog build && mkdocs serve")
def build(
    results: Annotated[Path, typer.Option(help="The harness's index of published results.")] = INDEX,
    docs: Annotated[Path, typer.Option(help="Hand-written pages, styles and scripts.")] = Path("docs"),
    output: Annotated[Path, typer.Option(help="Folder for the pages; en and zh in it are made anew.")] = PAGES,
    site: Site = HOME,
    status: Annotated[Path, typer.Option(help="What `links` found: which are dead.")] = STATUS,
    entries: Entries = ENTRIES,
) -> None:
    """Write the site's pages, which mkdocs.yml (English) and mkdocs.zh.yml (Chinese) render."""
    from catalog.links import read_status
    from catalog.load import load
    from catalog.site.pages import build as write

    if results != INDEX and not results.exists():
        raise BadInput(f"--results: {results} is not there; `python -m harness publish` makes it")
    print(f"{write(load(entries), results, docs, output, site, read_status(status))} pages in {output}")
