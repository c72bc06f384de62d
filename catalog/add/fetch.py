"""One answer of a public API: requested with few retries and bounded waits, and kept for a week."""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import platformdirs
import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, Retry
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError

from catalog.errors import Failure

HEADERS = {
    "User-Agent": "bert-atlas-catalog/0.1 (reads single records for a catalog of BERT resources; python-requests)",
    "Accept-Encoding": "identity",  # so that the bytes read are the bytes sent, and LARGEST limits both
}
TIMEOUT = (10.0, 20.0)  # seconds to connect, and between two pieces of an answer
DEADLINE = 60.0  # seconds for one whole answer
WAITS = (3.0, 10.0)  # seconds before the second and third try; arXiv asks for 3 between two requests
LONGEST_WAIT = 60.0  # seconds; a server that asks for more is a Failure, not a command that seems to hang
LARGEST = 5_000_000  # bytes of an answer
FRESH = 7 * 24 * 3600.0  # seconds for which an answer is kept
BUSY = (429, 500, 502, 503, 504)
ADVICE = "try again later, or write a skeleton with --offline"


class NotFound(Exception):
    """The server has no such record."""


class _LongWait(Exception):
    """The server asks to wait longer than LONGEST_WAIT."""

    def __init__(self, status: int, seconds: float) -> None:
        super().__init__(f"the server is busy ({status}), and asks to wait for {seconds:.0f} s")


class _Retry(Retry):
    """urllib3's policy, with our waits: its own first wait is 0 s, and it would cut a long Retry-After short."""

    def get_backoff_time(self) -> float:
        return WAITS[len(self.history) - 1]

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        try:
            seconds = super().get_retry_after(response)
        except InvalidHeader:
            return None
        if seconds is not None and seconds > LONGEST_WAIT:
            raise _LongWait(response.status, seconds)
        return seconds


def cache_folder() -> Path:
    """The folder that answers are kept in: below ``BERT_ATLAS_CACHE``, else below the platform's cache folder.

    Failure where neither is known.
    """
    given = os.environ.get("BERT_ATLAS_CACHE")
    try:
        folder = Path(given).expanduser() if given else platformdirs.user_cache_path("bert-atlas")
    except (RuntimeError, KeyError):
        folder = Path("~")
    if "~" in folder.parts[:1]:
        raise Failure("no home folder is known; set BERT_ATLAS_CACHE to a folder that you may write in")
    return folder / "catalog"


def fetch(url: str) -> str:
    """The text that ``url`` answers, from the cache if it was fetched within a week.

    A server that is busy or cannot be reached is asked three times.

    Raises:
        NotFound: the server says 404 or 410.
        Failure: no usable answer.
    """
    kept = cache_folder() / hashlib.sha256(url.encode()).hexdigest()
    if kept.is_file() and time.time() - kept.stat().st_mtime < FRESH:
        return kept.read_text("utf-8")
    try:
        text = _answer(url).decode("utf-8")
    except UnicodeDecodeError:
        raise Failure(f"{url}: the answer is not UTF-8; {ADVICE}") from None
    except _LongWait as error:
        raise Failure(f"{url}: {error}; {ADVICE}") from None
    except (requests.RequestException, HTTPError) as error:
        raise Failure(f"{url}: {_reason(error)}; {ADVICE}") from None
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}")  # another process may fetch the same
    part.write_text(text, "utf-8")
    part.replace(kept)
    return text


def _answer(url: str) -> bytes:
    started = time.monotonic()
    retries = _Retry(len(WAITS), status_forcelist=BUSY, raise_on_status=False)
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retries))
        with session.get(url, headers=HEADERS, timeout=TIMEOUT, stream=True) as answer:
            _judge(url, answer)
            content = b""
            while piece := answer.raw.read1(65536):  # `read` would block until a slow server has sent all 65,536 bytes
                content += piece
                if len(content) > LARGEST:
                    raise Failure(f"{url}: the answer has more than {LARGEST // 1_000_000} MB; {ADVICE}")
                if time.monotonic() - started > DEADLINE:
                    raise Failure(f"{url}: the answer took more than {DEADLINE:.0f} s; {ADVICE}")
            return content


def _judge(url: str, answer: requests.Response) -> None:
    """Raise what an answer's status means; nothing where the answer is good."""
    status, headers = answer.status_code, answer.headers
    if status in (404, 410):
        raise NotFound(url)
    if status in BUSY:
        raise Failure(f"{url}: the server is busy ({status}), {len(WAITS) + 1} times; {ADVICE}")
    if not answer.ok and headers.get("X-RateLimit-Remaining") == "0":  # GitHub's limit by the hour, with status 403
        reset = headers.get("X-RateLimit-Reset", "")
        raise _LongWait(status, max(0.0, float(reset) - time.time()) if reset.isdigit() else 3600.0)
    if not answer.ok:
        raise Failure(f"{url}: the server answers {status} {answer.reason}; {ADVICE}")


def _reason(error: Any) -> str:
    """Why there is no answer. Where urllib3 gave up after several tries, its last error is inside two others."""
    inner = getattr(error.args[0] if error.args else None, "reason", None)
    if any(isinstance(each, requests.Timeout | ReadTimeoutError) for each in (error, inner)):
        return "the server did not answer in time"
    return f"no connection ({type(inner or error).__name__})"
