"""Downloads against a local server that fails in every way a real one does."""

import errno
import gzip
import hashlib
import os
import random
import socket
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import IO, Any

import pytest
import requests

from harness.data import download as module
from harness.data.download import CHUNK, download, unzip
from harness.errors import BadInput, Failure
from harness.files import cache_folder, sha256_of
from tests.harness.server import CERTIFICATE, Fault, Server

CONTENT = bytes(range(256)) * 4000  # about 1 MB: several chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NOISE = random.Random(0).randbytes(5000)  # which gzip does not make shorter


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "WAITS", (0.0, 0.0, 0.0))
    with Server({"/file": CONTENT}) as running:
        yield running


def fetch(server: Server, target: Path, **options: Any) -> Path:
    return download(f"{server.address}/file", target, **{"sha256": DIGEST, "size": len(CONTENT)} | options)


def ranges(server: Server) -> list[str | None]:
    return [asked for _, _, asked in server.requests]


def test_a_file_arrives_whole_and_is_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.bin"
    assert fetch(server, target) == target
    assert target.read_bytes() == CONTENT
    assert not list(target.parent.glob("*.part*"))
    assert server.accepted == ["identity"], "compressed, a file could not be continued by offset"
    fetch(server, target)
    assert len(server.requests) == 1


def test_a_cut_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.faults["/file"] = [Fault(cut_after=len(CONTENT) // 2)]
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={len(CONTENT) // 2 // CHUNK * CHUNK}-"]


def test_the_next_call_continues_what_the_last_one_left(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITS", ())
    server.faults["/file"] = [Fault(cut_after=2 * CHUNK)]
    with pytest.raises(Failure, match=r"tries: 1; .*run the command again"):
        fetch(server, tmp_path / "file")
    assert (tmp_path / "file.part").read_bytes() == CONTENT[: 2 * CHUNK]
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={2 * CHUNK}-"]


@pytest.mark.parametrize("with_etag", [True, False])
def test_a_server_without_ranges_starts_anew(server: Server, tmp_path: Path, with_etag: bool) -> None:
    server.with_range, server.with_etag = False, with_etag
    server.faults["/file"] = [Fault(cut_after=CHUNK)]
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_continues_elsewhere_starts_anew(server: Server, tmp_path: Path) -> None:
    server.faults["/file"] = [Fault(cut_after=2 * CHUNK)]
    server.headers["/file"] = {"Content-Range": f"bytes {CHUNK}-{len(CONTENT) - 1}/{len(CONTENT)}"}
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={2 * CHUNK}-", None]


def test_halves_of_two_versions_are_never_joined(server: Server, tmp_path: Path) -> None:
    """Without a checksum nothing but the ETag can tell that the file changed between two requests."""
    old = b"old" * CHUNK
    server.files["/file"] = old
    server.faults["/file"] = [Fault(cut_after=CHUNK), Fault(status=404)]
    with pytest.raises(Failure, match="404"):
        fetch(server, tmp_path / "file", sha256=None, size=None)
    assert (tmp_path / "file.part").read_bytes() == old[:CHUNK]
    server.files["/file"] = CONTENT
    assert fetch(server, tmp_path / "file", sha256=None, size=None).read_bytes() == CONTENT


def test_without_checksum_and_etag_nothing_is_continued(server: Server, tmp_path: Path) -> None:
    server.with_etag = False
    server.faults["/file"] = [Fault(cut_after=CHUNK)]
    assert fetch(server, tmp_path / "file", sha256=None).read_bytes() == CONTENT
    assert ranges(server) == [None, None]


def test_a_wrong_checksum_keeps_the_good_and_removes_the_bad(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"what was here before")
    server.files["/file"] = CONTENT[::-1]
    with pytest.raises(Failure, match=f"expected sha256 {DIGEST}, got [0-9a-f]{{64}}.*again"):
        fetch(server, target)
    assert target.read_bytes() == b"what was here before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file.lock"]
    server.files["/file"] = CONTENT
    assert fetch(server, target).read_bytes() == CONTENT


@pytest.mark.parametrize("here", [b"x" * 100, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1), CONTENT[:999] + b"x"])
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_what_is_wrong_with_what_was_here_is_mended_by_one_more_download(
    server: Server, tmp_path: Path, here: bytes, size: int | None
) -> None:
    (tmp_path / "file.part").write_bytes(here)
    assert fetch(server, tmp_path / "file", size=size).read_bytes() == CONTENT
    assert ranges(server)[-1] is None, "all of it, from the beginning"
    assert len(server.requests) <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file.lock"]


def test_a_file_that_is_not_the_expected_one_is_not_fetched_again_and_again(server: Server, tmp_path: Path) -> None:
    server.files["/file"] = CONTENT[::-1]
    (tmp_path / "file.part").write_bytes(b"x" * 100)
    with pytest.raises(Failure, match=f"expected sha256 {DIGEST}"):
        fetch(server, tmp_path / "file")
    assert ranges(server) == ["bytes=100-", None]


@pytest.mark.parametrize("size", [1000, 10**9])
def test_a_wrong_size_is_told(server: Server, tmp_path: Path, size: int) -> None:
    with pytest.raises(Failure, match=f"expected {size:,} bytes, got 1,024,000"):
        fetch(server, tmp_path / "file", sha256=None, size=size)
    assert len(server.requests) == 1


def test_a_connection_that_ends_early_without_a_length(server: Server, tmp_path: Path) -> None:
    server.headers["/file"] = {"Content-Length": ""}
    server.faults["/file"] = [Fault(cut_after=2 * CHUNK)]
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={2 * CHUNK}-"]


def test_a_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT * 2)
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT


def test_a_complete_part_needs_no_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT
    assert server.requests == []


def test_not_found_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"/gone answered HTTP 404 .*may have moved"):
        download(f"{server.address}/gone", tmp_path / "gone", sha256=None)
    assert len(server.requests) == 1
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("after", ["7", "date"])
def test_too_many_requests_waits_as_long_as_told(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    monkeypatch.setattr(module.time, "time", lambda: 1e9)
    value = formatdate(1e9 + 7, usegmt=True) if after == "date" else after
    server.faults["/file"] = [Fault(status=429, headers={"Retry-After": value})]
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT
    assert 7.0 in slept


def test_a_very_long_wait_is_refused(server: Server, tmp_path: Path) -> None:
    server.faults["/file"] = [Fault(status=503, headers={"Retry-After": "3600"})]
    with pytest.raises(Failure, match="asks to wait 3600 seconds"):
        fetch(server, tmp_path / "file")


def test_a_server_that_recovers_is_forgiven(server: Server, tmp_path: Path) -> None:
    server.faults["/file"] = [Fault(status=500)] * 3
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT
    assert len(server.requests) == 4


def test_a_server_that_does_not_recover_is_a_failure(server: Server, tmp_path: Path) -> None:
    server.faults["/file"] = [Fault(status=500)] * 9
    with pytest.raises(Failure, match=r"tries: 4; the last one: HTTP 500"):
        fetch(server, tmp_path / "file")


def test_a_body_always_shorter_than_promised_is_a_failure(server: Server, tmp_path: Path) -> None:
    server.faults["/file"] = [Fault(cut_after=CHUNK)] * 9
    with pytest.raises(Failure, match="could not be downloaded"):
        fetch(server, tmp_path / "file")
    assert (tmp_path / "file.part").read_bytes() == CONTENT[: 4 * CHUNK]


def test_a_silent_server_is_left_after_the_timeout(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", (1.0, 0.1))
    server.faults["/file"] = [Fault(pause=0.5)]
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_no_server_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITS", ())
    with Server() as gone:
        address = gone.address
    with pytest.raises(Failure, match="Is this machine online"):
        download(f"{address}/file", tmp_path / "file", sha256=DIGEST)


def test_an_address_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be fetched"):
        download("no/address", tmp_path / "file", sha256=None)


def test_a_target_under_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("a file")
    with pytest.raises(BadInput, match="choose another folder"):
        fetch(server, tmp_path / "plain" / "file")


def test_a_full_disk_keeps_what_arrived(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.with_etag = False  # its file would take some of the room
    limit_writes(monkeypatch, room=2 * CHUNK)
    with pytest.raises(Failure, match=r"the disk is full.*Free some space"):
        fetch(server, tmp_path / "file")
    assert (tmp_path / "file.part").read_bytes() == CONTENT[: 2 * CHUNK]
    monkeypatch.undo()
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT
    assert ranges(server)[1] == f"bytes={2 * CHUNK}-"


def test_two_processes_fetch_once(server: Server, tmp_path: Path) -> None:
    server.faults["/file"] = [Fault(pause=0.5)]
    code = (
        "import sys; from pathlib import Path; from harness.data.download import download; "
        "download(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3])"
    )
    command = [sys.executable, "-c", code, f"{server.address}/file", str(tmp_path / "file"), DIGEST]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c"
    monkeypatch.delenv("BERT_ATLAS_CACHE")
    assert "bert-atlas" in cache_folder().parts


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# -- what can never succeed as it is --


@pytest.mark.parametrize("size", [len(NOISE), None])
def test_compressed_bytes_are_no_continuation(server: Server, tmp_path: Path, size: int | None) -> None:
    """A server that compresses whatever is asked counts ranges in compressed bytes."""
    server.files["/file"] = gzip.compress(NOISE)
    server.headers["/file"] = {"Content-Encoding": "gzip"}
    (tmp_path / "file.part").write_bytes(NOISE[:2000])
    found = download(f"{server.address}/file", tmp_path / "file", sha256=sha256(NOISE), size=size)
    assert found.read_bytes() == NOISE
    assert ranges(server) == ["bytes=2000-", None]


def test_bytes_that_cannot_be_decoded_are_asked_for_twice(server: Server, tmp_path: Path) -> None:
    server.headers["/file"] = {"Content-Encoding": "gzip"}
    with pytest.raises(Failure, match="twice its bytes could not be decoded"):
        fetch(server, tmp_path / "file")
    assert ranges(server) == [None, None]
    server.headers.clear()
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("known", [True, False], ids=["checksum known", "unknown"])
def test_a_part_that_is_sent_as_if_it_were_the_whole_is_joined_in_its_place(
    server: Server, tmp_path: Path, known: bool
) -> None:
    server.part_status = 200
    server.faults["/file"] = [Fault(cut_after=2 * CHUNK)]
    options = {} if known else {"sha256": None, "size": None}
    assert fetch(server, tmp_path / "file", **options).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={2 * CHUNK}-"]


@pytest.mark.parametrize("with_range", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_whole(server: Server, tmp_path: Path, with_range: bool) -> None:
    """Here its date tells; a server that passes over If-Range tells by the date of what it sends."""
    server.with_etag, server.with_range, server.dated = False, with_range, "Mon, 30 Nov 2026 10:00:00 GMT"
    server.files["/file"] = CONTENT[::-1]
    server.faults["/file"] = [Fault(cut_after=CHUNK), Fault(status=404)]
    with pytest.raises(Failure, match="404"):
        fetch(server, tmp_path / "file")
    assert (tmp_path / "file.part").stat().st_size == CHUNK
    server.files["/file"], server.dated = CONTENT, "Tue, 01 Dec 2026 10:00:00 GMT"
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT
    assert len(server.requests) == 3, "its checksum need not be found wrong first"


def test_a_server_that_continues_another_version_is_not_believed(server: Server, tmp_path: Path) -> None:
    """Without a checksum its ETag alone shows it, as this server passes over If-Range."""
    server.headers["/file"] = {"ETag": '"the same for all"'}
    (tmp_path / "file.part").write_bytes(b"old")
    (tmp_path / "file.part.etag").write_text(f'"{DIGEST}"')
    assert fetch(server, tmp_path / "file", sha256=None).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=3-", None]


@pytest.mark.parametrize("damaged", [b"\xff\xfe", b'"a\nb"', "“é”".encode(), b""])
def test_a_damaged_note_of_the_version_does_no_harm(server: Server, tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:CHUNK])
    (tmp_path / "file.part.etag").write_bytes(damaged)
    assert fetch(server, tmp_path / "file").read_bytes() == CONTENT
    assert ranges(server) == [f"bytes={CHUNK}-"]


# -- networks --


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><title>Sign in</title>", b"\n<!-- portal -->\n<HTML><body>", b"<html>"]
)
@pytest.mark.parametrize("known", [True, False], ids=["checksum known", "unknown"])
def test_a_web_page_for_signing_in_is_not_taken_for_the_file(
    server: Server, tmp_path: Path, page: bytes, known: bool
) -> None:
    server.files["/file"] = page
    (tmp_path / "file.part").write_bytes(CONTENT[:CHUNK])
    server.with_range = False
    options = {} if known else {"sha256": None, "size": None}
    with pytest.raises(Failure, match=r"/file answered with a web page, and not with file: perhaps one to sign in"):
        fetch(server, tmp_path / "file", **options)
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:CHUNK], "what had arrived before is still good"
    assert len(server.requests) == 1


def test_a_page_that_is_wanted_is_fetched(server: Server, tmp_path: Path) -> None:
    page = b"<!doctype html><p>terms</p>"
    server.files["/file"] = page
    found = download(f"{server.address}/file", tmp_path / "terms.html", sha256=None)
    assert found.read_bytes() == page
    found = download(f"{server.address}/file", tmp_path / "data", sha256=sha256(page), size=len(page))
    assert found.read_bytes() == page


@pytest.mark.parametrize(
    ("status", "message"), [(511, "sign in to this network"), (401, "one must sign in"), (403, "one must sign in")]
)
def test_a_status_that_asks_to_sign_in_is_not_tried_again(
    server: Server, tmp_path: Path, status: int, message: str
) -> None:
    server.faults["/file"] = [Fault(status=status)] * 9
    with pytest.raises(Failure, match=f"HTTP {status} .*{message}"):
        fetch(server, tmp_path / "file")
    assert len(server.requests) == 1


@pytest.fixture
def no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_bundle")
def test_a_certificate_that_is_not_trusted_names_the_variable_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITS", ("it is tried again",))
    with Server({"/file": CONTENT}, tls=True) as secret:
        with pytest.raises(Failure, match=r"127\.0\.0\.1 \(certificate: self-signed .*in REQUESTS_CA_BUNDLE\."):
            fetch(secret, tmp_path / "file")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        assert fetch(secret, tmp_path / "file").read_bytes() == CONTENT
        (tmp_path / "file").unlink()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
        with pytest.raises(Failure, match=r"in REQUESTS_CA_BUNDLE; now REQUESTS_CA_BUNDLE names .*\.pem"):
            fetch(secret, tmp_path / "file")


@pytest.mark.usefixtures("no_bundle")
def test_certificates_that_are_not_there_are_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / "absent.pem"))
    address = server.address.replace("http", "https")
    with pytest.raises(BadInput, match=r"CURL_CA_BUNDLE names .*absent\.pem, which does not exist"):
        download(f"{address}/file", tmp_path / "file", sha256=None)


