"""``add`` against a local server that answers in the shapes of arXiv, Crossref and GitHub, and fails as they do."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from catalog.add import fetch
from catalog.add.add import add, identify
from catalog.add.sources import Endpoints
from catalog.check import check
from catalog.errors import BadInput, Failure
from catalog.load import load
from tests.catalog.conftest import Write
from tests.harness.server import Fault, Server

ATOM = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/"
      xmlns:arxiv="http://arxiv.org/schemas/atom">
  <title>arXiv Query: search_query=&amp;id_list=1810.04805</title>
  <opensearch:totalResults>1</opensearch:totalResults>
  <entry>
    <id>http://arxiv.org/abs/1810.04805v2</id>
    <title>BERT: Pre-training of Deep Bidirectional Transformers for
  Language Understanding</title>
    <published>2018-10-11T00:50:01Z</published>
    <updated>2019-05-24T20:37:26Z</updated>
    <summary>Not taken.</summary>
    <author><name>Jacob Devlin</name></author>
    <author><name>Ming-Wei Chang</name></author>
    <arxiv:doi>10.18653/v1/N19-1423</arxiv:doi>
    <arxiv:primary_category term="cs.CL"/>
  </entry>
</feed>
"""
ATOM_ERROR = """<feed xmlns="http://www.w3.org/2005/Atom"><entry>
  <id>http://arxiv.org/api/errors#incorrect_id_format_for_1810.04805</id><title>Error</title>
  <summary>incorrect id format</summary></entry></feed>
"""
WORK = {
    "status": "ok",
    "message-type": "work",
    "message": {
        "DOI": "10.18653/v1/n19-1423",
        "type": "proceedings-article",
        "title": ["<i>BERT</i>: Pre-training of Deep &amp; Bidirectional\n Transformers"],
        "author": [{"given": "Jacob", "family": "Devlin"}, {"name": "A Group"}, {"given": "only"}],
        "container-title": ["Proceedings of the 2019 Conference of the North"],
        "issued": {"date-parts": [[2019]]},
        "published-print": {"date-parts": [[2019, 6]]},
        "posted": {"date-parts": [[None]]},
    },
}
REPOSITORY = {
    "full_name": "google-research/bert",
    "html_url": "https://github.com/google-research/bert",
    "description": "Not taken.",
    "license": {"key": "apache-2.0", "spdx_id": "Apache-2.0"},
    "archived": False,
    "default_branch": "master",
    "created_at": "2018-10-25T22:57:34Z",
    "pushed_at": "2024-07-23T14:52:35Z",
}
COMMITS = [{"sha": "eedf571", "commit": {"committer": {"date": "2020-03-11T19:56:01Z"}}}]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "WAITS", (0.01, 0.02))
    monkeypatch.setattr(fetch, "TIMEOUT", (5.0, 0.3))
    files = {
        "/api/query": ATOM.encode(),
        "/works/10.18653%2Fv1%2FN19-1423": json.dumps(WORK).encode(),
        "/repos/google-research/bert": json.dumps(REPOSITORY).encode(),
        "/repos/google-research/bert/commits": json.dumps(COMMITS).encode(),
    }
    with Server(files) as running:
        yield running


@pytest.fixture
def endpoints(server: Server) -> Endpoints:
    return Endpoints(server.address, server.address, server.address)


def test_a_paper_from_arxiv_with_its_venue(entries: Path, endpoints: Endpoints) -> None:
    added = add("https://arxiv.org/pdf/1810.04805v1", entries=entries, endpoints=endpoints)
    assert added.file == entries / "papers" / "bert.yaml"
    assert added.required == ["tags"]
    assert added.wanted == ["language", "summary_en", "summary_zh"]
    text = added.file.read_text("utf-8")
    assert text.startswith("# yaml-language-server: $schema=../../entry.schema.json\nid: bert\nkind: paper\n")
    data = yaml.safe_load(text)
    assert data["title"] == "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"
    assert data["authors"] == ["Jacob Devlin", "Ming-Wei Chang"]
    assert (data["year"], data["venue_year"]) == (2018, 2019)
    assert data["venue"] == "NAACL"  # by the DOI; Crossref says "Proceedings of the 2019 Conference of the North"
    assert (data["arxiv"], data["doi"]) == ("1810.04805", "10.18653/v1/N19-1423")
    assert "summary_en" not in data
    added.file.write_text(text.replace("tags: []", "tags: [pretraining]"), "utf-8")
    assert check(entries) == []


