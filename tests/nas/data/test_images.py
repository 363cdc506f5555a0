"""Folders of images: what is read, what is said, and what is refused by name."""

from __future__ import annotations

import io
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from nas.records import Source
from nas.records import load_records
from nas.records import split
from tests.images_and_signals import pixels
from tests.images_and_signals import write_image_folder

ORIENTATIONS = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, 1),
}


def load(folder, **given):
    return load_records(Source("images", folder, **given))


def refused(folder, *words, **given):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        load(folder, **given)
    assert all(word in str(caught.value) for word in words), caught.value


def save(folder, name, image, **more):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **more)
    return path


def test_a_folder_per_class_is_read_pixel_by_pixel(tmp_path):
    written = write_image_folder(tmp_path, counts=(3, 5))
    records = load(tmp_path)
    assert records.classes == ("cat", "dog")
    assert records.labels.tolist() == [0] * 3 + [1] * 5
    assert records.names.tolist() == sorted(written)
    assert (records.features.dtype, records.features.shape) == (np.uint8, (8, 3, 10, 8))
    for features, name in zip(records.features, records.names, strict=True):
        assert np.array_equal(features.transpose(1, 2, 0), written[name])
    assert records.held_out is None
    assert records.notes == ()
    # What an exported network is given: the image as it is decoded.
    assert np.array_equal(records.arrangement.apply(written["dog/002.png"][np.newaxis])[0], records.features[5])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".bmp", ".webp", ".gif", ".tif"])
def test_every_format_is_read_and_grey_stays_grey(suffix, tmp_path):
    written = write_image_folder(tmp_path, counts=(2, 2), mode="L", suffix=suffix)
    records = load(tmp_path)
    if suffix == ".webp":  # which has no grey
        assert records.features.shape == (4, 3, 10, 8)
        return
    assert records.features.shape == (4, 1, 10, 8)
    assert records.arrangement.shape == (10, 8)
    exact = suffix in (".png", ".bmp", ".gif", ".tif")
    expected = np.stack([written[name] for name in records.names])[:, np.newaxis]
    assert np.abs(records.features.astype(int) - expected).max() <= (0 if exact else 40)


@pytest.mark.parametrize(("test", "val"), [("test", None), ("test", "val"), ("Testing", "valid")])
def test_parts_are_the_official_test_set_and_the_rest(test, val, tmp_path):
    parts = ("train", *([val] if val else []), test)
    write_image_folder(tmp_path, counts=(20, 22), parts=parts)
    records = load(tmp_path)
    assert records.names[records.held_out].tolist()[0] == f"{test}/cat/000.png"
    assert (records.held_out.sum(), len(records)) == (42, 42 * len(parts))
    assert any("validation images join" in note for note in records.notes) == (val is not None)
    sets = split(records, seed=0)
    assert len(sets.test) == 42
    assert all(name.startswith(test) for name in sets.test.names)
    assert not any(name.startswith(test) for name in sets.members.names)


def test_a_test_folder_of_its_own(tmp_path):
    write_image_folder(tmp_path / "mine", counts=(4, 4))
    write_image_folder(tmp_path / "other", counts=(2, 3), side=(10, 8))
    records = load(tmp_path / "mine", test_path=tmp_path / "other")
    assert records.names[records.held_out].tolist() == [f"other/{name}" for name in (
        "cat/000.png", "cat/001.png", "dog/000.png", "dog/001.png", "dog/002.png")]  # fmt: skip
    save(tmp_path / "other", "eel/0.png", pixels([0], 10, 8, 3)[0])
    refused(tmp_path / "mine", "['cat', 'dog']; got ['eel']", test_path=tmp_path / "other")
    write_image_folder(tmp_path / "parts", parts=("train", "test"))
    refused(tmp_path / "parts", "expected no test folder beside --test-path", test_path=tmp_path / "mine")


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bus", "train", "car/old"):
        save(tmp_path, f"{name}/0.png", pixels([1], 8, 8)[0])
    assert load(tmp_path).classes == ("bus", "car", "train")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: save(folder, "0.png", pixels([0], 8, 8)[0]), ["a folder per class", "holds ['0.png']"]),
        (lambda folder: save(folder, "cat/0.png", pixels([0], 8, 8)[0]), ["two classes or more", "holds ['cat']"]),
        (lambda folder: write_image_folder(folder, parts=("test",)), ["there is no train folder"]),
        (lambda folder: write_image_folder(folder, parts=("train", "more")), ["only train, val and test", "'more'"]),
        (lambda folder: write_image_folder(folder, parts=("val", "valid", "train")), ["only train, val and test"]),
        (lambda folder: [write_image_folder(folder), (folder / "eel").mkdir()], [".webp", "eel is empty"]),
        (lambda folder: [write_image_folder(folder, parts=("train",)),
                         save(folder, "test/0.png", pixels([0], 10, 8, 3)[0])], ["two classes or more", "/test"]),
    ],
)  # fmt: skip
def test_another_layout_is_refused_with_what_was_expected(make, words, tmp_path):
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    refused(tmp_path / "data", *words)


