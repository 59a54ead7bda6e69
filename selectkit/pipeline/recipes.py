"""From the settings of `fit` to what heads are told: classes, losses, recipes, criteria."""

from dataclasses import fields, replace
from typing import Any, TypeAlias

from selectkit import heads
from selectkit.config import FitConfig
from selectkit.errors import ConfigError
from selectkit.policies.target import Target

Trained: TypeAlias = type[heads.MlpHead | heads.ThreeHead | heads.AbstainHead]
Simple: TypeAlias = type[
    heads.LinearHead | heads.RidgeHead | heads.PrototypeHead | heads.KnnHead
]  # fmt: skip

TRAINED: dict[str, Trained] = {
    "mlp": heads.MlpHead,
    "three": heads.ThreeHead,
    "abstain": heads.AbstainHead,
}
SIMPLE: dict[str, Simple] = {
    "linear": heads.LinearHead,
    "ridge": heads.RidgeHead,
    "prototype": heads.PrototypeHead,
    "knn": heads.KnnHead,
}
LOSSES = {
    "mlp": ("cross_entropy", "focal", "conformal_risk", "conformal_sets"),
    "three": ("selective_net",),
    "abstain": ("self_adaptive", "gamblers"),
}
_OF_LOSS = {
    "cross_entropy": ("smoothing",),
    "focal": ("gamma",),
    "conformal_risk": ("init", "target", "objective", "temperature"),
    "conformal_sets": ("init", "target", "kappa", "size_weight", "temperature"),
    "selective_net": (
        "coverage", "coverage_penalty", "alpha", "unnormalised", "risk_target", "risk_penalty",
    ),
    "gamblers": ("payoff", "pretrain"),
    "self_adaptive": ("target_momentum", "entropy", "pretrain"),
}  # fmt: skip
_OF_TRAINING = (
    "loss", "class_weights", "hidden", "epochs", "patience", "batch_size", "accumulation",
    "learning_rate", "warm_up", "weight_decay", "optimizer", "clip", "averaging", "sam_rho",
    "sam_sigma", "sam_decay", "sam_adaptive", "select_by", "device", "tensorboard",
)  # fmt: skip
_OF_FIRST = ("hidden", "class_weights", "select_by")
_OF_SAM = ("sam_sigma", "sam_decay", "sam_adaptive")
_DEFAULT = FitConfig()


def loss_name(config: FitConfig) -> str:
    """Return the loss of a trained head: the one that was asked for, or the head's own."""
    return config.loss or LOSSES[config.head][0]


def is_conformal(config: FitConfig) -> bool:
    """Return whether the head is fine-tuned through the conformal step."""
    return config.head in TRAINED and loss_name(config).startswith("conformal_")


def epochs_judged_by(config: FitConfig) -> str:
    """Return the name of what epochs are judged by."""
    if not is_conformal(config):
        return config.select_by
    measure = config.objective if loss_name(config) == "conformal_risk" else "set_size"
    return f"{measure}@{config.target}"


def first_training(config: FitConfig) -> FitConfig:
    """Return the settings by which a head is trained that is fine-tuned afterwards."""
    size = min(config.batch_size, _DEFAULT.batch_size)
    return without_unused(
        replace(config, loss="cross_entropy", batch_size=size, folds=None, init=None)
    )


def idle(config: FitConfig) -> frozenset[str]:
    """Return the settings that the head or its loss would not look at, whatever their values."""
    if config.head not in TRAINED:
        return frozenset({*_OF_TRAINING, *(name for names in _OF_LOSS.values() for name in names)})
    own = _OF_LOSS[loss_name(config)]
    others = {n for names in _OF_LOSS.values() for n in names if n not in own}
    if config.sam_rho is None:
        others |= set(_OF_SAM)
    if config.risk_target is None:
        others.add("risk_penalty")
    if is_conformal(config):
        others.add("accumulation")
        others |= set(_OF_FIRST if config.init is not None else ())
    return frozenset(others)


def unused(config: FitConfig) -> list[str]:
    """Return the settings away from their defaults that the head or its loss would not look at."""
    ignored = idle(config)
    return [
        f.name
        for f in fields(FitConfig)
        if f.name in ignored and getattr(config, f.name) != getattr(_DEFAULT, f.name)
    ]


def without_unused(config: FitConfig) -> FitConfig:
    """Return settings that differ only where it matters: what is not looked at is the default."""
    reset = set(unused(config)) - {"select_by", "tensorboard", "device"}
    if config.head not in TRAINED:
        reset.add("seed")
    return replace(config, **{name: getattr(_DEFAULT, name) for name in reset})


def goes_together(config: FitConfig) -> bool:
    """Return whether the loss is one that the head can be trained with; others look at none."""
    return config.head not in TRAINED or loss_name(config) in LOSSES[config.head]


def _head_for(loss: str | None) -> str:
    """The trained head that has a loss; "mlp" when none is asked for."""
    return next((head for head, names in LOSSES.items() if loss in names), "mlp")


