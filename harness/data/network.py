"""Network errors in words, with what to do about them."""

import os
import re
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests import exceptions
from urllib3.util import parse_url

from harness.errors import BadInput, Failure

# The connection broke, it was not refused: the next try may succeed.
BROKEN_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
PAGE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body|title|meta|script)\b", re.I | re.S
)
TRUE = ("1", "ON", "YES", "TRUE")  # as huggingface_hub reads them


def offline() -> str | None:
    """The environment variable with which the user forbids downloads; None if they are allowed."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if os.environ.get(name, "").upper() in TRUE), None)


def is_page(first: bytes) -> bool:
    """Whether a file with this beginning is a web page."""
    return PAGE.match(first) is not None


def hopeless(url: str, error: Exception) -> BadInput | Failure | None:
    """The error to raise where the next try would fail in the same way; None if it may succeed."""
    if isinstance(error, exceptions.ProxyError):
        named = proxy_variable(_asked(url, error)) or "this system's configuration"
        return Failure(
            f"{url} could not be fetched: {named} names a proxy that does not answer or refuses ({reason(error)}). "
            "Correct it, unset it, or list the host in NO_PROXY."
        )
    if isinstance(error, exceptions.SSLError):
        return None if isinstance(_innermost(error), BROKEN_TLS) else _of_tls(url, error)
    if isinstance(error, exceptions.TooManyRedirects):
        return Failure(f"{url} leads from one address to the next without end; open it with a browser to see where to.")
    if isinstance(error, exceptions.ConnectionError | exceptions.Timeout):
        return None
    if isinstance(error, exceptions.ChunkedEncodingError | exceptions.ContentDecodingError):
        return None
    if isinstance(error, exceptions.RequestException | urllib3.exceptions.HTTPError | ValueError):
        return _of_address(url, error)
    return _of_bundle(url, error)


def reason(error: Exception) -> str:
    """The innermost error, in a line: libraries wrap it several times."""
    text = str(_innermost(error)) or type(error).__name__
    return " ".join(text.split())


def _of_tls(url: str, error: exceptions.SSLError) -> Failure:
    why = _innermost(error)
    said = f"{url} could not be fetched: no trusted connection to {urlsplit(_asked(url, error)).hostname}"
    if not isinstance(why, ssl.SSLCertVerificationError):
        return Failure(f"{said} ({reason(error)}). {_bundle_advice()}")
    of_time = "expired" in why.verify_message or "not yet valid" in why.verify_message
    clock = f" This machine's clock says {time.strftime('%Y-%m-%d')}." if of_time else ""
    return Failure(f"{said} (certificate: {why.verify_message}).{clock} {_bundle_advice()}")


def _bundle_advice() -> str:
    """Networks that intercept TLS use their own certificates, which requests does not know."""
    named = _bundle()
    now = f"; now {named} names {os.environ[named]}" if named else ""
    return (
        "Where your organisation's network opens such connections, name the file of its certificates in "
        f"REQUESTS_CA_BUNDLE{now}."
    )


def _of_bundle(url: str, error: Exception) -> BadInput | None:
    """For a plain OSError without a number: requests did not find the configured certificates."""
    named = _bundle()
    if named is None or not isinstance(error, OSError) or error.errno is not None:
        return None
    return BadInput(f"{url} could not be fetched: {named} names {os.environ[named]}, which does not exist; correct it")


def _bundle() -> str | None:
    return next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), None)


def _of_address(url: str, error: Exception) -> BadInput:
    """For an address that is not valid: the requested one, or that of the proxy."""
    if _is_address(url) and (variable := proxy_variable(_asked(url, error))):
        return BadInput(f"{url} cannot be fetched: {variable} names no proxy that can be used ({reason(error)})")
    return BadInput(f"{url} cannot be fetched: {reason(error)}")


def _is_address(url: str) -> bool:
    try:
        return bool(parse_url(url).host) and url.startswith(("http://", "https://"))
    except urllib3.exceptions.LocationParseError:
        return False


def proxy_variable(url: str) -> str:
    """The environment variable that names the proxy for an address; empty if none does."""
    scheme = urlsplit(url).scheme
    names = [name for lower in (f"{scheme}_proxy", "all_proxy") for name in (lower, lower.upper())]
    return next((name for name in names if os.environ.get(name)), "")


def _asked(url: str, error: Exception) -> str:
    """The address of the request that failed, after redirects."""
    request = getattr(error, "request", None)
    return str(request.url) if isinstance(request, requests.PreparedRequest) and request.url else url


def _innermost(error: BaseException) -> BaseException:
    """The last of the errors that were wrapped."""
    *_, last = _wrapped(error)
    return last


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        yield found
        seen.add(id(found))
        inner = [getattr(found, "reason", None), *found.args, found.__cause__, found.__context__]
        found = next((each for each in inner if isinstance(each, BaseException)), None)
