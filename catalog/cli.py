"""The command line. Heavy imports are inside the commands, so that ``--help`` answers at once."""

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
Entries = Annotated[
    Path, typer.Option(help="Folder with the entries (papers/, articles/, ...).", show_default="catalog/entries")
]
ENTRIES = Path(__file__).with_name("entries")
Site = Annotated[str, typer.Option(envvar="SITE_URL", help="Address of the English home page, used in feeds.")]
EXPORT, PAGES, INDEX = Path("build/export"), Path("build/docs"), Path("build/index.json")
EXPLAINED = Path("build/explained.json")
SUMMARIES, VECTORS = Path("build/summaries.jsonl"), Path("build/summaries.parquet")
HOME = "http://127.0.0.1:8000/"  # where `mkdocs serve` shows the site
STATUS = Path(__file__).with_name("link_status.json")
ANCHORS = Path("harness/results/published.json")


class Format(StrEnum):
    """The formats in which `check` prints problems."""

    text = "text"
    github = "github"


def main() -> None:
    """Run the command line.

    Exit codes: 0 success, 1 problems in the entries or a failure, 2 bad input, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # characters that the terminal cannot show are written as escapes
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except (BadInput, Failure) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, BadInput) else 1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # the program that reads our output, such as `head`, has closed the pipe
        raise SystemExit(0) from None


@app.command(short_help="Check all entries.", epilog="Example: python -m catalog check --format github")
def check(
    entries: Entries = ENTRIES,
    form: Annotated[
        Format, typer.Option("--format", help="Output format: text, or github for annotations.")
    ] = Format.text,
) -> None:
    """Check all entries and print each problem as file:line: field: message.

    The exit code is 1 if there is a problem.
    """
    from catalog.check import check as find
    from catalog.check import github_annotation

    problems = find(entries)
    for problem in problems:
        print(problem if form is Format.text else github_annotation(problem))
    files = len({problem.file for problem in problems})
    if problems:
        found = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        where = "one file" if files == 1 else f"{files} files"
        print(f"{found} in {where}", file=sys.stderr)
        raise SystemExit(1)
    print("no problems", file=sys.stderr)


@app.command(short_help="Write the JSON Schema of an entry.", epilog="Example: python -m catalog schema")
def schema(
    output: Annotated[Path | None, typer.Option(help="File to write.  [default: catalog/entry.schema.json]")] = None,
) -> None:
    """Write the JSON Schema of an entry, which editors use to complete and check entries."""
    from catalog.schema import ENTRY_SCHEMA, written_schema

    target = output or ENTRY_SCHEMA
    try:
        target.write_text(written_schema(), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--output: {target} cannot be written: {error.strerror}") from error
    print(target)


@app.command(
    short_help="Write the file of a new entry.",
    epilog="Examples:\n\npython -m catalog add 1810.04805\n\npython -m catalog add https://github.com/google-research/bert",
)
def add(
    what: Annotated[str, typer.Argument(help="arXiv id, DOI, or the address of a repository or any other page.")],
    kind: Annotated[
        str | None,
        typer.Option(
            help="Kind of the entry, if the argument does not show it: paper, article, repository, model or dataset."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--id", help="Id of the entry.  [default: made from the title]")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Contact no server; write only what the argument itself says.")
    ] = False,
    entries: Entries = ENTRIES,
) -> None:
    """Write the file of a new entry, filled in from arXiv, Crossref or GitHub, and list the fields still missing."""
    from catalog.add.add import add as write
    from catalog.errors import printable

    done = write(what, kind=kind, name=name, offline=offline, entries=entries)
    print(printable(done.file))
    for note in done.notes:
        print(f"note: {note}")
    if done.required:
        print(f"still needed: {', '.join(done.required)}")
    print(f"good to have: {', '.join(done.wanted)}")
    print("next: python -m catalog check")


@app.command(
    short_help="Show results that others reported.",
    epilog="Examples:\n\npython -m catalog results glue/mnli --split test\n\npython -m catalog results mnli --json",
)
def results(
    what: Annotated[
        str | None, typer.Argument(help="Data set (mnli), one of a benchmark (glue/mnli), or a benchmark (glue).")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split; test also means its parts, such as test_matched.  [default: all]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with scores in percent.")] = False,
    entries: Entries = ENTRIES,
) -> None:
    """Show results that papers, repositories and leaderboards reported, each with its source.

    There is a table for each data set, split and metric, the best first. Without a data set, all that have results are
    listed.
    """
    from catalog.load import load
    from catalog.reported import results as reported

    rows = reported.choose(load(entries), what, split)
    if as_json:
        print(reported.to_json(rows), end="")
    elif what is None:
        print(reported.overview(rows))
    else:
        print(reported.to_text(rows) or f"no results on {what}; `python -m catalog add-result` adds one")


@app.command(
    short_help="Add a reported result to an entry.",
    epilog="Example: python -m catalog add-result bert",
)
def add_result(
    entry: Annotated[str, typer.Argument(help="Id of the paper or model that the result is of.")],
    model: Annotated[str, typer.Option(help="Name of the model, with its size.")] = "",
    dataset: Annotated[str, typer.Option(help="Id of the data set's entry.")] = "",
    split: Annotated[str, typer.Option(help="Split of the data set, such as dev or test_matched.")] = "",
    metric: Annotated[str, typer.Option(help="Word of vocabulary.yaml, such as accuracy.")] = "",
    value: Annotated[str, typer.Option(help="Figure as the source prints it.")] = "",
    unit: Annotated[str | None, typer.Option(help="percent or fraction; none for speeds.")] = None,
    source: Annotated[str, typer.Option(help="Who says so, for readers, such as `BERT paper, table 1`.")] = "",
    by: Annotated[str, typer.Option(help="own-paper, other-paper, repository or leaderboard.")] = "",
    seen: Annotated[
        str, typer.Option(help="Where you read it: owner/name@commit path:line, or the address of the page.")
    ] = "",
    subset: Annotated[str, typer.Option(help="Part of the data set, such as a language.")] = "",
    parameters: Annotated[str, typer.Option(help="Number of parameters, such as 110M.")] = "",
    setting: Annotated[list[str] | None, typer.Option(help="Word of vocabulary.yaml, such as ensemble.")] = None,
    statistic: Annotated[str, typer.Option(help="best, mean or median of several runs.")] = "",
    condition: Annotated[str, typer.Option(help="What else tells the figure from others of the model.")] = "",
    hardware: Annotated[str, typer.Option(help="What it ran on; needed for speeds.")] = "",
    entries: Entries = ENTRIES,
) -> None:
    """Add a reported result to the file of an entry, after checking it as `check` does.

    What is needed and not given is asked.
    """
    from catalog.add.add_result import add_result as write
    from catalog.add.add_result import asked
    from catalog.errors import printable

    needed = {"model": model, "dataset": dataset, "split": split, "metric": metric, "value": value, "unit": unit}
    needed |= {"source": source, "by": by, "seen": seen}
    more = {"subset": subset, "parameters": parameters, "setting": setting or [], "statistic": statistic}
    done = write(entry, asked(needed) | more | {"condition": condition, "hardware": hardware}, entries)
    print(f"{printable(done.file)}:{done.line}")


@app.command(
    short_help="Compare another list with the catalog.",
    epilog="Example: python -m catalog coverage awesome-bert/README.md",
)
def coverage(
    lists: Annotated[list[Path], typer.Argument(help="Lists in Markdown or plain text.", metavar="LIST...")],
    entries: Entries = ENTRIES,
) -> None:
    """Print the works of another list that the catalog lacks, with their lines, and how many it has.

    A work is a line with an arXiv id, a DOI or an address; it counts as ours if one of these is of an entry or of its
    code.
    """
    from catalog.coverage import read_list, summary, works
    from catalog.load import load

    texts = {path: read_list(path) for path in lists}
    found = load(entries)
    for path, text in texts.items():
        named = works(text, found)
        for work in named:
            if not work.ours:
                print(f"{path}:{work.line}: {work.identities[0]}: {work.text[:160]}")
        print(f"{path}: {summary(named)}")


@app.command(
    short_help="Write the published figures that the harness compares with.",
    epilog="Example: python -m catalog anchors",
)
def anchors(
    output: Annotated[Path, typer.Option(help="File to write.")] = ANCHORS,
    entries: Entries = ENTRIES,
) -> None:
    """Write the reported results that name weights of the harness as one JSON file, which the harness reads.

    The file is committed, so that the harness works without the catalog.
    """
    from catalog.export import write
    from catalog.load import load
    from catalog.reported.results import anchors as exported

    print(write(output, exported(load(entries))))


@app.command(short_help="Check all links of the entries.", epilog="Example: python -m catalog links")
def links(
    entries: Entries = ENTRIES,
    status: Annotated[
        Path, typer.Option(help="File that keeps the state of each link.", show_default="catalog/link_status.json")
    ] = STATUS,
) -> None:
    """Check all links of the entries, slowly, and record which are dead and where an archived copy is.

    Meant for a schedule, not for pull requests: the exit code is 0 whatever state the links are in.
    """
    from catalog.links import update

    found = update(entries, status)
    for address, link in found.items():
        if link.state == "dead":
            copy = f"; archived: {link.archived}" if link.archived else ""
            print(f"dead since {link.first_failed}: {address} ({link.reason}){copy}")
    counts = {state: sum(link.state == state for link in found.values()) for state in ("ok", "unknown", "dead")}
    print(", ".join(f"{count} {state}" for state, count in counts.items()))


@app.command(short_help="Compare titles with those on arXiv.", epilog="Example: python -m catalog titles")
def titles(entries: Entries = ENTRIES) -> None:
    """Compare the title of each paper with its title on arXiv, to find mistyped arXiv ids.

    The exit code is 1 if a title differs or arXiv has no such paper. Meant for a schedule, not for pull requests.
    """
    from catalog.add.titles import compare

    problems = compare(entries)
    for problem in problems:
        print(problem)
    if problems:
        raise SystemExit(1)
    print("all titles agree with arXiv")


@app.command(
    short_help="Write JSON, CSV, BibTeX, Atom and Markdown.",
    epilog="Example: python -m catalog export --output build/export",
)
def export(
    output: Annotated[Path, typer.Option(help="Folder to write the JSON, CSV, BibTeX and Atom files to.")] = EXPORT,
    markdown: Annotated[Path, typer.Option(help="Markdown file to write, for reading on GitHub.")] = Path("CATALOG.md"),
    site: Site = HOME,
    entries: Entries = ENTRIES,
) -> None:
    """Write the catalog as JSON, CSV, BibTeX, Atom and Markdown, and reported results as JSON, CSV and Parquet."""
    from catalog import export as formats
    from catalog.load import load
    from catalog.reported import results

    found = load(entries)
    written = [*formats.export(found, output, site), *results.export(found, output)]
    for path in [*written, formats.write(markdown, formats.to_markdown(found))]:
        print(path)


@app.command(
    short_help="Write the English summaries, for vectors of them.",
    epilog="Example: python -m catalog summaries && "
    "python -m harness embed build/summaries.jsonl --output build/summaries.parquet",
)
def summaries(
    output: Annotated[Path, typer.Option(help="File to write: JSON lines with the field text.")] = SUMMARIES,
    entries: Entries = ENTRIES,
) -> None:
    """Write the English summaries of the entries, of which the harness makes the vectors that `build` reads.

    A file that has the same texts stays untouched, so that its date says whether vectors must be computed.
    """
    from catalog.export import write
    from catalog.load import load
    from catalog.site.near import summaries as texts

    text = texts(load(entries))
    same = output.is_file() and output.read_bytes() == text.encode()
    print(f"{output}: {text.count(chr(10))} summaries{', unchanged' if same else ''}")
    if not same:
        write(output, text)


@app.command(short_help="Write the pages of the site.", epilog="Example: python -m catalog build && mkdocs serve")
def build(
    results: Annotated[Path, typer.Option(help="Index of published results, written by the harness.")] = INDEX,
    explained: Annotated[
        Path, typer.Option(help="What the harness's `explain` wrote, for the page that explains BERT step by step.")
    ] = EXPLAINED,
    docs: Annotated[Path, typer.Option(help="Folder with the hand-written pages, styles and scripts.")] = Path("docs"),
    output: Annotated[
        Path, typer.Option(help="Folder to write the pages to; its subfolders en and zh are replaced.")
    ] = PAGES,
    vectors: Annotated[
        Path, typer.Option(help="Vectors of the summaries, written by `python -m harness embed`; see `summaries`.")
    ] = VECTORS,
    site: Site = HOME,
    status: Annotated[
        Path, typer.Option(help="File of link states that `links` wrote.", show_default="catalog/link_status.json")
    ] = STATUS,
    entries: Entries = ENTRIES,
) -> None:
    """Write the pages of the site as Markdown, for MkDocs: mkdocs.yml (English) and mkdocs.zh.yml (Chinese)."""
    from catalog.links import read_status
    from catalog.load import load
    from catalog.site import near
    from catalog.site.pages import build as write

    if results != INDEX and not results.exists():
        raise BadInput(f"--results: {results} does not exist; `python -m harness index` writes it")
    if explained != EXPLAINED and not explained.exists():
        raise BadInput(f"--explained: {explained} does not exist; `python -m harness explain` writes it")
    if vectors != VECTORS and not vectors.exists():
        raise BadInput(f"--vectors: {vectors} does not exist; `python -m harness embed` writes it")
    found = load(entries)
    neighbours = near.read(vectors, found) if vectors.exists() else near.Near()
    if not vectors.exists():
        print(
            f"pages have no list of what is near in meaning: {vectors} does not exist; "
            f"`python -m catalog summaries` and `python -m harness embed {SUMMARIES} --output {vectors}` write it"
        )
    count = write(found, results, docs, output, site, read_status(status), explained, neighbours)
    print(f"{count} pages in {output}")
