"""Losses that go through the conformal step: a threshold from one half of a batch judges the other.

The head is trained for what it is used for, thresholds that keep a risk, instead of for its
likelihood. No guarantee comes from that: the threshold inside the loss is that of a batch of
training rows. A promise is made afterwards, on rows that neither training nor selection has seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.errors import ConfigError, DataError
from selectkit.heads.training.conformal_thresholds import (
    allowed_misses,
    implicit_threshold,
    order_threshold,
    rows_needed,
)
from selectkit.heads.training.losses import Batch, Numbers, at_label, in_range, log_probabilities

if TYPE_CHECKING:
    from torch import Tensor

_WINDOW = 400
_FAR = 20
_SMALLEST_LOSS = 1e-8
_ENOUGH = 1.25


@dataclass(frozen=True, slots=True)
class ConformalRisk:
    """As few rows as possible above a threshold that loses few positives: conformal risk training.

    With p the probability of the positive class, t is the threshold that conformal risk control
    takes from the positives of the first half of the batch, so that p < t for at most a share alpha
    of positives; forward and backward it is the mean over a window of order statistics, one
    neighbour on either side for every 400 positives. The loss is, over the batch's second half,

    * "fpr": mean over the negatives of sigma((p - t) / T), the negatives that cannot be cleared;
    * "deferral": mean over all rows of sigma((p - t) / T) sigma((1 - t - p) / T), the rows that are
      neither cleared nor, by the same threshold on the other side, called positive.

    A batch without enough positives in its first half, or without rows to judge, is passed over.

    Source: Yeh, Christianson, Wierman and Yue (NeurIPS 2025), https://arxiv.org/abs/2510.08748, and
    its published code, whose index is one more cautious where alpha (n + 1) is whole.

    Attributes:
        alpha: Share of the positives that may be lost, in (0, 1).
        positive: Code of the positive class; all others are negatives.
        objective: "fpr" or "deferral".
        temperature: T > 0, in probability.
    """

    kind: ClassVar[str] = "conformal_risk"
    numbers: ClassVar[tuple[str, ...]] = ("temperature",)
    keeps_targets: ClassVar[bool] = False
    alpha: float = 0.05
    positive: int = 1
    objective: Literal["fpr", "deferral"] = "fpr"
    temperature: float = 0.1

    def __post_init__(self) -> None:
        _check_rates(self.alpha, self.temperature)
        in_range("positive", self.positive, 0, inf)
        if self.objective not in ("fpr", "deferral"):
            raise ConfigError(f"objective must be 'fpr' or 'deferral', got {self.objective!r}.")

    def usable(self, labels: "Tensor") -> bool:
        """Return whether a batch with these labels (B,) gives a threshold and rows to judge."""
        own, judged = self._places(labels)
        return allowed_misses(len(own), self.alpha) >= 0 and len(judged) > 0

    def terms(self, numbers: Numbers, batch: Batch) -> "list[Tensor]":
        """Return [soft loss of the judged rows (R, M), threshold (1, M)] of a usable batch."""
        p = log_probabilities(batch.outputs)[..., self.positive].exp()
        own, judged = self._places(batch.labels)
        rank = allowed_misses(len(own), self.alpha)
        t = order_threshold(p[own], rank, ceil(len(own) / _WINDOW))
        width = numbers["temperature"]
        loss = ((p[judged] - t) / width).sigmoid()
        if self.objective == "deferral":
            loss = loss * ((1 - t - p[judged]) / width).sigmoid()
        return [loss, t.unsqueeze(0)]

    def combine(self, numbers: Numbers, means: "Tensor") -> "Tensor":
        """Return the mean over the judged rows."""
        return means[0]

    def parts(self, numbers: Numbers, means: "Tensor") -> "dict[str, Tensor]":
        """Return the mean threshold."""
        return {"threshold": means[1]}

    def among(self, present: npt.NDArray[np.int64]) -> Self:
        """Return the loss for labels that are numbered among the present classes.

        Args:
            present: Codes of the classes in train, ascending.

        Returns:
            The loss.

        Raises:
            DataError: If the positive class is not among them.
        """
        if self.positive not in present:
            raise DataError(f"train has no row of the positive class {self.positive}.")
        return replace(self, positive=int(np.searchsorted(present, self.positive)))

    def require_feasible(self, labels: npt.NDArray[np.int64], batch_size: int) -> None:
        """Refuse training rows whose batches would hardly ever be usable.

        Args:
            labels: Of the training rows, numbered as `positive` is.
            batch_size: Rows per step.

        Raises:
            ConfigError: With the batch size, or the number of positives, that would do.
        """
        positives = int((labels == self.positive).sum())
        _require_rows(self.kind, self.alpha, positives, len(labels), batch_size, "positives")

    def _places(self, labels: "Tensor") -> "tuple[Tensor, Tensor]":
        """Numbers of the positives of the first half, and of the judged rows of the second."""
        half = len(labels) // 2
        is_positive = labels == self.positive
        is_judged = ~is_positive if self.objective == "fpr" else is_positive.new_ones(len(labels))
        own, judged = is_positive[:half].nonzero(), is_judged[half:].nonzero()
        return own.squeeze(1), judged.squeeze(1) + half


@dataclass(frozen=True, slots=True)
class ConformalSets:
    """As small prediction sets as possible that seldom lack the label: conformal training.

    With E_k the log-probability of class k, tau is the smooth quantile of E_label over the first
    half of the batch, and C_k = sigma((E_k - tau) / T) is the soft set of a row of the second half.
    The loss is log(mean(1 - C_label) + size_weight mean(max(0, sum_k C_k - kappa))).

    The smooth quantile is the root of sum_i sigma((tau - E_i) / T) = k + 1/2, with k the rows that
    conformal risk control may lose, and has the implicit gradient; as T falls it becomes the order
    statistic of rank k, as the paper's differentiable sorting does.

    Source: Stutz, Dvijotham, Cemgil and Doucet (ICLR 2022), https://arxiv.org/abs/2110.09192,
    algorithm 1.

    Attributes:
        alpha: Share of the sets that may lack the label, in (0, 1).
        kappa: Size from which on a set costs, 0 or 1.
        size_weight: Lambda, price of size.
        temperature: T > 0, in nats.
    """

    kind: ClassVar[str] = "conformal_sets"
    numbers: ClassVar[tuple[str, ...]] = ("size_weight", "temperature")
    keeps_targets: ClassVar[bool] = False
    alpha: float = 0.05
    kappa: Literal[0, 1] = 1
    size_weight: float = 1.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        _check_rates(self.alpha, self.temperature)
        in_range("size_weight", self.size_weight, 0, inf)
        if self.kappa not in (0, 1):
            raise ConfigError(f"kappa must be 0 or 1, got {self.kappa}.")

    def usable(self, labels: "Tensor") -> bool:
        """Return whether half of a batch with these labels (B,) gives a threshold."""
        return allowed_misses(len(labels) // 2, self.alpha) >= 0

    def terms(self, numbers: Numbers, batch: Batch) -> "list[Tensor]":
        """Return [1 - C_label, excess size, size] of the judged rows (R, M), and tau (1, M)."""
        logp, half = log_probabilities(batch.outputs), len(batch.labels) // 2
        own, width = at_label(logp[:half], batch.labels[:half]), numbers["temperature"]
        tau = implicit_threshold(
            lambda t: ((t - own) / width).sigmoid(),
            own.detach().amin(dim=0) - _FAR * width,
            own.detach().amax(dim=0) + _FAR * width,
            allowed_misses(half, self.alpha) + 0.5,
        )
        c = ((logp[half:] - tau.unsqueeze(-1)) / width.unsqueeze(-1)).sigmoid()
        size = c.sum(dim=-1)
        lost = 1 - at_label(c, batch.labels[half:])
        return [lost, (size - self.kappa).clamp(min=0), size, tau.unsqueeze(0)]

    def combine(self, numbers: Numbers, means: "Tensor") -> "Tensor":
        """Return the logarithm of lost labels and size."""
        return (means[0] + numbers["size_weight"] * means[1] + _SMALLEST_LOSS).log()

    def parts(self, numbers: Numbers, means: "Tensor") -> "dict[str, Tensor]":
        """Return the soft share of lost labels, the mean soft size and the mean threshold."""
        return {"lost": means[0], "set_size": means[2], "threshold": means[3]}

    def among(self, present: npt.NDArray[np.int64]) -> Self:
        """Return the loss itself: no class is special."""
        return self

    def require_feasible(self, labels: npt.NDArray[np.int64], batch_size: int) -> None:
        """Refuse training rows of which half a batch gives no threshold.

        Args:
            labels: Of the training rows.
            batch_size: Rows per step.

        Raises:
            ConfigError: With the batch size, or the number of rows, that would do.
        """
        _require_rows(self.kind, self.alpha, len(labels), len(labels), batch_size, "rows")


Conformal: TypeAlias = ConformalRisk | ConformalSets
CONFORMAL: Sequence[type[Conformal]] = (ConformalRisk, ConformalSets)


def _check_rates(alpha: float, temperature: float) -> None:
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha must be in (0, 1), got {alpha}.")
    if not 0 < temperature < inf:
        raise ConfigError(f"temperature must be positive, got {temperature}.")


def _require_rows(
    kind: str, alpha: float, counted: int, n: int, batch_size: int, what: str
) -> None:
    needed = rows_needed(alpha)
    per_half = counted * min(batch_size, n) / n / 2
    if per_half >= needed:
        return
    wanted = f"{kind} at a rate of {alpha:g} needs {needed} {what} in half a batch"
    if counted < 2 * needed:
        raise ConfigError(
            f"{wanted}, and train has {counted} in all. Label {2 * needed - counted} more, or "
            "allow a larger rate."
        )
    enough = min(n, ceil(_ENOUGH * 2 * needed * n / counted))
    raise ConfigError(
        f"{wanted}; half of {min(batch_size, n)} rows has about {per_half:.0f}. Use a batch size "
        f"of {enough}."
    )
