"""Accountants: the epsilon of many steps of a subsampled Gaussian mechanism, as DP-SGD is.

In each step every record is drawn with the same probability, independently of the others (Poisson sampling). The sum of
what the drawn records give, each of a length of at most 1, is published with Gaussian noise of deviation
`noise_multiplier`. Two sets of records are neighbours if one has a record more than the other. The probability and the
number of steps are taken as known to all.

Each accountant gives an upper bound on epsilon at a delta, and `gdp` an approximation of it. The smallest bound says
most; the others are here because published numbers were made with them. A tighter accountant makes no training more
private: it only says better how private it is.

`rdp` and `prv` are Opacus' (Yousefpour et al., 2021), which is needed for them alone.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import scipy

from estimators.leakage.statistics.gaussian_epsilon import LARGEST_MU
from estimators.leakage.statistics.gaussian_epsilon import gaussian_epsilon

PRECISION = 0.01
"""How far the epsilon of `noise_for` may lie below what was asked for, as a share of it."""
LARGEST_EPSILON = 200.0
"""No more can be asked for: beyond, nothing is promised, and no accountant here is exact."""
LARGEST_NOISE = 1e5
"""No more is tried to reach an epsilon."""
ORDERS = (*(1 + tenths / 10 for tenths in range(1, 100)), *map(float, range(11, 65)), 96.0, 128.0, 256.0, 512.0, 1024.0)
"""The orders of Renyi divergence that `rdp` tries; large ones are best for a small epsilon."""
# Of an epsilon, the share that the numerical error of `prv` may add, within these ends: it costs time and memory.
PRV_ERROR, PRV_ERRORS = 0.002, (0.0005, 0.1)
LARGEST_CONVOLVED = 400.0
"""Above this epsilon, by `rdp`, `prv` is not computed: it would take gigabytes, for what promises nothing."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """Steps of a Gaussian mechanism on samples.

    Attributes:
        noise_multiplier: Deviation of the noise, in lengths that one record can have; high protects more. Above 0.
        sampling_rate: Probability that a record takes part in a step, above 0 and at most 1.
        steps: How many; from 1.

    Raises:
        ValueError: If one of them is out of range.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not (0 < self.noise_multiplier < math.inf and 0 < self.sampling_rate <= 1 and self.steps >= 1):
            raise ValueError(
                f"expected noise_multiplier > 0, sampling_rate above 0 and at most 1, steps >= 1; got {self}"
            )


def naive(mechanism: Mechanism, delta: float) -> float:
    """Add up the epsilon of every step (Dwork et al., 2006, "Our Data, Ourselves", theorem 1).

    A step's own is exact for one Gaussian mechanism (Balle and Wang, 2018), and amplified by sampling (Li, Qardaji and
    Su, 2012; Balle, Barthe and Gaboardi, 2018): log(1 + q (e^epsilon - 1)) at q times its delta. The delta is shared
    equally.
    """
    return mechanism.steps * _of_step(mechanism, delta / mechanism.steps)


def advanced(mechanism: Mechanism, delta: float) -> float:
    """Compose steps by advanced composition (Dwork, Rothblum and Vadhan, 2010; Dwork and Roth, 2014, theorem 3.20).

    Half of the delta goes to the steps, half to the composition. Where it says less than `naive`, as for few steps with
    little noise, `naive` holds too.
    """
    steps = mechanism.steps
    one = _of_step(mechanism, delta / 2 / steps)
    if one > math.log(1e100):
        return math.inf
    return math.sqrt(2 * steps * math.log(2 / delta)) * one + steps * one * math.expm1(one)


def zcdp(mechanism: Mechanism, delta: float) -> float:
    """Compose steps by zero-concentrated privacy, as if every record took part in every step (Bun and Steinke, 2016).

    A step has rho = 1 / (2 sigma^2); rho adds up, and epsilon is rho + 2 sqrt(rho log(1 / delta)). Sampling does not
    help here: the definition has no good amplification by it.
    """
    rho = mechanism.steps / (2 * mechanism.noise_multiplier**2)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def gdp(mechanism: Mechanism, delta: float) -> float:
    """Approximate epsilon by the central limit of many small steps (Bu, Dong, Long and Su, 2020).

    The whole is then like one Gaussian mechanism with mu = q sqrt(T (e^(1 / sigma^2) - 1)). This is no bound: for a
    finite number of steps it may lie below the true epsilon, and with little noise far above. Infinite beyond a mu of
    `estimators.leakage.statistics.gaussian_epsilon.LARGEST_MU`.
    """
    exponent = mechanism.noise_multiplier**-2
    if exponent > math.log(1e100):
        return math.inf
    mu = mechanism.sampling_rate * math.sqrt(mechanism.steps * math.expm1(exponent))
    return gaussian_epsilon(mu, delta) if mu <= LARGEST_MU else math.inf


@lru_cache(maxsize=256)
def rdp(mechanism: Mechanism, delta: float) -> float:
    """Bound epsilon by Renyi divergences of many orders, the best of which counts (Mironov, Talwar and Zhang, 2019).

    Raises:
        ValueError: If Opacus is not installed.
    """
    accountant = _opacus("RDPAccountant")()
    accountant.history = [(mechanism.noise_multiplier, mechanism.sampling_rate, mechanism.steps)]
    with _quiet():
        return max(0.0, float(accountant.get_epsilon(delta, alphas=list(ORDERS))))


