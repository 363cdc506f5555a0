"""Fit the microcontrollers' cycles to published measurements and state the error on networks left out.

    python benchmarks/latency_mcu.py

Reads `../shared/data/stm32` (ST's model zoo: int8 networks on one STM32H747) and `../shared/data/mlperf_tiny` (four
networks on many boards and engines), prints what the device files hold, beside one cycles-per-MAC constant.

The Cortex-M33 has more: twelve small networks of ST's zoo, int8 and float (`small_networks.py`). They tell what windows
other than 3x3, norms and float kernels cost, which the other boards of that engine borrow. Each kind of network is
predicted by a fit without any of its kind, beside what the fit to MLPerf Tiny's networks alone says of it.

Every system is predicted without the network it is judged on, in two ways: the network is left out of this system but
seen on other cores that run the same engine (`error`, `worst`), or left out of all of them (`unseen`, `interval`).
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from reference_networks import REFERENCE_NETWORKS
from reference_networks import ST_NETWORKS
from report import ROOT
from report import write_results
from scipy.optimize import nnls
from small_networks import IN_FLOAT
from small_networks import IN_INT8
from small_networks import OLD
from small_networks import ON_CORTEX_M4

from estimators.devices.device import USUAL_WINDOWS
from estimators.devices.files import load_device
from estimators.fitting.least_squares import Fit
from estimators.fitting.least_squares import fit_cycles
from estimators.models.counts import COLUMNS
from estimators.models.counts import Floats
from estimators.models.counts import counts_of
from search_spaces.graph.architecture import Architecture

DATA = ROOT.parent / "shared" / "data"
ZOO = DATA / "stm32" / "stm32h747_int8_measured.csv"
MLPERF = DATA / "mlperf_tiny" / "mlperf_tiny_v1.0-1.2.csv"
H747_MHZ = 400
TASKS = ("ad", "ic", "kws", "vww")

# A depthwise kernel is bound by what it reads and writes, the others by their MACs.
TERMS = (
    ("cycles_per_mac", "conv"),
    ("cycles_per_mac", "pointwise"),
    ("cycles_per_element", "depthwise"),
    ("cycles_per_mac", "linear"),
)
H747_TERMS = TERMS[:3]  # linear layers are under 0.1 % of its networks' MACs
CANDIDATES = {
    "MACs of conv, pointwise; elements of depthwise": H747_TERMS,
    "MACs of conv, pointwise, depthwise": (*TERMS[:2], ("cycles_per_mac", "depthwise")),
    "the three MACs; elements of depthwise": (*H747_TERMS, ("cycles_per_mac", "depthwise")),
    "the three MACs; elements of all three": (
        *H747_TERMS,
        ("cycles_per_mac", "depthwise"),
        ("cycles_per_element", "conv"),
        ("cycles_per_element", "pointwise"),
    ),
    "chosen; elements of pool and add": (*H747_TERMS, ("cycles_per_element", "pool"), ("cycles_per_element", "add")),
    "chosen; kernels of conv, pointwise, depthwise": (
        *H747_TERMS,
        *(("cycles_per_kernel", kind) for kind in ("conv", "pointwise", "depthwise")),
    ),
}

SMALL_TERMS = (*TERMS, ("cycles_per_element", "norm"), ("cycles_per_other_output", "conv"))
FLOAT_TERMS = ("conv", "linear", "window element")
# Where nothing tells, a rough guess, pulled to hardly at all.
WEAK_PRIOR, WEAK_PULL = (10.0, 50.0), 1e-3
FLOAT_PRIOR, OTHER_ENGINE = np.array([6.0, 8.0, 20.0]), 0.1
M33 = "stm32u575"
LENT = {"stm32l4r5": "m4", "stm32h7a3": "m7", "stm32h747": "m7"}
"""Boards whose small and float networks nobody measured, with the core that their float kernels are taken from."""

# How strongly relatives' cycles are pulled to the STM32H747's, and a system's to its relatives'. One pair for all: with
# four networks a search per system would flatter its errors. The first was picked after a look at 0.001, 0.01 and 0.1,
# whose mean errors differ by up to 2.5 points: 0.1 does best on networks measured nowhere.
PULL_TO_H747, PULL_TO_RELATIVES = 0.1, 1.0


@dataclass(frozen=True)
class Family:
    """Systems that run one version of one engine.

    Attributes:
        engine: With its version.
        round: MLPerf Tiny round.
        org: Who submitted.
        systems: Clock in MHz by the submission's name.
        dense: Whether it seems to compute all channels of `vww`. Many in the reference model are zeros (mlcommons/tiny,
            `vww_model_data.cc`, seen in one of its pointwise layers), and since 2023 three engines take a third less
            for it, relative to `kws`, than they or others did: as if they skipped them. Their `vww` is then a smaller
            network than the graph, so it is neither fitted nor counted.
    """

    engine: str
    round: str
    org: str
    systems: Mapping[str, float]
    dense: bool

    @property
    def tasks(self) -> tuple[str, ...]:
        """The networks that are computed as their graphs say."""
        return TASKS if self.dense else TASKS[:3]


FAMILIES = (
    Family(
        "X-CUBE-AI 9.0.0",
        "v1.2",
        "STMicroelectronics",
        {"NUCLEO_L4R5ZI": 120, "NUCLEO_U575ZI_Q": 160, "NUCLEO_H7A3ZI_Q": 280},
        dense=False,
    ),
    Family(
        "HALE 1.0.175",
        "v1.2",
        "bosch",
        {
            "NUCLEO_G0B1RE_int8": 64,
            "NUCLEO_L4R5ZI_int8": 120,
            "CY8CPROTO_062_4343W_int8": 150,
            "NUCLEO_U575ZI_int8": 160,
            "DISCO_F746NG_int8": 216,
            "NUCLEO_H7A3ZI_int8": 280,
        },
        dense=True,
    ),
    Family(
        "Plumerai 2023.05",
        "v1.1",
        "plumerai",
        {
            "NUCLEO-L4R5ZI": 120,
            "CY8CPROTO-062-4343W": 150,
            "NUCLEO-U575ZI-Q": 160,
            "DISCO-F746NG": 216,
            "NUCLEO-H7A3ZI-Q": 280,
        },
        dense=False,
    ),
    Family(
        "X-CUBE-AI 8.1.0",
        "v1.1",
        "STMicroelectronics",
        {"NUCLEO_L4R5ZI": 120, "NUCLEO_U575ZI_Q": 160, "NUCLEO_H7A3ZI_Q": 280},
        dense=False,
    ),
    Family(
        "X-CUBE-AI 8.0",
        "v1.1",
        "Krai",
        {"NUCLEO-L4R5ZI_X-CUBE-AI-8.0": 120, "NUCLEO-H7A3ZI-Q_X-CUBE-AI-8.0": 280},
        dense=True,
    ),
    Family(
        "X-CUBE-AI 7.3",
        "v1.1",
        "Krai",
        {"NUCLEO-L4R5ZI_X-CUBE-AI-7.3": 120, "NUCLEO-H7A3ZI-Q_X-CUBE-AI-7.3": 280},
        dense=True,
    ),
    Family(
        "microTVM with CMSIS-NN",
        "v1.1",
        "Krai",
        {"NUCLEO-L4R5ZI_MICROTVM-CMSIS-NN": 120, "NRF5340-DK_MICROTVM-CMSIS-NN": 128},
        dense=True,
    ),
    Family("TensorFlow Lite Micro with CMSIS-NN", "v1.2", "Renesas", {"EK-RA8D1": 480}, dense=True),
)
SHIPPED = {
    ("HALE 1.0.175", "NUCLEO_G0B1RE_int8"): "stm32g0b1",
    ("X-CUBE-AI 9.0.0", "NUCLEO_L4R5ZI"): "stm32l4r5",
    ("HALE 1.0.175", "CY8CPROTO_062_4343W_int8"): "psoc62",
    ("X-CUBE-AI 9.0.0", "NUCLEO_U575ZI_Q"): "stm32u575",
    ("HALE 1.0.175", "DISCO_F746NG_int8"): "stm32f746",
    ("X-CUBE-AI 9.0.0", "NUCLEO_H7A3ZI_Q"): "stm32h7a3",
}


@dataclass(frozen=True, eq=False)
class Judged:
    """A system's cycles and how well they predict.

    Attributes:
        fit: Coefficients in the order of `TERMS`; ratios with each network left out of this system.
        unseen: `(networks,)`, measured over predicted, each network left out of all systems of the family.
        constant: `(networks,)`, the same ratios for one cycles-per-MAC constant.
    """

    fit: Fit
    unseen: Floats
    constant: Floats

    @property
    def interval(self) -> float:
        """90 % interval for a network that was measured nowhere: the wider of the two ways of leaving out."""
        return max(self.fit.interval, Fit(self.fit.coefficients, self.unseen, self.fit.strength).interval)


def read_rows(path: Path, **wanted: str) -> list[dict[str, str]]:
    """Return a table's rows that have the wanted values."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items())]


