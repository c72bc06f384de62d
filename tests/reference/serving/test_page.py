"""The page's files and the token matches that it shows; tests/browser has the page itself."""

import re

import numpy as np
import pytest
import torch

from reference import SentenceEncoder
from reference.model import Packed
from reference.serving import page
from tests.reference.serving.conftest import Running


def test_the_page_needs_nothing_from_elsewhere(shared: Running) -> None:
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        answer = shared.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not re.search(r"(?:src|href|url|import|fetch)\W{1,3}(?:https?:)?//", answer.text)


def test_every_word_of_the_page_is_in_both_languages() -> None:
    script, html = ((page.FOLDER / name).read_text(encoding="utf-8") for name in ("page.js", "page.html"))
    english, _, chinese = script.partition("  zh: {")
    names = [set(re.findall(r'"([a-z-]+)": ', part.partition("\n  },")[0])) for part in (english, chinese)]
    assert names[0] == names[1]
    assert names[0] >= set(re.findall(r'data-text="([a-z-]+)"', html)) | set(re.findall(r'say\("([a-z-]+)"', script))


def test_tokens_are_matched_with_the_most_similar_of_the_other_text(shared: Running, encoder: SentenceEncoder) -> None:
    texts = ["a face", "he fed a bad cab."]
    said = shared.post("/matches", {"first": texts[0], "second": texts[1]}).json()
    tokens = encoder.tokenize(texts)
    hidden = []
    for each in tokens:
        batch = Packed.from_lengths(torch.tensor(each.ids), [len(each.ids)], torch.tensor(each.segments))
        with torch.inference_mode():
            rows = encoder.bert(batch)[1:-1].numpy()
        hidden.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    cosines = hidden[0] @ hidden[1].T
    for i, part in enumerate((cosines, cosines.T)):
        assert [match["index"] for match in said["matches"][i]] == part.argmax(axis=1).tolist()
        np.testing.assert_allclose([match["score"] for match in said["matches"][i]], part.max(axis=1), atol=1e-4)
        assert said["tokens"][i] == [encoder.tokenizer.token(number) for number in tokens[i].ids[1:-1]]
    a, b = encoder.encode(texts)
    assert said["similarity"] == pytest.approx(float(a @ b), abs=1e-5)


def test_a_text_without_tokens_matches_nothing(shared: Running) -> None:
    said = shared.post("/matches", {"first": "", "second": "a face"}).json()
    assert said["matches"][0] == []
    assert {match["index"] for match in said["matches"][1]} == {None}


@pytest.mark.parametrize(
    ("body", "message"), [({"first": "a"}, "second is null"), ({"first": "a", "third": "b"}, "unknown field")]
)
def test_errors_say_what_is_wrong(shared: Running, body: dict[str, str], message: str) -> None:
    answer = shared.post("/matches", body)
    assert (answer.status_code, message in answer.json()["error"]) == (422, True)