def test_a_paper_whose_venue_is_not_to_be_had_is_written_all_the_same(
    server: Server, entries: Path, endpoints: Endpoints
) -> None:
    del server.files["/works/10.18653%2Fv1%2FN19-1423"]
    added = add("1810.04805", entries=entries, endpoints=endpoints)
    assert "venue" in added.wanted
    assert added.notes == [
        "the venue is not filled in: Crossref knows no '10.18653/v1/N19-1423'; is it spelled correctly? "
        "--offline writes a skeleton anyway"
    ]


def test_a_paper_from_its_doi(entries: Path, endpoints: Endpoints) -> None:
    added = add("https://doi.org/10.18653/v1/N19-1423", name="bert", entries=entries, endpoints=endpoints)
    data = yaml.safe_load(added.file.read_text("utf-8"))
    assert data["title"] == "BERT: Pre-training of Deep & Bidirectional Transformers"
    assert data["authors"] == ["Jacob Devlin", "A Group"]
    assert data["year"] == 2019
    assert any("earlier preprint" in note for note in added.notes)


@pytest.mark.parametrize(
    "title",
    [
        "自然语言处理 " * 30,
        "Pre- and post-training " * 12,
        "Issue #12: the C # case",
        "null",
        "1e3",
        "- a",
        "$\\theta$ \"x\" 'y'",
    ],
)
def test_a_title_is_written_so_that_it_reads_back_whole(
    title: str, server: Server, entries: Path, endpoints: Endpoints
) -> None:
    work = {**WORK["message"], "title": [title]}  # type: ignore[dict-item]
    server.files["/works/10.18653%2Fv1%2FN19-1423"] = json.dumps({"message": work}).encode()
    file = add("10.18653/v1/N19-1423", name="bert", entries=entries, endpoints=endpoints).file
    file.write_text(file.read_text("utf-8").replace("tags: []", "tags: [ner]"), "utf-8")
    (entry,) = load(entries)
    assert entry.title == title.strip()


def test_a_repository_from_github(entries: Path, endpoints: Endpoints) -> None:
    added = add("https://github.com/google-research/bert/", entries=entries, endpoints=endpoints)
    data = yaml.safe_load(added.file.read_text("utf-8"))
    assert added.file == entries / "repositories" / "bert.yaml"
    assert data["url"] == "https://github.com/google-research/bert"
    assert (data["year"], data["license"], data["status"]) == (2018, "Apache-2.0", "active")
    assert data["last_commit"] == "2020-03-11"


def test_a_repository_that_was_renamed_archived_and_has_no_licence(
    server: Server, entries: Path, endpoints: Endpoints
) -> None:
    moved = REPOSITORY | {"full_name": "jina-ai/clip-as-service", "license": None, "archived": True}
    server.files["/repos/hanxiao/bert-as-service"] = json.dumps(moved).encode()
    server.files["/repos/jina-ai/clip-as-service/commits"] = b"[]"
    added = add("https://github.com/hanxiao/bert-as-service", entries=entries, endpoints=endpoints)
    data = yaml.safe_load(added.file.read_text("utf-8"))
    assert data["url"] == "https://github.com/jina-ai/clip-as-service"
    assert (data["license"], data["status"]) == ("none-found", "archived")
    assert added.notes == ["hanxiao/bert-as-service is now jina-ai/clip-as-service", "GitHub shows no commit"]


def test_a_licence_that_github_does_not_recognise_is_left_to_the_person(
    server: Server, entries: Path, endpoints: Endpoints
) -> None:
    unclear = REPOSITORY | {"license": {"spdx_id": "NOASSERTION"}}
    server.files["/repos/google-research/bert"] = json.dumps(unclear).encode()
    added = add("https://github.com/google-research/bert", entries=entries, endpoints=endpoints)
    assert "license" in added.wanted
    assert any("does not recognise the licence" in note for note in added.notes)


def test_any_other_address_asks_nobody(server: Server, entries: Path, endpoints: Endpoints) -> None:
    added = add("https://zhuanlan.zhihu.com/p/46652512", entries=entries, endpoints=endpoints)
    assert added.file == entries / "articles" / "zhuanlan-zhihu-com-p-46652512.yaml"
    assert added.required == ["title", "year", "tags"]
    assert server.requests == []


