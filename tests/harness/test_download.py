"""Downloads against a local server that fails in every way a real one does."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import IO, Any

import pytest

from harness import download as module
from harness.download import CHUNK, cache_folder, download, sha256_of, unzip
from harness.errors import BadInput, Failure
from tests.harness.server import Fault, Server

CONTENT = bytes(range(256)) * 4000  # about 1 MB: several chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()


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


@pytest.mark.parametrize("resumed", [False, True])
def test_a_wrong_checksum_keeps_the_good_and_removes_the_bad(server: Server, tmp_path: Path, resumed: bool) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"what was here before")
    if resumed:
        (tmp_path / "file.part").write_bytes(b"x" * 100)
    else:
        server.files["/file"] = CONTENT[::-1]
    with pytest.raises(Failure, match=f"expected sha256 {DIGEST}, got [0-9a-f]{{64}}.*again"):
        fetch(server, target)
    assert target.read_bytes() == b"what was here before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file.lock"]
    server.files["/file"] = CONTENT
    assert fetch(server, target).read_bytes() == CONTENT


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
        "import sys; from pathlib import Path; from harness.download import download; "
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
    damaged = (tmp_path / "a.zip").read_bytes().replace(b"the training file", b"the training lies")
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
