"""Gecko's two phases on three kinds of network, beside the defences that its paper compares, and beside fewer epochs.

CIFAR-10 at 16 x 16, 2,500 members, and networks like NiN, AlexNet and VGG (`nas list networks`). All versions of a
network have one recipe, without changed copies of images. Phase I is the network of 1 bit, its first and last layer of
8 bits, that learns the labels. In phase II the same network learns a float teacher's answers alone: those of its float
twin, or of a ResNet-8 (the paper: DenseNet-169 or ResNet-50). Float networks of fewer epochs and of fewer channels
stand beside: a defence that leaks no less than one of them at its error is not worth its cost.

Each version is trained eight times on random halves of the same 5,000 images, and each training is attacked by the six
on other halves: online LiRA, thresholds by class on modified entropy, the highest posterior (the paper's attack), and
the gap. Shadows repeat the whole defence, teachers included. A version is compared with another training by training,
on the same halves: intervals are Student's over the eight, 95 %. Bytes are those of packed weights.

Published figures (Duddu, Boutet and Shejwalkar, 2022) are accuracies on 50,000 members at 32 x 32, where the threshold
of the attack was chosen on the records that were counted; the published row of VGG in float is that of VGG16, the
others are of VGG13. The weights of the published binary networks were never binary in the published code, and the
published DP-SGD has a noise multiplier of 1e-6.

    python benchmarks/gecko.py            # an hour on two cores the first time; networks are kept
    python benchmarks/gecko.py --short    # one network, 400 members, phases only
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from compression_leakage import in_precision
from compression_leakage import latency_ms
from compression_leakage import packed_bytes
from report import write_results
from shared_data import SHARED
from versions import Figures
from versions import Task
from versions import attacked
from versions import cifar10
from versions import defended
from versions import interval
from versions import less
from versions import means
from versions import train
from versions import verdict
from versions import won_back

from estimators.leakage.attacks import confidence
from estimators.leakage.attacks import gap
from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import modified_entropy_by_class
from nas.defences import dp_sgd
from nas.records import Splits
from nas.training.assess import Candidate
from nas.training.recipe import Recipe
from search_spaces import resnet
from search_spaces import vgg
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.space import SearchSpace

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "gecko"
SEED, TRAININGS, MEMBERS, EPOCHS = 31, 8, 2500, 30
NETWORKS = {"NiN": "nin-cifar", "AlexNet": "alexnet-cifar", "VGG": "vgg-cifar"}
FLOAT, PHASE_ONE = "float", "phase I"
TWIN, LARGER = "phase II, teacher a twin", "phase II, teacher ResNet-8"
EPSILON = 8.0
ADVERSARY, PRIVATE = "adversarial regularisation", f"DP-SGD, epsilon {EPSILON:g}"
SHORTER = (8, 4, 2)
"""Float trainings of a part of the epochs: an eighth, a quarter, a half."""
NARROWER = "float, a quarter of the channels"
ATTACKS = {
    "auc": lira_online.attack,
    "threshold_auc": modified_entropy_by_class.attack,
    "confidence_auc": confidence.attack,
    "gap_auc": gap.attack,
}
PUBLISHED: Mapping[tuple[str, str], tuple[float, float, float]] = {
    ("NiN", FLOAT): (98.16, 86.16, 56.69),
    ("NiN", PHASE_ONE): (81.93, 78.74, 51.76),
    ("NiN", TWIN): (90.49, 83.52, 53.90),
    ("NiN", LARGER): (91.74, 83.77, 54.53),
    ("NiN", ADVERSARY): (87.48, 83.66, 51.92),
    ("NiN", PRIVATE): (92.80, 85.11, 54.09),
    ("AlexNet", FLOAT): (97.86, 80.34, 60.40),
    ("AlexNet", PHASE_ONE): (68.62, 66.8, 51.40),
    ("AlexNet", TWIN): (76.79, 73.5, 51.85),
    ("AlexNet", LARGER): (80.12, 74.92, 53.12),
    ("AlexNet", ADVERSARY): (73.97, 71.02, 51.83),
    ("AlexNet", PRIVATE): (84.76, 79.27, 52.81),
    ("VGG", FLOAT): (99.58, 88.95, 58.70),
    ("VGG", PHASE_ONE): (79.67, 74.64, 52.65),
    ("VGG", TWIN): (89.45, 81.58, 54.98),
    ("VGG", LARGER): (94.23, 86.52, 54.46),
    ("VGG", ADVERSARY): (89.09, 85.19, 53.33),
    ("VGG", PRIVATE): (90.46, 84.91, 52.90),
}
"""Accuracies in percent on members, on test records, and of the attack: tables and figure of the paper; ResNet-50 is
its teacher in the rows with a ResNet-8 here."""


def main() -> None:
    """Train, attack, and hold the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    told: dict[str, object] = {}
    for network in ("NiN",) if short else NETWORKS:
        task = cifar10(partial(versions_of, NETWORKS[network], short=short), members=400 if short else MEMBERS)
        teachers = {} if short else {LARGER: Candidate(residual(task.data), task.versions[FLOAT].recipe)}
        found = {}
        for name, spec in train(task, TRAININGS, SEED, CACHE, teachers).items():
            found[name] = attacked(task, spec, TRAININGS, ATTACKS)
            print(f"  {network}: {name} attacked", flush=True)
        rows += [row_of(network, task, name, found) for name in task.versions]
        told |= {f"{network}: {claim}": became for claim, became in claims(found)}
    write_results("gecko_short" if short else "gecko", rows, trainings=TRAININGS, **told)


