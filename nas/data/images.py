"""A folder of images, one folder per class, or train and test folders with such folders in them."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags
from PIL import Image
from PIL import ImageOps
from PIL import UnidentifiedImageError

from nas.base import sizes
from nas.base.reading import BROKEN
from nas.base.reading import contents
from nas.base.reading import existing
from nas.base.reading import unreadable
from nas.data.shared.layouts import decoded
from nas.data.shared.layouts import refuse_options
from nas.preprocessing.preprocessing import Preprocessing
from nas.records import NewRecords
from nas.records import Records
from nas.records import Source

NEEDS_PATH = True
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What is decoded, whatever a file is called."""
PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "train_set", "training_set"),
    "validation": ("val", "valid", "validation", "val_set", "validation_set"),
    "test": ("test", "testing", "test_set", "testing_set"),
}
PART = re.compile(r"train|test|val")
NOT_IMAGES = ("thumbs.db", "desktop.ini", "__macosx")
GREY = ("1", "L", "LA", "La")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
TRANSPOSED = (5, 6, 7, 8)
"""Values of the EXIF orientation that exchange height and width."""
SHOWN = 3
LAYOUT = "a folder per class with images in it, or train/ and test/ with such folders"


@dataclass(frozen=True, slots=True)
class File:
    """One image.

    Attributes:
        path: Where it lies.
        name: Its path below the folder that the user gave.
        label: Name of its class.
        held_out: Whether it is of the test part.
    """

    path: Path
    name: str
    label: str
    held_out: bool


@dataclass(frozen=True, slots=True)
class Head:
    """What an image's header says.

    Attributes:
        size: Height and width, upright.
        is_grey: Whether it has one channel beside transparency.
        has_alpha: Whether it has transparency.
        is_turned: Whether its EXIF orientation says that it is to be turned or mirrored.
        is_animated: Whether it has several frames or pages.
    """

    size: tuple[int, int]
    is_grey: bool
    has_alpha: bool
    is_turned: bool
    is_animated: bool


def load(source: Source) -> Records:
    """Load images: `(records, channels, height, width)` uint8, grey with one channel if all are, else three.

    A grey image is one that is stored as grey, or with a palette of greys; WebP knows colour alone.

    - Classes are the names of folders, sorted; folders in them are searched too. Images in `train` (and `val`) become
      the records to divide, images in `test`, or in `source.test_path`, the test set. A record's name is its path.
    - Images are turned upright by their EXIF orientation, transparency is dropped, and of several frames the first is
      taken. All must have one size, or are brought to `source.image_size` by bilinear interpolation.
    - Hidden files, files of other kinds and links that lead out of the folder are left out, and counted in a note.

    Raises:
        ValueError: If the folder has another layout, sizes disagree, or an image cannot be read; it is named.
    """
    refuse_options(source, "drop_columns", "layout", "record_shape")
    Image.init()  # without it Pillow knows only some of the formats
    root = existing(source.path, f"a folder of images ({LAYOUT})")
    left_out = Counter[str]()
    files = [*_files(root, left_out)]
    if source.test_path is not None:
        files += _test_files(existing(source.test_path, "a folder with the test images"), files, left_out)
    classes = _checked_classes(files, root)
    heads = [_head(file) for file in files]
    size = source.image_size or _common_size(files, heads)
    is_grey = all(head.is_grey for head in heads)
    features = _decoded(files, size, 1 if is_grey else 3)
    number = {name: label for label, name in enumerate(classes)}
    held_out = np.array([file.held_out for file in files])
    return Records(
        features=features,
        labels=np.array([number[file.label] for file in files], dtype=np.int64),
        classes=classes,
        held_out=held_out if held_out.any() else None,
        names=np.array([file.name for file in files]),
        arrangement=decoded(*size, features.shape[1]),
        notes=_notes(heads, size, left_out),
    )


def new_records(source: Source, behind: Preprocessing) -> NewRecords:
    """Read images to ask a trained network about: all below a folder, brought to the size that it was trained on.

    An image's class is the name of its folder, if all images lie in folders that are named after classes.

    Raises:
        ValueError: If there are no images, one cannot be read, or the network was not trained on images.
    """
    root = existing(source.path, "a folder of images")
    channels, *size = behind.arrangement.input_shape
    if len(size) != 2 or not behind.pixels or behind.arrangement != decoded(size[0], size[1], channels):
        raise ValueError(
            f"expected records {behind.arrangement.shape} as the network was trained on; {root} holds images"
        )
    paths = [*_images(root, root, Counter())]
    if not paths:
        raise ValueError(f"expected images ({', '.join(SUFFIXES)}) in {root}; {contents(root)}")
    files = [File(path, path.relative_to(root).as_posix(), path.parent.name, held_out=False) for path in paths]
    known = all(file.label in behind.classes and file.path.parent != root for file in files)
    for file in files:
        _head(file)  # refuses what training refuses
    features = _decoded(files, (size[0], size[1]), channels)
    return NewRecords(
        features, tuple(file.name for file in files), tuple(file.label for file in files) if known else None
    )


