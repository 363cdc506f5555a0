"""The ledger against a plain scan of all trials, as a study grows and its trials end in any order."""

from fractions import Fraction

import numpy as np
import optuna
from optuna.samplers._base import _CONSTRAINTS_KEY
from optuna.trial import TrialState

from nas.search.ledger import DUPLICATE
from nas.search.ledger import Ledger
from nas.search.ledger import ledger_of

KEYS = ("a", "b", "c")


def spoken_for(trials):
    whole = sum(trial.state in (TrialState.COMPLETE, TrialState.RUNNING) for trial in trials)
    stopped = [trial.user_attrs.get("rung_1") for trial in trials if trial.state == TrialState.PRUNED]
    return whole + sum(
        (Fraction(row["epochs"], row["of"]) for row in stopped if row and not row["goes_on"]), Fraction(0)
    )


def first_with_key(trials, key):
    for trial in trials:
        is_duplicate = trial.user_attrs.get("rejected", "").startswith(DUPLICATE)
        if trial.user_attrs.get("key") == key and trial.state != TrialState.FAIL and not is_duplicate:
            return trial.number
    return None


def change(study, rng):
    """Start a trial, name its candidate or end one."""
    running = [trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
    if not running or rng.random() < 0.4:
        study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING))
        return
    number = int(rng.choice(running))
    trial = study._storage
    if "key" not in study.get_trials(deepcopy=False)[number].user_attrs:
        trial.set_trial_user_attr(number, "key", str(rng.choice(KEYS)))
        return
    state = TrialState(int(rng.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])))
    if rng.random() < 0.5:
        row = {"epochs": 1, "of": int(rng.integers(7, 12)), "goes_on": state == TrialState.COMPLETE}
        trial.set_trial_user_attr(number, "rung_1", row)
    if state == TrialState.PRUNED and rng.random() < 0.7:
        trial.set_trial_user_attr(number, "rejected", f"{DUPLICATE} 0")
    trial.set_trial_state_values(number, state, [0.5] if state == TrialState.COMPLETE else None)


def test_a_ledger_says_what_a_scan_of_all_trials_says():
    rng, study, ledger = np.random.default_rng(0), optuna.create_study(), Ledger()
    for step in range(400):
        change(study, rng)
        if step % int(rng.integers(1, 4)):
            continue  # not every change is read by itself
        trials = study.get_trials(deepcopy=False)
        ledger.read(trials)
        assert [trial.number for trial in ledger.open] == [
            trial.number for trial in trials if not trial.state.is_finished()
        ]
        assert ledger.spoken_for() == spoken_for(trials)
        assert ledger.has_room(int(spoken_for(trials)) + 1) == (spoken_for(trials).denominator == 1)
        assert ledger.has_room(int(spoken_for(trials)) + 2)
        for number in rng.integers(0, len(trials) + 1, size=3).tolist():
            assert ledger.spoken_for(before=number) == spoken_for(trials[:number])
            for key in KEYS:
                assert ledger.first_with_key(number, key) == first_with_key(trials[:number], key)
    assert len(trials) > 100


def test_a_finished_trial_is_read_once():
    ledger, study = Ledger(), optuna.create_study()
    for value in range(5):
        study.add_trial(optuna.trial.create_trial(value=value))
    read = []

    class Trials(list):
        def __getitem__(self, number):
            read.append(number)
            return super().__getitem__(number)

    ledger.read(Trials(study.get_trials()))
    study.ask()
    ledger.read(Trials(study.get_trials()))
    ledger.read(Trials(study.get_trials()))
    assert read == [0, 1, 2, 3, 4, 5, 5]


def test_copies_of_a_study_share_its_ledger_and_other_studies_do_not():
    storage = optuna.storages.InMemoryStorage()
    one, other = (optuna.create_study(study_name=name, storage=storage) for name in ("one", "other"))
    again = optuna.load_study(study_name="one", storage=storage)
    one.ask()
    assert ledger_of(one) is ledger_of(again)
    assert ledger_of(other) is not ledger_of(one)
    assert (ledger_of(one).spoken_for(), ledger_of(other).spoken_for()) == (1, 0)
    assert ledger_of(optuna.create_study()).spoken_for() == 0


def test_what_is_worth_learning_is_the_front_and_the_latest_whatever_the_order_trials_end_in():
    rng, study = np.random.default_rng(0), optuna.create_study(directions=["minimize", "minimize"])
    ledgers = Ledger(), Ledger()
    for _ in range(60):
        study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING))
    for number in rng.permutation(55):
        state = TrialState(
            int(rng.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL], p=[0.7, 0.2, 0.1]))
        )
        if rng.random() < 0.3:
            study._storage.set_trial_system_attr(number, f"{_CONSTRAINTS_KEY}:flash_kib", 0.5)
        values = rng.integers(0, 8, 2).astype(float).tolist() if state == TrialState.COMPLETE else None
        study._storage.set_trial_state_values(number, state, values)
        ledgers[0].read(study.get_trials(deepcopy=False))
    trials = study.get_trials(deepcopy=False)
    ledgers[1].read(trials)
    feasible = [trial for trial in trials if trial.state == TrialState.COMPLETE and not trial.constraints]
    front = {
        one.number
        for one in feasible
        if not any(
            np.all(np.subtract(other.values, one.values) <= 0) and other.values != one.values for other in feasible
        )
    }
    finished = [trial.number for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    latest = [number for number in finished if number not in front][-(20 - len(front)) :]
    expected = sorted([*front, *latest, *range(55, 60)])
    assert 0 < len(front) < 20
    for ledger in ledgers:
        assert [trial.number for trial in ledger.worth_learning(20)] == expected
        assert [trial.number for trial in ledger.worth_learning(1000)] == sorted([*finished, *range(55, 60)])
        assert {trial.number for trial in ledger.worth_learning(1)} == {*front, *range(55, 60)}
