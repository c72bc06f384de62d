"""Identifiers of works: arXiv ids, DOIs, ids of other archives and repositories, found in the addresses people paste.

A work has one identity, whichever address leads to it. Sources of the rules: arXiv's "identifiers"
(info.arxiv.org/help/arxiv_identifier.html), the ACL Anthology's "Anthology Identifiers" (aclanthology.org/info/ids),
and Crossref's "DOIs and matching regular expressions".
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, parse_qs, unquote

from catalog.addresses import host_of, normal_address, split

_MONTH = "(?:0[1-9]|1[0-2])"
ARXIV = (  # since 2015 with five digits, since April 2007 with four, before that with the archive's name
    rf"^(?:(?:1[5-9]|[2-9]\d){_MONTH}\.\d{{5}}|(?:0[7-9]|1[0-4]){_MONTH}\.\d{{4}}|[a-z-]+/\d{{2}}{_MONTH}\d{{3}})$"
)
DOI = r"^10\.\d{4,9}/\S+$"
ENTRY_ID = "^[a-z0-9]+(-[a-z0-9]+)*$"  # of an entry of the catalog, which is also its file's name

_ARXIV_BARE = re.compile(
    r"(?:arxiv:\s*|arxiv\s+)?(\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7})(?:v\d+)?(?:\.pdf)?(?:\s*\[[\w.-]+\])?/?",
    re.IGNORECASE,
)
_ARXIV_HOST = re.compile(
    r"(?:[\w-]+\.)*(?:arxiv\.org|ar5iv\.org|alphaxiv\.org|arxiv-vanity\.com|xxx\.lanl\.gov|scirate\.com|papers\.cool"
    r"|emergentmind\.com|semanticscholar\.org)"
)
_ARXIV_PATH = re.compile(
    r".*?/(?:abs|pdf|html|format|ps|src|e-print|overview|papers?|arxiv)?[/:]?"
    r"(\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7})(?:v\d+)?(?:\.pdf|\.html)?/?",
    re.IGNORECASE,
)
_DBLP_PATH = re.compile(r".*/journals/corr/abs-(\d{4})-(\d{4,5})(?:\.\w+)?")
_DOI_BARE = re.compile(r"(?:doi\s*[:：]\s*|doi\s+)?(10\.\d{4,9}/\S+)", re.IGNORECASE)
_DOI_HOSTS = ("doi.org", "dx.doi.org", "doi.acm.org")
_DOI_IN_PATH = re.compile(r".*?/doi/(?:[A-Za-z]+/)*(10\.\d{4,9}/.+)")
_DOI_FIRST = re.compile(r"/(?:[A-Za-z-]+/)*(10\.\d{4,9}/.+)")  # on hosts that leave out /doi/
_DOI_FIRST_HOSTS: tuple[str, ...] = (
    "link.springer.com",
    "frontiersin.org",
    "biorxiv.org",
    "medrxiv.org",
    "iopscience.iop.org",
)
_DOI_FIRST_HOSTS += ("api.crossref.org", "jstor.org")
_NUMBERED_HOSTS = ("academic.oup.com", "direct.mit.edu")  # a number and a title follow the DOI
_VIEW = re.compile(
    r"(?:/(?:full|abstract|pdf|epdf|pdfdirect|html|meta|summary|references|fulltext|download)|(?:\.full|\.abstract)"
    r"|\.pdf|\.html)+/?$",
    re.IGNORECASE,
)
_ACL_HOST = re.compile(r"(?:[\w-]+\.)*(?:aclweb\.org|aclanthology\.(?:org|info|coli\.uni-saarland\.de))")
_ACL_ID = r"[a-z]\d{2}-\d{4}|\d{4}\.[a-z0-9]+-[a-z0-9]+\.\d+"
_ACL_PATH = re.compile(rf".*/({_ACL_ID})(?:v\d+)?(?:\.\w+)?/?", re.IGNORECASE)
_ACL_DOI = re.compile(rf"10\.(?:18653|3115)/v1/({_ACL_ID})")
_S2_PATH = re.compile(r"/(?:paper|reader)/(?:.*/)?([0-9a-f]{40})(?:/.*)?")
_HUB_HOSTS = ("huggingface.co", "hf.co", "hf-mirror.com")
_HUB_PAGES: tuple[str, ...] = (
    "blog",
    "collections",
    "docs",
    "enterprise",
    "join",
    "learn",
    "models",
    "organizations",
    "papers",
)
_HUB_PAGES += ("posts", "pricing", "settings", "spaces", "tasks", "datasets", "chat", "new")
_CODE_HOSTS = ("github.com", "gitlab.com", "gitee.com", "bitbucket.org", "codeberg.org")
_CODE_PAGES: tuple[str, ...] = (
    "collections",
    "explore",
    "features",
    "marketplace",
    "orgs",
    "search",
    "settings",
    "sponsors",
    "topics",
)
_CODE_PAGES += ("trending", "users", "groups", "apps", "about", "enterprise")
_CODE_TABS: tuple[str, ...] = (
    "actions",
    "activity",
    "branches",
    "commits",
    "forks",
    "graphs",
    "issues",
    "merge_requests",
    "network",
)
_CODE_TABS += ("pulls", "releases", "stargazers", "tags", "watchers", "wiki")
_GIT = re.compile(
    r"(?:git\+)?(?:ssh|git|https?)://(?:git@)?([\w.-]+)(?::\d+)?/(.+?)(?:\.git)?/?|git@([\w.-]+):(.+?)(?:\.git)?/?"
)
_CLOSING = dict(zip(")]}>）】》」", "([{<（【《「", strict=True))

What = Literal[
    "arXiv id",
    "DOI",
    "ACL Anthology id",
    "OpenReview id",
    "Semantic Scholar id",
    "repository",
    "model",
    "data set",
    "address",
]


@dataclass(frozen=True)
class Identity:
    """The identity of a work: equal for all of its addresses."""

    what: What
    normal: str
    address: str = ""  # the work's page, in the case that was given; empty for arXiv ids and DOIs
    doi: str = ""  # the DOI that was given, if the identity is another identifier

    def __str__(self) -> str:
        return f"DOI {self.doi}" if self.doi else f"{self.what} {self.normal}"


def identify(text: str) -> Identity:
    """The identity of the work that an identifier or address names.

    >>> identify("https://www.aclweb.org/anthology/N19-1423.pdf").normal, identify("10.18653/V1/N19-1423").normal
    ('n19-1423', 'n19-1423')
    """
    text = trimmed(text)
    if found := arxiv_id(text):
        return Identity("arXiv id", found)
    if named := _acl(text) or _openreview(text) or _semantic_scholar(text):
        return named
    if written := doi_as_written(text):
        return Identity("DOI", written.lower())
    return (
        _repository(text) or _hub(text) or Identity("address", _within_repository(text) or normal_address(text), text)
    )


def trimmed(text: str) -> str:
    """``text`` without the brackets, quotes and punctuation that surround it in a sentence.

    >>> trimmed("(https://doi.org/10.1016/j.neunet.2019.01.001)."), trimmed("https://example.org/a_(b)")
    ('https://doi.org/10.1016/j.neunet.2019.01.001', 'https://example.org/a_(b)')
    """
    if "://" not in text:
        text = unicodedata.normalize("NFKC", text)  # ids are also typed with the letters of a Chinese keyboard
    text = text.strip().lstrip("\"'“‘«<([{（【《「")
    while text and (
        text[-1] in ".,;:!?\"'”’»。，；：！？、"
        or (text[-1] in _CLOSING and text.count(text[-1]) > text.count(_CLOSING[text[-1]]))
    ):
        text = text[:-1].rstrip()
    return text


def arxiv_id(text: str) -> str | None:
    """The arXiv id in an id, an arXiv DOI or an address at arXiv or a mirror, without its version; else None.

    >>> arxiv_id("https://arxiv.org/pdf/1810.04805v2.pdf#page=3"), arxiv_id("https://huggingface.co/papers/1810.04805")
    ('1810.04805', '1810.04805')
    """
    text = trimmed(text)
    if bare := _ARXIV_BARE.fullmatch(text):
        return _plain_arxiv(bare[1])
    written = doi_as_written(text)
    if written and written.lower().startswith("10.48550/arxiv."):
        return arxiv_id(written[len("10.48550/arxiv.") :])
    if (parts := split(text)) is None:
        return None
    host, path = host_of(parts), unquote(parts.path)
    if host in ("dblp.org", "dblp.uni-trier.de") and (record := _DBLP_PATH.fullmatch(path)):
        return _plain_arxiv(f"{record[1]}.{record[2]}")
    if host == "semanticscholar.org" and (given := _query(parts, "arxivid")):
        return arxiv_id(given)
    mirrored = _ARXIV_HOST.fullmatch(host) or (host in _HUB_HOSTS and path.startswith("/papers/"))
    found = _ARXIV_PATH.fullmatch(path) if mirrored else None
    return _plain_arxiv(found[1]) if found else None


def arxiv_year(identifier: str) -> int:
    """The year in which arXiv assigned an id.

    >>> arxiv_year("1810.04805"), arxiv_year("cs/9901001")
    (2018, 1999)
    """
    digits = int(identifier.rpartition("/")[2][:2])
    return 1900 + digits if digits > 90 else 2000 + digits


def doi(text: str) -> str | None:
    """The DOI in a DOI or an address, in lower case (case has no meaning in one); None if there is none.

    >>> doi("https://dl.acm.org/doi/abs/10.1145/3292500.3330701?download=true")
    '10.1145/3292500.3330701'
    """
    written = doi_as_written(text)
    return written.lower() if written else None


def doi_as_written(text: str) -> str | None:
    """The DOI in a DOI, a doi.org address, or a publisher's address that contains one; None if there is none."""
    text = trimmed(text)
    if bare := _DOI_BARE.fullmatch(text):
        return trimmed(unquote(bare[1]))
    if (parts := split(text)) is None:
        return None
    host, path = host_of(parts), unquote(parts.path)
    if host in _DOI_HOSTS:
        named = _DOI_BARE.fullmatch(path.lstrip("/"))
        return trimmed(named[1]) if named else None
    if host.endswith("plos.org") and (given := _query(parts, "id")):
        return doi_as_written(given)
    found = _DOI_IN_PATH.fullmatch(path) or (_DOI_FIRST.fullmatch(path) if host in _DOI_FIRST_HOSTS else None)
    if found is None:
        return None
    plain = _VIEW.sub("", found[1].rstrip("/"))
    if host in _NUMBERED_HOSTS:
        plain = re.sub(r"/\d{4,}(?:/[^/]*)?$", "", plain)
    if host in ("biorxiv.org", "medrxiv.org"):
        plain = re.sub(r"v\d+$", "", plain)
    return trimmed(plain)


