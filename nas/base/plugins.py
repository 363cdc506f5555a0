"""Plug-ins: what a file of each folder provides, how it is loaded, and whose code may run.

A folder is its own registry: a file added is a plug-in added, and its name is the plug-in's. What a file provides:

| folder | function | attributes |
|---|---|---|
| `search_spaces` | `make_space(input_shape, num_classes)` | `USUAL_TASK`: `(input_shape, num_classes)` of the space's usual data; where it is left out, grey images of 8 x 8 and ten classes; `NETWORKS`: its networks with published counts, by name, as `search_spaces.space.NamedNetwork`; `layer_names(architecture)`: a name for each layer with weights, by which networks share them |
| `search_spaces/compressions` | `compress(architecture, **parameters)` | `PARAMETERS` (required): for each parameter a tuple of the values that a search chooses from, the first of which changes nothing |
| `estimators/cost` | `estimate(architecture, device)` | `applies(device)`: whether the device has what the metric needs; left out: all have |
| `estimators/leakage/attacks` | `attack(evidence)` | `NEEDS` (required): what it reads beside logits and labels, of `estimators.leakage.evidence.NEEDS`; `MIN_REFERENCES`: networks its bank must have, 0 if left out; `EFFORT`: the least effort of an audit that runs it, `quick` (if left out), `standard` or `full`; `LABEL_ONLY`: whether it reads predicted classes alone; `READS_LABELS`: whether it reads the true class; `TRANSDUCTIVE`: whether a record's score depends on the other records it is asked about; `widen(interval, evidence)`: raises the upper end of the AUC's interval in a search to what a stronger attack would find |
| `nas/defences` | `defend(setup, teach, **parameters)` | `PARAMETERS`: what a search samples for each; `NEEDS`: `("reserve",)` for records beside the members; `EXITS`: whether its own step or watch knows early exits; `KEEPS_LOSS`: whether its own step follows the set-up's loss; `check(**parameters)`: refuses values; `answers(**parameters)`: what the deployed answers pass through; `delay(**parameters)`: by how much answers of early exits are held back; see `nas/defences/__init__.py` |
| `nas/search/samplers` | `make_sampler(plan, seed)` | `pick(plan)`: returns the name of another sampler and why it is taken; a search notes it when it begins, and uses that one |
| `nas/data` | `load(source)` | `NEEDS_PATH` (required): whether the user must say where the data lie; `new_records(source, preprocessing)`: reads records without classes for a trained network; left out, `load` reads them |

`KINDS` holds this table. A plug-in that breaks it is refused when it is loaded, and so is an attribute whose name is
nearly one of these: a misspelt `EFORT` would otherwise do nothing.

A module of a user's own is given by its dotted name, or by the path of its file, which ends in `.py`. A path is made
absolute wherever it is taken, and its file is imported once, under a name made of that path. Importing a module runs
its code, so only the person at the keyboard can have one imported: by a flag, by a search file of their own, by `--plugin` or, in Python, by `trust`. What
a file merely names (an architecture, a table, a study, the settings in a run's folder) must be a file of the folder or
trusted already.
"""  # noqa: E501 - a table has long lines

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import os
import re
import shlex
import sys
import sysconfig
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from pathlib import PurePath
from types import ModuleType
from typing import Any

from estimators.leakage.evidence import NEEDS
from search_spaces.space import NamedNetwork

TRUSTED = "GECKO_NAS_PLUGINS"
"""Environment variable with the trusted modules, comma-separated: processes that this one starts inherit it."""
BY_PATH = "gecko_nas_plugin_"
"""Starts the name of a module that was given by the path of its file."""
EFFORTS = ("quick", "standard", "full")
ALIKE = 0.85
"""How alike two names are (`difflib`) to count one as the other misspelt.

`EFORT` and `EFFORT` are at 0.91, `REFERENCES` and `MIN_REFERENCES`, two attributes, at 0.83.
"""


@dataclass(frozen=True, slots=True)
class Attribute:
    """What one attribute of a plug-in may be.

    Attributes:
        expected: What it is, for people.
        allows: Tells whether a value is that.
        required: Whether every plug-in of the kind has it.
        default: What it is where a plug-in leaves it out.
    """

    expected: str
    allows: Callable[[Any], bool]
    required: bool = False
    default: Any = None


