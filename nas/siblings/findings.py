"""All that a comparison of a shipped network with a server network found, and what an unpairing changed."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace

import torch

from estimators.estimate import Estimate
from nas.records import Splits
from nas.siblings.compare import Effect
from nas.siblings.compare import Ground
from nas.siblings.compare import Kinship
from nas.siblings.compare import black_box
from nas.siblings.compare import effect
from nas.siblings.compare import kinship
from nas.siblings.compare import signs_of_masking
from nas.siblings.unpair import Epoch
from nas.siblings.unpair import Unpaired
from nas.siblings.unpair import Unpairing
from nas.siblings.unpair import unpair
from nas.training.loop import Labelled
from nas.training.loop import compute_device
from search_spaces.network import Network


@dataclass(frozen=True, eq=False)
class Result:
    """An unpairing and what it changed.

    Attributes:
        settings: How it was fine-tuned.
        unpaired: The network, and its epochs.
        effect: What changed on the records of the comparison.
        from_control: How often examples of the control fool the unpaired network.
    """

    settings: Unpairing
    unpaired: Unpaired
    effect: Effect
    from_control: Estimate


@dataclass(frozen=True, eq=False)
class Findings:
    """All that a comparison found.

    Attributes:
        shipped: The shipped network's label.
        server: The server network's label.
        epsilon: Radius as a share of the range of the records.
        ground: What was compared on.
        networks: The server network itself, the shipped one, the control, and the unpaired one if there is one.
        result: Of the unpairing; None where nothing was unpaired.
    """

    shipped: str
    server: str
    epsilon: float
    ground: Ground
    networks: Mapping[str, Kinship]
    result: Result | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what the figures cannot say."""
        said = [
            f"the {name} network has no gradient at {count} of {len(one.wrong)} records: attacks by gradients say "
            "little of these"
            for name, one in self.networks.items()
            if (count := one.similarity.without_gradient)
        ]
        if self.result is not None:
            before, after = self.networks["shipped"], self.networks["unpaired"]
            said += signs_of_masking(before, after, self.result.from_control)
        return tuple(said)


def unpaired(
    found: Findings, shipped: Network, data: Splits, settings: Unpairing, look: Callable[[Epoch], None] = lambda _: None
) -> Findings:
    """Unpair the shipped network of a comparison and compare it anew.

    It learns from the members and is chosen on validation records; the records of the comparison are other ones.

    Args:
        found: With the server network, the shipped one and the control.
        shipped: The network to fine-tune.
        data: The run's.
        settings: How to fine-tune.
        look: Called after each epoch.

    Raises:
        ValueError: As `nas.siblings.unpair.unpair`.
    """
    place, ground = compute_device(), found.ground
    members, validation = (
        Labelled(torch.from_numpy(part.features).to(place), torch.from_numpy(part.labels).to(place))
        for part in (data.members, data.validation)
    )
    tuned = unpair(shipped, ground.server, members, validation, settings, seed=ground.seed, look=look)
    before, after = found.networks["shipped"], kinship("unpaired", tuned.network, ground)
    from_control = black_box(tuned.network, ground, found.networks["control"])
    return replace(
        found,
        networks={**found.networks, "unpaired": after},
        result=Result(settings, tuned, effect(before, after), from_control),
    )