def require_sensible(config: FitConfig) -> None:
    """Refuse settings that contradict one another.

    Args:
        config: The settings, each within its range.

    Raises:
        ConfigError: If the loss is not one for the head, or a setting would be ignored.
    """
    if not goes_together(config):
        known = " or ".join(LOSSES[config.head])
        raise ConfigError(
            f"head {config.head} is trained with {known}, not {config.loss}; "
            f"use --head {_head_for(config.loss)} for that."
        )
    if is_conformal(config):
        target_of(config)
        if config.init is not None and config.folds is not None:
            raise ConfigError(
                "folds make no sense with --init: its head has seen all of train. Leave out one."
            )
    ignored = unused(config)
    if not ignored:
        return
    names, one = ", ".join(ignored), len(ignored) == 1
    if config.head not in TRAINED:
        what = "is a setting" if one else "are settings"
        head = _head_for(config.loss)
        why = f"{what} of trained heads; head {config.head} has none. Add --head {head}"
    elif set(ignored) <= set(_OF_SAM):
        why = f"{'needs' if one else 'need'} Friendly SAM. Add --sam-rho 0.05"
    elif config.init is not None and set(ignored) <= set(_OF_FIRST):
        what = "is a setting" if one else "are settings"
        why = f"{what} of the first training, which --init replaces. Leave out --init"
    elif ignored == ["risk_penalty"]:
        why = "is the price of a risk above a target. Add --risk-target"
    else:
        what = "is no setting" if one else "are no settings"
        why = f"{what} of {loss_name(config)}. Take another --loss"
    raise ConfigError(f"{names} {why}, or leave {'it' if one else 'them'} out.")


def target_of(config: FitConfig) -> Target:
    """Return what a fine-tuning through the conformal step aims at.

    Args:
        config: The settings.

    Returns:
        The target.

    Raises:
        ConfigError: If there is none, or it is none for the loss.
    """
    name = loss_name(config)
    risk = "fnr" if name == "conformal_risk" else "error"
    if config.target is None:
        raise ConfigError(f"loss {name} needs what to aim at: add --target {risk}=0.05.")
    found = Target.parse(config.target)
    if found.risk != risk:
        raise ConfigError(f"--target {found}: loss {name} aims at {risk}=RATE.")
    return found


def loss_of(config: FitConfig, n_classes: int, positive: int | None = None) -> heads.Loss:
    """Return the loss of a trained head.

    Args:
        config: The settings.
        n_classes: K.
        positive: Index of the positive class, or None.

    Returns:
        The loss.

    Raises:
        ConfigError: If it makes no sense for so many classes.
    """
    name = loss_name(config)
    if name == "cross_entropy":
        return heads.CrossEntropy(config.smoothing)
    if name == "focal":
        return heads.Focal(config.gamma)
    if name == "conformal_risk":
        if positive is None:
            raise ConfigError("loss conformal_risk needs a positive class: give --positive LABEL.")
        rate = target_of(config).alpha
        return heads.ConformalRisk(rate, positive, config.objective, config.temperature)
    if name == "conformal_sets":
        rate = target_of(config).alpha
        return heads.ConformalSets(rate, config.kappa, config.size_weight, config.temperature)
    if name == "selective_net":
        return heads.SelectiveNet(
            coverage=config.coverage,
            penalty=config.coverage_penalty,
            alpha=config.alpha,
            normalise=not config.unnormalised,
            risk_target=config.risk_target,
            risk_penalty=config.risk_penalty,
        )
    if name == "self_adaptive":
        return heads.SelfAdaptive(config.target_momentum, config.entropy, config.pretrain)
    if config.payoff > n_classes:
        raise ConfigError(
            f"payoff = {config.payoff:g} must be at most the number of classes, {n_classes}."
        )
    return heads.Gamblers(config.payoff, config.pretrain)


def recipe_of(config: FitConfig, n_classes: int, positive: int | None = None) -> heads.Recipe:
    """Return the recipe of a trained head.

    Args:
        config: The settings.
        n_classes: K.
        positive: Index of the positive class, or None.

    Returns:
        The recipe.

    Raises:
        ConfigError: If a setting makes no sense.
    """
    same: dict[str, Any] = {
        name: getattr(config, name)
        for name in (
            "epochs", "learning_rate", "weight_decay", "batch_size", "patience", "class_weights",
            "seed", "optimizer", "clip", "accumulation", "warm_up",
        )
    }  # fmt: skip
    sharpness = None
    if config.sam_rho is not None:
        sharpness = heads.Sharpness(
            config.sam_rho, config.sam_sigma, config.sam_decay, config.sam_adaptive
        )
    return heads.Recipe(
        **same,
        hidden=config.hidden or None,
        loss=loss_of(config, n_classes, positive),
        sharpness=sharpness,
        averaging=None if config.averaging == "none" else config.averaging,
    )
