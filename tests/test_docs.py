"""The documentation is true: its plug-ins and its start page run, its names exist, what is generated is up to date."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from optuna.trial import TrialState

from estimators.devices.files import load_device
from nas import spaces
from nas.base import plugins
from nas.search import study as search
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.storage import open_study
from tests.conftest import command_line
from tests.conftest import time_at_any_load
from tests.conftest import work_here

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ADDING = DOCS / "adding.md"
PAGES = [ROOT / "README.md", ROOT / "runs" / "README.md", *sorted(DOCS.rglob("*.md"))]
LARGEST_PICTURE_KIB = 150


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def program(path: str) -> ModuleType:
    """Import a program that is no package's module, under a name that no other module has."""
    name = f"documented_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


# Plug-ins


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    blocks = re.findall(r'```python title="(\w+\.py)"\n(.*?)```', ADDING.read_text(), flags=re.DOTALL)
    assert len(blocks) == 4
    package = tmp_path / "documented"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, source in blocks:
        (package / name).write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(plugins.TRUSTED, "")
    plugins.trust(*(f"documented.{name.removesuffix('.py')}" for name, _ in blocks))
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "documented"]:
        del sys.modules[name]


def test_a_search_made_of_documented_plugins_runs(documented: Path, tmp_path: Path) -> None:
    config = parse_config(
        {
            "name": "documented",
            "space": "mlp",
            "dataset": "documented.two_moons",
            "attack": "documented.margin",
            "defences": ["none", "documented.gradient_noise"],
            "defence_parameters": {"documented.gradient_noise": {"strength": {"low": 0.1, "high": 0.5}}},
            "recipe": {"epochs": 2},
            "trials": 3,
        }
    )
    plan = resolve(config, tmp_path / "runs")
    study = open_study(plan)
    search.work(plan, study)
    trained = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(trained) == 3
    assert all(0 <= trial.user_attrs["leakage"] <= 1 for trial in trained)
    defended = [trial for trial in trained if trial.params["defence"] == "documented.gradient_noise"]
    assert all(0.1 <= trial.user_attrs["defence_parameters"]["strength"] <= 0.5 for trial in defended)
    assert defended


@pytest.mark.usefixtures("documented")
def test_the_documented_metric_counts_by_hand() -> None:
    space = plugins.load("search_spaces", "mlp", "make_space")((4,), 2)
    estimate = plugins.load("estimators.cost", "documented.weight_reads_kib", "estimate")
    # 4 x 16 weights of 4 bits and 16 x 2 of 8 bits are 32 + 32 bytes.
    network = space.decode({**space.reference, "depth": 1, "layer1_width": 16, "first_bits": 4, "last_bits": 8})
    assert estimate(network, load_device("stm32h747")).value == pytest.approx(64 / 1024)


# Spaces and compressions