def test_sizes_must_agree_or_be_given(tmp_path):
    write_image_folder(tmp_path, counts=(2, 2))
    save(tmp_path, "dog/wide.png", pixels([1], 10, 30, 3)[0])
    refused(tmp_path, "--image-size HEIGHT,WIDTH", "10 x 8 (4, such as cat/000.png), 10 x 30 (1, such as dog/wide.png)")
    records = load(tmp_path, image_size=(10, 8))
    assert records.features.shape == (5, 3, 10, 8)
    assert records.notes == ("1 of 5 images were brought to 10 x 8 (height x width) by bilinear interpolation",)
    wide = Image.open(tmp_path / "dog" / "wide.png").resize((8, 10), Image.Resampling.BILINEAR)
    assert np.array_equal(records.features[4].transpose(1, 2, 0), np.asarray(wide))


def test_grey_among_colour_and_transparency_are_said(tmp_path):
    write_image_folder(tmp_path, counts=(2, 2))
    grey = save(tmp_path, "cat/grey.png", pixels([0], 10, 8)[0])
    clear = pixels([0], 10, 8, 4)[0]
    save(tmp_path, "dog/clear.png", clear)
    records = load(tmp_path)
    assert records.features.shape == (6, 3, 10, 8)
    assert records.notes == (
        "1 of 6 images are grey and were given three channels, as the others have",
        "1 of 6 images lost their transparency: it says nothing here",
    )
    by_name = dict(zip(records.names, records.features, strict=True))
    assert np.array_equal(by_name["dog/clear.png"].transpose(1, 2, 0), clear[..., :3])
    assert all(np.array_equal(channel, np.asarray(Image.open(grey))) for channel in by_name["cat/grey.png"])


def test_grey_with_transparency_alone_is_one_channel(tmp_path):
    write_image_folder(tmp_path, counts=(2, 2), mode="LA")
    assert load(tmp_path).features.shape == (4, 1, 10, 8)


