"""The tokenizer gives the ids and segments of transformers' BertTokenizer, whatever the text."""

import itertools
import json
import random
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BertTokenizer

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
def folders(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same vocabulary with and without tokenizer.json, and a cased one."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("json", "vocabulary", "cased", "said to be cased")}
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm_folder / name, folders["json"])
    shutil.copy(minilm_folder / "vocab.txt", folders["vocabulary"])
    (folders["cased"] / "vocab.txt").write_text("\n".join(CASED_VOCABULARY) + "\n", encoding="utf-8")
    shutil.copy(minilm_folder / "vocab.txt", folders["said to be cased"])
    (folders["said to be cased"] / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    return folders


KINDS = ["json", "vocabulary", "cased", "said to be cased"]


@pytest.fixture(scope="module")
def both(folders: dict[str, Path]) -> dict[str, tuple[Tokenizer, BertTokenizer]]:
    """Our tokenizer and transformers', for each folder."""
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
    texts = [text[: 20 * max_length] for text in TEXTS.values()]  # both also tokenize the truncated part
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
        {"do_lower_case": True, "strip_accents": False},  # as in German models
        {"do_lower_case": False, "strip_accents": True},
        {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": False},
    ],
    ids=str,
)
def test_settings_beside_a_bare_vocabulary(setting: dict[str, bool], minilm_folder: Path, tmp_path: Path) -> None:
    shutil.copy(minilm_folder / "vocab.txt", tmp_path)
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


@pytest.mark.slow
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


def test_a_folder_with_another_kind_of_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "sentencepiece.bpe.model").touch()
    with pytest.raises(
        FileNotFoundError, match=r"but sentencepiece\.bpe\.model: its tokenizer is not BERT's WordPiece"
    ):
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
    with pytest.raises(ValueError, match=rf"{tmp_path}/{name}: not "):
        Tokenizer.from_folder(tmp_path)


# -- a folder's files together --

VOCABULARY = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] the The cat Cat sat ##s on mat . , ! big Big paris Paris a b ##a ##b A ##B "
    "<s> </s> <unknown> <filler> 我 用 caf ##é ##e é e "
).replace(" ", "\n")
PIECES = VOCABULARY.splitlines()
LETTERS = [f"{prefix}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz" for prefix in ("", "##")]
MARKED = {"content": "<e1>", "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
WORD = MARKED | {"content": "Relation", "normalized": True}
LOWER, KEEP = {"do_lower_case": True}, {"do_lower_case": False}
AS_IT_IS = {"tokenizer_class": "PreTrainedTokenizerFast"}
SENTENCES = [
    "The Cats sat on the mat, the BIG mat.",
    "<e1> Paris </e1> is Relation<e1>Big RELATION relation",
    "我用café CAFÉ cafe\u0301!",
    "[CLS] a [MASK] b [SEP] <s> a </s> <unknown>",
    "big " * 30,
    "",
]


def whole_file(**changes: Any) -> dict[str, Any]:
    """A tokenizer.json as ``save_pretrained`` writes it, with some parts replaced."""
    names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    listed = [MARKED | {"content": name, "special": True, "id": PIECES.index(name)} for name in names]
    parts: dict[str, Any] = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": listed,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {piece: number for number, piece in enumerate(PIECES)},
        },
    }
    for name, change in changes.items():
        parts[name] |= change
    return parts


