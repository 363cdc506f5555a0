"""What NNI's processes are told: the settings in a file that NNI takes wherever it starts a trial.

The storage's URL may hold a password, so it is not in the file, nor in anything that NNI's open web page shows: the
tuner finds it in its environment.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from nas.base import files
from nas.base import plugins
from nas.search import storage_url
from nas.search.config import modules_in
from nas.search.config import parse_config
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.storage import NNI_PAGE

# The folder NNI copies to where a trial runs, and the file in it.
CODE = "code"
SETTINGS = "search.json"
# What the search asks of NNI's experiment.
REQUEST = "request.json"
# Written by the tuner when nothing is left to do, or by the manager when it gives up: empty, or why.
ENDED = "ended.txt"
# Holds the address of NNI's web page while there is one.
PAGE = NNI_PAGE.name
STORAGE = storage_url.VARIABLE
HOME = "GECKO_NAS_HOME"


def write(plan: Plan, folder: Path) -> None:
    """Write the settings into the folder that NNI copies."""
    config = plan.config.model_dump(mode="json", exclude={"storage"})
    place = {"runs": str(plan.folder.parent.resolve()), "directory": str(Path.cwd())}
    files.write_json(folder / CODE / SETTINGS, {"config": config, **place})


def read(path: Path) -> Plan:
    """Resolve the settings in a process that NNI started, from the directory in which the search was.

    Raises:
        ValueError: If a name is unknown or the data cannot be used where this runs.
    """
    settings = json.loads(path.read_text())
    _go_home(Path(settings["directory"]))
    config = parse_config({**settings["config"], "storage": os.environ.get(STORAGE)})
    plugins.check_allowed(str(path), *modules_in(settings["config"]))
    return resolve(config, Path(settings["runs"]))


def _go_home(directory: Path) -> None:
    """Undo what kept NNI's own files out of the home folder, and find relative paths where the user meant them."""
    if home := os.environ.pop(HOME, None):
        os.environ["HOME"] = home
    if directory.is_dir():  # another machine may not have it; absolute paths work there
        os.chdir(directory)