def repository(address: str) -> str | None:
    """``host/owner/name`` of an address that shows a whole repository on a known host; otherwise None.

    >>> repository("git@github.com:Google-Research/BERT.git")
    'github.com/google-research/bert'
    """
    found = _repository(trimmed(address))
    return found.normal if found else None


# --- one archive or host each -----------------------------------------------------------------------------------------


def _plain_arxiv(found: str) -> str | None:
    plain = re.sub(r"\.[a-z]{2}/", "/", found.lower())  # math.GT/0309136 is today written math/0309136
    return plain if re.match(ARXIV, plain) else None


def _acl(text: str) -> Identity | None:
    """A paper of the ACL Anthology, by its address or by the DOI made from its id."""
    written = doi_as_written(text)
    if written and (named := _ACL_DOI.fullmatch(written.lower())):
        return Identity("ACL Anthology id", named[1], doi=written.lower())
    parts = split(text)
    found = _ACL_PATH.fullmatch(parts.path) if parts and _ACL_HOST.fullmatch(host_of(parts)) else None
    if found is None:
        return None
    name = found[1].upper() if found[1][0].isalpha() else found[1].lower()
    return Identity("ACL Anthology id", name.lower(), f"https://aclanthology.org/{name}/")


def _openreview(text: str) -> Identity | None:
    parts = split(text)
    if parts is None or host_of(parts) != "openreview.net" or not (name := _query(parts, "id")):
        return None
    if "/" in name or parts.path.strip("/") in ("group", "profile"):
        return None
    return Identity("OpenReview id", name, f"https://openreview.net/forum?id={name}")


