"""SelectiveNet: a classifier, a gate that is paid for coverage, and an auxiliary classifier.

Source: Geifman and El-Yaniv (ICML 2019), https://arxiv.org/abs/1901.09192, equations 1 to 4.
"""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from selectkit.errors import ConfigError
from selectkit.heads.training.losses import (
    Batch,
    Numbers,
    at_label,
    in_range,
    log_probabilities,
    one_hot,
)

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST_COVERAGE = 1e-6


@dataclass(frozen=True, slots=True)
class SelectiveNet:
    """Loss alpha [r + penalty Psi(c - mean g) + risk_penalty Psi(e - risk_target)] + (1 - alpha) a.

    g = sigmoid(gate logit), Psi(u) = max(0, u)^2, c the target coverage, a the cross-entropy of the
    auxiliary classifier, r = mean(g CE) / mean(g) as in the paper, or mean(g CE) as in the
    published code. The code's form is lowered by shrinking g, so its coverage settles a little
    under the target. The risk-aware term looks at the soft selective risk
    e = mean(g (1 - p_y)) / mean(g); without a target there is none.

    Class weights weigh both cross-entropies and the soft risk; the coverage counts rows equally.
    Coverage is a statistic of the batch: use batches of 512 rows or more. The gate is always
    thresholded on held-out data; g > 0.5 does not give the target coverage.

    Attributes:
        coverage: Target, in (0, 1].
        penalty: Lambda, the price of coverage below the target.
        alpha: Weight of the selective part, in [0, 1].
        normalise: The paper's form; False is that of the published code.
        risk_target: Soft selective risk above which there is a penalty, or None.
        risk_penalty: The price of it.
    """

    kind: ClassVar[str] = "selective_net"
    numbers: ClassVar[tuple[str, ...]] = ("coverage", "penalty", "alpha", "risk_penalty")
    keeps_targets: ClassVar[bool] = False
    coverage: float = 0.8
    penalty: float = 32.0
    alpha: float = 0.5
    normalise: bool = True
    risk_target: float | None = None
    risk_penalty: float = 32.0

    def __post_init__(self) -> None:
        if not 0 < self.coverage <= 1:
            raise ConfigError(f"coverage must be in (0, 1], got {self.coverage}.")
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"alpha must be in [0, 1], got {self.alpha}.")
        in_range("penalty", self.penalty, 0, inf)
        in_range("risk_penalty", self.risk_penalty, 0, inf)
        if self.risk_target is not None:
            in_range("risk_target", self.risk_target, 0, 1)

    def terms(self, numbers: Numbers, batch: Batch) -> "list[Tensor]":
        """Return [g, w g, w g CE, w g (1 - p_y), w CE_auxiliary, w]; outputs are (K, gate, K)."""
        return _terms(_Rows.of(batch))

    def slope(self, numbers: Numbers, batch: Batch) -> "tuple[Tensor, Tensor]":
        """Return the means of the terms and the gradient at the outputs.

        By the chain rule: what a unit of each mean costs, times what each row adds to it.

        Args:
            numbers: Settings of the M losses.
            batch: Without a graph.

        Returns:
            Shapes (J, M) and (B, M, O).
        """
        import torch

        rows = _Rows.of(batch)
        means = torch.stack([t.mean(dim=0) for t in _terms(rows)])
        covered, selected, risk, error, auxiliary = self._prices(numbers, means)
        g, w, logp = rows.g, rows.w, rows.logp_label
        per_selected = selected - risk * logp - error * torch.expm1(logp)
        gate = (covered + w * per_selected) * g * (1 - g)
        k = rows.logp.shape[-1]
        slope = torch.empty_like(batch.outputs)
        slope[..., :k] = _pulled(rows.logp, batch.labels, w * g * (risk + error * logp.exp()))
        slope[..., k] = gate
        slope[..., k + 1 :] = _pulled(rows.auxiliary, batch.labels, w * auxiliary)
        return means, slope.div_(len(g))

    def combine(self, numbers: Numbers, means: "Tensor") -> "Tensor":
        """Return the loss of the means of the terms."""
        g, _, risk, soft_risk, auxiliary, w = self._named(means)
        short = (numbers["coverage"] - g).clamp(min=0).square()
        selective = risk + numbers["penalty"] * short
        if self.risk_target is not None:
            excess = (soft_risk - self.risk_target).clamp(min=0).square()
            selective = selective + numbers["risk_penalty"] * excess
        alpha = numbers["alpha"]
        return alpha * selective + (1 - alpha) * auxiliary / w

    def parts(self, numbers: Numbers, means: "Tensor") -> "dict[str, Tensor]":
        """Return mean coverage, selective risk (nats), soft error among the selected, auxiliary."""
        g, _, risk, soft_risk, auxiliary, w = self._named(means)
        return {
            "coverage": g,
            "selective_risk": risk,
            "soft_error": soft_risk,
            "auxiliary": auxiliary / w,
        }

    def _prices(self, numbers: Numbers, means: "Tensor") -> "tuple[Tensor | float, ...]":
        """Return the derivatives of `combine` at all means but the last, each (M,) or a number."""
        g, wg, risk, soft_risk, _, w = self._named(means)
        alpha = numbers["alpha"]
        short = (numbers["coverage"] - g).clamp(min=0)
        selected = wg.clamp(min=_SMALLEST_COVERAGE)
        per_risk = alpha / (selected if self.normalise else w)
        per_error: Tensor | float = 0.0
        per_selected: Tensor | float = -per_risk * risk if self.normalise else 0.0
        if self.risk_target is not None:
            excess = (soft_risk - self.risk_target).clamp(min=0)
            per_error = 2 * alpha * numbers["risk_penalty"] * excess / selected
            per_selected = per_selected - per_error * soft_risk
        return (
            -2 * alpha * numbers["penalty"] * short,
            per_selected * (wg >= _SMALLEST_COVERAGE),
            per_risk,
            per_error,
            (1 - alpha) / w,
        )

    def _named(self, means: "Tensor") -> "tuple[Tensor, ...]":
        g, wg, wg_loss, wg_error, auxiliary, w = means.unbind()
        selected = wg.clamp(min=_SMALLEST_COVERAGE)
        risk = wg_loss / (selected if self.normalise else w)
        return g, wg, risk, wg_error / selected, auxiliary, w


