"""From tables to records: labels, groups, files of tests, copies, images, and what is said."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nas.base import plugins
from nas.preprocessing.columns import Column
from nas.preprocessing.columns import encoded
from nas.preprocessing.columns import from_plain
from nas.preprocessing.columns import to_plain
from nas.preprocessing.preprocessing import unchanged
from nas.records import SETS
from nas.records import Source
from nas.records import load_records
from nas.records import split

RNG = np.random.default_rng(0)


def frame_of(count=200, **more):
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(count, 3)).round(6)
    frame = pd.DataFrame(numbers, columns=list("uvw"))
    for name, values in more.items():
        frame[name] = values
    frame["label"] = np.where(numbers.sum(axis=1) + rng.normal(0, 0.5, count) > 0, "yes", "no")
    return frame


@pytest.fixture
def load(tmp_path):
    def one(frame, test=None, name="x.csv", **more):
        frame.to_csv(tmp_path / name, index=False)
        if test is not None:
            test.to_csv(tmp_path / "test.csv", index=False)
            more["test_path"] = tmp_path / "test.csv"
        return load_records(Source("csv", tmp_path / name, **more))

    return one


# Columns that are no features


def test_records_written_twice_under_an_index_lie_in_one_set(tmp_path):
    frame = frame_of(250)
    pd.concat([frame, frame], ignore_index=True).to_csv(tmp_path / "x.csv")
    records = load_records(Source("csv", tmp_path / "x.csv"))
    assert [column.name for column in records.columns] == ["u", "v", "w"]
    sets_share_nothing(records)


def test_records_written_twice_under_other_ids_and_times_lie_in_one_set(load):
    frame = frame_of(250)
    both = pd.concat([frame, frame], ignore_index=True)
    both.insert(0, "identity", RNG.permutation(500) + 1000)
    both.insert(1, "time", np.sort(RNG.random(500)))
    records = load(both)
    assert records.features.shape == (500, 5)
    assert any("250 records equal an earlier one but for 'identity', 'time'" in note for note in records.notes)
    sets_share_nothing(records)


def sets_share_nothing(records):
    parts = split(records, seed=0)
    seen = [set((getattr(parts, name).rows - 1) % 250) for name in SETS]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 250


def test_where_little_tells_records_apart_none_are_copies(load):
    frame = frame_of(300, identity=RNG.permutation(300), sex=np.arange(300) % 2)[["identity", "sex", "label"]]
    records = load(frame)
    assert records.copies is None
    split(records, seed=0)


def test_a_table_of_nothing_but_numbers_of_records_is_refused(load):
    frame = frame_of(30, number=np.arange(30))[["number", "label"]]
    with pytest.raises(ValueError, match=r"a column to learn from in .*numbers of the records: 'number'"):
        load(frame)


def test_columns_that_are_dropped_are_not_read(load):
    frame = frame_of(broken=["x", *range(199)])
    with pytest.raises(ValueError, match="--drop-column broken"):
        load(frame)
    assert [column.name for column in load(frame, drop_columns=("broken", "v")).columns] == ["u", "w"]
    with pytest.raises(ValueError, match="expected one column 'z'"):
        load(frame, drop_columns=("z",))


# Labels and groups


def test_classes_are_in_the_order_of_their_values(load):
    frame = frame_of(60)
    frame["label"] = np.arange(60) % 12
    assert load(frame).classes == tuple(map(str, range(12)))
    frame["label"] = [f"{'0' if row else ''}{row % 12}" for row in range(60)]
    assert len(load(frame).classes) == 13  # 0 and 00 are two texts


def test_a_label_or_group_that_is_missing_is_named_by_its_row(load):
    frame = frame_of(60, person=["p", None] * 30)
    with pytest.raises(ValueError, match=r"value in column 'person' in row 2 \(line 3\) of .*x.csv; it is missing"):
        load(frame, group_column="person")
    frame.loc[6, "label"] = " "
    with pytest.raises(ValueError, match=r"value in column 'label' in row 7 \(line 8\)"):
        load(frame)


def test_groups_are_those_of_the_column(load):
    person = RNG.permutation(np.repeat(np.arange(50), 4))
    records = load(frame_of(person=[f"p{number}" for number in person]), group_column="person")
    assert [column.name for column in records.columns] == ["u", "v", "w"]
    assert len({(group, number) for group, number in zip(records.groups, person, strict=True)}) == 50


# Two files


def test_a_test_file_is_the_official_test_part_whatever_the_order_of_its_columns(load):
    frame = frame_of(town=RNG.choice(["Bonn", "Ulm"], 200))
    other = frame_of(50, town=["Ulm", "Wien"] * 25)[["label", "w", "town", "v", "u"]]
    other["unused"] = 1
    records = load(frame, other)
    assert records.columns[3].levels == ("Bonn", "Ulm", "Wien")
    assert np.array_equal(records.held_out, np.arange(250) >= 200)
    assert np.array_equal(records.features[200:, :3], other[["u", "v", "w"]].to_numpy())
    assert records.rows[[199, 200]].tolist() == [200, 1]
    assert set(records.names[200:]) == {"test.csv"}
    assert set(split(records, seed=0).test.names) == {"test.csv"}


def test_a_number_that_is_missing_in_the_test_file_alone_has_an_indicator(load):
    other = frame_of(50)
    other.loc[3, "v"] = np.nan
    assert load(frame_of(), other).columns[1].indicator


def test_mistakes_in_a_test_file_are_named_with_their_file_and_row(load):
    other = frame_of(50)
    with pytest.raises(ValueError, match=r"one column 'v' in .*test.csv"):
        load(frame_of(), other.drop(columns="v"))
    with pytest.raises(ValueError, match=r"one column 'label' in .*test.csv"):
        load(frame_of(), other.drop(columns="label"))
    other["v"] = other["v"].astype(object)
    other.loc[7, "v"] = "high"
    with pytest.raises(ValueError, match=r"column 'v' in row 8 \(line 9\) of .*test.csv; got 'high'"):
        load(frame_of(), other)


@pytest.mark.parametrize("first", [201, 1, 900])
def test_ids_are_numbers_of_records_however_they_go_on_in_the_test_file(load, first):
    records = load(frame_of(200, number=np.arange(1, 201)), frame_of(50, number=np.arange(first, first + 50)))
    assert [column.name for column in records.columns] == ["u", "v", "w"]


# Precision and missing numbers


def error_behind(features, labels):
    """Share of wrong classes of a least-squares classifier, on its own records."""
    given = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    weights = np.linalg.lstsq(given, 2.0 * labels - 1, rcond=None)[0]
    return float(((given @ weights > 0) != labels).mean())


def test_a_time_since_1970_keeps_its_digits(load):
    seconds = RNG.permutation(np.linspace(0, 60, 400))
    frame = pd.DataFrame(
        {"timestamp": 1.7e9 + seconds, "label": np.where(seconds + RNG.normal(0, 1, 400) > 30, "b", "a")}
    )
    records = load(frame)
    (column,) = records.columns
    assert 1.7e9 < column.origin < 1.7e9 + 60
    assert records.features[:, 0] + column.origin == pytest.approx(1.7e9 + seconds, abs=1e-6)
    parts = split(records, seed=0)
    assert error_behind(parts.members.features, parts.members.labels) < 0.05
    # What an exported network is given are the features in single precision.
    single = parts.preprocessing.standardised(encoded(parts.preprocessing.columns, frame).astype(np.float32))
    assert single[parts.members.rows - 1] == pytest.approx(parts.members.features, abs=1e-3)
    # Without the origin a second is lost: float32 there goes by steps of 128.
    assert len(np.unique((1.7e9 + seconds).astype(np.float32))) <= 2


def test_a_missing_number_is_the_mean_of_the_members_and_told(load):
    frame = frame_of()
    frame.loc[::5, "v"] = np.nan
    records = load(frame)
    assert records.columns[1] == Column("v", indicator=True)
    assert np.array_equal(np.flatnonzero(np.isnan(records.features[:, 1])), np.arange(0, 200, 5))
    assert np.array_equal(records.features[:, 2], np.arange(200) % 5 == 0)
    parts = split(records, seed=0)
    fill = np.nanmean(frame["v"].to_numpy()[parts.members.rows - 1])
    assert parts.preprocessing.columns[1].fill == pytest.approx(fill)
    assert any("missing values of 200 records: 'v' 40" in note for note in records.notes)


@pytest.mark.parametrize("transform", ["none", "log", "quantile"])
def test_new_records_become_what_the_sets_hold_by_the_columns_alone(load, transform):
    frame = frame_of(pay=RNG.lognormal(3, 2, 200), town=RNG.choice(["Bonn", "Ulm"], 200), when=RNG.random(200) + 5e8)
    frame["truth"] = RNG.choice(["yes", "no"], 200)
    frame.loc[::7, "pay"] = np.nan
    parts = split(load(frame), seed=0, transform=transform)
    columns = from_plain(to_plain(parts.preprocessing.columns))
    assert columns == parts.preprocessing.columns
    assert [column.transform is not None for column in columns[:5]] == [transform != "none"] * 4 + [False]
    new = parts.preprocessing.standardised(encoded(columns, frame[["truth", "town", "when", "pay", "w", "v", "u"]]))
    for part in (parts.members, parts.test):
        assert new[part.rows - 1] == pytest.approx(part.features, abs=1e-6)


# Reading new records


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_new_records_are_read_without_a_label(tmp_path, kind):
    path = tmp_path / f"new.{kind}"
    frame = pd.DataFrame({"size": [1.5, 2.5], "code": ["1", "2"]})
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    columns = (Column("code", "category", ("1", "2", "x")), Column("size"))
    behind = replace(unchanged((4,), ("01", "None")), columns=columns)
    read = plugins.load("nas.data", kind, "new_records")
    found = read(Source(kind, path), behind)
    assert found.features.tolist() == [[1, 0, 0, 1.5], [0, 1, 0, 2.5]]
    assert (found.places, found.labels) == (("1", "2"), None)
    # Labels are read as training reads them: neither a number nor a missing value is made of them.
    labelled = frame.assign(label=["01", "None"])
    labelled.to_csv(path, index=False) if kind == "csv" else labelled.to_parquet(path)
    assert read(Source(kind, path), behind).labels == ("01", "None")
    partly = frame.assign(label=["01", None])
    partly.to_csv(path, index=False) if kind == "csv" else partly.to_parquet(path)
    found = read(Source(kind, path), behind)
    assert found.labels is None
    assert any("1 of 2 records have no value in column 'label'" in note for note in found.notes)


@pytest.mark.parametrize("index", [False, True])
def test_rows_of_pixels_become_images_again_with_or_without_a_label(tmp_path, index):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 6))
    frame = pd.DataFrame(pixels, columns=[f"pixel{place}" for place in range(6)])
    path = tmp_path / "x.csv"
    frame.assign(label=["a", "b"] * 20).to_csv(path)
    records = load_records(Source("csv", path, record_shape=(1, 2, 3)))
    behind = replace(unchanged((1, 2, 3), ("a", "b")), arrangement=records.arrangement, pixels=True)
    read = plugins.load("nas.data", "csv", "new_records")
    frame.to_csv(path, index=index)
    found = read(Source("csv", path), behind)
    assert found.features.dtype == np.uint8
    assert np.array_equal(found.features, records.features)
    assert found.labels is None
    (frame / 2).to_csv(path, index=index)
    with pytest.raises(ValueError, match=r"expected pixels, whole numbers from 0 to 255, in .*x\.csv; got other"):
        read(Source("csv", path), behind)
    frame.drop(columns="pixel3").to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"expected 6 columns of numbers in .*x\.csv, beside 'label', .* got 5"):
        read(Source("csv", path), behind)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"need pyarrow: pip install 'gecko-nas\[parquet\]'"):
        load_records(Source("parquet", tmp_path / "x.parquet"))


def test_a_parquet_file_that_claims_more_than_memory_is_refused(tmp_path, monkeypatch):
    frame_of(500).to_parquet(tmp_path / "x.parquet")
    monkeypatch.setattr("nas.base.sizes.ALWAYS", 1000)
    monkeypatch.setattr("psutil.virtual_memory", type("Memory", (), {"available": 100_000}))
    with pytest.raises(ValueError, match=r"x.parquet.* takes .*are free"):
        load_records(Source("parquet", tmp_path / "x.parquet"))


# Images in a table


def images_of(count=40, **more):
    pixels = RNG.integers(0, 256, (count, 64))
    frame = pd.DataFrame(pixels, columns=[f"pixel{number}" for number in range(64)])
    return frame.assign(label=np.arange(count) % 2, **more)


def test_rows_of_pixels_become_images_of_bytes(load):
    frame = images_of()
    records = load(frame, record_shape=(1, 8, 8))
    assert records.features.dtype == np.uint8
    assert np.array_equal(records.features.reshape(40, 64), frame.iloc[:, :64])
    frame["pixel0"] += 0.5
    assert load(frame, record_shape=(1, 8, 8)).features.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "shape", "words"),
    [
        ({}, (1, 7, 8), r"expected 56 columns for records of shape \(1, 7, 8\) .*got 64"),
        ({}, (64,), "CHANNELS,HEIGHT,WIDTH or CHANNELS,TIME"),
        ({"pixel3": None}, (1, 8, 8), "finite number in column 'pixel3' in row 1 .*a missing value"),
        ({"pixel3": "x"}, (1, 8, 8), "finite number in column 'pixel3' in row 1 .*'x'"),
    ],
)
def test_rows_that_are_no_images_are_refused(load, change, shape, words):
    with pytest.raises(ValueError, match=words):
        load(images_of().assign(**change), record_shape=shape)


def test_a_number_that_was_never_missing_may_be_missing_in_new_records(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(5, 2, 80), "label": ["a", "b"] * 40})
    frame.to_csv(tmp_path / "x.csv", index=False)
    behind = split(load_records(Source("csv", tmp_path / "x.csv")), seed=0).preprocessing
    (tmp_path / "new.csv").write_text("size,label\n1.5,a\n,b\n")
    found = plugins.load("nas.data", "csv", "new_records")(Source("csv", tmp_path / "new.csv"), behind)
    assert behind.standardised(found.features)[1] == pytest.approx([0], abs=1e-6)
    assert any("1 cells of column 'size' are missing and count as the mean" in note for note in found.notes)


def test_a_column_with_the_classes_is_named_where_no_label_column_is(tmp_path):
    (tmp_path / "new.csv").write_text("size,state,town\n1.5,a,Ulm\n2.5,b,Bonn\n")
    behind = replace(unchanged((1,), ("a", "b")), columns=(Column("size"),))
    found = plugins.load("nas.data", "csv", "new_records")(Source("csv", tmp_path / "new.csv"), behind)
    assert found.labels is None
    assert found.notes == ("column 'state' holds the network's classes: --label-column state counts errors",)


def test_whole_numbers_with_a_point_are_the_same_classes(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=80), "label": rng.integers(0, 2, 80).astype(float)})
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame.assign(label=frame.label.astype(int)).to_csv(tmp_path / "test.csv", index=False)
    records = load_records(Source("csv", tmp_path / "train.csv", test_path=tmp_path / "test.csv"))
    assert records.classes == ("0", "1")
    assert np.array_equal(records.labels[:80], records.labels[80:])


@pytest.mark.parametrize("missing", ["?", "NA", "NaN", ""])
def test_a_missing_label_is_refused_in_whatever_words(tmp_path, missing):
    rows = "".join(f"{number},{number % 2}\n" for number in range(40))
    (tmp_path / "x.csv").write_text(f"size,label\n{rows}1.5,{missing}\n")
    with pytest.raises(ValueError, match=r"expected a value in column 'label' in row 41 .*; it is missing"):
        load_records(Source("csv", tmp_path / "x.csv"))


@pytest.mark.parametrize("day", ["9999-12-31", "1600-12-31"])
def test_dates_beyond_three_centuries_are_dates(tmp_path, day):
    days = pd.date_range("2020-01-01", periods=40).strftime("%Y-%m-%d").tolist()
    rows = "".join(
        f"{text},{place % 2}\n" for place, text in enumerate([*np.random.default_rng(0).permutation(days), day])
    )
    (tmp_path / "x.csv").write_text(f"since,label\n{rows}")
    (column,) = load_records(Source("csv", tmp_path / "x.csv")).columns
    assert column.kind == "date"
