"""What YAML cuts, changes or misreads in a file written by hand is a problem with its line."""

from pathlib import Path

import pytest

from catalog.load import load, read_folder
from tests.catalog.conftest import Write


def said(entries: Path) -> list[str]:
    """All problems, without the files' names."""
    return [str(problem).partition(".yaml:")[2] for document in read_folder(entries) for problem in document.problems]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("year: 2018", "year：2018", "4: has the full-width colon '：' after `year`; write `year: 2018`"),
        ("year: 2018", "year ： 2018", "4: has the full-width colon '：' after `year`; write `year: 2018`"),
        ("year: 2018", "year∶ 2018", "4: has the sign '∶' after `year`; write `year: 2018`"),
        ("year: 2018", "year:2018", "4: has no space after the colon of `year`; write `year: 2018`"),
        ("year: 2018", "year:\u00a02018", "4: has U+00A0 (a no-break space) beside the colon of `year`"),
        ("year: 2018", "year\u3000: 2018", "4: has U+3000 (a full-width space) beside the colon of `year`"),
        ("year: 2018", "\u00a0year: 2018", "4: begins with U+00A0 (a no-break space)"),
        ("tags: [pretraining]", "tags:\n\u00a0\u00a0- ner", "6: begins with U+00A0 (a no-break space)"),
        ("tags: [pretraining]", "tags:\n  - ner\n\u3000\u3000- code", "7: begins with U+3000 (a full-width space)"),
        ("tags: [pretraining]", "tags:\n  -\u00a0ner", "6: begins with U+00A0 (a no-break space)"),
        ("year: 2018", "year: 2018\u2028", "4: contains the control character U+2028"),
        ("year: 2018", "year: 2018\nyear: 2019", "5: year: is written twice (also in line 4)"),
    ],
)
def test_signs_that_look_like_those_of_yaml(old: str, new: str, message: str, entries: Path, write: Write) -> None:
    file = write("bert")
    file.write_text(file.read_text("utf-8").replace(old, new), "utf-8")
    (problem,) = said(entries)
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("field", "written", "message"),
    [
        ("title", "Issue #12 of BERT", "3: title: ends before '#12 of BERT', a comment to YAML; write"),
        ("title", "BERT\n  for C # and Java", "3: title: ends before '# and Java'"),
        ("title", "#BERT", "3: title: ends before '#BERT'"),
        ("authors", "[Ann Lee, #Bo Li\n  Cy Ng]", "7: authors[0]: ends before '#Bo Li'"),
        ("authors", "\n  - Ann Lee\n  - Bo # Li", "9: authors[1]: ends before '# Li'"),
        ("venue", "Workshop #3", "7: venue: ends before '#3'"),
        ("sources", "[README.md #install\n  ]", "7: sources[0]: ends before '#install'"),
        ("title", r'"Learning $\theta$"', r"3: title: contains \t, which in double quotes is an escape"),
        ("title", r'"The $\nabla$"', r"3: title: contains \n, which in double quotes is an escape"),
        ("title", r'"The\_space"', r"3: title: contains \_, which in double quotes is an escape"),
        ("title", r'"$\gamma$"', "3: is not valid YAML: a backslash in double quotes begins an escape"),
        ("title", r'"BERT \ud83d\ude00"', r"3: is not valid YAML: half a character as an escape, such as \ud83d"),
        ("title", "预训练\n  综述", "3: title: has a space ('练 综') where its lines are joined"),
        ("title", "'预训练，\n  综述'", "3: title: has a space ('， 综') where its lines are joined"),
        ("summary_en", ">\n  A study of pre-\n  training.", "7: summary_en: has a space ('e- t')"),
        ("summary_zh", "预训练，\n  综述", "7: summary_zh: has a space between Chinese characters"),
        ("title", "Null", "3: title: is empty, as YAML reads `Null`; write it in quotes if the word is meant"),
        ("title", "~", "3: title: is empty, as YAML reads `~`"),
        ("authors", "[Null, Ann Lee]", "7: authors[0]: is empty, as YAML reads `Null`"),
        ("authors", "[Lee, J., Ng, K.]", "7: authors[1]: 'J.' is part of a name: a comma between [ and ] ends it"),
        ("authors", "[张三，李四]", "7: authors[0]: '张三，李四' is several authors"),
        ("authors", "[张三、李四]", "7: authors[0]: '张三、李四' is several authors"),
        ("title", "*BERT* again", "3: is not valid YAML"),
        ("title", "[BERT]", "3: title: is a list"),
        ("title", "{BERT}", "3: title: has values inside values; write one text, or a list of texts, in quotes if"),
        ("year", "2_018", "4: year: '2_018' is not a year of four digits"),
        ("year", "0x7e2", "4: year: '0x7e2' is not a year of four digits"),
        ("year", "３３:38", "4: year: '３３:38' is not a year of four digits"),
        ("<<", "{year: 2018}", "7: <<: has values inside values"),
    ],
)  # fmt: skip
def test_what_yaml_cuts_or_changes(field: str, written: str, message: str, entries: Path, write: Write) -> None:
    write("bert", **{field: written})
    found = said(entries)
    assert any(each.startswith(message) for each in found), found


@pytest.mark.parametrize(
    "written",
    [
        "'Issue #12 of BERT'",
        '"Issue #12 of BERT"  # as on the site',
        "Issue#12 of C#",
        r"'Learning $\theta$ and $\nabla$'",
        r'"A \"quoted\" word \\ \u4e2d"',
        '"in two\n  lines"',
        '"in two li\\\n  nes"',
        "使用\n  BERT",
        "pre-\n  and post-training",
        "2018-11-02",
        "010",
        "1e3",
        "12:30",
        "yes",
        "'Null'",
        "0b1010_0111",
    ],
)
def test_what_yaml_leaves_whole(written: str, entries: Path, write: Write) -> None:
    write("bert", title=written)
    assert said(entries) == []
    (entry,) = load(entries)
    assert entry.title.replace(" ", "") in (
        written.replace("\\\n  ", "").replace("\n", "").replace(r"\"", '"').replace("\\\\", "\\")
        .replace(r"\u4e2d", "中").partition("  # ")[0].replace(" ", "").strip(c) for c in ("", "'", '"')
    )  # fmt: skip


def test_remarks_beside_what_is_no_text_are_kept(entries: Path, write: Write) -> None:
    write("bert", year="2018  # on arXiv", tags="[ner,  # the task\n  code]", url="https://example.org  # seen")
    assert said(entries) == []