class _Rows(NamedTuple):
    """What the terms are made of: log-softmaxes (B, M, K), all else (B, M)."""

    g: "Tensor"
    w: "Tensor"
    logp: "Tensor"
    auxiliary: "Tensor"
    logp_label: "Tensor"
    auxiliary_label: "Tensor"

    @classmethod
    def of(cls, batch: Batch) -> "_Rows":
        import torch

        k = (batch.outputs.shape[-1] - 1) // 2
        g = batch.outputs[..., k].sigmoid()
        logp = log_probabilities(batch.outputs[..., :k])
        auxiliary = log_probabilities(batch.outputs[..., k + 1 :])
        w = torch.ones_like(g) if batch.weights is None else batch.weights.expand_as(g)
        return cls(
            g, w, logp, auxiliary, at_label(logp, batch.labels), at_label(auxiliary, batch.labels)
        )


def _terms(rows: _Rows) -> "list[Tensor]":
    import torch

    wg = rows.w * rows.g
    wrong = torch.expm1(rows.logp_label)
    return [rows.g, wg, -wg * rows.logp_label, -wg * wrong, -rows.w * rows.auxiliary_label, rows.w]


def _pulled(logp: "Tensor", labels: "Tensor", weights: "Tensor") -> "Tensor":
    """Return weights (p - one-hot of the labels), (B, M, K); takes the log-softmax's memory."""
    return logp.exp_().sub_(one_hot(labels, logp)).mul_(weights.unsqueeze(-1))