CASED = {"normalizer": {"lowercase": False}}
LISTED = {
    "added_tokens": [MARKED | {"id": len(PIECES), "special": True}, WORD | {"id": len(PIECES) + 1, "special": False}]
}
NAMES = {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unknown>", "mask_token": "<filler>"}
ROBERTA = {"type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2], "trim_offsets": True}
ROBERTA |= {"add_prefix_space": False}
KINDS_OF_FOLDER: dict[str, dict[str, Any]] = {
    "settings": {"vocab.txt": VOCABULARY, "tokenizer_config.json": KEEP},
    "accents": {"vocab.txt": VOCABULARY, "tokenizer_config.json": KEEP | {"strip_accents": True}},
    "Chinese left whole": {"vocab.txt": VOCABULARY, "tokenizer_config.json": LOWER | {"tokenize_chinese_chars": False}},
    "tokenizer.json alone": {"tokenizer.json": whole_file()},
    "tokenizer.json alone, cased": {"tokenizer.json": whole_file(**CASED)},
    "lowered, said to be cased": {"tokenizer.json": whole_file(), "tokenizer_config.json": KEEP},
    "cased, said to be lowered": {"tokenizer.json": whole_file(**CASED), "tokenizer_config.json": LOWER},
    "other accents and Chinese": {
        "tokenizer.json": whole_file(normalizer={"strip_accents": False, "handle_chinese_chars": False}),
        "tokenizer_config.json": LOWER,
    },
    "another pre-tokenizer": {
        "tokenizer.json": whole_file(pre_tokenizer={"type": "Whitespace"}),
        "tokenizer_config.json": LOWER,
    },
    "shorter words": {
        "tokenizer.json": whole_file(model={"max_input_chars_per_word": 2}),
        "tokenizer_config.json": LOWER,
    },
    "as it is": {"tokenizer.json": whole_file(**CASED), "tokenizer_config.json": AS_IT_IS | LOWER},
    "as it is, another pre-tokenizer": {
        "tokenizer.json": whole_file(pre_tokenizer={"type": "Whitespace"}),
        "tokenizer_config.json": AS_IT_IS,
    },
    "as it is, another layout": {
        "tokenizer.json": whole_file() | {"post_processor": ROBERTA},
        "tokenizer_config.json": AS_IT_IS,
    },
    "another layout": {"tokenizer.json": whole_file() | {"post_processor": ROBERTA}, "tokenizer_config.json": LOWER},
    "cut at the left": {"tokenizer.json": whole_file(truncation={"direction": "Left"}), "tokenizer_config.json": LOWER},
    "cut at the left by settings": {
        "vocab.txt": VOCABULARY,
        "tokenizer_config.json": LOWER | {"truncation_side": "left"},
    },
    "added_tokens.json": {
        "vocab.txt": VOCABULARY,
        "added_tokens.json": {"Relation": len(PIECES) + 2, "<e1>": len(PIECES), "</e1>": len(PIECES) + 1},
        "special_tokens_map.json": {"additional_special_tokens": ["<e1>", "</e1>"]},
        "tokenizer_config.json": LOWER,
    },
    "special_tokens_map.json alone": {
        "vocab.txt": VOCABULARY,
        "special_tokens_map.json": {
            "additional_special_tokens": ["<e1>"],
            "mask_token": MARKED | {"content": "<filler>"},
        },
        "tokenizer_config.json": LOWER,
    },
    "both name tokens": {
        "vocab.txt": VOCABULARY,
        "special_tokens_map.json": {"additional_special_tokens": ["<e1>"]},
        "tokenizer_config.json": LOWER | {"additional_special_tokens": ["</e1>"]},
    },
    "added_tokens_decoder": {
        "vocab.txt": VOCABULARY,
        "added_tokens.json": {"passed over": 99},
        "tokenizer_config.json": LOWER
        | {"added_tokens_decoder": {"40": MARKED | {"special": True}, "41": WORD | {"special": False}}},
    },
    "added in tokenizer.json": {"tokenizer.json": whole_file(**CASED) | LISTED, "tokenizer_config.json": LOWER},
    "added in tokenizer.json, as it is": {"tokenizer.json": whole_file() | LISTED, "tokenizer_config.json": AS_IT_IS},
    "other names": {"vocab.txt": VOCABULARY, "tokenizer_config.json": LOWER | NAMES},
    "other names, in the older file": {
        "vocab.txt": VOCABULARY,
        "special_tokens_map.json": NAMES,
        "tokenizer_config.json": LOWER,
    },
    "other names than tokenizer.json": {"tokenizer.json": whole_file(), "tokenizer_config.json": LOWER | NAMES},
    "names with properties": {
        "vocab.txt": VOCABULARY,
        "tokenizer_config.json": LOWER
        | {"sep_token": {"__type": "AddedToken"} | MARKED | {"content": "</s>", "lstrip": True}},
    },
    "own roles": {
        "vocab.txt": VOCABULARY,
        "tokenizer_config.json": LOWER | {"entity_token": "<e1>", "extra_special_tokens": {"end_token": "</e1>"}},
    },
    "special tokens that are split": {
        "vocab.txt": VOCABULARY,
        "tokenizer_config.json": LOWER | {"split_special_tokens": True},
    },
    "two vocabularies": {
        "tokenizer.json": whole_file(),
        "vocab.txt": "".join(f"{piece}\n" for piece in reversed(PIECES)),
        "tokenizer_config.json": LOWER,
    },
    "a class of the same kind": {
        "vocab.txt": VOCABULARY,
        "config.json": {"model_type": "bert", "tokenizer_class": "ElectraTokenizerFast"},
        "tokenizer_config.json": KEEP,
    },
    "settings over config.json": {
        "vocab.txt": VOCABULARY,
        "config.json": {"model_type": "bert", "tokenizer_class": "BertJapaneseTokenizer"},
        "tokenizer_config.json": KEEP | {"tokenizer_class": "BertTokenizer"},
    },
    "lines of another system": {"vocab.txt": VOCABULARY.replace("\n", "\r\n") + "\r\n", "tokenizer_config.json": LOWER},
    "a line twice": {"vocab.txt": VOCABULARY + "cat\n", "tokenizer_config.json": LOWER},
}


def write(folder: Path, files: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in ({"config.json": {"model_type": "bert"}} | files).items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_bytes(text.encode())
    return folder


def encodings(tokenizer: Tokenizer) -> list[tuple[list[int], list[int]]]:
    """Ids and segments of sentences and pairs, whole and truncated."""
    pairs = [(text, None) for text in SENTENCES] + list(itertools.pairwise(SENTENCES))
    made = [tokenizer.encode(text, pair, length) for text, pair in pairs for length in (512, 9)]
    return [(each.ids, each.segments) for each in made]


def encodings_of_transformers(folder: Path) -> list[tuple[list[int], list[int]]]:
    tokenizer, made = AutoTokenizer.from_pretrained(folder), []
    for text, pair in [(text, None) for text in SENTENCES] + list(itertools.pairwise(SENTENCES)):
        for length in (512, 9):
            given = ([text],) if pair is None else ([text], [pair])
            each = tokenizer(*given, truncation=True, max_length=length, return_token_type_ids=True)
            made.append((each["input_ids"][0], each["token_type_ids"][0]))
    return made


@pytest.mark.parametrize("files", KINDS_OF_FOLDER.values(), ids=KINDS_OF_FOLDER.keys())
def test_a_folder_is_read_as_transformers_reads_it_and_written_so_that_both_do(
    files: dict[str, Any], tmp_path: Path
) -> None:
    folder = write(tmp_path / "folder", files)
    ours = Tokenizer.from_folder(folder)
    assert encodings(ours) == encodings_of_transformers(folder)

    ours.save(write(tmp_path / "saved", {"added_tokens.json": {"stale": 50}}))
    assert encodings(Tokenizer.from_folder(tmp_path / "saved")) == encodings(ours)
    assert encodings_of_transformers(tmp_path / "saved") == encodings(ours)
    assert Tokenizer.from_folder(tmp_path / "saved").vocabulary() == ours.vocabulary()


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        (
            "lowered, said to be cased",
            "tokenizer.json says lowercase: true, but tokenizer_config.json says do_lower_case",
        ),
        ("tokenizer.json alone, cased", "tokenizer.json says lowercase: false, but the default is true"),
        ("another pre-tokenizer", "the pre_tokenizer in tokenizer.json, Whitespace, is passed over"),
        ("shorter words", "tokenizer.json says max_input_chars_per_word: 2"),
        ("another layout", "the post_processor in tokenizer.json is passed over"),
        ("two vocabularies", "vocab.txt has other word pieces than tokenizer.json"),
    ],
)
def test_what_does_not_count_is_said(kind: str, note: str, tmp_path: Path) -> None:
    (said,) = Tokenizer.from_folder(write(tmp_path, KINDS_OF_FOLDER[kind])).notes
    assert said.startswith(note)


def test_nothing_is_said_of_a_folder_whose_files_agree(minilm_folder: Path) -> None:
    assert Tokenizer.from_folder(minilm_folder).notes == ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"tokenizer_config.json": {"tokenizer_class": "BertJapaneseTokenizer"}},
            "is BertJapaneseTokenizer, not BertTok",
        ),
        (
            {"config.json": {"tokenizer_class": "BertJapaneseTokenizer"}},
            "config.json: tokenizer_class is BertJapaneseT",
        ),
        ({"tokenizer_config.json": {"tokenizer_class": "AlbertTokenizer"}}, "tokenizer_class is AlbertTokenizer"),
        ({"tokenizer_config.json": {"tokenizer_class": "TheirOwn"}}, "tokenizer_class is TheirOwn"),
        ({"tokenizer_config.json": {"word_tokenizer_type": "mecab"}}, "word_tokenizer_type asks for more"),
        ({"tokenizer_config.json": {"do_basic_tokenize": False}}, "do_basic_tokenize: false asks for more"),
        ({"tokenizer_config.json": {"never_split": ["<e1>"]}}, "never_split names <e1>"),
        (
            {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["a.B", None]}}},
            "auto_map names a tokenizer in code",
        ),
        ({"config.json": {"auto_map": {"AutoTokenizer": ["a.B", None]}}}, "config.json: auto_map names a tokenizer"),
        ({"tokenizer_config.json": AS_IT_IS}, "which needs a tokenizer.json"),
        ({"tokenizer.json": whole_file(model={"type": "BPE", "merges": []})}, "its model is BPE, not WordPiece"),
        ({"tokenizer.json": whole_file(model={"type": "Unigram"})}, "its model is Unigram, not WordPiece"),
        ({"tokenizer.json": {"model": {"vocab": {}, "merges": []}}}, "its model is BPE, not WordPiece"),
        (
            {"tokenizer.json": whole_file() | {"post_processor": None}, "tokenizer_config.json": AS_IT_IS},
            "not one token before and one after",
        ),
        ({"tokenizer_config.json": {"do_lower_case": "false"}}, "do_lower_case is 'false'; it is true or false"),
        ({"vocab.txt": VOCABULARY.replace("##", "\u2581")}, "vocab.txt: its pieces have \u2581 where WordPiece has ##"),
        ({"vocab.txt": VOCABULARY.replace("##", "\u0120")}, "as byte-level BPE has it"),
        (
            {"vocab.txt": "".join(f"{piece}@@\n" for piece in LETTERS[::2]) + VOCABULARY.replace("##", "a")},
            "have @@ where",
        ),
        ({"tokenizer_config.json": {"cls_token": "<start>"}}, "the vocabulary has no <start>"),
    ],
)
def test_a_tokenizer_that_is_not_bert_s_is_refused_by_name(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write(tmp_path, {"vocab.txt": VOCABULARY} | files)
    with pytest.raises(ValueError, match=rf"^{folder}/.*{re.escape(message)}"):
        Tokenizer.from_folder(folder)


def test_settings_that_ask_for_nothing_unusual_are_taken(tmp_path: Path) -> None:
    usual = {"do_basic_tokenize": True, "never_split": ["[UNK]", "[MASK]"], "auto_map": {}, "word_tokenizer_type": None}
    ours = Tokenizer.from_folder(write(tmp_path, {"vocab.txt": VOCABULARY, "tokenizer_config.json": usual | KEEP}))
    assert encodings(ours) == encodings_of_transformers(tmp_path)


# -- case, if no file states it --

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.mark.parametrize(
    ("name", "pieces", "lower"),
    [
        ("uncased_L-12_H-768_A-12", ["Cat", "Dog"], True),
        ("multilingual_L-12_H-768_A-12", ["Cat", "Dog"], True),
        ("chinese_L-12_H-768_A-12", ["Cat", "Dog"], True),
        ("cased_L-24_H-1024_A-16", [], False),
        ("multi_cased_L-12_H-768_A-12", [], False),
        ("mine", [], True),
        ("mine", ["<S>", "<T>", "[E]", "[unusedA]", "{URL}", "@USER", "A4", "Ⅳ"], True),
        (
            "mine",
            ["我", "用", *(f"word{letter}" for letter in "abcdefghijklmnopqrst"), "URL"],
            True,
        ),  # one word does not make a vocabulary cased
        ("mine", ["A", "##A", "##B"], True),
        ("mine", ["A", "B", "##A", "C", "D", "E", "F"], False),
        ("mine", ["Cat", "Dog", "The", "Paris", "##A"], False),
        ("mine", ["Дом", "Кот", "Она", "мир"], False),
    ],
)
def test_google_s_names_and_else_the_vocabulary_decide_the_case(
    name: str, pieces: list[str], lower: bool, tmp_path: Path
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + LETTERS + pieces), encoding="utf-8")
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.lower_case is lower
    known, unknown = (SPECIAL + LETTERS).index("n"), SPECIAL.index("[UNK]")
    assert tokenizer.encode("N").ids == [2, known if lower else unknown, 3]
    (note,) = tokenizer.notes
    assert note.startswith("lower-cased: " if lower else "cased: ")


