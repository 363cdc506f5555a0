# ruff: noqa: INP001
"""Start workers of a search on a Dask cluster: `python deploy/dask_workers.py SCHEDULER STORAGE RUN --count 20`.

Dask only starts them. The study shares out the candidates, so a node may join or die at any time. `gecko-nas` must be
installed on the nodes, and `GECKO_NAS_STORAGE` be set there where the storage's URL has a password.
"""

import argparse
import subprocess

from dask.distributed import Client
from dask.distributed import wait


def work(command: list[str]) -> int:
    """Run one worker until the search has its candidates."""
    return subprocess.run(command, check=True).returncode  # noqa: S603 - what the user asked for


def main() -> None:
    """Start the workers and wait for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scheduler", help="address of Dask's scheduler, tcp://HOST:8786")
    parser.add_argument("storage", help="the search's storage, with *** for its password")
    parser.add_argument("run", help="name of the run")
    parser.add_argument("--count", type=int, default=20, help="number of workers, one core each")
    arguments, options = parser.parse_known_args()
    command = ["nas", "worker", arguments.storage, arguments.run, "--workers", "1", *options]
    with Client(arguments.scheduler) as client:
        # Equal calls are one to Dask, unless they are said to be impure.
        started = [client.submit(work, command, pure=False, retries=1000) for _ in range(arguments.count)]
        wait(started)
        client.gather(started)


if __name__ == "__main__":
    main()
