"""The training loop of the MLP head: the only code of the heads that needs torch.

Schedule: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, after a linear warm-up. The
moving average has the warm-up min(d, (1 + t) / (10 + t)), without which a head trained for a few
hundred steps would mostly be its own initialisation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, cos, inf, isfinite, pi, sqrt
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats, Ints
from selectkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Generator, Tensor

Weights = list[npt.NDArray[np.float32]]

_WARM_UP_SHARE = 0.05
_SELECT_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of one training; see `MlpHead.fit`.

    Attributes:
        hidden: Hidden units.
        epochs: Most passes over the training rows.
        learning_rate: Peak learning rate.
        weight_decay: Decoupled decay of the weight matrices.
        batch_size: Rows per step.
        patience: Epochs without improvement before training ends.
        class_weights: "balanced" or None.
        seed: Seed of initial weights and row order.
    """

    hidden: int
    epochs: int
    learning_rate: float
    weight_decay: float
    batch_size: int
    patience: int
    class_weights: Literal["balanced"] | None
    seed: int

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.learning_rate < inf:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate}.")
        if not 0 <= self.weight_decay < inf:
            raise ConfigError(f"weight_decay must not be negative, got {self.weight_decay}.")
        if self.class_weights not in {"balanced", None}:
            raise ConfigError(
                f"class_weights must be 'balanced' or None, got {self.class_weights!r}."
            )


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch gave.

    Attributes:
        epoch: Number, from 1.
        train_loss: Mean loss over the epoch's rows, nats.
        criterion: Value on `select` with the averaged weights, lower is better; None when it was
            not finite.
        learning_rate: At the last step.
    """

    epoch: int
    train_loss: float
    criterion: float | None
    learning_rate: float


def learning_rate_at(step: int, total: int, peak: float) -> float:
    """Linear warm-up over 5 % of the steps to `peak`, then a cosine towards zero.

    Args:
        step: From 0 to total - 1.
        total: Number of steps.
        peak: Largest learning rate.

    Returns:
        Peak (step + 1) / W during the W warm-up steps, then
        peak / 2 (1 + cos(pi (step - W) / (total - W))).
    """
    warm_up = min(ceil(_WARM_UP_SHARE * total), total - 1)
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return 0.5 * peak * (1 + cos(pi * (step - warm_up) / (total - warm_up)))


def average_decay(step: int, total: int) -> float:
    """Decay of the moving average after `step` (from 0) of `total`.

    Args:
        step: From 0 to total - 1.
        total: Number of steps.

    Returns:
        min(d, (1 + step) / (10 + step)) with d = 1 - 1 / (0.1 total), within [0, 0.9999]: a
        horizon of a tenth of the training.
    """
    target = min(max(1 - 10 / total, 0.0), 0.9999)
    return min(target, (1 + step) / (10 + step))


def train(
    features: Floats,
    labels: Ints,
    select_features: Floats,
    *,
    judge: Callable[[Floats], float],
    recipe: Recipe,
    on_epoch: Callable[[Epoch], None] | None,
) -> tuple[Weights, tuple[Epoch, ...]]:
    """Train one hidden layer and return the best averaged weights.

    Args:
        features: Shape (N, D), standardised, float32.
        labels: Shape (N,), codes in [0, K), every class present.
        select_features: Shape (M, D), standardised, float32.
        judge: Maps logits (M, K) of the select rows to the criterion, lower is better.
        recipe: The settings.
        on_epoch: Called after each epoch, or None.

    Returns:
        Weights (D, H), (H,), (H, K), (K,) of the epoch with the best criterion, and the history.

    Raises:
        DataError: If the loss stops being finite or the criterion is never finite.
    """
    import torch

    run = _Run(features, labels, recipe)
    held_out = torch.from_numpy(select_features)
    best: Weights | None = None
    best_value, since, history = inf, 0, []
    for number in range(1, recipe.epochs + 1):
        loss, rate = run.epoch(number)
        value = judge(_outputs(run.average, held_out))
        if value < best_value:
            best, best_value, since = [w.numpy().copy() for w in run.average], value, 0
        else:
            since += 1
        history.append(Epoch(number, loss, float(value) if isfinite(value) else None, rate))
        if on_epoch is not None:
            on_epoch(history[-1])
        if since == recipe.patience:
            break
    if best is None:
        raise DataError(
            f"the criterion was never finite on the select rows in {len(history)} epochs; "
            "check the criterion and the select labels."
        )
    return best, tuple(history)


class _Run:
    """Parameters, optimiser, moving average and random state of one training."""

    def __init__(self, features: Floats, labels: Ints, recipe: Recipe) -> None:
        import torch

        self.recipe = recipe
        self.x = torch.from_numpy(features)
        self.y = torch.from_numpy(labels.astype(np.int64))
        self.generator = torch.Generator().manual_seed(recipe.seed)
        n, d = self.x.shape
        k = int(labels.max()) + 1
        self.parameters = _initial(d, recipe.hidden, k, self.generator)
        self.average = [p.detach().clone() for p in self.parameters]
        weights, biases = self.parameters[::2], self.parameters[1::2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": weights, "weight_decay": recipe.weight_decay},
                {"params": biases, "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
        )
        self.class_weights: Tensor | None = None
        if recipe.class_weights == "balanced":
            self.class_weights = n / (k * torch.bincount(self.y, minlength=k).float())
        self.step = 0
        self.total = recipe.epochs * ceil(n / recipe.batch_size)

    def epoch(self, number: int) -> tuple[float, float]:
        """One pass over the rows: mean loss, and the learning rate of the last step."""
        import torch

        total, rate = 0.0, 0.0
        order = torch.randperm(len(self.x), generator=self.generator)
        for start in range(0, len(order), self.recipe.batch_size):
            batch = order[start : start + self.recipe.batch_size]
            rate = learning_rate_at(self.step, self.total, self.recipe.learning_rate)
            loss = self._update(batch, rate)
            if not isfinite(loss):
                raise DataError(
                    f"the training loss became {loss} in epoch {number}, step {self.step + 1}; "
                    f"lower the learning rate ({self.recipe.learning_rate:g})."
                )
            total += loss * len(batch)
            self.step += 1
        return total / len(self.x), rate

    def _update(self, batch: "Tensor", rate: float) -> float:
        import torch
        from torch.nn.functional import cross_entropy

        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        logits = _forward(self.parameters, self.x[batch])
        loss = cross_entropy(logits, self.y[batch], weight=self.class_weights)
        torch.autograd.backward(loss)
        self.optimizer.step()
        decay = average_decay(self.step, self.total)
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                mean.lerp_(parameter, 1 - decay)
        return loss.item()


def _initial(d: int, hidden: int, k: int, generator: "Generator") -> list["Tensor"]:
    """Uniform in +-1 / sqrt(fan-in), as torch.nn.Linear, from the run's own generator."""
    import torch

    shapes: list[tuple[tuple[int, ...], int]] = [
        ((d, hidden), d),
        ((hidden,), d),
        ((hidden, k), hidden),
        ((k,), hidden),
    ]
    return [
        torch
        .empty(shape)
        .uniform_(-1 / sqrt(fan_in), 1 / sqrt(fan_in), generator=generator)
        .requires_grad_()
        for shape, fan_in in shapes
    ]


def _forward(parameters: list["Tensor"], x: "Tensor") -> "Tensor":
    from torch.nn.functional import gelu

    w1, b1, w2, b2 = parameters
    return gelu(x @ w1 + b1) @ w2 + b2


def _outputs(parameters: list["Tensor"], x: "Tensor") -> npt.NDArray[Any]:
    import torch

    with torch.no_grad():
        parts = [
            _forward(parameters, x[start : start + _SELECT_ROWS])
            for start in range(0, len(x), _SELECT_ROWS)
        ]
    return np.asarray(torch.cat(parts).numpy())