def test_offline_asks_nobody_and_the_skeleton_names_what_is_missing(server: Server, entries: Path) -> None:
    added = add("10.18653/v1/N19-1423", offline=True, entries=entries)
    assert server.requests == []
    assert added.file.name == "10-18653-v1-n19-1423.yaml"
    problems = {problem.field for problem in check(entries)}
    assert problems == {"title", "year", "tags"} == set(added.required)


@pytest.mark.parametrize(
    ("what", "kind", "meant"),
    [
        ("1810.04805", None, "paper"),
        ("https://github.com/google-research/bert", None, "repository"),
        ("https://github.com/someone/notes/blob/main/bert.md", None, "article"),
        ("https://huggingface.co/google-bert/bert-base-uncased", None, "model"),
        ("https://huggingface.co/datasets/nyu-mll/glue", None, "dataset"),
        ("https://huggingface.co/blog/modernbert/part/two", None, "article"),
        ("https://huggingface.co/blog/modernbert", None, "article"),
        ("https://huggingface.co/docs/transformers", None, "article"),
        ("https://huggingface.co/google-bert/bert-base-uncased/tree/main", None, "model"),
        ("https://huggingface.co/papers/1810.04805", None, "paper"),
        ("https://arxiv.org/abs/1810.04805?context=cs#x", None, "paper"),
        ("https://ar5iv.labs.arxiv.org/html/1810.04805", None, "paper"),
        ("https://aclanthology.org/N19-1423.pdf", None, "paper"),
        ("https://openreview.net/pdf?id=SyxS0T4tvS", None, "paper"),
        ("https://dl.acm.org/doi/10.1145/3292500.3330701", None, "paper"),
        ("git@github.com:google-research/bert.git", None, "repository"),
        ("github.com/google-research/bert/tree/master", None, "repository"),
        ("https://github.com/google-research/google-research/tree/master/goemotions", None, "repository"),
        ("https://github.com/topics/bert", None, "article"),
        ("https://gluebenchmark.com", "dataset", "dataset"),
    ],
)
def test_the_kind_follows_from_what_is_given(what: str, kind: str | None, meant: str) -> None:
    assert identify(what, kind)[0] == meant


@pytest.mark.parametrize(
    ("what", "field", "written"),
    [
        ("https://doi.org/10.1016/j.neunet.2019.01.001.", "doi", "10.1016/j.neunet.2019.01.001"),
        ("https://dl.acm.org/doi/abs/10.1145/X.Y?download=true", "doi", "10.1145/X.Y"),
        ("https://www.alphaxiv.org/abs/1810.04805v2", "arxiv", "1810.04805"),
        ("https://www.aclweb.org/anthology/N/N19/N19-1423.pdf", "url", "https://aclanthology.org/N19-1423/"),
        ("git@github.com:Google-Research/bert.git", "url", "https://github.com/Google-Research/bert"),
        ("https://hf.co/hfl/chinese-macbert-base/tree/main", "url", "https://huggingface.co/hfl/chinese-macbert-base"),
        ("https://openreview.net/pdf?id=SyxS0T4tvS", "url", "https://openreview.net/forum?id=SyxS0T4tvS"),
        ("https://example.org/a_(b)?x=1", "url", "https://example.org/a_(b)?x=1"),
    ],
)
def test_what_is_written_is_the_identifier_itself(what: str, field: str, written: str) -> None:
    assert identify(what)[1] == {field: written}


def test_a_paper_of_the_anthology_gets_the_doi_of_its_id(entries: Path, endpoints: Endpoints) -> None:
    added = add("https://aclanthology.org/N19-1423.pdf", name="bert", entries=entries, endpoints=endpoints)
    assert yaml.safe_load(added.file.read_text("utf-8"))["doi"] == "10.18653/v1/N19-1423"
    old = add("https://aclanthology.org/W03-0419/", name="conll", entries=entries, endpoints=endpoints)
    data = yaml.safe_load(old.file.read_text("utf-8"))
    assert data["url"] == "https://aclanthology.org/W03-0419/"
    assert "doi" not in data  # Crossref knows none


def test_an_address_without_latin_letters_asks_for_an_id(entries: Path) -> None:
    with pytest.raises(BadInput, match=r"it has no Latin letters or digits; choose one, such as --id author-subject"):
        add("https://例子.测试/页", offline=True, entries=entries)


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("https://link.juejin.cn/?target=https%3A%2F%2Farxiv.org", None, "did you mean 'https://arxiv.org'"),
        ("git@example.org:a/b.git", None, "is for git - did you mean 'https://example.org/a/b'?"),
        ("bert", None, "is not an arXiv id"),
        ("javascript:alert(1)", None, "'javascript' addresses are not allowed"),
        ("1810.04805", "repository", "does not identify a repository"),
        ("https://example.org/x", "papers", "--kind 'papers' is none of .* - did you mean 'paper'"),
    ],
)
def test_what_names_nothing(what: str, kind: str | None, message: str, entries: Path) -> None:
    with pytest.raises(BadInput, match=message):
        add(what, kind=kind, offline=True, entries=entries)