@pytest.mark.usefixtures("no_bundle")
def test_a_server_without_tls_where_it_is_asked_for(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no trusted connection to 127"):
        download(f"{server.address.replace('http', 'https')}/file", tmp_path / "file", sha256=None)


def test_a_connection_broken_off_before_it_is_trusted_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITS", (0.0, 0.0))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            for _ in range(3):
                connection, _ = listening.accept()
                connection.recv(1000)
                connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        address = f"https://127.0.0.1:{listening.getsockname()[1]}/file"
        with pytest.raises(Failure, match=r"tries: 3; .*Is this machine online"):
            download(address, tmp_path / "file", sha256=None)


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_that_does_not_answer_is_named_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setattr(module, "WAITS", ("it is tried again",))
    monkeypatch.setenv(variable, "http://user:secret@127.0.0.1:9")
    with pytest.raises(
        Failure, match=rf": {variable} names a proxy that does not answer or refuses \(.*NO_PROXY"
    ) as caught:
        download("https://data.invalid/file", tmp_path / "file", sha256=None)
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("no_proxy")
def test_a_proxy_that_wants_a_password(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, server.address)
    with pytest.raises(Failure, match=r"HTTPS_PROXY names a proxy that does not answer or refuses .*407"):
        download("https://data.invalid/file", tmp_path / "file", sha256=None)
    server.files["http://data.invalid/file"] = b""
    server.faults["http://data.invalid/file"] = [Fault(status=407)]
    with pytest.raises(Failure, match=r"HTTP 407 .*HTTP_PROXY must hold the proxy's user name and password"):
        download("http://data.invalid/file", tmp_path / "file", sha256=None)


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("proxy", ["http://[bad", "nonsense://127.0.0.1", "socks5://127.0.0.1:9"])
def test_a_proxy_that_is_none_is_a_mistake_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(BadInput, match="HTTPS_PROXY names no proxy that can be used"):
        download("https://data.invalid/file", tmp_path / "file", sha256=None)


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    "address", ["http://a..b/x", f"http://{'a' * 70}.org/x", "http://[bad/", "http://127.0.0.1:99999/", "ftp://h/x", ""]
)
def test_addresses_that_no_request_can_be_made_of(tmp_path: Path, address: str) -> None:
    with pytest.raises(BadInput, match="cannot be fetched"):
        download(address, tmp_path / "file", sha256=None)