def _semantic_scholar(text: str) -> Identity | None:
    parts = split(text)
    if parts is None or host_of(parts) not in ("semanticscholar.org", "pdfs.semanticscholar.org"):
        return None
    found = _S2_PATH.fullmatch(parts.path)
    return (
        Identity("Semantic Scholar id", found[1], f"https://www.semanticscholar.org/paper/{found[1]}")
        if found
        else None
    )


def _repository(text: str) -> Identity | None:
    git = _GIT.fullmatch(text) if not text.lower().startswith("http") else None
    host, rest = (git[1] or git[3], git[2] or git[4]) if git else ("", "")
    if not git and (parts := split(text)):
        host, rest = host_of(parts), parts.path
    host = host.lower().removeprefix("www.")
    path = [part for part in rest.split("/") if part]
    if host not in _CODE_HOSTS or len(path) < 2 or path[0].lower() in _CODE_PAGES:
        return None
    owner, name, more = path[0], path[1].removesuffix(".git"), [part for part in path[2:] if part != "-"]
    whole = not more or (len(more) == 2 and more[0] in ("tree", "src", "commits", "commit"))
    whole = whole or (len(more) == 1 and more[0].lower() in _CODE_TABS)
    whole = whole or (len(more) == 3 and more[0] == "blob" and more[2].lower().startswith("readme"))
    return Identity("repository", f"{host}/{owner}/{name}".lower(), f"https://{host}/{owner}/{name}") if whole else None