def mlperf_rows(family: Family, system: str) -> dict[str, dict[str, str]]:
    """Return the rows of one system, by task."""
    rows = read_rows(MLPERF, round=family.round, org=family.org, system=system)
    return {row["benchmark"]: row for row in rows}


def measured_cycles(family: Family) -> Floats:
    """Return `(systems, networks)` cycles of the networks that the family computes as their graphs say."""
    tables = {system: mlperf_rows(family, system) for system in family.systems}
    return np.array(
        [
            [float(tables[s][task]["latency_ms"]) * mhz * 1e3 for task in family.tasks]
            for s, mhz in family.systems.items()
        ]
    )


def counts_for(networks: Sequence[Floats], terms: Sequence[tuple[str, str]]) -> Floats:
    """Return `(networks, terms)` of what the terms multiply."""
    return np.array([[counts[COLUMNS.index(term)] for term in terms] for counts in networks])


def reference_counts(tasks: Sequence[str], terms: Sequence[tuple[str, str]] = TERMS) -> Floats:
    """Return `(tasks, terms)` for MLPerf Tiny's networks."""
    return counts_for([counts_of(REFERENCE_NETWORKS[task]()) for task in tasks], terms)


def macs_of(counts: Sequence[Floats]) -> Floats:
    """Return `(networks,)` MACs."""
    return np.array([sum(row[i] for i, (unit, _) in enumerate(COLUMNS) if unit == "cycles_per_mac") for row in counts])


