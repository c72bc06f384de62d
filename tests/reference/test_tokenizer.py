"""The tokenizer gives the ids and segments of transformers' BertTokenizer, whatever the text."""

import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from transformers import BertTokenizer

from reference.tokenizer import Tokenizer

TEXTS = {
    "plain": "The quick brown fox jumps over the lazy dog.",
    "accents": "Crème brûlée à la façon de Zoë, Ångström, İstanbul, straße, ÉCOLE",
    "combining marks": "e\u0301le\u0300ve n\u0303 a\u030a o\u0308\u0323 \u0301alone",
    "Chinese": "今天天气很好，我们去公园吧。BERT模型",
    "Chinese outside the basic plane": "𠀀𠮷野家 㐀 豈",
    "Japanese": "ひらがなカタカナ漢字ｶﾀｶﾅ が か\u3099",
    "Korean": "안녕하세요 세계 \u1112\u1161\u11ab",
    "other scripts": "Привет мир! שלום عَلَيْكُم नमस्ते สวัสดี Ελλάς",
    "emoji": "👍 👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 👍🏽 🇩🇪 ☕ ok",
    "control characters": "a\x01b\x7fc\x9fd \x1b[0m \x08",
    "NUL": "nul\x00byte \x00",
    "replacement character": "bad\ufffdbytes \ufffd",
    "zero width": "zero\u200bwidth\u200cnon\u200djoiner\ufeffmark soft\u00adhyphen \u202eright to left",
    "spaces": "a\tb\nc\r\nd\u00a0e\u2003f\u3000g\u2028h\u2029i\u0085j\x0bk\x0cl  m",
    "a word of 200 letters": "a" * 200 + " then",
    "words at the limit of 100": "b" * 100 + " " + "c" * 101,
    "empty": "",
    "blank": " \t\n ",
    "special tokens": "[CLS] a [MASK] b[MASK]c [SEP] [PAD] [UNK] [mask] [ MASK ] [unused1]",
    "apostrophes": "don't I'll o'clock rock 'n' roll ’quoted’ ``x''",
    "punctuation": "$1,234.56 (3.5%) a-b_c #tag @user http://x.y/z?q=1&r=2 ~^`|<>{}[]\\",
    "capitals": "NASA iPhone McDonald ŒUVRE ΣΊΣΥΦΟΣ ǅ ﬁne",
    "very long": "word " * 3000,
}
CASED_VOCABULARY = (
    ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "the", "quick", "Quick", "NASA", "fox", "Fox"]
    + [
        f"{prefix}{letter}"
        for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        for prefix in ("", "##")
    ]
    + [
        "é",
        "##é",
        "è",
        "##û",
        "Å",
        "##ö",
        "今",
        "天",
        "漢",
        "か",
        "が",
        ".",
        ",",
        "'",
        "-",
        "!",
        "[",
        "]",
        "##ing",
        "$",
    ]
)


