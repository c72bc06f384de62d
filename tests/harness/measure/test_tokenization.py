"""Our tokenizer against transformers' at planning; ports decide alike; a saved model is read alike by everybody."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BadInput
from harness.measure import evaluate, quality, tokenization
from harness.measure.bench import Bench
from harness.measure.plan import Options, Plan, prepare
from harness.measure.run import Run
from harness.port.batch import Array
from harness.port.hf_folder import is_uncased, read_vocabulary
from harness.predict.predict import predict_file
from harness.weights.checkpoints import Checkpoints
from reference.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "The", "cat", "Cat", "Paris", "a", "##a", "A", ",", "."]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(folder: Path, pieces: list[str], **files: Any) -> Path:
    """A folder of this vocabulary, and of files by their names without an ending."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in [*SPECIAL, *pieces]), encoding="utf-8")
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


def test_that_transformers_reads_a_folder_alike_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    folder = write(tmp_path / "model", WORDS, tokenizer_config={"do_lower_case": False})
    tokenization.check_folder(folder, Tokenizer.from_folder(folder), keep=False)
    assert not cache.exists()
    tokenization.check_folder(folder, Tokenizer.from_folder(folder))
    monkeypatch.setattr(tokenization, "_of_transformers", lambda *_: pytest.fail("it is looked at again"))
    tokenization.check_folder(folder, Tokenizer.from_folder(folder))

    (folder / "added_tokens.json").write_text(json.dumps({"<e>": 15}))
    with pytest.raises(pytest.fail.Exception, match="looked at again"):
        tokenization.check_folder(folder, Tokenizer.from_folder(folder))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config": {"do_lower_case": True}}, r"'The ferry left at nine.' is \[CLS\] the .* there, and "),
        ({"tokenizer_config": {"do_lower_case": False}, "added_tokens": {"<e>": 15}}, "'<e>' has the id 15 there, and"),
        ({"tokenizer_config": {"do_lower_case": False, "truncation_side": "left"}}, "is .* there, and .* here"),
        ({"tokenizer_config": {"do_lower_case": False, "added_tokens_decoder": []}}, "there it cannot be read"),
    ],
)
def test_a_difference_to_transformers_is_refused_with_all_files_named(
    files: dict[str, Any], message: str, tmp_path: Path, cache: Path
) -> None:
    ours = Tokenizer.from_folder(write(tmp_path / "ours", WORDS, tokenizer_config={"do_lower_case": False}))
    folder = write(tmp_path / "theirs", WORDS, **files)
    with pytest.raises(BadInput, match=message) as raised:
        tokenization.check_folder(folder, ours)
    assert f"{folder}: " in str(raised.value)
    assert "vocab.txt, tokenizer_config.json" in str(raised.value)
    assert not cache.exists()


def test_no_code_of_a_folder_is_run(tmp_path: Path) -> None:
    settings = {"do_lower_case": False, "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    folder = write(tmp_path / "model", WORDS, tokenizer_config=settings)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ValueError, match="auto_map names a tokenizer in code of its own, which is never run"):
        Tokenizer.from_folder(folder)
    ours = Tokenizer.from_folder(write(tmp_path / "ours", WORDS, tokenizer_config={"do_lower_case": False}))
    tokenization.check_folder(folder, ours)  # transformers reads it without that code
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "tokenizer_class is BertJapaneseTokenizer"),
        ({"do_lower_case": None}, "transformers reads its tokenizer .* otherwise than we do"),
    ],
)
def test_planning_refuses_a_tokenizer_that_is_not_bert_s(
    files: dict[str, Any], message: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "weights")
    (folder / "tokenizer_config.json").write_text(json.dumps(files))
    options = Options(["reference"], ["mini-sentiment"], weights=str(folder), runs=tmp_path / "runs", dry_run=True)
    with pytest.raises(BadInput, match=message):
        prepare(options)


# -- ports --

