"""A folder is its own registry."""

from __future__ import annotations

import importlib
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import search_spaces
from nas.audit.attack_all import EFFORTS
from nas.base import plugins

FOLDERS = (
    ("search_spaces", "make_space", "conv"),
    ("nas.data", "load", "digits"),
    ("nas.defences", "defend", "gecko"),
    ("nas.search.samplers", "make_sampler", "tpe"),
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
    monkeypatch.setenv(plugins.TRUSTED, "")
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
    (tmp_path / "added_space.py").write_text("make_space = None\nraise RuntimeError('a list imports nothing')\n")
    monkeypatch.setattr(search_spaces, "__path__", [*search_spaces.__path__, str(tmp_path)])
    assert "added_space" in plugins.available("search_spaces", "make_space")


def test_a_module_of_the_users_own_is_loaded_by_its_dotted_name_once_it_is_trusted(own_module):
    with pytest.raises(ValueError, match=rf"names the module '{own_module}'.* --plugin {own_module} if you trust it$"):
        plugins.load("search_spaces", own_module, "make_space")
    assert "mine" not in sys.modules
    plugins.trust(own_module)
    assert plugins.load("search_spaces", own_module, "make_space")((3,), 2) == ((3,), 2)
    assert plugins.find("search_spaces", own_module, "applies") is None


@pytest.mark.parametrize("name", ["", ".", "..", "conv.", "conv..", "a b", "../conv", "layers/binary", "\0"])
def test_a_name_that_is_none_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match=r"^no .* in search_spaces; there are ") as caught:
        plugins.load("search_spaces", name, "make_space")
    assert f"no {name!r} in" in str(caught.value)
    assert all(name in str(caught.value) for name in ("'conv', ", "'mlp', "))
    assert "'make_space'" in str(caught.value)


# Whose code may run.


@pytest.mark.parametrize(
    "name", ["os.path", "graph.architecture", "search_spaces.conv", "no.such.module", "mine.tiny.x"]
)
def test_a_dotted_name_that_is_not_trusted_imports_nothing(name, own_module, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda found: pytest.fail(f"{found} was looked for"))
    plugins.trust(own_module)
    with pytest.raises(ValueError, match=f"^a setting names the module '{name}', whose code would run here: "):
        plugins.load("search_spaces", name, "make_space")


def test_a_trusted_module_that_does_not_exist_is_refused_with_what_there_is(own_module):
    plugins.trust("mine.none", "no.such.module", "os.path")
    for name in ("mine.none", "no.such.module", "os.path"):
        with pytest.raises(ValueError, match=f"^no '{name}' for search_spaces: ") as caught:
            plugins.load("search_spaces", name, "make_space")
    assert str(caught.value).endswith(": os.path defines no 'make_space'") or "posixpath" in str(caught.value)


def test_what_was_looked_for_is_said_with_the_places(own_module, tmp_path):
    plugins.trust("mine.none")
    with pytest.raises(ValueError, match=r"^no 'mine.none' for search_spaces: ") as caught:
        plugins.load("search_spaces", "mine.none", "make_space")
    said = str(caught.value)
    assert f"there is no mine/none.py or mine/none/__init__.py in {tmp_path}, " in said
    assert sysconfig.get_path("stdlib") + "," not in said  # nobody keeps a plug-in there
    assert "PYTHONPATH=. adds the current folder" in said


# A file by its path.


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    """A file of the user's, not on the path, in the current folder."""
    (tmp_path / "own spaces").mkdir()
    path = tmp_path / "own spaces" / "tiny-space.py"
    path.write_text("COUNT = []\ndef make_space(shape, classes):\n    return (shape, classes)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(plugins.TRUSTED, "")
    for name in [name for name in sys.modules if name.startswith(plugins.BY_PATH)]:
        monkeypatch.delitem(sys.modules, name)
    return path


def test_a_file_is_loaded_by_its_path_once_it_is_trusted(own_file):
    relative = "own spaces/../own spaces/tiny-space.py"
    with pytest.raises(ValueError, match=r"names the module 'own spaces/.*whose code would run here: give --plugin"):
        plugins.load("search_spaces", relative, "make_space")
    assert not [name for name in sys.modules if name.startswith(plugins.BY_PATH)]
    plugins.trust(relative)
    assert plugins.trusted() == [str(own_file)]
    assert plugins.load("search_spaces", relative, "make_space")((3,), 2) == ((3,), 2)
    assert plugins.find("search_spaces", str(own_file), "COUNT") is plugins.find("search_spaces", relative, "COUNT")
    assert not plugins.is_allowed("own spaces/other.py")


def test_a_file_that_is_no_python_is_refused_with_the_line(own_file):
    own_file.write_text("def make_space(shape, classes):\n    return (shape,\n\ndef other(:\n")
    plugins.trust(str(own_file))
    with pytest.raises(ValueError, match=r"^expected Python in .*tiny-space\.py; got in line [24]: "):
        plugins.load("search_spaces", str(own_file), "make_space")
    own_file.write_text("def make_space(shape, classes):\n    return (shape, classes)\n")
    assert plugins.load("search_spaces", str(own_file), "make_space")((3,), 2) == ((3,), 2)


def test_a_file_has_the_same_name_in_every_process(own_file):
    plugins.trust(str(own_file))
    make_space = plugins.load("search_spaces", str(own_file), "make_space")
    code = (
        "from nas.base import plugins; "
        f"print(plugins.load('search_spaces', {str(own_file)!r}, 'make_space').__module__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == make_space.__module__


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, r"there is no file .*/none\.py$"), ("def other(): pass\n", r".*/none\.py defines no 'make_space'$")],
)
def test_a_file_that_is_none_is_refused_with_where_it_was_looked_for(own_file, text, said):
    if text is not None:
        (own_file.parent / "none.py").write_text(text)
    plugins.trust("own spaces/none.py")
    with pytest.raises(ValueError, match=f"^no 'own spaces/none.py' for search_spaces: {said}"):
        plugins.load("search_spaces", "own spaces/none.py", "make_space")


