"""A preprocessing as JSON: beside a pick, and in the metadata of an exported network. Read as data of a stranger."""

from __future__ import annotations

import json
from typing import Annotated
from typing import Any
from typing import Literal
from typing import Self
from typing import TypeAlias

import numpy as np
from annotated_types import Gt
from annotated_types import MaxLen
from annotated_types import MinLen
from pydantic import BaseModel
from pydantic import ConfigDict
from pydantic import FiniteFloat
from pydantic import ValidationError
from pydantic import model_validator

from nas.base import sizes
from nas.base.reading import parse_json
from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.columns import from_plain
from nas.preprocessing.columns import to_plain
from nas.preprocessing.preprocessing import Preprocessing

PREPROCESSING = "preprocessing.json"
"""Its file in the folder of a pick."""
VERSION: Literal[1] = 1
MOST_AXES = 8
MOST_TEXT = 2**24
"""Characters of the JSON: a preprocessing of 100,000 columns needs a tenth of them."""

Axes: TypeAlias = Annotated[tuple[int, ...], MinLen(1), MaxLen(MOST_AXES)]
Name: TypeAlias = Annotated[str, MaxLen(10_000)]


class _Arrangement(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    shape: Axes
    axes: Axes
    input_shape: Axes


class _Stored(BaseModel):
    """What the JSON holds: bounded, and nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True)
    version: Literal[1]
    precision: Literal["float32", "float64"]
    arrangement: _Arrangement
    mean: Annotated[list[FiniteFloat], MaxLen(sizes.MOST_INPUTS)]
    deviation: Annotated[list[Annotated[FiniteFloat, Gt(0)]], MaxLen(sizes.MOST_INPUTS)]
    pixels: bool
    columns: Annotated[list[dict[str, Any]], MaxLen(sizes.MOST_INPUTS)]
    classes: Annotated[tuple[Name, ...], MinLen(2), MaxLen(sizes.MOST_CLASSES)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        given = self.arrangement
        sizes.check_task(given.input_shape, len(self.classes))
        sizes.check_task(given.shape, len(self.classes))
        if not len(self.mean) == len(self.deviation) == given.input_shape[0]:
            raise ValueError(
                f"expected {given.input_shape[0]} means and deviations; got {len(self.mean)} and {len(self.deviation)}"
            )
        features = sum(len(column.features) for column in from_plain(self.columns))
        if self.columns and (features,) != given.input_shape:
            raise ValueError(f"expected columns of {given.input_shape} features; got {features}")
        if self.pixels and (self.columns or self.precision != "float32"):
            raise ValueError("expected pixels without columns, in float32; got pixels and either")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("expected each class once; got a name twice")
        return self


def to_json(preprocessing: Preprocessing) -> str:
    """Write a preprocessing as JSON that `from_json` reads back equal, to the last bit of every mean."""
    arrangement, mean = preprocessing.arrangement, preprocessing.mean
    stored = _Stored(
        version=VERSION,
        precision="float64" if mean.dtype == np.float64 else "float32",
        arrangement=_Arrangement(shape=arrangement.shape, axes=arrangement.axes, input_shape=arrangement.input_shape),
        mean=mean.astype(np.float64).tolist(),
        deviation=preprocessing.deviation.astype(np.float64).tolist(),
        pixels=preprocessing.pixels,
        columns=to_plain(preprocessing.columns),
        classes=preprocessing.classes,
    )
    return json.dumps(stored.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str, where: str) -> Preprocessing:
    """Read a preprocessing.

    Args:
        text: What `to_json` wrote, or somebody who says so.
        where: Where it stands, for messages.

    Raises:
        ValueError: If it is none, or does not fit together.
    """
    if len(text) > MOST_TEXT:
        raise ValueError(f"expected a preprocessing of at most {MOST_TEXT:,} characters in {where}; got {len(text):,}")
    parse_json(text, f"expected a preprocessing in {where}")  # pydantic has no limit of its own on depth
    try:
        stored = _Stored.model_validate_json(text)
        arrangement = Arrangement(**stored.arrangement.model_dump())
    except ValidationError as error:
        raise ValueError(f"expected a preprocessing in {where}: {_first(error)}") from None
    except ValueError as error:
        raise ValueError(f"expected a preprocessing in {where}: {error}") from None
    return Preprocessing(
        arrangement=arrangement,
        mean=np.array(stored.mean, stored.precision),
        deviation=np.array(stored.deviation, stored.precision),
        pixels=stored.pixels,
        columns=from_plain(stored.columns),
        classes=stored.classes,
    )


def _first(error: ValidationError) -> str:
    found: Any = error.errors(include_url=False, include_input=False)[0]
    place, said = ".".join(str(part) for part in found["loc"]), str(found["msg"]).removeprefix("Value error, ")
    return f"{place}: {said}" if place else said
