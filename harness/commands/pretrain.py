"""The commands vocab, corpus and pretrain: from raw text to weights."""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.commands.options import Device, Threads, thread_count
from harness.errors import BadInput, Failure
from harness.files import expanded
from harness.printable import printable

app = typer.Typer()

Text = Annotated[
    list[Path],
    typer.Argument(help="Text in UTF-8: a paragraph or sentence a line, blank lines between documents; .xz, .gz too."),
]


@app.command(epilog="Example: python -m harness vocab wiki.txt.xz --size 8192 --output my-vocab")
def vocab(
    text: Text,
    output: Annotated[Path, typer.Option(help="Folder for vocab.txt and tokenizer.json.")],
    size: Annotated[int, typer.Option(help="Number of pieces.")] = 8192,
    cased: Annotated[bool, typer.Option("--cased", help="Keep capitals and accents.")] = False,
) -> None:
    """Learn a WordPiece vocabulary from text.

    The special tokens have the ids of Google's vocabularies: [PAD] 0, [UNK] 100, [CLS] 101, [SEP] 102, [MASK] 103. The
    same text gives the same vocabulary, byte for byte. The text is read into memory.
    """
    files, folder = _files(text), _new_folder(output)
    with _errors(), _bytes_read("reading", files) as report:
        from reference.pretraining.text import read_documents
        from reference.pretraining.vocabulary import save_vocabulary, train_vocabulary

        documents = list(read_documents(files, report))
        report(sum(file.stat().st_size for file in files), "learning pieces")
        tokenizer = train_vocabulary(documents, size, cased)
        save_vocabulary(tokenizer, folder)
    count = tokenizer.get_vocab_size()
    print(printable(f"{output}: {count} pieces"))
    if count < size:
        print(f"the text has no more pieces that occur twice, so there are fewer than {size}", file=sys.stderr)


@app.command(
    epilog="Examples:\n\n"
    "python -m harness corpus wiki.txt.xz --vocab my-vocab --output my-corpus\n\n"
    "python -m harness corpus 新闻.txt --vocab my-vocab --segmenter jieba:lcut --output my-corpus"
)
def corpus(
    text: Text,
    vocab: Annotated[Path, typer.Option(help="Folder of a vocabulary: of `vocab`, or of any BERT.")],
    output: Annotated[Path, typer.Option(help="Folder for the corpus; it must not exist.")],
    held_out: Annotated[float, typer.Option(help="Share of documents held out, to measure on.")] = 0.01,
    segmenter: Annotated[
        str | None,
        typer.Option(help="MODULE:FUNCTION, which splits a text into words, for masks of whole Chinese words."),
    ] = None,
) -> None:
    """Clean text, split it into sentences and encode it, ready for pre-training.

    Headings (lines of fewer than four words), repeated lines and near-duplicate documents are left out; how many is
    printed, and written to manifest.json with the sha256 of every file. The folder appears whole, at the end.
    """
    if not 0 < held_out < 1:
        raise BadInput(f"--held-out is {held_out}; it is a share above 0 and below 1")
    files, folder, words = _files(text), expanded(output), _function(segmenter)
    with _errors(), _bytes_read("encoding", files) as report:
        from reference.pretraining.corpus import build_corpus

        manifest = build_corpus(files, expanded(vocab), folder, held_out, words, report)
    for name, counts in manifest["splits"].items():
        said = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        print(printable(f"{output}/{name}: {said}"))
    if left_out := ", ".join(f"{count:,} {what}" for what, count in manifest["left_out"].items()):
        print(f"left out, or unknown to the vocabulary: {left_out}", file=sys.stderr)
    if not manifest["splits"]["held_out"]["documents"]:
        print("no document is held out: the text has too few for this share, so nothing can be measured on", file=sys.stderr)


def _files(given: list[Path]) -> list[Path]:
    files = [expanded(each) for each in given]
    for file in files:
        if not file.is_file():
            raise BadInput(f"{file} is not a file" if file.exists() else f"there is no file {file}")
    return files


def _new_folder(given: Path) -> Path:
    folder = expanded(given)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"--output: {folder} is there already; name another folder, or delete it")
    return folder


def _function(name: str | None) -> Callable[[str], Iterable[str]] | None:
    """The function that ``MODULE:FUNCTION`` names."""
    if name is None:
        return None
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise BadInput(f"--segmenter {name!r} is not of the form MODULE:FUNCTION, such as jieba:lcut")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"--segmenter {name}: {error}; install its package here") from error
    return found  # type: ignore[no-any-return]


@contextmanager
def _errors() -> Iterator[None]:
    """Turn the errors of pre-training into those of commands."""
    from reference.errors import DivergedError, PretrainingError

    try:
        yield
    except PretrainingError as error:
        raise BadInput(str(error)) from error
    except DivergedError as error:
        raise Failure(str(error)) from error


@contextmanager
def _bytes_read(what: str, files: list[Path]) -> Iterator[Any]:
    """A bar of the bytes that were read; on a pipe there is none."""
    from harness.commands.terminal import log_console, progress

    total = sum(file.stat().st_size for file in files)
    with progress(log_console()) as show:

        def report(done: int, doing: str = what) -> None:
            show(f"{doing}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB", done, max(1, total))

        yield report
