"""Collections over HTTP, as clients see them: a store in a folder behind the real service."""

import json
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference import SentenceEncoder
from reference.serving import search
from reference.serving.limits import Limits
from reference.serving.store.disk import DiskStore
from reference.serving.store.items import Unusable
from tests.reference.serving.conftest import NAME, Running

ROOT = Path(__file__).parents[3]
TEXTS = ["a face", "he fed a bad cab.", "head head", "a face", "bead 世"]
LONG = "bead dab " * 20
Start = Callable[..., Running]


@pytest.fixture
def store(encoder: SentenceEncoder, tmp_path: Path) -> Iterator[DiskStore]:
    made = DiskStore(tmp_path / "store", search.space_of(encoder, {"model": NAME}))
    yield made
    made.close()


@pytest.fixture
def running(service_of: Start, store: DiskStore) -> Running:
    return service_of(store=store)


@pytest.fixture
def filled(running: Running) -> Running:
    """A service with a collection ``c`` of TEXTS, which have the ids 0 to 4."""
    assert running.post("/collections", {"name": "c"}).json() == {"name": "c", "texts": 0}
    body = {"texts": TEXTS, "ids": [*"01234"], "metadata": [{"even": i % 2 == 0, "n": i} for i in range(5)]}
    assert running.post("/collections/c/add", body).json() == {"ids": [*"01234"], "replaced": 0, "texts": 5}
    return running


def found(answer: Any) -> list[str]:
    return [each["id"] for each in answer.json()["results"]]


def test_a_text_finds_the_most_similar_ones(filled: Running, encoder: SentenceEncoder) -> None:
    scores = encoder.similarity(encoder.encode("a bad face", prompt_name="query"), encoder.encode(TEXTS))[0]
    results = filled.post("/collections/c/search", {"text": "a bad face", "k": 3}).json()["results"]
    assert [each["id"] for each in results] == [str(i) for i in np.argsort(-scores, kind="stable")[:3]]
    for each in results:
        i = int(each["id"])
        assert (each["text"], each["metadata"]) == (TEXTS[i], {"even": i % 2 == 0, "n": i})
        assert each["score"] == pytest.approx(scores[i], abs=1e-5)
    assert found(filled.post("/collections/c/search", {"text": "a face"}))[:2] == ["0", "3"]


def test_a_vector_finds_what_its_text_does(filled: Running, encoder: SentenceEncoder) -> None:
    vector = encoder.encode("head", prompt_name="query").tolist()
    by_text = filled.post("/collections/c/search", {"text": "head"}).json()["results"]
    by_vector = filled.post("/collections/c/search", {"vector": vector}).json()["results"]
    assert [each["id"] for each in by_vector] == [each["id"] for each in by_text]
    np.testing.assert_allclose([e["score"] for e in by_vector], [e["score"] for e in by_text], atol=1e-5)


def test_a_filter_bounds_the_search_and_the_list(filled: Running) -> None:
    body = {"text": "a face", "filter": {"even": True, "n": {"gte": 2}}}
    assert sorted(found(filled.post("/collections/c/search", body))) == ["2", "4"]
    listed = filled.post("/collections/c/list", {"filter": {"n": [1, 3]}}).json()
    assert [each["id"] for each in listed["items"]] == ["1", "3"]


def test_texts_are_listed_got_and_deleted(filled: Running) -> None:
    first = filled.post("/collections/c/list", {"limit": 3}).json()
    assert [each["id"] for each in first["items"]] == ["0", "1", "2"]
    rest = filled.post("/collections/c/list", {"limit": 3, "after": first["next"]}).json()
    assert ([each["id"] for each in rest["items"]], rest["next"]) == (["3", "4"], None)
    got = filled.post("/collections/c/get", {"ids": ["4", "none", "0"]}).json()
    assert ([each["text"] for each in got["items"]], got["missing"]) == ([TEXTS[4], TEXTS[0]], ["none"])
    assert filled.post("/collections/c/delete", {"ids": ["0", "none"]}).json() == {"deleted": 1}
    assert "0" not in found(filled.post("/collections/c/search", {"text": "a face"}))
    assert filled.get("/collections/c").json() == {"name": "c", "texts": 4}


def test_collections_are_made_listed_and_dropped(filled: Running) -> None:
    filled.post("/collections", {"name": "b.2"})
    said = filled.get("/collections").json()
    assert said == {
        "collections": [{"name": "b.2", "texts": 0}, {"name": "c", "texts": 5}],
        "model": NAME,
        "size": 24,
        "measure": "cosine",
    }
    assert filled.request("DELETE", "/collections/c").json() == {"deleted": "c"}
    assert filled.request("DELETE", "/collections/c").status_code == 404
    assert [each["name"] for each in filled.get("/collections").json()["collections"]] == ["b.2"]


