"""How many epochs a search samples from, by the number of members."""

from __future__ import annotations

import pytest

from nas.search.config import Range
from nas.search.config import load_config
from nas.search.config import parse_config
from nas.search.config import to_toml
from nas.search.plan import resolve
from nas.search.steps import described
from nas.search.steps import with_epochs


@pytest.mark.parametrize(
    ("members", "low", "high"),
    [
        (20, 120, 480),  # one step in an epoch
        (180, 40, 160),  # three
        (539, 14, 54),  # nine: 126 to 486 steps
        (768, 10, 40),  # twelve
        (769, 10, 40),
        (50_000, 10, 40),
    ],
)
def test_few_members_are_seen_more_often(members, low, high):
    assert with_epochs(parse_config({}), members).recipe.epochs == Range(low=low, high=high)


def test_the_largest_batches_have_the_fewest_steps():
    config = with_epochs(parse_config({"recipe": {"batch_size": [16, 64]}}), 180)
    assert config.recipe.epochs == Range(low=40, high=160)
    assert described(config, 180) == "epochs 40 to 160: 120 to 1,920 steps of 15 to 60 records"


@pytest.mark.parametrize("epochs", [7, [5, 9], {"low": 10, "high": 40}])
def test_epochs_that_are_set_are_kept(epochs):
    config = parse_config({"recipe": {"epochs": epochs}})
    assert with_epochs(config, 180) is config


def test_the_range_is_set_once(tmp_path):
    config = with_epochs(parse_config({}), 180)
    assert with_epochs(config, 20) is config
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert with_epochs(load_config(path, {}), 20) == config


def test_steps_are_said_and_few_of_them_are_warned_of():
    few, most = (parse_config({"recipe": {"epochs": epochs}}) for epochs in (39, 40))
    assert described(most, 180) == "epochs 40: 120 steps of 60 records"
    assert described(few, 180) == (
        "epochs 39: 117 steps of 60 records; with fewer than 120 steps networks are often half trained: "
        "more epochs help"
    )


def test_a_plan_has_the_range_and_its_bank_the_middle(tmp_path):
    plan = resolve(parse_config({"space": "mlp", "members": 180}), tmp_path)
    assert plan.config.recipe.epochs == Range(low=40, high=160)
    assert (plan.distributions["epochs"].low, plan.distributions["epochs"].high) == (40, 160)
    assert plan.bank.recipe.epochs == 100
    assert resolve(plan.config, tmp_path).config == plan.config
