"""One work has one identity, whichever of its addresses a person pastes; two works have two."""

import pytest

from catalog import identifiers
from catalog.addresses import normal_address


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1810.04805", "1810.04805"),
        ("arXiv:1810.04805v2", "1810.04805"),
        ("arXiv:1810.04805v2 [cs.CL]", "1810.04805"),
        ("arXiv 1810.04805", "1810.04805"),
        ("ａｒＸｉｖ：１８１０．０４８０５", "1810.04805"),
        ("http://arxiv.org/abs/1810.04805", "1810.04805"),
        ("arxiv.org/abs/1810.04805v1", "1810.04805"),
        ("https://arxiv.org/abs/1810.04805?context=cs", "1810.04805"),
        ("https://arxiv.org/abs/1810.04805v2?context=cs#abstract", "1810.04805"),
        ("https://arxiv.org/abs/1810.04805#", "1810.04805"),
        ("https://arxiv.org/pdf/1810.04805v2.pdf#page=3", "1810.04805"),
        ("https://arxiv.org/html/2412.13663v2", "2412.13663"),
        ("https://arxiv.org/format/1810.04805", "1810.04805"),
        ("https://export.arxiv.org/pdf/1810.04805v1.pdf", "1810.04805"),
        ("https://cn.arxiv.org/abs/1810.04805", "1810.04805"),
        ("https://www.arxiv.org/abs/cs/0112017", "cs/0112017"),
        ("https://arxiv.org/pdf/cs/0112017v1", "cs/0112017"),
        ("https://ar5iv.labs.arxiv.org/html/1810.04805", "1810.04805"),
        ("https://ar5iv.org/abs/1810.04805", "1810.04805"),
        ("https://www.alphaxiv.org/abs/1810.04805v2", "1810.04805"),
        ("https://alphaxiv.org/overview/1810.04805", "1810.04805"),
        ("https://www.arxiv-vanity.com/papers/1810.04805/", "1810.04805"),
        ("https://huggingface.co/papers/1810.04805", "1810.04805"),
        ("https://hf-mirror.com/papers/1810.04805", "1810.04805"),
        ("https://www.semanticscholar.org/arxiv/1810.04805", "1810.04805"),
        ("https://api.semanticscholar.org/arXiv:1810.04805", "1810.04805"),
        ("https://www.semanticscholar.org/search?arxivId=1810.04805", "1810.04805"),
        ("https://dblp.org/rec/journals/corr/abs-1810-04805.html", "1810.04805"),
        ("10.48550/arXiv.1810.04805", "1810.04805"),
        ("https://doi.org/10.48550/ARXIV.1810.04805", "1810.04805"),
        ("(https://arxiv.org/abs/1810.04805).", "1810.04805"),
        ("cmp-lg/9404001", "cmp-lg/9404001"),
        ("math.GT/0309136", "math/0309136"),
        ("10.18653/v1/N19-1423", None),
        ("https://example.org/1810.04805", None),
        ("https://arxiv.org/list/cs.CL/recent", None),
        ("https://huggingface.co/papers", None),
        ("https://www.semanticscholar.org/paper/BERT/df2b0e26d0599ce3e70df8a9da02e51594e0e992", None),
    ],
)
def test_arxiv_ids_are_found_in_what_people_paste(text: str, meant: str | None) -> None:
    assert identifiers.arxiv_id(text) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.18653/V1/N19-1423", "10.18653/v1/n19-1423"),
        ("doi:10.18653/v1/N19-1423", "10.18653/v1/n19-1423"),
        ("DOI: 10.1145/3292500.3330701", "10.1145/3292500.3330701"),
        ("https://dx.doi.org/10.1145/3292500.3330701", "10.1145/3292500.3330701"),
        ("https://doi.org/10.1145/3292500.3330701?utm_source=x#y", "10.1145/3292500.3330701"),
        ("https://doi.org/10.1016/j.neunet.2019.01.001.", "10.1016/j.neunet.2019.01.001"),
        ("(10.1016/j.neunet.2019.01.001)", "10.1016/j.neunet.2019.01.001"),
        ("10.1016/S0893-6080(05)80010-3", "10.1016/s0893-6080(05)80010-3"),
        (
            "https://doi.org/10.1002/(SICI)1097-4571(199106)42:5%3C361::AID-ASI6%3E3.0.CO;2-Q",
            "10.1002/(sici)1097-4571(199106)42:5<361::aid-asi6>3.0.co;2-q",
        ),
        ("https://dl.acm.org/doi/10.1145/3292500.3330701", "10.1145/3292500.3330701"),
        ("https://dl.acm.org/doi/abs/10.1145/3292500.3330701?download=true", "10.1145/3292500.3330701"),
        ("https://dl.acm.org/doi/pdf/10.1145/3292500.3330701", "10.1145/3292500.3330701"),
        ("https://onlinelibrary.wiley.com/doi/full/10.1002/asi.24000/abstract", "10.1002/asi.24000"),
        ("https://link.springer.com/10.1007/s11431-020-1647-3", "10.1007/s11431-020-1647-3"),
        ("https://link.springer.com/article/10.1007/s11431-020-1647-3", "10.1007/s11431-020-1647-3"),
        ("https://link.springer.com/content/pdf/10.1007/s11431-020-1647-3.pdf", "10.1007/s11431-020-1647-3"),
        ("https://www.frontiersin.org/articles/10.3389/fpsyg.2020.00001/full", "10.3389/fpsyg.2020.00001"),
        ("https://www.biorxiv.org/content/10.1101/2020.07.12.199554v3.full.pdf", "10.1101/2020.07.12.199554"),
        ("https://journals.plos.org/plosone/article?id=10.1371/journal.pone.0000001", "10.1371/journal.pone.0000001"),
        ("https://academic.oup.com/x/advance-article/doi/10.1093/bioinformatics/btz682/5566506",
         "10.1093/bioinformatics/btz682"),
        ("https://direct.mit.edu/tacl/article/doi/10.1162/tacl_a_00349/96482/A-Primer-in-BERTology",
         "10.1162/tacl_a_00349"),
        ("https://example.org/10.1234/notes", None),
        ("https://github.com/a/b/tree/10.1234/x", None),
        ("10.12/short", None),
    ],
)  # fmt: skip
def test_dois_are_found_in_what_people_paste(text: str, meant: str | None) -> None:
    assert identifiers.doi(text) == meant


