"""The commands vocab, corpus and pretrain: from raw text to weights."""

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from harness.commands.options import Device, Threads, thread_count
from harness.errors import BadInput, Failure
from harness.files import exclusive, expanded, write_whole
from harness.printable import printable

if TYPE_CHECKING:
    from reference.model import BertConfig
    from reference.pretraining.recipe import Recipe
    from reference.pretraining.train import Setting

app = typer.Typer()
RECIPES = Path(__file__).parents[1] / "recipes"
TOKENS = 4096  # rows of the products whose speed is the machine's limit

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
        print(
            "no document is held out: the text has too few for this share, so nothing can be measured on",
            file=sys.stderr,
        )


@app.command(
    epilog="Examples:\n\n"
    "python -m harness pretrain --corpus my-corpus --recipe atlas-tiny --output my-bert\n\n"
    "torchrun --nproc-per-node 2 -m harness pretrain --corpus my-corpus --recipe my.yaml --output my-bert"
)
def pretrain(
    corpus: Annotated[Path, typer.Option(help="Folder that `corpus` wrote.")],
    recipe: Annotated[str, typer.Option(help="atlas-tiny, atlas-mini, or a YAML file.")],
    output: Annotated[Path, typer.Option(help="Folder for the model; a run that it holds goes on.")],
    tokens: Annotated[int | None, typer.Option(help="Budget in tokens.  [default: the recipe's]")] = None,
    minutes: Annotated[float, typer.Option("--checkpoint-minutes", help="Minutes between two saved states.")] = 5.0,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (bf16 where the processor has products in it), fp32, bf16 or fp64.")
    ] = "auto",
    threads: Threads = None,
) -> None:
    """Pre-train a BERT on a corpus: masked words and next sentences.

    Stop it whenever you like: the same command goes on from the last state, and ends with the same weights, bit by bit,
    as if it had not been stopped. The result is a folder that `--weights FOLDER` and transformers load, with a model
    card and the log of the training.
    """
    if not minutes > 0:
        raise BadInput(f"--checkpoint-minutes is {minutes}; it must be above 0")
    chosen, folder = read_recipe(recipe, tokens), expanded(output)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--output: {folder} is a file")
    with _errors():
        from reference.pretraining.corpus import open_corpus
        from reference.pretraining.state import states
        from reference.pretraining.train import pretrain as train

        opened = open_corpus(expanded(corpus))
        setting = _setting(device, precision, threads, minutes, chosen.config(opened.manifest["vocabulary"]["size"]))
        first = os.environ.get("RANK", "0") == "0"
        with _alone_in(folder) if first else nullcontext(), _training(chosen.tokens, first, folder) as show:
            if first and not states(folder / "training"):
                write_whole(folder / "recipe.yaml", yaml.safe_dump(chosen.as_dict(), sort_keys=False).encode())
            finished = train(opened, chosen, folder, setting, show)
            if first:
                _draw(folder)
    if not finished:
        print(f"stopped; the state is saved, and the same command goes on: {printable(str(folder))}", file=sys.stderr)
        raise KeyboardInterrupt
    if first:
        print(printable(f"{folder}: the model, with a card (README.md) and its course (log.jsonl, log.html)"))


