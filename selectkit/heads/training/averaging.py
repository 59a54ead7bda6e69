"""A moving average of the weights, which is what is judged and kept."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from selectkit.heads.training.schedule import average_decay, horizon_decay

if TYPE_CHECKING:
    from torch import Tensor


class MovingAverage:
    """Exponential moving average over the steps of one training.

    "warm-up": starts at the initial weights, with a decay that grows from 0.1 (`average_decay`).
    "bias-corrected": starts at zero with the constant decay d; after t steps the sum is divided by
    1 - d^t. None: the last weights. Constant weights are their own average under all three.
    """

    def __init__(self, parameters: "list[Tensor]", kind: str | None, total: int) -> None:
        """Start an average over `total` steps.

        Args:
            parameters: Initial parameters.
            kind: "warm-up", "bias-corrected" or None.
            total: Steps of the training, which set the horizon.
        """
        import torch

        self._kind, self._total, self._weight = kind, total, 0.0
        start = torch.zeros_like if kind == "bias-corrected" else torch.clone
        self._mean = [start(p) for p in parameters]

    def update(self, parameters: "list[Tensor]", step: int) -> None:
        """Take in the parameters after `step` (from 0)."""
        decay = 0.0
        if self._kind == "warm-up":
            decay = average_decay(step, self._total)
        elif self._kind == "bias-corrected":
            decay = horizon_decay(self._total)
        self._weight = decay * self._weight + 1 - decay
        for mean, parameter in zip(self._mean, parameters, strict=True):
            mean.lerp_(parameter, 1 - decay)

    def values(self) -> "list[Tensor]":
        """Return the average, one tensor per parameter; not copies, not to be changed."""
        if self._kind == "bias-corrected":
            return [mean / self._weight for mean in self._mean]
        return self._mean

    def keep(self, chosen: "Tensor") -> None:
        """Go on with some of the configurations along the first axis."""
        self._mean = [mean[chosen] for mean in self._mean]

    def state_dict(self) -> "dict[str, Tensor]":
        """Return what the next updates depend on; not a copy."""
        import torch

        state = {f"mean.{i}": mean for i, mean in enumerate(self._mean)}
        return {**state, "weight": torch.tensor(self._weight, dtype=torch.float64)}

    def load_state_dict(self, state: "Mapping[str, Tensor]") -> None:
        """Continue from a state; it is copied."""
        for i, mean in enumerate(self._mean):
            mean.copy_(state[f"mean.{i}"])
        self._weight = float(state["weight"])