def zoo() -> tuple[list[str], list[Floats], Floats]:
    """Return names, counts and cycles of ST's networks on the STM32H747."""
    rows = {row["model"]: row for row in read_rows(ZOO)}
    cycles = np.array([float(rows[name]["latency_ms"]) * H747_MHZ * 1e3 for name in ST_NETWORKS])
    return list(ST_NETWORKS), [counts_of(network()) for network in ST_NETWORKS.values()], cycles


@cache
def fit_stm32h747() -> Fit:
    """Fit the chosen terms to ST's networks, each predicted by a fit without it."""
    _, counts, cycles = zoo()
    return fit_cycles(counts_for(counts, H747_TERMS), cycles)


def kind_of(name: str) -> str:
    """Return the kind of a network of ST's: those of one kind differ in width, depth and resolution.

    >>> kind_of("mobilenet_v1_0.25_96"), kind_of("resnet_v1_8_cifar10")
    ('mobilenet_v1', 'resnet_v1')
    """
    words = name.split("_")
    return "_".join(words[:2]) if words[0] in {"mobilenet", "resnet", "st"} else words[0]


def without_its_kind(names: Sequence[str], counts: Floats, cycles: Floats) -> Floats:
    """Return `(networks,)` measured over predicted, each predicted without any network of its kind."""
    ratios = np.empty(len(names))
    for kind in {kind_of(name) for name in names}:
        out = np.array([kind_of(name) == kind for name in names])
        ratios[out] = cycles[out] / (counts[out] @ fit_cycles(counts[~out], cycles[~out]).coefficients)
    return ratios


def solve(counts: Floats, cycles: Floats, prior: Floats, strength: float) -> Floats:
    """Fit non-negative cycles to few networks by relative least squares, pulled to a scaled prior.

    It is what `fit_cycles` does at one strength, for as few as one network.
    """
    shares = counts * prior / cycles[:, None]
    total = shares.sum(axis=1)
    scale = total.sum() / (total @ total)
    pull = np.sqrt(strength) * np.eye(len(prior))
    factors, _ = nnls(np.vstack([shares * scale, pull]), np.concatenate([np.ones(len(cycles)), np.diag(pull)]))
    return np.asarray(factors * scale * prior)


def h747_prior(family: Family) -> Floats:
    """Return the STM32H747's cycles, for a family to be pulled to.

    Its networks say nothing of linear layers: those cost, relative to its convolutions, what they do in the median of
    the other families (`ad` is linear layers, `ic` nearly convolutions alone), so a family is not pulled to itself.
    """
    macs = macs_of([counts_of(REFERENCE_NETWORKS[task]()) for task in TASKS[:2]])
    others = np.vstack([measured_cycles(other)[:, :2] for other in FAMILIES if other.engine != family.engine]) / macs
    fitted = fit_stm32h747().coefficients
    return np.array([*fitted, fitted[0] * np.median(others[:, 0] / others[:, 1])])


