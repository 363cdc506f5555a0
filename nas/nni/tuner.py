"""An NNI tuner over a study's ask and tell; NNI starts it in a process of its own.

NNI gives a tuner ten seconds to connect, and importing PyTorch alone can take as long on a busy machine. So nothing
heavy is imported here before the connection stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from nni import NoMoreTrialError
from nni.tuner import Tuner

if TYPE_CHECKING:
    from nas.nni.exchange import Exchange


class StudyTuner(Tuner):  # type: ignore[misc] # NNI has no types
    """Hand the study's proposals to NNI, and NNI's results to the study."""

    def __init__(self, folder: str, optimize_mode: str = "minimize") -> None:
        """Remember where the settings are.

        Args:
            folder: NNI's folder in the run's folder.
            optimize_mode: For NNI's page, which ranks by `default`.
        """
        self.optimize_mode = optimize_mode
        self._folder = Path(folder)
        self._exchange: Exchange | None = None

    @property
    def exchange(self) -> Exchange:
        """The exchange with the study, opened at first use."""
        if self._exchange is None:
            from nas.nni.exchange import Exchange  # noqa: PLC0415 - only after the connection stands

            self._exchange = Exchange(self._folder)
        return self._exchange

    def update_search_space(self, search_space: object) -> None:
        """Ignore NNI's copy: the study's distributions are what is sampled."""

    def generate_multiple_parameters(self, parameter_id_list: list[int], **kwargs: Any) -> list[dict[str, Any]]:
        """Propose as many candidates as NNI asks for, or fewer."""
        self.exchange.take_back_lost()
        proposed: list[dict[str, Any]] = super().generate_multiple_parameters(parameter_id_list, **kwargs)
        if len(proposed) < len(parameter_id_list):
            self.exchange.end_if_idle()
        return proposed

    def generate_parameters(self, parameter_id: int, **_kwargs: Any) -> dict[str, Any]:
        """Propose one candidate.

        Raises:
            nni.NoMoreTrialError: If there is nothing to propose now.
        """
        params = self.exchange.propose(parameter_id)
        if params is None:
            raise NoMoreTrialError
        return params

    def receive_trial_result(
        self, parameter_id: int, _parameters: object, value: Mapping[str, Any], **_kwargs: Any
    ) -> None:
        """Tell the study what NNI reports for one of its proposals."""
        self.exchange.receive(parameter_id, value)

    def trial_end(self, parameter_id: int, success: bool, **_kwargs: Any) -> None:
        """Note a trial that ended badly. NNI calls this from another thread than the rest."""
        if not success:
            self.exchange.failed.append(parameter_id)
