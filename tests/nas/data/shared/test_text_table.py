"""Text files as people write them: separators, codings, headers, decimal commas."""

from __future__ import annotations

import pytest

from nas.data.shared.table import unique_names
from nas.data.shared.text_table import has_header
from nas.data.shared.text_table import read_text_table


@pytest.fixture
def read(tmp_path):
    def one(content, wanted=("label",), text=("label",)):
        path = tmp_path / "x.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_text_table(path, wanted, text)

    return one


def cells(table):
    return table.frame.to_numpy().tolist()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_what_divides_the_columns_is_found_out(read, separator):
    table = read("a,b,label\n1,2,x\n3,4.5,y\n".replace(",", separator))
    assert cells(table) == [[1, 2.0, "x"], [3, 4.5, "y"]]
    assert list(table.frame.columns) == ["a", "b", "label"]
    assert table.place(1).startswith("row 2 (line 3) of ")


@pytest.mark.parametrize("content", ["a;b;label\n1,5;2;x\n-0,25;1.000,5;y\n", "1,5;2;x\n-0,25;1.000,5;y\n"])
def test_decimal_commas_are_read_where_commas_divide_no_columns(read, content):
    assert cells(read(content, text=("label", "3"))) == [[1.5, 2.0, "x"], [-0.25, 1000.5, "y"]]


def test_commas_in_texts_are_no_decimals(read):
    assert cells(read("a;label\n1,5;x\nred, blue;y\n"))[1][0] == "red, blue"
    assert cells(read('a,label\n"1,5",x\n"2,5",y\n'))[0][0] == "1,5"


def test_a_text_that_holds_other_separators_divides_nothing(read):
    table = read('a,b,label\n"x;y;z;z",1,2\n"x|y|z|z",3,4\n')
    assert list(table.frame.columns) == ["a", "b", "label"]


def test_a_wanted_name_decides_between_separators(read):
    assert list(read("a|b|c,label\n1|2|3,x\n").frame.columns) == ["a|b|c", "label"]


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_how_characters_are_coded_is_found_out(read, coding):
    table = read("größe,label\n1,ä\n".encode(coding), ("label",))
    assert cells(table) == [[1, "ä"]]
    assert list(table.frame.columns) == ["größe", "label"]
    assert bool(table.notes) == (coding == "latin-1")


def test_rows_are_counted_as_people_count_them(read):
    table = read('a,label\n\n1,"two\nlines"\n\n2,y\n3,z')
    assert cells(table) == [[1, "two\nlines"], [2, "y"], [3, "z"]]
    assert [table.place(row).split(" of ")[0] for row in range(3)] == [
        "row 1 (line 4)",
        "row 2 (line 6)",
        "row 3 (line 7)",
    ]


def test_a_comment_before_the_header_and_numpys_sign(read):
    assert list(read("# made in 2024\na,b,label\n1,2,x\n").frame.columns) == ["a", "b", "label"]
    assert list(read("# a,b,label\n1,2,x\n").frame.columns) == ["a", "b", "label"]


def test_a_label_stays_the_text_that_it_is(read):
    assert [row[1] for row in cells(read("a,label\n1,01\n2,NA\n3,1.0\n"))] == ["01", "NA", "1.0"]


def test_marks_of_missing_values_are_known_and_a_wanted_text_has_none_but_nothing(read):
    table = read("a,b,label\n1,?,x\n NA,2,?\n3,null,\n")
    assert table.frame.isna().to_numpy().tolist() == [[False, True, False], [True, False, False], [False, True, True]]


@pytest.mark.parametrize(
    ("first", "wanted", "header"),
    [
        (["a", "b"], [], True),
        (["a", "1"], [], False),
        (["a", "?"], [], False),
        (["1", "2", "label"], ["label"], True),
        (["0", "1", "2"], [], True),
        (["1", "2", "3", "y"], [], True),
        (["1", "3", "4", "y"], [], False),
        (["1,5", "x"], [], False),
        (["p", "p", "x"], [], False),  # letters of mushrooms
        (["5", "x"], ["5"], False),
        (["", "a"], [], True),
    ],
)
def test_a_header_is_told_from_a_record(first, wanted, header):
    assert has_header(first, wanted) == header


def test_columns_without_a_header_are_called_by_their_place(read):
    table = read("5.1,Iris-setosa\n4.9,Iris-virginica\n", text=("2",))
    assert not table.header
    assert (list(table.frame.columns), len(table.frame)) == (["1", "2"], 2)
    assert table.place(0).startswith("row 1 (line 1)")


def test_a_name_that_is_there_twice_is_numbered(read):
    table = read("a,a,label\n1,2,x\n")
    assert list(table.frame.columns) == ["a", "a.1", "label"]
    with pytest.raises(ValueError, match=r"one column 'a' in .*there are several"):
        table.check_column("a")
    assert unique_names(["a", "a.1", "a", "a"])[0] == ["a", "a.1", "a.2", "a.3"]
    assert len(set(unique_names(["a"] * 3000)[0])) == 3000


@pytest.mark.parametrize("content", ["a,label,\n1,x\n2,y\n", "a,label\n1,x,\n2,y,\n", "a,label,\n1,x,\n2,y,\n"])
def test_a_separator_at_the_end_of_lines_is_no_column(read, content):
    table = read(content)
    assert [row[:2] for row in cells(table)] == [[1, "x"], [2, "y"]]
    assert table.frame.iloc[:, 2:].isna().all(axis=None)
    with pytest.raises(ValueError, match=r"expected \d values in row 3"):
        read(f"{content}1,x,3,4\n")


def test_a_file_without_any_row_has_no_column(read):
    for content in (b"", b"\n\n"):
        with pytest.raises(ValueError, match="expected one column 'label'"):
            read(content).check_column("label", "--label-column")


def test_a_column_of_a_likely_name_is_suggested(read):
    for header, likely in (("Species,size", "Species"), ("size,what", "what")):
        with pytest.raises(ValueError, match=rf"'label' in .*perhaps --label-column '{likely}'; there are \['"):
            read(f"{header}\n1,2\n").check_column("label", "--label-column")