SAME = {
    "ACL Anthology id": [
        "https://aclanthology.org/N19-1423/",
        "https://aclanthology.org/N19-1423.pdf",
        "https://aclanthology.org/N19-1423v2.pdf",
        "aclanthology.org/n19-1423",
        "http://www.aclweb.org/anthology/N19-1423",
        "https://www.aclweb.org/anthology/N19-1423.pdf",
        "https://www.aclweb.org/anthology/N/N19/N19-1423.bib",
        "https://aclanthology.info/papers/N19-1423/n19-1423",
        "10.18653/v1/N19-1423",
        "https://doi.org/10.18653/V1/n19-1423",
        "https://dl.acm.org/doi/10.18653/v1/N19-1423",
    ],
    "OpenReview id": [
        "https://openreview.net/forum?id=SyxS0T4tvS",
        "https://openreview.net/pdf?id=SyxS0T4tvS",
        "https://openreview.net/forum?id=SyxS0T4tvS&noteId=x",
        "http://www.openreview.net/forum?noteId=x&id=SyxS0T4tvS#details",
    ],
    "Semantic Scholar id": [
        "https://www.semanticscholar.org/paper/BERT%3A-Pre-training/df2b0e26d0599ce3e70df8a9da02e51594e0e992",
        "https://semanticscholar.org/paper/df2b0e26d0599ce3e70df8a9da02e51594e0e992?sort=relevance",
        "https://www.semanticscholar.org/reader/df2b0e26d0599ce3e70df8a9da02e51594e0e992",
    ],
    "repository": [
        "https://github.com/google-research/bert",
        "http://www.github.com/Google-Research/BERT.git",
        "github.com/google-research/bert/",
        "git@github.com:google-research/bert.git",
        "ssh://git@github.com/google-research/bert.git",
        "git+https://github.com/google-research/bert.git",
        "https://github.com/google-research/bert?tab=readme-ov-file#readme",
        "https://github.com/google-research/bert/tree/master",
        "https://github.com/google-research/bert/tree/eedf5716ce1268e56f0a50264a88cafad334ac61/",
        "https://github.com/google-research/bert/blob/master/README.md",
        "https://github.com/google-research/bert/issues",
    ],
    "model": [
        "https://huggingface.co/google-bert/bert-base-uncased",
        "https://huggingface.co/google-bert/bert-base-uncased/tree/main",
        "https://huggingface.co/google-bert/bert-base-uncased/blob/main/README.md",
        "https://hf.co/google-bert/bert-base-uncased?library=transformers",
        "https://hf-mirror.com/google-bert/bert-base-uncased",
    ],
    "data set": [
        "https://huggingface.co/datasets/nyu-mll/glue",
        "https://huggingface.co/datasets/nyu-mll/glue/viewer/cola/test",
        "https://hf.co/datasets/nyu-mll/glue/tree/main/cola",
    ],
}


