import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from pipelines.statements.files import rows_in_file
from pipelines.statements.tables import json_lines, read_table
from registry.dimensions import TOXICITY
from registry.errors import CorruptFile, InvalidInput, NotFound


def written(directory, content, name="toxicity.csv"):
    path = directory / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Ben is cruel,0\nAnna, is kind to Dora again.,1\n", r"row 2 \(line 3\) has 3 fields where the header has 2"),
        ("Ben is cruel,0\n\nAnna is kind\n", r"row 2 \(line 4\) has 1 field where the header has 2"),
        ("Ben is cruel,0,\n", r"row 1 \(line 2\) has 3 fields"),
        ('"Ben\nis cruel",0\nAnna, kind,1\n', r"row 2 \(line 4\) has 3 fields .*'Anna, kind,1'; put double quotes"),
    ],
)
def test_rows_of_other_lengths_than_the_header_are_refused(tmp_path, content, words):
    with pytest.raises(InvalidInput, match=words):
        read_table(written(tmp_path, "statement,label\n" + content))


@pytest.mark.parametrize("content", ['"Ben is cruel,0\nAnna is kind,1\n', '"Ben" is cruel,0\n'])
def test_a_stray_quote_is_refused_with_its_line(tmp_path, content):
    with pytest.raises(CorruptFile, match="in the row that begins in line 2; look for a double quote"):
        read_table(written(tmp_path, "statement,label\n" + content))


@pytest.mark.parametrize("header", ["statement,label,label", "statement,Label, label", "statement,label,note,note"])
def test_a_column_that_is_there_twice_is_refused(tmp_path, header):
    with pytest.raises(InvalidInput, match="has the column (label|note) twice; keep one"):
        read_table(written(tmp_path, f"{header}\n" + ",".join("x" * (header.count(",") + 1)) + "\n"))


def test_a_parquet_column_or_a_json_key_twice_is_refused(tmp_path):
    columns = [pa.array(["a"]), pa.array([1]), pa.array([0])]
    pyarrow.parquet.write_table(pa.table(columns, names=["statement", "label", "label"]), tmp_path / "a.parquet")
    with pytest.raises(InvalidInput, match="a.parquet has the column label twice"):
        read_table(tmp_path / "a.parquet")
    with pytest.raises(InvalidInput, match="a.jsonl, line 1 has the key label twice"):
        read_table(written(tmp_path, '{"statement": "a", "label": 1, "label": 0}\n', "a.jsonl"))


def test_header_case_spaces_and_nameless_columns_do_not_matter(tmp_path):
    rows = rows_in_file(written(tmp_path, " Statement ,LABEL,,\nkind,1,,\ncruel,0,,\n"), TOXICITY)
    assert rows.texts == ("kind", "cruel")
    assert rows.unread_columns == ()


def test_columns_that_mean_nothing_are_named(tmp_path):
    assert rows_in_file(written(tmp_path, "statement,label,groups\nkind,1,x\n"), TOXICITY).unread_columns == ("groups",)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_separators_are_named(tmp_path, mark):
    with pytest.raises(InvalidInput, match="separate columns by commas"):
        rows_in_file(written(tmp_path, f"statement{mark}label\nkind{mark}1\n"), TOXICITY)


LINES = '\ufeff{"statement": "a\u2028b", "label": 1}\n\n  \r\n{"statement": "c\x85d", "label": false}\r\n'


def test_json_lines_end_at_line_feeds_alone(tmp_path):
    rows = rows_in_file(written(tmp_path, LINES, "toxicity.jsonl"), TOXICITY)
    assert rows.texts == ("a\u2028b", "c\x85d")
    assert list(rows.labels) == [True, False]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1]", "line 2 is not a JSON object"),
        ("{", "line 2 is not JSON: .* at column 2"),
        ('{"statement": "b"}', r"other than 0 and 1, the first in row 2 \(line 2\): None"),
        ('{"statement": null, "label": 1}', r"1 row without a statement, the first in row 2 \(line 2\)"),
        (
            '{"statement": [{"role": "user", "content": "b"}], "label": 1}',
            r"a chat as the statement of row 2 \(l",
        ),
        ('{"statement": {"text": "b"}, "label": 1}', r"a chat as the statement of row 2 \(l"),
        ('{"statement": 7, "label": 1}', r"the int 7 as the statement of row 2 \(line 2\)"),
        ('{"statement": "b", "label": 1, "group": [1]}', r"group of toxicity.jsonl, row 2 \(line 2\) is '\[1\]'"),
    ],
)
def test_a_json_line_that_is_no_statement_is_refused(tmp_path, line, words):
    with pytest.raises(InvalidInput, match=words):
        rows_in_file(written(tmp_path, '{"statement": "a", "label": 0}\n' + line + "\n", "toxicity.jsonl"), TOXICITY)


def test_a_chat_written_into_a_csv_cell_is_refused(tmp_path):
    chat = "[{'role': 'user', 'content': 'hello'}]"
    with pytest.raises(InvalidInput, match="a chat as the statement of row 1"):
        rows_in_file(written(tmp_path, f'statement,label\n"{chat}",1\n'), TOXICITY)


def parquet(directory, **columns):
    path = directory / "toxicity.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


IDS = [2**60 + pair for pair in range(20) for _ in range(2)]