def test_the_export_has_everything(filled: Running, encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "EXPORTED", 2)
    answer = filled.get("/collections/c/export")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [(line["id"], line["text"]) for line in lines] == list(zip("01234", TEXTS, strict=True))
    np.testing.assert_allclose([line["vector"] for line in lines], encoder.encode(TEXTS), atol=2e-6)


def test_ids_are_made_where_none_are_given_and_replace_where_they_are(filled: Running) -> None:
    made = filled.post("/collections/c/add", {"texts": "dab"}).json()
    assert (len(made["ids"][0]), made["replaced"], made["texts"]) == (32, 0, 6)
    again = filled.post("/collections/c/add", {"texts": ["he"], "ids": made["ids"]}).json()
    assert (again["replaced"], again["texts"]) == (1, 6)
    assert filled.post("/collections/c/get", {"ids": made["ids"]}).json()["items"][0]["text"] == "he"


def test_texts_that_were_cut_are_named(filled: Running) -> None:
    answer = filled.post("/collections/c/add", {"texts": ["a", LONG], "ids": ["a", "long"]})
    assert [each["id"] for each in answer.json()["cut"]] == ["long"]
    assert answer.headers["x-texts-cut"] == "1"


def test_what_was_added_is_there_when_the_service_starts_again(
    filled: Running, store: DiskStore, service_of: Start
) -> None:
    hits = filled.post("/collections/c/search", {"text": "a face"}).json()
    store.close()
    with_store = DiskStore(store.folder, store.space)
    assert service_of(store=with_store).post("/collections/c/search", {"text": "a face"}).json() == hits
    with_store.close()


WRONG: list[tuple[str, Any, int, str]] = [
    ("", {"name": "c"}, 409, "'c' already"),
    ("", {"name": "../c"}, 422, "no name of a collection"),
    ("", {}, 422, "name is null"),
    ("", {"name": "d", "size": 3}, 422, "unknown field 'size'"),
    ("/none/add", {"texts": "a"}, 404, "no collection 'none'; there are c"),
    ("/none/search", {"text": "a"}, 404, "no collection 'none'"),
    ("/c/add", {}, 422, "texts is missing"),
    ("/c/add", {"texts": []}, 400, "empty list"),
    ("/c/add", {"texts": ["a"], "ids": ["1", "2"]}, 422, "ids has 2 elements for 1 texts"),
    ("/c/add", {"texts": ["a", "b"], "ids": ["x", "x"]}, 422, "'x' is given twice"),
    ("/c/add", {"texts": ["a"], "ids": [""]}, 422, "no id"),
    ("/c/add", {"texts": ["a"], "ids": [7]}, 422, "ids"),
    ("/c/add", {"texts": ["a"], "ids": "x"}, 422, "must be a list"),
    ("/c/add", {"texts": ["a\0"]}, 422, "NUL"),
    ("/c/add", {"texts": ["a"], "metadata": {}}, 422, "metadata is an object; it must be a list"),
    ("/c/add", {"texts": ["a"], "metadata": ["x"]}, 422, "metadata[0] is a string"),
    ("/c/add", {"texts": ["a"], "metadata": [{"n": None}]}, 422, "metadata[0]: metadata 'n' is of type NoneType"),
    ("/c/add", {"texts": ["a"] * 2049}, 413, "at most 2048"),
    ("/c/search", {}, 422, "give text or vector"),
    ("/c/search", {"text": "a", "vector": [1]}, 422, "and not both"),
    ("/c/search", {"text": ["a"]}, 422, "must be a string"),
    ("/c/search", {"vector": [1, 2]}, 422, "vector has 2 numbers; those of this store have 24"),
    ("/c/search", {"vector": [True] * 24}, 422, "list of numbers"),
    ("/c/search", {"vector": [1e300] * 24}, 422, "float32 cannot hold"),
    ("/c/search", {"vector": [10**400] * 24}, 422, "float32 cannot hold"),
    ("/c/search", {"text": "a", "k": 0}, 422, "k is 0; it must be a whole number from 1 to 1000"),
    ("/c/search", {"text": "a", "k": 1001}, 422, "from 1 to 1000"),
    ("/c/search", {"text": "a", "k": True}, 422, "k is True"),
    ("/c/search", {"text": "a", "filter": []}, 422, "filter is a list"),
    ("/c/search", {"text": "a", "filter": {"n": {"near": 1}}}, 422, "bounds are gt, gte, lt and lte"),
    ("/c/search", {"text": "a", "top": 3}, 422, "unknown field 'top'"),
    ("/c/list", {"limit": 1001}, 422, "limit is 1001"),
    ("/c/list", {"after": 7}, 422, "after is a number"),
    ("/c/get", {"ids": ["a"] * 2049}, 413, "at most 2048"),
    ("/c/delete", {}, 422, "ids is null"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), WRONG)
def test_errors_say_what_is_wrong(filled: Running, path: str, body: Any, status: int, message: str) -> None:
    answer = filled.post(f"/collections{path}", body)
    assert message in answer.json()["error"]
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "error_type"}
    assert filled.get("/collections/c").json()["texts"] == 5