DECIDED: list[tuple[str, list[str], dict[str, Any]]] = [
    ("mine", WORDS, {}),
    ("mine", ["cat", "<S>", "<T>"], {}),
    ("chinese_L-12_H-768_A-12", WORDS, {}),
    ("multi_cased_L-12_H-768_A-12", ["cat"], {}),
    ("mine", WORDS, {"tokenizer_config": {"model_max_length": 512}}),
    ("mine", WORDS, {"tokenizer_config": {"do_lower_case": True}}),
    ("mine", ["cat"], {"tokenizer_config": {"do_lower_case": False}}),
    ("mine", ["cat\r", "", "dog", "dog", "\u3000a\u2028"], {}),
]


@pytest.mark.parametrize(("name", "pieces", "files"), DECIDED)
def test_ports_get_the_vocabulary_and_the_case_of_our_tokenizer(
    name: str, pieces: list[str], files: dict[str, Any], tmp_path: Path
) -> None:
    folder = write(tmp_path / name, pieces, **files)
    ours = Tokenizer.from_folder(folder)
    read = read_vocabulary(folder)
    assert is_uncased(folder, read) is ours.lower_case
    assert {piece: read.index(piece) for piece in ours.vocabulary()} == ours.vocabulary()

    ours.save(tmp_path / "saved")
    again = read_vocabulary(tmp_path / "saved")
    assert is_uncased(tmp_path / "saved", again) is ours.lower_case
    assert again == read
    (tmp_path / "saved" / "tokenizer.json").unlink()
    assert read_vocabulary(tmp_path / "saved") == read


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("settings", [{}, {"do_lower_case": True}, {"do_lower_case": False}])
@pytest.mark.parametrize("name", ["BertTokenizer", "PreTrainedTokenizerFast"])
def test_ports_get_the_case_of_a_tokenizer_json(
    name: str, settings: dict[str, bool], lower: bool, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    whole = json.loads((tiny_checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    whole["normalizer"]["lowercase"] = lower
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name} | settings))
    ours = Tokenizer.from_folder(tmp_path)
    assert is_uncased(tmp_path, read_vocabulary(tmp_path)) is ours.lower_case
    assert (ours.encode("CAT") == ours.encode("cat")) is ours.lower_case


def test_what_files_disagree_about_is_settled_in_the_folder_that_ports_get(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "weights")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    options = Options(["reference"], ["mini-sentiment"], weights=str(folder), runs=tmp_path / "runs")
    plan = prepare(options)
    bare = Checkpoints(plan.weights.folder, plan.tokenizer, tmp_path / "written").bare()
    assert json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["normalizer"]["lowercase"] is True
    assert json.loads((bare / "tokenizer.json").read_text(encoding="utf-8"))["normalizer"]["lowercase"] is False
    assert Tokenizer.from_folder(bare).notes == ()


# -- saved models --

TEXTS = ["The Cat sat.", "a cat, A CAT", "Paris", "the the the the the the the the the the", "我用Cat ABBA <e1>a"]
GOOGLE = [*WORDS, "sat", "paris", "b", "##b", "B", "##B", "##A"]
Saved = Callable[[Path, int, bool], Path]