def test_palettes_are_colours(tmp_path):
    write_image_folder(tmp_path, counts=(2, 1))
    image = Image.fromarray(pixels([1], 10, 8, 3)[0]).convert("P", palette=Image.Palette.ADAPTIVE)
    save(tmp_path, "dog/x.gif", image)
    assert np.array_equal(load(tmp_path).features[3].transpose(1, 2, 0), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_are_turned_upright(orientation, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((16, 32), np.uint8)
    stored[:8, :16] = 200  # bright in the upper left, in blocks of JPEG
    shown = ORIENTATIONS[orientation](stored)
    for name in ("cat", "dog"):
        save(tmp_path, f"{name}/0{suffix}", stored, exif=exif)
    records = load(tmp_path)
    assert records.features.shape[2:] == shown.shape
    assert np.abs(records.features[0, 0].astype(int) - shown).max() < 10
    assert records.notes == ("2 of 2 images were turned upright by their EXIF orientation",)


def test_the_first_frame_counts(tmp_path):
    write_image_folder(tmp_path, counts=(1, 1), mode="L", suffix=".gif")
    frames = [Image.fromarray(frame) for frame in pixels([0, 1, 2], 10, 8)]
    save(tmp_path, "dog/moving.gif", frames[0], save_all=True, append_images=frames[1:])
    records = load(tmp_path)
    assert "1 of 3 images have several frames, of which the first was taken" in records.notes
    assert np.array_equal(records.features[2, 0], np.asarray(frames[0]))


def test_what_is_no_image_is_left_out_and_counted(tmp_path):
    write_image_folder(tmp_path, counts=(2, 2))
    for name in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "cat/._000.png", "readme.txt", "cat/notes.txt"):
        (tmp_path / name).write_text("no image")
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    records = load(tmp_path)
    assert len(records) == 4
    assert records.notes == (
        "left out: 6 hidden files and folders",
        "left out: 1 files beside the class folders",
        "left out: 1 files that are no images",
    )


def test_folders_in_class_folders_are_searched(tmp_path):
    for name in ("cat/b.png", "cat/a/2.png", "cat/a/1.png", "dog/1.png"):
        save(tmp_path, name, pixels([1], 8, 8)[0])
    assert load(tmp_path).names.tolist() == ["cat/b.png", "cat/a/1.png", "cat/a/2.png", "dog/1.png"]


def test_links_are_followed_inside_the_folder_and_never_out_of_it(tmp_path):
    write_image_folder(tmp_path / "data", counts=(2, 2))
    secret = save(tmp_path, "elsewhere/secret.png", pixels([1], 10, 8, 3)[0])
    (tmp_path / "data" / "cat" / "inside.png").symlink_to(tmp_path / "data" / "dog" / "001.png")
    (tmp_path / "data" / "cat" / "outside.png").symlink_to(secret)
    (tmp_path / "data" / "eel").symlink_to(secret.parent)
    (tmp_path / "data" / "dog" / "again").symlink_to(tmp_path / "data", target_is_directory=True)
    records = load(tmp_path / "data")
    assert records.names.tolist() == ["cat/000.png", "cat/001.png", "cat/inside.png", "dog/000.png", "dog/001.png"]
    assert "left out: 2 links that lead out of the folder" in records.notes
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert len(load(tmp_path / "link")) == 5


# Broken and hostile images


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height):
    """A few bytes that claim to be an image of any size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def encoded(**more):
    stream = io.BytesIO()
    Image.fromarray(pixels([0], 10, 8, 3)[0]).save(stream, **more)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["WEBP) at", "it is none"]),
        (b"no image", ["WEBP) at", "it is none"]),
        (encoded(format="PNG")[:-60], ["cannot read it"]),
        (encoded(format="JPEG")[:-60], ["cannot read it: Truncated"]),
        (encoded(format="JPEG")[:400], ["cannot read it"]),
        (png_of(20_000, 20_000), ["decompression bomb"]),
        (png_of(10_000, 9_000), ["decompression bomb"]),
        (png_of(2**31 - 1, 2**31 - 1), ["cannot read it"]),
        (encoded(format="PPM"), ["WEBP) at", "it is none"]),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_broken_image_is_named_in_one_line(content, words, suffix, tmp_path):
    write_image_folder(tmp_path, counts=(2, 2))
    (tmp_path / "dog" / f"bad{suffix}").write_bytes(content)
    refused(tmp_path, f"dog/bad{suffix}", "expected an image", *words)
    refused(tmp_path, f"dog/bad{suffix}", image_size=(10, 8))


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_eight_bits_are_refused(mode, tmp_path):
    write_image_folder(tmp_path, counts=(2, 2), mode="L", suffix=".tif")
    image = Image.fromarray(np.full((10, 8), 5000, {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    save(tmp_path, "dog/deep.tif", image)
    refused(tmp_path, "deep.tif", mode, "more than 8 bits")


def test_images_that_do_not_fit_into_memory_are_refused_before_any_is_decoded(tmp_path, monkeypatch):
    write_image_folder(tmp_path, counts=(2, 2))
    monkeypatch.setattr("nas.base.sizes.ALWAYS", 900)
    monkeypatch.setattr("psutil.virtual_memory", type("Free", (), {"available": 900}))
    monkeypatch.setattr("PIL.ImageOps.exif_transpose", lambda image: pytest.fail("decoded"))
    refused(tmp_path, "4 images of 10 x 8 takes")
    refused(tmp_path, "at most 16,777,216 numbers", image_size=(10_000, 10_000))


def test_settings_of_other_data_sets_are_refused(tmp_path):
    write_image_folder(tmp_path, counts=(2, 2))
    refused(tmp_path, "no --layout for the data set 'images'", layout="channels-last")
    refused(tmp_path, "no --record-shape", record_shape=(3, 10, 8))
    refused(tmp_path, "groups in column 'person'", group_column="person")
    shutil.rmtree(tmp_path / "cat")
    refused(tmp_path, "two classes or more")