@dataclass(frozen=True, slots=True)
class Kind:
    """What the plug-ins of one folder provide.

    Attributes:
        function: The function that makes a file a plug-in.
        attributes: What else it may say, by name.
    """

    function: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


def _is_task(value: Any) -> bool:
    if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], tuple)):
        return False
    return all(type(length) is int and length > 0 for length in [*value[0], value[1]])


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


def _are_networks(value: Any) -> bool:
    return _is_table(value) and all(isinstance(network, NamedNetwork) for network in value.values())


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


KINDS: Mapping[str, Kind] = {
    "search_spaces": Kind(
        "make_space",
        {
            "USUAL_TASK": Attribute("((lengths of the axes of a record), number of classes)", _is_task),
            "NETWORKS": Attribute("a table of NamedNetwork by name", _are_networks, default={}),
            "layer_names": Attribute("a function of an architecture that names its layers with weights", callable),
        },
    ),
    "search_spaces.compressions": Kind(
        "compress",
        {
            "PARAMETERS": Attribute(
                "a table of parameters, each a tuple of values",
                lambda value: _is_table(value) and all(isinstance(v, tuple) and v for v in value.values()),
                required=True,
            )
        },
    ),
    "estimators.cost": Kind("estimate", {"applies": Attribute("a function of a device", callable)}),
    "estimators.leakage.attacks": Kind(
        "attack",
        {
            "NEEDS": Attribute(
                f"a tuple of names out of {list(NEEDS)}",
                lambda value: isinstance(value, tuple) and all(name in NEEDS for name in value),
                required=True,
            ),
            "MIN_REFERENCES": Attribute(
                "a whole number from 0", lambda value: type(value) is int and value >= 0, default=0
            ),
            "EFFORT": Attribute(
                f"one of {list(EFFORTS)}", lambda value: isinstance(value, str) and value in EFFORTS, default="quick"
            ),
            "LABEL_ONLY": Attribute("True or False", _is_flag, default=False),
            "READS_LABELS": Attribute("True or False", _is_flag, default=True),
            "TRANSDUCTIVE": Attribute("True or False", _is_flag),
            "widen": Attribute("a function of an interval and the evidence", callable),
        },
    ),
    "nas.defences": Kind(
        "defend",
        {
            "PARAMETERS": Attribute("a table of parameters, each a value, a list or a range", _is_table),
            "NEEDS": Attribute('a tuple of names, of which there is "reserve"', _are_names),
            "EXITS": Attribute("True or False", _is_flag, default=False),
            "KEEPS_LOSS": Attribute("True or False", _is_flag, default=False),
            "check": Attribute("a function of the parameters", callable),
            "answers": Attribute("a function of the parameters that returns a module", callable),
            "delay": Attribute("a function of the parameters that returns a number", callable),
        },
    ),
    "nas.search.samplers": Kind("make_sampler", {"pick": Attribute("a function of a plan", callable)}),
    "nas.data": Kind(
        "load",
        {
            "NEEDS_PATH": Attribute("True or False", _is_flag, required=True),
            "new_records": Attribute("a function of a source and a preprocessing", callable),
        },
    ),
}


def trust(*names: str) -> None:
    """Allow modules of the user's own to be imported, here and in every process started from here.

    Call it with names that a person gave, never with names out of a file that somebody else may have written.

    Args:
        names: Dotted names of modules, or paths of their files. A name without a dot is a shipped plug-in's and needs
            no trust.

    Raises:
        ValueError: If a path holds a comma, which separates the names that other processes inherit.

    >>> trust("my_company.spaces")
    >>> is_allowed("my_company.spaces"), is_allowed("my_company"), is_allowed("os.path")
    (True, True, False)
    """
    own = [full_name(name) for name in names if is_own(name)]
    if wrong := [name for name in own if "," in name]:
        raise ValueError(f"expected the path of a plug-in without a comma; got {wrong[0]!r}")
    os.environ[TRUSTED] = ",".join(dict.fromkeys([*trusted(), *own]))


