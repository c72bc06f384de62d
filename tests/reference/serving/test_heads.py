"""Models with a head behind /predict and /rerank, and several models in one service."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from reference import SentenceEncoder
from reference.serving import service
from reference.serving.classifier import Classifier
from tests.reference.serving.conftest import NAME, Running, write_folder

LABELS = {"classification": ["no", "yes", "maybe"], "regression": ["score"], "multi-label": ["x", "y"]}
PROBLEMS = {"classification": "single_label_classification", "regression": "regression"}
PROBLEMS["multi-label"] = "multi_label_classification"


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function: a kind to a folder of transformers with such a head."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            path = made[kind] = write_folder(tmp_path_factory.mktemp("heads") / kind, layers=2)
            labels = dict(enumerate(LABELS[kind]))
            said = {"num_labels": len(labels), "id2label": labels, "problem_type": PROBLEMS[kind]}
            model = transformers.BertForSequenceClassification.from_pretrained(path, **said)
            with torch.no_grad():
                model.classifier.weight.copy_(torch.randn(len(labels), 24, generator=torch.Generator().manual_seed(3)))
            model.save_pretrained(path)
        return made[kind]

    return folder


def classifier(folder: Path, kind: str, pairs: bool, **settings: Any) -> Classifier:
    return Classifier(
        folder, kind, kind, LABELS[kind], pairs=pairs, max_length=16, device="cpu", precision="fp32", **settings
    )


@pytest.fixture(scope="module")
def running(
    encoder: SentenceEncoder,
    heads: Callable[[str], Path],
    serve: Callable[..., Iterator[Running]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    other = SentenceEncoder(
        write_folder(tmp_path_factory.mktemp("other") / "model", layers=1), precision="fp32", device="cpu"
    )
    found = [
        classifier(heads("multi-label"), "multi-label", pairs=False),
        classifier(heads("classification"), "classification", pairs=True, positive="yes"),
        classifier(heads("regression"), "regression", pairs=True),
    ]
    yield from serve(service.build(encoder, NAME, more={"other": other}, classifiers=found))


def logits(folder: Path, *texts: Any) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**tokenizer(*texts, truncation="longest_first", max_length=16, return_tensors="pt")).logits[0]


def test_labels_come_with_their_probabilities_the_most_probable_first(
    running: Running, heads: Callable[[str], Path]
) -> None:
    wanted = logits(heads("classification"), "he", "a face").softmax(-1)
    body = {"inputs": ["he", "a face"], "model": "classification"}
    found = running.post("/predict", body).json()
    assert [each["label"] for each in found] == [LABELS["classification"][i] for i in wanted.argsort(descending=True)]
    np.testing.assert_allclose([each["score"] for each in found], wanted.sort(descending=True).values, atol=1e-5)
    raw = running.post("/predict", body | {"raw_scores": True}).json()
    assert raw[0]["score"] == pytest.approx(float(logits(heads("classification"), "he", "a face").max()), abs=1e-5)
    several = running.post("/predict", body | {"inputs": [["he", "a face"], ["a", "he"]]}).json()
    assert len(several) == 2
    assert [each["score"] for each in several[0]] == pytest.approx([each["score"] for each in found], abs=1e-5)


def test_several_labels_have_a_probability_each(running: Running, heads: Callable[[str], Path]) -> None:
    found = running.post("/predict", {"inputs": "a face"}).json()  # the first model that has a head
    wanted = dict(zip("xy", logits(heads("multi-label"), "a face").sigmoid().tolist(), strict=True))
    assert {each["label"]: each["score"] for each in found} == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_rerank_orders_texts_by_relevance(running: Running, heads: Callable[[str], Path], kind: str) -> None:
    texts = ["he", "a face", "a bad cab", "he fed a " * 10]
    each = [logits(heads(kind), "face", text) for text in texts]
    wanted = np.array([float(one.softmax(-1)[1] if kind == "classification" else one.sigmoid()[0]) for one in each])
    answer = running.post("/rerank", {"query": "face", "texts": texts, "model": kind, "return_text": True})
    found = answer.json()
    assert [one["index"] for one in found] == np.argsort(-wanted).tolist()
    np.testing.assert_allclose([one["score"] for one in found], np.sort(wanted)[::-1], atol=1e-5)
    assert found[0]["text"] == texts[found[0]["index"]]
    assert answer.headers["x-texts-cut"] == "3"
    best = running.post("/rerank", {"query": "face", "documents": texts, "model": kind, "top_n": 2}).json()
    assert [one["index"] for one in best["results"]] == np.argsort(-wanted)[:2].tolist()


def test_models_are_chosen_by_name(running: Running) -> None:
    names = [each["id"] for each in running.get("/v1/models").json()["data"]]
    assert names == [NAME, "other", "multi-label", "classification", "regression"]
    vectors = {
        name: running.post("/v1/embeddings", {"input": "a face", "model": name}).json()["data"][0]["embedding"]
        for name in (NAME, "other")
    }
    assert vectors[NAME] != vectors["other"]
    assert running.post("/embed", {"inputs": "a face", "model": "other"}).json()[0] == pytest.approx(vectors["other"])
    assert running.post("/v1/embeddings", {"input": "a face"}).json()["model"] == NAME
    said = running.get("/info").json()
    assert said["classifiers"]["regression"] == ["regression", "score"]
    assert running.get("/ready").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (
            "/predict",
            {"inputs": "a", "model": "classification"},
            422,
            "input 0 has 1 texts; classification reads a pair",
        ),
        ("/predict", {"inputs": [["a", "b"]]}, 422, "input 0 has 2 texts; multi-label reads one text"),
        ("/predict", {"inputs": "a", "model": "none"}, 404, "the models are 'multi-label', 'classification'"),
        ("/predict", {"inputs": None}, 422, "inputs is missing"),
        ("/predict", {"inputs": []}, 400, "empty list"),
        ("/predict", {"inputs": "a " * 20, "truncate": False}, 422, "has 22 tokens, and the model reads 16"),
        ("/rerank", {"query": "a", "texts": ["b"], "model": "multi-label"}, 404, "the models are"),
        ("/rerank", {"query": "a", "texts": "b", "top_n": 1}, 422, "unknown field 'top_n'"),
        ("/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, 422, "top_n is 0"),
        ("/rerank", {"texts": ["b"]}, 422, "query is null"),
    ],
)
def test_what_is_wrong_is_said(running: Running, path: str, body: Any, status: int, message: str) -> None:
    answer = running.post(path, body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]


def test_without_a_head_there_is_no_answer(shared: Running) -> None:
    for path, body in (("/predict", {"inputs": "a"}), ("/rerank", {"query": "a", "texts": ["b"]})):
        answer = shared.post(path, body)
        assert answer.status_code == 424
        assert f"{path} needs a fine-tuned model of the right kind" in answer.json()["error"]


def test_a_model_without_a_known_relevant_label_does_not_rerank(heads: Callable[[str], Path]) -> None:
    assert classifier(heads("classification"), "classification", pairs=True).relevance is None
    assert classifier(heads("regression"), "regression", pairs=False).relevance is None
    with pytest.raises(ValueError, match="a model of kind tagging is not served"):
        Classifier(heads("regression"), "x", "tagging", ["O"], pairs=False, max_length=16)
