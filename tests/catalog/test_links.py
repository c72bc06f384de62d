"""Links against local servers: three states, days that count, politeness, and addresses that are never connected to."""

import datetime
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import links
from catalog.errors import BadInput, Failure
from catalog.links import Answer, Link, ask_all, is_public, judge, read_status, update
from tests.catalog.conftest import Write
from tests.harness.server import Fault, Server

DAY = datetime.date(2026, 11, 22)


def only_this_server(address: links.Address) -> bool:
    return str(address) == "127.0.0.1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "PAUSE", 0.0)
    monkeypatch.setattr(links, "TIMEOUT", (2.0, 0.3))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server({"/good": b"yes"}) as running:
        yield running


@pytest.fixture
def bystander() -> Iterator[tuple[str, list[bytes]]]:
    """A server on another address of this machine, like one inside a private network, and the requests that it got."""
    heard: list[bytes] = []
    listening = socket.create_server(("127.0.0.2", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(1000))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.2:{listening.getsockname()[1]}/", heard
    listening.close()


def ask_one(address: str) -> Answer:
    return ask_all([address], only_this_server)[address]


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (Fault(), Answer("ok", "200")),
        (Fault(404), Answer("denied", "404")),
        (Fault(410), Answer("denied", "410")),
        (Fault(403), Answer("unclear", "403")),
        (Fault(429), Answer("unclear", "429")),
        (Fault(503), Answer("unclear", "503")),
        (Fault(999), Answer("unclear", "999")),
        (Fault(302, {"Location": "/good"}), Answer("ok", "200")),
        (Fault(301, {"Location": "/missing"}), Answer("denied", "404")),
        (Fault(301, {"Location": "file:///etc/passwd"}), Answer("unclear", "redirects to no web address")),
        (Fault(301, {"Location": "//[x"}), Answer("unclear", "redirects to no web address")),
    ],
)
def test_what_an_answer_means(fault: Fault, answer: Answer, server: Server) -> None:
    server.files["/asked"] = b"page"
    server.faults["/asked"] = [fault]
    assert ask_one(f"{server.address}/asked") == answer


def test_a_circle_of_redirects_ends(server: Server) -> None:
    server.files["/asked"] = b"page"
    server.faults["/asked"] = [Fault(302, {"Location": "/asked"})] * 50
    assert ask_one(f"{server.address}/asked") == Answer("unclear", "too many redirects")
    assert len(server.requests) == links.REDIRECTS


def test_a_silent_server_is_unclear() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = ask_one(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert answer == Answer("unclear", "timeout")


def test_no_body_is_read_not_even_that_of_a_redirect(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def endless() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {server.address}/good\r\n\r\n".encode())
                for _ in range(100):
                    try:
                        connection.sendall(b"x" * 100_000)
                        time.sleep(0.05)
                    except OSError:
                        return

        threading.Thread(target=endless, daemon=True).start()
        started = time.monotonic()
        assert ask_one(f"http://127.0.0.1:{listening.getsockname()[1]}/") == Answer("ok", "200")
        assert time.monotonic() - started < 3


def test_a_closed_port_is_unclear() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    assert ask_one(address) == Answer("unclear", "no connection")


def test_a_host_that_does_not_exist_is_denied_only_if_the_name_service_is_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    for code, verdict in ((socket.EAI_NONAME, "denied"), (socket.EAI_AGAIN, "unclear")):

        def no_name(*_: object, code: int = code, **__: object) -> None:
            raise socket.gaierror(code, "no name")

        monkeypatch.setattr(socket, "getaddrinfo", no_name)
        assert ask_one("https://gone.example/").verdict == verdict
        assert ask_one("https://gone.example/").reason == "no such host"


def test_private_addresses_are_never_connected_to(bystander: tuple[str, list[bytes]]) -> None:
    address, heard = bystander
    assert ask_all([address], is_public) == {address: Answer("unclear", "leads to a private network")}
    assert heard == []


def test_redirects_to_private_addresses_are_not_followed(server: Server, bystander: tuple[str, list[bytes]]) -> None:
    address, heard = bystander
    server.files["/asked"] = b""
    server.faults["/asked"] = [Fault(302, {"Location": address})]
    assert ask_one(f"{server.address}/asked") == Answer("unclear", "leads to a private network")
    assert heard == []


def test_a_name_is_judged_by_the_address_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, bystander: tuple[str, list[bytes]]
) -> None:
    address, heard = bystander
    port = int(address.rstrip("/").rpartition(":")[2])
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port))]
    )
    assert ask_one(f"http://harmless.example:{port}/") == Answer("unclear", "leads to a private network")
    assert heard == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def test_a_link_is_dead_after_denials_on_several_days_only() -> None:
    denied = Answer("denied", "404")
    link = judge(None, denied, "2026-11-01")
    assert link == Link("unknown", "404", "2026-11-01", ["2026-11-01"])
    assert judge(link, denied, "2026-11-01").state == "unknown"  # the same day says nothing new
    link = judge(link, Answer("unclear", "timeout"), "2026-11-08")
    assert (link.state, link.reason, link.denied) == ("unknown", "timeout", ["2026-11-01"])
    link = judge(judge(link, denied, "2026-11-15"), denied, "2026-11-22")
    assert (link.state, link.first_failed) == ("dead", "2026-11-01")
    assert judge(link, Answer("unclear", "503"), "2026-11-29").state == "dead"
    assert judge(link, Answer("ok", "200"), "2026-11-30") == Link("ok")