@app.command(
    epilog='Example: python -m harness package my-bert --corpus my-corpus --name my-bert --text "Letters of my town" '
    '--licence "CC BY 4.0" --output published/my-bert'
)
def package(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run of `pretrain`.")],
    corpus: Annotated[Path, typer.Option(help="Folder of the corpus that it was trained on.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    text: Annotated[str, typer.Option(help="What the text is, in a few words.")],
    licence: Annotated[str, typer.Option(help="Licence of the text.")],
    output: Annotated[Path, typer.Option(help="Folder for the result; it must not exist.")],
) -> None:
    """Make a pre-trained model ready to publish.

    Weights in float16, vocabulary, recipe, log, and a card that states the data with its sha256 and licence, the cost
    and the result; no states of the training. `--weights FOLDER` and transformers load the folder, and compute in
    float32.
    """
    folder = expanded(output)
    if folder.exists():
        raise BadInput(f"--output: {folder} is there already; name another folder, or delete it")
    if not (name.strip() and text.strip() and licence.strip()):
        raise BadInput("--name, --text and --licence: a reader of the card needs all three; give each in a few words")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _errors():
        from reference.pretraining.card import Published
        from reference.pretraining.corpus import open_corpus
        from reference.pretraining.package import package as write

        error = write(expanded(run), open_corpus(expanded(corpus)), folder, Published(name, text, licence))
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(printable(f"{folder}: {size / 1e6:.1f} MB; rounding to float16 changed no weight by more than {error:.1e}"))


def read_recipe(name: str, tokens: int | None = None) -> "Recipe":
    """A recipe by its name or file. BadInput if there is none, or if a field is wrong."""
    from harness.data.yaml_file import read_yaml
    from reference.pretraining.recipe import Recipe

    file = RECIPES / f"{name}.yaml"
    if not file.is_file():
        file = expanded(name)
        if not file.is_file():
            known = ", ".join(sorted(each.stem for each in RECIPES.glob("*.yaml")))
            raise BadInput(f"--recipe: {name} is neither a recipe ({known}) nor a file")
    values = read_yaml(file, "recipe")
    if not isinstance(values, dict):
        raise BadInput(f"{file}: a recipe is a list of fields, such as tokens: 1000000")
    if tokens is not None:
        values = values | {"tokens": tokens}
    with _errors():
        return Recipe.from_dict(values, str(file))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """BadInput for a folder that holds something else than a run, or one that another process trains in."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "recipe.yaml").is_file():
        raise BadInput(f"--output: {folder} holds something else than a run of pretrain; name another folder")

    def taken() -> None:
        raise BadInput(f"--output: another process trains in {folder}")

    with exclusive(folder / "recipe.yaml", taken):
        yield


def _setting(device: str, precision: str, threads: int | None, minutes: float, config: "BertConfig") -> "Setting":
    import torch

    from harness.worker.roofline import limits
    from reference import resolve_device
    from reference.pretraining.train import DTYPES, Setting
    from reference.processor import multiplies

    try:
        where = resolve_device(device)
    except ValueError as error:
        raise BadInput(f"--device: {error}") from None
    if precision == "auto":
        has_bf16 = torch.cuda.is_bf16_supported() if where.startswith("cuda") else multiplies("bf16")
        precision = "bf16" if has_bf16 else "fp32"
    if precision not in DTYPES:
        raise BadInput(f"--precision {precision!r} is not one of auto, {', '.join(DTYPES)}")
    if threads is not None or "WORLD_SIZE" not in os.environ:  # torchrun gives each process its share
        torch.set_num_threads(thread_count(threads))
    found = limits(asdict(config), TOKENS, [precision], where)[precision] if precision != "fp64" else {}
    return Setting(torch.device(where), precision, minutes, found.get("flops_per_second"))


@contextmanager
def _training(tokens: int, first: bool, folder: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar with the figures of the last steps; measurements on held-out text stay on the screen, and are drawn."""
    from harness.commands.terminal import log_console, progress

    if not first:
        yield lambda line: None
        return
    console, unigram = log_console(), ""
    with progress(console) as bar:

        def show(line: dict[str, Any]) -> None:
            nonlocal unigram
            event = line.get("event")
            if event == "start" and "unigram_loss" in line:
                unigram = f" (by frequency alone {line['unigram_loss']:.2f}"
                unigram += f", from the piece before {line['bigram_loss']:.2f})" if "bigram_loss" in line else ")"
            elif event == "held out":
                console.print(_held_out(line, tokens) + unigram, highlight=False, markup=False, soft_wrap=True)
                _draw(folder)
            elif event is None:
                bar(_progress(line, tokens), line["tokens"], tokens)

        yield show


def _draw(folder: Path) -> None:
    """Write log.html, the course of the run so far."""
    from harness.report.training import training_page

    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    write_whole(folder / "log.html", training_page(folder.name, list(map(json.loads, lines))).encode())


def _held_out(line: dict[str, Any], tokens: int) -> str:
    said = f"{min(1, line['tokens'] / tokens):.0%}: held-out loss {line['held_out_loss']:.2f}"
    said += f", masked tokens right {line['held_out_accuracy']:.1%}"
    if "held_out_nsp_accuracy" in line:
        said += f", next sentence {line['held_out_nsp_accuracy']:.1%} (majority {line['held_out_nsp_majority']:.1%})"
    return said


def _progress(line: dict[str, Any], tokens: int) -> str:
    rate = line["tokens_per_second"]
    left = max(0, tokens - line["tokens"]) / max(1, rate) / 60
    said = f"loss {line['mlm_loss']:.2f}, masked {line['masked_accuracy']:.1%}"
    if "nsp_accuracy" in line:
        said += f", next sentence {line['nsp_accuracy']:.1%} ({line['nsp_majority']:.1%})"
    if "share_of_limit" in line:
        rate_said = f"{rate:,} tokens/s, {line['share_of_limit']:.0%} of the limit"
    else:
        rate_said = f"{rate:,} tokens/s"
    return f"{said}, {rate_said}, {left:,.0f} min left"


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
    if not callable(found):
        raise BadInput(f"--segmenter {name}: it is no function")
    return found


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
