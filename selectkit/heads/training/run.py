"""The state of M configurations that are trained together, and one epoch of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selectkit.heads.training import losses
from selectkit.heads.training.averaging import MovingAverage
from selectkit.heads.training.batches import Batches, HeldOut
from selectkit.heads.training.conformal import ConformalRisk, ConformalSets
from selectkit.heads.training.gradient import BatchGradient, Totals
from selectkit.heads.training.network import initial, outputs, stacked
from selectkit.heads.training.optimisers import Descent, FriendlySam, Optimiser
from selectkit.heads.training.recipe import Recipe
from selectkit.heads.training.schedule import learning_rate_at
from selectkit.heads.training.selective import SelectiveNet

if TYPE_CHECKING:
    from torch import Tensor


Layers = Sequence[npt.NDArray[np.float64]]
"""Per layer weights (in, out) and bias (out,)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is fitted, checked and prepared.

    Attributes:
        batches: Training rows, N of them, D features.
        labels: Their codes in [0, P), shape (N,), on the device.
        held_out: Rows by which epochs are judged.
        n_inputs: D.
        n_outputs: O.
        n_steps: Steps of one epoch.
        device: A torch device.
    """

    batches: Batches
    labels: "Tensor"
    held_out: HeldOut
    n_inputs: int
    n_outputs: int
    n_steps: int
    device: str


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What one epoch gave for each of M configurations.

    Attributes:
        losses: Loss of each batch, shape (steps, M).
        train_loss: Mean over rows, shape (M,).
        parts: What the loss is made of, by name, each of shape (M,).
        rates: Learning rate of the last step.
    """

    losses: npt.NDArray[np.float64]
    train_loss: npt.NDArray[np.float64]
    parts: Mapping[str, npt.NDArray[np.float64]]
    rates: Sequence[float]