# Which files.


def _files(root: Path, left_out: Counter[str]) -> Iterator[File]:
    """List the images below a folder, class by class, training images first.

    Raises:
        ValueError: If the folder has neither class folders nor parts with class folders.
    """
    folders = _folders(root, root, left_out)
    parts = {part: [name for name in folders if name.lower() in names] for part, names in PARTS.items()}
    others = set(folders) - set(chain.from_iterable(parts.values()))
    if folders and not others and not parts["train"]:
        raise ValueError(f"expected {LAYOUT} in {root}; there is no train folder, {contents(root)}")
    # A class may be called train as well: it has images in it, and no folders.
    if not any(_folders(root / name, root, Counter()) for name in parts["train"]):
        if len(folders) > 1 and all(PART.search(name.lower()) for name in folders):
            raise ValueError(f"expected {LAYOUT} in {root}; its folders are called like parts, not classes: {folders}")
        yield from _of_classes(root, root, folders, left_out, held_out=False)
        return
    if others or max(map(len, parts.values())) > 1:
        raise ValueError(f"expected only train, val and test folders in {root}; {contents(root)}")
    for part, names in parts.items():
        for name in names:
            classes = _folders(root / name, root, left_out)
            yield from _of_classes(root / name, root, classes, left_out, held_out=part == "test")
    if parts["validation"]:
        left_out["validation"] += 1


def _test_files(folder: Path, files: Sequence[File], left_out: Counter[str]) -> list[File]:
    if any(file.held_out for file in files):
        raise ValueError(f"expected no test folder beside --test-path {folder}; there is one")
    return [*_of_classes(folder, folder.parent, _folders(folder, folder, left_out), left_out, held_out=True)]


def _folders(folder: Path, root: Path, left_out: Counter[str]) -> list[str]:
    """List the folders in a folder, sorted; count the files beside them."""
    found = []
    try:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if _is_hidden(entry.name):
                left_out["hidden"] += 1
            elif not _is_inside(entry, root):
                left_out["links"] += 1
            elif entry.is_dir():
                found.append(entry.name)
            else:
                left_out["beside"] += 1
    except BROKEN as error:
        raise unreadable(folder, f"a folder of images ({LAYOUT})", error) from None
    return found


def _of_classes(
    folder: Path, root: Path, names: Sequence[str], left_out: Counter[str], *, held_out: bool
) -> Iterator[File]:
    if len(names) < 2:
        raise ValueError(f"expected {LAYOUT}, two classes or more, in {folder}; {contents(folder)}")
    for name in names:
        paths = [*_images(folder / name, root, left_out)]
        if not paths:
            raise ValueError(
                f"expected images ({', '.join(SUFFIXES)}) in {folder / name}, the folder of a class; "
                f"{contents(folder / name)}"
            )
        for path in paths:
            yield File(path, path.relative_to(root).as_posix(), name, held_out)


