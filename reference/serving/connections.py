"""Connections of the HTTP server: how many there may be, and how long each may take to ask and to read its answer.

uvicorn itself has no deadline for headers, nor for a client that does not read.
"""

import asyncio
import json
import socket
import sys
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # from the connection, or the end of the last answer, until the headers of a request are complete
READ_SECONDS = 30.0  # after which a client that reads nothing of its answer is cut off
SPARE = 256  # descriptors for all else: files, and two for each client of bert-as-service
MOST = 16_384


def most() -> int:
    """How many connections there may be: as many as descriptors allow, whose soft limit is raised to the hard one."""
    if sys.platform == "win32":
        return 512
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    soft = MOST + SPARE if soft == resource.RLIM_INFINITY else soft
    return max(16, min(MOST, soft - SPARE))


def cut_off_who_does_not_read(bound: socket.socket) -> None:
    """Have the kernel close connections of this listening socket whose other end takes nothing for READ_SECONDS."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * READ_SECONDS))


class Protocol(H11Protocol):
    """uvicorn's, with a deadline for headers and a limit of connections."""

    limit = MOST

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limit:
            transport.write(_refusal(self.limit))
            transport.close()
        else:
            self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has arrived: the deadline ends with the headers, and begins again after the answer."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._cancel()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        cycle = self.cycle
        super().on_response_complete()
        if self.cycle is cycle and not self.transport.is_closing():
            self._await_headers()

    def _await_headers(self) -> None:
        self._cancel()
        self._late = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _cancel(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def _refusal(limit: int) -> bytes:
    message = f"the service has {limit} connections, the most that it takes; try again later, or use fewer"
    body = json.dumps({"error": {"message": message, "type": "server_error", "param": None, "code": "connections"}})
    head = f"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}retry-after: 1\r\nconnection: close\r\n\r\n{body}".encode()
