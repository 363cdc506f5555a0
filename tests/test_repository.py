"""What holds for every file: nothing unsafe is imported, everything public is documented."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("search_spaces", "estimators", "nas")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MODULES = [path for path in SOURCES if path.name != "__init__.py"]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.exists()]
# `pickletools` reads a pickle's opcodes without running them; these run what they read.
EXECUTES_WHAT_IT_READS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CALLS_THAT_EXECUTE = {"eval", "exec", "compile", "__import__"}


def named(path):
    return str(path.relative_to(ROOT))


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def unsafe_in(tree):
    """Everything in a module that could execute what it reads."""
    found = [name for name in imports_of(tree) if name.split(".")[0] in EXECUTES_WHAT_IT_READS]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in CALLS_THAT_EXECUTE or called in {"torch.load", "torch.jit.load", "pandas.read_pickle"}:
            found.append(called)
        allowed = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "allow_pickle"]
        if allowed not in ([], ["False"]) or (called == "np.load" and not allowed):
            found.append(f"{called} without allow_pickle=False")
    return found


def public_in(tree, prefix=""):
    """Public functions, classes and methods, with their nodes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public_in(node, f"{node.name}.")


def test_there_is_something_to_look_at():
    assert len(MODULES) > 30
    assert len(SOURCES) - len(MODULES) >= 7


@pytest.mark.parametrize(
    "source",
    ["eval('1')", "import pickle", "torch.load(p)", "np.load(p)", "np.savez(p, allow_pickle=a)", "from dill import x"],
)
def test_the_check_sees_what_it_looks_for(source):
    assert len(unsafe_in(ast.parse(source))) == 1


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nothing_executes_what_it_reads(path):
    assert unsafe_in(tree_of(path)) == []


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=named)
def test_a_package_holds_a_docstring_and_nothing_else(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_everything_public_is_documented(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree)
    assert [name for name, node in public_in(tree) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=named)
def test_no_path_of_one_machine(path):
    found = re.findall(r"(?<![\w.])/(?:work|root|home|Users|mnt)/\S+", path.read_text(encoding="utf-8"))
    assert found == []