def test_what_is_in_the_catalog_already(server: Server, entries: Path, write: Write, endpoints: Endpoints) -> None:
    write("bert", arxiv="1810.04805", doi="10.18653/v1/n19-1423", year="x")  # found although it has a problem
    with pytest.raises(BadInput, match=r"arXiv id 1810.04805 is already in the catalog: .*papers/bert.yaml"):
        add("1810.04805v2", entries=entries, endpoints=endpoints)
    with pytest.raises(BadInput, match=r"DOI 10.18653/v1/n19-1423 is already in the catalog"):
        add("https://doi.org/10.18653/v1/N19-1423", entries=entries, endpoints=endpoints)
    assert server.requests == []


def test_what_is_in_the_catalog_under_another_identifier(entries: Path, write: Write, endpoints: Endpoints) -> None:
    title = "BERT: Pretraining of Deep Bidirectional Transformers for Language Understanding"
    write("bert", title=f"'{title}'", arxiv=None, url="https://example.org/bert.pdf")
    with pytest.raises(BadInput, match=r"nearly the title of .*bert.yaml"):
        add("1810.04805", entries=entries, endpoints=endpoints)


def test_ids_that_are_taken(entries: Path, write: Write, endpoints: Endpoints) -> None:
    write("bert", "model")
    with pytest.raises(BadInput, match=r"--id bert: .*models/bert.yaml has it"):
        add("1810.04805", name="bert", entries=entries, endpoints=endpoints)
    with pytest.raises(BadInput, match="lower case"):
        add("1810.04805", name="../../x", entries=entries, endpoints=endpoints)
    assert add("1810.04805", entries=entries, endpoints=endpoints).file.stem == "bert-2018"


def test_a_busy_server_is_asked_again_when_it_says(server: Server, entries: Path, endpoints: Endpoints) -> None:
    server.faults["/api/query"] = [Fault(429, {"Retry-After": "1"}), Fault(503)]
    started = time.monotonic()
    add("1810.04805", entries=entries, endpoints=endpoints)
    assert 1.0 <= time.monotonic() - started < 5
    assert [path for _, path, _ in server.requests].count("/api/query") == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(429), r"the server is busy \(429\), 3 times; try again later, or write a skeleton with --offline"),
        (Fault(429, {"Retry-After": "3600"}), "asks to wait for 3600 s"),
        (Fault(503, {"Retry-After": "Fri, 31 Dec 2066 23:59:59 GMT"}), "asks to wait for"),
        (Fault(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}), r"\(403\), and asks to wait"),
        (Fault(403), "answers 403"),
        (Fault(pause=1.0), "did not answer in time; try again later"),
        (Fault(cut_after=100), "no connection"),
    ],
)
def test_a_server_that_fails(fault: Fault, message: str, server: Server, entries: Path, endpoints: Endpoints) -> None:
    server.faults["/api/query"] = [fault] * 3
    with pytest.raises(Failure, match=message):
        add("1810.04805", entries=entries, endpoints=endpoints)
    assert list(entries.rglob("*.yaml")) == []


