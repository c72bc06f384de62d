"""Corpora: what is kept, what is left out, and that nothing is half written."""

import json
from pathlib import Path

import numpy as np
import pytest

from reference.errors import PretrainingError
from reference.pretraining import corpus as module
from reference.pretraining.corpus import Corpus, Split, build_corpus, open_corpus
from reference.tokenizer import Tokenizer


def texts(split: Split, folder: Path) -> list[list[str]]:
    """The sentences of each document, decoded."""
    tokenizer = Tokenizer.from_folder(folder)
    found = []
    for first, end in zip(split.documents, split.documents[1:], strict=False):
        ranges = [split.pieces[split.sentences[s] : split.sentences[s + 1]] for s in range(first, end)]
        found.append([" ".join(tokenizer.token(int(n)) for n in each).replace(" ##", "") for each in ranges])
    return found


def test_the_corpus_has_all_sentences_in_order(corpus: Corpus, text_file: Path) -> None:
    written = [
        [line.lower().replace(".", " .") for line in document.splitlines()]
        for document in text_file.read_text(encoding="utf-8").strip().split("\n\n")
    ]
    train, held_out = texts(corpus.train, corpus.folder), texts(corpus.held_out, corpus.folder)
    assert len(train) + len(held_out) + corpus.manifest["left_out"].get("near-duplicate documents", 0) == len(written)
    assert 0 < len(held_out) < 25
    for document in train + held_out:
        assert any(document == [s for s in each if s in document] for each in written)


def test_held_out_documents_stay_held_out_when_text_is_added(
    corpus: Corpus, text_file: Path, vocabulary_folder: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more.txt"
    more.write_text("A tall bridge crosses the wide river near the old mill.\n\n" * 3, encoding="utf-8")
    build_corpus([more, text_file], vocabulary_folder, tmp_path / "c", held_out=0.1)
    after = texts(open_corpus(tmp_path / "c").held_out, corpus.folder)
    assert [each for each in texts(corpus.held_out, corpus.folder) if each not in after] == []


def test_the_same_input_gives_the_same_bytes(
    corpus: Corpus, text_file: Path, vocabulary_folder: Path, tmp_path: Path
) -> None:
    manifest = build_corpus([text_file], vocabulary_folder, tmp_path / "c", held_out=0.1)
    assert manifest == corpus.manifest


def test_what_is_left_out(vocabulary_folder: Path, tmp_path: Path) -> None:
    first = [f"The river {verb} the county of arden in the year {n}." for n in range(1900, 1920) for verb in ("joins",)]
    near = [*first[:-1], "A player leaves the city."]
    file = tmp_path / "text.txt"
    other = ["A village joins the city of denby in 1950.", "History.", first[0]]
    file.write_text("\n\n".join(map("\n".join, [first, [" ".join(near)], other, ["Early life."]])), encoding="utf-8")
    manifest = build_corpus([file], vocabulary_folder, tmp_path / "c", held_out=1e-9)
    assert manifest["left_out"]["headings"] == 2
    assert manifest["left_out"]["repeated lines"] == 1
    assert manifest["left_out"]["near-duplicate documents"] == 1
    assert manifest["left_out"]["documents without sentences"] == 1
    assert manifest["splits"]["train"]["documents"] == 2


def test_a_text_that_writes_special_tokens_means_letters(vocabulary_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("the river [SEP] joins [MASK] the city [CLS] in 1900.", encoding="utf-8")
    build_corpus([file], vocabulary_folder, tmp_path / "c", held_out=1e-9)
    assert not {101, 102, 103} & set(open_corpus(tmp_path / "c").train.pieces.tolist())


def test_words_of_a_segmenter(vocabulary_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("北京是中国的首都。", encoding="utf-8")
    words = ["北京", "是", "中国", "的", "首都", "。"]
    build_corpus([file], vocabulary_folder, tmp_path / "c", held_out=1e-9, segmenter=lambda text: words)
    continues = open_corpus(tmp_path / "c").train.continues
    assert continues is not None
    assert continues.tolist() == [0, 1, 0, 0, 1, 0, 0, 1, 0]
    with pytest.raises(PretrainingError, match="changes the text"):
        build_corpus([file], vocabulary_folder, tmp_path / "d", segmenter=lambda text: text.split("的"))


@pytest.mark.parametrize(("text", "said"), [("", "the files are empty"), ("History.\n\nLife.\n", "2 headings")])
def test_no_text_is_an_error(text: str, said: str, vocabulary_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PretrainingError, match=said):
        build_corpus([file], vocabulary_folder, tmp_path / "c")
    assert [each.name for each in tmp_path.iterdir()] == ["text.txt"]


def test_an_interrupted_corpus_leaves_nothing(
    text_file: Path, vocabulary_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(line: str) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "sentences", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build_corpus([text_file], vocabulary_folder, tmp_path / "c")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "c.part").mkdir()  # as a killed process leaves it
    build_corpus([text_file], vocabulary_folder, tmp_path / "c")
    assert [each.name for each in tmp_path.iterdir()] == ["c"]
    with pytest.raises(PretrainingError, match="is there already"):
        build_corpus([text_file], vocabulary_folder, tmp_path / "c")


def test_a_changed_file_is_found(text_file: Path, vocabulary_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainingError, match=r"no manifest\.json"):
        open_corpus(tmp_path)
    build_corpus([text_file], vocabulary_folder, tmp_path / "c")
    pieces = np.memmap(tmp_path / "c" / "train" / "pieces.bin", np.uint16, "r+")
    pieces[5] += 1
    pieces.flush()
    with pytest.raises(PretrainingError, match=r"pieces\.bin is missing or not as it was written"):
        open_corpus(tmp_path / "c")
    (tmp_path / "c" / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(PretrainingError, match="format"):
        open_corpus(tmp_path / "c")


def test_a_vocabulary_without_mask(text_file: Path, vocabulary_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    lines = (vocabulary_folder / "vocab.txt").read_text(encoding="utf-8").replace("[MASK]", "other")
    (tmp_path / "v" / "vocab.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(PretrainingError, match=r"no \[MASK\]"):
        build_corpus([text_file], tmp_path / "v", tmp_path / "c")
