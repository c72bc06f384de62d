"""Limits that a stranger can try: headers that do not end, answers that are not read, too many connections."""

import json
import resource
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from reference.serving import connections
from reference.serving.connections import Protocol
from tests.reference.serving.conftest import SOON, Running, wait_until

Start = Callable[..., Running]


def opened(running: Running, received: int | None = None) -> socket.socket:
    host, port = running.address.rsplit(":", 1)
    made = socket.socket()
    if received is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
    made.settimeout(SOON)
    made.connect((host, int(port)))
    return made


def request(body: Any, path: str = "/embed") -> bytes:
    content = json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {len(content)}"]
    return "\r\n".join([*head, "", ""]).encode() + content


def ended(connection: socket.socket) -> bool:
    """Whether the other side has closed; waits for it."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def test_headers_that_do_not_end_are_not_waited_for(service_of: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    running = service_of()
    with opened(running) as idle, opened(running) as slow, opened(running) as second:
        slow.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\n")
        second.sendall(request({"inputs": "a"}))
        assert second.recv(4096).startswith(b"HTTP/1.1 200")
        second.sendall(b"GET /health HTTP/1.1\r\nho")  # of the next request on a connection that is kept

        def drip() -> None:
            try:
                for _ in range(1000):
                    slow.sendall(b"x")
                    time.sleep(0.02)
            except OSError:
                pass

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert all(ended(each) for each in (idle, slow, second))
        dripping.join()
    assert running.get("/health").status_code == 200


def test_a_request_that_takes_longer_than_headers_may_is_answered(
    service_of: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.1)
    running = service_of()
    content = json.dumps({"inputs": "a"}).encode()
    with opened(running) as connection:
        connection.sendall(request({"inputs": "a"})[: -len(content)])
        time.sleep(0.3)
        connection.sendall(content)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such option")
def test_a_client_that_does_not_read_is_cut_off(service_of: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 0.5)
    made: list[Protocol] = []
    original = Protocol.connection_made

    def kept(self: Protocol, transport: Any) -> None:
        made.append(self)
        original(self, transport)

    monkeypatch.setattr(Protocol, "connection_made", kept)
    running = service_of()
    with opened(running, received=2048) as greedy:
        for _ in range(40):
            greedy.sendall(request({"inputs": ["a " * 30] * 2048}, "/tokenize"))
            wait_until(lambda: made)
            if made[0].transport.get_write_buffer_size():
                break
        wait_until(lambda: made[0].transport.is_closing() and made[0] not in made[0].connections)
    assert running.get("/health").status_code == 200


def test_more_connections_than_are_taken_are_told_so(service_of: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "most", lambda: 3)
    running = service_of()
    kept = [opened(running) for _ in range(3)]
    for each in kept:
        each.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert each.recv(4096).startswith(b"HTTP/1.1 200")
    answer = requests.get(f"http://{running.address}/health", timeout=SOON)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "3 connections, the most that it takes" in answer.json()["error"]["message"]
    for each in kept:
        each.close()
    wait_until(lambda: running.get("/health").status_code == 200)


def test_connections_leave_descriptors_for_other_uses() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 16 <= connections.most() <= max(16, hard - connections.SPARE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.soak
def test_ten_thousand_connections_are_answered(service_of: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 21_000 and hard < 2 * 9_000:
        pytest.skip(f"this system allows {hard} descriptors, too few for both ends of so many connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    running, count = service_of(), min(10_000, (hard - 1000) // 2)
    kept = [opened(running) for _ in range(count)]
    for each in kept[:: count // 50]:
        each.sendall(request({"inputs": "a"}))
        assert each.recv(4096).startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))
    assert running.get("/health").status_code in (200, 503)
    for each in kept:
        each.close()
    wait_until(lambda: running.get("/health").status_code == 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