def test_a_server_that_is_silent_or_away_is_tried_three_times(entries: Path, endpoints: Endpoints) -> None:
    tried = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    tried.append(listening.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        silent = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(Failure, match="did not answer in time"):
            add("1810.04805", entries=entries, endpoints=Endpoints(arxiv=silent))
        assert len(tried) == 3
        listening.shutdown(socket.SHUT_RDWR)  # ends the thread's accept
    for connection in tried:
        connection.close()
    with pytest.raises(Failure, match=r"no connection \(NewConnectionError\); try again later"):
        add("1810.04805", entries=entries, endpoints=Endpoints(arxiv=silent))


@pytest.mark.parametrize("wait", ["soon", ""])
def test_a_wait_that_cannot_be_read_is_the_usual_one(
    wait: str, server: Server, entries: Path, endpoints: Endpoints
) -> None:
    server.faults["/api/query"] = [Fault(503, {"Retry-After": wait})]
    assert add("1810.04805", entries=entries, endpoints=endpoints).file.exists()


@pytest.mark.parametrize(
    ("path", "what", "answer", "message"),
    [
        ("/api/query", "1810.04805", b"<feed", "no XML"),
        ("/api/query", "1810.04805", b"<html>busy</html>", "arXiv knows no '1810.04805'"),
        ("/api/query", "1810.04805", ATOM_ERROR.encode(), "arXiv knows no '1810.04805'"),
        ("/api/query", "1810.04805", ATOM.replace("1810.04805v2", "1907.11692").encode(), "arXiv knows no"),
        ("/api/query", "1810.04805", b'<!DOCTYPE x [<!ENTITY a "aaa">]><x>&a;</x>', "a document type"),
        ("/api/query", "1810.04805", ATOM.encode("utf-16"), "not UTF-8"),
        ("/api/query", "1810.04805", b"x" * 5_000_001, "more than 5 MB"),
        ("/works/10.18653%2Fv1%2FN19-1423", "10.18653/v1/N19-1423", b"not json", "no JSON"),
        ("/works/10.18653%2Fv1%2FN19-1423", "10.18653/v1/N19-1423", b'{"message": 3}', "no message"),
        ("/works/10.18653%2Fv1%2FN19-1423", "10.18653/v1/N19-1423", b"[1]", "no message"),
        ("/repos/google-research/bert", "https://github.com/google-research/bert", b"{}", "no 'full_name'"),
        ("/repos/google-research/bert", "https://github.com/google-research/bert", b"[]", "not as documented"),
        (
            "/repos/google-research/bert",
            "https://github.com/google-research/bert",
            json.dumps(REPOSITORY | {"full_name": "../../x\n/y"}).encode(),
            "full_name",
        ),
    ],
)
def test_answers_that_are_not_as_documented(
    path: str, what: str, answer: bytes, message: str, server: Server, entries: Path, endpoints: Endpoints
) -> None:
    server.files[path] = answer
    with pytest.raises((BadInput, Failure), match=message):
        add(what, entries=entries, endpoints=endpoints)
    assert list(entries.rglob("*.yaml")) == []


@pytest.mark.parametrize("what", ["1810.04805", "10.18653/v1/N19-1423", "https://github.com/google-research/bert"])
def test_what_no_source_knows(what: str, server: Server, entries: Path, endpoints: Endpoints) -> None:
    server.files.clear()
    with pytest.raises(BadInput, match=r"knows no .* --offline writes a skeleton"):
        add(what, entries=entries, endpoints=endpoints)


def test_an_answer_that_drips_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server, entries: Path
) -> None:
    monkeypatch.setattr(fetch, "DEADLINE", 0.3)
    listening = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def drip() -> None:
        while not done.is_set():
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                try:
                    while not done.wait(0.05):
                        connection.sendall(b"x")
                except OSError:
                    continue

    threading.Thread(target=drip, daemon=True).start()
    slow = f"http://127.0.0.1:{listening.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(Failure, match=r"the answer took more than 0 s; try again later"):
        add("1810.04805", entries=entries, endpoints=Endpoints(arxiv=slow))
    done.set()
    listening.close()
    assert time.monotonic() - started < 5


def test_answers_are_kept_for_a_week(
    monkeypatch: pytest.MonkeyPatch, server: Server, entries: Path, endpoints: Endpoints
) -> None:
    add("1810.04805", entries=entries, endpoints=endpoints).file.unlink()
    asked = len(server.requests)
    add("1810.04805", entries=entries, endpoints=endpoints).file.unlink()
    assert len(server.requests) == asked
    monkeypatch.setattr(fetch, "FRESH", 0.0)
    add("1810.04805", entries=entries, endpoints=endpoints)
    assert len(server.requests) == 2 * asked


def test_text_of_a_source_is_only_text(server: Server, entries: Path, endpoints: Endpoints) -> None:
    evil = ATOM.replace("BERT: Pre-training", "'\"]: &amp;a *b &lt;script&gt; !!python/name:os.system # {{x}} \u4e2d:")
    server.files["/api/query"] = evil.encode()
    added = add("1810.04805", name="bert", entries=entries, endpoints=endpoints)
    added.file.write_text(added.file.read_text("utf-8").replace("tags: []", "tags: [ner]"), "utf-8")
    assert check(entries) == []
    assert "<script>" in yaml.safe_load(added.file.read_text("utf-8"))["title"]
