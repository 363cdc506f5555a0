"""Well-known layouts of tables, rebuilt small with their quirks: each loads with one command."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nas.preprocessing.columns import MISSING_LEVEL
from nas.records import Records
from nas.records import Source
from nas.records import load_records
from nas.records import split
from tests.real_data import write_adult

SHARED = Path(__file__).resolve().parents[4].parent / "shared" / "data"


def loaded(path: Path, **more) -> Records:
    """The records of a file, after they were split: five sets are there."""
    records = load_records(Source("parquet" if path.suffix == ".parquet" else "csv", path, **more))
    parts = split(records, seed=0)
    assert np.isfinite(parts.test.features).all()
    return records


def said(records: Records, *words: str) -> bool:
    return any(all(word in note for word in words) for note in records.notes)


def searched(nas, records_path, folder, *more):
    """A tiny search of a file, by one command."""
    few = ("--members", "30", "--references", "2", "--trials", "2", "--epochs", "1", "--workers", "1")
    runs = ("--runs", folder, "--name", "tiny")
    result = nas("search", "--dataset", "csv", "--data-path", records_path, *few, *runs, *more)
    assert result.code == 0, result.err
    return result


def iris(rng):
    species = np.repeat(["Iris-setosa", "Iris-versicolor", "Iris-virginica"], 50)
    centre = np.repeat([[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.5, 2.0]], 50, axis=0)
    sizes = np.round(centre + rng.normal(0, 0.4, centre.shape), 1)
    return [",".join([*map(str, row), name]) for row, name in zip(sizes, species, strict=True)]


def test_iris_as_kaggle_has_it(tmp_path):
    lines = [f"{number},{line}" for number, line in enumerate(iris(np.random.default_rng(0)), start=1)]
    header = "Id,SepalLengthCm,SepalWidthCm,PetalLengthCm,PetalWidthCm,Species"
    (tmp_path / "Iris.csv").write_text("\n".join([header, *lines]))
    records = loaded(tmp_path / "Iris.csv", label_column="Species")
    assert [column.name for column in records.columns] == header.split(",")[1:5]
    assert records.classes == ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
    assert said(records, "numbers of the records", "'Id'")


def test_iris_as_uci_has_it_without_a_header(tmp_path):
    path = tmp_path / "iris.data"
    path.write_text("\n".join(iris(np.random.default_rng(0))) + "\n\n")
    records = loaded(path, label_column="5")
    assert records.features.shape == (150, 4)
    assert said(records, "no header", "'1' to '5'")
    with pytest.raises(ValueError, match=r"one column 'label' in .*perhaps --label-column '5'; without a header"):
        load_records(Source("csv", path))
    with pytest.raises(ValueError, match="'Iris-setosa'"):
        load_records(Source("csv", path, label_column="species"))


def test_wine_quality_divided_by_semicolons(tmp_path, nas, in_process):
    rng = np.random.default_rng(0)
    quality = rng.permutation(np.repeat([3, 4, 5, 6, 7, 8], [10, 20, 90, 80, 30, 12]))
    lines = [f"{rng.normal(8, 1):.1f};{rng.normal(0.5, 0.1):.2f};{q + rng.normal():.1f};{q}" for q in quality]
    (tmp_path / "wine.csv").write_text("\n".join(['"fixed acidity";"pH";"alcohol";"quality"', *lines]))
    records = loaded(tmp_path / "wine.csv", label_column="quality")
    assert [column.name for column in records.columns] == ["fixed acidity", "pH", "alcohol"]
    assert records.classes == tuple("345678")
    searched(nas, tmp_path / "wine.csv", tmp_path / "runs", "--label-column", "quality", "--space", "mlp")
    with pytest.raises(ValueError, match="perhaps --label-column 'quality'"):
        load_records(Source("csv", tmp_path / "wine.csv"))


def adult(rng, count, dot=""):
    for _ in range(count):
        work = rng.choice(["Private", "State-gov", "?"], p=[0.7, 0.2, 0.1])
        gain = rng.choice([0, 0, 0, 2174, 7688, 99999])
        income = rng.choice(["<=50K", ">50K"])
        yield f"{rng.integers(17, 90)}, {work}, {rng.integers(20_000, 30_000)}, {gain}, {income}{dot}"


def test_adult_as_uci_has_it_with_its_test_file(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "adult.data").write_text("\n".join(adult(rng, 300)) + "\n\n")
    (tmp_path / "adult.test").write_text("\n".join(["|1x3 Cross validator", *adult(rng, 100, ".")]) + "\n\n")
    records = loaded(tmp_path / "adult.data", label_column="5", test_path=tmp_path / "adult.test")
    assert records.classes == ("<=50K", ">50K")
    assert records.columns[1].levels == ("Private", "State-gov", MISSING_LEVEL)
    assert records.held_out.sum() == 100
    assert records.rows[[0, 299, 300]].tolist() == [1, 300, 1]
    assert records.names[[0, 300]].tolist() == ["adult.data", "adult.test"]
    assert said(records, "'4' holds 99999")
    assert said(records, "missing values of 400 records: '2' ")


def test_adult_as_it_is(shared_data, tmp_path):
    write_adult(shared_data, tmp_path / "adult.csv")
    records = loaded(tmp_path / "adult.csv", label_column="income")
    assert len(records) == 48_842
    assert records.classes == ("<=50K", ">50K")
    assert len(records.columns) == 14
    assert records.features.shape[1] == 108
    assert said(records, "'workclass' 2799, 'occupation' 2809, 'country' 857")
    assert said(records, "'cap_gain' holds 99999 in 244 records")
    assert records.class_counts.tolist() == [37_155, 11_687]


def test_titanic_with_names_tickets_and_ages_that_are_missing(tmp_path):
    rng = np.random.default_rng(0)
    count = 300
    frame = pd.DataFrame({
        "PassengerId": np.arange(1, count + 1),
        "Survived": rng.integers(0, 2, count),
        "Pclass": rng.integers(1, 4, count),
        "Name": [f"Braund, Mr. Owen {number}" for number in range(count)],
        "Sex": rng.choice(["male", "female"], count),
        "Age": np.where(rng.random(count) < 0.2, np.nan, rng.integers(1, 80, count)),
        "Ticket": [f"A/5 {number}" if number % 4 == 0 else str(1000 + number // 2) for number in range(count)],
        "Fare": rng.exponential(30, count).round(4),
        "Cabin": [f"C{number}" if number % 5 == 0 else None for number in range(count)],
        "Embarked": rng.choice(["S", "C", "Q", None], count, p=[0.7, 0.2, 0.09, 0.01]),
    })  # fmt: skip
    frame.to_csv(tmp_path / "titanic.csv", index=False)
    records = loaded(tmp_path / "titanic.csv", label_column="Survived")
    kept = {column.name: column for column in records.columns}
    assert list(kept) == ["Pclass", "Sex", "Age", "Fare", "Embarked"]
    assert kept["Age"].indicator
    assert MISSING_LEVEL in kept["Embarked"].levels
    assert said(records, "names or free text", "'Name', 'Ticket', 'Cabin'")
    assert said(records, "'PassengerId'")


def heart(rng, count):
    for _ in range(count):
        ca = rng.choice(["0.0", "1.0", "?"], p=[0.6, 0.3, 0.1])
        yield f"{rng.integers(29, 78)}.0,{rng.integers(0, 2)}.0,{rng.integers(94, 200)}.0,{ca},{rng.integers(0, 5)}"


def test_heart_disease_of_uci_without_a_header(tmp_path):
    (tmp_path / "processed.cleveland.data").write_text("\n".join(heart(np.random.default_rng(0), 300)))
    records = loaded(tmp_path / "processed.cleveland.data", label_column="5")
    assert records.classes == tuple("01234")
    assert [column.kind for column in records.columns] == ["number"] * 4
    assert records.columns[3].indicator


def test_heart_disease_with_both_labels_warns_of_the_other(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{line},{int(line[-1] != '0')}" for line in heart(rng, 300)]
    (tmp_path / "heart.csv").write_text("\n".join(["age,sex,trestbps,ca,num,target", *lines]))
    records = loaded(tmp_path / "heart.csv", label_column="target")
    assert said(records, "warning", "'target'", "'num'", "--drop-column num")


def pixels(rng, count):
    return [",".join(map(str, [number % 10, *rng.integers(0, 256, 784)])) for number in range(count)]


def test_mnist_as_kaggle_has_it(tmp_path, nas, in_process):
    path = tmp_path / "train.csv"
    header = ",".join(["label", *(f"pixel{number}" for number in range(784))])
    path.write_text("\n".join([header, *pixels(np.random.default_rng(0), 120)]))
    assert said(loaded(path), "--record-shape 1,28,28")
    records = loaded(path, record_shape=(1, 28, 28))
    assert (records.features.dtype, records.input_shape) == (np.uint8, (1, 28, 28))
    first = np.array(path.read_text().split("\n")[1].split(",")[1:], int)
    assert np.array_equal(records.features[0].ravel(), first)
    assert records.columns == ()
    assert records.arrangement.shape == (784,)
    searched(nas, path, tmp_path / "runs", "--record-shape", "1,28,28", "--space", "mlp")
    assert np.array_equal(records.arrangement.apply(first[None])[0], records.features[0])


def test_mnist_without_a_header_and_with_an_index_of_pandas(tmp_path):
    lines = pixels(np.random.default_rng(0), 120)
    (tmp_path / "mnist_train.csv").write_text("\n".join(lines))
    bare = loaded(tmp_path / "mnist_train.csv", label_column="1", record_shape=(1, 28, 28))
    header = ",".join(["", "label", *(f"{row}x{column}" for row in range(1, 29) for column in range(1, 29))])
    (tmp_path / "index.csv").write_text("\n".join([header, *(f"{row},{line}" for row, line in enumerate(lines))]))
    indexed = loaded(tmp_path / "index.csv", record_shape=(1, 28, 28))
    assert np.array_equal(bare.features, indexed.features)


def test_a_wide_table_of_a_sensor(tmp_path):
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(120, 3, 16)).round(3)
    names = [f"{axis}_{time}" for axis in "xyz" for time in range(16)]
    frame = pd.DataFrame(signals.reshape(120, -1), columns=names).assign(activity=np.tile(["walk", "sit"], 60))
    frame.to_csv(tmp_path / "sensor.csv", index=False)
    assert loaded(tmp_path / "sensor.csv", label_column="activity").features.shape == (120, 48)
    records = loaded(tmp_path / "sensor.csv", label_column="activity", record_shape=(3, 16))
    assert records.input_shape == (3, 1, 16)
    assert np.array_equal(records.features[:, :, 0], signals.astype(np.float32))
    swapped = frame[[f"{axis}_{time}" for time in range(16) for axis in "xyz"] + ["activity"]]
    swapped.to_csv(tmp_path / "swapped.csv", index=False)
    again = loaded(tmp_path / "swapped.csv", label_column="activity", record_shape=(3, 16), layout="channels-last")
    assert np.array_equal(again.features, records.features)


def test_parquet_with_categories_dates_truths_and_an_index(tmp_path):
    rng = np.random.default_rng(0)
    count = 200
    frame = pd.DataFrame({
        "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.permutation(count), unit="h"),
        "colour": pd.Categorical(rng.choice(["red", "blue"], count)),
        "member": rng.random(count) < 0.5,
        "age": pd.array(np.where(rng.random(count) < 0.1, None, rng.integers(1, 99, count)), dtype="Int64"),
        "label": rng.choice(["yes", "no"], count),
    }, index=rng.permutation(count))  # fmt: skip
    frame.to_parquet(tmp_path / "people.parquet")
    records = loaded(tmp_path / "people.parquet")
    assert [column.kind for column in records.columns] == ["date", "category", "boolean", "number"]
    assert records.columns[3].indicator
    assert said(records, "__index_level_0__")
    frame.to_csv(tmp_path / "people.csv", index=False)
    assert np.allclose(loaded(tmp_path / "people.csv").features, records.features, equal_nan=True)


@pytest.mark.parametrize("name", ["x.csv.gz", "tabs.csv", "bars.csv", "utf16.csv", "latin.csv"])
def test_other_ways_to_write_the_same_table(name, tmp_path):
    rng = np.random.default_rng(0)
    towns, labels = rng.choice(["Köln", "Bonn"], 60), rng.choice(["a", "b"], 60)
    frame = pd.DataFrame({"size": rng.normal(size=60).round(3), "town": towns, "label": labels})
    frame.to_csv(tmp_path / "plain.csv", index=False)
    text = (tmp_path / "plain.csv").read_text()
    content = {
        "x.csv.gz": gzip.compress(text.encode()),
        "tabs.csv": text.replace(",", "\t").encode(),
        "bars.csv": text.replace(",", "|").encode(),
        "utf16.csv": text.encode("utf-16"),
        "latin.csv": text.encode("latin-1"),
    }[name]
    (tmp_path / name).write_bytes(content)
    plain, other = loaded(tmp_path / "plain.csv"), loaded(tmp_path / name)
    assert np.array_equal(plain.features, other.features)
    assert other.columns == plain.columns
    assert said(other, "Latin-1") == (name == "latin.csv")
