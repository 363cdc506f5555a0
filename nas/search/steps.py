"""How long candidates are trained: as many epochs as make enough steps.

An epoch of 180 members is three steps, and ten such epochs leave most networks untrained. So the range of epochs that
a search samples from, where its user sets none, grows as the members become fewer.
"""

from __future__ import annotations

from nas.search.config import Range
from nas.search.config import SearchConfig
from nas.search.config import extremes_of
from nas.training.schedule import steps_per_epoch

LEAST_STEPS, MOST_STEPS = 120, 480
LEAST_EPOCHS, MOST_EPOCHS = 10, 40


def with_epochs(config: SearchConfig, members: int) -> SearchConfig:
    """Return the settings with the range of epochs for that many members, where the user sets no epochs.

    The fewest epochs make at least `LEAST_STEPS` steps, the most `MOST_STEPS`; neither is below what suits large data.
    """
    recipe = config.recipe
    if "epochs" in recipe.model_fields_set:
        return config
    steps = steps_per_epoch(members, max(_batch_sizes(config)))
    epochs = Range(low=max(LEAST_EPOCHS, -(-LEAST_STEPS // steps)), high=max(MOST_EPOCHS, -(-MOST_STEPS // steps)))
    return config.model_copy(update={"recipe": recipe.model_copy(update={"epochs": epochs})})


def described(config: SearchConfig, members: int) -> str:
    """Say in a line how many epochs and steps candidates are trained for, and warn of few."""
    epochs = [int(value) for value in extremes_of(config.recipe.epochs)]
    few, many = (steps_per_epoch(members, size) for size in (max(_batch_sizes(config)), min(_batch_sizes(config))))
    steps = _span(min(epochs) * few, max(epochs) * many)
    records = _span(-(-members // many), -(-members // few))
    line = f"epochs {_span(min(epochs), max(epochs))}: {steps} steps of {records} records"
    if min(epochs) * few >= LEAST_STEPS:
        return line
    return f"{line}; with fewer than {LEAST_STEPS} steps networks are often half trained: more epochs help"


def _batch_sizes(config: SearchConfig) -> list[int]:
    return [int(value) for value in extremes_of(config.recipe.batch_size)]


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
