"""Files of tables: headers, separators, rows of different lengths, and what is no text."""

import gzip

import pandas as pd
import pytest

from aecli.data.table_files import read_table
from aecli.errors import SettingError


def written(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def read(path, separator=None, decimal=".", texts=()):
    return read_table(path, separator, decimal, texts)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a,b\n1,2\n3\n", "the first line has 2, row 3 1"),
        ("a,b\n1,2\n3,4,5\n", "line 3"),
        ("a,b\n1,2,3\n4,5,6\n", "the first line has 2, the next 3"),
        ("a,b\n1,2,\n4,5,\n", "the first line has 2, the next 3"),
        ("a,b,c\n1,2\n4,5\n", "the first line has 3, the next 2"),
    ],
)
def test_rows_of_other_lengths_are_refused(tmp_path, text, what):
    with pytest.raises(SettingError, match=f"different numbers of columns.*{what}"):
        read(written(tmp_path, text))


def test_a_missing_entry_at_the_end_is_no_short_row(tmp_path):
    frame = read(written(tmp_path, "a,b\n1,\n\n3,4\n"))
    assert frame["b"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b\n1,2\n", ["a", "b"]),
        ("a;b\n1;2\n", ["a", "b"]),
        ("a\tb\n1\t2\n", ["a", "b"]),
        ("a|b\n1|2\n", ["a", "b"]),
        (' a , "b" \n1,2\n', ["a", "b"]),
        ('"a, of b, in cm";c\n1;2\n', ["a, of b, in cm", "c"]),
        ('"a\nb",c\n1,2\n', ["a\nb", "c"]),
        ("\ufeffa,b\n1,2\n", ["a", "b"]),
        ("\n\na,b\r\n1,2\r\n", ["a", "b"]),
        ("0,1,2\n5,6,7\n", ["0", "1", "2"]),  # pandas names columns so
        ("country,1990,2000\nA,1,2\n", ["country", "1990", "2000"]),
    ],
)
def test_headers(tmp_path, text, names):
    frame = read(written(tmp_path, text))
    assert list(frame) == names
    assert len(frame) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", "its first line is numbers"),
        ("5,3\n4,3\n", "its first line is numbers"),
        (",a\n0,1\n", r"column 1 has no name; give it one \(of pandas, leave the index out"),
    ],
)
def test_what_is_no_header(tmp_path, text, message):
    with pytest.raises(SettingError, match=message):
        read(written(tmp_path, text))


def test_a_separator_can_be_set(tmp_path):
    assert list(read(written(tmp_path, "a b;c\n1 2\n"), " ")) == ["a", "b;c"]
    assert list(read(written(tmp_path, "a,b\tc\n1\t2\n"), "\t")) == ["a,b", "c"]


def test_a_column_of_texts_keeps_its_zeros(tmp_path):
    frame = read(written(tmp_path, "a,b\n01,02\n"), texts=["a", "other"])
    assert frame["a"].tolist() == ["01"]
    assert frame["b"].tolist() == [2]


def test_an_id_stays_as_it_stands_there(tmp_path):
    ids = ["00001", "0.10", "0.1", "1E5", "true", "FALSE", "NA", "null", "nan", "-", "1,5", "é"]
    text = "id,b\n" + "".join(f'"{name}",1\n' for name in ids)
    for decimal in (".", ","):
        frame = read_table(written(tmp_path, text), None, decimal, id="id")
        assert frame["id"].tolist() == ids
    frame = read_table(written(tmp_path, "id,b\n,1\nx,NA\n"), None, ".", id="id")
    assert frame.isna().to_numpy().tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("labels", "read_as"),
    [
        (["01", "1", "2"], ["01", "1", "2"]),
        (["0", "10", "2"], [0, 10, 2]),
        (["1.0", "2.0", "0.0"], [1.0, 2.0, 0.0]),
        (["0.5", "2"], [0.5, 2.0]),
        (["true", "FALSE", "True"], [True, False, True]),
        (["yes", "1"], ["yes", "1"]),
    ],
)
def test_labels_are_numbers_where_they_look_so(tmp_path, labels, read_as):
    text = "".join(f"{label},1\n" for label in labels)
    frame = read_table(written(tmp_path, f"c,b\n{text}"), None, ".", label="c")
    assert frame["c"].tolist() == read_as
    path = written(tmp_path, f"c,b\n{text},2\n")
    assert read_table(path, None, ".", label="c")["c"].isna().tolist()[-2:] == [False, True]


def test_none_is_a_category(tmp_path):
    frame = read(written(tmp_path, "a,b\nNone,1\nNULL,nan\n"))
    assert frame.isna().to_numpy().tolist() == [[False, False], [True, True]]


def test_numbers_with_a_decimal_comma(tmp_path):
    frame = read(written(tmp_path, 'a,b\n"1,5",2\n'), decimal=",")
    assert frame["a"].tolist() == [1.5]


def test_a_named_index_is_a_column_and_row_numbers_are_none(tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5]}, index=pd.Index(["x", "y"], name="name"))
    frame.to_parquet(tmp_path / "named.parquet")
    assert list(read(tmp_path / "named.parquet")) == ["name", "a"]
    frame.reset_index(drop=True).to_parquet(tmp_path / "plain.parquet")
    assert list(read(tmp_path / "plain.parquet")) == ["a"]


@pytest.mark.parametrize("ending", [".parquet", ".feather"])
def test_what_is_no_text_takes_no_settings_of_texts(tmp_path, ending):
    path = tmp_path / f"table{ending}"
    getattr(pd.DataFrame({"a": [1.5]}), f"to_{ending[1:]}")(path)
    with pytest.raises(SettingError, match=rf"separator=;: is for texts, not for \{ending}$"):
        read(path, ";")
    with pytest.raises(SettingError, match=r"dataset\.decimal=,: is for texts"):
        read(path, decimal=",")


@pytest.mark.parametrize("ending", [".parquet", ".feather"])
def test_many_rows_in_a_small_file_are_refused_before_memory_is_taken(
    tmp_path, monkeypatch, ending
):
    path = tmp_path / f"table{ending}"
    frame = pd.DataFrame({"a": [0.0] * 200_000, "b": [0.0] * 200_000})
    getattr(frame, f"to_{ending[1:]}")(path, compression="zstd")
    assert path.stat().st_size < 50_000
    monkeypatch.setattr("aecli.size.memory", lambda: 2_000_000)
    with pytest.raises(SettingError, match=r"would take [23]\.\d MB of memory"):
        read(path)


def test_what_is_no_table(tmp_path):
    (tmp_path / "zip.csv.gz").write_bytes(b"no gzip")
    (tmp_path / "bytes.csv").write_bytes(b"a,b\n\0\0\n")
    (tmp_path / "wide.csv").write_bytes("a,b\n1,2\n".encode("utf-16"))
    (tmp_path / "none.csv.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "old.feather").write_bytes(b"FEA1 and more")
    for name, message in {
        "zip.csv.gz": "cannot be read",
        "bytes.csv": "is no text",
        "wide.csv": "is no UTF-8; save it as UTF-8",
        "none.csv.gz": "empty",
        "old.feather": "cannot be read",
    }.items():
        with pytest.raises(SettingError, match=message) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_field_that_never_ends(tmp_path):
    with pytest.raises(SettingError, match=r"table\.csv: "):
        read(written(tmp_path, 'a,b\n"1,2\n' + "3,4\n" * 100_000))