def linear_on_stm32h7a3() -> float:
    """Return cycles per MAC of `ad` on the H7A3: the STM32H747's core, and its engine one release earlier."""
    ad = mlperf_rows(FAMILIES[0], "NUCLEO_H7A3ZI_Q")["ad"]
    return float(ad["latency_ms"]) * 280e3 / float(ad["macs"])


def float_cycles(family: Family, system: str) -> float:
    """Return what a float MAC costs relative to an int8 one, the geometric mean over the networks measured in both.

    Depthwise layers, priced by their elements, cost the same in both: only with that do the three networks agree.
    """
    fitted, terms = judge(family, f"{system}_int8").fit.coefficients, reference_counts(TASKS)
    rows = read_rows(MLPERF, round=family.round, org=family.org, system=f"{system}_float")
    factors = []
    for row in rows:
        shares = terms[TASKS.index(row["benchmark"])] * fitted
        cycles = float(row["latency_ms"]) * family.systems[f"{system}_int8"] * 1e3
        factors.append((cycles - shares[2]) / (shares.sum() - shares[2]))
    return float(np.exp(np.mean(np.log(factors))))


def fit_system(counts: Floats, relatives: Floats, own: Floats, prior: Floats) -> Floats:
    """Fit one system: its relatives' mean cycles are pulled to `prior`, its own to what the relatives give.

    Args:
        counts: `(networks, terms)`.
        relatives: `(systems, networks)`, cycles on other cores with the same engine; may be empty.
        own: `(networks,)`, NaN where this system's measurement is left out.
        prior: `(terms,)`.
    """
    if len(relatives):
        logs = np.log(relatives)
        prior = solve(counts, np.exp((logs - logs.mean(axis=1, keepdims=True)).mean(axis=0)), prior, PULL_TO_H747)
    seen = ~np.isnan(own)
    return solve(counts[seen], own[seen], prior, PULL_TO_RELATIVES)


def judge(family: Family, system: str) -> Judged:
    """Fit a system and predict each of its networks without it."""
    prior = h747_prior(family)
    counts, cycles = reference_counts(family.tasks), measured_cycles(family)
    mine = list(family.systems).index(system)
    own, relatives = cycles[mine], np.delete(cycles, mine, axis=0)
    seen_elsewhere, unseen, constant = np.empty((3, len(own)))
    macs = macs_of([counts_of(REFERENCE_NETWORKS[task]()) for task in family.tasks])
    for network in range(len(own)):
        out = np.arange(len(own)) == network
        alone = fit_system(counts, relatives, np.where(out, np.nan, own), prior)
        nowhere = fit_system(counts[~out], relatives[:, ~out], own[~out], prior)
        per_mac = solve(macs[~out, None], own[~out], np.ones(1), 0.0)
        seen_elsewhere[network] = own[network] / (counts[network] @ alone)
        unseen[network] = own[network] / (counts[network] @ nowhere)
        constant[network] = own[network] / (macs[network] * per_mac[0])
    fit = Fit(fit_system(counts, relatives, own, prior), seen_elsewhere, PULL_TO_RELATIVES)
    return Judged(fit, unseen, constant)


def judge_shipped() -> dict[str, Judged]:
    """Judge the systems that ship as device files, by the device's name."""
    names, counts, cycles = zoo()
    boards = {SHIPPED[f.engine, s]: judge(f, s) for f in FAMILIES for s in f.systems if (f.engine, s) in SHIPPED}
    return {"stm32h747": judge_model(counts_for(counts, H747_TERMS), names, cycles), **boards, M33: judge_m33()}


@dataclass(frozen=True, eq=False)
class Rows:
    """Networks measured on one core in one precision.

    Attributes:
        names: Of the networks.
        kinds: What each is left out with.
        counts: `(networks, terms)`.
        fixed: `(networks,)`, cycles that are known already.
        cycles: `(networks,)`, measured.
        weights: `(networks,)`, below 1 for another engine.
    """

    names: list[str]
    kinds: NDArray[np.str_]
    counts: Floats
    fixed: Floats
    cycles: Floats
    weights: Floats


