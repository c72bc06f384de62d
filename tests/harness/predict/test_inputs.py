"""What predict is given, as examples of the model's task: as the task's own files are read, and nothing left out."""

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.data.examples import TextExample, WordExample
from harness.data.read import read_split
from harness.data.reading import SplitFile
from harness.data.task import Task, load_task
from harness.errors import BadInput
from harness.predict.inputs import STANDARD_INPUT, from_file, from_texts

File = Callable[[str, str | bytes], Path]


@pytest.fixture
def file(tmp_path: Path) -> File:
    """A function that writes a file of this name and content."""

    def write(name: str, content: str | bytes) -> Path:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return write


def task(pairs: bool = False, header: bool = True, form: Any = "csv", suffix: str = ".csv", **fields: Any) -> Task:
    """A task whose dev file has columns of its own."""
    named: dict[str, str | int] = {"text": "message", "label": "team"} | ({"pair": "answer"} if pairs else {})
    numbered: dict[str, str | int] = {"text": 1, "label": 0} | ({"pair": 2} if pairs else {})
    dev = SplitFile(Path(f"dev{suffix}"), header, named if header else numbered)
    return replace(load_task("mini-sentiment"), files={"dev": dev}, evaluate=("dev",), format=form, **fields)


def tagging(**fields: Any) -> Task:
    return replace(load_task("mini-ner"), **fields)


def texts(examples: list[TextExample]) -> list[Any]:
    return [(each.text, each.pair) if each.pair is not None else each.text for each in examples]


# ---- columns ----


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("new.csv", "message,team\nlate again,billing\nfine,\n"),
        ("new.csv", "other,message\nx,late again\ny,fine\n"),
        ("new.tsv", "message\tteam\nlate again\tbilling\nfine\tnothing declared\n"),
        ("new.jsonl", '{"message": "late again"}\n{"message": "fine", "team": null}\n'),
        ("new.csv", "text\nlate again\nfine\n"),
        ("new.txt", "late again\nfine\n"),
        ("NEW.TXT", "late again\r\nfine"),
    ],
)
def test_columns_are_those_of_the_tasks_own_files_or_called_text(file: File, name: str, content: str) -> None:
    examples = from_file(task(), file(name, content)).examples
    assert texts(examples) == ["late again", "fine"]
    assert [example.id for example in examples] == ["0", "1"]
    assert all(example.label is None for example in examples), "a label is not looked at"


def test_a_column_of_the_task_is_preferred_to_one_called_text(file: File) -> None:
    given = from_file(task(), file("new.csv", "text,message\nwrong,right\n"))
    assert texts(given.examples) == ["right"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [({"text": "body"}, ["late"]), ({"text": "1"}, ["body", "late"]), ({"text": "body", "id": "key"}, ["late"])],
)
def test_columns_that_are_named_replace_those_of_the_task(
    file: File, columns: dict[str, str], expected: list[str]
) -> None:
    given = from_file(task(), file("new.csv", "key,body\nk7,late\n"), columns=columns)
    assert texts(given.examples) == expected
    assert given.examples[0].id == ("k7" if "id" in columns else "0")


def test_files_of_a_task_without_headers_are_read_by_number_or_by_a_header(file: File) -> None:
    plain = task(header=False, form="tsv", suffix=".tsv")
    assert texts(from_file(plain, file("dev.tsv", "1\tlate\n0\tfine\n")).examples) == ["late", "fine"]
    assert texts(from_file(plain, file("named.tsv", "text\nlate\n")).examples) == ["late"]
    assert texts(from_file(plain, file("a.jsonl", '{"text": "late"}\n')).examples) == ["late"]
    assert texts(from_file(plain, file("one.tsv", "late\nfine\n"), columns={"text": "0"}).examples) == ["late", "fine"]


def test_the_split_whose_columns_the_file_has_is_the_one_that_counts(file: File) -> None:
    cola = load_task("cola")
    assert cola.files["dev"].header is False
    assert texts(from_file(cola, file("a.tsv", "index\tsentence\n0\tThey drank.\n")).examples) == ["They drank."]
    assert texts(from_file(cola, file("b.tsv", "gj04\t1\t\tThey drank.\n")).examples) == ["They drank."]


def test_pairs(file: File) -> None:
    both = [("a", "b"), ("c", "")]
    assert texts(from_file(task(pairs=True), file("a.csv", "answer,message\nb,a\n,c\n")).examples) == both
    assert texts(from_file(task(pairs=True), file("a.txt", "a\tb\nc\t\n")).examples) == both
    columns = {"text": "x", "pair": "y"}
    assert texts(from_file(task(pairs=True), file("b.csv", "x,y\na,b\nc,\n"), columns=columns).examples) == both
    assert texts(from_texts(task(pairs=True), ["a\tb", "c\t"]).examples) == both