def test_refusals_and_timeouts_never_make_a_link_dead() -> None:
    link = None
    for day in range(10, 29):
        link = judge(link, Answer("unclear", "403"), f"2026-11-{day}")
    assert link == Link("unknown", "403", "2026-11-10", [])


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, server: Server) -> int:
    """All names lead to the local server; its port."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.server_port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    return server.server_port


def test_days_pass_until_an_archived_copy_is_proposed(names: int, server: Server, entries: Path, write: Write) -> None:
    good, missing = f"http://a.example:{names}/good", f"http://b.example:{names}/missing"
    write("a", "article", url=good)
    write("b", "article", title="Another", url=missing)
    write("c", "article", title="A third", url="http://gone.example/", status="gone")
    write("broken", year="x")
    snapshot = {"status": "200", "available": True, "url": "http://web.archive.org/web/2019/missing"}
    server.files["/wayback/available"] = json.dumps({"archived_snapshots": {"closest": snapshot}}).encode()
    status = entries.parent / "link_status.json"
    for later in range(3):
        assert ("/wayback/available" in {path for _, path, _ in server.requests}) is False
        day = DAY + datetime.timedelta(days=later)
        found = update(entries, status, today=day, allowed=only_this_server, archive=server.address)
    days = ["2026-11-22", "2026-11-23", "2026-11-24"]
    assert found == {
        good: Link("ok"),
        missing: Link("dead", "404", "2026-11-22", days, "https://web.archive.org/web/2019/missing"),
    }
    assert read_status(status) == found
    assert json.loads(status.read_text("utf-8"))["checked"] == "2026-11-24"


@pytest.mark.parametrize("answer", [b"{}", b"not json", b'{"archived_snapshots": {}}', b"[]"])
def test_no_archived_copy(answer: bytes, server: Server) -> None:
    server.files["/wayback/available"] = answer
    assert links.archived_copy("https://example.org/", "2026-11-22", server.address, only_this_server) is None


def test_a_host_that_asks_to_wait_is_left_alone(names: int, server: Server) -> None:
    server.faults["/a"] = [Fault(429)]
    addresses = [f"http://a.example:{names}/{path}" for path in ("a", "b", "c")]
    answers = ask_all([*addresses, f"http://b.example:{names}/good"], only_this_server)
    assert [answers[address].reason for address in addresses] == ["429", *["not asked: the host asked to wait"] * 2]
    assert answers[f"http://b.example:{names}/good"] == Answer("ok", "200")
    assert sorted(path for _, path, _ in server.requests) == ["/a", "/good"]


def test_requests_to_one_host_keep_their_distance_and_hosts_go_side_by_side(
    monkeypatch: pytest.MonkeyPatch, names: int, server: Server
) -> None:
    monkeypatch.setattr(links, "PAUSE", 0.4)
    hosts = [f"host{n}.example" for n in range(6)]
    addresses = [f"http://{host}:{names}/good?{n}" for host in hosts for n in range(3)]
    started = time.monotonic()
    answers = ask_all(addresses, only_this_server)
    took = time.monotonic() - started
    assert set(answers.values()) == {Answer("ok", "200")}
    assert 0.8 <= took < 4.0  # one after the other it would be 4.8


def test_without_a_network_nothing_is_noted(monkeypatch: pytest.MonkeyPatch, entries: Path, write: Write) -> None:
    def no_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no name")

    write("a", "article")
    status = entries.parent / "link_status.json"
    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    with pytest.raises(Failure, match="is there a network"):
        update(entries, status)
    assert not status.exists()


def test_a_proxy_of_the_environment_does_not_connect_in_our_place(
    monkeypatch: pytest.MonkeyPatch, server: Server, bystander: tuple[str, list[bytes]]
) -> None:
    address, heard = bystander
    monkeypatch.setenv("http_proxy", address)
    assert ask_one(f"{server.address}/good") == Answer("ok", "200")
    assert heard == []


@pytest.mark.parametrize("content", ["", "[]", '{"links": {"https://example.org/": {"state": "ok", "colour": 1}}}'])
def test_a_status_file_that_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "link_status.json").write_text(content)
    with pytest.raises(BadInput, match="is not a file of link states"):
        read_status(tmp_path / "link_status.json")
