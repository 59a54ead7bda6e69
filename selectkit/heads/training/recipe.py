"""What a training is told and what it tells: plain numbers, no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import inf
from typing import Any, Literal

from selectkit.errors import ConfigError
from selectkit.heads.training.losses import CrossEntropy, Loss, loss_from_dict, structure_of

Optimizer = Literal["adamw", "sgd", "lion"]
Averaging = Literal["warm-up", "bias-corrected"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Sharpness:
    """Friendly sharpness-aware minimisation; sigma = 0 is plain SAM.

    Source: Li et al. (CVPR 2024), https://arxiv.org/abs/2403.12350; Foret et al. (ICLR 2021),
    https://arxiv.org/abs/2010.01412. Every step costs two passes over its batch.

    Attributes:
        rho: Radius of the perturbation, in the norm of all weights.
        sigma: Share of the moving average gradient that is taken out of the perturbation.
        decay: Decay of that moving average.
        adaptive: Scale the perturbation by the weights (ASAM).
    """

    rho: float = 0.05
    sigma: float = 1.0
    decay: float = 0.9
    adaptive: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.rho < inf:
            raise ConfigError(f"rho must not be negative, got {self.rho}.")
        if not 0 <= self.sigma < inf:
            raise ConfigError(f"sigma must not be negative, got {self.sigma}.")
        if not 0 <= self.decay < 1:
            raise ConfigError(f"the decay of sharpness must be in [0, 1), got {self.decay}.")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of one training. Equal recipes and data give equal weights on one machine.

    Attributes:
        hidden: Hidden units; None for no hidden layer.
        epochs: Most passes over the training rows.
        learning_rate: Peak learning rate.
        weight_decay: Decoupled decay of the weight matrices; biases have none.
        batch_size: Rows per step; the last batch of an epoch may be smaller.
        patience: Epochs without a better criterion before training ends.
        class_weights: "balanced" weighs row i by N / (K n_class(i)) in the loss, or None.
        seed: Seed of the initial weights.
        loss: What is minimised.
        optimizer: "adamw", "sgd" (Nesterov momentum 0.9) or "lion".
        sharpness: Friendly SAM around the optimizer, or None.
        averaging: Moving average of the weights, which is what is judged and kept: with a warm-up
            of its decay or with bias correction; None keeps the weights themselves.
        clip: Largest norm of the gradient of all weights, or None.
        accumulation: Parts a batch is computed in; the step is that of the whole batch.
        warm_up: Share of the steps in which the learning rate rises.
        precision: Of the product with the hidden weights in training: "auto" is bfloat16 for large
            layers on hardware that multiplies it natively, else float32.
        order_seed: Seed of the order of rows. Configurations of one order can share one pass.
    """

    hidden: int | None = 768
    epochs: int = 50
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 512
    patience: int = 10
    class_weights: Literal["balanced"] | None = None
    seed: int = 0
    loss: Loss = field(default_factory=CrossEntropy)
    optimizer: Optimizer = "adamw"
    sharpness: Sharpness | None = None
    averaging: Averaging | None = "warm-up"
    clip: float | None = None
    accumulation: int = 1
    warm_up: float = 0.05
    precision: Precision = "auto"
    order_seed: int = 0

    def __post_init__(self) -> None:
        if self.hidden is not None and self.hidden < 1:
            raise ConfigError(f"hidden must be at least 1, got {self.hidden}.")
        for name in ("epochs", "batch_size", "patience", "accumulation"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("seed", "order_seed"):
            if not 0 <= getattr(self, name) < 2**63:
                raise ConfigError(f"{name} must be in [0, 2^63), got {getattr(self, name)}.")
        if not 0 < self.learning_rate < inf:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate}.")
        if not 0 <= self.weight_decay < inf:
            raise ConfigError(f"weight_decay must not be negative, got {self.weight_decay}.")
        if self.clip is not None and not 0 < self.clip < inf:
            raise ConfigError(f"clip must be positive or None, got {self.clip}.")
        if not 0 <= self.warm_up <= 1:
            raise ConfigError(f"warm_up is a share in [0, 1], got {self.warm_up}.")
        self._check_choices()

    def _check_choices(self) -> None:
        choices: tuple[tuple[str, tuple[str | None, ...]], ...] = (
            ("class_weights", ("balanced", None)),
            ("optimizer", ("adamw", "sgd", "lion")),
            ("averaging", ("warm-up", "bias-corrected", None)),
            ("precision", ("auto", "float32", "bfloat16")),
        )
        for name, allowed in choices:
            value = getattr(self, name)
            if value not in allowed:
                named = ", ".join(map(repr, allowed[:-1])) + f" or {allowed[-1]!r}"
                raise ConfigError(f"{name} must be {named}, got {value!r}.")

    def structure(self) -> "Recipe":
        """Return the recipe with all numbers reset that may differ within one batched fit.

        Returns:
            A recipe; configurations that return equal ones are trained together.
        """
        sharpness = None
        if self.sharpness is not None:
            sharpness = Sharpness(adaptive=self.sharpness.adaptive)
        return replace(
            self,
            learning_rate=1.0,
            weight_decay=0.0,
            patience=1,
            seed=0,
            loss=structure_of(self.loss),
            sharpness=sharpness,
            clip=None if self.clip is None else 1.0,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; the loss carries its kind."""
        values = asdict(self)
        return {**values, "loss": {"kind": self.loss.kind, **values["loss"]}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Rebuild a recipe from `to_dict`; what an older release did not write is its default.

        Args:
            values: Plain values; other keys than the recipe's own are ignored.

        Returns:
            The recipe.

        Raises:
            KeyError: If a field of the first release is missing.
            ConfigError: If a value is out of range.
        """
        first = (
            "hidden", "epochs", "learning_rate", "weight_decay", "batch_size", "patience",
            "class_weights", "seed",
        )  # fmt: skip
        known = {name: values[name] for name in first}
        known |= {f.name: values[f.name] for f in fields(cls) if f.name in values}
        if "loss" in known:
            known["loss"] = loss_from_dict(known["loss"])
        if known.get("sharpness") is not None:
            known["sharpness"] = Sharpness(**known["sharpness"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch gave.

    Attributes:
        epoch: Number, from 1.
        train_loss: Mean loss over the epoch's rows.
        criterion: Value on `select` with the averaged weights, lower is better; None when it was
            not finite.
        learning_rate: At the last step.
        parts: What the loss is made of, for instance the mean coverage; by name.
    """

    epoch: int
    train_loss: float
    criterion: float | None
    learning_rate: float
    parts: Mapping[str, float] = field(default_factory=dict)