def other_outputs(network: Architecture) -> float:
    """Count what convolutions write through windows that are neither 3x3 nor 1x1."""
    kernels = [kernel for kernel in network.kernels if kernel.kind == "conv" and kernel.window not in USUAL_WINDOWS]
    return float(sum(kernel.output_size for kernel in kernels))


def window_elements(network: Architecture) -> float:
    """Count what convolutions write, times the elements of their windows."""
    kernels = [kernel for kernel in network.kernels if kernel.kind == "conv"]
    return float(sum(kernel.output_size * kernel.window[0] * kernel.window[1] for kernel in kernels))


def small_counts(network: Architecture) -> list[float]:
    """Return what `SMALL_TERMS` multiply in a network."""
    counts = counts_of(network)
    ordinary = [counts[COLUMNS.index(term)] for term in (*TERMS, ("cycles_per_element", "norm"))]
    return [*map(float, ordinary), other_outputs(network)]


def newer_version(tasks: Sequence[str]) -> float:
    """Return what version 9.0.0 of X-CUBE-AI takes over 8.1.0 on the Cortex-M33, the geometric mean over networks."""
    old, new = (mlperf_rows(FAMILIES[index], "NUCLEO_U575ZI_Q") for index in (3, 0))
    return float(np.exp(np.mean([np.log(float(new[t]["latency_ms"]) / float(old[t]["latency_ms"])) for t in tasks])))


def m33_rows(left_out: str = "") -> Rows:
    """Return the int8 networks on the Cortex-M33; of another version, scaled by what both measured of MLPerf Tiny's."""
    family = FAMILIES[0]
    mine = list(family.systems).index("NUCLEO_U575ZI_Q")
    scale = newer_version([task for task in family.tasks if task != left_out])
    names = [*family.tasks, *(row.name for row in IN_INT8)]
    networks = [*(REFERENCE_NETWORKS[task]() for task in family.tasks), *(row.build() for row in IN_INT8)]
    small = [row.cycles * (scale if row.engine == OLD else 1.0) for row in IN_INT8]
    return Rows(
        names,
        np.array([*family.tasks, *(row.kind for row in IN_INT8)]),
        np.array([small_counts(network) for network in networks]),
        np.zeros(len(names)),
        np.array([*measured_cycles(family)[mine], *small]),
        np.ones(len(names)),
    )


@cache
def fit_m33(left_out: str = "") -> Floats:
    """Fit int8 cycles on the Cortex-M33: `SMALL_TERMS`, the first four pulled to what MLPerf Tiny's networks give.

    Args:
        left_out: Kind of networks that reach nothing of it: not the prior, nor the scale between versions.
    """
    family, rows = FAMILIES[0], m33_rows(left_out)
    mine = list(family.systems).index("NUCLEO_U575ZI_Q")
    kept = np.array([task != left_out for task in family.tasks])
    counts, cycles = reference_counts(family.tasks)[kept], measured_cycles(family)[:, kept]
    prior = fit_system(counts, np.delete(cycles, mine, axis=0), cycles[mine], h747_prior(family))
    seen = rows.kinds != left_out
    return fit_shares(rows, seen, np.array([*prior, *WEAK_PRIOR]), np.array([PULL_TO_H747] * 4 + [WEAK_PULL] * 2))


def fit_shares(rows: Rows, seen: NDArray[np.bool_], prior: Floats, pulls: Floats) -> Floats:
    """Fit non-negative cycles by relative least squares, each pulled to its prior by its own strength."""
    roots = np.sqrt(rows.weights[seen])
    shares = rows.counts[seen] * prior / rows.cycles[seen, None] * roots[:, None]
    missing = (1 - rows.fixed[seen] / rows.cycles[seen]) * roots
    factors, _ = nnls(np.vstack([shares, np.diag(np.sqrt(pulls))]), np.concatenate([missing, np.sqrt(pulls)]))
    return np.asarray(factors * prior)


def without_each_kind(rows: Rows, fit: Callable[[str], Floats]) -> Floats:
    """Return `(networks,)` measured over predicted, each predicted by a fit without its kind."""
    ratios = np.empty(len(rows.names))
    for kind in dict.fromkeys(rows.kinds):
        out = rows.kinds == kind
        ratios[out] = rows.cycles[out] / (rows.counts[out] @ fit(str(kind)) + rows.fixed[out])
    return ratios


