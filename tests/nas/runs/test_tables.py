"""Tables of architectures: what is read, what is refused and by which lines, what is written."""

from __future__ import annotations

import csv
import json

import pytest

from nas.base import plugins
from nas.runs.architectures import read_architecture
from nas.runs.tables import read_architectures
from nas.runs.tables import tasks_of
from nas.runs.tables import write_table

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"


def table(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path, space=None, shape=(3, 32, 32), classes=10):
    return read_architectures(path, space, shape, classes)


def refusal(path, space=None):
    with pytest.raises(ValueError, match=r"expected|wrong") as caught:
        read(path, space)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def space(name):
    return plugins.load("search_spaces", name, "make_space")((3, 32, 32), 10)


def test_rows_of_several_spaces_keep_their_lines_and_all_their_text(tmp_path):
    path = table(
        tmp_path / "a.csv",
        "note,architecture,space,latency_ms",
        f"usual cell,{CELL},nb201, 3.5",
        "",
        '"two\nlines","{""depth"": 2}",conv,',
    )
    cell, conv = read(path)
    assert (cell.line, conv.line) == (2, 5)
    assert cell.architecture == space("nb201").decode(space("nb201").parse(CELL))
    assert conv.architecture == space("conv").decode({**space("conv").reference, "depth": 2})
    assert cell.cells == {"note": "usual cell", "architecture": CELL, "space": "nb201", "latency_ms": " 3.5"}
    assert conv.cells["note"] == "two\nlines"
    assert conv.cells["latency_ms"] == ""


def test_the_space_may_be_given_for_all_rows_and_a_rows_own_beats_it(tmp_path):
    assert [row.architecture.space for row in read(table(tmp_path / "a.csv", "architecture", CELL), "nb201")] == [
        "nb201"
    ]
    path = table(tmp_path / "b.csv", "space,architecture", f",{CELL}", "conv,{}")
    assert [row.architecture.space for row in read(path, "nb201")] == ["nb201", "conv"]


def test_a_spreadsheets_mark_at_the_start_is_not_part_of_the_first_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(f"\ufeffarchitecture\r\n{CELL}\r\n".encode())
    assert len(read(path, "nb201")) == 1


def test_what_pick_writes_says_its_space_and_shape_itself(tmp_path):
    written = json.dumps({"space": "mlp", "input_shape": [7], "num_classes": 3, "params": {"depth": 2}})
    quoted = written.replace('"', '""')
    (row,) = read(table(tmp_path / "a.csv", "architecture", f'"{quoted}"'), "conv")
    assert (row.architecture.space, row.architecture.input_shape) == ("mlp", (7,))


def test_a_row_may_name_a_network(tmp_path):
    path = table(tmp_path / "a.csv", "space,architecture,input_shape", "nb201,nb201-0,", "nb201,nb201-0,3x16x16")
    rows = read_architectures(path, None)
    assert [row.architecture.input_shape for row in rows] == [(3, 32, 32), (3, 16, 16)]
    assert rows[0].architecture.params == read_architecture("nb201-0", None, None, None, tmp_path).params
    other = table(tmp_path / "b.csv", "space,architecture", "conv,nb201-0")
    assert refusal(other).endswith("line 2: expected --space nb201, or none, with the network 'nb201-0'; got 'conv'")


def test_wrong_rows_are_named_together_by_their_lines(tmp_path):
    path = table(
        tmp_path / "a.csv", "space,architecture", "conv,{}", "conv,resnet", "cube,{}", f"nb201,{CELL}", ",{}", "conv,"
    )
    told = refusal(path)
    assert told.startswith(f"4 rows of {path} are wrong: line 3: expected JSON of parameters or the name of a netw")
    assert "; line 4: no 'cube' in search_spaces; there are ['conv', " in told
    assert told.endswith("; line 6: no value in the column 'space'; line 7: no value in the column 'architecture'")
    many = table(tmp_path / "b.csv", "architecture", *["|none~0|"] * 9)
    told = refusal(many, "nb201")
    assert f"9 rows of {many} are wrong: lines 2, 3, 4, 5, 6 and 4 more: expected a cell like" in told


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["space,cell", "conv,{}"], "expected a column 'architecture' in {path}; there are ['space', 'cell']"),
        (["architecture", "{}"], "expected a column 'space' in {path}, or --space; there are ['architecture']"),
        (
            ["space,architecture,space", "conv,{},conv"],
            "expected each column once in {path}; there are several ['space']",
        ),
        (
            ["space;architecture", 'conv;"{""depth"": 2, ""width"": 8}"'],
            "expected commas between the columns of {path}; got semicolons: 'space;architecture'",
        ),
        (["space\tarchitecture"], "expected commas between the columns of {path}; got tabs: 'space\\tarchitecture'"),
        (["space,architecture"], "expected one architecture or more in {path}; got none"),
        ([""], "expected a column 'architecture' in {path}; there are []"),
        (["space,architecture", "conv,{},5"], "1 row of {path} is wrong: line 2: expected 2 values; got 3"),
        (
            ["space,architecture", 'conv,"{}'],
            "expected a CSV file of architectures at {path}; cannot read it: unexpected end of data",
        ),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, lines, message):
    path = table(tmp_path / "a.csv", *lines)
    assert refusal(path) == message.format(path=path)