@pytest.mark.parametrize("what", SAME)
def test_all_addresses_of_one_work_have_one_identity(what: str) -> None:
    found = {(identifiers.identify(each).what, identifiers.identify(each).normal) for each in SAME[what]}
    assert [name for name, _ in found] == [what]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://aclanthology.org/2020.acl-main.207.pdf", "10.18653/v1/2020.acl-main.207"),
        ("https://www.aclweb.org/anthology/D14-1162", "10.3115/v1/D14-1162"),
        ("https://huggingface.co/gpt2/tree/main", "https://hf-mirror.com/gpt2/resolve/main/config.json"),
        ("https://huggingface.co/datasets/glue", "https://huggingface.co/datasets/glue/viewer"),
        ("https://github.com/a/b/tree/master/data", "https://www.github.com/A/B/tree/main/data/"),
        ("https://gitlab.com/a/b/-/tree/main", "https://gitlab.com/a/b"),
        ("https://gitee.com/a/b/tree/master/", "git@gitee.com:a/b.git"),
    ],
)
def test_two_addresses_of_one_work(one: str, other: str) -> None:
    assert identifiers.identify(one).normal == identifiers.identify(other).normal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://aclanthology.org/N19-1423/", "https://aclanthology.org/N19-1424/"),
        ("https://aclanthology.org/volumes/N19-1/", "https://aclanthology.org/N19-1423/"),
        ("https://openreview.net/forum?id=SyxS0T4tvS", "https://openreview.net/forum?id=SyxS0T4tvs"),
        ("https://openreview.net/group?id=ICLR.cc/2020", "https://openreview.net/forum?id=ICLR"),
        ("https://github.com/a/b", "https://github.com/a/b/blob/master/post.md"),
        ("https://github.com/a/b", "https://github.com/a/b/tree/master/data"),
        ("https://github.com/a/b/issues/1", "https://github.com/a/b/issues/2"),
        ("https://huggingface.co/a/b", "https://huggingface.co/datasets/a/b"),
        ("https://huggingface.co/blog/bert-101", "https://huggingface.co/blog/modernbert"),
    ],
)
def test_addresses_of_two_works_have_two_identities(one: str, other: str) -> None:
    assert identifiers.identify(one).normal != identifiers.identify(other).normal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://www.example.org/a/", "http://example.org/a?utm_source=x&utm_medium=y#part"),
        ("https://example.org/index.html", "https://example.org"),
        ("https://example.org//a//b/", "https://example.org/a/b"),
        ("https://example.org/?b=2&a=1", "https://EXAMPLE.org/?a=1&b=2"),
        ("https://例子.测试/页", "https://xn--fsqu00a.xn--0zwm56d/%E9%A1%B5"),
        ("https://web.archive.org/web/20190101000000/http://example.org/a", "https://example.org/a"),
        ("https://youtu.be/abc?t=30", "https://www.youtube.com/watch?v=abc&feature=share"),
        ("https://zhuanlan.zhihu.com/p/49271699?utm_source=wechat_timeline", "https://zhuanlan.zhihu.com/p/49271699"),
    ],
)
def test_addresses_of_one_page_compare_equal(one: str, other: str) -> None:
    assert normal_address(one) == normal_address(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.org/a", "https://example.org/A"),
        ("https://example.org/?id=1", "https://example.org/?id=2"),
        ("https://example.org/#/one", "https://example.org/#/two"),
        ("https://example.org:8080/", "https://example.org/"),
        ("https://youtu.be/abc", "https://youtu.be/abd"),
    ],
)
def test_addresses_of_two_pages_compare_different(one: str, other: str) -> None:
    assert normal_address(one) != normal_address(other)
