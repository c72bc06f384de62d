"""Reading splits: the real files, the official layouts of those that are not at hand, and damaged ones."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.data.examples import TextExample, WordExample
from harness.data.read import read, read_split
from harness.data.task import Task, load_task
from harness.errors import BadInput
from tests.harness.splits import own_task, repairs


def texts(task: Task, split: str = "train", data_folder: Path | None = None) -> list[TextExample]:
    examples = [each for each in read_split(task, split, data_folder) if isinstance(each, TextExample)]
    assert examples
    return examples


# ---- the real files: rows of each split, and how often each label occurs ----

SPLITS: dict[tuple[str, str], tuple[int, dict[str | None, int]]] = {
    ("cola", "train"): (8551, {"acceptable": 6023, "unacceptable": 2528}),
    ("cola", "dev"): (1043, {"acceptable": 721, "unacceptable": 322}),
    ("cola", "test"): (1063, {None: 1063}),
    ("sst2", "train"): (67349, {"positive": 37569, "negative": 29780}),
    ("sst2", "dev"): (872, {"positive": 444, "negative": 428}),
    ("sst2", "test"): (1821, {None: 1821}),
    ("mrpc", "train"): (3668, {"equivalent": 2474, "not_equivalent": 1194}),
    ("mrpc", "dev"): (408, {"equivalent": 279, "not_equivalent": 129}),
    ("mrpc", "test"): (1725, {None: 1725}),
    ("mnli", "dev_matched"): (9815, {"entailment": 3479, "contradiction": 3213, "neutral": 3123}),
    ("qnli", "dev"): (5463, {"not_entailment": 2761, "entailment": 2702}),
    ("qnli", "test"): (5463, {None: 5463}),
    ("rte", "train"): (2490, {"entailment": 1249, "not_entailment": 1241}),
    ("rte", "dev"): (277, {"entailment": 146, "not_entailment": 131}),
    ("rte", "test"): (3000, {None: 3000}),
    ("wnli", "train"): (635, {"not_entailment": 323, "entailment": 312}),
    ("wnli", "dev"): (71, {"not_entailment": 40, "entailment": 31}),
    ("wnli", "test"): (146, {None: 146}),
    ("ax", "test"): (1104, {None: 1104}),
    ("chnsenticorp", "train"): (9600, {"positive": 4799, "negative": 4801}),
    ("chnsenticorp", "dev"): (1200, {"positive": 593, "negative": 607}),
    ("chnsenticorp", "test"): (1200, {"positive": 608, "negative": 592}),
}


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_classification_splits(data_folder: Path, name: str, split: str) -> None:
    examples = texts(load_task(name), split, data_folder)
    rows, labels = SPLITS[name, split]
    assert len(examples) == len({example.id for example in examples}) == rows
    assert Counter(example.label for example in examples) == labels
    assert {example.pair is None for example in examples} == {name in ("cola", "sst2", "chnsenticorp")}


@pytest.mark.parametrize(
    ("name", "split", "number", "expected"),
    [
        (
            "sst2",
            "dev",
            0,
            TextExample("0", "it 's a charming and often affecting journey . ", None, "positive"),
        ),
        ("cola", "test", 1, TextExample("1", "The car honked its way down the road.", None, None)),
        (
            "rte",
            "train",
            0,
            TextExample(
                "0",
                "No Weapons of Mass Destruction Found in Iraq Yet.",
                "Weapons of Mass Destruction Found in Iraq.",
                "not_entailment",
            ),
        ),
        (
            "mrpc",
            "dev",
            0,
            TextExample(
                "0",
                "He said the foodservice pie business doesn 't fit the company 's long-term growth strategy .",
                '" The foodservice pie business does not fit our long-term growth strategy .',
                "equivalent",
            ),
        ),
        (
            "stsb",
            "dev",
            1,
            TextExample("1", "A young child is riding a horse.", "A child is riding a horse.", 4.75),
        ),
        (
            "go_emotions",
            "dev",
            2,
            TextExample("edcu99z", "I've never been this sad in my life!", None, ("sadness",)),
        ),
    ],
)
def test_examples_as_they_stand(data_folder: Path, name: str, split: str, number: int, expected: TextExample) -> None:
    assert read_split(load_task(name), split, data_folder)[number] == expected


@pytest.mark.parametrize(("split", "rows"), [("train", 5749), ("dev", 1500), ("test", 1379)])
def test_stsb_scores(data_folder: Path, split: str, rows: int) -> None:
    labels = [each.label for each in texts(load_task("stsb"), split, data_folder)]
    scores = [label for label in labels if isinstance(label, float)]
    assert len(labels) == rows
    assert len(scores) == (0 if split == "test" else rows)
    assert not scores or (min(scores), max(scores)) == (0.0, 5.0)


@pytest.mark.parametrize(
    ("split", "rows", "neutral", "grief"),
    [("train", 43410, 14219, 77), ("dev", 5426, 1766, 13), ("test", 5427, 1787, 6)],
)
def test_go_emotions(data_folder: Path, split: str, rows: int, neutral: int, grief: int) -> None:
    examples = texts(load_task("go_emotions"), split, data_folder)
    counts = Counter(name for each in examples if isinstance(each.label, tuple) for name in each.label)
    assert (len(examples), counts["neutral"], counts["grief"]) == (rows, neutral, grief)
    assert len(counts) == 28


# Sentences, words, documents and entities. This copy of msra_ner cuts 17 entities in two at the end of a sentence:
# each second half is read as an entity, on top of those that its B- tags count.
ENTITIES = {
    ("conll2003", "train"): (14041, 203621, 946, {"LOC": 7140, "MISC": 3438, "ORG": 6321, "PER": 6600}),
    ("conll2003", "dev"): (3250, 51362, 216, {"LOC": 1837, "MISC": 922, "ORG": 1341, "PER": 1842}),
    ("conll2003", "test"): (3453, 46435, 231, {"LOC": 1668, "MISC": 702, "ORG": 1661, "PER": 1617}),
    ("msra_ner", "train"): (50658, 2169879, 50658, {"LOC": 36517, "ORG": 20571 + 3, "PER": 17615 + 3}),
    ("msra_ner", "test"): (4631, 172601, 4631, {"LOC": 2877, "ORG": 1331, "PER": 1973 + 11}),
    ("wnut17", "train"): (3394, 62730, 3394, 1975),
    ("wnut17", "dev"): (1009, 15733, 1009, 836),
    ("wnut17", "test"): (1287, 23394, 1287, 1079),
}


@pytest.mark.parametrize(("name", "split"), ENTITIES)
def test_tagging_splits(data_folder: Path, name: str, split: str) -> None:
    sentences, words, documents, entities = ENTITIES[name, split]
    task = load_task(name)
    examples = [each for each in read_split(task, split, data_folder) if isinstance(each, WordExample)]
    assert len(examples) == sentences
    assert sum(len(example.words) for example in examples) == words
    assert [example.document for example in examples] == sorted(example.document for example in examples)
    assert len({example.document for example in examples}) == documents
    found: Counter[str] = Counter()
    for example in examples:
        assert example.tags is not None
        assert len(example.tags) == len(example.words)
        for before, tag in zip(("O", *example.tags), example.tags, strict=False):
            assert tag[0] != "I" or before[2:] == tag[2:]
            found[tag[2:]] += tag[0] == "B"
    del found[""]
    assert (found.total() if isinstance(entities, int) else found) == entities
    assert {tag for example in examples for tag in example.tags or ()} <= set(task.outputs)


# ---- official layouts of the files that are seldom at hand ----


def lay(folder: Path, path: str, text: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(text.encode())


MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse"
    "\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2"
)
PARSES = "31193n\tgovernment\t( a )\t( b )\t(ROOT a)\t(ROOT b)"


def test_mnli_layouts(tmp_path: Path) -> None:
    task = load_task("mnli")
    lay(tmp_path, "GLUE/MNLI/train.tsv", f"{MNLI}\tlabel1\tgold_label\n0\t31193\t{PARSES}\tA.\tB.\tneutral\tneutral\n")
    for split in ("dev_matched", "dev_mismatched"):
        lay(
            tmp_path,
            f"GLUE/MNLI/{split}.tsv",
            f"{MNLI}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n"
            f"0\t63735\t{PARSES}\tA.\tB.\tentailment\tneutral\tneutral\tneutral\tneutral\tcontradiction\n",
        )
        lay(tmp_path, f"GLUE/MNLI/{split.replace('dev', 'test')}.tsv", f"{MNLI}\n9\t31193\t{PARSES}\tA.\tB.\n")
    found = {split: read_split(task, split, tmp_path) for split in task.files}
    assert found == {
        "train": [TextExample("0", "A.", "B.", "neutral")],
        "dev_matched": [TextExample("0", "A.", "B.", "contradiction")],
        "dev_mismatched": [TextExample("0", "A.", "B.", "contradiction")],
        "test_matched": [TextExample("9", "A.", "B.", None)],
        "test_mismatched": [TextExample("9", "A.", "B.", None)],
    }


def test_qqp_layouts(tmp_path: Path) -> None:
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    row = '133273\t213221\t213222\tHow is "air" traffic controlled?\tWhy "?\t0\n'
    lay(tmp_path, "GLUE/QQP/train.tsv", header + row)
    lay(tmp_path, "GLUE/QQP/dev.tsv", header + row.replace("\t0\n", "\t1\n"))
    lay(tmp_path, "GLUE/QQP/test.tsv", "id\tquestion1\tquestion2\n0\tWho?\tWhom?\n")
    found = [read_split(load_task("qqp"), split, tmp_path) for split in ("train", "dev", "test")]
    assert found == [
        [TextExample("0", 'How is "air" traffic controlled?', 'Why "?', "not_duplicate")],
        [TextExample("0", 'How is "air" traffic controlled?', 'Why "?', "duplicate")],
        [TextExample("0", "Who?", "Whom?", None)],
    ]


def test_qnli_train_layout(tmp_path: Path) -> None:
    lay(tmp_path, "GLUE/QNLI/train.tsv", 'index\tquestion\tsentence\tlabel\n7\t"What\tA "b.\tnot_entailment\n')
    assert read_split(load_task("qnli"), "train", tmp_path) == [TextExample("7", '"What', 'A "b.', "not_entailment")]


def test_msra_is_also_read_as_its_official_copy_has_it(tmp_path: Path) -> None:
    lay(tmp_path, "MSRA-NER/test.txt", "中\tB-ORG\n共\tI-ORG\n\n\u3000\tO\n")
    assert read_split(load_task("msra_ner"), "test", tmp_path) == [
        WordExample("0", ("中", "共"), ("B-ORG", "I-ORG"), 0),
        WordExample("1", ("\u3000",), ("O",), 1),
    ]


@pytest.mark.parametrize(
    "name", ["mini-acceptability", "mini-ner", "mini-paraphrase", "mini-sentiment", "mini-similarity"]
)
def test_mini_needs_no_data_folder(name: str) -> None:
    task = load_task(name)
    for split in ("train", "dev"):
        assert len(read_split(task, split, None)) >= 100


# ---- one's own files ----


def test_line_ends_quotes_and_odd_separators_are_kept_apart(tmp_path: Path) -> None:
    content = '\ufefftext\tlabel\r\n"odd\ta\r\nline\u2028sep\x85 \x0c\tb\r\n \tb'  # no final line end
    assert [(each.id, each.text, each.label) for each in texts(own_task(tmp_path, content))] == [
        ("0", '"odd', "a"),
        ("1", "line\u2028sep\x85 \x0c", "b"),
        ("2", " ", "b"),
    ]


def test_a_very_long_field(tmp_path: Path) -> None:
    for format, separator in (("tsv", "\t"), ("csv", ",")):
        content = f"text{separator}label\n{'x' * 300_000}{separator}a\n"
        assert len(texts(own_task(tmp_path, content, format=format))[0].text) == 300_000


def test_csv_has_quoting(tmp_path: Path) -> None:
    content = 'label,text\nb,"a ""quoted"", long\ntext"\na,plain\n\n'
    assert [(each.text, each.label) for each in texts(own_task(tmp_path, content, format="csv"))] == [
        ('a "quoted", long\ntext', "b"),
        ("plain", "a"),
    ]


def test_jsonl_with_numbers_for_labels(tmp_path: Path) -> None:
    rows = [{"id": 5, "text": "x\ty", "label": 1}, {"label": 0, "text": "z", "id": "six", "more": None}]
    content = "\n".join(map(json.dumps, rows))
    task = own_task(
        tmp_path, content, format="jsonl", labels={0: "a", 1: "b"},
        columns={"id": "id", "text": "text", "label": "label"},
    )  # fmt: skip
    assert texts(task) == [TextExample("5", "x\ty", None, "b"), TextExample("six", "z", None, "a")]


def test_multi_label(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"kind": "multi-label", "metrics": ["micro_f1"]}
    task = own_task(tmp_path, "text\tlabel\nx\ta|b\ny\t\n", label_separator="|", **fields)
    assert [each.label for each in texts(task)] == [("a", "b"), ()]
    task = own_task(tmp_path, '{"text": "x", "label": ["b"]}', format="jsonl", **fields)
    assert [each.label for each in texts(task)] == [("b",)]


def test_other_encodings(tmp_path: Path) -> None:
    task = own_task(tmp_path, "text\tlabel\n中文\ta\n".encode("gb18030"), encoding="gb18030")
    assert texts(task)[0].text == "中文"


def test_only_a_test_split_may_lack_labels(tmp_path: Path) -> None:
    task = own_task(tmp_path, "index\ttext\n0\tx\n")
    assert texts(task, "test")[0].label is None
    for split in ("train", "dev"):
        with pytest.raises(BadInput, match=r"data:1: no column 'label', the task's label, among the 2 there"):
            read_split(task, split, None)


def test_a_label_column_in_other_letters_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"data:1: no column 'label', .*; one differs from it in upper and lower case"):
        read_split(own_task(tmp_path, "text\tLabel\nx\ta\n"), "test", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"data is empty"),
        (b"\n \n", r"data is empty"),
        (b"text\tlabel\n", r"data has a header and no rows"),
        (b"text\tlabel\nx\ta\ny\n", r"data:3: expected 2 columns as in line 1, got 1"),
        (b"text\tlabel\nx\ta\ty\n", r"data:2: expected 2 columns as in line 1, got 3"),
        (b"text\tlabel\nx\tc\n", r"data:2: the label, column 'label', is not declared; task mine has a, b"),
        (b"text\tlabel\nx\ta\ny\t\n", r"data:3: the label, column 'label', is not declared"),
        (b"\xef\xbb\xbftext\tlabel\nx\ta\n\xff\ta\n", r"data:3: not utf-8 text \(invalid start byte\)"),
        (b"text\tlabel\nx\ta\ny\x00\ta\n", r"data:3: a NUL character"),
        ("text\tlabel\nx\ta\n".encode("utf-16"), r"data:1: not utf-8 text .* or declare `encoding: utf-16`"),
        ("text\tlabel\nx\ta\n".encode("utf-32"), r"data:1: not utf-8 text .* or declare `encoding: utf-32`"),
        ("text\tlabel\nx\ta\n".encode("utf-16-le"), r"data:1: a NUL character: .* or utf-16"),
        (b"text\tlabel\ttext\nx\ta\ty\n", r"data:1: more than one column is called text"),
        (b"sentence\tlabel\nx\ta\n", r"data:1: no column 'text', the task's text, among the 2 there$"),
        (b"Text\tlabel\nx\ta\n", r"data:1: no column 'text', .*; one differs from it in upper and lower case or wid"),
        (b"text\tlabel\nx\ta\ntext\tlabel\ny\ta\n", r"data:3: the label, .* This line is the header once more"),
    ],
)
def test_damaged_tsv(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_split(own_task(tmp_path, content), "train", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('text,label\n"x\ny",a\nz\n', r"data:4: expected 2 columns as in line 1, got 1"),
        ('text,label\n"x,a\n', r"data:2: not valid CSV: unexpected end of data"),
        ('text,label\n"x"y,a\n', r"data:2: not valid CSV"),
        ("text label\nx a\n", r"data:1: no column 'text', .* its one column holds ' ': is that what separates them"),
        ("text;label\nx;a\n", r"data:1: no column 'text', .* its one column holds ';': is that what separates them?"),
        ("text,label\nx,a\n,\ny,\n", r"data:4: the label, column 'label', is not declared; .* This one is empty"),
    ],
)
def test_damaged_csv(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_split(own_task(tmp_path, content, format="csv"), "train", None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "x"', r"data:2: not valid JSON"),
        ("{", r"data:2: not valid JSON: .*, at character \d+; an object must be whole on its line"),
        ('{"text": "x", "text": "y", "label": "a"}', r"data:2: not valid JSON: the field 'text' occurs twice"),
        ('{"text": "x", "label": "a"}\r{"text": "y"}', r"data:2: not valid JSON: a carriage return inside the line"),
        ('{"text": null, "label": "a"}', r"data:2: text and pair must be strings"),
        ("[" * 100_000, r"data:2: not valid JSON"),
        (r'{"text": "half \ud83d of it", "label": "a"}', r"data:2: not valid JSON: .*surrogates not allowed"),
        ('["x", "a"]', r"data:2: each line must be one JSON object"),
        ('{"text": "x"}', r"data:2: no field 'label', which line 1 has"),
        ('{"text": 3, "label": "a"}', r"data:2: text and pair must be strings"),
    ],
)
def test_damaged_jsonl(tmp_path: Path, line: str, message: str) -> None:
    content = '{"text": "w", "label": "b"}\n' + line + "\n"
    with pytest.raises(BadInput, match=message):
        read_split(own_task(tmp_path, content, format="jsonl"), "train", None)


def test_a_file_that_is_one_json_list(tmp_path: Path) -> None:
    task = own_task(tmp_path, '[{"text": "w", "label": "b"}]', format="jsonl")
    with pytest.raises(BadInput, match=r"data:1: each line must be one JSON object; the file is one JSON list, write"):
        read_split(task, "train", None)


# ---- lines without content ----

BLANKS = {
    "tsv": "text\tlabel\n{}\nx\ta\n{}\ny\tb\n{}\n{}\n",
    "csv": "text,label\n{}\nx,a\n{}\ny,b\n{}\n{}\n",
    "jsonl": '{}\n{{"text": "x", "label": "a"}}\n{}\n{{"text": "y", "label": "b"}}\n{}\n{}\n',
}


@pytest.mark.parametrize("blank", ["", " ", " \u00a0 ", "\r"])
@pytest.mark.parametrize("format", BLANKS)
def test_blank_lines_are_left_out_in_every_format(tmp_path: Path, format: str, blank: str) -> None:
    task = own_task(tmp_path, BLANKS[format].format(*[blank] * 4), format=format)
    assert [(each.id, each.text) for each in texts(task)] == [("0", "x"), ("1", "y")]
    first = 1 if format == "jsonl" else 2
    assert repairs(task) == [("blank lines, left out", 4, f"data:{first}")]


def test_a_blank_line_of_texts_alone_is_an_empty_text(tmp_path: Path) -> None:
    task = own_task(tmp_path, "x\n\ny\n", files={"train": "data", "test": {"path": "data", "header": False,
        "columns": {"text": 0}}}, evaluate=["test"])  # fmt: skip
    assert [each.text for each in texts(task, "test")] == ["x", "", "y"]


@pytest.mark.parametrize(("format", "row"), [("csv", ",,"), ("csv", " , ,"), ("tsv", "\t\t")])
def test_rows_of_empty_cells_are_left_out_where_a_label_is_wanted(tmp_path: Path, format: str, row: str) -> None:
    between = row.strip()[0] if format == "csv" else "\t"
    content = f"text,label,more\nx,a,\n{row}\ny,b,\n{row}\n".replace(",", between)
    task = own_task(tmp_path, content, format=format)
    assert [each.text for each in texts(task)] == ["x", "y"]
    assert repairs(task) == [("rows of empty cells, left out", 2, "data:3")]
    unlabelled = own_task(tmp_path, content.replace("label", "other"), format=format)
    assert [each.text.strip() for each in texts(unlabelled, "test")] == ["x", "", "y", ""]


# ---- ends of lines ----


@pytest.mark.parametrize("format", ["tsv", "jsonl"])
def test_carriage_returns_alone_end_no_line(tmp_path: Path, format: str) -> None:
    content = {"tsv": "text\tlabel\rx\ta\r", "jsonl": '{"text": "x", "label": "a"}\r' * 2}[format]
    with pytest.raises(
        BadInput, match=r"data:1: all its lines end in a carriage return, as on old Macs; save the file"
    ):
        read_split(own_task(tmp_path, content, format=format), "train", None)


def test_csv_knows_carriage_returns_as_ends_of_rows(tmp_path: Path) -> None:
    task = own_task(tmp_path, "text,label\rx,a\ry,b\r", format="csv")
    assert [(each.text, each.label) for each in texts(task)] == [("x", "a"), ("y", "b")]


@pytest.mark.parametrize("format", BLANKS)
def test_ends_of_lines_may_be_mixed_and_carriage_returns_doubled(tmp_path: Path, format: str) -> None:
    lines = [each for each in BLANKS[format].format(*[""] * 4).split("\n") if each]
    task = own_task(tmp_path, "\r\n".join(lines[:2]) + "\n" + "".join(f"{each}\n" for each in lines[2:]), format=format)
    assert ([each.text for each in texts(task)], repairs(task)) == (["x", "y"], [])
    task = own_task(tmp_path, "".join(f"{each}\r\r\n" for each in lines), format=format)
    assert [(each.text, each.label) for each in texts(task)] == [("x", "a"), ("y", "b")]
    assert len(repairs(task)) == 1


def test_a_carriage_return_inside_a_line_of_a_table(tmp_path: Path) -> None:
    task = own_task(tmp_path, "text\tlabel\nx\ry\ta\n")
    assert texts(task)[0].text == "x\ry"
    assert repairs(task) == [("carriage returns inside a text, read as white space", 1, "data:2")]
    for content in ("text\tlabel\nx\ta\ry\tb\n", "text\nx\ry\n"):
        with pytest.raises(
            BadInput, match="data:2: a carriage return inside the line; as the end of a line it is that of"
        ):
            read_split(own_task(tmp_path, content, columns={"text": "text", "label": "label"}), "test", None)


# ---- columns ----


def test_column_names_may_have_white_space_around_them(tmp_path: Path) -> None:
    task = own_task(tmp_path, "text, label\nx, a\n", format="csv")
    assert texts(task) == [TextExample("0", "x", None, "a")]
    assert [what for what, _, _ in repairs(task)] == [
        "column names that differ from the task's only in white space, read as those",
        "labels that differ from the declared ones only in white space, read as those",
    ]


def test_field_names_in_json_too(tmp_path: Path) -> None:
    lines = '{"text ": "x", "\ufefflabel": "a"}\n{"text ": "y", "\ufefflabel": "b"}\n'
    task = own_task(tmp_path, lines, format="jsonl")
    assert [(each.text, each.label) for each in texts(task)] == [("x", "a"), ("y", "b")]
    assert [(count, first) for _, count, first in repairs(task)] == [(1, "data:1"), (1, "data:1")]


@pytest.mark.parametrize(("format", "between"), [("csv", ","), ("tsv", "\t")])
def test_empty_cells_behind_the_last_column_are_left_out(tmp_path: Path, format: str, between: str) -> None:
    task = own_task(tmp_path, "text,label\nx,a,,\ny,b\n".replace(",", between), format=format)
    assert [(each.text, each.label) for each in texts(task)] == [("x", "a"), ("y", "b")]
    assert repairs(task) == [("empty cells behind the last column, left out", 1, "data:2")]


@pytest.mark.parametrize("mark", ["\ufeff", "\ufeff\ufeff"])
def test_byte_order_marks_are_no_part_of_the_first_column(tmp_path: Path, mark: str) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le"):
        task = own_task(tmp_path, f"{mark}text\tlabel\nx\ta\n".encode(encoding), encoding=encoding)
        assert texts(task) == [TextExample("0", "x", None, "a")]


@pytest.mark.parametrize(("cell", "name"), [("5", "5"), ("5.0", "5"), ('"5.0"', "5.0"), ("true", "true")])
def test_an_id_is_its_json_text(tmp_path: Path, cell: str, name: str) -> None:
    columns = {"id": "id", "text": "text", "label": "label"}
    content = f'{{"id": {cell}, "text": "x", "label": "a"}}\n'
    assert texts(own_task(tmp_path, content, format="jsonl", columns=columns))[0].id == name
    with pytest.raises(BadInput, match="data:1: the id is null, which is no id"):
        read_split(own_task(tmp_path, content.replace(cell, "null"), format="jsonl", columns=columns), "train", None)


def test_damaged_copies_of_built_in_data_say_what_gets_the_right_one(tmp_path: Path) -> None:
    lay(tmp_path, "GLUE/QQP/train.tsv", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\ta\tb\n")
    message = (
        r"train\.tsv:2: expected 6 columns as in line 1, got 5; the copy of 2018 has such .* data get qqp` gets the"
    )
    with pytest.raises(BadInput, match=message):
        read_split(load_task("qqp"), "train", tmp_path)
    lay(tmp_path, "GLUE/RTE/train.tsv", "index\tsentence1\tsentence2\tlabel\n1\ta\n")
    with pytest.raises(
        BadInput, match=r"train\.tsv:2: .*, got 2; `python -m harness data get glue` gets the official fi"
    ):
        read_split(load_task("rte"), "train", tmp_path)


def test_same_id_twice(tmp_path: Path) -> None:
    columns = {"id": "id", "text": "text", "label": "label"}
    task = own_task(tmp_path, "id\ttext\tlabel\n1\tx\ta\n2\ty\ta\n1\tz\tb\n", columns=columns)
    with pytest.raises(BadInput, match=r"data:4: the id, column 'id', is that of line 2 too"):
        read_split(task, "train", None)


def test_column_number_that_the_file_has_not(tmp_path: Path) -> None:
    task = own_task(tmp_path, "x\ta\n", header=False, columns={"text": 0, "label": 2})
    with pytest.raises(BadInput, match=r"data:1: no column 2, the task's label, among the 2 there"):
        read_split(task, "train", None)


def test_missing_file_says_what_gets_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"GLUE/RTE/dev\.tsv is not there; `python -m harness data get glue` gets it"):
        read_split(load_task("rte"), "dev", tmp_path)
    task = own_task(tmp_path, "")
    (tmp_path / "data").unlink()
    with pytest.raises(BadInput, match=r"data is not there$"):
        read_split(task, "dev", None)


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "GLUE/RTE/dev.tsv").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"cannot read .*dev\.tsv: Is a directory"):
        read_split(load_task("rte"), "dev", tmp_path)


def test_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="task rte has no split 'validation'; it has train, dev, test"):
        read_split(load_task("rte"), "validation", tmp_path)


# ---- sentences ----


def test_documents(tmp_path: Path) -> None:
    content = "-DOCSTART- -X- O\n\na x O\n\nb x O\n-DOCSTART- -X- O\n\nc x O\n"
    examples = read_split(own_task(tmp_path, content, kind="tagging"), "train", None)
    assert [(each.id, each.document) for each in examples if isinstance(each, WordExample)] == [
        ("0", 0),
        ("1", 0),
        ("2", 1),
    ]


def test_tab_separated_words_may_hold_spaces(tmp_path: Path) -> None:
    content = "New York\tB-LOC\r\n\t\r\n:\tO\r\n"
    task = own_task(tmp_path, content, kind="tagging", separator="tab")
    assert read_split(task, "train", None) == [
        WordExample("0", ("New York",), ("B-LOC",), 0),
        WordExample("1", (":",), ("O",), 1),
    ]


def test_sentences_without_tags(tmp_path: Path) -> None:
    files = {"train": "data", "dev": "data", "test": {"path": "data", "columns": {"word": 0}}}
    task = own_task(tmp_path, "Ann\nsleeps\n", kind="tagging", files=files)
    assert read_split(task, "test", None) == [WordExample("0", ("Ann", "sleeps"), None, 0)]


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        ("a x O\nb O\n", {}, r"data:2: expected 3 columns, got 2$"),
        ("a\n", {}, r"data:1: expected 2 columns, got 1$"),
        ("a O\n", {"columns": {"word": 0, "tag": 3}}, r"data:1: expected 4 columns, got 2$"),
        ("a\tO\n\tO\n", {"separator": "tab"}, r"data:2: the word, column 0, is empty$"),
        ("-DOCSTART- O\n\n", {}, r"data has no sentences"),
    ],
)
def test_damaged_conll(tmp_path: Path, content: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_split(own_task(tmp_path, content, kind="tagging", **fields), "train", None)


@pytest.mark.parametrize(
    "lines",
    [
        ["# id 1234\tdomain=en", "Paris _ _ B-LOC", "is _ _ O", "", "# id 1235\tdomain=en", "Oslo _ _ B-LOC"],
        ["# text = Paris is", "Paris B-LOC", "is O", "", "# sent_id = 2", "# text = Oslo", "Oslo B-LOC"],
        ["# newdoc", "Paris B-LOC", "# in between", "is O", "", "Oslo B-LOC"],
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_comment_lines_are_no_words(tmp_path: Path, lines: list[str], split: str) -> None:
    files = {"train": "data", "dev": "data", "test": {"path": "data", "columns": {"word": 0}}}
    task = own_task(tmp_path, "".join(f"{line}\n" for line in lines), kind="tagging", files=files)
    examples = read_split(task, split, None)
    assert [each.words for each in examples if isinstance(each, WordExample)] == [("Paris", "is"), ("Oslo",)]
    comments = [line for line in lines if line.startswith("#")]
    first = lines.index(comments[0]) + 1
    assert repairs(task, split) == [("comment lines, left out", len(comments), f"data:{first}")]


def test_a_number_sign_with_a_tag_is_a_word(tmp_path: Path) -> None:
    task = own_task(tmp_path, "# O\n# B-PER\nx O\n", kind="tagging")
    assert read_split(task, "train", None) == [WordExample("0", ("#", "#", "x"), ("O", "B-PER", "O"), 0)]
    alone = own_task(tmp_path, "#\nx\n", kind="tagging", files={"train": "data", "test": {"path": "data",
        "columns": {"word": 0}}}, evaluate=["test"])  # fmt: skip
    assert read_split(alone, "test", None) == [WordExample("0", ("#", "x"), None, 0)]


def test_a_space_may_be_a_word(tmp_path: Path) -> None:
    task = own_task(tmp_path, "a O\n  O\nb B-PER\n \tI-PER\n", kind="tagging")
    assert read_split(task, "train", None) == [WordExample("0", ("a", " ", "b", " "), ("O", "O", "B-PER", "I-PER"), 0)]
    assert repairs(task) == [("words that are white space, read as such", 2, "data:2")]
    task = own_task(tmp_path, "a\tO\n \tO\n\u00a0\tO\n", kind="tagging", separator="tab")
    assert read_split(task, "train", None) == [WordExample("0", ("a", " ", "\u00a0"), ("O", "O", "O"), 0)]


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u3000", "\u00a0", "\u200b", "\r"])
@pytest.mark.parametrize("separator", ["tab", "whitespace"])
def test_what_looks_blank_parts_sentences(tmp_path: Path, blank: str, separator: str) -> None:
    task = own_task(tmp_path, f"a\tO\n{blank}\nb\tO\n{blank}\n{blank}\n", kind="tagging", separator=separator)
    assert [each.words for each in read_split(task, "train", None) if isinstance(each, WordExample)] == [("a",), ("b",)]


def test_words_alone_may_be_other_white_space(tmp_path: Path) -> None:
    files = {"train": "data", "test": {"path": "data", "columns": {"word": 0}}}
    task = own_task(tmp_path, "a\n\u3000\nb\n \nc\n", kind="tagging", files=files, evaluate=["test"])
    assert read_split(task, "test", None) == [
        WordExample("0", ("a", "\u3000", "b"), None, 0),
        WordExample("1", ("c",), None, 1),
    ]


def test_white_space_and_tabs_at_the_end_of_a_line(tmp_path: Path) -> None:
    content = "Paris\tB-LOC \nis\tO\t\n"
    for separator in ("tab", "whitespace"):
        task = own_task(tmp_path, content, kind="tagging", separator=separator)
        assert read_split(task, "train", None) == [WordExample("0", ("Paris", "is"), ("B-LOC", "O"), 0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\rb O\r", "data:1: all its lines end in a carriage return, as on old Macs"),
        ("a O\rb O\n", "data:1: a carriage return inside the line"),
        (
            "a O\nb\u00a0O\n",
            r"data:2: expected 2 columns, got 1; it has the white space U\+00A0, and only spaces and tabs",
        ),
        (
            "a O\n#text = a\n",
            "data:2: expected 2 columns, got 3; is it a comment\\? Such a line begins with # and a space",
        ),
        ("a O\n O\n", "data:2: expected 2 columns, got 1; it begins with white space: is its word missing"),
        ("a\tO\nNew York\tO\n", "data:2: expected 2 columns, got 3; if words hold spaces, declare `separator: tab`"),
    ],
)
def test_why_a_line_fits_no_word(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_split(own_task(tmp_path, content, kind="tagging"), "train", None)


@pytest.mark.parametrize("end", ["\r\n", "\r\r\n"])
def test_ends_of_lines_in_conll(tmp_path: Path, end: str) -> None:
    task = own_task(tmp_path, f"a O{end}{end}b O{end}", kind="tagging")
    assert [each.words for each in read_split(task, "train", None) if isinstance(each, WordExample)] == [("a",), ("b",)]


@pytest.mark.parametrize(("name", "split"), [each for each in SPLITS if each[0] not in ("mnli", "qnli")])
def test_real_tables_need_no_repair(data_folder: Path, name: str, split: str) -> None:
    assert read(load_task(name), split, data_folder).repairs == []