@pytest.mark.parametrize(
    ("pairs", "name", "content", "columns", "message"),
    [
        (False, "a.csv", "body\nx\n", {}, r"a\.csv:1: no column 'message', the task's text, .*`--columns text=NAME`"),
        (True, "a.csv", "message,body\nx,y\n", {}, r"no column 'answer', the task's pair, .*`--columns pair=NAME`"),
        (False, "a.csv", "body\nx\n", {"text": "boddy"}, r"no column 'boddy', the task's text"),
        (
            False,
            "a.csv",
            "body\nx\n",
            {"text": "4"},
            r"no column 4, the task's text, among the 1 there \(counted from 0",
        ),
        (True, "a.csv", "a,b\nx,y\n", {"text": "0"}, "which is pair"),
        (False, "a.csv", "body\nx\n", {"tekst": "body"}, "no role tekst; this file has text, id"),
        (False, "a.txt", "x\n", {"text": "0"}, "no role text; this file has none"),
        (False, "a.jsonl", '{"body": "x"}\n', {}, "no column 'message', the task's text"),
        (False, "a.csv", "message,message\nx,y\n", {}, "more than one column is called message"),
        (False, "a.txt", "x\ty\n", {}, r"a\.txt:1: this model reads one text a line, without tabs"),
        (True, "a.txt", "x\ty\nx\n", {}, r"a\.txt:2: this model reads a text and its pair"),
        (False, "a.pdf", "x\n", {}, r"a\.pdf: this model reads \.txt, \.tsv, \.csv, \.jsonl; .*--format"),
        (False, "a.conll", "x\n", {}, r"a\.conll: this model reads \.txt"),
        (False, "a.txt", "", {}, "is empty"),
        (False, "a.txt", b"gr\xfcn\n", {}, r"a\.txt:1: not utf-8 text"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    file: File, pairs: bool, name: str, content: str | bytes, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        from_file(task(pairs=pairs), file(name, content), columns=columns)


# ---- every row, by its id or number ----


def test_empty_texts_are_rows_too(file: File) -> None:
    assert texts(from_file(task(), file("a.txt", "\nlate\n\n  \nfine\n\n")).examples) == [
        "",
        "late",
        "",
        "  ",
        "fine",
        "",
    ]
    assert texts(from_file(task(), file("a.tsv", "message\tteam\n\tx\nlate\ty\n")).examples) == ["", "late"]
    assert texts(from_file(task(), file("a.jsonl", '{"message": ""}\n{"message": "a"}\n')).examples) == ["", "a"]


@pytest.mark.parametrize("declared", [True, False])
def test_ids_are_those_of_the_tasks_column_or_of_one_called_id(file: File, declared: bool) -> None:
    own = task()
    if declared:
        dev = own.files["dev"]
        own = replace(own, files={"dev": replace(dev, columns=dev.columns | {"id": "key"})})
    given = from_file(own, file("a.csv", f'{"key" if declared else "id"},message\n01,late\n"a""1",fine\n'))
    assert [example.id for example in given.examples] == ["01", 'a"1']
    assert [example.id for example in from_file(own, file("b.csv", "message\nlate\n")).examples] == ["0"]


def test_labels_that_leave_an_example_out_of_training_leave_none_out_here(file: File) -> None:
    given = from_file(task(ignore=("-",)), file("a.csv", "message,team\nlate,-\nfine,x\n"))
    assert texts(given.examples) == ["late", "fine"]


# ---- formats and encodings ----


def test_a_file_of_the_tasks_own_suffix_is_of_the_tasks_format(file: File) -> None:
    assert texts(from_file(task(form="tsv", suffix=".txt"), file("a.txt", "message\tteam\nlate\tx\n")).examples) == [
        "late"
    ]
    given = from_file(
        tagging(files={"dev": SplitFile(Path("dev.txt"), True, {"word": 0, "tag": 1})}), file("a.txt", "Oslo O\n")
    )
    assert given.examples[0].words == ("Oslo",)


def test_the_format_can_be_said(file: File) -> None:
    assert texts(from_file(task(), file("a.dat", "message\nlate\n"), form="csv").examples) == ["late"]
    assert texts(from_file(task(), file("a.csv", "message\nlate\n"), form="lines").examples) == ["message", "late"]
    with pytest.raises(BadInput, match="--format: 'conll' is not one that this model reads: lines, tsv, csv, jsonl"):
        from_file(task(), file("a.csv", "x"), form="conll")


def test_files_are_in_the_encoding_of_the_task_or_in_utf8(file: File) -> None:
    chinese = task(encoding="gbk")
    for name, encoding, notes in (("a.csv", "gbk", 0), ("b.csv", "utf-8", 1), ("c.csv", "utf-8-sig", 1)):
        given = from_file(chinese, file(name, "message\n菜很好吃\n".encode(encoding)))
        assert texts(given.examples) == ["菜很好吃"]
        assert len(given.notes) == notes
    assert from_file(chinese, file("d.csv", "message\nplain\n")).notes == []


def test_standard_input_is_a_text_a_line_or_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(content: str, **how: Any) -> list[Any]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        return from_file(how.pop("task", task()), STANDARD_INPUT, **how).examples

    assert texts(given("late\n\nfine\n")) == ["late", "", "fine"]
    assert texts(given("message,team\nlate,x\n", form="csv")) == ["late"]
    assert [example.words for example in given("New\nYork\n\nOslo\n", task=tagging())] == [("New", "York"), ("Oslo",)]
    with pytest.raises(BadInput, match="standard input:1: no column 'message'"):
        given("body\nlate\n", form="csv")


# ---- words ----


def test_every_line_of_a_file_of_words_is_kept_and_the_words_are_found_in_it(file: File) -> None:
    content = "-DOCSTART- -X- O O\n\nJordan NNP B-NP B-PER\nswims VBZ B-VP O\n\n \t\n\nPaula NNP B-NP B-PER\n"
    content += "-DOCSTART- -X- O O\nOslo NNP B-NP B-LOC"
    given = from_file(tagging(), file("a.conll", content))
    assert given.lines == content.split("\n")
    assert [given.lines[i].split()[0] for i in given.words] == ["Jordan", "swims", "Paula", "Oslo"]
    assert [example.words for example in given.examples] == [("Jordan", "swims"), ("Paula",), ("Oslo",)]
    assert [example.document for example in given.examples] == [0, 0, 1]


def test_words_with_spaces_where_a_tab_separates(file: File) -> None:
    given = from_file(tagging(separator="tab"), file("a.conll", "New York\tB-LOC\nis\tO\n"))
    assert given.examples[0].words == ("New York", "is")
    assert from_file(tagging(separator="tab"), file("b.conll", "New York\nis\n")).examples == given.examples


def test_another_column_may_hold_the_words(file: File) -> None:
    given = from_file(tagging(), file("a.conll", "1 Oslo\n2 is\n"), columns={"word": "1"})
    assert given.examples[0].words == ("Oslo", "is")
    with pytest.raises(BadInput, match="word=first should be a number"):
        from_file(tagging(), file("a.conll", "1 Oslo\n"), columns={"word": "first"})


def test_texts_of_the_command_line_are_split_at_white_space_for_tagging() -> None:
    given = from_texts(tagging(), [" Ada  Byron lived", "", "in London"])
    assert [example.words for example in given.examples] == [("Ada", "Byron", "lived"), (), ("in", "London")]
    assert given.lines == ["Ada", "Byron", "lived", "", "", "in", "London"]
    assert [given.lines[i] for i in given.words] == ["Ada", "Byron", "lived", "in", "London"]
    assert len({example.document for example in given.examples}) == 3


def test_comment_lines_are_no_words_and_stay_where_they_are(file: File) -> None:
    last = tagging(files={"dev": SplitFile(Path("dev.conll"), False, {"word": 0, "tag": -1})})
    for tags in (" B-PER", " NN", ""):
        content = f"# id 7\tdomain=en\nJordan _ _{tags}\n# _ _{tags}\n\n"
        given = from_file(last, file("a.conll", content))
        assert [example.words for example in given.examples] == [("Jordan", "#")]
        assert (given.lines, given.words) == (content.split("\n")[:-1], [1, 2])
        assert given.notes == []


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u00a0", "\u3000"])
def test_sentences_end_where_the_run_had_them_end(file: File, blank: str) -> None:
    path = file("dev.conll", f"Ada B-PER\n{blank}\nOslo B-LOC\n# no tag here\n")
    columns: dict[str, str | int] = {"word": 0, "tag": 1}
    of_run = read_split(tagging(files={"dev": SplitFile(path, False, columns)}), "dev", None)
    given = from_file(tagging(), path).examples
    assert [each.words for each in given] == [each.words for each in of_run if isinstance(each, WordExample)]
    assert len(given) == 2


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a.jsonl", "a.conll"])
def test_line_ends_of_old_macs_are_refused_with_the_remedy(file: File, name: str) -> None:
    own = tagging() if name == "a.conll" else task()
    with pytest.raises(BadInput, match=r"old Macs.* save the file with line feeds"):
        from_file(own, file(name, "message\rlate\r"))


def test_a_carriage_return_inside_a_text_is_refused(file: File) -> None:
    with pytest.raises(BadInput, match=r"a\.txt:2: a carriage return inside the line"):
        from_file(task(), file("a.txt", "late\nfi\rne\n"))


def test_a_column_whose_name_differs_invisibly_is_the_tasks_as_it_was_in_the_run(file: File) -> None:
    given = from_file(task(), file("a.csv", "message\u00a0,id\nlate,7\n"))
    assert texts(given.examples) == ["late"]
    assert given.examples[0].id == "7"
    assert "column names that differ" in given.notes[0]


def test_rows_of_empty_cells_are_answered_and_what_is_left_out_is_said(file: File) -> None:
    given = from_file(task(), file("a.csv", "message,team\nlate,x\n,\n\nfine,\n"))
    assert texts(given.examples) == ["late", "", "fine"]
    assert given.notes == ["blank lines, left out: 1, the first at a.csv:4"]


def test_an_id_that_is_there_twice_is_refused_with_a_way_out(file: File) -> None:
    with pytest.raises(BadInput, match=r"a\.csv:3: the id, column 'id', .*; call the column otherwise"):
        from_file(task(), file("a.csv", "message,id\nlate,7\nfine,7\n"))