def test_no_file_at_all(tmp_path):
    assert "there is no such path" in refusal(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    assert "cannot read it" in refusal(tmp_path / "bytes.csv")


def test_a_table_is_written_whole_and_reads_back(tmp_path):
    path = tmp_path / "new" / "out.csv"
    write_table(path, [{"a": 'x,"y"\nz', "b": 1.5}, {"a": "", "c": 1e-7}])
    with path.open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [
            {"a": 'x,"y"\nz', "b": "1.5", "c": ""},
            {"a": "", "b": "", "c": "1e-07"},
        ]

    def broken():
        yield {"a": 1}
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_table(path, broken())
    assert len(path.read_text().splitlines()) == 4


# What the networks are for.


def shapes_of(path, *lines, header="space,architecture,input_shape,classes", shape=None, classes=None):
    rows = read_architectures(table(path, header, *lines), None, shape, classes)
    return [(row.architecture.input_shape, row.architecture.num_classes) for row in rows]


def test_shapes_may_differ_from_row_to_row(tmp_path):
    lines = ("conv,{},3x32x32,10", 'conv,{},"1,8,8",2', 'conv,{},"[3, 16, 16]",5', "mlp,{},446,30")
    assert shapes_of(tmp_path / "a.csv", *lines) == [
        ((3, 32, 32), 10),
        ((1, 8, 8), 2),
        ((3, 16, 16), 5),
        ((446,), 30),
    ]


def test_a_row_beats_the_flag_and_the_flag_the_usual_task(tmp_path):
    lines = ("conv,{},3x32x32,", "conv,{},,7", f"nb201,{CELL},,")
    found = shapes_of(tmp_path / "a.csv", *lines, shape=(1, 8, 8), classes=4)
    assert found == [((3, 32, 32), 4), ((1, 8, 8), 7), ((1, 8, 8), 4)]
    assert shapes_of(tmp_path / "b.csv", f"nb201,{CELL},,", f"nb201,{CELL},,100") == [
        ((3, 32, 32), 10),
        ((3, 32, 32), 100),
    ]


@pytest.mark.parametrize(
    ("header", "lines", "options", "told"),
    [
        (
            "space,architecture",
            ["conv,{}", "conv,{}", f"nb201,{CELL}", "mlp,{}"],
            {},
            "; line 5: expected columns 'input_shape' and 'classes', or --input-shape --classes: a network of",
        ),
        (
            "space,architecture",
            ["conv,{}"],
            {"shape": (1, 8, 8)},
            "line 2: expected a column 'classes', or --classes: ",
        ),
        (
            "space,architecture",
            ["conv,{}"],
            {"classes": 9},
            "line 2: expected a column 'input_shape', or --input-shape: ",
        ),
        (
            "space,architecture,input_shape,classes",
            ["conv,{},big,3"],
            {},
            "line 2: expected whole numbers as input_shape",
        ),
        (
            "space,architecture,input_shape,classes",
            ["conv,{},1x8x8,two"],
            {},
            "line 2: expected a whole number as classes",
        ),
        ("space,architecture,input_shape,classes", ["conv,{},446,3"], {}, r"line 2: expected images"),
        ("space,architecture,input_shape,classes", ["conv,{},0x8x8,3"], {}, "line 2: expected whole numbers from 1"),
    ],
)
def test_a_task_that_is_not_known_is_asked_for_by_name(tmp_path, header, lines, options, told):
    with pytest.raises(ValueError, match="wrong") as caught:
        shapes_of(tmp_path / "a.csv", *lines, header=header, **options)
    assert told in str(caught.value)
    assert ("wrong: lines 2, 3: expected columns 'input_shape'" in str(caught.value)) == (
        not options and len(lines) > 1
    )


def test_what_pick_writes_needs_no_column_for_its_task(tmp_path):
    written = json.dumps({"space": "mlp", "input_shape": [7], "num_classes": 3, "params": {"depth": 2}})
    quoted = written.replace('"', '""')
    assert shapes_of(tmp_path / "a.csv", f'conv,"{quoted}"', header="space,architecture") == [((7,), 3)]
    assert shapes_of(tmp_path / "b.csv", f'conv,"{quoted}",3x32x32,9') == [((7,), 3)]


def test_what_a_table_is_for_is_said(tmp_path):
    path = table(tmp_path / "a.csv", "space,architecture", f"nb201,{CELL}", f"nb201,{CELL}")
    assert tasks_of(read_architectures(path, None)) == "2 rows of nb201 for 3x32x32, 10 classes"