@pytest.fixture(scope="module")
def folders(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same vocabulary with and without tokenizer.json, and a cased one."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("json", "vocabulary", "cased", "said to be cased")}
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm / name, folders["json"])
    shutil.copy(minilm / "vocab.txt", folders["vocabulary"])
    (folders["cased"] / "vocab.txt").write_text("\n".join(CASED_VOCABULARY) + "\n", encoding="utf-8")
    shutil.copy(minilm / "vocab.txt", folders["said to be cased"])
    (folders["said to be cased"] / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    return folders


KINDS = ["json", "vocabulary", "cased", "said to be cased"]


@pytest.fixture(scope="module")
def both(folders: dict[str, Path]) -> dict[str, tuple[Tokenizer, BertTokenizer]]:
    """Ours and that of transformers, for each folder."""
    return {
        kind: (
            Tokenizer.from_folder(folders[kind]),
            BertTokenizer.from_pretrained(folders[kind], do_lower_case="cased" not in kind),
        )
        for kind in KINDS
    }


Both = dict[str, tuple[Tokenizer, BertTokenizer]]


@pytest.mark.parametrize("max_length", [3, 16, 512])
@pytest.mark.parametrize("name", list(TEXTS))
@pytest.mark.parametrize("kind", KINDS)
def test_single_texts(kind: str, name: str, max_length: int, both: Both) -> None:
    ours, theirs = both[kind]

    encoding = ours.encode(TEXTS[name], max_length=max_length)

    expected = theirs(TEXTS[name], truncation=True, max_length=max_length)
    assert encoding.ids == expected["input_ids"]
    assert encoding.segments == expected["token_type_ids"]


@pytest.mark.parametrize("max_length", [5, 6, 17, 40, 128, 512])
@pytest.mark.parametrize("kind", KINDS)
def test_pairs(kind: str, max_length: int, both: Both) -> None:
    ours, theirs = both[kind]
    texts = [text[: 20 * max_length] for text in TEXTS.values()]  # both libraries also make what is cut off
    pairs = random.Random(0).sample(texts, len(texts))

    encodings = ours.encode_batch(texts, pairs, max_length)

    expected = theirs(texts, pairs, truncation="longest_first", max_length=max_length)
    assert [encoding.ids for encoding in encodings] == expected["input_ids"]
    assert [encoding.segments for encoding in encodings] == expected["token_type_ids"]
    assert max(len(encoding.ids) for encoding in encodings) == max_length


def test_one_pair_is_a_batch_of_one(both: Both) -> None:
    ours, _ = both["json"]

    assert ours.encode("a b", "c") == ours.encode_batch(["a b"], ["c"])[0]
    assert ours.encode("a b", "c").segments == [0, 0, 0, 0, 1, 1]


def test_a_pair_for_every_text(both: Both) -> None:
    with pytest.raises(ValueError, match="zip"):
        both["json"][0].encode_batch(["a", "b"], ["c"])


@pytest.mark.parametrize(
    "setting",
    [
        {"do_lower_case": True, "strip_accents": False},  # as German models have it
        {"do_lower_case": False, "strip_accents": True},
        {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": False},
    ],
    ids=str,
)
def test_settings_beside_a_bare_vocabulary(setting: dict[str, bool], minilm: Path, tmp_path: Path) -> None:
    shutil.copy(minilm / "vocab.txt", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(setting))
    ours, theirs = Tokenizer.from_folder(tmp_path), BertTokenizer.from_pretrained(tmp_path)

    for text in TEXTS.values():
        assert ours.encode(text).ids == theirs(text, truncation=True, max_length=512)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_special_ids(kind: str, both: Both) -> None:
    ours, theirs = both[kind]

    expected = (theirs.cls_token_id, theirs.sep_token_id, theirs.unk_token_id)
    assert (ours.cls_id, ours.sep_id, ours.unk_id) == expected


def test_the_case_of_a_bare_vocabulary_is_seen(both: Both) -> None:
    assert both["vocabulary"][0].encode("NASA") == both["vocabulary"][0].encode("nasa")
    assert both["cased"][0].encode("NASA").ids == [3, CASED_VOCABULARY.index("NASA"), 4]
    assert both["said to be cased"][0].encode("NASA").ids == [101, 100, 102]


@pytest.mark.parametrize("kind", KINDS)
def test_word_pieces_are_those_of_words_given_to_transformers(kind: str, both: Both) -> None:
    ours, theirs = both[kind]
    sentence = "EU rejects German call to boycott British-made lamb . U.N. Étienne d'Ivoire 1996-08-22 北京 $5 @"
    words = sentence.split()

    pieces = ours.word_pieces(words)

    expected = theirs(words, is_split_into_words=True, add_special_tokens=False)
    by_word: list[list[int]] = [[] for _ in words]
    for token, word in zip(expected["input_ids"], expected.word_ids(), strict=True):
        by_word[word].append(token)
    assert pieces == by_word


@pytest.mark.parametrize("word", ["", " ", "\x00", "\u200b", "\x01\x02", "\ufeff", "\ufffd"])
def test_a_word_of_nothing_visible_is_one_unknown(word: str, both: Both) -> None:
    ours, _ = both["json"]

    assert ours.word_pieces(["a", word, "b"]) == [[1037], [ours.unk_id], [1038]]


def test_no_words(both: Both) -> None:
    assert both["json"][0].word_pieces([]) == []


def test_truncation_of_one_call_is_not_that_of_the_next(both: Both) -> None:
    ours, _ = both["json"]
    ours.encode("a b c d e f", max_length=4)

    assert ours.word_pieces(["a b c d e f"]) == [[1037, 1038, 1039, 1040, 1041, 1042]]
    assert len(ours.encode(TEXTS["very long"]).ids) == 512
    assert len(ours.encode(TEXTS["very long"], max_length=4000).ids) == 3002


def test_threads_do_not_cut_each_others_texts(both: Both) -> None:
    ours, _ = both["json"]
    texts = [TEXTS["very long"]] * 4
    with ThreadPoolExecutor(2) as threads:
        found = threads.map(
            lambda n: (n, [len(each.ids) for each in ours.encode_batch(texts, max_length=n)]), [8, 99] * 50
        )
        assert all(lengths == [n] * 4 for n, lengths in found)


def test_a_folder_without_a_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer\.json nor vocab\.txt"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"{"),
        ("vocab.txt", b"\xff\xfe"),
        ("vocab.txt", b"a\nb\n"),
        ("tokenizer_config.json", b"{"),
    ],
)
def test_a_folder_whose_files_are_damaged(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{tmp_path}/\S+: not a tokenizer of BERT's: "):
        Tokenizer.from_folder(tmp_path)