def test_what_decided_the_case_is_written_down(tmp_path: Path) -> None:
    folder = write(tmp_path / "cased", {"vocab.txt": VOCABULARY})
    ours = Tokenizer.from_folder(folder)
    assert encodings(ours) != encodings_of_transformers(folder), "it lower-cases, as nothing says not to"

    ours.save(tmp_path / "saved")
    assert encodings_of_transformers(tmp_path / "saved") == encodings(ours)
    assert Tokenizer.from_folder(tmp_path / "saved").notes == ()


# -- sizes and identity --


def test_the_same_tokens_have_the_same_identity_from_whatever_files(tmp_path: Path) -> None:
    made = {
        kind: Tokenizer.from_folder(write(tmp_path / kind, files)).sha256
        for kind, files in KINDS_OF_FOLDER.items()
        if kind in ("settings", "accents", "cut at the left", "tokenizer.json alone", "lowered, said to be cased")
    }
    for name in ("chinese_L-12_H-768_A-12", "cased_L-12_H-768_A-12"):  # the same files
        made[name] = Tokenizer.from_folder(write(tmp_path / name, {"vocab.txt": VOCABULARY})).sha256
    same = ("settings", "cased_L-12_H-768_A-12", "lowered, said to be cased")
    assert len({made.pop(kind) for kind in same}) == 1
    assert made.pop("tokenizer.json alone") == made.pop("chinese_L-12_H-768_A-12")
    assert len(set(made.values())) == len(made) == 2


