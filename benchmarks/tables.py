"""Write all benchmark tables on one page, `docs/benchmarks.md`, from the files in `benchmarks/results/`.

    python benchmarks/tables.py

Each table stands under its question, with the command that measures it, the date, the commit and the machine. Numbers
are those of the result files; nothing is computed here. A test compares the page with what this program would write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
INTRODUCTION = """\
# Benchmarks

*Written by `python benchmarks/tables.py` from `benchmarks/results/`. Measure again, then run it again.*

Every figure of accuracy and speed that the documentation quotes is in one of these tables. The command under a table
repeats the measurement, prints all columns, and writes the result file. Most benchmarks read public data in the folder
`shared/data` beside the repository; the first lines of each program name them.

Networks that a prediction is judged on are always left out of the fit that predicts them. Tau is Kendall's rank
correlation, rho is Spearman's. AUC is the area under the ROC curve of an attack: 0.5 is guessing.
"""

Row = Mapping[str, Any]
Write = Callable[[Any], str]


def number(value: Any) -> str:
    """Write a number with three digits, `-` where there is none."""
    if value is None or value == "":
        return "-"
    if isinstance(value, int | str):
        return f"{value:,}" if isinstance(value, int) else value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(value: Any) -> str:
    """Write a share as a percentage."""
    return "-" if value in (None, "") else f"{100 * value:.1f} %"


def rate(value: Any) -> str:
    """Write an AUC or a correlation with three decimals."""
    return "-" if value in (None, "") else f"{value:.3f}"


def seconds(value: Any) -> str:
    """Write seconds with two decimals."""
    return f"{value:,.2f}"


def plain(value: Any) -> str:
    """Write a text, with its columns kept apart."""
    return "-" if value in (None, "") else str(value).replace("|", r"\|")


def shortened(value: Any) -> str:
    """Write a text whose numbers have three digits.

    >>> shortened("alpha 0.8944271909999159, folds 5")
    'alpha 0.894, folds 5'
    """
    return re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.3g}", plain(value))


@dataclass(frozen=True)
class Table:
    """One table of the page.

    Attributes:
        result: Name of the result file.
        question: Heading.
        about: What was done, and how to read the columns.
        columns: By the key of a row: the heading, and how the value is written.
        keep: Which rows are shown; the others are in the result file.
        facts: By the key of a figure beside the rows: what it is, and how the value is written.
        relations: What stands before the sentences beside the rows that say of a relation whether it holds; None: they
            are not shown.
    """

    result: str
    question: str
    about: str
    columns: Mapping[str, tuple[str, Write]]
    keep: Callable[[Row], bool] = lambda _: True
    facts: Mapping[str, tuple[str, Write]] | None = None
    relations: str | None = None


PROXY_COLUMNS: Mapping[str, tuple[str, Write]] = {
    "data": ("data", plain),
    "proxy": ("proxy", plain),
    "tau": ("tau", rate),
    "tau_low": ("tau, lowest", rate),
    "tau_high": ("tau, highest", rate),
    "auc_error": ("error of AUC", rate),
    "tpr_spearman": ("rho of TPR at 1 % FPR", rate),
    "cost_percent": ("cost, % of a training", number),
}

DEFENCE_SEARCH_COLUMNS: Mapping[str, tuple[str, Write]] = {
    "defences": ("defence", plain),
    "hypervolume": ("hypervolume", rate),
    "lowest": ("lowest", rate),
    "highest": ("highest", rate),
    "trainings_per_candidate": ("trainings a candidate", number),
    "lowest_error": ("lowest error", rate),
    "all_is_larger_in_seeds": ("seeds in which *all* is larger", number),
    "on_front": ("on its fronts", plain),
}

TABLES: Sequence[Table] = (
    Table(
        "proxy",
        "Does the proxy of a search rank networks as audits do?",
        "24 candidates for each data set, each trained 16 times. The yardstick is online LiRA with 15 shadow models of "
        "the same recipe, averaged over the 16 trainings. A proxy sees one of them. Figures are medians over the 16.",
        PROXY_COLUMNS,
    ),
    Table(
        "proxy_short_seed1",
        "The same for other candidates",
        "12 other candidates, 8 trainings each. The form of the proxy was chosen before these were drawn.",
        PROXY_COLUMNS,
    ),
    Table(
        "proxy_shortfall",
        "How far below the best attack does the proxy read?",
        "Weak candidates beside usual ones, 6 trainings each. *Best* is the strongest of five attacks with five shadow "
        "models of the candidate's own recipe. *Covered* is the share of trainings whose interval's upper end lies at "
        "or above it: DeLong's 95 % interval before, the raised end of `lira_fitted` after. The constants were chosen "
        "on the first two draws. *Explained* is the share of the candidate's log odds that the bank explains.",
        {
            "data": ("data", plain),
            "draw": ("draw", plain),
            "kind": ("candidates", plain),
            "candidates": ("number", number),
            "proxy": ("proxy", rate),
            "best": ("best", rate),
            "shortfall": ("shortfall", rate),
            "shortfall_worst": ("worst", rate),
            "covered_before": ("covered before", percent),
            "covered_after": ("covered after", percent),
            "raised_by": ("raised by", rate),
            "explained": ("explained", rate),
        },
    ),
    Table(
        "proxy_records",
        "May the proxy ask about fewer records?",
        "The candidates of the table above, ranked against the best attack. The records are chosen by the bank alone. "
        "*Change* is that of the AUC against asking about all records.",
        {
            "data": ("data", plain),
            "records": ("records", plain),
            "tau": ("tau", rate),
            "tau_low": ("tau, lowest", rate),
            "tau_high": ("tau, highest", rate),
            "change": ("mean change", rate),
            "largest_change": ("largest change", rate),
            "half_width": ("half-width of the interval", rate),
        },
    ),
    Table(
        "augmented_queries",
        "What do moved copies of an image tell an attack?",
        "CIFAR-10, 16 networks by each of two recipes; means over eight of them, each attacked by the other 15. "
        "*Augmented*: whether the training flipped and shifted the images. *The product*: `lira_augmented` and "
        "`rmia_augmented`, which ask four references first whether copies tell as much as the record.",
        {
            "augmented": ("augmented", plain),
            "attack": ("attack", plain),
            "asked about": ("asked about", plain),
            "auc": ("AUC", rate),
            "auc_sd": ("sd between networks", rate),
            "tpr_at_1pct_fpr": ("TPR at 1 % FPR", rate),
            "tpr_at_0.1pct_fpr": ("TPR at .1 % FPR", rate),
        },
        facts={
            f"share told, augmented: {recipe}": (f"share that copies tell, augmented: {recipe}", number)
            for recipe in ("yes", "no")
        },
    ),
    Table(
        "peers",
        "What do other tools find in the same answers?",
        "Two networks with 16 shadow models each, or the first 4 of them. Every attack reads the same arrays, in a "
        "process of its own. *Seconds* are the processor's, of scoring alone. With 2,000 non-members the TPR at 0.1 % "
        "rests on two of them. Tools that could not be installed from the package index are named in the result file.",
        {
            "network": ("network", plain),
            "tool": ("tool", plain),
            "attack": ("attack", plain),
            "shadows": ("shadow models", number),
            "auc": ("AUC", rate),
            "tpr_at_1pct_fpr": ("TPR at 1 %", rate),
            "tpr_at_0_1pct_fpr": ("TPR at 0.1 %", rate),
            "cpu_seconds": ("seconds", number),
            "peak_gib": ("peak memory, GiB", number),
        },
    ),
    Table(
        "membership_shift",
        "What does an audit say where members are merely easier?",
        "Location-30. *Shift* is how much more typical of their class the claimed members are than the non-members; "
        "each row is one network with 16 shadow models. The independent network saw neither; *said* is the "
        "AUC less its null. *Too high* and *too low* count 95 % intervals that do not hold the truth.",
        {
            "network": ("network", plain),
            "shift": ("shift", number),
            "attack": ("attack", plain),
            "auc": ("AUC", rate),
            "null": ("null", rate),
            "said": ("said", rate),
            "truth": ("truth", rate),
            "too high": ("too high", plain),
            "too low": ("too low", plain),
            "refused": ("refused", plain),
        },
        keep=lambda row: row["attack"] in ("loss", "lira_online", "headline"),
    ),
    Table(
        "people",
        "What do shadow models that know people in part hide?",
        "1,000 made people with four records each, from Location-30; means over four networks with 16 shadow models.",
        {
            "shadow models halved": ("shadow models halved", plain),
            "people known in part": ("people known in part", percent),
            "attack": ("attack", plain),
            "auc_records": ("AUC of records", rate),
            "auc_people": ("AUC of people", rate),
        },
    ),
    Table(
        "rmia_slope",
        "Which constant should RMIA use?",
        "12 networks on Location-30. *Tuned* is the constant by which the reference networks reveal each other most.",
        {
            "bank": ("reference networks", plain),
            "slope": ("constant", number),
            "kendall_tau": ("tau", rate),
            "auc_error": ("error of AUC", rate),
            "note": ("", plain),
        },
    ),
    Table(
        "epsilon",
        "How much of a known epsilon does a bound reach, and how often does it lie above the truth?",
        "Scores of mechanisms whose epsilon is known, 2,000 members and 2,000 non-members at delta 1 / 2,000; of *one "
        "run*, 500 canaries at delta 1e-5. Confidence 95 %: a bound may lie above the truth in 5 % of 500 runs. "
        "*Any training*, *Gaussian* and *one run* are what an audit prints. *Raw counts*, *best threshold*, "
        "*mu, bands*, *mu, AUC* and *best guesses* are what other programs print, by their formulas. A Gaussian "
        "mechanism is named by its mu, the others by their epsilon at delta 0.",
        {
            "mechanism": ("mechanism", plain),
            "epsilon": ("epsilon", number),
            "bound": ("bound", plain),
            "share_reached": ("mean, as a share of epsilon", percent),
            "above_truth": ("above the truth", percent),
        },
    ),
    Table(
        "audit_speed",
        "How long does an audit take?",
        "Attacks on 50,000 records with 64 reference networks; Shapley values; and a standard audit of a small CNN on "
        "2,000 members and 2,000 non-members of CIFAR-10.",
        {
            "what": ("what", plain),
            "seconds": ("seconds", seconds),
            "limit_s": ("limit, s", lambda value: "-" if value is None else str(value)),
            "peak_gib": ("peak memory, GiB", lambda value: "-" if value is None else f"{value:.2f}"),
        },
    ),
    Table(
        "first_search",
        "Where does the time of a search go?",
        "A search of 30 candidates on CIFAR-10, 2,000 members. Seconds are added over the workers.",
        {
            "phase": ("phase", plain),
            "seconds": ("seconds", seconds),
            "share_percent": ("share, %", lambda value: f"{value:.2f}"),
        },
        facts={
            "wall_seconds": ("wall time, seconds", seconds),
            "workers": ("workers", number),
            "trained": ("trained candidates", number),
        },
    ),
    Table(
        "readme_commands",
        "How long do the commands of the README take?",
        "Wall time of each, in the order of the README; other work ran on the two cores at the same time. The result "
        "file holds all that they printed.",
        {"command": ("command", lambda value: f"`{value}`"), "seconds": ("seconds", number)},
    ),
    Table(
        "error_ceiling",
        "What does the ceiling of the error change?",
        "Searches of 24 candidates with the same seeds, medians over three. *Without*: the ceiling is off. *Pick "
        "alone*: the same search, its pick within the ceiling. *With*: the ceiling guides the sampler too. Columns "
        "after *within* are of the front and of what `nas pick` takes without flags.",
        {
            "data": ("data", plain),
            "ceiling": ("ceiling", plain),
            "limit": ("its value", rate),
            "median_error": ("median error", rate),
            "within_percent": ("within, %", number),
            "best_error": ("best error on the front", rate),
            "pick_error": ("error of the pick", rate),
            "pick_leakage": ("leakage of the pick", rate),
            "pick_ms": ("latency of the pick, ms", number),
        },
    ),
    Table(
        "between_trainings",
        "What do trainings of one recipe vary by, and does a search know it?",
        "Sixteen random candidates of each data set, each trained four times on the same records. *Between* is the "
        "standard deviation between trainings, *records* that of the records' sampling, *share* the ratio of their "
        "squares, *learned* what the reference bank says it is. *Covered*: other trainings whose number lies in the "
        "95 % interval of one, first of the records alone, then with what was learned.",
        {
            "data": ("data", plain),
            "measure": ("measure", plain),
            "between_sd": ("between", number),
            "records_sd": ("records", number),
            "share": ("share", number),
            "learned": ("learned", number),
            "covered_records": ("covered by records alone, %", number),
            "covered": ("covered, %", number),
        },
        keep=lambda row: row["part"] == "measure",
    ),
    Table(
        "between_trainings",
        "How often does a pick break its limit on the leakage when it is trained again?",
        "Of the same trainings, for many limits: the candidate with the lowest error within the limit, and whether "
        "another training of it is over the limit. *Value*: the leakage is within the limit. *Records*: the upper end "
        "at 95 % of the interval of the records alone is. *Sure*: that of the interval of a search is, as with "
        "`nas pick --confidence 95`.",
        {
            "data": ("data", plain),
            "way": ("within the limit is", plain),
            "breaks_percent": ("over it when trained again, %", number),
            "picks_percent": ("limits with a pick, %", number),
            "error": ("error of the picks", rate),
        },
        keep=lambda row: row["part"] == "pick",
    ),
    Table(
        "between_trainings",
        "Does choosing among many candidates break the limit more often?",
        "Made-up candidates with a leakage from 0.5 to 0.8, whose error falls as the leakage rises; *off* is how far "
        "it lies from the line. *Records* and *between* as above.",
        {
            "of": ("candidates", number),
            "records_sd": ("records", number),
            "between_sd": ("between", number),
            "error_scatter": ("off", number),
            "way": ("within the limit is", plain),
            "breaks_percent": ("over it when trained again, %", number),
        },
        keep=lambda row: row["part"] == "simulated",
    ),
    Table(
        "pruned_values",
        "Should the sampler be told a dummy value for a rejected candidate?",
        "Searches in the cells of NAS-Bench-201 from measured tables, half over a limit of the latency. 8 seeds. "
        "*Pruned* is what a search does. Hypervolume is a share of what all cells within the limit reach. *Difference* "
        "is the median to *pruned* with the same seed, p is Wilcoxon's.",
        {
            "objectives": ("objectives", plain),
            "way": ("rejected candidates", plain),
            "trained": ("trained", number),
            "hypervolume": ("hypervolume", rate),
            "lowest": ("lowest", rate),
            "highest": ("highest", rate),
            "difference": ("difference", rate),
            "p": ("p", rate),
        },
    ),
    Table(
        "training_layout",
        "What are channels_last and stacked networks worth on a CPU?",
        "Ratios of the processor's time in one run, one thread. *channels_last*: the usual layout over channels last. "
        "*Stacked*: networks trained in turn over all at once with `vmap`. Above 1 the named one is faster.",
        {
            "way": ("way", plain),
            "network": ("network", plain),
            "mmacs": ("million MACs", number),
            "ratio": ("ratio", number),
            "ratio_low": ("lowest", number),
            "ratio_high": ("highest", number),
        },
    ),
    Table(
        "training_speed",
        "How much longer does a training take in few bits?",
        "Processor time of steps of AdamW over that of the same network in plain PyTorch, one thread, median of nine "
        "pairs. *Weights* and *tensors*: the other left in float.",
        {
            "network": ("network", plain),
            "precision": ("precision", plain),
            "ratio": ("ratio", number),
            "weights_alone": ("weights", number),
            "tensors_alone": ("tensors", number),
        },
    ),
    Table(
        "steps",
        "How many steps does a training need on few records?",
        "Ten random networks of the space `conv` on digits, each trained for about so many steps.",
        {
            "members": ("members", number),
            "steps": ("steps", number),
            "epochs": ("epochs", number),
            "median_error": ("median error", rate),
            "best_error": ("best error", rate),
            "seconds": ("seconds each", number),
        },
    ),
    Table(
        "screening",
        "How fast is a network priced?",
        "All cost metrics of one network, from its graph, beside one count by fvcore and by thop.",
        {
            "network": ("network", plain),
            "priced_ms": ("all costs, ms", number),
            "fvcore_ms": ("fvcore, ms", number),
            "thop_ms": ("thop, ms", number),
            "graphs_per_second": ("networks per second", number),
        },
        facts={
            "median_graphs_per_second": ("median networks per second", number),
            "median_fvcore count": ("median times faster than fvcore", number),
            "median_thop count": ("median times faster than thop", number),
            "median_priced_per_second": ("random networks priced in a second, median over all spaces", number),
            "median_described_and_priced_per_second": ("described and priced in a second, the same", number),
        },
    ),
    Table(
        "page",
        "How fluid is the page of a long run?",
        "`nas report` of made-up candidates of `conv` with sparsity and exits, and the page in a headless Chromium "
        "without a graphics card, so that a processor draws what WebGL shows. *Slider* is the time from an event of a "
        "slider to the next frame, with the count and the table, over 30 events in a row. *Slider, processor* is what "
        "an event costs the thread of the page, with the figures that follow. The machine had other work meanwhile.",
        {
            "trials": ("candidates", number),
            "write_s": ("written, s", number),
            "page_mib": ("page, MiB", number),
            "first_paint_s": ("first paint, s", number),
            "all_drawn_s": ("all drawn, s", number),
            "slider_median_s": ("slider, median, s", number),
            "slider_slowest_s": ("slider, slowest, s", number),
            "slider_cpu_s": ("slider, processor, s", number),
        },
        facts={"browser": ("browser", plain)},
    ),
    Table(
        "latency_mcu",
        "How far off is the latency on microcontrollers?",
        "Each network is predicted as a user's own is: left out on all boards with its engine, on the STM32H747 and "
        "the STM32U575 with all networks of its kind. *Constant* is the error of one number of cycles per MAC. The "
        "network `vww` is left aside where the engine seems to skip its dead channels: X-CUBE-AI 9.0.0 takes 0.63 to "
        "0.69 of the predicted time for it. The rows are those of the shipped devices; the result file has 21 more "
        "boards, engines and forms of the model, and the errors where other boards have seen the network.",
        {
            "device": ("device", plain),
            "system": ("board", plain),
            "engine": ("engine", plain),
            "networks": ("networks", number),
            "unseen": ("mean error", percent),
            "unseen worst": ("worst", percent),
            "constant": ("constant, mean", percent),
            "constant worst": ("constant, worst", percent),
        },
        keep=lambda row: bool(row["device"]),
    ),
    Table(
        "extrapolation",
        "How far does an interval hold outside the measured range?",
        "A model is fitted to the slower or to the faster networks of a data set and predicts the others. Counted are "
        "networks that it predicts outside the range of the fit, their interval included. *Near* are those at most a "
        "factor of two outside. The wider interval is the shipped one: it grows with the square root of the distance.",
        {
            "device": ("device", plain),
            "fit": ("fit", plain),
            "networks outside": ("networks outside", number),
            "farthest": ("farthest, times", number),
            "near, in the plain interval": ("near: in the plain interval", percent),
            "in the plain interval": ("all: in the plain interval", percent),
            "in the wider interval": ("all: in the wider interval", percent),
        },
    ),
    Table(
        "latency_nb201",
        "How far off is the latency on phones, a Raspberry Pi and servers?",
        "NAS-Bench-201 cells, from 10 to 900 calibration networks. *Known* is what the literature reports for as many. "
        "*Noise ceiling* is the share of repeated measurements that agree within 10 %.",
        {
            "device": ("device", plain),
            "networks": ("calibrated on", number),
            "within 10 %": ("within 10 %", percent),
            "mean error": ("mean error", percent),
            "rho": ("rho", rate),
            "coverage": ("in the 90 % interval", percent),
            "FLOPs line within 10 %": ("a line in FLOPs, within 10 %", percent),
            "known within 10 %": ("known, within 10 %", percent),
            "noise ceiling": ("noise ceiling", percent),
        },
        keep=lambda row: row["networks"] in (10, 100, 900),
    ),
    Table(
        "calibration_claims",
        "What does a calibration claim from few networks, and what does it reach?",
        "NAS-Bench-201 cells, drawn at random; reached on those of all other graph classes. *Claimed* is the lower "
        "bound that `nas calibrate` prints; it *holds* in draws that reach no less. What the engine runs is found in "
        "the same rows. Means over draws.",
        {
            "device": ("device", plain),
            "networks": ("calibrated on", number),
            "draws": ("draws", number),
            "cross-validated": ("within 10 %, cross-validated", percent),
            "claimed": ("claimed", percent),
            "reached": ("reached", percent),
            "claim holds": ("claim holds", percent),
            "cross-validated holds": ("cross-validated share holds", percent),
            "coverage": ("in the 90 % interval", percent),
            "merges": ("taken to merge", percent),
        },
        keep=lambda row: row["device"] == "all" or row["networks"] == 10,
    ),
    Table(
        "latency_host",
        "How far off is the latency on this machine?",
        "ONNX Runtime, one thread, networks that no fit has seen. *Measured again* is the share of 60 of them whose "
        "second time, minutes later, lies within 10 % of the first: expect no more of a prediction at another time.",
        {
            "device": ("device", plain),
            "model": ("model", plain),
            "space": ("space", plain),
            "networks": ("networks", number),
            "within_10_percent": ("within 10 %", percent),
            "mape": ("mean error", percent),
            "worst": ("worst", percent),
            "spearman": ("rho", rate),
            "in_90_percent_interval": ("in the 90 % interval", percent),
        },
        facts={
            "calibration_networks": ("calibration networks", number),
            "host_noise_within_10_percent": ("measured again, host", percent),
            "host_int8_noise_within_10_percent": ("measured again, host_int8", percent),
        },
    ),
    Table(
        "energy_mcu",
        "How far off is the energy on microcontrollers?",
        "MLPerf Tiny. Energy is power times time; the power is that of other networks on the same system. The time is "
        "measured or predicted.",
        {
            "device": ("device", plain),
            "system": ("board", plain),
            "engine": ("engine", plain),
            "networks": ("networks", number),
            "measured time, median": ("measured time: median error", percent),
            "measured time, worst": ("worst", percent),
            "predicted time, median": ("predicted time: median error", percent),
            "predicted time, worst": ("worst", percent),
        },
        facts={
            "median_error_with_predicted_time": ("median error with predicted time", percent),
            "energies": ("energies", number),
            "in_90_percent_interval_as_squares": ("in the 90 % interval, network left out", percent),
            "in_90_percent_interval_added": ("the same if half-widths of time and power were added", percent),
        },
    ),
    Table(
        "peak_ram",
        "How far off are RAM and flash?",
        "15 networks of ST's model zoo on an STM32H747, each predicted without all networks of its kind.",
        {
            "network": ("network", plain),
            "ram_kib": ("measured RAM, KiB", number),
            "ram error": ("error", percent),
            "flash_kib": ("measured flash, KiB", number),
            "flash error": ("error", percent),
        },
        facts={
            "mean_total_ram_kib_error": ("mean error of the RAM", percent),
            "mean_total_flash_kib_error": ("mean error of the flash", percent),
        },
    ),
    Table(
        "accelerators",
        "How far off are the accelerators?",
        "Layers left out by shape. Both tables come from simulators.",
        {
            "device": ("device", plain),
            "table": ("what", plain),
            "layers": ("layers", number),
            "spearman": ("rho", rate),
            "error_mean": ("mean error", percent),
            "error_max": ("worst", percent),
        },
    ),
    Table(
        "coral_networks",
        "How far off are the Edge TPU and the Cortex-A53?",
        "The networks of Coral's benchmark page, each predicted without itself. MACs and parameters are those of the "
        "graphs, beside the published ones.",
        {
            "network": ("network", plain),
            "gmacs": ("GMACs", number),
            "published": ("published", number),
            "mparams": ("million parameters", number),
            "published_mparams": ("published", number),
            "a53_error": ("error, Cortex-A53", percent),
            "edgetpu_error": ("error, Edge TPU", percent),
        },
    ),
    Table(
        "onnx_networks",
        "Is int8 faster than float32 in ONNX Runtime?",
        "Five networks on this machine, one thread.",
        {
            "network": ("network", plain),
            "mmacs": ("million MACs", number),
            "float32_ms": ("float32, ms", number),
            "int8_ms": ("int8, ms", number),
            "float32_over_int8": ("float32 / int8", number),
        },
        facts={
            "few_bits_networks_float32": ("networks with few bits, float32 file", plain),
            "few_bits_networks_int8": ("networks with few bits, int8 file", plain),
            "float_networks_int8": ("float networks, int8 file", plain),
        },
    ),
    Table(
        "c99",
        "Does the C code compute what it promises, in the memory that was priced?",
        "Networks with tensors of 8 bits, trained briefly on the digits; 1,000 records each. The code is compiled with "
        "`-std=c99 -Wall -Wextra -Werror` and runs under the address and undefined-behaviour sanitizers. Memory and "
        "constants are read off the object files, and divided by `peak_ram_kib` and `flash_kib` without the engine's "
        "part: of a device that packs weights as the code does, and of two boards. The engine of the STM32G0B1 stores "
        "no weight in fewer than 8 bits; that of the STM32H747 stores 1 or 8, and computes in place.",
        {
            "space": ("space", plain),
            "weights": ("weights", plain),
            "kmacs": ("thousand MACs", number),
            "same_as_reference": ("same bits as NumPy", percent),
            "same_as_onnx": ("same bits as ONNX Runtime", percent),
            "class_of_onnx": ("same class as ONNX Runtime", percent),
            "class_of_pytorch": ("same class as PyTorch", percent),
            "ram_bytes": ("RAM, bytes", number),
            "flash_bytes": ("constants, bytes", number),
            "ram_over_packed": ("RAM / priced", rate),
            "flash_over_packed": ("flash / priced", rate),
            "ram_over_g0b1": ("RAM / STM32G0B1", rate),
            "flash_over_g0b1": ("flash / STM32G0B1", rate),
            "ram_over_h747": ("RAM / STM32H747", rate),
            "flash_over_h747": ("flash / STM32H747", rate),
        },
    ),
    Table(
        "compression_leakage",
        "What does each way to make a network small cost and give away?",
        "Members are 1,000 of each data set. Each version is trained ten times on random halves of 2,000 records and "
        "attacked by the other trainings. The *control* is the dense network, trained for as many epochs as what is "
        "retrained. The attack of the audit is RMIA online, *thresholds* are those of modified "
        "entropy by class. *Less baseline* is the mean difference over the same halves; ± is half a 95 % interval, "
        "which holds what trainings vary by. Latency is that of the STM32H747 in int8, bytes are of packed weights.",
        {
            "data": ("data", plain),
            "version": ("version", plain),
            "error": ("error", rate),
            "auc": ("AUC of the audit", rate),
            "auc_half_width": ("±", rate),
            "auc_less_baseline": ("less baseline", rate),
            "auc_less_baseline_half_width": ("±", rate),
            "auc_less_control": ("less control", rate),
            "auc_less_control_half_width": ("±", rate),
            "tpr_at_1pct_fpr": ("TPR at 1 % FPR", rate),
            "threshold_auc": ("AUC of thresholds", rate),
            "samia_auc": ("AUC of SAMIA", rate),
            "latency_ms": ("latency, ms", number),
            "bytes": ("bytes", number),
        },
        relations="What was published, and whether it holds here:",
    ),
    Table(
        "defences",
        "What do defences cost, and what does an attacker who knows them find?",
        "A perceptron on Location-30 and a small convolutional network on CIFAR-10 at 16 x 16, 1,000 members. Each "
        "version is trained eight times on random halves of 2,000 records and attacked by its other trainings, which "
        "have the same defence, teachers and folds. *Epochs* is no defence, trained more shortly. An eighth of the "
        "records are canaries with wrong labels; their columns are the last two, the others are of the rest. ± is half "
        "a 95 % interval.",
        {
            "data": ("data", plain),
            "version": ("defence", plain),
            "parameters": ("parameters", shortened),
            "error": ("error", rate),
            "error_half_width": ("±", rate),
            "gap": ("accuracy gap", rate),
            "auc": ("AUC of LiRA", rate),
            "auc_half_width": ("±", rate),
            "rmia_auc": ("AUC of RMIA", rate),
            "tpr_at_1pct_fpr": ("TPR at 1 % FPR", rate),
            "canary_auc": ("AUC of LiRA, canaries", rate),
            "canary_tpr_at_01pct_fpr": ("TPR at 0.1 % FPR, canaries", rate),
        },
    ),
    Table(
        "dp_sgd",
        "Does any private training show more than its certificate allows?",
        "Digits of 8 x 8 pixels, 600 members and 400 canaries with wrong labels, half of them trained on. *Allowed* is "
        "the certificate's epsilon at the delta of the lower bounds. The last row has no noise: the control.",
        {
            "epsilon": ("epsilon", plain),
            "trainings": ("trainings", number),
            "allowed": ("allowed", number),
            "lower, most": ("lower bound, highest", number),
            "lower, mean": ("mean", number),
            "Gaussian, most": ("if Gaussian, highest", number),
            "above": ("above what is allowed", number),
            "advantage, mean": ("TPR less FPR", rate),
            "advantage allowed": ("allowed", rate),
            "error": ("error", rate),
            "seconds": ("training, s", number),
        },
    ),
    Table(
        "safecompress",
        "Is the network that SafeCompress chooses better than one strategy alone?",
        "A tenth of the weights remain. *Score* is task accuracy over the accuracy of the simulated attacker. Means "
        "over five seeds; a single strategy trains by the same recipe for as many epochs.",
        {
            "data": ("data", plain),
            "way": ("strategy", plain),
            "score": ("score", rate),
            "task_accuracy": ("accuracy", rate),
            "attack_accuracy": ("accuracy of the attacker", rate),
            "auc": ("AUC of the audit", rate),
            "chosen_less_this": ("score of the chosen less this", rate),
            "chosen_less_this_half_width": ("±", rate),
            "chosen_at_least_as_well": ("seeds where it is no lower", number),
            "seconds": ("training, s", number),
        },
    ),
    Table(
        "exits",
        "What does the exit that answered give away?",
        "Networks with three early exits. The attack `exit_index` is told the exit, or recovers it from five simulated "
        "latencies, or is told that all records left at one. Means over twelve attacked trainings.",
        {
            "backbone": ("network", plain),
            "members early": ("members that leave early", percent),
            "others early": ("others", percent),
            "recovered right": ("exits recovered", percent),
            "with": ("AUC with the exit", rate),
            "recovered": ("recovered", rate),
            "without": ("without", rate),
            "added": ("added by the exit", plain),
            "rmia_online": ("AUC of RMIA", rate),
        },
        keep=lambda row: row["version"] == "3 exits",
        relations="Whether the attack with the exit is at least that without it less half a point:",
    ),
    Table(
        "exits",
        "How do number and depth of early exits move the leakage?",
        "The same networks with other exits.",
        {
            "backbone": ("network", plain),
            "version": ("exits", plain),
            "error": ("error", rate),
            "members early": ("members that leave early", percent),
            "others early": ("others", percent),
            "with": ("AUC with the exit", rate),
            "rmia_online": ("AUC of RMIA", rate),
            "rmia_online_low": ("lowest", rate),
            "rmia_online_high": ("highest", rate),
        },
    ),
    Table(
        "space_search",
        "Does a search in `mobile` find what one in `conv` finds, and what does it cost beside training?",
        "2,000 members of CIFAR-10. *Compressed* also searches early exits and sparsity. The search in `conv` trained "
        "30 candidates, the others ended when their workers had used the same time and the training at hand was over. "
        "The error is the lowest on validation records, at the end and at that time.",
        {
            "search": ("search", plain),
            "trained": ("trained", number),
            "seconds": ("time of the workers, s", number),
            "overhead_percent": ("beside training, %", number),
            "lowest_error": ("lowest error", rate),
            "lowest_error_at_equal_time": ("at equal time", rate),
        },
    ),
    Table(
        "gecko",
        "What do Gecko's phases win and give back, beside other defences and fewer epochs?",
        "CIFAR-10 at 16 x 16, 2,500 members, 30 epochs. Phase I is the network of 1 bit that learns labels, in phase "
        "II it learns a float teacher's answers. Each version is trained eight times on random halves and attacked by "
        "six of its other trainings. Means with half-widths of 95 % intervals; the published figures are accuracies in "
        "percent on 50,000 members, of VGG in float on another network of that family.",
        {
            "network": ("network", plain),
            "version": ("version", plain),
            "error": ("error", rate),
            "error_half_width": ("±", rate),
            "member_error": ("of members", rate),
            "gap_auc": ("AUC of the gap", rate),
            "threshold_auc": ("of thresholds", rate),
            "threshold_auc_half_width": ("±", rate),
            "auc": ("of LiRA", rate),
            "auc_half_width": ("±", rate),
            "tpr_at_1pct_fpr": ("TPR at 1 % FPR", rate),
            "confidence_accuracy": ("accuracy of the paper's attack", rate),
            "latency_ms": ("latency, ms", number),
            "bytes": ("bytes", number),
            "published_member_accuracy": ("published: members", number),
            "published_test_accuracy": ("test records", number),
            "published_attack_accuracy": ("attack", number),
        },
        relations="What was published, and whether it holds here:",
    ),
    Table(
        "siblings",
        "How much does a shipped sibling give away of a server network, and what does unpairing change?",
        "Three server networks on CIFAR-10 at 16 x 16, 3,000 members, and their versions of 8 and 4 bits. The transfer "
        "is the share of the server network's right answers that adversarial examples made on the row's network turn. "
        "A *drop* is the share of the shipped version's transfer that is gone. The control has another seed.",
        {
            "seed": ("seed", number),
            "bits": ("bits", number),
            "network": ("network", plain),
            "error": ("error", rate),
            "cosine": ("cosine", rate),
            "PGD-10 transfer": ("transfer, PGD-10", rate),
            "PGD-10 white box": ("white box", rate),
            "PGD-10 drop": ("drop", rate),
            "MI-PGD-50 transfer": ("transfer, MI-PGD-50", rate),
            "MI-PGD-50 white box": ("white box", rate),
            "MI-PGD-50 drop": ("drop", rate),
        },
        facts={
            "unpaired": ("a drop of 30 % under both attacks for at most a point of error", plain),
            "unpaired, then trained further": ("the same after an attacker trained it further", plain),
        },
    ),
    Table(
        "distillation",
        "What do defences by distillation cost, and what do they leave to an attacker who repeats them?",
        "Location-30 with a perceptron, CIFAR-10 at 16 x 16 with a small convolutional network, 1,000 members. Each "
        "version is trained ten times on random halves and attacked by eight of its other trainings. *Taken* is the "
        "share of what RMIA finds beyond chance without a defence that is gone.",
        {
            "data": ("data", plain),
            "version": ("version", plain),
            "trainings": ("trainings", number),
            "error": ("error", rate),
            "error_half_width": ("±", rate),
            "auc": ("AUC of RMIA", rate),
            "auc_half_width": ("±", rate),
            "lira_auc": ("of LiRA", rate),
            "tpr_at_1pct_fpr": ("TPR at 1 % FPR", rate),
            "of_auc_beyond_chance_taken": ("taken", percent),
        },
        relations="What was published, and whether it holds here:",
    ),
    Table(
        "published_defences",
        "Do NeuGuard, posterior balancing and DP-SGD do here what was published of them?",
        "Location-30 with a perceptron, CIFAR-10 at 16 x 16 with a small convolutional network, 1,000 members. Each "
        "version is trained eight times on random halves; its other trainings, which have the same defence, attack it. "
        "*Unsorted* and *sorted* are networks that read posteriors in the order of the classes and in descending "
        "order.",
        {
            "data": ("data", plain),
            "version": ("version", plain),
            "error": ("error", rate),
            "gap": ("gap", rate),
            "unsorted_auc": ("AUC, unsorted", rate),
            "sorted_auc": ("sorted", rate),
            "loss_auc": ("loss", rate),
            "samia_auc": ("SAMIA", rate),
            "auc": ("LiRA", rate),
            "auc_half_width": ("±", rate),
            "rmia_auc": ("RMIA", rate),
            "tpr_at_1pct_fpr": ("TPR at 1 % FPR", rate),
        },
        relations="What was published, and whether it holds here:",
    ),
    Table(
        "defence_search_location30",
        "Does a search that chooses the defence find a better front than one with a fixed defence?",
        "Location-30 in `mlp`, error and leakage as objectives, 30 candidates a search, three seeds. The "
        "hypervolume is a share of the area between no error, no leakage and an AUC of 1. Medians over the seeds. "
        "*All* chooses among the others; the column before the last counts the seeds in which its hypervolume is "
        "larger.",
        DEFENCE_SEARCH_COLUMNS,
    ),
    Table(
        "defence_search_cifar10",
        "The same on CIFAR-10",
        "CIFAR-10 at 16 x 16 in `conv`, 500 members, otherwise as above.",
        DEFENCE_SEARCH_COLUMNS,
    ),
    Table(
        "search_efficiency_raspi4",
        "How much of a known front does each sampler find?",
        "Searches in a table of NAS-Bench-201: error on CIFAR-100 after 12 epochs, latency on a Raspberry Pi 4. The "
        "share is that of the hypervolume of the true front after so many different networks, the median over ten "
        "seeds with its standard error by the bootstrap. `tpe`, `nsga2`, `nsga3`, `gp` and `random` are Optuna's as "
        "`nas` runs them; `gp` ends at 100.",
        {
            "sampler": ("sampler", plain),
            "evaluations": ("networks", number),
            "share": ("share", rate),
            "se": ("standard error", rate),
        },
        keep=lambda row: row["part"] == "share",
        relations="What was aimed at, and whether it is reached:",
    ),
    Table(
        "search_efficiency_raspi4",
        "How long does each sampler take for an ask?",
        "CPU time on one thread: the median of the last 20 asks of a search, pricing included.",
        {"sampler": ("sampler", plain), "trials": ("trials", number), "ask_ms": ("an ask, ms", number)},
        keep=lambda row: row["part"] == "ask",
    ),
    Table(
        "search_ceiling",
        "How much of that front can a model find that has learnt from 2,000 other networks?",
        "The Gaussian process of `cost_aware` on the same features, asked from the first network on, among those that "
        "it has not learnt from. What is missing is the luck of single trainings of 12 epochs. Medians over ten "
        "draws.",
        {
            "evaluations": ("networks", number),
            "share": ("share", rate),
            "lowest": ("lowest", rate),
            "highest": ("highest", rate),
        },
        facts={"rank_correlation": ("rank correlation of predicted and true error", rate)},
    ),
    Table(
        "like",
        "How much does a search gain that begins with the front of an earlier one?",
        "Searches in tables of NAS-Bench-201 by `tpe`, with the latency on a Raspberry Pi 4. *Like CIFAR-10* begins "
        "with the front of a search of 50 networks on CIFAR-10 (`--like`), *alone* with random networks. The share is "
        "that of the hypervolume of the true front, the median over ten seeds; *given* is the median number of "
        "networks that the front has.",
        {
            "table": ("table", plain),
            "search": ("search", plain),
            "given": ("given", number),
            "networks": ("networks", number),
            "share": ("share", rate),
            "lowest": ("lowest", rate),
            "highest": ("highest", rate),
        },
    ),
    Table(
        "search_training_digits",
        "What do samplers find in real trainings, in the same time?",
        "Digits, 300 members, space `conv` with recipe and precisions, three objectives: error, leakage and latency. "
        "Each search has 60 trainings, or as many epochs where trainings are stopped early (`--fidelity rungs`). "
        "Shares are those of the CPU-seconds that the shortest search took. In them a sampler's own time counts, and "
        "a training takes half a second here; the last columns are after the same share of the trainings instead. The "
        "hypervolume is that of error, leakage above 0.5 and the logarithm of the latency, the median over five "
        "seeds.",
        {
            "search": ("search", plain),
            "share": ("share of the seconds", number),
            "cpu_seconds": ("CPU-seconds", number),
            "hypervolume": ("hypervolume", rate),
            "lowest": ("lowest", rate),
            "highest": ("highest", rate),
            "trainings": ("trainings", number),
            "after_trainings": ("hypervolume after them", rate),
            "trained": ("trained in all", number),
            "stopped": ("stopped early", number),
        },
        facts={name: (name, plain) for name in ("cost_aware", "cost_aware, stopped early")},
    ),
    Table(
        "front_audits",
        "Is the leakage of a front paid for by the sampler?",
        "Five members of each front of the searches above, each audited with 16 shadow models: the stronger of online "
        "LiRA and online RMIA. *Too low* is the audit's AUC less the search's, the mean over the five. Intervals are "
        "Student's 95 % over the seeds.",
        {
            "sampler": ("sampler", plain),
            "seed": ("seed", number),
            "on_front": ("on the front", number),
            "error": ("error", rate),
            "search_auc": ("AUC in the search", rate),
            "audited_auc": ("AUC in the audit", rate),
            "too_low": ("too low by", rate),
            "largest_too_low": ("at most", rate),
        },
        facts={name: (name, plain) for name in ("tpe", "cost_aware", "difference")},
    ),
    Table(
        "faults",
        "What does a search on PostgreSQL lose when machines, the server or the network fail?",
        "Searches of eight workers, each a machine of its own, whose trials sleep for 20 seconds. *Lost* are results "
        "that no trial holds, *begun again* evaluations of a candidate beyond its first, *ended twice* candidates of "
        "which two evaluations came to their end, *told twice* those of which two trials hold a result. A machine "
        "that is cut off or stopped for ten minutes trains to its end what another one was given; its result is "
        "dropped.",
        {
            "fault": ("fault", plain),
            "asked": ("asked", number),
            "finished": ("finished", number),
            "lost": ("lost", number),
            "begun_again": ("begun again", number),
            "ended_twice": ("ended twice", number),
            "told_twice": ("told twice", number),
            "ended": ("ended by itself", plain),
            "seconds": ("seconds", number),
        },
    ),
    Table(
        "exported_front",
        "Are exported files what the search said?",
        "Every network of the front of a search on CIFAR-10, in the precision that was priced and in float32, each "
        "file asked through ONNX Runtime. *Own biases*: beside the network with the file's biases. *Steps*: the "
        "largest difference of a logit, in 255ths of their range.",
        {
            "candidate": ("candidate", number),
            "file": ("file", plain),
            "agreement": ("same class", percent),
            "steps": ("steps", number),
            "exact_agreement": ("same class, own biases", percent),
            "exact_steps": ("steps, own biases", number),
            "auc_difference": ("AUC less the study's", number),
            "over_estimate": ("bytes over the estimate", percent),
            "here_ms": ("ms here", number),
            "predicted_ms": ("predicted, ms", number),
            "inside": ("in the interval", plain),
        },
        facts={
            "same_class": ("99.5 % of one class", plain),
            "within_a_step": ("logits within a step", plain),
            "same_class_exact": ("the same with the file's biases", plain),
            "within_a_step_exact": ("logits within a step with them", plain),
            "auc_within": ("AUC within .01", plain),
            "bytes_within": ("bytes within 5 % of the estimate", plain),
            "inside": ("time in the predicted interval", plain),
            "all_inside": ("the same of all trained candidates", plain),
        },
    ),
    Table(
        "startup",
        "How long do commands take that touch no tensor?",
        "Processor time, medians of seven runs. `import optuna` is what a command needs at least that reads a study.",
        {
            "command": ("command", plain),
            "seconds": ("seconds", number),
            "of importing PyTorch": ("of importing PyTorch", number),
        },
    ),
    Table(
        "nni_strategies",
        "How much of that front do NNI's own strategies find?",
        "The same table, by the code of NNI 3.0, which minimises one number: the mean of error and latency, both "
        "scaled to their range. The share is that of the hypervolume of all networks looked at, the median over ten "
        "seeds. The first population is NNI's default of 100.",
        {
            "strategy": ("strategy", plain),
            "networks": ("networks", number),
            "share": ("share", rate),
            "lowest": ("lowest", rate),
            "highest": ("highest", rate),
            "cpu_seconds_per_search": ("CPU seconds for all", number),
        },
    ),
    Table(
        "partition_split",
        "When does it pay to run the end of a network on a server?",
        "The four networks of MLPerf Tiny on an STM32L4R5 with a radio link. Figures are a model's, none is measured.",
        {
            "network": ("network", plain),
            "setting": ("link", plain),
            "kernels here": ("layers on the device", plain),
            "sent_bytes": ("bytes sent", number),
            "alone_ms": ("alone, ms", number),
            "split_ms": ("split, ms", number),
            "alone_mj": ("alone, mJ", number),
            "split_mj": ("split, mJ", number),
        },
    ),
    Table(
        "partition_enclave",
        "What does it take to hide layers in an enclave?",
        "The same networks, with an enclave of 32 to 256 KiB. Every figure is a model's. *Exposed* is the share of the "
        "weights that remains outside, *added* is the additional time.",
        {
            "network": ("network", plain),
            "setting": ("enclave", plain),
            "tail": ("last layers hidden", number),
            "tail_exposed_percent": ("exposed, %", number),
            "tail_added_percent": ("added, %", number),
            "set": ("any layers hidden", number),
            "set_exposed_percent": ("exposed, %", number),
            "set_added_percent": ("added, %", number),
        },
    ),
)


def page() -> str:
    """Return the whole page."""
    return INTRODUCTION + "".join(["\n" + part for part in (attacks(), *map(section, TABLES))])


def section(table: Table) -> str:
    """Write one table with what belongs to it."""
    found = read(table.result)
    rows = [
        [write(row.get(key)) for key, (_, write) in table.columns.items()] for row in found["rows"] if table.keep(row)
    ]
    facts = [f"- {what}: {write(found[key])}" for key, (what, write) in (table.facts or {}).items()]
    body = [*rows_of([head for head, _ in table.columns.values()], rows), *facts, *([""] if facts else [])]
    body += [] if table.relations is None else relations_in(found, table.relations)
    return laid_out(table.question, table.about, body, found)


def attacks() -> str:
    """Write what every attack finds: a row for each attack, a column for each network."""
    found = read("attacks")
    networks = list(dict.fromkeys(row["network"] for row in found["rows"]))
    aucs = {(row["attack"], row["network"]): row["auc"] for row in found["rows"]}
    names = list(dict.fromkeys(row["attack"] for row in found["rows"]))
    rows = [[f"`{name}`", *(rate(aucs.get((name, network))) for network in networks)] for name in names]
    about = (
        "AUC of each attack on five networks, with 16 shadow models each. Members are half of the records. The "
        "*independent* network was trained on other records: an attack should find nothing there."
    )
    told = "Relations between attacks that the literature reports, and whether they hold here:"
    body = [*rows_of(["attack", *networks], rows), *relations_in(found, told)]
    return laid_out("What does each attack find?", about, body, found)


def relations_in(found: Row, told: str) -> list[str]:
    """List what a benchmark says of relations: its sentences under names with a colon."""
    relations = [f"- {key}: {value}" for key, value in found.items() if isinstance(value, str) and ":" in key]
    return [told, "", *relations, ""]


def rows_of(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a Markdown table, an empty line after it."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def laid_out(question: str, about: str, body: Sequence[str], found: Row) -> str:
    """Put a table under its question, and below it where its numbers come from."""
    machine = found["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, PyTorch {machine['packages']['torch']}"
    origin = f"`{found['command']}`, {found['date']}, commit {found['commit'][:8]}, {where}"
    return "\n".join([f"## {question}", "", about, "", *body, origin]) + "\n"


def read(name: str) -> Row:
    """Read one result file."""
    found: Row = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written to {PAGE.relative_to(ROOT)}")