def test_64_bit_ids_with_a_gap_stay_apart(tmp_path):
    ids, texts, labels = [*IDS, None], [f"text {row}" for row in range(41)], [0, 1] * 20 + [0]
    path = parquet(tmp_path, statement=texts, label=labels, group=pa.array(ids, pa.int64()))
    assert len(set(rows_in_file(path, TOXICITY).groups)) == 21
    lines = [json.dumps({"statement": t, "label": n, "group": g}) for t, n, g in zip(texts, labels, ids, strict=True)]
    assert len(set(rows_in_file(written(tmp_path, "\n".join(lines), "toxicity.jsonl"), TOXICITY).groups)) == 21


def test_ids_rounded_to_floating_point_are_refused(tmp_path):
    path = parquet(tmp_path, statement=["a", "b"], label=[0, 1], group=[float(2**60), float("nan")])
    with pytest.raises(InvalidInput, match="group of toxicity.parquet, row 1 is the rounded number"):
        rows_in_file(path, TOXICITY)


def test_ids_are_compared_as_they_are_written(tmp_path):
    rows = rows_in_file(written(tmp_path, "statement,label,group\na,0,1\nb,1,1.0\nc,1,01\nd,0,1\ne,0,NA\n"), TOXICITY)
    assert list(rows.groups) == [0, 1, 2, 0, 3]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "statement,label\nGrüße,1\n".encode("latin1"),
            r"not UTF-8 \(byte 0xfc in line 2\); convert it: iconv",
        ),
        ("statement,label\nkind,1\n".encode("utf-16"), "is UTF-16; convert it: iconv -f utf-16 -t utf-8"),
    ],
)
def test_other_encodings_are_refused_with_a_command_that_mends_them(tmp_path, content, words):
    import subprocess

    path = written(tmp_path, content, "my, file.csv")
    with pytest.raises(CorruptFile, match=words) as refusal:
        read_table(path)
    subprocess.run(str(refusal.value).partition("convert it: ")[2], shell=True, check=True)
    assert read_table(path).columns["label"] == ("1",)


def test_blank_lines_are_skipped_and_still_counted(tmp_path):
    assert list(json_lines(written(tmp_path, '\n\n{"a": 1}\n', "a.jsonl"))) == [(3, {"a": 1})]


@pytest.mark.parametrize("name", ["toxicity.csv", "toxicity.jsonl", "toxicity.parquet"])
def test_what_is_no_file_is_said_to_be_none(tmp_path, name):
    (tmp_path / name).symlink_to(tmp_path / "away")
    with pytest.raises(NotFound, match="is a link to nothing; give a file"):
        read_table(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(NotFound, match="is a directory; give a file"):
        read_table(tmp_path / name)


def test_half_of_a_character_is_refused_with_its_row(tmp_path):
    """JSON has it where a text was cut within an emoji; no tokenizer and no digest reads it."""
    rows = '{"statement": "kind", "label": 1}\n{"statement": "so \\ud83d", "label": 0}\n'
    with pytest.raises(InvalidInput, match=r"half of a character, '\\ud83d', in the statement of row 2 \(line 2\)"):
        read_table(written(tmp_path, rows, "a.jsonl"))
    whole = rows.replace("\\ud83d", "\\ud83d\\ude00")
    assert read_table(written(tmp_path, whole, "a.jsonl")).columns["statement"][1] == "so \U0001f600"


@pytest.mark.parametrize("value", ["[" * 100_000, "1" * 5000])
def test_json_that_python_does_not_read_is_refused(tmp_path, value):
    with pytest.raises(InvalidInput, match=r"a\.jsonl, line 1 is (too deep|not JSON)"):
        list(json_lines(written(tmp_path, f'{{"statement": "a", "label": {value}}}\n', "a.jsonl")))


def test_ids_are_names_without_outer_spaces(tmp_path):
    content = "statement,label,group\na,1,x\nb,0, x \nc,1,\u00a0y\nd,0,y\ne,1,X\n"
    assert list(rows_in_file(written(tmp_path, content), TOXICITY).groups) == [0, 0, 1, 1, 2]


def test_copies_with_accents_spelt_otherwise_stay_together(tmp_path):
    content = "statement,label,group\ncaf\u00e9,1,\nbar,0,\ncafe\u0301,1,\nba\u00adr\u200b,1,\n"
    assert list(rows_in_file(written(tmp_path, content), TOXICITY).groups) == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8b\x08\x00", "is compressed by gzip and no text; decompress it"),
        (b"PK\x03\x04\x14\x00", "is an Excel workbook or a zip archive and no text; save it as CSV"),
        (b"PAR1\x15\x04", "is Parquet and no text; give it a name that ends in .parquet"),
        ("statement,label\na,1\n".encode("utf-32"), "is UTF-32; convert it: iconv -f utf-32 "),
        ("statement,label\na,1\n".encode("utf-16-le"), "holds zero bytes.* iconv -f utf-16le "),
        ("statement,label\na,1\n".encode("utf-16-be"), "holds zero bytes.* iconv -f utf-16be "),
    ],
)
def test_other_formats_under_a_name_of_text_are_named(tmp_path, content, words):
    with pytest.raises(CorruptFile, match=words):
        read_table(written(tmp_path, content))
