"""A folder is its own registry."""

from __future__ import annotations

import sys

import pytest

import search_spaces
from nas.base import plugins

FOLDERS = (
    ("search_spaces", "make_space", "conv"),
    ("nas.data", "load", "digits"),
    ("nas.defences", "defend", "gecko"),
    ("estimators.cost", "estimate", "macs"),
    ("estimators.leakage.attacks", "attack", "rmia"),
)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module of the user's, `mine.tiny`, somewhere on the path."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "tiny.py").write_text("def make_space(shape, classes):\n    return (shape, classes)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "mine.tiny"
    for name in ("mine", "mine.tiny"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("package", "attribute", "name"), FOLDERS)
def test_every_folder_lists_its_files_and_loads_each(package, attribute, name):
    names = plugins.available(package, attribute)
    assert name in names
    assert names == sorted(names)
    assert all(callable(plugins.load(package, name, attribute)) for name in names)


@pytest.mark.parametrize("name", ["graph", "space", "network", "layers"])
def test_a_file_that_does_not_provide_the_attribute_is_no_plugin(name):
    assert name not in plugins.available("search_spaces", "make_space")
    with pytest.raises(ValueError, match=f"^no '{name}' in search_spaces; there are "):
        plugins.load("search_spaces", name, "make_space")


def test_a_file_added_is_a_plugin_added(tmp_path, monkeypatch):
    (tmp_path / "added_space.py").write_text("make_space = None\n")
    monkeypatch.setattr(search_spaces, "__path__", [*search_spaces.__path__, str(tmp_path)])
    assert "added_space" in plugins.available("search_spaces", "make_space")
    sys.modules.pop("search_spaces.added_space")


def test_a_module_of_the_users_own_is_loaded_by_its_dotted_name(own_module):
    assert plugins.load("search_spaces", own_module, "make_space")((3,), 2) == ((3,), 2)
    assert plugins.find("search_spaces", own_module, "applies") is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", "conv.", "conv..", "no.such.module", "os.path", "a b", "../conv", "layers/binary", "\0"]
)
def test_a_name_that_is_none_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match=r"^no .* in search_spaces; there are ") as caught:
        plugins.load("search_spaces", name, "make_space")
    assert f"no {name!r} in" in str(caught.value)
    assert "'conv', 'mlp'" in str(caught.value)
    assert "'make_space'" in str(caught.value)