def _images(folder: Path, root: Path, left_out: Counter[str]) -> Iterator[Path]:
    """List the images of one class, sorted, those in its sub-folders after its own."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: (entry.is_dir(), entry.name))
    except BROKEN as error:
        raise unreadable(folder, "the folder of a class", error) from None
    for entry in entries:
        if _is_hidden(entry.name):
            left_out["hidden"] += 1
        elif not _is_inside(entry, root):
            left_out["links"] += 1
        elif entry.is_dir(follow_symlinks=False):
            yield from _images(Path(entry.path), root, left_out)
        elif entry.is_file() and entry.name.lower().endswith(SUFFIXES):
            yield Path(entry.path)
        else:
            left_out["others"] += 1


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in NOT_IMAGES


def _is_inside(entry: os.DirEntry[str], root: Path) -> bool:
    """Tell whether an entry is no link, or one to something below the folder that the user gave."""
    return not entry.is_symlink() or Path(entry.path).resolve().is_relative_to(root.resolve())


def _checked_classes(files: Sequence[File], root: Path) -> tuple[str, ...]:
    """Return the names of the classes that there are to train on.

    Raises:
        ValueError: If the test part has others.
    """
    known = {file.label for file in files if not file.held_out}
    if strange := sorted({file.label for file in files if file.held_out} - known):
        raise ValueError(f"expected the test images of {root} in its classes {sorted(known)[:8]}; got {strange[:8]}")
    return tuple(sorted(known))


# What is in them.


@contextmanager
def _opened(file: File) -> Iterator[Image.Image]:
    """Open an image of a known format; Pillow's warning of a decompression bomb is an error here.

    Raises:
        ValueError: With the file's name, if anything about it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file.path, formats=FORMATS) as image:
                yield image
    except UnidentifiedImageError:
        raise ValueError(f"expected an image ({', '.join(FORMATS)}) at {file.path}; it is none") from None
    except (*BROKEN, ArithmeticError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise unreadable(file.path, "an image", error) from None


def _head(file: File) -> Head:
    with _opened(file) as image:
        if image.mode not in (*GREY, *COLOUR):
            raise ValueError(
                f"its pixels are of the mode {image.mode}, more than 8 bits a channel: convert it to 8 bits first"
            )
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        width, height = image.size
        return Head(
            size=(width, height) if orientation in TRANSPOSED else (height, width),
            is_grey=image.mode in GREY or (image.mode == "P" and _has_grey_palette(image)),
            has_alpha=image.mode.endswith(("A", "a")) or "transparency" in image.info,
            is_turned=orientation in range(2, 9),
            is_animated=bool(getattr(image, "is_animated", False)),
        )


def _has_grey_palette(image: Image.Image) -> bool:
    """Tell whether all colours that an image may use are grey, as those of a grey GIF."""
    palette = np.array(image.getpalette() or [0, 0, 1], np.int64).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _common_size(files: Sequence[File], heads: Sequence[Head]) -> tuple[int, int]:
    """Return the size of all images.

    Raises:
        ValueError: If they have several.
    """
    counts = Counter(head.size for head in heads)
    if len(counts) > 1:
        first = {head.size: file.name for file, head in zip(reversed(files), reversed(heads), strict=True)}
        shown = [
            f"{height} x {width} ({count}, such as {first[height, width]})"
            for (height, width), count in counts.most_common(SHOWN)
        ]
        more = f" and {len(counts) - SHOWN} more sizes" if len(counts) > SHOWN else ""
        raise ValueError(f"expected images of one size, or --image-size HEIGHT,WIDTH; got {', '.join(shown)}{more}")
    return next(iter(counts))


def _decoded(files: Sequence[File], size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Decode all images into `(records, channels, *size)`.

    Raises:
        ValueError: If they do not fit into memory, or one cannot be decoded.
    """
    sizes.check_task((channels, *size), 2)
    sizes.check_memory(len(files) * channels * size[0] * size[1], f"{len(files)} images of {size[0]} x {size[1]}")
    features = np.empty((len(files), channels, *size), np.uint8)
    for place, file in enumerate(files):
        with _opened(file) as image:
            upright = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
            if upright.size != size[::-1]:
                upright = upright.resize(size[::-1], Image.Resampling.BILINEAR)
            features[place] = np.asarray(upright).reshape(*size, channels).transpose(2, 0, 1)
    return features


def _notes(heads: Sequence[Head], size: tuple[int, int], left_out: Counter[str]) -> tuple[str, ...]:
    """Say what was done to the images, and what was left out."""
    grey = sum(head.is_grey for head in heads)
    counts = {
        f"were brought to {size[0]} x {size[1]} (height x width) by bilinear interpolation": sum(
            head.size != size for head in heads
        ),
        "are grey and were given three channels, as the others have": grey if grey < len(heads) else 0,
        "lost their transparency: it says nothing here": sum(head.has_alpha for head in heads),
        "were turned upright by their EXIF orientation": sum(head.is_turned for head in heads),
        "have several frames, of which the first was taken": sum(head.is_animated for head in heads),
    }
    skipped = {
        "hidden files and folders": left_out["hidden"],
        "files beside the class folders": left_out["beside"],
        "links that lead out of the folder": left_out["links"],
        "files that are no images": left_out["others"],
    }
    notes = [f"{count} of {len(heads)} images {done}" for done, count in counts.items() if count]
    notes += [f"left out: {count} {what}" for what, count in skipped.items() if count]
    if left_out["validation"]:
        notes.append("the validation images join the training images; a search divides them anew")
    return tuple(notes)