def trusted() -> list[str]:
    """List the modules that `trust` allows, in the order they were given."""
    return [name for name in os.environ.get(TRUSTED, "").split(",") if name]


def is_allowed(name: str) -> bool:
    """Tell whether a name may be looked up: a shipped plug-in's, or a trusted module's."""
    return not is_own(name) or full_name(name) in trusted()


def is_own(name: str) -> bool:
    """Tell whether a name is that of a module of the user's own: dotted, or the path of a file.

    >>> is_own("conv"), is_own("my_company.spaces"), is_own("../spaces/mine.py"), is_own("../spaces")
    (False, True, True, False)
    """
    return is_path(name) or _is_dotted(name)


def is_path(name: str) -> bool:
    """Tell whether a name is the path of a plug-in's file."""
    return name.endswith(".py") and "\0" not in name


def full_name(name: str, folder: Path | None = None) -> str:
    """Make the path of a plug-in's file absolute, below a folder (the current one); any other name stays as it is.

    >>> full_name("conv"), full_name("/own/../mine.py")
    ('conv', '/mine.py')
    """
    # os.path leaves a user that does not exist as it is; pathlib raises a RuntimeError.
    return str(((folder or Path.cwd()) / os.path.expanduser(name)).resolve()) if is_path(name) else name  # noqa: PTH111


def short_name(name: str) -> str:
    """Return the name of a plug-in as it stands in tables: a path's file without its folder and ending.

    >>> short_name("conv"), short_name("my_company.spaces"), short_name("/srv/spaces/mine.py")
    ('conv', 'my_company.spaces', 'mine')
    """
    return PurePath(name).stem if is_path(name) else name


def parts_of(name: str) -> list[str]:
    """List the names of a combination, which stand with a plus between them; a path is one name.

    >>> parts_of("relaxloss+my_company.noise"), parts_of("./c++/mine.py")
    (['relaxloss', 'my_company.noise'], ['./c++/mine.py'])
    """
    return [name] if is_path(name) else name.split("+")


def check_allowed(where: str, *names: str) -> None:
    """Refuse names that would import code nobody here asked for.

    Args:
        where: What names them, for the message.
        names: Names of plug-ins.

    Raises:
        ValueError: If one is a dotted name or a path that is not trusted.
    """
    for name in names:
        if not is_allowed(name):
            raise ValueError(
                f"{where} names the module {name!r}, whose code would run here: give --plugin {shlex.quote(name)} if "
                "you trust it"
            )


def available(package: str, attribute: str) -> list[str]:
    """List the plug-ins in a package: its files that define `attribute`. None is imported.

    >>> "conv" in available("search_spaces", "make_space")
    True
    """
    return list(described(package, attribute))


def described(package: str, attribute: str) -> dict[str, str]:
    """Return the first line of each plug-in in a package by its name, as it stands in its file: none is imported.

    >>> described("nas.defences", "defend")["none"]
    'Plain training on the true labels: no defence.'
    """
    texts = {name: path.read_text(encoding="utf-8") for name, path in sorted(_files(package).items())}
    trees = {name: ast.parse(text) for name, text in texts.items() if attribute in text}
    lines = {name: ast.get_docstring(tree) or "" for name, tree in trees.items() if attribute in _bound_in(tree)}
    return {name: line.partition("\n")[0] for name, line in lines.items()}


def _bound_in(module: ast.Module) -> set[str]:
    """Return the names that a module's own lines bind: by a definition, an assignment or an import."""
    found: set[str] = set()
    for line in module.body:
        if isinstance(line, ast.FunctionDef | ast.ClassDef):
            found.add(line.name)
        elif isinstance(line, ast.Import | ast.ImportFrom):
            found |= {one.asname or one.name for one in line.names}
        elif isinstance(line, ast.Assign | ast.AnnAssign):
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def load(package: str, name: str, attribute: str) -> Any:
    """Return `attribute` of a plug-in: a file of `package`, or a user's own module by its dotted name or its path.

    Raises:
        ValueError: If there is no such plug-in (the message says what was looked for where, and what exists), it breaks
            its kind's interface, or it is a module that is not trusted.
    """
    found = find(package, name, attribute)
    if found is None and is_own(name):
        raise ValueError(f"no {name!r} for {package}: {_looked_for(name, attribute)}")
    if found is None:
        raise ValueError(
            f"no {name!r} in {package}; there are {available(package, attribute)} (a module of your own is given by "
            f"its dotted name or its file's path, ./mine.py, and defines {attribute!r})"
        )
    return found