def prv(mechanism: Mechanism, delta: float) -> float:
    """Bound epsilon by convolving the privacy loss of all steps numerically (Gopi, Lee and Wutschitz, 2021).

    The tightest: the true epsilon lies below by little more than the numerical error, which is counted in. Where every
    record takes part in every step, the whole is one Gaussian mechanism, and epsilon is exact.

    Returns:
        The bound; infinity where it is not computed, for an epsilon of hundreds.

    Raises:
        ValueError: If Opacus is not installed.
    """
    if mechanism.sampling_rate == 1:
        mu = math.sqrt(mechanism.steps) / mechanism.noise_multiplier
        return gaussian_epsilon(mu, delta) if mu <= LARGEST_MU else math.inf
    # A looser bound says how large the numbers are, and with them how exact they have to be.
    about = rdp(mechanism, delta)
    if about > LARGEST_CONVOLVED:
        return math.inf
    accountant = _opacus("PRVAccountant")()
    accountant.history = [(mechanism.noise_multiplier, mechanism.sampling_rate, mechanism.steps)]
    low, high = PRV_ERRORS
    error = min(max(PRV_ERROR * about, low), high)
    with _quiet():
        try:
            found = float(accountant.get_epsilon(delta, eps_error=error))
        except (RuntimeError, ValueError, MemoryError, FloatingPointError):
            return math.inf
    return found if math.isfinite(found) and found > 0 else math.inf


ACCOUNTANTS: dict[str, Callable[[Mechanism, float], float]] = {
    "prv": prv,
    "rdp": rdp,
    "gdp": gdp,
    "zcdp": zcdp,
    "advanced": advanced,
    "naive": naive,
}
"""By name, the tightest first."""
BOUNDS = tuple(name for name in ACCOUNTANTS if name != "gdp")
"""Those that give an upper bound."""


@lru_cache(maxsize=256)
def epsilon_of(mechanism: Mechanism, delta: float) -> float:
    """Return the smallest upper bound that holds: that of `prv`, or of the others where that fails.

    Raises:
        ValueError: If delta is not above 0 and below 1; if Opacus is not installed.
    """
    _check_delta(delta)
    found = prv(mechanism, delta)
    if math.isfinite(found):
        return found
    return min(ACCOUNTANTS[name](mechanism, delta) for name in BOUNDS if name != "prv")


@lru_cache(maxsize=256)
def noise_for(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Return the noise multiplier whose epsilon is what is asked for, or up to `PRECISION` of it below.

    Args:
        epsilon: Above 0.
        delta: Above 0 and below 1.
        sampling_rate: As `Mechanism`.
        steps: As `Mechanism`.

    Raises:
        ValueError: If a number is out of range, or so small an epsilon that no noise up to `LARGEST_NOISE` reaches it;
            if Opacus is not installed.
    """
    if not 0 < epsilon <= LARGEST_EPSILON:
        raise ValueError(f"expected epsilon above 0 and at most {LARGEST_EPSILON:g}; got {epsilon}")
    _check_delta(delta)
    wanted = epsilon * (1 - PRECISION / 2)

    def over(noise: float) -> float:
        """How far epsilon lies above, as a share; found on a log scale, on which it is nearly a line."""
        found = epsilon_of(Mechanism(noise, sampling_rate, steps), delta)
        return math.log(max(found, 1e-300) / wanted)

    low = high = _near(epsilon, delta, sampling_rate, steps)
    while over(high) > 0:
        low, high = high, 1.25 * high
        if high > LARGEST_NOISE:
            raise ValueError(f"expected an epsilon that noise can reach; got {epsilon} in {steps} steps")
    while over(low) <= 0:
        low, high = low / 1.25, low
    found = math.exp(
        scipy.optimize.brentq(lambda of_noise: over(math.exp(of_noise)), math.log(low), math.log(high), xtol=1e-3)
    )
    # The root is known to within a thousandth of the noise, which may leave epsilon a trifle above.
    return found if over(found) <= PRECISION / 2 else high


def _near(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Return the noise multiplier that `gdp` would take."""

    def over(log_noise: float) -> float:
        found = gdp(Mechanism(math.exp(log_noise), sampling_rate, steps), delta)
        return min(found, 1e6) - epsilon

    low, high = math.log(0.05), math.log(LARGEST_NOISE)
    if over(low) <= 0 or over(high) >= 0:
        return 1.0
    return math.exp(scipy.optimize.brentq(over, low, high, xtol=1e-3))


def _of_step(mechanism: Mechanism, delta: float) -> float:
    """Return the epsilon of one step at a delta, amplified by sampling."""
    rate, mu = mechanism.sampling_rate, 1 / mechanism.noise_multiplier
    if mu > LARGEST_MU:
        return math.inf
    # A delta of 1 or more is met by anything: so few records take part.
    plain = gaussian_epsilon(mu, delta / rate) if delta < rate else 0.0
    return math.log1p(rate * math.expm1(plain)) if plain < math.log(1e100) else plain + math.log(rate)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"expected delta above 0 and below 1; got {delta}")


def _opacus(name: str) -> Any:
    try:
        with _quiet():
            return getattr(import_module("opacus.accountants"), name)
    except ModuleNotFoundError:
        raise ValueError("differential privacy needs Opacus: pip install 'gecko-nas[privacy]'") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what Opacus says of orders that do not decide: the best one is taken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