def test_a_store_that_cannot_be_written_is_507_and_is_still_searched(filled: Running, store: DiskStore) -> None:
    pages = store.database.execute("PRAGMA page_count").fetchone()[0]
    store.database.execute(f"PRAGMA max_page_count = {pages}")
    answer = filled.post("/collections/c/add", {"texts": ["b" * 90_000], "ids": ["0"]})
    assert (answer.status_code, answer.json()["error_type"]) == (507, "Backend")
    assert "nothing was changed" in answer.json()["error"]
    assert found(filled.post("/collections/c/search", {"text": "a face", "k": 1})) == ["0"]


def test_the_log_names_routes_and_no_collection_or_text(filled: Running) -> None:
    line = filled.logged(filled.post("/collections/c/search", {"text": "a face"}, headers={"x-request-id": "me"}))
    assert (line["route"], line["status"], line["request"]) == ("/collections/{name}/search", 200, "me")
    assert 'route="/collections/{name}/search"' in filled.get("/metrics").text


def test_a_key_is_needed_where_the_service_has_one(service_of: Start, store: DiskStore) -> None:
    locked = service_of(store=store, key="secret")
    assert locked.get("/collections").status_code == 401
    assert locked.post("/collections/c/add", {"texts": "a"}).status_code == 401
    assert locked.get("/collections", headers={"authorization": "Bearer secret"}).status_code == 200


def test_a_service_without_a_store_says_so(shared: Running) -> None:
    for answer in (shared.get("/collections"), shared.post("/collections/c/search", {"text": "a"})):
        assert (answer.status_code, "--store" in answer.json()["error"]) == (404, True)


def test_large_collections_name_the_database(filled: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MANY", 4)
    assert "5 texts are in this collection" in filled.get("/collections/c").json()["note"]
    said = filled.post("/collections/c/add", {"texts": "a"}).json()["note"]
    assert "PostgreSQL" in said


def test_many_clients_at_once_lose_nothing(filled: Running) -> None:
    def adds(number: int) -> None:
        for i in range(6):
            filled.post("/collections/c/add", {"texts": ["a cab", "bead"], "ids": [f"{number}-{i}a", f"{number}-{i}b"]})
            if filled.post("/collections/c/search", {"text": "a cab", "k": 2}).status_code != 200:
                failed.append(number)

    failed: list[int] = []
    threads = [threading.Thread(target=adds, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert filled.get("/collections/c").json()["texts"] == 5 + 6 * 6 * 2


def test_limits_are_those_of_the_service(service_of: Start, store: DiskStore) -> None:
    small = service_of(store=store, limits=Limits(body_bytes=1000, texts=2, characters=10))
    small.post("/collections", {"name": "c"})
    assert small.post("/collections/c/add", {"texts": ["a"] * 3}).status_code == 413
    assert small.post("/collections/c/add", {"texts": ["a" * 11]}).status_code == 413
    assert small.post("/collections/c/search", {"text": "a" * 2000}).status_code == 413


def test_prompts_of_the_folder_belong_to_the_store(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "prompts", {"query": "he face: ", "passage": "a: "})
    assert search.space_of(encoder, {"model": NAME}).made == {"model": NAME, "document_prompt": "a: "}


def test_queries_have_the_prompt_of_queries(filled: Running, encoder: SentenceEncoder) -> None:
    scores = encoder.encode("a face", prompt_name="query") @ encoder.encode(TEXTS).T
    best = filled.post("/collections/c/search", {"text": "a face", "k": 1}).json()["results"][0]
    assert best["score"] == pytest.approx(float(scores.max()), abs=1e-5)


def test_a_model_whose_vectors_are_compared_by_distance_is_refused(
    encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "measure", "euclidean")
    with pytest.raises(Unusable, match="compared by euclidean distance"):
        search.space_of(encoder, {"model": NAME})


def test_a_database_needs_its_extra(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    with ExitStack() as ends, pytest.raises(Unusable, match=r"needs psycopg, psycopg_pool, pgvector: pip install"):
        search.open_store("postgresql://127.0.0.1/atlas", encoder, {"model": NAME}, ends)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_commands_of_the_guide_work(running: Running, language: str) -> None:
    page = (ROOT / f"docs/{language}/guide/serving.md").read_text(encoding="utf-8")
    commands = [line for line in page.splitlines() if line.startswith("curl ") and "/collections" in line]
    answers = []
    for command in commands:
        words = shlex.split(command.replace("127.0.0.1:8080", running.address))
        answers.append(subprocess.run([words[0], "-sS", *words[1:]], capture_output=True, check=True).stdout)
    assert [each["id"] for each in json.loads(answers[2])["results"]] == ["m1"]
    assert [json.loads(line)["id"] for line in answers[3].splitlines()] == ["m1", "m2"]
