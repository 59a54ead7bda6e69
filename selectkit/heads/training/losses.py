"""Losses: what each needs of the network, and its value and parts for M configurations at once.

Every loss is a function of a few row-wise terms averaged over the batch, `combine(mean(terms))`. A
batch that is computed in parts, its terms summed, therefore has exactly the loss and the gradient
of the whole batch, also where the loss is not a mean over rows (a coverage penalty, class weights).

Sizes: B rows, M configurations, K classes, O outputs of a network. Terms are computed in the dtype
of the outputs, from logarithms only: they are finite for every finite output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from selectkit.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Numbers = Mapping[str, "Tensor"]
"""The numeric settings of M losses of one family, each of shape (M,)."""


class Batch(NamedTuple):
    """What a loss looks at.

    Attributes:
        outputs: Shape (B, M, O).
        labels: Codes, shape (B,), int64.
        weights: Weight of each row, shape (B, 1), or None when all are equal.
        targets: Soft targets of the rows, shape (B, M), for losses that keep them.
        epoch: Number of the epoch, from 1.
    """

    outputs: "Tensor"
    labels: "Tensor"
    weights: "Tensor | None" = None
    targets: "Tensor | None" = None
    epoch: int = 1


class Loss(Protocol):
    """One family of losses with its settings.

    Attributes:
        kind: Name in JSON.
        numbers: Settings that may differ between configurations that are fitted together.
        keeps_targets: Whether the loss keeps a soft target of every training row.
    """

    kind: ClassVar[str]
    numbers: ClassVar[tuple[str, ...]]
    keeps_targets: ClassVar[bool]

    def terms(self, numbers: Numbers, batch: Batch) -> "list[Tensor]":
        """Return row-wise terms, each of shape (B, M), or of the rows that the term is about."""
        ...

    def combine(self, numbers: Numbers, means: "Tensor") -> "Tensor":
        """Return the losses, shape (M,), of the terms' means over the batch, shape (J, M)."""
        ...

    def parts(self, numbers: Numbers, means: "Tensor") -> "dict[str, Tensor]":
        """Return what a user wants to see of the means, by name, each of shape (M,)."""
        ...


def structure_of(loss: Loss) -> Loss:
    """Return a loss with the settings that may differ within one batched fit reset.

    Zero stays zero, so that what a zero switches off is off for the whole batch.

    Args:
        loss: Any loss.

    Returns:
        A loss; those that return equal ones can be computed together.
    """
    settings: Any = loss
    usual = {f.name: f.default or 0.5 for f in fields(settings) if f.name in loss.numbers}
    kept = {name: value if getattr(loss, name) else 0.0 for name, value in usual.items()}
    reset: Loss = replace(settings, **kept)
    return reset


def numbers_of(losses: "Sequence[Loss]", like: "Tensor") -> Numbers:
    """Return the settings that may differ, as tensors of shape (M,).

    Args:
        losses: M losses of equal structure.
        like: Sets dtype and device.

    Returns:
        Tensors by name.
    """
    return {name: like.new_tensor([getattr(x, name) for x in losses]) for name in losses[0].numbers}


def log_probabilities(outputs: "Tensor") -> "Tensor":
    """Return the log-softmax over the last axis, same shape; rows are innermost in memory."""
    import torch

    # Along rows, not along the few outputs of one: a sixth to a tenth of the time.
    return torch.log_softmax(outputs.permute(1, 2, 0), dim=1).permute(2, 0, 1)


def at_label(values: "Tensor", labels: "Tensor") -> "Tensor":
    """Return values[b, m, labels[b]] for values of shape (B, M, K), shape (B, M)."""
    import torch

    # By one flat index, in a third of the time that gather takes along three axes.
    flat = values.permute(1, 2, 0).flatten(1)
    places = labels * len(labels) + torch.arange(len(labels), device=labels.device)
    return flat.index_select(1, places).T


def one_hot(labels: "Tensor", like: "Tensor") -> "Tensor":
    """Return 1 at the labels (B,) and 0 elsewhere, (B, 1, K), to go with (B, M, K)."""
    hot = like.new_zeros((like.shape[-1], len(labels)))
    return hot.scatter_(0, labels.unsqueeze(0), 1.0).T.unsqueeze(1)


