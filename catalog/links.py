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

DAYS = 3  # number of different days on which a link must be denied before it counts as dead
PAUSE = 3.0  # seconds between two requests to one host; arXiv asks for 3
HOSTS = 8  # hosts contacted at the same time
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
    """The state of one address. Days are written 2026-11-22."""

    state: State
    reason: str = ""  # why the state is not ok: "404", "timeout", ...
    first_failed: str | None = None  # first day without an ok since the last ok
    denied: list[str] = field(default_factory=list)  # days since then on which the server denied it
    archived: str | None = None  # address of an archived copy, proposed for `archived_url`


@dataclass(frozen=True)
class Answer:
    """The result of one attempt: the link works, is denied, or the answer is unclear."""

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
    """Check every address of the entries; return the states by address, and write them to ``status``.

    ``allowed`` decides which network addresses may be connected to; by default the public ones.

    Raises:
        BadInput: there is no folder of entries, or ``status`` is not a file of link states.
        Failure: no server answers, so there is probably no network; ``status`` is not changed.
    """
    day = (today or datetime.date.today()).isoformat()
    before = read_status(status)
    addresses = addresses_of(entries)
    allowed = allowed or is_public
    answers = ask_all(addresses, allowed)
    if answers and all(answer.reason in ("no such host", "no connection", "timeout") for answer in answers.values()):
        raise Failure("not one address answers: is there a network? No state was recorded")
    links = {address: judge(before.get(address), answers[address], day) for address in addresses}
    for address, link in links.items():
        if link.state == "dead" and link.archived is None:
            links[address] = replace(link, archived=archived_copy(address, str(link.first_failed), archive, allowed))
    text = json.dumps(
        {"checked": day, "links": {k: _written(v) for k, v in links.items()}}, indent=1, ensure_ascii=False
    )
    status.write_text(text + "\n", encoding="utf-8")
    return links


def addresses_of(entries: Path) -> list[str]:
    """All addresses in the entries, sorted, without the pages that an entry says are gone."""
    found: set[str] = set()
    for document in read_folder(entries):
        if (entry := document.entry) is None:
            continue
        alive = [entry.url] if entry.status != "gone" else []
        found |= {each for each in (*alive, entry.renamed_to, entry.archived_url, *getattr(entry, "code", [])) if each}
    return sorted(found)


def read_status(file: Path) -> dict[str, Link]:
    """The states that ``update`` wrote; none if there is no file. BadInput if it is not a file of link states."""
    if not file.exists():
        return {}
    try:
        return {address: Link(**link) for address, link in json.loads(file.read_text("utf-8"))["links"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(
            f"{file} is not a file of link states ({error}); restore it, or remove it to start again"
        ) from None


def judge(before: Link | None, answer: Answer, day: str) -> Link:
    """The new state, given the state before and the answer on ``day``."""
    if answer.verdict == "ok":
        return Link("ok")
    known = before or Link("unknown")
    denied = sorted({*known.denied, day}) if answer.verdict == "denied" else known.denied
    state: State = "dead" if len(denied) >= DAYS else "unknown"
    return replace(known, state=state, reason=answer.reason, first_failed=known.first_failed or day, denied=denied)


def ask_all(addresses: Iterable[str], allowed: Callable[[Address], bool]) -> dict[str, Answer]:
    """Check all addresses: several hosts at once, the addresses of one host in turn with a pause between them."""
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
        return None  # `update` asks again next time


def is_public(address: Address) -> bool:
    """Whether an IP address belongs to the public internet; IPv4 addresses written as IPv6 are judged as IPv4."""
    if isinstance(address, ipaddress.IPv6Address) and (inner := address.ipv4_mapped or address.sixtofour):
        return is_public(inner)
    return address.is_global and not address.is_multicast


def _written(link: Link) -> dict[str, Any]:
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
            if answers[address].reason == "429":  # the host limits our rate: skip its other addresses this time
                rest = dict.fromkeys(addresses[at + 1 :], Answer("unclear", "not asked: the host asked to wait"))
                return answers | rest
    return answers


def ask(address: str, session: requests.Session) -> Answer:
    """One attempt. Redirects are followed here, so that each connection is checked; no body is read."""
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
    """The host has a network address that may not be connected to."""


class _NoHost(Exception):
    """The host's name has no network address; ``certain`` if the name service says so, rather than failing."""

    def __init__(self, certain: bool) -> None:
        super().__init__("no such host")
        self.certain = certain


class _OneStep(requests.Session):
    """Requests reads the body of a redirect and parses its target even with ``allow_redirects=False``."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def _session(allowed: Callable[[Address], bool]) -> requests.Session:
    """A session that connects only to ``allowed`` network addresses.

    The check is made when connecting: between a check of the name and a later connection, the name could change its
    address.
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
    session.trust_env = False  # no proxy, which would connect for us without the check, and no passwords from .netrc
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
