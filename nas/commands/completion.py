"""What a shell completes: names of plug-ins, devices and runs, found by looking at files and importing none of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parents[2]


def plugins_in(package: str, function: str) -> list[str]:
    """List the plug-ins of a package: its files that define a function.

    >>> plugins_in("search_spaces", "make_space")
    ['conv', 'ds_cnn', 'mlp', 'mobile', 'nb201', 'resnet', 'squeeze', 'vgg']
    """
    defines = re.compile(rf"^(?:def {function}\b|{function}\s*[:=])", re.MULTILINE)
    files = (ROOT / package.replace(".", "/")).glob("*.py")
    return sorted(path.stem for path in files if defines.search(path.read_text(encoding="utf-8")))


def spaces(incomplete: str) -> list[str]:
    """Complete the name of a search space."""
    return _beginning(incomplete, plugins_in("search_spaces", "make_space"))


def networks(incomplete: str) -> list[str]:
    """Complete the name of a network with published counts."""
    files = [ROOT / "search_spaces" / f"{name}.py" for name in plugins_in("search_spaces", "make_space")]
    return _beginning(incomplete, sorted(name for path in files for name in _networks_in(path)))


def datasets(incomplete: str) -> list[str]:
    """Complete the name of a data set."""
    return _beginning(incomplete, plugins_in("nas.data", "load"))


def attacks(incomplete: str) -> list[str]:
    """Complete the name of an attack."""
    return _beginning(incomplete, plugins_in("estimators.leakage.attacks", "attack"))


def defences(incomplete: str) -> list[str]:
    """Complete the last of several defences."""
    return _last_of_several(incomplete, plugins_in("nas.defences", "defend"))


def samplers(incomplete: str) -> list[str]:
    """Complete the name of a sampler."""
    return _beginning(incomplete, plugins_in("nas.search.samplers", "make_sampler"))


def compressions(incomplete: str) -> list[str]:
    """Complete the last of several compressions."""
    return _last_of_several(incomplete, plugins_in("search_spaces.compressions", "compress"))


def devices(incomplete: str) -> list[str]:
    """Complete the name of a device, a shipped one or one of the user's own."""
    files = [*(ROOT / "estimators" / "devices").glob("*.toml"), *Path("devices").glob("*.toml")]
    return _beginning(incomplete, sorted({path.stem for path in files}))


def runs(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a run in the folder that `--runs` names."""
    folder = Path(context.params.get("runs") or "runs")
    return _beginning(incomplete, sorted(path.parent.name for path in folder.glob("*/config.toml")))


def likes(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the last of several things that a search may be like: runs, published networks, a super-network's."""
    return _last_of_several(incomplete, ["networks", "supernet", *runs(context, "")])


def lists(incomplete: str) -> list[str]:
    """Complete what `nas list` lists."""
    from nas.commands.list import KNOWN
    from nas.commands.list import RUNS

    return _beginning(incomplete, [*KNOWN, RUNS])


def _last_of_several(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(last, names)]


def _networks_in(path: Path) -> list[str]:
    """Read the names that a space's file gives networks: the keys of the tables that its `NETWORKS` is written with."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assigned = [line for line in body if isinstance(line, ast.Assign | ast.AnnAssign)]
    tables = [line.value for line in assigned if "NETWORKS" in ast.unparse(line).partition("=")[0]]
    keys: list[ast.expr | None] = []
    while tables:
        table = tables.pop()
        if isinstance(table, ast.BinOp):
            tables += [table.left, table.right]
        elif isinstance(table, ast.Call):
            tables += table.args
        elif isinstance(table, ast.Dict):
            keys += table.keys
    return [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
