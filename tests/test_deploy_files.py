"""The files in deploy/: each is checked by what is installed here, and every `nas` command in them by the program."""

import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from types import SimpleNamespace

import pytest
import typer
import yaml

from nas.cli import app
from nas.search import storage_url

DEPLOY = Path(__file__).parents[1] / "deploy"
STORAGE = "postgresql+psycopg2://nas:***@database/studies"


def parsed(command):
    """Let the program parse a command, without running it; returns its parameters."""
    assert command[0] == "nas"
    found = typer.main.get_command(app).commands[command[1]]
    return found.make_context(command[1], list(command[2:])).params


def is_taken_from_the_environment(url, monkeypatch):
    whole = url.replace("***", "secret")
    monkeypatch.setenv(storage_url.VARIABLE, whole)
    return storage_url.checked(url) == whole


def test_compose(monkeypatch):
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    search, worker = (parsed(services[name]["command"]) for name in ("search", "worker"))
    assert search["storage"] == worker["storage"] == STORAGE
    assert search["name"] == worker["run"] == "camera"
    assert is_taken_from_the_environment(STORAGE, monkeypatch)
    environment = services["worker"]["environment"][storage_url.VARIABLE]
    assert environment.startswith("postgresql+psycopg2://nas:${POSTGRES_PASSWORD") or "${" in environment
    assert environment.endswith("@database/studies")
    assert services["database"]["environment"]["POSTGRES_DB"] == "studies"


def test_compose_by_its_own_validator():
    has_compose = (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode
    )
    if not has_compose:
        pytest.skip("docker compose is not installed")
    environment = {"POSTGRES_PASSWORD": "x", "DATA": "/tmp", "PATH": "/usr/local/bin:/usr/bin:/bin"}
    command = ["docker", "compose", "-f", DEPLOY / "compose.yaml", "config", "-q"]
    subprocess.run(command, check=True, env=environment, capture_output=True)


def test_kubernetes():
    job = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    worker = parsed(container["command"])
    assert (worker["storage"], worker["run"], str(worker["data_path"])) == (STORAGE, "camera", "/data")
    assert worker["workers"] == int(container["resources"]["requests"]["cpu"])
    assert [variable["name"] for variable in container["env"]] == [storage_url.VARIABLE]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.skipif(sys.platform == "win32", reason="a script of bash")
def test_slurm(tmp_path):
    """The script runs with programs of its names that write down what they are given."""
    script = DEPLOY / "slurm.sh"
    (tmp_path / "srun").write_text('#!/bin/bash\nprintf "%q " "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "4"}
    command = ["bash", str(script), STORAGE, "camera", "/scratch/my data"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    worker = parsed(shlex.split(told.stdout))
    assert (worker["storage"], worker["run"], str(worker["data_path"])) == (STORAGE, "camera", "/scratch/my data")
    assert worker["workers"] == 4
    missing = subprocess.run(command[:3], check=False, capture_output=True, text=True, env=environment)
    assert missing.returncode != 0
    assert "the name of the run" in missing.stderr
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(script)], check=True)


class Later:
    """A call that a cluster would make elsewhere, made here."""

    def __init__(self, function):
        self.remote = function


class Client:
    def __init__(self, address):
        self.address = address

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments, pure, retries):
        assert not pure
        return function(*arguments)

    def gather(self, started):
        return started


RAY = SimpleNamespace(init=lambda: None, get=list, remote=lambda **_: Later)
DASK = SimpleNamespace(Client=Client, wait=lambda started: None)


@pytest.mark.parametrize(("name", "first"), [("ray_workers.py", ()), ("dask_workers.py", ("tcp://head:8786",))])
def test_ray_and_dask(name, first, monkeypatch):
    """The scripts run against stand-ins of the cluster: neither is a dependency."""
    modules = {"ray": RAY, "dask": SimpleNamespace(distributed=DASK), "dask.distributed": DASK}
    for module, content in modules.items():
        stand_in = ModuleType(module)
        stand_in.__dict__.update(vars(content))
        monkeypatch.setitem(sys.modules, module, stand_in)
    ran = []

    def run(command, *, check):
        assert check
        ran.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", [name, *first, STORAGE, "camera", "--count", "3", "--data-path", "/data"])
    runpy.run_path(str(DEPLOY / name), run_name="__main__")
    assert len(ran) == 3
    worker = parsed(ran[0])
    assert (worker["storage"], worker["run"], worker["workers"]) == (STORAGE, "camera", 1)
    assert str(worker["data_path"]) == "/data"


def test_the_guide_names_every_file():
    guide = (DEPLOY.parent / "docs" / "scale.md").read_text(encoding="utf-8")
    assert [path.name for path in DEPLOY.iterdir() if f"deploy/{path.name}" not in guide] == []
