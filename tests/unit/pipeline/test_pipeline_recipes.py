"""Settings of `fit`: what heads are told, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest

from selectkit import heads
from selectkit.config import FitConfig
from selectkit.errors import ConfigError
from selectkit.pipeline.recipes import (
    LOSSES,
    TRAINED,
    idle,
    loss_of,
    recipe_of,
    require_sensible,
    unused,
    without_unused,
)


@pytest.mark.parametrize(("head", "loss"), [(h, loss) for h in LOSSES for loss in LOSSES[h]])
def test_every_loss_is_one_that_its_head_is_trained_with(head: Any, loss: Any) -> None:
    config = FitConfig(head=head, loss=loss)
    require_sensible(config)
    assert isinstance(loss_of(config, 3), TRAINED[head].losses)
    assert loss_of(config, 3).kind == loss


def test_a_head_has_a_loss_of_its_own() -> None:
    kinds = {head: loss_of(FitConfig(head=head), 2).kind for head in ("mlp", "three", "abstain")}
    assert kinds == {"mlp": "cross_entropy", "three": "selective_net", "abstain": "self_adaptive"}


def test_every_setting_reaches_the_recipe() -> None:
    config = FitConfig(
        head="three", hidden=0, epochs=3, patience=2, batch_size=7, accumulation=2,
        learning_rate=0.5, warm_up=0.2, weight_decay=0.3, optimizer="lion", clip=1.5,
        averaging="none", class_weights="balanced", seed=4, sam_rho=0.1, sam_sigma=0.5,
        sam_decay=0.7, sam_adaptive=True, coverage=0.6, coverage_penalty=8.0, alpha=0.25,
        unnormalised=True, risk_target=0.05, risk_penalty=3.0,
    )  # fmt: skip
    require_sensible(config)
    assert recipe_of(config, 2) == heads.Recipe(
        hidden=None, epochs=3, patience=2, batch_size=7, accumulation=2, learning_rate=0.5,
        warm_up=0.2, weight_decay=0.3, optimizer="lion", clip=1.5, averaging=None,
        class_weights="balanced", seed=4, sharpness=heads.Sharpness(0.1, 0.5, 0.7, True),
        loss=heads.SelectiveNet(0.6, 8.0, 0.25, False, 0.05, 3.0),
    )  # fmt: skip


def test_the_defaults_of_settings_and_recipe_agree() -> None:
    assert recipe_of(FitConfig(head="mlp"), 2) == heads.Recipe()
    three = heads.Recipe(loss=heads.SelectiveNet())
    assert recipe_of(FitConfig(head="three"), 2) == three
    gamblers = FitConfig(head="abstain", loss="gamblers")
    assert recipe_of(gamblers, 2).loss == heads.Gamblers()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head": "linear", "epochs": 3}, "epochs is a setting of trained heads; head linear has"),
        ({"head": "knn", "gamma": 3.0, "clip": 1.0}, "gamma, clip are settings of trained heads"),
        ({"head": "mlp", "gamma": 3.0}, "gamma is no setting of cross_entropy. Take another"),
        ({"head": "three", "loss": "focal"}, "trained with selective_net, not focal; use --head m"),
        ({"head": "mlp", "loss": "gamblers"}, "not gamblers; use --head abstain"),
        ({"head": "mlp", "sam_sigma": 0.0}, "sam_sigma needs Friendly SAM. Add --sam-rho"),
        ({"head": "three", "risk_penalty": 1.0}, "risk_penalty is the price of a risk above"),
    ],
)
def test_settings_that_contradict_one_another(settings: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        require_sensible(FitConfig(**settings))


def test_a_payoff_above_the_number_of_classes() -> None:
    config = FitConfig(head="abstain", loss="gamblers", payoff=2.5)
    assert loss_of(config, 3) == heads.Gamblers(2.5)
    with pytest.raises(ConfigError, match=r"payoff = 2.5 must be at most the number of classes, 2"):
        loss_of(config, 2)


def test_what_is_not_looked_at_makes_no_difference() -> None:
    base = FitConfig(head="linear", select_by="augrc")
    other = replace(base, learning_rate=0.1, seed=3, hidden=5, gamma=1.0)
    assert without_unused(other) == without_unused(base) == base
    assert set(unused(other)) == {"gamma", "hidden", "learning_rate", "select_by"}
    mlp = FitConfig(head="mlp", learning_rate=0.1, gamma=1.0)
    assert without_unused(mlp) == replace(mlp, gamma=2.0)
    assert "learning_rate" not in idle(mlp)
    assert "gamma" in idle(FitConfig(head="mlp"))