@pytest.mark.parametrize(
    ("files", "size"),
    [
        ({"vocab.txt": VOCABULARY}, len(PIECES)),
        ({"vocab.txt": VOCABULARY + "\n"}, len(PIECES)),  # no text contains the token of a blank line
        ({"vocab.txt": VOCABULARY, "added_tokens.json": {"<e1>": len(PIECES)}}, len(PIECES) + 1),
        ({"vocab.txt": VOCABULARY.replace("[MASK]", "[other]")}, len(PIECES)),
    ],
)
def test_the_rows_that_a_model_needs(files: dict[str, Any], size: int, tmp_path: Path) -> None:
    assert Tokenizer.from_folder(write(tmp_path, files)).size == size


@pytest.mark.parametrize(
    ("files", "length"),
    [
        ({}, 512),
        ({"tokenizer_config.json": {"model_max_length": 16}}, 16),
        ({"tokenizer_config.json": {"max_len": 17}}, 17),
        ({"config.json": {"max_position_embeddings": 18}}, 18),
        ({"config.json": {"max_position_embeddings": 18}, "tokenizer_config.json": {"model_max_length": 10**30}}, 18),
    ],
)
def test_a_text_is_cut_where_the_folder_says(files: dict[str, Any], length: int, tmp_path: Path) -> None:
    ours = Tokenizer.from_folder(write(tmp_path / "folder", {"vocab.txt": VOCABULARY} | files))
    assert len(ours.encode("big " * 600).ids) == length

    ours.save(tmp_path / "saved")
    theirs = AutoTokenizer.from_pretrained(write(tmp_path / "saved", {}))
    assert len(theirs("big " * 600, truncation=True)["input_ids"]) == length


def test_a_model_that_is_given_no_segments(tmp_path: Path) -> None:
    inputs = {"model_input_names": ["input_ids", "attention_mask"]}
    ours = Tokenizer.from_folder(write(tmp_path, {"vocab.txt": VOCABULARY, "tokenizer_config.json": LOWER | inputs}))
    assert ours.encode("the cat", "a").segments == [0] * 6
    assert "token_type_ids" not in AutoTokenizer.from_pretrained(tmp_path)("the cat", "a")
