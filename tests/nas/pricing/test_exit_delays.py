import numpy as np
import pytest

from estimators.leakage.shared.exit_times import exits_from_latencies
from nas.pricing.exit_delays import delayed_by_exit_ms
from nas.pricing.exit_delays import delayed_ms

SECRET, OTHER = b"sixteen bytes it", b"another secret, of more bytes"
LATENCIES_MS, SHARES = np.array([1.0, 1.6, 2.5]), np.array([0.5, 0.2, 0.3])
# Of the early exits' distance to the last.
DEVIATION_MS = 3.0


@pytest.fixture(scope="module")
def records():
    return np.random.default_rng(0).normal(size=(3000, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def exits():
    return np.random.default_rng(1).choice(3, size=3000, p=SHARES)


def held_back(records, exits, deviation_ms=DEVIATION_MS, secret=SECRET):
    return np.array(
        [
            delayed_ms(
                record, LATENCIES_MS[number], slowest_ms=LATENCIES_MS[-1], deviation_ms=deviation_ms, secret=secret
            )
            for record, number in zip(records, exits, strict=True)
        ]
    )


def told(times, exits):
    """Share of exits that the valleys between times tell, each group named by the exit most of its records left by."""
    noise = np.random.default_rng(2).normal(0, 0.2 * np.diff(LATENCIES_MS).min(), (5, len(times)))
    groups = exits_from_latencies(times + noise, len(LATENCIES_MS))
    return _by_group(groups, exits)


def told_at_best(times, exits):
    """The same for who knows the distribution and measures exactly: the commonest exit in each part of the range."""
    cells = np.digitize(times, np.linspace(LATENCIES_MS[0], LATENCIES_MS[-1], 100))
    return _by_group(cells, exits)


def _by_group(groups, exits):
    return sum(np.bincount(exits[groups == group]).max() for group in np.unique(groups)) / len(exits)


def test_without_delays_the_time_tells_the_exit_and_with_them_hardly_more_than_the_commonest_one(records, exits):
    majority = np.bincount(exits).max() / len(exits)
    plain = LATENCIES_MS[exits]
    assert told(plain, exits) > 0.95
    times = held_back(records, exits)
    assert told(times, exits) <= majority + 0.05
    assert told_at_best(times, exits) <= majority + 0.05
    assert plain.mean() < times.mean() < LATENCIES_MS[-1]


def test_small_delays_hide_little(records, exits):
    assert told(held_back(records, exits, deviation_ms=0.01), exits) > 0.95
    assert told_at_best(held_back(records, exits, deviation_ms=0.3), exits) > 0.75


def test_the_same_record_waits_as_long_again_and_another_one_or_another_device_does_not(records, exits):
    early = np.zeros_like(exits[:200])
    times = held_back(records[:200], early)
    np.testing.assert_array_equal(held_back(records[:200], early), times)
    assert (held_back(records[:200], early, secret=OTHER) != times).mean() > 0.3
    waits = times[times < LATENCIES_MS[-1]]
    assert len(np.unique(waits)) == len(waits) > 50


def test_who_knows_the_secret_sees_through_it_and_who_knows_the_rule_alone_does_not(records, exits):
    """The published rule has no secret: its delays can be computed and compared."""
    times = held_back(records, exits)
    for secret, sees_through in ((SECRET, True), (OTHER, False)):
        guesses = np.stack([held_back(records, np.full_like(exits, number), secret=secret) for number in range(3)])
        found = np.abs(guesses - times).argmin(axis=0)
        is_open = times < LATENCIES_MS[-1]
        right = (found == exits)[is_open].mean()
        assert (right > 0.99) == sees_through


def test_a_copy_that_differs_in_a_bit_draws_anew_as_the_text_warns(records):
    copies = np.repeat(records[:1], 200, axis=0)
    copies[:, 0] += np.arange(200, dtype=np.float32) * 1e-6
    times = held_back(copies, np.zeros(200, dtype=int))
    assert times.min() < LATENCIES_MS[0] + 0.1


@pytest.mark.parametrize("deviation_ms", [0.0, 0.3, 3.0, 30.0])
def test_the_mean_is_that_of_many_records(records, exits, deviation_ms):
    shares = np.bincount(exits) / len(exits)
    found = held_back(records, exits, deviation_ms)
    error = 4 * found.std() / np.sqrt(len(found))
    means = delayed_by_exit_ms(LATENCIES_MS.tolist(), deviation_ms)
    assert shares @ means == pytest.approx(found.mean(), abs=error)


def test_an_answer_that_took_longer_than_the_last_exit_is_not_held_back(records):
    assert delayed_ms(records[0], 2.7, slowest_ms=2.5, deviation_ms=1.0, secret=SECRET) == 2.7


def test_what_makes_no_sense_is_refused(records):
    with pytest.raises(ValueError, match=r"^expected a secret of 16 bytes or more; got 5$"):
        delayed_ms(records[0], 1.0, slowest_ms=2.0, deviation_ms=1.0, secret=b"short")
    for refused in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"^expected a deviation of 0 ms or more; got {refused}$"):
            delayed_ms(records[0], 1.0, slowest_ms=2.0, deviation_ms=refused, secret=SECRET)
        with pytest.raises(ValueError, match="expected a deviation of 0 ms or more"):
            delayed_by_exit_ms([1.0, 2.0], refused)