def versions_of(named: str, data: Splits, *, short: bool) -> dict[str, Candidate]:
    """A network in float, in both phases, with other defences, and in float with fewer epochs or channels."""
    space = vgg.make_space(data.members.input_shape, data.members.num_classes)
    point = {**space.reference, **vgg.NETWORKS[named].params}
    recipe = Recipe(epochs=EPOCHS, weight_decay=1e-4)
    plain = Candidate(space.decode(point).as_float(), recipe)
    binary = replace(plain, architecture=space.decode(in_precision(space, point, 1)))
    phases = {FLOAT: plain, PHASE_ONE: binary, TWIN: defended(binary, "gecko")}
    if short:
        return phases
    private = {**dp_sgd.PARAMETERS, "epsilon": EPSILON}
    shorter = {f"float, {EPOCHS // part} epochs of {EPOCHS}": EPOCHS // part for part in SHORTER}
    return {
        **phases,
        LARGER: phases[TWIN],
        ADVERSARY: defended(plain, "adversarial_regularization", strength=1.0),
        PRIVATE: defended(plain, "dp_sgd", **private),
        NARROWER: replace(plain, architecture=narrower(space, point)),
        **{name: replace(plain, recipe=replace(recipe, epochs=epochs)) for name, epochs in shorter.items()},
    }


def narrower(space: SearchSpace, point: Params) -> Architecture:
    """Return a network with a quarter of the channels, or the fewest that there are."""
    fewer = {}
    for name, distribution in space.distributions.items():
        if name.endswith("_width"):
            wanted = int(str(point[name])) // 4
            fewer[name] = min(distribution.choices, key=lambda width: abs(width - wanted))
    return space.decode({**point, **fewer}).as_float()


def residual(data: Splits) -> Architecture:
    """Return ResNet-8 in float, for these records."""
    space = resnet.make_space(data.members.input_shape, data.members.num_classes)
    return space.decode({**space.reference, **resnet.NETWORKS["mlperf-resnet8"].params}).as_float()


def row_of(network: str, task: Task, name: str, found: Mapping[str, Figures]) -> dict[str, object]:
    """One line: means over the trainings, half-widths of their intervals, cost, and what was published."""
    row: dict[str, object] = {"network": network, "version": name}
    row |= means(found[name], ("error", "member_error"))
    for attack in ATTACKS:
        row |= means(found[name], (attack, attack.replace("auc", "tpr_at_1pct_fpr")))
    row |= means(found[name], ("confidence_accuracy",))
    row |= less(found[name], found[FLOAT], ("error", "auc", "threshold_auc"), FLOAT)
    architecture = task.versions[name].architecture
    row |= {"latency_ms": latency_ms(architecture), "bytes": packed_bytes(architecture)}
    published = PUBLISHED.get((network, name), (None, None, None))
    names = ("published_member_accuracy", "published_test_accuracy", "published_attack_accuracy")
    return row | dict(zip(names, published, strict=True))


def claims(found: Mapping[str, Figures]) -> Iterator[tuple[str, str]]:
    """Hold what was published against what was measured; nothing here is tuned until it agrees."""
    plain, binary = found[FLOAT], found[PHASE_ONE]
    yield "phase I has the smaller gap", verdict(*interval(plain["gap"] - binary["gap"]))
    yield "phase I leaks less, by thresholds", verdict(*interval(plain["threshold_auc"] - binary["threshold_auc"]))
    yield "phase I leaks less, by LiRA", verdict(*interval(plain["auc"] - binary["auc"]))
    yield "phase I errs more", verdict(*interval(binary["error"] - plain["error"]))
    for name in (name for name in (TWIN, LARGER) if name in found):
        yield (
            f"{name}: at least half of the accuracy that phase I costs is won back",
            won_back(found[name], binary, plain),
        )
        for figure, attack in (("auc", "LiRA"), ("threshold_auc", "thresholds")):
            given, half = interval(found[name][figure] - binary[figure])
            yield f"{name}: AUC given back, by {attack}", f"{given:+.3f} +- {half:.3f}"
    plainly = [name for name in found if name.startswith(f"{FLOAT}, ")]
    for name in (name for name in found if plainly and name != FLOAT and name not in plainly):
        yield f"{name} leaks less than float at its error", against_float(found, name, [FLOAT, *plainly])


def against_float(found: Mapping[str, Figures], name: str, plainly: list[str]) -> str:
    """Compare a defence with the float training that leaks least among those that err no more often than it."""
    error = found[name]["error"].mean()
    as_good = [other for other in plainly if found[other]["error"].mean() <= error]
    if not as_good:
        return "no float training here errs as seldom"
    rival = min(as_good, key=lambda other: found[other]["auc"].mean())
    return f"{verdict(*interval(found[rival]['auc'] - found[name]['auc']))}, to {rival}"


if __name__ == "__main__":
    main()
