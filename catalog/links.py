"""The state of the addresses in the entries, checked on a schedule.

A link is dead only after its server has denied it on several days; a server that refuses robots, is busy or is slow
says nothing about the link. Entries come from strangers, and the machine that checks may be inside a network, so every
connection is refused that would go to an address that is not public, also after a redirect.

Not lychee, although the tests use it: with ``--exclude-all-private``, version 0.24 still connects to a private address
that a host name resolves to, and to one that a redirect names. It also keeps no state from one day to the next.
"""

import datetime
import ipaddress
import itertools
import json
import re
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

from catalog.errors import BadInput, Failure
from catalog.load import read_folder

State = Literal["ok", "unknown", "dead"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DAYS = 3  # on so many different days a link must be denied to be called dead
PAUSE = 3.0  # seconds between two requests to one host; arXiv asks for 3
HOSTS = 8  # asked at the same time
REDIRECTS = 8
TIMEOUT = (10.0, 20.0)  # seconds to connect, and to wait for an answer
DENIED = (404, 410)
HEADERS = {
    "User-Agent": "Mozilla/5.0 (compatible; bert-atlas-links/0.1; checks the links of a catalog of BERT resources)",
    "Accept": "text/html,*/*",
}
ARCHIVE = "https://archive.org"


@dataclass(frozen=True)
class Link:
    """What is known of one address. Days are written 2026-11-22."""

    state: State
    reason: str = ""  # why it is not ok: "404", "timeout", ...
    first_failed: str | None = None  # the first day of trouble since it was last ok
    denied: list[str] = field(default_factory=list)  # days since then on which its server denied it
    archived: str | None = None  # the address of an archived copy, proposed for `archived_url`


@dataclass(frozen=True)
class Answer:
    """What one attempt showed: the link works, is denied, or neither can be said."""

    verdict: Literal["ok", "unclear", "denied"]
    reason: str = ""


def update(
    entries: Path,
    status: Path,
    *,
    today: datetime.date | None = None,
    allowed: Callable[[Address], bool] | None = None,
    archive: str = ARCHIVE,
) -> dict[str, Link]:
    """Ask after every address of the entries; the states, by address, also written to ``status``.

    ``allowed`` says which network addresses may be connected to (public ones).

    Raises:
        BadInput: no folder of entries, or ``status`` is not such a file.
        Failure: nothing answers, so that nothing can be said; ``status`` stays as it was.
    """
    day = (today or datetime.date.today()).isoformat()
    before = read_status(status)
    addresses = addresses_of(entries)
    allowed = allowed or is_public
    answers = ask_all(addresses, allowed)
    if answers and all(answer.reason in ("no such host", "no connection", "timeout") for answer in answers.values()):
        raise Failure("not one address answers: is there a network? Nothing was noted")
    links = {address: judge(before.get(address), answers[address], day) for address in addresses}
    for address, link in links.items():
        if link.state == "dead" and link.archived is None:
            links[address] = replace(link, archived=archived_copy(address, str(link.first_failed), archive, allowed))
    text = json.dumps({"checked": day, "links": {k: _told(v) for k, v in links.items()}}, indent=1, ensure_ascii=False)
    status.write_text(text + "\n", encoding="utf-8")
    return links


def addresses_of(entries: Path) -> list[str]:
    """All addresses in the entries, sorted; not those of what is known to be gone."""
    found: set[str] = set()
    for document in read_folder(entries):
        if (entry := document.entry) is None:
            continue
        alive = [entry.url] if entry.status != "gone" else []
        found |= {each for each in (*alive, entry.renamed_to, entry.archived_url, *getattr(entry, "code", [])) if each}
    return sorted(found)


def read_status(file: Path) -> dict[str, Link]:
    """The states that ``update`` wrote; none if the file is not there. BadInput if it is not such a file."""
    if not file.exists():
        return {}
    try:
        return {address: Link(**link) for address, link in json.loads(file.read_text("utf-8"))["links"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(
            f"{file} is not a file of link states ({error}); restore it, or remove it to begin anew"
        ) from None


def judge(before: Link | None, answer: Answer, day: str) -> Link:
    """The state after ``answer`` came on ``day``."""
    if answer.verdict == "ok":
        return Link("ok")
    known = before or Link("unknown")
    denied = sorted({*known.denied, day}) if answer.verdict == "denied" else known.denied
    state: State = "dead" if len(denied) >= DAYS else "unknown"
    return replace(known, state=state, reason=answer.reason, first_failed=known.first_failed or day, denied=denied)


def ask_all(addresses: Iterable[str], allowed: Callable[[Address], bool]) -> dict[str, Answer]:
    """Ask after all addresses: several hosts at once, the addresses of one host in turn with a pause between."""
    by_host = itertools.groupby(sorted(addresses, key=_host), key=_host)
    groups = [list(group) for _, group in by_host]
    with ThreadPoolExecutor(HOSTS) as pool:
        parts = pool.map(lambda group: _ask_host(group, allowed), groups)
        return {address: answer for part in parts for address, answer in part.items()}


def archived_copy(address: str, day: str, archive: str, allowed: Callable[[Address], bool]) -> str | None:
    """The Internet Archive's copy of ``address`` nearest to ``day``, by its availability API; None without one."""
    query = f"{archive}/wayback/available?url={quote(address, safe='')}&timestamp={day.replace('-', '')}"
    try:
        with _session(allowed) as session:
            copy = session.get(query, timeout=TIMEOUT).json()["archived_snapshots"]["closest"]
        return re.sub("^http:", "https:", str(copy["url"])) if copy["available"] and copy["status"] == "200" else None
    except (requests.RequestException, _NotPublic, _NoHost, ValueError, KeyError, TypeError):
        return None  # asked again the next time


def is_public(address: Address) -> bool:
    """Whether an IP address is one of the public internet, also behind IPv6's ways to write an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address) and (inner := address.ipv4_mapped or address.sixtofour):
        return is_public(inner)
    return address.is_global and not address.is_multicast


def _told(link: Link) -> dict[str, Any]:
    return {name: value for name, value in asdict(link).items() if value}


def _host(address: str) -> str:
    return (urlsplit(address).hostname or "").removeprefix("www.")


def _ask_host(addresses: list[str], allowed: Callable[[Address], bool]) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    with _session(allowed) as session:
        for at, address in enumerate(addresses):
            if at:
                time.sleep(PAUSE)
            answers[address] = ask(address, session)
            if answers[address].reason == "429":  # the host has enough of us: leave it alone for this time
                rest = dict.fromkeys(addresses[at + 1 :], Answer("unclear", "not asked: the host asked to wait"))
                return answers | rest
    return answers


def ask(address: str, session: requests.Session) -> Answer:
    """One attempt, with redirects followed by hand: each is judged anew, and no body is read."""
    for _ in range(REDIRECTS):
        try:
            with session.get(address, timeout=TIMEOUT, stream=True) as answer:
                status, target = answer.status_code, answer.headers.get("Location")
        except _NotPublic:
            return Answer("unclear", "leads to a private network")
        except _NoHost as error:
            return Answer("denied" if error.certain else "unclear", "no such host")
        except requests.Timeout:
            return Answer("unclear", "timeout")
        except requests.exceptions.SSLError:
            return Answer("unclear", "TLS")
        except requests.RequestException:
            return Answer("unclear", "no connection")
        if status not in (301, 302, 303, 307, 308) or not target:
            return Answer("ok" if status < 300 else "denied" if status in DENIED else "unclear", str(status))
        try:
            address = urljoin(address, target)
            on_the_web = urlsplit(address).scheme in ("http", "https")
        except ValueError:
            on_the_web = False
        if not on_the_web:
            return Answer("unclear", "redirects to no web address")
    return Answer("unclear", "too many redirects")


class _NotPublic(Exception):
    """A host has a network address that may not be connected to."""


class _NoHost(Exception):
    """A host's name leads to no network address; ``certain`` if the name service says that there is none."""

    def __init__(self, certain: bool) -> None:
        super().__init__("no such host")
        self.certain = certain


class _OneStep(requests.Session):
    """Requests would read the body of a redirect and parse its target, even where it is told not to follow."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def _session(allowed: Callable[[Address], bool]) -> requests.Session:
    """A session whose every connection goes to an ``allowed`` network address.

    The check is made where the connection is: between a check by name and a connection by name, the name could
    change its address.
    """

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self.host, self.port, allowed)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self.host, self.port, allowed)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    adapter = HTTPAdapter()
    adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    session = _OneStep()
    session.trust_env = False  # no proxy, which would connect in our place, and no passwords from .netrc
    session.headers.update(HEADERS)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _connect(host: str, port: int, allowed: Callable[[Address], bool]) -> socket.socket:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise _NoHost(certain=error.errno == socket.EAI_NONAME) from None
    except UnicodeError:
        raise _NoHost(certain=False) from None
    addresses = [str(each[4][0]).partition("%")[0] for each in found]
    if not all(allowed(ipaddress.ip_address(address)) for address in addresses):
        raise _NotPublic(host)
    last: OSError = OSError("no address")
    for address in sorted(addresses, key=len):  # IPv4 first: not every machine has IPv6
        try:
            return socket.create_connection((address, port), timeout=TIMEOUT[0])
        except OSError as error:
            last = error
    raise ConnectTimeoutError(str(last)) if isinstance(last, TimeoutError) else last