def test_what_is_wrong_with_a_file_is_said_with_its_path(own_file):
    own_file.write_text("def attack(evidence): pass\n")
    plugins.trust(str(own_file))
    with pytest.raises(ValueError, match=r"^expected NEEDS in /.*/tiny-space.py: "):
        plugins.load("estimators.leakage.attacks", str(own_file), "attack")


def test_a_file_that_fails_leaves_no_half_of_a_module(own_file):
    own_file.write_text("raise KeyError('a bug')\n")
    plugins.trust(str(own_file))
    for _ in range(2):
        with pytest.raises(KeyError, match="a bug"):
            plugins.load("search_spaces", str(own_file), "make_space")


def test_a_path_with_a_comma_is_refused(own_file):
    with pytest.raises(ValueError, match=r"^expected the path of a plug-in without a comma; got '/.*/a,b.py'$"):
        plugins.trust("a,b.py")


def test_trust_reaches_the_processes_that_this_one_starts(own_module):
    plugins.trust(own_module, "conv", "not a name.x", "other.one", own_module)
    code = "from nas.base import plugins; print(plugins.trusted())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str([own_module, "other.one"])


# What a plug-in says of itself.


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a trusted module and return its dotted name."""
    (tmp_path / "said").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(plugins.TRUSTED, "said.plugin")

    def write(text):
        (tmp_path / "said" / "plugin.py").write_text(text)
        return "said.plugin"

    yield write
    for name in ("said", "said.plugin"):
        sys.modules.pop(name, None)


ATTACKS = "estimators.leakage.attacks"
ATTACK = "def attack(evidence):\n    return evidence.logits[:, 0]\n"
WRONG = {
    (ATTACKS, "attack", ATTACK): "expected NEEDS in said.plugin: a tuple of names out of",
    (ATTACKS, "attack", f"NEEDS = ('banc',)\n{ATTACK}"): "expected NEEDS of said.plugin to be",
    (ATTACKS, "attack", f"NEEDS = 'bank'\n{ATTACK}"): "to be a tuple of .*; got 'bank'",
    (
        "estimators.leakage.attacks",
        "attack",
        f"NEEDS = ()\nEFFORT = 'slow'\n{ATTACK}",
    ): "one of .*; got 'slow'",
    (ATTACKS, "attack", f"NEEDS = ()\nMIN_REFERENCES = True\n{ATTACK}"): "a whole number from 0",
    (ATTACKS, "attack", f"NEEDS = ()\nLABEL_ONLY = 1\n{ATTACK}"): "True or False; got 1",
    (
        "estimators.leakage.attacks",
        "attack",
        f"NEEDS = ()\nEFORT = 'full'\n{ATTACK}",
    ): "no attribute 'EFORT' .*EFFORT",
    ("search_spaces", "make_space", "make_space = print\nUSUAL_TASK = (3, 10)"): "USUAL_TASK of .* number of classes",
    ("search_spaces", "make_space", "make_space = print\nUSUAL_TASKS = ((3,), 2)"): "no attribute 'USUAL_TASKS'",
    ("search_spaces", "make_space", "make_space = print\nNETWORKS = {'a': 3}"): "a table of NamedNetwork by name; got",
    ("search_spaces", "make_space", "make_space = print\nNETWORK = {}"): "no attribute 'NETWORK'",
    (
        "estimators.cost",
        "estimate",
        "estimate = print\napplies = True",
    ): "a function of a device; got True",
    ("nas.data", "load", "load = print\nNEEDS_PATH = 'no'"): "NEEDS_PATH of .* True or False; got 'no'",
    ("nas.data", "load", "load = print"): "expected NEEDS_PATH in said.plugin: True or False",
}


@pytest.mark.parametrize(("package", "attribute", "text"), WRONG)
def test_a_plugin_that_breaks_its_kinds_interface_is_refused(written, package, attribute, text):
    with pytest.raises(ValueError, match=WRONG[package, attribute, text]):
        plugins.load(package, written(text), attribute)


def test_other_constants_of_a_plugin_are_its_own(written):
    name = written(f"NEEDS = ('bank',)\nEFFORT = 'full'\nREFERENCES = 5\nSTEPS = 3\n{ATTACK}")
    assert plugins.find("estimators.leakage.attacks", name, "EFFORT") == "full"


def test_the_table_of_kinds_is_the_one_that_is_documented():
    for package, kind in plugins.KINDS.items():
        assert f"| `{package.replace('.', '/')}` | `{kind.function}(" in plugins.__doc__
        assert all(f"`{name}" in plugins.__doc__ for name in kind.attributes)
        adding = (Path(__file__).parents[3] / "docs" / "adding.md").read_text()
        assert all(f"`{name}" in adding for name in kind.attributes)


def test_efforts_are_those_of_an_audit():
    assert tuple(EFFORTS) == plugins.EFFORTS


@pytest.mark.parametrize(
    ("attribute", "default"),
    [("MIN_REFERENCES", 0), ("EFFORT", "quick"), ("LABEL_ONLY", False), ("READS_LABELS", True), ("widen", None)],
)
def test_what_an_attack_leaves_out_has_the_default_of_its_kind(attribute, default):
    assert not hasattr(importlib.import_module("estimators.leakage.attacks.loss"), attribute)
    assert plugins.find("estimators.leakage.attacks", "loss", attribute) == default
