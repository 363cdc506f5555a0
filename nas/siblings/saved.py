"""Write an unpaired network beside the pick that it comes from, never over it."""

from __future__ import annotations

from pathlib import Path

from nas.base import files
from nas.base.weights import write_weights
from nas.preprocessing.stored import PREPROCESSING
from nas.preprocessing.stored import to_json
from nas.runs import report as run_report
from nas.search.schema import COMPRESSIONS
from nas.search.schema import FLOAT_BECOMES_BITS
from nas.search.schema import TRAINED_BY
from nas.search.schema import WEIGHTS
from nas.search.schema import bits_of_float
from nas.search.schema import training_version_of
from nas.siblings.findings import Findings
from nas.siblings.pair import UNPAIRED
from nas.siblings.pair import Named
from nas.siblings.report import as_json
from nas.siblings.report import markdown


def check_unpairable(shipped: Named) -> None:
    """Refuse a network that could not be unpaired and written.

    Raises:
        ValueError: If it was unpaired already, or its layers share values.
    """
    if shipped.is_unpaired:
        raise ValueError(f"expected a candidate or its pick to unpair; {shipped.text} was unpaired already")
    if any(op.shared_bits for op in shipped.network.architecture.ops):
        raise ValueError(
            f"expected a network whose layers share no values to unpair; fine-tuning {shipped.text} would part them"
        )


def folder_of(shipped: Named) -> Path:
    """Return where an unpaired network is written: beside its pick."""
    bits = "" if shipped.bits is None else f"-{shipped.bits}bit"
    return shipped.run.folder / "picks" / f"{shipped.trial.number}{bits}-unpaired"


def write(shipped: Named, server: Named, found: Findings) -> tuple[Path, str]:
    """Write the files of a pick, `siblings.json` and `siblings.md`.

    Args:
        shipped: The network before.
        server: What it was unpaired from.
        found: With the unpairing.

    Returns:
        The folder, and the SHA-256 of the weights.

    Raises:
        ValueError: If nothing was unpaired.
    """
    if found.result is None:
        raise ValueError("expected an unpairing to write; there is none")
    target, network, study = folder_of(shipped), found.result.unpaired.network, shipped.run.study
    digest = write_weights(target / "weights.safetensors", network)
    architecture = network.architecture
    described = {
        "space": shipped.run.config.space,
        "input_shape": list(architecture.input_shape),
        "num_classes": architecture.num_classes,
        TRAINED_BY: training_version_of(study.user_attrs),
        "params": dict(architecture.params),
        "key": architecture.key,
        "defence": run_report.defence_of(study, shipped.trial),
        "defence_parameters": run_report.parameters_of(shipped.trial),
        WEIGHTS: digest,
        UNPAIRED: files.digest_of(server.run.weights(server.trial)),
    }
    bits = bits_of_float(study.user_attrs) if shipped.bits is None else shipped.bits
    if bits is not None:
        described[FLOAT_BECOMES_BITS] = bits
    if shipped.run.config.compressions:
        described[COMPRESSIONS] = list(shipped.run.config.compressions)
    files.write_json(target / "architecture.json", described)
    files.write_text(target / PREPROCESSING, to_json(shipped.run.data.preprocessing))
    files.write_json(target / "siblings.json", {**as_json(found), "weights_sha256": digest})
    files.write_text(target / "siblings.md", markdown(found, target, digest))
    return target, digest