def _within_repository(text: str) -> str | None:
    """A folder or file on a repository's main branch, whether that is called main or master."""
    parts = split(text)
    host, path = (host_of(parts), [part for part in parts.path.split("/") if part]) if parts else ("", [])
    path = [part for part in path if part != "-"]
    if host not in _CODE_HOSTS or len(path) < 5 or path[3] not in ("master", "main"):
        return None
    return "/".join([host, path[0].lower(), path[1].lower(), path[2], *path[4:]])


def _hub(text: str) -> Identity | None:
    """A model or data set of the Hugging Face Hub or of ModelScope, by any page of it."""
    parts = split(text)
    if parts is None:
        return None
    host, path = host_of(parts), [part for part in parts.path.split("/") if part]
    if host in ("modelscope.cn", "kaggle.com") and len(path) >= 3 and path[0] in ("models", "datasets"):
        return _page(f"https://www.{host}/{path[0]}/", path[1:3], "model" if path[0] == "models" else "data set")
    if host not in _HUB_HOSTS or not path:
        return None
    home = "https://huggingface.co/"
    if path[0] == "datasets" and len(path) >= 2:
        names = path[1:2] if len(path) == 2 or path[2] in ("tree", "blob", "resolve", "viewer") else path[1:3]
        return _page(f"{home}datasets/", names, "data set")
    if path[0] in _HUB_PAGES or len(path) < 2 or path[1] in ("tree", "blob", "resolve"):
        single = len(path) > 1 and path[0] not in _HUB_PAGES  # models of the first years have no owner
        return _page(home, path[:1], "model") if single else None
    return _page(home, path[:2], "model")


def _page(home: str, names: list[str], what: What) -> Identity:
    address = home + "/".join(names)
    return Identity(what, normal_address(address).lower(), address)


def _query(parts: SplitResult, name: str) -> str | None:
    return next((values[0] for key, values in parse_qs(parts.query).items() if key.lower() == name), None)