def _looked_for(name: str, attribute: str) -> str:
    """Say what was looked for where, for a module of the user's own that was not found."""
    module = _module("", name)
    if module is not None:
        return f"{shown(module)} defines no {attribute!r}"
    if is_path(name):
        return f"there is no file {full_name(name)}"
    file = name.replace(".", "/")
    shipped = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    places = [
        place or "."
        for place in dict.fromkeys(sys.path)
        if not place.endswith((".zip", "lib-dynload")) and place not in shipped
    ]
    return (
        f"there is no {file}.py or {file}/__init__.py in {', '.join(places)} (PYTHONPATH=. adds the current folder, "
        f"and ./{file}.py is a file by its path)"
    )


def shown(module: ModuleType) -> str:
    """Name a plug-in in a message: by its dotted name, or by its file if it was given so."""
    return str(module.__file__) if module.__name__.startswith(BY_PATH) else module.__name__


def find(package: str, name: str, attribute: str) -> Any:
    """Return an attribute of a plug-in, its default where the plug-in leaves it out (None if it has no default).

    Raises:
        ValueError: If the plug-in breaks its kind's interface, is no Python, or is a module that is not trusted.
    """
    try:
        module = _module(package, name)
    except SyntaxError as error:
        raise ValueError(f"expected Python in {error.filename}; got in line {error.lineno}: {error.msg}") from error
    if module is not None:
        _check(module, package)
    known = KINDS[package].attributes.get(attribute)
    return getattr(module, attribute, known.default if known else None)


def _module(package: str, name: str) -> ModuleType | None:
    if is_path(name):
        check_allowed("a setting", name)
        return _module_at(Path(full_name(name)))
    if "." not in name:
        known = sys.modules.get(f"{package}.{name}")  # listing a folder takes longer than pricing a network
        return known or (importlib.import_module(f"{package}.{name}") if name in _files(package) else None)
    if not _is_dotted(name):  # the import system also takes relative names, paths
        return None
    check_allowed("a setting", name)
    try:
        found = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        found = None
    return importlib.import_module(name) if found else None


def _module_at(path: Path) -> ModuleType | None:
    """Import a file once, under a name that is the same in every process."""
    if not path.is_file():
        return None
    name = f"{BY_PATH}{re.sub(r'[^A-Za-z0-9]', '_', path.stem)}_{sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, as an import does: dataclasses look there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _files(package: str) -> dict[str, Path]:
    """Return the files of a package's modules by their names, without importing any of them."""
    folders = [Path(folder) for folder in importlib.import_module(package).__path__]
    paths = [path for folder in reversed(folders) for path in folder.glob("*.py") if path.stem != "__init__"]
    return {path.stem: path for path in paths}


def _is_dotted(name: str) -> bool:
    return "." in name and all(part.isidentifier() for part in name.split("."))


@lru_cache
def _check(module: ModuleType, package: str) -> None:
    """Refuse a plug-in whose attributes are missing, of another type, or nearly called as one of its kind.

    Raises:
        ValueError: With the attribute, what was expected and what there is.
    """
    kind = KINDS.get(package)
    if kind is None or not hasattr(module, kind.function):  # no plug-in: `load` says so
        return
    known = kind.attributes
    for name, attribute in known.items():
        if not hasattr(module, name):
            if attribute.required:
                raise ValueError(f"expected {name} in {shown(module)}: {attribute.expected}")
        elif not attribute.allows(value := getattr(module, name)):
            raise ValueError(f"expected {name} of {shown(module)} to be {attribute.expected}; got {value!r}")
    for name in vars(module):
        if name.isupper() and name not in known and difflib.get_close_matches(name, known, cutoff=ALIKE):
            raise ValueError(f"no attribute {name!r} of {shown(module)}; there are {sorted(known)}")
