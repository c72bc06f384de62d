"""Addresses of web pages: which are allowed in an entry, and when two lead to the same page."""

import re
import unicodedata
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

ADDRESS = r"^https?://[^\s<>\"\\^`{|}]+$"

_TRACKING = re.compile(
    r"^(utm_\w+|spm|spm_id_from|fbclid|gclid|msclkid|yclid|igshid|mc_[ce]id|ref_src|share_\w+|vd_source|from_wecom)="
)
_REDIRECTS = {  # hosts that only redirect, and the query parameter with the target
    "link.zhihu.com": "target",
    "link.csdn.net": "target",
    "link.juejin.cn": "target",
    "gitee.com/link": "target",
    "jianshu.com/go-wild": "url",
    "link.jianshu.com": "t",
    "google.com/url": "q",
    "l.facebook.com/l.php": "u",
}
_ARCHIVED = re.compile(r"^https?://web\.archive\.org/web/\d+(?:[a-z]{2}_)?/(https?:/)/?(.+)$")


def split(text: str) -> SplitResult | None:
    """The parts of an address, with or without https:// before the host. None for other text.

    >>> split("arxiv.org/abs/1810.04805").hostname
    'arxiv.org'
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        if not re.match(r"(?:[\w-]+\.)+[A-Za-z]{2,}/", text):
            return None
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        _ = parts.port  # reading it raises ValueError if the port is not a number
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") else None


def host_of(parts: SplitResult) -> str:
    """The host in the form used for comparison: without www, names in other scripts in their ASCII form (xn--)."""
    host = unicodedata.normalize("NFKC", parts.hostname or "").rstrip(".").removeprefix("www.")
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def normal_address(address: str) -> str:
    """``address`` in the form used for comparison: without scheme, www, tracking parameters and final slash.

    >>> normal_address("http://www.Example.org/a/?utm_source=x#top")
    'example.org/a'
    """
    if archived := _ARCHIVED.match(address):
        address = f"{archived[1]}/{archived[2]}"
    parts = split(address)
    if parts is None:
        return address
    host, path = host_of(parts), unicodedata.normalize("NFC", unquote(parts.path))
    if host == "youtu.be":
        return f"youtube.com/watch?v={path.strip('/')}"
    query = "&".join(sorted(pair for pair in parts.query.split("&") if pair and not _TRACKING.match(pair)))
    if host in ("youtube.com", "m.youtube.com") and (video := parse_qs(parts.query).get("v")):
        return f"youtube.com/watch?v={video[0]}"
    port = f":{parts.port}" if parts.port not in (None, 80, 443) else ""
    path = re.sub(r"/(index\.html?)?$", "", re.sub("/{2,}", "/", path))
    route = (
        f"#{parts.fragment}" if re.match("!?/", parts.fragment) else ""
    )  # distinguishes the pages of a single-page application
    return f"{host}{port}{path}{'?' if query else ''}{query}{route}"


def target(address: str) -> str | None:
    """The target of an address that only redirects, such as those Zhihu puts around links; None for others."""
    parts = split(address)
    if parts is None:
        return None
    host = host_of(parts)
    name = _REDIRECTS.get(host) or _REDIRECTS.get(f"{host}{parts.path}")
    found = parse_qs(parts.query).get(name) if name else None
    return found[0] if found else None


def wrong_address(address: str) -> str | None:
    """Why ``address`` is not allowed in an entry; None if it is."""
    if git := re.fullmatch(r"(?:ssh://|git://)?git@([\w.-]+)[:/](.+?)(?:\.git)?/?", address.strip()):
        return f"{address!r} is for git - did you mean {f'https://{git[1]}/{git[2]}'!r}?"
    scheme = re.match(r"^\s*([A-Za-z][A-Za-z0-9+.-]*):", address)
    if scheme and (
        git := re.fullmatch(r"(?:git|ssh|git\+https?|git\+ssh)://(?:git@)?(.+?)(?:\.git)?/?", address.strip())
    ):
        return f"{address!r} is for git - did you mean {f'https://{git[1]}'!r}?"
    if scheme is None or (not scheme[1].lower().startswith("http") and "." in scheme[1]):
        return f"{address!r} is not a web address - did you mean {'https://' + address.strip().lstrip('/')!r}?"
    if scheme[1].lower() not in ("http", "https"):
        return f"{scheme[1]!r} addresses are not allowed, only https and http"
    parts = split(address)
    if not re.match(ADDRESS, address) or parts is None or not parts.hostname:
        return f'{address!r} is not a valid web address (spaces and the characters <>"\\^`{{|}} are written as %XX)'
    if parts.username is not None or parts.password is not None:
        return f"{address!r} contains a user name or password; leave it out"
    if "." not in parts.hostname or re.fullmatch(r"[\d.]+", parts.hostname) or ":" in parts.hostname:
        return f"{address!r} is not an address of the public web"
    if elsewhere := target(address):
        return f"{address!r} only redirects - did you mean {elsewhere!r}?"
    return None
