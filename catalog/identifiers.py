"""What names a resource: arXiv ids, DOIs, addresses; how each is written, and when two name the same thing."""

import re
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

_MONTH = "(?:0[1-9]|1[0-2])"
ARXIV = (  # since 2015 with five digits, since April 2007 with four, before that with the archive's name
    rf"^(?:(?:1[5-9]|[2-9]\d){_MONTH}\.\d{{5}}|(?:0[7-9]|1[0-4]){_MONTH}\.\d{{4}}|[a-z-]+/\d{{2}}{_MONTH}\d{{3}})$"
)
DOI = r"^10\.\d{4,9}/\S+$"
ADDRESS = r"^https?://[^\s<>\"\\^`{|}]+$"

_ARXIV_SOMEWHERE = re.compile(
    r"^(?:(?:https?://)?(?:www\.|export\.)?arxiv\.org/(?:abs|pdf|html)/|(?:https?://(?:dx\.)?doi\.org/)?10\.48550/arxiv\.|arxiv:)?"
    r"((?:\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7}))(?:v\d+)?(?:\.pdf)?/?$",
    re.IGNORECASE,
)
_DOI_SOMEWHERE = re.compile(r"^(?:(?:https?://)?(?:dx\.)?doi\.org/|doi:\s*)?(10\.\d{4,9}/\S+)$", re.IGNORECASE)
_CODE_HOSTS = ("github.com", "gitlab.com", "gitee.com", "bitbucket.org", "codeberg.org")
_TRACKING = re.compile(r"^(utm_\w+|spm|fbclid|gclid)=")


def arxiv_id(text: str) -> str | None:
    """The arXiv id in an id, an address or an arXiv DOI, without its version; None where there is none.

    >>> arxiv_id("https://arxiv.org/pdf/1810.04805v2.pdf")
    '1810.04805'
    """
    found = _ARXIV_SOMEWHERE.match(text.strip())
    if found is None:
        return None
    plain = re.sub(r"\.[a-z]{2}/", "/", found[1].lower())  # math.GT/0309136 is today written math/0309136
    return plain if re.match(ARXIV, plain) else None


def arxiv_year(identifier: str) -> int:
    """The year in which an arXiv id was given out.

    >>> arxiv_year("1810.04805"), arxiv_year("cs/9901001")
    (2018, 1999)
    """
    digits = int(identifier.rpartition("/")[2][:2])
    return 1900 + digits if digits > 90 else 2000 + digits


def doi(text: str) -> str | None:
    """The DOI in a DOI or a doi.org address, in lower case (case has no meaning in one); None where there is none.

    >>> doi("https://doi.org/10.18653/v1/N19-1423")
    '10.18653/v1/n19-1423'
    """
    found = _DOI_SOMEWHERE.match(text.strip())
    return unquote(found[1]).lower() if found else None


def repository(address: str) -> str | None:
    """``host/owner/name`` of an address that is a repository's front page on a known host; otherwise None.

    >>> repository("https://www.github.com/Google-Research/BERT.git")
    'github.com/google-research/bert'
    """
    parts = _split(address)
    if parts is None:
        return None
    host, path = _host(parts), [part for part in parts.path.split("/") if part]
    if host not in _CODE_HOSTS or len(path) < 2 or path[2:] not in ([], ["tree", "master"], ["tree", "main"]):
        return None
    return f"{host}/{path[0]}/{path[1].removesuffix('.git')}".lower()


def normal_address(address: str) -> str:
    """``address`` without what does not change where it leads, to compare by: scheme, www, tracking, slash at the end.

    >>> normal_address("http://www.Example.org/a/?utm_source=x#top")
    'example.org/a'
    """
    parts = _split(address)
    if parts is None:
        return address
    if name := repository(address):
        return name
    query = "&".join(sorted(pair for pair in parts.query.split("&") if pair and not _TRACKING.match(pair)))
    port = f":{parts.port}" if parts.port not in (None, 80, 443) else ""
    path = re.sub(r"/(index\.html?)?$", "", unquote(parts.path))
    plain = f"{_host(parts)}{port}{path}{'?' if query else ''}{query}"
    return re.sub(r"^(aclweb\.org/anthology|aclanthology\.info/papers)/", "aclanthology.org/", plain)


def wrong_address(address: str) -> str | None:
    """Why ``address`` cannot stand in an entry; None where it can."""
    scheme = re.match(r"^\s*([A-Za-z][A-Za-z0-9+.-]*):", address)
    if scheme is None or (not scheme[1].lower().startswith("http") and "." in scheme[1]):
        return f"{address!r} is no web address - did you mean {'https://' + address.strip().lstrip('/')!r}?"
    if scheme[1].lower() not in ("http", "https"):
        return f"{scheme[1]!r} addresses are not allowed, only https and http"
    parts = _split(address)
    if not re.match(ADDRESS, address) or parts is None or not parts.hostname:
        return f'{address!r} is no valid web address (spaces and the characters <>"\\^`{{|}} are written as %XX)'
    if parts.username is not None or parts.password is not None:
        return f"{address!r} holds a user name or password; leave it out"
    if "." not in parts.hostname or re.fullmatch(r"[\d.]+", parts.hostname) or ":" in parts.hostname:
        return f"{address!r} is not an address of the public web"
    if parts.hostname == "link.zhihu.com" and (target := parse_qs(parts.query).get("target")):
        return f"{address!r} only redirects - did you mean {target[0]!r}?"
    return None


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        _ = parts.port  # read here, since a port that is no number is noticed only when it is asked for
    except ValueError:
        return None
    return parts


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").removeprefix("www.")
