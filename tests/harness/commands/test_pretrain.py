"""The commands vocab, corpus and pretrain, one after another on a small text; and what they refuse."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from harness.commands.pretrain import RECIPES, read_recipe
from harness.errors import BadInput

Main = Callable[..., tuple[int, str, str]]
RECIPE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_length": 32,
    "batch_tokens": 256,
    "tokens": 2000,
    "learning_rate": "1e-3",  # which YAML 1.1 reads as text
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    documents = [
        "\n".join(f"The river number {i} joins the sea at village {n} in {1900 + i + n}." for i in range(2 + n % 7))
        for n in range(60)
    ]
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n\n".join(documents), encoding="utf-8")
    return file


@pytest.fixture
def made(main: Main, text: Path, tmp_path: Path) -> Path:
    """A folder with a vocabulary, a corpus and a recipe."""
    assert main("vocab", text, "--size", "200", "--output", tmp_path / "vocab")[0] == 0
    command = ("corpus", text, "--vocab", tmp_path / "vocab", "--output", tmp_path / "corpus", "--held-out", "0.1")
    assert main(*command)[0] == 0
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    return tmp_path


def arguments(folder: Path, precision: str = "fp64") -> list[object]:
    """The limit of the machine is not measured for fp64, which would take a second."""
    recipe, corpus, output = folder / "recipe.yaml", folder / "corpus", folder / "bert"
    return [
        "pretrain",
        "--recipe",
        recipe,
        "--corpus",
        corpus,
        "--output",
        output,
        "--precision",
        precision,
        "--threads",
        1,
    ]


@pytest.mark.slow
def test_from_text_to_a_model(main: Main, made: Path) -> None:
    code, out, err = main(*arguments(made, "fp32"))
    assert code == 0, err
    assert "held-out loss" in err
    assert "by frequency alone" in err
    assert str(made / "bert") in out
    files = {path.name for path in (made / "bert").iterdir()}
    assert {"config.json", "model.safetensors", "vocab.txt", "recipe.yaml", "log.jsonl", "README.md"} <= files
    lines = [json.loads(line) for line in (made / "bert" / "log.jsonl").read_text().splitlines()]
    assert all(0 <= line["share_of_limit"] < 1 for line in lines if "mlm_loss" in line)
    page = (made / "bert" / "log.html").read_text(encoding="utf-8")
    assert "Loss of masked tokens" in page
    out = made / "published" / "tiny"
    about = ("--name", "tiny", "--text", "Rivers", "--licence", "CC0 1.0", "--corpus", made / "corpus")
    code, said, err = main("package", made / "bert", *about, "--output", out)
    assert code == 0, err
    assert "MB; rounding to float16 changed no weight by more than" in said
    assert "Licence of the text: CC0 1.0" in (out / "README.md").read_text(encoding="utf-8")
    assert main("package", made / "bert", *about, "--output", out)[0] == 2
    file = made / "sentences.txt"
    file.write_text("The river joins the sea.\n", encoding="utf-8")
    code, _, err = main("embed", file, "--weights", made / "bert", "--output", made / "vectors.npy")
    assert code == 0, err
    assert main(*arguments(made))[0] == 0  # it is complete
    (made / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"learning_rate": 0.5}), encoding="utf-8")
    code, _, err = main(*arguments(made))
    assert code == 2
    assert "another recipe (learning_rate 0.001 -> 0.5)" in err


def test_a_folder_of_something_else_is_refused(main: Main, made: Path) -> None:
    (made / "bert").mkdir()
    (made / "bert" / "letter.txt").write_text("dear")
    code, _, err = main(*arguments(made))
    assert code == 2
    assert "something else" in err
    assert [path.name for path in (made / "bert").iterdir()] == ["letter.txt"]


def test_diverged_training_is_a_failure(main: Main, made: Path) -> None:
    wild = RECIPE | {"learning_rate": 1e30, "warmup": 0.0, "max_grad_norm": 1e30}
    (made / "recipe.yaml").write_text(yaml.safe_dump(wild), encoding="utf-8")
    code, _, err = main(*arguments(made))
    assert code == 1
    assert "lower learning_rate" in err
    assert "Traceback" not in err


def test_a_full_disk(main: Main, made: Path) -> None:
    """A limit on the size of files has the same effect. What was there stays, and the run goes on afterwards."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        code, _, err = main(*arguments(made))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1, err
    assert "the disk is full" in err
    assert list((made / "bert" / "training").iterdir()) == []
    assert main(*arguments(made))[0] == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["vocab", "none.txt", "--output", "v"], "no file"),
        (["vocab", "TEXT", "--output", "v", "--size", "20"], "size from 105"),
        (["corpus", "TEXT", "--vocab", "none", "--output", "c"], "--vocab"),
        (["corpus", "TEXT", "--vocab", "none", "--output", "c", "--held-out", "1"], "share above 0"),
        (["corpus", "TEXT", "--vocab", "none", "--output", "c", "--segmenter", "jieba"], "MODULE:FUNCTION"),
        (["corpus", "TEXT", "--vocab", "none", "--output", "c", "--segmenter", "no_such:cut"], "install its package"),
        (["pretrain", "--corpus", "none", "--recipe", "atlas-tiny", "--output", "o"], "no corpus"),
        (["pretrain", "--corpus", "none", "--recipe", "atlas-big", "--output", "o"], "atlas-mini, atlas-tiny"),
        (["pretrain", "--corpus", "none", "--recipe", "TEXT", "--output", "o"], "recipe"),
        (
            ["pretrain", "--corpus", "n", "--recipe", "atlas-tiny", "--output", "o", "--checkpoint-minutes", "0"],
            "above 0",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_refused(
    command: list[str], said: str, main: Main, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = main(*(text if word == "TEXT" else word for word in command))
    assert code == 2
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_text_without_sentences(main: Main, made: Path) -> None:
    file = made / "headings.txt"
    file.write_text("History.\n\nLife.\n", encoding="utf-8")
    code, _, err = main("corpus", file, "--vocab", made / "vocab", "--output", made / "other")
    assert code == 2
    assert "no text is left" in err
    assert not (made / "other").exists()


@pytest.mark.parametrize("name", sorted(each.stem for each in RECIPES.glob("*.yaml")))
def test_recipes_that_come_with_it(name: str) -> None:
    assert read_recipe(name).tokens > 10**8
    assert read_recipe(name, tokens=5000).tokens == 5000


def test_a_recipe_that_is_no_mapping(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    for text in ("- tokens", "tokens: [", "just text"):
        file.write_text(text)
        with pytest.raises(BadInput, match=r"recipe\.yaml"):
            read_recipe(str(file))
