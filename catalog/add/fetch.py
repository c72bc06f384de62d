"""One answer of a public API: asked for politely, waited for within bounds, and kept for a week."""

import email.utils
import hashlib
import os
import time
from pathlib import Path

import platformdirs
import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from catalog.errors import Failure

HEADERS = {
    "User-Agent": "bert-atlas-catalog/0.1 (reads single records for a catalog of BERT resources; python-requests)",
    "Accept-Encoding": "identity",  # so that what is read is counted as it is
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
    """The server knows no such record."""


class _Again(Exception):
    """This try failed; another one, after ``wait`` seconds (None: the usual), may not."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def cache_folder() -> Path:
    """Where answers are kept: below ``BERT_ATLAS_CACHE``, else the platform's cache folder."""
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

    Raises:
        NotFound: the server says 404 or 410.
        Failure: no usable answer, after three tries.
    """
    kept = cache_folder() / hashlib.sha256(url.encode()).hexdigest()
    if kept.is_file() and time.time() - kept.stat().st_mtime < FRESH:
        return kept.read_text("utf-8")
    text = _patiently(url)
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}")  # another process may fetch the same
    part.write_text(text, "utf-8")
    part.replace(kept)
    return text


def _patiently(url: str) -> str:
    reason = ""
    for usual in (*WAITS, None):
        try:
            return _once(url)
        except _Again as again:
            reason = str(again)
            if usual is None:
                break
            wait = usual if again.wait is None else again.wait
            if wait > LONGEST_WAIT:
                raise Failure(f"{url}: {reason}, and asks to wait for {wait:.0f} s; {ADVICE}") from None
            time.sleep(wait)
    raise Failure(f"{url}: {reason}, {len(WAITS) + 1} times; {ADVICE}")


def _once(url: str) -> str:
    started = time.monotonic()
    try:
        with requests.get(url, headers=HEADERS, timeout=TIMEOUT, stream=True) as answer:
            if answer.status_code in (404, 410):
                raise NotFound(url)
            used_up = not answer.ok and answer.headers.get("X-RateLimit-Remaining") == "0"  # GitHub says 403 then
            if answer.status_code in BUSY or used_up:
                raise _Again(f"the server is busy ({answer.status_code})", _asked_wait(answer))
            if not answer.ok:
                raise Failure(f"{url}: the server answers {answer.status_code} {answer.reason}; {ADVICE}")
            content = b""
            while piece := answer.raw.read1(65536):  # what is there: `read` would wait for all on a dripping server
                content += piece
                if len(content) > LARGEST:
                    raise Failure(f"{url}: the answer has more than {LARGEST // 1_000_000} MB; {ADVICE}")
                if time.monotonic() - started > DEADLINE:
                    raise _Again(f"the answer took more than {DEADLINE:.0f} s")
    except (requests.Timeout, ReadTimeoutError):
        raise _Again("the server did not answer in time") from None
    except (requests.RequestException, HTTPError) as error:
        raise _Again(f"no connection ({type(error).__name__})") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise Failure(f"{url}: the answer is not UTF-8; {ADVICE}") from None


def _asked_wait(answer: requests.Response) -> float | None:
    """Seconds that the server asks to wait: Retry-After in seconds or as a date, or GitHub's reset time."""
    asked = answer.headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return float(asked)
    if asked:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(asked).timestamp() - time.time())
        except ValueError:
            return None
    reset = answer.headers.get("X-RateLimit-Reset", "")
    return max(0.0, float(reset) - time.time()) if reset.isdigit() else None
