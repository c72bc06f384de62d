"""Vocabularies: Google's ids, the same bytes every time, what cannot be learnt."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from reference.errors import PretrainingError
from reference.pretraining.text import read_documents
from reference.pretraining.vocabulary import save_vocabulary, train_vocabulary
from reference.tokenizer import Tokenizer

ROOT = Path(__file__).parents[3]


def test_the_ids_are_googles(vocabulary_folder: Path) -> None:
    pieces = (vocabulary_folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert len(pieces) <= 300
    assert [pieces.index(each) for each in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [0, 100, 101, 102, 103]
    assert pieces[1:100] == [f"[unused{i}]" for i in range(99)]
    assert len(set(pieces)) == len(pieces)


def test_the_folder_is_read_alike_by_transformers(vocabulary_folder: Path) -> None:
    text = "The River crosses the county of Ārden in 1931, unseen: 北京 [MASK]"
    ours = Tokenizer.from_folder(vocabulary_folder).encode(text).ids
    assert ours == transformers.AutoTokenizer.from_pretrained(vocabulary_folder)(text)["input_ids"]


def test_the_same_text_gives_the_same_bytes(text_file: Path, vocabulary_folder: Path, tmp_path: Path) -> None:
    """In another process, whose hash tables are seeded differently, and with another number of threads."""
    code = (
        "import sys; from pathlib import Path\n"
        "from reference.pretraining.text import read_documents\n"
        "from reference.pretraining.vocabulary import *\n"
        "save_vocabulary(train_vocabulary(read_documents([Path(sys.argv[1])]), 300), Path(sys.argv[2]))"
    )
    environment = os.environ | {"RAYON_NUM_THREADS": "3", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, text_file, tmp_path / "again"], env=environment, check=True)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (vocabulary_folder / name).read_bytes()


def test_rare_characters_get_no_piece(tmp_path: Path) -> None:
    common = ["the river joins the sea near the village"] * 500
    tokenizer = train_vocabulary([[*common, "one ☃ and one ☂"]], 200)
    assert tokenizer.token_to_id("☃") is None
    assert "[UNK]" in tokenizer.encode("the ☃").tokens
    assert "[UNK]" not in tokenizer.encode("the river near the sea").tokens


def test_chinese(tmp_path: Path) -> None:
    text = ["北京是中国的首都，上海是中国的城市。"] * 20
    save_vocabulary(train_vocabulary([text], 160), tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert [tokenizer.token(n) for n in tokenizer.encode("上海的首都").ids[1:-1]] == list("上海的首都")


def test_cased(tmp_path: Path) -> None:
    save_vocabulary(train_vocabulary([["Paris is in France, Berlin is in Germany"] * 5], 200, cased=True), tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert not tokenizer.lower_case
    assert tokenizer.token(tokenizer.encode("Paris").ids[1])[0] == "P"


@pytest.mark.parametrize(
    ("documents", "size", "said"),
    [
        ([], 300, "empty"),
        ([["\u200b", " "]], 300, "empty"),
        ([["some text of letters"]], 104, "size from 105"),
        ([["some text of letters"]], 110, "too small for the"),
    ],
)
def test_what_cannot_be_learnt(documents: list[list[str]], size: int, said: str) -> None:
    with pytest.raises(PretrainingError, match=said):
        train_vocabulary(documents, size)


def test_documents_are_read_once(text_file: Path) -> None:
    assert train_vocabulary(read_documents([text_file]), 200).get_vocab_size() == 200