class Exporting:
    """What ``save_model`` asks of a worker, with the weights of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def export(self) -> dict[str, Array]:
        from reference.checkpoint import read

        return {name: 100 * tensor.numpy() for name, tensor in read(self.folder).tensors.items()}


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """A function that saves a model for a task, trained in a worker or not trained, and gives its folder."""

    def save_one(folder: Path, rows: int, train: bool) -> Path:
        made = planned(folder, rows, tmp_path)
        checkpoints = Checkpoints(made.weights.folder, made.tokenizer, tmp_path / "made")
        run = Run(made, made.implementations[0], made.tasks[0], 42)
        if train:
            bench = Bench(made, {"reference": Path(sys.executable)}, checkpoints, lambda *_: None)
            done = quality.run_trained(bench, run, for_encoders=False)
            assert done.state == "ok", done.reason
        else:
            worker = Exporting(checkpoints.with_head(run.task, 42))
            evaluate.save_model(worker, run, tmp_path / "model")  # type: ignore[arg-type]
        (description,) = (tmp_path / "model").rglob("bert_atlas.json")
        return description.parent

    return save_one


def planned(folder: Path, rows: int, place: Path) -> Plan:
    """A run on a handful of texts, with random weights in the folder of a tokenizer."""
    import torch

    from reference.checkpoint import Checkpoint, save, tensors_of
    from reference.model import Bert, BertConfig

    config = BertConfig(
        vocab_size=rows, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    save(Checkpoint(config, tensors_of(Bert(config))), folder)
    data = "".join(f"{text}\t{'AB'[number % 2]}\n" for number, text in enumerate(TEXTS))
    (place / "data.tsv").write_text("text\tlabel\n" + data, encoding="utf-8")
    (place / "task.yaml").write_text(
        "name: letters\ntitle: Letters\nkind: classification\nlabels: [A, B]\nformat: tsv\n"
        "files: {train: data.tsv, dev: data.tsv}\ncolumns: {text: text, label: label}\nevaluate: [dev]\n"
        "metrics: [accuracy]\nmax_length: 8\nrecipe: {epochs: 1, learning_rate: 0.01, batch_size: 4}\n"
    )
    where = {"weights": str(folder), "runs": place / "runs", "save_model": place / "model"}
    return prepare(Options(["reference"], [str(place / "task.yaml")], threads=1, **where))


def google_layout(folder: Path, pieces: list[str]) -> tuple[Path, int]:
    return write(folder, pieces), len(SPECIAL) + len(pieces)


def with_added_tokens(folder: Path) -> tuple[Path, int]:
    return write(folder, GOOGLE, tokenizer_config={"do_lower_case": True}, added_tokens={"<e1>": 22}), 23


def that_disagrees(folder: Path) -> tuple[Path, int]:
    Tokenizer.from_folder(write(folder, GOOGLE)).save(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder, len(SPECIAL) + len(GOOGLE)


FOLDERS: dict[str, Callable[[Path], tuple[Path, int]]] = {
    "cased": lambda place: google_layout(place / "mine", GOOGLE),
    "uncased": lambda place: google_layout(
        place / "mine", [piece.lower() + "x" * (piece != piece.lower()) for piece in GOOGLE]
    ),
    "Chinese": lambda place: google_layout(
        place / "chinese_L-12_H-768_A-12", [*"我用", "<S>", "<T>", "the", "cat", "a", "##b", "##a"]
    ),
    "with added tokens": lambda place: with_added_tokens(place / "mine"),
    "whose files disagree": lambda place: that_disagrees(place / "mine"),
}


@pytest.mark.parametrize(("kind", "train"), [("cased", True), *((kind, False) for kind in FOLDERS)])
def test_a_saved_model_answers_in_transformers_as_here(kind: str, train: bool, saved: Saved, tmp_path: Path) -> None:
    import transformers

    folder, rows = FOLDERS[kind](tmp_path)
    ours = Tokenizer.from_folder(folder)
    model = saved(folder, rows, train)

    pipe = transformers.pipeline("text-classification", str(model), device="cpu")
    again = Tokenizer.from_folder(model)
    for text, pair in [(text, None) for text in TEXTS] + [(text, "The CAT <e1>") for text in TEXTS]:
        encoding = ours.encode(text, pair, 8)
        theirs = pipe.tokenizer(text, pair, truncation=True)
        assert (theirs["input_ids"], theirs["token_type_ids"]) == (encoding.ids, encoding.segments)
        assert again.encode(text, pair) == encoding

    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    rows_of_ours = [line.split("\t") for line in predict_file(model, tmp_path / "texts.txt", "cpu").text.splitlines()]
    answers = pipe(TEXTS, truncation=True)
    assert [(row[1], row[2]) for row in rows_of_ours[1:]] == [
        (answer["label"], f"{answer['score']:.4f}") for answer in answers
    ]


def test_sentence_transformers_reads_a_saved_model_alike(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    ours = Tokenizer.from_folder(write(tmp_path / "cased", GOOGLE))
    ours.save(folder, max_length=8)
    encoded = SentenceTransformer(str(folder), device="cpu").tokenize(TEXTS)
    kept = [
        ids[mask.bool()].tolist() for ids, mask in zip(encoded["input_ids"], encoded["attention_mask"], strict=True)
    ]
    assert kept == [ours.encode(text, None, 8).ids for text in TEXTS]
