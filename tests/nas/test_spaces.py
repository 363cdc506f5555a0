"""A space of a user's own is looked at before a network of it is priced or trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SOURCE = (Path(__file__).parents[2] / "examples" / "own_space" / "small_convs.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["estimate", "search"])
@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ('"depth": 1, "width": 8, ', '"depth": 1, ', "'width' is missing"),
        ("graph.flatten(x), num_classes", "graph.flatten(x), 7", "expected 10 logits; got outputs of the shapes [(7,"),
    ],
)
def test_a_wrong_reference_is_refused_in_one_line(command, right, wrong, told, nas, tmp_path):
    assert SOURCE.count(right) == 1
    (tmp_path / "mine.py").write_text(SOURCE.replace(right, wrong))
    more = ["--dataset", "digits", "--runs", tmp_path / "runs"] if command == "search" else []
    result = nas(command, "--space", tmp_path / "mine.py", *more)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("nas: the reference of the space 'small_convs': ")
    assert told in result.err
    assert len(result.err.splitlines()) == 1


def test_a_right_reference_is_not_refused(nas, tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    result = nas("estimate", "--space", tmp_path / "mine.py", "--json")
    assert result.code == 0
    assert json.loads(result.out)