@pytest.mark.parametrize("place", ["http://[bad/", "http://a..b/", "ftp://h/x"])
def test_a_server_that_leads_nowhere(server: Server, tmp_path: Path, place: str) -> None:
    server.faults["/file"] = [Fault(status=302, headers={"Location": place})] * 9
    with pytest.raises((BadInput, Failure), match=r"/file"):
        fetch(server, tmp_path / "file")


def test_a_server_that_leads_in_a_circle(server: Server, tmp_path: Path) -> None:
    server.faults["/file"] = [Fault(status=302, headers={"Location": "/file"})] * 99
    with pytest.raises(Failure, match="leads from one address to the next without end"):
        fetch(server, tmp_path / "file")
    assert len(server.requests) == 31, "it is not tried again"


# -- nothing may be fetched --


@pytest.mark.parametrize(("variable", "value"), [("HF_HUB_OFFLINE", "1"), ("TRANSFORMERS_OFFLINE", "yes")])
def test_offline_what_is_here_is_used_and_what_is_not_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(
        Failure, match=rf"{variable} is set, .* file\.bin is not here yet\. .*at {tmp_path}/file\.bin\."
    ):
        fetch(server, tmp_path / "file.bin")
    (tmp_path / "file.bin").write_bytes(CONTENT)
    assert fetch(server, tmp_path / "file.bin").read_bytes() == CONTENT
    (tmp_path / "other.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path / "other").read_bytes() == CONTENT
    assert server.requests == []
    monkeypatch.setenv(variable, "0")
    assert fetch(server, tmp_path / "third").read_bytes() == CONTENT


# -- archives --


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def limit_writes(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """From now on files opened by `Path.open` take ``room`` bytes in all, then the disk is full."""
    open_file = Path.open
    left = room

    def limited(path: Path, mode: str = "r", *args: Any, **options: Any) -> IO[Any]:
        file = open_file(path, mode, *args, **options)
        if "r" in mode:
            return file
        write = file.write

        def counted(data: bytes) -> int:
            nonlocal left
            if len(data) > left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            left -= len(data)
            return write(data)

        class Limited:
            def __enter__(self) -> Any:
                file.__enter__()
                return self

            def __exit__(self, *error: Any) -> None:
                file.close()

            def __getattr__(self, name: str) -> Any:
                return counted if name == "write" else getattr(file, name)

        return Limited()  # type: ignore[return-value]

    monkeypatch.setattr(Path, "open", limited)


def test_unzip_takes_what_is_asked_for(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"RTE/train.tsv": b"train", "RTE/original/x": b"no", ".DS_Store": b"no"})
    written = unzip(archive, tmp_path / "out", {"RTE/train.tsv": "GLUE/RTE/train.tsv"})
    assert written == [tmp_path / "out" / "GLUE" / "RTE" / "train.tsv"]
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == written
    assert written[0].read_bytes() == b"train"


def test_unzip_takes_all_by_default(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a/": b"", "a/b": b"1", "c": b"2"})
    assert unzip(archive, tmp_path / "out") == [tmp_path / "out" / "a" / "b", tmp_path / "out" / "c"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:/evil"])
def test_unzip_never_leaves_the_folder(tmp_path: Path, name: str) -> None:
    archive = make_zip(tmp_path / "a.zip", {"good": b"good", name: b"evil"})
    with pytest.raises(Failure, match="leads out of the folder"):
        unzip(archive, tmp_path / "deep" / "out")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.zip"]


def test_unzip_refuses_a_target_outside(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"good": b"good"})
    with pytest.raises(Failure, match="leads out of the folder"):
        unzip(archive, tmp_path / "out", {"good": "../evil"})


def test_unzip_refuses_links(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(Failure, match="leads out of the folder"):
        unzip(tmp_path / "a.zip", tmp_path / "out")


def test_unzip_does_not_follow_a_link_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failure, match="leads out of the folder"):
        unzip(make_zip(tmp_path / "a.zip", {"a/b": b"evil"}), tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_unzip_says_what_is_missing(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"RTE/train.tsv": b"train"})
    with pytest.raises(Failure, match=r"does not hold dev\.tsv; it holds RTE/train\.tsv"):
        unzip(archive, tmp_path, {"dev.tsv": "dev.tsv"})


def test_a_damaged_member_never_gets_its_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("train.tsv", b"the training file")
    damaged = (tmp_path / "a.zip").read_bytes().replace(b"the training file", b"the training fill")
    (tmp_path / "a.zip").write_bytes(damaged)
    (tmp_path / "train.tsv").write_bytes(b"good")
    with pytest.raises(Failure, match=r"cannot be unpacked.*CRC"):
        unzip(tmp_path / "a.zip", tmp_path)
    assert (tmp_path / "train.tsv").read_bytes() == b"good"
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("content", [b"", b"no zip at all", None])
def test_what_is_no_zip(tmp_path: Path, content: bytes | None) -> None:
    whole = make_zip(tmp_path / "whole.zip", {"a": CONTENT}).read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(Failure, match=r"a\.zip cannot be unpacked"):
        unzip(tmp_path / "a.zip", tmp_path / "out")


def test_an_unzip_broken_off_leaves_whole_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip", {"first": b"1" * 100, "second": CONTENT})
    limit_writes(monkeypatch, room=1000)
    with pytest.raises(Failure, match="the disk is full"):
        unzip(archive, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first"]
    monkeypatch.undo()
    unzip(archive, tmp_path / "out")
    assert (tmp_path / "out" / "second").read_bytes() == CONTENT
