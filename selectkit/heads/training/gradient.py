"""The gradient of one batch for all configurations, whole or in parts, and what it cost.

What is differentiated, the state of a training, comes in as an object (`Differentiable`).
"""

from typing import TYPE_CHECKING, Protocol

from selectkit.heads.training import losses
from selectkit.heads.training.network import backward, forward

if TYPE_CHECKING:
    from torch import Tensor


class Differentiable(Protocol):
    """Parameters of M networks, and their losses as functions of the outputs."""

    @property
    def parameters(self) -> "list[Tensor]":
        """Of the networks, stacked."""
        ...

    @property
    def n_parts(self) -> int:
        """Parts in which a batch is computed."""
        ...

    def batch(
        self, outputs: "Tensor", rows: "Tensor", epoch: int, *, move_targets: bool
    ) -> "losses.Batch":
        """Return what the loss looks at."""
        ...

    def means(self, batch: "losses.Batch") -> "Tensor":
        """Return the means of the loss's terms over a batch, (J, M)."""
        ...

    def combine(self, means: "Tensor") -> "Tensor":
        """Return the losses, (M,)."""
        ...

    def slope(self, batch: "losses.Batch") -> "tuple[Tensor, Tensor]":
        """Return the means of the terms, and the gradient of the losses at the outputs."""
        ...


class Totals:
    """Losses and terms of the batches of an epoch, left on the device until its end.

    In tensors of the whole epoch: small ones per step between the large ones that come and go
    would keep the allocator from using their space again.
    """

    def __init__(self, n_steps: int) -> None:
        """Make room for the batches of one epoch."""
        self._n_steps, self._step = n_steps, 0
        self.losses: Tensor | None = None
        self.means: Tensor | None = None
        self.sizes: list[int] = []

    def add(self, losses: "Tensor", means: "Tensor", size: int) -> None:
        """Note losses (M,) and means of the terms (J, M) of a batch of so many rows."""
        if self.losses is None or self.means is None:
            self.losses = losses.new_zeros((self._n_steps, *losses.shape))
            self.means = means.new_zeros((self._n_steps, *means.shape))
        self.losses[self._step], self.means[self._step] = losses, means
        self._step += 1
        self.sizes.append(size)

    def skip(self) -> None:
        """Note a batch that gave nothing."""
        self._step += 1
        self.sizes.append(0)


class BatchGradient:
    """The gradient of one batch at the present weights, as often as it is asked for."""

    def __init__(
        self, run: Differentiable, x: "Tensor", rows: "Tensor", epoch: int, totals: Totals
    ) -> None:
        """Take rows x (B, D) and their numbers (B,) in epoch `epoch`."""
        self._run, self._x, self._rows = run, x, rows
        self._epoch, self._totals, self._asked = epoch, totals, False

    def __call__(self) -> "list[Tensor]":
        """Return the gradients; the first call adds to the totals and moves soft targets."""
        again, self._asked = self._asked, True
        if self._run.n_parts == 1:
            means, gradients = self._whole(again)
        else:
            means, gradients = self._in_parts(again)
        if not again:
            self._totals.add(self._run.combine(means), means, len(self._rows))
        return gradients

    def _whole(self, again: bool) -> "tuple[Tensor, list[Tensor]]":
        run = self._run
        outputs, hidden = forward(run.parameters, self._x)
        batch = run.batch(outputs, self._rows, self._epoch, move_targets=not again)
        means, slope = run.slope(batch)
        return means, backward(run.parameters, self._x, hidden, slope)

    def _in_parts(self, again: bool) -> "tuple[Tensor, list[Tensor]]":
        """By the chain rule: first the means of the whole batch, then each part's share."""
        import torch

        run, n = self._run, len(self._rows)
        size = -(-n // run.n_parts)
        cuts = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        means = torch.stack([self._part(cut, move_targets=not again)[0] for cut in cuts]).sum(dim=0)
        with torch.enable_grad():
            free = means.clone().requires_grad_()
            (price,) = torch.autograd.grad(run.combine(free).sum(), free)
        gradients = [torch.zeros_like(p) for p in run.parameters]
        for cut in cuts:
            for total, g in zip(gradients, self._part(cut, price=price)[1], strict=True):
                total.add_(g)
        return means, gradients

    def _part(
        self, cut: slice, *, move_targets: bool = False, price: "Tensor | None" = None
    ) -> "tuple[Tensor, list[Tensor]]":
        """Return one part's share in the means and, given the means' prices, in the gradient."""
        import torch

        run, x, rows = self._run, self._x[cut], self._rows[cut]
        outputs, hidden = forward(run.parameters, x)
        batch = run.batch(outputs, rows, self._epoch, move_targets=move_targets)
        share = len(rows) / len(self._rows)
        if price is None:
            return share * run.means(batch), []
        with torch.enable_grad():
            free = batch._replace(outputs=outputs.requires_grad_())
            means = share * run.means(free)
            (slope,) = torch.autograd.grad((price * means).sum(), free.outputs)
        return means.detach(), backward(run.parameters, x, hidden, slope)