def judge_m33() -> Judged:
    """Judge the Cortex-M33 on networks whose kind was left out, in both precisions; coefficients are int8's."""
    rows, in_float = m33_rows(), float_rows()
    board = np.array([name in {row.name for row in IN_FLOAT} for name in in_float.names])
    unseen = np.concatenate([without_each_kind(rows, fit_m33), without_each_kind(in_float, fit_float)[board]])
    macs = np.concatenate([rows.counts[:, [0, 1, 3]].sum(axis=1), in_float.counts[board, :2].sum(axis=1)])
    cycles = np.concatenate([rows.cycles, in_float.cycles[board]])
    constant = fit_cycles(macs[:, None], cycles).ratios
    return Judged(Fit(fit_m33(), unseen, PULL_TO_H747), unseen, constant)


@cache
def float_rows() -> Rows:
    """Return float networks: small ones with X-CUBE-AI on a Cortex-M33 and an M4, MLPerf Tiny's on an M4 with HALE.

    Another engine's count less. What elements, norms and other windows cost in int8 is taken to be the same.
    """
    int8 = fit_m33()
    measured = mlperf_rows(FAMILIES[1], "CY8CPROTO_062_4343W_float")
    networks = [row.build() for row in (*IN_FLOAT, ON_CORTEX_M4)]
    networks += [REFERENCE_NETWORKS[task]().as_float() for task in measured]
    counts = np.array([small_counts(network) for network in networks])
    windows = np.array([window_elements(network) for network in networks])
    small = [row.cycles for row in (*IN_FLOAT, ON_CORTEX_M4)]
    return Rows(
        [*(row.name for row in (*IN_FLOAT, ON_CORTEX_M4)), *measured],
        np.array([*(row.kind for row in (*IN_FLOAT, ON_CORTEX_M4)), *measured]),
        np.column_stack([counts[:, 0] + counts[:, 1], counts[:, 3], windows]),
        counts[:, [2, 4, 5]] @ int8[[2, 4, 5]],
        np.array([*small, *(float(row["latency_ms"]) * 150e3 for row in measured.values())]),
        np.array([1.0] * len(small) + [OTHER_ENGINE] * len(measured)),
    )


def fit_float(left_out: str = "") -> Floats:
    """Fit `FLOAT_TERMS` on the Cortex-M33 and M4, without one kind of networks."""
    rows = float_rows()
    return fit_shares(rows, rows.kinds != left_out, FLOAT_PRIOR, np.full(len(FLOAT_PRIOR), WEAK_PULL))


def float_of_m7() -> float:
    """Return what a float network takes on the Cortex-M7 over the M4, in cycles: HALE, geometric mean of three."""
    m4, m7 = (mlperf_rows(FAMILIES[1], f"{board}_float") for board in ("CY8CPROTO_062_4343W", "NUCLEO_H7A3ZI"))
    ratios = [float(m7[t]["latency_ms"]) * 280 / (float(m4[t]["latency_ms"]) * 150) for t in m4]
    return float(np.exp(np.mean(np.log(ratios))))


def lent(conv: float) -> dict[str, float]:
    """Return what a board lends from the Cortex-M33, in proportion to the cycles of a convolution's MAC.

    Args:
        conv: Cycles of that MAC on the board.
    """
    fitted = fit_m33()
    return {"norm": fitted[4] * conv / fitted[0], "other outputs": fitted[5] * conv / fitted[0]}


def float_table(core: str) -> dict[str, float]:
    """Return the float cycles of a core, `m4` (the same as the Cortex-M33's) or `m7`."""
    return dict(zip(FLOAT_TERMS, map(float, fit_float() * (float_of_m7() if core == "m7" else 1.0)), strict=True))


def small_network_rows() -> list[dict[str, object]]:
    """Return each small network: measured, as MLPerf Tiny's networks alone predict it, and with its kind left out."""
    rows, in_float = m33_rows(), float_rows()
    before = judge(FAMILIES[0], "NUCLEO_U575ZI_Q").fit.coefficients
    old = {"int8": rows.counts[:, :4] @ before}
    factor = float_cycles(FAMILIES[1], "CY8CPROTO_062_4343W")
    old["float"] = (in_float.counts[:, 0] * before[0] + in_float.counts[:, 1] * before[3]) * factor
    found: list[dict[str, object]] = []
    for precision, table, fit in (("int8", rows, fit_m33), ("float", in_float, fit_float)):
        for index, ratio in enumerate(without_each_kind(table, fit)):
            about = {"network": table.names[index], "precision": precision, "kind": str(table.kinds[index])}
            by_old = float(table.cycles[index] / old[precision][index])
            found.append(about | {"measured / before": by_old, "measured / kind left out": float(ratio)})
    return found