def weighted(terms: "Sequence[Tensor]", weights: "Tensor | None") -> "list[Tensor]":
    """Return terms times weights, and the weights themselves as a last term if there are any."""
    if weights is None:
        return list(terms)
    return [*(t * weights for t in terms), weights.expand_as(terms[0])]


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Mean over rows of w [(1 - s) (-log p_y) + s mean_k (-log p_k)], over mean w.

    Source of label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7.

    Attributes:
        smoothing: s in [0, 1), the weight of the uniform distribution in the target.
    """

    kind: ClassVar[str] = "cross_entropy"
    numbers: ClassVar[tuple[str, ...]] = ("smoothing",)
    keeps_targets: ClassVar[bool] = False
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        in_range("smoothing", self.smoothing, 0, 1)

    def terms(self, numbers: Numbers, batch: Batch) -> "list[Tensor]":
        """Return [w loss, w], or [loss] without weights."""
        logp = log_probabilities(batch.outputs)
        s = numbers["smoothing"]
        loss = -(1 - s) * at_label(logp, batch.labels) - s * logp.mean(dim=-1)
        return weighted([loss], batch.weights)

    def slope(self, numbers: Numbers, batch: Batch) -> "tuple[Tensor, Tensor]":
        """Return the means of the terms and the gradient at the outputs, w (p - target) / sum w.

        Args:
            numbers: Settings of the M losses.
            batch: Without a graph.

        Returns:
            Shapes (J, M) and (B, M, O).
        """
        import torch

        logp = log_probabilities(batch.outputs)
        s, k = numbers["smoothing"], batch.outputs.shape[-1]
        loss = -at_label(logp, batch.labels)
        if self.smoothing > 0:
            loss = (1 - s) * loss - s * logp.mean(dim=-1)
        means = torch.stack([t.mean(dim=0) for t in weighted([loss], batch.weights)])
        target = one_hot(batch.labels, logp)
        if self.smoothing > 0:
            target = (1 - s).unsqueeze(-1) * target + (s / k).unsqueeze(-1)
        slope = logp.exp_().sub_(target)
        if batch.weights is None:
            return means, slope.mul_(1 / len(slope))
        return means, slope.mul_((batch.weights / batch.weights.sum()).unsqueeze(-1))

    def combine(self, numbers: Numbers, means: "Tensor") -> "Tensor":
        """Return the weighted mean."""
        return means[0] if len(means) == 1 else means[0] / means[1]

    def parts(self, numbers: Numbers, means: "Tensor") -> "dict[str, Tensor]":
        """Return nothing: the loss is all there is."""
        return {}


@dataclass(frozen=True, slots=True)
class Focal:
    """Mean over rows of w (1 - p_y)^gamma (-log p_y), over mean w.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 4. 1 - p_y is the sum of the
    other probabilities, added as logarithms: nothing cancels when p_y is nearly one.

    Attributes:
        gamma: At least 0; 0 is cross-entropy.
    """

    kind: ClassVar[str] = "focal"
    numbers: ClassVar[tuple[str, ...]] = ("gamma",)
    keeps_targets: ClassVar[bool] = False
    gamma: float = 2.0

    def __post_init__(self) -> None:
        in_range("gamma", self.gamma, 0, inf)

    def terms(self, numbers: Numbers, batch: Batch) -> "list[Tensor]":
        """Return [w loss, w], or [loss] without weights."""
        logp = log_probabilities(batch.outputs)
        index = batch.labels.view(-1, 1, 1).expand(-1, logp.shape[1], 1)
        log_rest = logp.scatter(2, index, -inf).logsumexp(dim=-1)
        loss = -(numbers["gamma"] * log_rest).exp() * at_label(logp, batch.labels)
        return weighted([loss], batch.weights)

    def combine(self, numbers: Numbers, means: "Tensor") -> "Tensor":
        """Return the weighted mean."""
        return means[0] if len(means) == 1 else means[0] / means[1]

    def parts(self, numbers: Numbers, means: "Tensor") -> "dict[str, Tensor]":
        """Return nothing: the loss is all there is."""
        return {}


def in_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting outside [low, high), or an infinite one.

    Args:
        name: Of the setting.
        value: Given.
        low: Smallest value allowed.
        high: First value that is too large.

    Raises:
        ConfigError: If it is.
    """
    if not (isfinite(value) and low <= value < high):
        limit = f"at least {low:g}" if high == inf else f"in [{low:g}, {high:g})"
        raise ConfigError(f"{name} must be {limit}, got {value}.")


def loss_from_dict(values: Mapping[str, Any]) -> Loss:
    """Rebuild a loss from its kind and settings.

    Args:
        values: `kind` and the fields.

    Returns:
        The loss.

    Raises:
        ConfigError: If the kind is unknown or a value is out of range.
    """
    from selectkit.heads.training.abstaining import Gamblers, SelfAdaptive
    from selectkit.heads.training.conformal import CONFORMAL
    from selectkit.heads.training.selective import SelectiveNet

    families = (CrossEntropy, Focal, SelectiveNet, Gamblers, SelfAdaptive, *CONFORMAL)
    known: dict[str, Any] = {family.kind: family for family in families}
    settings = dict(values)
    kind = settings.pop("kind", None)
    if kind not in known:
        raise ConfigError(f"loss {kind!r} is unknown; known: {', '.join(known)}.")
    loss: Loss = known[kind](**settings)
    return loss
