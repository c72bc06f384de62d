"""A small HTTP server on 127.0.0.1 for the tests: files with Range and ETag, and faults on demand."""

import hashlib
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("loopback.pem")


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request: another status, a cut connection, or a pause."""

    status: int | None = None  # answered instead of the file
    headers: dict[str, str] = field(default_factory=dict)  # sent along
    cut_after: int | None = None  # bytes of the body sent before the connection is closed
    pause: float = 0.0  # seconds between the headers and the body


class Server(ThreadingHTTPServer):
    """Serves ``files`` (path -> content) as a web server would; use it in a ``with`` statement."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes] | None = None, tls: bool = False) -> None:
        """With ``tls``, with a certificate that must be trusted explicitly."""
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https" if tls else "http"
        self.files = files or {}
        self.faults: dict[str, list[Fault]] = {}  # path -> faults, one used up by each GET
        self.headers: dict[str, dict[str, str]] = {}  # path -> headers added to the answer
        self.posts: dict[str, Callable[[bytes], bytes]] = {}  # path -> what answers a POST's body
        self.with_range = True
        self.with_etag = True
        self.part_status = 206  # of an answer that begins in the midst of a file
        self.dated = ""  # the Last-Modified of all files
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, the Range asked for
        self.accepted: list[str | None] = []  # the Accept-Encoding of each request

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self._log()
        faults = self.server.faults.get(path)
        fault = faults.pop(0) if faults else Fault()
        content = self.server.files.get(path)
        if fault.status or content is None:
            self._head(fault.status or 404, {"Content-Length": "0", **fault.headers})
            return
        start = self._start(content)
        if start >= len(content) > 0:
            self._head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        self._head_of(path, content, start)
        time.sleep(fault.pause)
        body = content[start:]
        self.wfile.write(body if fault.cut_after is None else body[: fault.cut_after])
        self.close_connection |= fault.cut_after is not None

    def do_HEAD(self) -> None:
        path = self._log()
        content = self.server.files.get(path)
        if content is None:
            self._head(404, {"Content-Length": "0"})
        else:
            self._head_of(path, content, 0)

    def do_POST(self) -> None:
        path = self._log()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.posts[path](body) if path in self.server.posts else None
        if answer is None:
            self._head(404, {"Content-Length": "0"})
            return
        self._head(200, {"Content-Length": str(len(answer)), "Content-Type": "application/json"})
        self.wfile.write(answer)

    def do_CONNECT(self) -> None:
        """As a proxy that lets nobody through."""
        self.server.requests.append((self.command, self.path, None))
        self._head(407, {"Content-Length": "0"})

    def log_message(self, *_: object) -> None:
        """Say nothing: `Server.requests` keeps what tests look at."""

    def _log(self) -> str:
        path = self.path.split("?")[0]
        self.server.accepted.append(self.headers.get("Accept-Encoding"))
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        return path

    def _start(self, content: bytes) -> int:
        """The offset to answer from: 0 if ranges are off, or if the client holds another version."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        known = (_etag(content), self.server.dated)
        if not asked or not self.server.with_range or self.headers.get("If-Range", known[0]) not in known:
            return 0
        return int(asked[1])

    def _head_of(self, path: str, content: bytes, start: int) -> None:
        headers = {"Content-Length": str(len(content) - start)}
        if self.server.with_etag:
            headers["ETag"] = _etag(content)
        if self.server.dated:
            headers["Last-Modified"] = self.server.dated
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(self.server.part_status if start else 200, headers | self.server.headers.get(path, {}))

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:  # an empty one takes the usual one away
                self.send_header(name, value)
        self.close_connection |= not headers.get("Content-Length")
        self.end_headers()


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'
