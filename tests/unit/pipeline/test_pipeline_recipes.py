"""Settings of `fit`: what heads are told, and what is refused."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from selectkit import heads
from selectkit.config import FitConfig
from selectkit.errors import ConfigError
from selectkit.pipeline.recipes import (
    LOSSES,
    TRAINED,
    epochs_judged_by,
    first_training,
    idle,
    loss_of,
    recipe_of,
    require_sensible,
    unused,
    without_unused,
)


@pytest.mark.parametrize(("head", "loss"), [(h, loss) for h in LOSSES for loss in LOSSES[h]])
def test_every_loss_is_one_that_its_head_is_trained_with(head: Any, loss: Any) -> None:
    aim = {"conformal_risk": "fnr=0.05", "conformal_sets": "error=0.05"}.get(loss)
    config = FitConfig(head=head, loss=loss, target=aim)
    require_sensible(config)
    assert isinstance(loss_of(config, 3, positive=1), TRAINED[head].losses)
    assert loss_of(config, 3, positive=1).kind == loss


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


RISK = FitConfig(head="mlp", loss="conformal_risk", target="fnr=0.02")


def test_every_setting_of_fine_tuning_reaches_the_loss() -> None:
    config = replace(RISK, objective="deferral", temperature=0.3)
    expected = heads.ConformalRisk(0.02, 2, "deferral", 0.3)
    assert recipe_of(config, 3, positive=2).loss == expected
    assert epochs_judged_by(config) == "deferral@fnr=0.02"
    config = replace(
        RISK, loss="conformal_sets", target="error=0.1", kappa=0, size_weight=2.0, temperature=1.0
    )
    require_sensible(config)
    assert loss_of(config, 3) == heads.ConformalSets(0.1, 0, 2.0, 1.0)
    assert epochs_judged_by(config) == "set_size@error=0.1"
    assert epochs_judged_by(FitConfig(select_by="augrc")) == "augrc"
    default = heads.ConformalRisk(0.02)
    assert loss_of(RISK, 2, positive=1) == default
    with pytest.raises(ConfigError, match="conformal_risk needs a positive class: give --positive"):
        loss_of(RISK, 3)


def test_what_is_fine_tuned_is_trained_by_cross_entropy_with_the_same_settings() -> None:
    config = replace(RISK, hidden=8, epochs=9, class_weights="balanced", batch_size=4096, folds=3)
    first = first_training(config)
    assert first == FitConfig(
        head="mlp", loss="cross_entropy", hidden=8, epochs=9, class_weights="balanced"
    )
    require_sensible(first)


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
        ({"head": "linear", "loss": "gamblers"}, "has none. Add --head abstain, or leave it out"),
        ({"head": "knn", "gamma": 3.0, "clip": 1.0}, "gamma, clip are settings of trained heads"),
        ({"head": "mlp", "gamma": 3.0}, "gamma is no setting of cross_entropy. Take another"),
        ({"head": "three", "loss": "focal"}, "trained with selective_net, not focal; use --head m"),
        ({"head": "mlp", "loss": "gamblers"}, "not gamblers; use --head abstain"),
        ({"head": "mlp", "sam_sigma": 0.0}, "sam_sigma needs Friendly SAM. Add --sam-rho"),
        ({"head": "three", "risk_penalty": 1.0}, "risk_penalty is the price of a risk above"),
        ({"head": "mlp", "target": "fnr=0.1"}, "target is no setting of cross_entropy"),
        ({"head": "linear", "init": "run"}, "init is a setting of trained heads; head linear"),
        ({"head": "mlp", "loss": "conformal_risk"}, "needs what to aim at: add --target fnr=0.05"),
        (asdict(RISK) | {"target": "fpr=0.1"}, "--target fpr=0.1: loss conformal_risk aims at fnr"),
        (asdict(RISK) | {"target": "fnr=2"}, "did you mean fnr=0.02"),
        (asdict(RISK) | {"loss": "conformal_sets"}, "loss conformal_sets aims at error=RATE"),
        (asdict(RISK) | {"accumulation": 2}, "accumulation is no setting of conformal_risk"),
        (asdict(RISK) | {"kappa": 0}, "kappa is no setting of conformal_risk"),
        (asdict(RISK) | {"init": "run", "folds": 2}, "folds make no sense with --init"),
        (
            asdict(RISK) | {"init": "run", "hidden": 3, "select_by": "augrc"},
            "hidden, select_by are settings of the first training, which --init replaces",
        ),
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
