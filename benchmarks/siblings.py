"""What examples made on a shipped sibling do to the server network, and what unpairing changes.

A convolutional network on CIFAR-10 (16 x 16 pixels) is the server network. Shipped are its versions of 8 and of 4 bits,
rounded after training, which is the most alike that a sibling can be. The control has the same architecture, recipe,
members and bits, and another seed. Examples lie within 8/255 of a pixel (PGD-10; and 50 steps with momentum and five
restarts, against masked gradients). Then each sibling is unpaired, and, as an attacker may, trained further without the
penalty on records that its owner did not have (`unpaired, then trained further`).

    python benchmarks/siblings.py            # three seeds, 3,000 members, some twenty minutes on a core
    python benchmarks/siblings.py --short    # one seed, 600 members, the version of 8 bits, a minute
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from proxy import cifar10_images
from report import write_results
from shared_data import SHARED

from nas.records import Records
from nas.records import Splits
from nas.records import split
from nas.siblings.compare import ACCEPTED_ERROR
from nas.siblings.compare import WANTED_DROP
from nas.siblings.compare import Ground
from nas.siblings.compare import Kinship
from nas.siblings.compare import effect
from nas.siblings.compare import ground_for
from nas.siblings.compare import kinship
from nas.siblings.findings import Findings
from nas.siblings.findings import unpaired
from nas.siblings.pair import rounded
from nas.siblings.reach import OF_IMAGES
from nas.siblings.reach import reach_of
from nas.siblings.unpair import Unpairing
from nas.training.assess import Candidate
from nas.training.assess import set_up
from nas.training.loop import compute_device
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from nas.training.stages import train_in_stages
from search_spaces import conv
from search_spaces.network import Network

BITS = (8, 4)
FURTHER = "unpaired, then trained further"


def main() -> None:
    """Train, compare, unpair, and hold the acceptance against it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for seed in range(1 if short else 3):
        rows += measured(seed, members=600 if short else 3000, records=100 if short else 500, short=short)
    write_results("siblings_short" if short else "siblings", rows, **verdicts(rows))


def measured(seed: int, *, members: int, records: int, short: bool) -> list[dict[str, object]]:
    """Compare and unpair the siblings of one server network: a row for each network and number of bits."""
    data = split(cifar10_images(), seed=seed, members=members)
    space = conv.make_space(data.members.input_shape, data.members.num_classes)
    recipe = Recipe(epochs=8 if short else 15, weight_decay=1e-4)
    candidate = Candidate(space.decode(space.reference).as_float(), recipe)
    server, control = (trained(candidate, data, 10 * seed + number) for number in (1, 2))
    reach = reach_of(data.members, data.preprocessing, OF_IMAGES)
    ground = ground_for(server, data.non_members, reach, count=records, seed=seed)
    own = kinship("server", server, ground)
    rows = [row_of(seed, 32, own, own)]
    for bits in BITS[:1] if short else BITS:
        shipped = rounded(server, bits, data.reserve)
        networks = {
            "server": own,
            "shipped": kinship("shipped", shipped, ground),
            "control": kinship("control", rounded(control, bits, data.reserve), ground),
        }
        found = Findings(f"{bits} bits", "float", OF_IMAGES, ground, networks)
        found = unpaired(found, shipped, data, Unpairing(epochs=10) if short else Unpairing())
        assert found.result is not None
        further = trained_further(found.result.unpaired.network, data, ground)
        rows += [
            row_of(seed, bits, one, networks["shipped"]) for name, one in found.networks.items() if name != "server"
        ]
        rows.append(row_of(seed, bits, further, networks["shipped"]))
        for line in found.warnings:
            print(f"  seed {seed}, {bits} bits: {line}", flush=True)
    return rows


def trained(candidate: Candidate, data: Splits, seed: int) -> Network:
    """Train a network on the members."""
    return cast("Network", train_in_stages(set_up(candidate, data.members.features, data.members.labels, seed)))


def trained_further(network: Network, data: Splits, ground: Ground) -> Kinship:
    """Train an unpaired network further on records that its owner did not use, and compare it."""
    place, theirs = compute_device(), joined(data.reserve, data.test)
    features, labels = (torch.from_numpy(part).to(place) for part in (theirs.features, theirs.labels))
    recipe = Recipe(epochs=5, learning_rate=1e-3)
    setup = plain_setup(network.architecture, features, labels, recipe, seed=0)
    setup = replace(setup, start=network.state_dict())
    return kinship(FURTHER, cast("Network", train(setup)), ground)


def joined(first: Records, second: Records) -> Records:
    """Put two sets of records into one."""
    parts = (first, second)
    features, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "labels"))
    return Records(features, labels, first.classes)


def row_of(seed: int, bits: int, found: Kinship, shipped: Kinship) -> dict[str, object]:
    """One line: what a network gives away, and how much less than the shipped one."""
    row: dict[str, object] = {"seed": seed, "bits": bits, "network": found.name, "error": found.error.value}
    changed = effect(shipped, found)
    row |= {"error_less_shipped": changed.error.value, "cosine": found.similarity.cosine.value}
    for name, fooled in found.fooled.items():
        transfer = fooled.transfer
        row |= {f"{name} transfer": transfer.value, f"{name} low": transfer.low, f"{name} high": transfer.high}
        row |= {f"{name} white box": fooled.white_box.value, f"{name} drop": changed.drop[name]}
    return row


def verdicts(rows: list[dict[str, object]]) -> dict[str, object]:
    """Say in how many cases the unpaired networks hold what is asked of them."""
    told: dict[str, object] = {}
    for name in ("unpaired", FURTHER):
        found = [row for row in rows if row["network"] == name]
        drops = [[value for key, value in row.items() if key.endswith(" drop")] for row in found]
        held = [
            all(drop is not None and drop >= WANTED_DROP for drop in dropped)
            and row["error_less_shipped"] <= ACCEPTED_ERROR + 1e-9
            for row, dropped in zip(found, drops, strict=True)
        ]
        least = min((drop for dropped in drops for drop in dropped if drop is not None), default=0.0)
        told[name] = f"held in {sum(held)} of {len(held)}, least drop {least:.2f}"
    return told


if __name__ == "__main__":
    main()