def test_the_commands_of_the_page_on_spaces_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = re.findall(r"^    (nas .*)$", (DOCS / "spaces.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["search", "estimate", "export", "estimate"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nas.search.workers.run", work_here)
    quick = ["--members", "60", "--references", "2", "--trials", "1", "--epochs", "1"]
    for command in commands:
        _, *arguments = shlex.split(command)
        result = command_line(*arguments, *(quick if arguments[0] == "search" else []))
        assert result.code == 0, f"{command}{result.err}"
    assert (tmp_path / "keyword" / "int8.onnx").exists()


def test_the_device_that_the_page_on_spaces_shows_saves_time_and_flash_of_zeros(tmp_path: Path) -> None:
    page = (DOCS / "spaces.md").read_text(encoding="utf-8")
    block = re.search(r"^    base = .*?(?=^\S)", page, flags=re.DOTALL | re.MULTILINE)[0]
    (tmp_path / "chip.toml").write_text(textwrap.dedent(block))
    chip = load_device(str(tmp_path / "chip.toml"))
    assert chip.shared_values
    sparse, dense = chip.sparsity["2:4"], load_device("stm32l4r5")
    assert sparse.index_bits == 2
    assert not dense.sparsity
    space = spaces.compressible(spaces.space_named("resnet", (3, 32, 32), 10), ("sparsity",))
    point = {**space.reference, "sparsity.share": 0.5, "sparsity.pattern": "2:4"}
    network = space.decode(point)
    for metric in ("latency_ms", "flash_kib"):
        estimate = plugins.load("estimators.cost", metric, "estimate")
        assert estimate(network, chip).value < estimate(network, dense).value


# A space of one's own


def test_the_page_on_a_space_of_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "own_space.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r'```\w+ title="([\w.]+)"\n(.*?)```', page, flags=re.DOTALL))
    assert list(blocks) == ["small_convs.py", "check", "estimate", "search", "show"]
    source = blocks.pop("small_convs.py")
    assert source == (ROOT / "examples" / "own_space" / "small_convs.py").read_text(encoding="utf-8")
    (tmp_path / "small_convs.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nas.search.workers.run", work_here)
    _, *script = shlex.split(blocks.pop("check"))
    subprocess.run([sys.executable, *script], check=True)
    printed = {}
    for name, block in blocks.items():
        for line in block.splitlines():
            first, *arguments = shlex.split(line)
            result = command_line(*arguments)
            assert (first, result.code) == ("nas", 0), f"{line}{result.err}"
            printed[name] = printed.get(name, "") + result.out
    assert "thop: 156,832 MACs, 2,682 parameters" in printed["estimate"]
    assert "the space is narrowed: set weight_bits=8,4" in printed["show"]
    assert "2 trained" in printed["show"]


# NNI


needs_nni = pytest.mark.skipif(importlib.util.find_spec("nni") is None, reason="the extra [nni] is not installed")
NNI_PAGE = (DOCS / "nni.md").read_text(encoding="utf-8")
NNI_BLOCKS = dict(re.findall(r'```\w+ title="([\w ]+)"\n(.*?)```', NNI_PAGE, flags=re.DOTALL))


@needs_nni
def test_the_commands_on_a_model_space_of_nnis_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (ROOT / "examples" / "nni_space" / "nni_convs.py").read_text(encoding="utf-8")
    lines = re.findall(r"^```python\nfrom functools.*?```", NNI_PAGE, flags=re.DOTALL | re.MULTILINE)[0].splitlines()[
        1:-1
    ]
    assert [line for line in lines if line != "[...]" and line not in source] == []
    (tmp_path / "nni_convs.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(plugins.TRUSTED, "")
    monkeypatch.setattr("nas.search.workers.run", work_here)
    check, estimate, search = re.split(r"^(?=nas )", NNI_BLOCKS["model space"], flags=re.MULTILINE)
    _, *script = shlex.split(check)
    subprocess.run([sys.executable, *script], check=True)
    for line in (estimate, search):
        result = command_line(*shlex.split(line)[1:])
        assert result.code == 0, f"{line}{result.err}"
    assert "2 trained" in command_line("show", "model", "--plugin", "./nni_convs.py").out


@needs_nni
def test_the_documented_strategy_of_nnis_searches_a_space_of_ours() -> None:
    names: dict[str, object] = {}
    exec(compile(NNI_BLOCKS["strategy"], "strategy", "exec"), names)
    models = list(names["strategy"].list_models(sort=False))
    assert len(models) == 40
    assert names["best"] in [model.sample for model in models]
    assert max(model.metric for model in models) == next(names["strategy"].list_models()).metric


# The start page


@dataclass(frozen=True)
class Started:
    """What the start page's commands left: the folder they ran in, what each printed, the number that was picked."""

    folder: Path
    printed: dict[str, str]
    number: int


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Started:
    """Run the commands of the start page as they stand, with fewer trials and a quick audit."""
    blocks = dict(re.findall(r'```sh title="(\w+)"\n(.*?)```', (DOCS / "start.md").read_text(), flags=re.DOTALL))
    assert list(blocks) == ["data", "search", "show", "pick", "audit", "export", "measure"]
    shown = re.search(r"picks/(\d+)$", blocks["export"].strip())[1]
    folder = tmp_path_factory.mktemp("start")
    printed, number = {}, ""
    more = {"search": ["--trials", "19"], "audit": ["--effort", "quick"], "measure": ["--rounds", "1"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("nas.search.workers.run", work_here)
        patch.setattr("nas.deploy.deployed.time_models", time_at_any_load)
        _, *script = shlex.split(blocks.pop("data"))
        subprocess.run([sys.executable, *script], check=True)
        for name, block in blocks.items():
            first, *arguments = shlex.split(block)
            assert first == "nas"
            # Other processors round otherwise, so another candidate may be the knee.
            arguments = [re.sub(rf"^{shown}$|(?<=picks/){shown}$", number, argument) for argument in arguments]
            result = command_line(*arguments, *more.get(name, []))
            assert result.code == 0, f"{block}{result.err}"
            printed[name] = result.out
            if name == "pick":
                number = re.match(r"candidate (\d+): ", result.out)[1]
    return Started(folder, printed, int(number))


def test_the_start_page_leads_from_a_csv_to_an_exported_network(started: Started) -> None:
    pick = started.folder / "runs" / "patients" / "picks" / str(started.number)
    assert {path.name for path in pick.iterdir()} >= {"float32.onnx", "int8.onnx", "card.md", "weights.safetensors"}
    assert (started.folder / "runs" / "patients" / "audits" / str(started.number) / "audit.html").exists()
    assert "leakage: AUC" in started.printed["audit"]
    assert "prediction" in started.printed["measure"]


def test_the_documented_calibration_prints_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "cost.md").read_text(encoding="utf-8")
    block = re.search(r"^    nas calibrate --device pump .*?(?=^- )", page, flags=re.DOTALL | re.MULTILINE)[0]
    typed, shown = (textwrap.dedent(part) for part in block.strip("\n").split("\n\n", maxsplit=1))
    monkeypatch.chdir(tmp_path)
    program("docs/simulated_measurements.py").write(tmp_path / "measurements.csv")
    result = command_line(*shlex.split(typed.replace("\\\n", " "))[1:])
    assert result.code == 0, result.err
    printed = result.out.splitlines()
    assert [line for line in shown.strip().splitlines() if line != "[...]" and line not in printed] == []


# What is generated


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return program("docs/generate_reference.py")


@pytest.mark.parametrize("name", ["commands.md", "configuration.md", "devices.md", "json.md"])
def test_the_references_are_those_of_the_code(generator: ModuleType, name: str) -> None:
    written = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert generator.pages()[name] == written, "run python docs/generate_reference.py"


def test_every_option_and_key_of_the_references_has_a_meaning() -> None:
    for page in sorted((DOCS / "reference").glob("*.md")):
        nameless = [line for line in page.read_text().splitlines() if re.fullmatch(r"\| `.*\|\s*\|", line)]
        # The argument RUN and the levels of an accelerator's memory say what they are.
        assert [line for line in nameless if not re.match(r"\| `(RUN|register_file|array|buffer|dram)`", line)] == []


def test_the_page_of_benchmarks_is_that_of_the_result_files() -> None:
    tables = program("benchmarks/tables.py")
    assert tables.page() == tables.PAGE.read_text(encoding="utf-8"), "run python benchmarks/tables.py"


def test_every_result_file_has_a_table() -> None:
    tables = program("benchmarks/tables.py")
    shown = {"attacks", *(table.result for table in tables.TABLES)}
    kept = {path.stem for path in tables.RESULTS.glob("*.json") if not path.stem.endswith("_short")}
    assert kept - shown == set()


def test_a_front_is_drawn_from_a_run(trained_run, tmp_path: Path) -> None:
    picture = tmp_path / "front.png"
    program("docs/front_picture.py").main(trained_run.folder, picture)
    assert 5_000 < picture.stat().st_size < LARGEST_PICTURE_KIB * 1024
    assert (DOCS / "front.png").stat().st_size < LARGEST_PICTURE_KIB * 1024


# JSON


@pytest.fixture(scope="module")
def fields() -> Callable[..., set[str]]:
    """The documented fields of some sections of the JSON reference."""
    text = (DOCS / "reference" / "json.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}

    def of(*titles: str) -> set[str]:
        return {name for title in titles for name in re.findall(r"^\| `(\w+)` \|", sections[title], flags=re.MULTILINE)}

    return of


def bare(names: object) -> set[str]:
    """Names without what stands beside an estimated number: the ends of its interval, and that it is extrapolated."""
    return {re.sub(r"_(low|high|extrapolated)$", "", name) for name in names}


@pytest.mark.parametrize(
    ("arguments", "titles"),
    [
        (["show", "small"], ["nas show, nas search"]),
        (["compare", "small", "0", "3"], ["nas compare"]),
        (["estimate", "small:0"], ["nas estimate", "Measures"]),
        (["estimate", "small:0", "--device", "all"], ["nas estimate"]),
        (["estimate", "small:0", "--by-layer"], ["nas estimate"]),
        (["export", "small:0"], ["nas export"]),
    ],
)
def test_every_field_that_a_command_prints_is_documented(
    trained_run, fields, tmp_path, arguments: list[str], titles: list[str]
) -> None:
    elsewhere = ["--output", str(tmp_path)] if arguments[0] == "export" else []
    result = command_line(*arguments, "--json", "--runs", trained_run.runs, *elsewhere)
    told = json.loads(result.out)
    assert bare(told) - fields(*titles) == set()
    for title, rows in (
        ("Candidate", told.get("front", []) + told.get("candidates", [])),
        ("Layer", told.get("layers", [])),
        ("Difference", [row for other in told.get("differences", []) for row in other["metrics"]]),
    ):
        assert {name for row in rows for name in bare(row)} - fields(title, "Measures") == set()
    assert set(told.get("counts", {})) == (fields("Counts") if "counts" in told else set())
    assert set(told.get("basis", {})) - fields("Device") == set()


def test_every_field_of_a_list_of_devices_is_documented(fields) -> None:
    told = json.loads(command_line("list", "devices", "--json").out)
    assert {name for device in told["devices"].values() for name in device} == fields("Device")


def test_every_field_of_a_list_of_networks_is_documented(fields) -> None:
    told = json.loads(command_line("list", "networks", "--json").out)
    assert {name for network in told["networks"].values() for name in network} == fields("Network")


def test_every_field_of_an_audit_is_documented(started: Started, fields) -> None:
    path = started.folder / "runs" / "patients" / "audits" / str(started.number) / "audit.json"
    told = json.loads(path.read_text())
    assert bare(told) - fields("nas audit RUN --pick N, nas audit FILE") == set()
    for title, name in (("Finding", "findings"), ("Record", "records")):
        assert {field for row in told[name] for field in bare(row)} - fields(title) == set()
    assert {field for row in told["findings"] for one in row["epsilon_bounds"] for field in one} == fields("Bound")


# The site


def test_the_site_is_made_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {page.stem: page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html")}
    assert {page.stem for page in PAGES if page.parent.name == "docs" and page.name != "README.md"} <= pages.keys()
    loaded = {
        link
        for page in pages.values()
        for link in re.findall(r"<(?:script|link|img)\b[^>]*(?:src|href)=\"([^\"]+)", page)
    }
    assert [link for link in loaded if "//" in link] == []
    assert [name for name, page in pages.items() if 'href="../nas/' in page or "```" in page] == []


# Names


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_path_and_module_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w/.-])((?:search_spaces|estimators|nas|tests|benchmarks|docs)/[\w./*-]*\w)", text)
    # A name in capitals or with a star stands for many.
    missing = [path for path in paths if not re.search(r"[A-Z*]", path) and not (ROOT / path).exists()]
    modules = re.findall(r"(?<![\w/.])((?:search_spaces|estimators|nas)(?:\.[a-z]\w*)+)(?![\w/])", text)
    missing += [name for name in modules if not _is_module_or_in_one(name)]
    assert missing == []


def _is_module_or_in_one(name: str) -> bool:
    """Tell whether a dotted name is a package, a module, or something that a module defines."""
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        path = ROOT.joinpath(*parts[:length])
        if path.with_suffix(".py").exists():
            rest = parts[length:]
            return not rest or re.search(rf"\b{rest[0]}\b", path.with_suffix(".py").read_text()) is not None
        if path.is_dir():
            return length == len(parts)
    return False


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "reference"], ids=named)
def test_every_option_that_is_named_exists(generator: ModuleType, page: Path) -> None:
    known: dict[str, set[str]] = {}
    for part in re.split(r"^## nas ", generator.pages()["commands.md"], flags=re.MULTILINE)[1:]:
        known[part.partition("\n")[0]] = set(re.findall(r"^\| `(--[\w-]+)`", part, flags=re.MULTILINE))
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"(?:^ {4}|^|`)nas (\w+)\b([^`\n]*)", text, flags=re.MULTILINE)
    assert [name for name, _ in lines if name not in known and name not in ("COMMAND", "is")] == []
    strange = [
        f"nas {name} {flag}"
        for name, rest in lines
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", rest.partition(" #")[0])
        if flag not in known.get(name, {flag}) | {"--help"}
    ]
    assert strange == []


# Quoted output


def shown_in(line: str, printed: list[str]) -> bool:
    """Tell whether a line of the README is one that was printed; `[...]` stands for any rest."""
    words = re.escape(" ".join(line.split())).replace(re.escape("[...]"), ".*")
    return any(re.fullmatch(words, whole) for whole in printed)


def test_the_readme_shows_what_its_commands_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    shown = program("benchmarks/readme_commands.py").examples((ROOT / "README.md").read_text())
    printed = json.loads((ROOT / "benchmarks/results/readme_commands.json").read_text())["printed"]
    assert list(shown) == list(printed)
    assert len(shown) == 6
    for command, lines in shown.items():
        assert [line for line in lines if not shown_in(line, printed[command])] == []
        assert lines
