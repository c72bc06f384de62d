"""Tokenizers of implementations that ship one, against ours on strings that tokenizers find hard."""

from typing import Any

from harness.isolate import Worker

LONGEST = 512  # word pieces; no string below has as many
STRINGS = {
    "plain words": "The ferry left at nine.",
    "punctuation": "Wait... what?! (really) [no] {yes} 50%/50%",
    "apostrophes": "don't, it's, O'Brien's 'quoted'",
    "underscores and signs": "snake_case ~tilde^caret`tick $5 €5 #tag @you",
    "numbers": "3.14159 1,000,000 1e-5 2018-10-11",
    "accents": "Café in Zürich, naïve façade",
    "combining accents": "Cafe\u0301 nai\u0308ve",
    "capitals that change": "İstanbul Iğdır Straße ΣΊΣΥΦΟΣ",
    "ligatures and full width": "ﬁne ﬂow ＢＥＲＴ １２３",
    "Chinese": "她在图书馆里等了一个小时。",
    "Chinese with Latin": "我用BERT做NER任务，2018年",
    "rare Chinese characters": "𠮷野家 㐀 龘",
    "Japanese": "東京タワーへ行きました。",
    "Korean": "한국어 형태소 분석",
    "Arabic and Hindi": "مرحبا بالعالم नमस्ते दुनिया",
    "emoji": "great 👍🏽 job 👩‍👩‍👧",
    "mathematics": "∑ x² ≤ ∞ √2 → ½",
    "control characters": "a\x00b\x07c\ufffdd",
    "tabs and line ends": "one\ttwo\nthree\r\nfour\u2028five",
    "odd spaces": "a\u00a0b\u2003c\u3000d",
    "invisible characters": "zero\u200bwidth\u200djoin\ufeff\u00adsoft",
    "a word of 100 characters": "a" * 100,
    "a word of 101 characters": "a" * 101,
    "special tokens": "[CLS] hello [MASK] world [SEP] [UNK]",
    "nothing": "",
    "only spaces": "   ",
}


def compare(worker: Worker, tokenizer: Any) -> dict[str, Any]:
    """How many of the strings get the same word pieces as from our tokenizer, and which do not; empty: it ships none.

    The worker must have loaded weights, whose vocabulary is used.
    """
    answers, _ = worker.call("tokenize", texts=list(STRINGS.values()))
    if answers["ids"] is None:
        return {}
    ours = [tokenizer.encode(text, None, max_length=LONGEST).ids for text in STRINGS.values()]
    different = [name for name, ids, own in zip(STRINGS, answers["ids"], ours, strict=True) if ids != own]
    return {"strings": len(STRINGS), "equal": len(STRINGS) - len(different), "different": different}
