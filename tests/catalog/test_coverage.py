"""Which works of another list the catalog lacks."""

from pathlib import Path

import pytest

from catalog.coverage import read_list, summary, works
from catalog.errors import BadInput
from catalog.load import load
from tests.catalog.conftest import Write

LIST = """\
# Awesome BERT [![badge](https://img.shields.io/x.svg)](#top)

- **BERT** ([paper](https://arxiv.org/pdf/1810.04805v2.pdf), [code](https://github.com/google-research/bert))
- SciBERT, https://www.aclweb.org/anthology/D19-1371/ and arXiv:1903.10676
- Its code: [allenai/scibert](https://github.com/AllenAI/SciBERT/tree/master)
- The same again: <https://github.com/allenai/scibert>.
| FreeLB | [1909.11764](https://arxiv.org/abs/1909.11764) |
- An article with brackets: [it](https://example.org/a_(b)), doi: 10.1000/xyz
no link here
"""


@pytest.fixture
def catalog(entries: Path, write: Write) -> Path:
    write("bert")
    write(
        "scibert", title="Another title", arxiv='"1903.10676"', year="2019", code="[https://github.com/allenai/scibert]"
    )
    return entries


def test_a_line_is_a_work_and_is_ours_by_any_of_its_identities(catalog: Path) -> None:
    found = works(LIST, load(catalog))
    assert [(work.line, work.ours) for work in found] == [(3, True), (4, True), (5, True), (7, False), (8, False)]
    assert str(found[3].identities[0]) == "arXiv id 1909.11764"
    assert found[3].text == "FreeLB 1909.11764"
    assert [str(each) for each in found[4].identities] == ["address example.org/a_(b)", "DOI 10.1000/xyz"]


def test_the_summary_counts_by_kind_of_identifier(catalog: Path) -> None:
    assert summary(works(LIST, load(catalog))) == (
        "3 of 5 works are in the catalog (60%): ACL Anthology id 1 of 1, address 0 of 1, arXiv id 1 of 2, "
        "repository 1 of 1"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"# A list without links\n", "has no arXiv id, DOI or address"),
        (b"", "has no arXiv id, DOI or address"),
    ],
)
def test_what_is_no_list(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "LIST.md"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        read_list(path)