class Run:
    """Parameters, optimiser, moving average and soft targets of the configurations in training."""

    def __init__(
        self, problem: Problem, recipes: Sequence[Recipe], starts: Sequence[Layers] | None = None
    ) -> None:
        """Take over the initial weights, or draw them.

        Args:
            problem: What is fitted.
            recipes: M recipes of equal structure.
            starts: Of each, per layer weights (in, out) and bias (out,); None to draw them.
        """
        import torch

        first = recipes[0]
        self.problem, self.recipes, self.step = problem, list(recipes), 0
        self.total = first.epochs * problem.n_steps
        tensors = (
            initial(problem.n_inputs, first.hidden, problem.n_outputs, [r.seed for r in recipes])
            if starts is None
            else stacked(starts)
        )
        self.parameters = [t.to(problem.device) for t in tensors]
        self.average = MovingAverage(self.parameters, first.averaging, self.total)
        self.optimiser = _optimiser(self.parameters, recipes)
        self._class_weights: Tensor | None = None
        if first.class_weights == "balanced":
            counts = torch.bincount(problem.labels).float()
            self._class_weights = len(problem.labels) / (len(counts) * counts)
        self._targets: Tensor | None = None
        if first.loss.keeps_targets:
            shape = (len(problem.labels), len(recipes))
            self._targets = torch.ones(shape, device=problem.device)
        self._numbers = losses.numbers_of([r.loss for r in recipes], self.parameters[0])
        self._loss = first.loss

    @property
    def n_parts(self) -> int:
        """Parts in which a batch is computed."""
        return self.recipes[0].accumulation

    def epoch(self, number: int) -> EpochResult:
        """Take the steps of one epoch (numbered from 1)."""
        import torch

        totals = Totals(self.problem.n_steps)
        rates: list[float] = []
        shape = self.recipes[0].warm_up
        with torch.no_grad():
            for x, rows in self.problem.batches.epoch(number):
                if not self._usable(rows):
                    totals.skip()
                    self.step += 1
                    continue
                factor = learning_rate_at(self.step, self.total, 1.0, shape)
                rates = [r.learning_rate * factor for r in self.recipes]
                self.optimiser.step(BatchGradient(self, x, rows, number, totals), rates)
                self.average.update(self.parameters, self.step)
                self.step += 1
        return self._result(totals, rates)

    def _usable(self, rows: "Tensor") -> bool:
        loss = self._loss
        if not isinstance(loss, ConformalRisk | ConformalSets):
            return True
        return loss.usable(self.problem.labels[rows])

    def held_out_outputs(self, weights: "list[Tensor] | None" = None) -> npt.NDArray[np.float32]:
        """Return the outputs on the held-out rows, (rows, M, O), of the averaged weights.

        Args:
            weights: Others, as `parameters`.

        Returns:
            The outputs.
        """
        import torch

        weights = weights or self.average.values()
        parts = [outputs(weights, x).cpu() for x in self.problem.held_out.blocks()]
        return np.asarray(torch.cat(parts).numpy())

    def averaged(self, position: int) -> "list[Tensor]":
        """Return a copy of the averaged weights of one configuration, on the CPU."""
        return [t[position].cpu().clone() for t in self.average.values()]

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with some of the configurations only."""
        import torch

        chosen = torch.tensor(list(positions), device=self.problem.device)
        self.recipes = [self.recipes[i] for i in positions]
        self.parameters = [p[chosen] for p in self.parameters]
        self.optimiser.keep(chosen, self.parameters)
        self.average.keep(chosen)
        self._numbers = {name: tensor[chosen] for name, tensor in self._numbers.items()}
        if self._targets is not None:
            self._targets = self._targets[:, chosen].contiguous()

    def state_dict(self) -> "dict[str, Tensor]":
        """Return all tensors that the next epochs depend on; not copies."""
        state = {f"parameter.{i}": p for i, p in enumerate(self.parameters)}
        state |= {f"optimiser.{n}": t for n, t in self.optimiser.state_dict().items()}
        state |= {f"average.{n}": t for n, t in self.average.state_dict().items()}
        return state if self._targets is None else {**state, "targets": self._targets}

    def load_state_dict(self, state: "Mapping[str, Tensor]", step: int) -> None:
        """Continue from a state of the same configurations; it is copied."""
        self.step = step
        for i, p in enumerate(self.parameters):
            p.copy_(state[f"parameter.{i}"])
        self.optimiser.load_state_dict(_under("optimiser.", state))
        self.average.load_state_dict(_under("average.", state))
        if self._targets is not None:
            self._targets.copy_(state["targets"])

    def batch(
        self, outputs: "Tensor", rows: "Tensor", epoch: int, *, move_targets: bool
    ) -> "losses.Batch":
        """Return what the loss looks at.

        Args:
            outputs: Of the network, (B, M, O).
            rows: Numbers of the rows, (B,).
            epoch: Its number.
            move_targets: Whether soft targets take a step.

        Returns:
            The batch.
        """
        labels = self.problem.labels.index_select(0, rows)
        weights = None if self._class_weights is None else self._class_weights[labels].unsqueeze(1)
        if self._targets is None:
            return losses.Batch(outputs, labels, weights, None, epoch)
        batch = losses.Batch(outputs, labels, weights, self._targets[rows], epoch)
        if not move_targets:
            return batch
        moved = _moved_targets(self._loss, self._numbers, batch)
        self._targets[rows] = moved
        return batch._replace(targets=moved)

    def means(self, batch: "losses.Batch") -> "Tensor":
        """Return the means of the loss's terms over a batch, (J, M)."""
        import torch

        terms = self._loss.terms(self._numbers, batch)
        return torch.stack([t.mean(dim=0) for t in terms])

    def combine(self, means: "Tensor") -> "Tensor":
        """Return the losses, (M,)."""
        return self._loss.combine(self._numbers, means)

    def slope(self, batch: "losses.Batch") -> "tuple[Tensor, Tensor]":
        """Return the means of the terms, and the gradient of the losses at the outputs."""
        import torch

        if isinstance(self._loss, losses.CrossEntropy | SelectiveNet):
            return self._loss.slope(self._numbers, batch)
        with torch.enable_grad():
            free = batch._replace(outputs=batch.outputs.requires_grad_())
            means = self.means(free)
            (slope,) = torch.autograd.grad(self.combine(means).sum(), free.outputs)
        return means.detach(), slope

    def _result(self, totals: Totals, rates: list[float]) -> EpochResult:
        import torch

        if totals.losses is None or totals.means is None:
            nothing = np.zeros((1, len(self.recipes)))
            return EpochResult(nothing, nothing[0], {}, [0.0] * len(self.recipes))
        share = torch.tensor(totals.sizes, dtype=torch.float64)
        share /= share.sum()
        values = totals.losses.cpu().double()
        means = totals.means.cpu().double()
        numbers = {name: t.cpu().double() for name, t in self._numbers.items()}
        parts = self.recipes[0].loss.parts(numbers, torch.einsum("s,sjm->jm", share, means))
        return EpochResult(
            values.numpy(),
            (share @ values).numpy(),
            {n: t.numpy() for n, t in parts.items()},
            rates,
        )


def _optimiser(parameters: "list[Tensor]", recipes: Sequence[Recipe]) -> Optimiser:
    first = recipes[0]
    base = Descent(
        parameters,
        rule=first.optimizer,
        decays=[r.weight_decay for r in recipes],
        decayed=[i % 2 == 0 for i in range(len(parameters))],
        clips=None if first.clip is None else [r.clip or inf for r in recipes],
    )
    if first.sharpness is None:
        return base
    sharp = [r.sharpness for r in recipes if r.sharpness is not None]
    return FriendlySam(
        base,
        parameters,
        rhos=[s.rho for s in sharp],
        sigmas=[s.sigma for s in sharp],
        decays=[s.decay for s in sharp],
        adaptive=first.sharpness.adaptive,
    )


def _moved_targets(loss: Any, numbers: losses.Numbers, batch: losses.Batch) -> "Tensor":
    detached = batch._replace(outputs=batch.outputs.detach())
    moved: Tensor = loss.updated_targets(numbers, detached)
    return moved


def _under(prefix: str, state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
