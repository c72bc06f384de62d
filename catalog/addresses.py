"""Addresses of web pages: which may stand in an entry, and when two lead to the same page."""

import re
import unicodedata
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

ADDRESS = r"^https?://[^\s<>\"\\^`{|}]+$"

_TRACKING = re.compile(
    r"^(utm_\w+|spm|spm_id_from|fbclid|gclid|msclkid|yclid|igshid|mc_[ce]id|ref_src|share_\w+|vd_source|from_wecom)="
)
_REDIRECTS = {  # hosts that lead elsewhere, and where their addresses say whereto
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
    """The parts of an address; of one without https:// too, where its first part is a host. None for other text.

    >>> split("arxiv.org/abs/1810.04805").hostname
    'arxiv.org'
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        if not re.match(r"(?:[\w-]+\.)+[A-Za-z]{2,}/", text):
            return None
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        _ = parts.port  # read here, since a port that is not a number is noticed only when it is asked for
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") else None


def host_of(parts: SplitResult) -> str:
    """The host as it compares: without www, names in other scripts as registrars write them (xn--)."""
    host = unicodedata.normalize("NFKC", parts.hostname or "").rstrip(".").removeprefix("www.")
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def normal_address(address: str) -> str:
    """``address`` without what does not change where it leads, to compare by: scheme, www, tracking, slash at the end.

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
    route = f"#{parts.fragment}" if re.match("!?/", parts.fragment) else ""  # pages of one script are told apart by it
    return f"{host}{port}{path}{'?' if query else ''}{query}{route}"


def target(address: str) -> str | None:
    """Where an address leads that only redirects, such as those that Zhihu puts around links; None for others."""
    parts = split(address)
    if parts is None:
        return None
    host = host_of(parts)
    name = _REDIRECTS.get(host) or _REDIRECTS.get(f"{host}{parts.path}")
    found = parse_qs(parts.query).get(name) if name else None
    return found[0] if found else None


def wrong_address(address: str) -> str | None:
    """Why ``address`` cannot stand in an entry; None where it can."""
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
        return f"{address!r} holds a user name or password; leave it out"
    if "." not in parts.hostname or re.fullmatch(r"[\d.]+", parts.hostname) or ":" in parts.hostname:
        return f"{address!r} is not an address of the public web"
    if elsewhere := target(address):
        return f"{address!r} only redirects - did you mean {elsewhere!r}?"
    return None
