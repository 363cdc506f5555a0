# ruff: noqa: INP001
"""Start workers of a search on a Ray cluster: `python deploy/ray_workers.py STORAGE RUN --count 20`.

Ray only starts them. The study shares out the candidates, so a node may join or die at any time. `gecko-nas` must be
installed on the nodes, and `GECKO_NAS_STORAGE` be set there where the storage's URL has a password.
"""

import argparse
import subprocess

import ray


@ray.remote(num_cpus=1, max_retries=-1)
def work(command: list[str]) -> int:
    """Run one worker until the search has its candidates; Ray starts it again elsewhere if its node dies."""
    return subprocess.run(command, check=True).returncode  # noqa: S603 - what the user asked for


def main() -> None:
    """Start the workers and wait for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("storage", help="the search's storage, with *** for its password")
    parser.add_argument("run", help="name of the run")
    parser.add_argument("--count", type=int, default=20, help="number of workers, one core each")
    arguments, options = parser.parse_known_args()
    command = ["nas", "worker", arguments.storage, arguments.run, "--workers", "1", *options]
    ray.init()
    ray.get([work.remote(command) for _ in range(arguments.count)])


if __name__ == "__main__":
    main()