def summary(ratios: Floats, mean: str, worst: str) -> dict[str, float]:
    """Return mean and largest relative error of predictions."""
    errors = np.abs(1 / ratios - 1)
    return {mean: float(errors.mean()), worst: float(errors.max())}


def judge_model(columns: Floats, names: Sequence[str], cycles: Floats) -> Judged:
    """Judge a model of the STM32H747: `unseen` leaves out all networks of a kind."""
    constant = fit_cycles(macs_of(zoo()[1])[:, None], cycles)
    return Judged(fit_cycles(columns, cycles), without_its_kind(names, columns, cycles), constant.ratios)


def candidate_rows() -> list[dict[str, object]]:
    """Compare models of the STM32H747; the first is the one that ships."""
    names, counts, cycles = zoo()
    rows: list[dict[str, object]] = []
    for name, terms in CANDIDATES.items():
        found = judge_model(counts_for(counts, terms), names, cycles)
        row = {"device": "" if rows else "stm32h747", "system": f"STM32H747, {name}", "engine": "STM32Cube.AI 9.1.0"}
        rows.append(row | {"networks": len(names)} | errors_of(found) | named_cycles(found, terms))
    return rows


def errors_of(found: Judged) -> dict[str, float]:
    """Return the columns that say how well a system is predicted."""
    return {
        **summary(found.fit.ratios, "error", "worst"),
        **summary(found.unseen, "unseen", "unseen worst"),
        **summary(found.constant, "constant", "constant worst"),
        "interval": found.interval,
    }


def named_cycles(found: Judged, terms: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return the coefficients by what they multiply."""
    names = [f"{kind}/{unit.removeprefix('cycles_per_')}" for unit, kind in terms]
    return dict(zip(names, map(float, found.fit.coefficients), strict=True))


def system_row(family: Family, system: str) -> dict[str, object]:
    """Fit and judge one system of MLPerf Tiny."""
    found = judge(family, system)
    device = SHIPPED.get((family.engine, system), "")
    row = {"device": "" if device == M33 else device, "system": system, "engine": family.engine}
    return row | {"networks": len(family.tasks)} | errors_of(found) | named_cycles(found, TERMS)


def m33_row() -> dict[str, object]:
    """Judge what ships for the Cortex-M33: MLPerf Tiny's networks and small ones, int8 and float, by kind left out."""
    found = judge_m33()
    row = {
        "device": M33,
        "system": "STM32U575 and U585, kinds left out",
        "engine": "X-CUBE-AI 8.1 to 10.0, ST Edge AI 3.0",
    }
    return row | {"networks": len(found.unseen)} | errors_of(found) | named_cycles(found, SMALL_TERMS)


def skipped_channels(family: Family, system: str) -> float:
    """Return measured over predicted time of `vww` on an engine that skips its dead channels."""
    cycles = float(mlperf_rows(family, system)["vww"]["latency_ms"]) * family.systems[system] * 1e3
    return float(cycles / (reference_counts(["vww"])[0] @ judge(family, system).fit.coefficients))


def main() -> None:
    """Print and write the fits."""
    rows = candidate_rows()
    rows += [system_row(family, system) for family in FAMILIES for system in family.systems]
    rows.append(m33_row())
    vww = {f"{f.engine}, {s}": skipped_channels(f, s) for f in FAMILIES if not f.dense for s in f.systems}
    write_results(
        "latency_mcu",
        rows,
        linear_cycles_of_stm32h747=linear_on_stm32h7a3(),
        float_cycles_on_cortex_m4=float_cycles(FAMILIES[1], "CY8CPROTO_062_4343W"),
        float_cycles_on_cortex_m7=float_cycles(FAMILIES[1], "NUCLEO_H7A3ZI"),
        vww_measured_over_predicted_where_dead_channels_are_skipped=vww,
        small_networks=small_network_rows(),
        cortex_m33=dict(zip(map("/".join, SMALL_TERMS), map(float, fit_m33()), strict=True)),
        float_kernels={core: float_table(core) for core in ("m4", "m7")},
        lent_to_boards={name: lent(load_device(name).latency.cycles_per_mac["conv"]) for name in LENT},
    )


if __name__ == "__main__":
    main()
