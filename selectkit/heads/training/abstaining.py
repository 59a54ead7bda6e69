"""Losses with one output more than classes: the network may bet on "I do not know".

The network's outputs are K class logits and, last, the logit of abstaining.
"""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar

from selectkit.errors import ConfigError
from selectkit.heads.training.losses import (
    Batch,
    Numbers,
    at_label,
    in_range,
    log_probabilities,
    weighted,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Gamblers:
    """Mean over rows of -w log(p_y + p_abstain / payoff), over mean w.

    Source: Liu et al. (NeurIPS 2019), https://arxiv.org/abs/1907.00208, equation 4.

    Attributes:
        payoff: o in (1, K]; the smaller, the more is abstained.
        pretrain: Epochs of plain cross-entropy over the classes before.
    """

    kind: ClassVar[str] = "gamblers"
    numbers: ClassVar[tuple[str, ...]] = ("payoff",)
    keeps_targets: ClassVar[bool] = False
    payoff: float = 1.5
    pretrain: int = 0

    def __post_init__(self) -> None:
        if not 1 < self.payoff < inf:
            raise ConfigError(f"payoff must be above 1, got {self.payoff}.")
        in_range("pretrain", self.pretrain, 0, inf)

    def terms(self, numbers: Numbers, batch: Batch) -> "list[Tensor]":
        """Return [p_abstain, w loss, w], the last only with weights."""
        import torch

        logp = log_probabilities(batch.outputs)
        abstain = logp[..., -1]
        if batch.epoch <= self.pretrain:
            loss = -_class_log_likelihood(batch)
        else:
            bet = abstain - numbers["payoff"].log()
            loss = -torch.logaddexp(at_label(logp, batch.labels), bet)
        return _abstention_terms(loss, abstain, batch)

    def combine(self, numbers: Numbers, means: "Tensor") -> "Tensor":
        """Return the weighted mean."""
        return means[1] if len(means) == 2 else means[1] / means[2]

    def parts(self, numbers: Numbers, means: "Tensor") -> "dict[str, Tensor]":
        """Return the mean probability of abstaining."""
        return {"abstention": means[0]}


@dataclass(frozen=True, slots=True)
class SelfAdaptive:
    """Self-adaptive training: rows whose label the network does not believe may be abstained from.

    Mean over rows of -w [q log p_y + (1 - q) log p_abstain] + entropy H(p over the classes), over
    mean w. The target q of a row starts at 1 and follows the softmax over the classes at the row's
    label: q <- momentum q + (1 - momentum) p_y, once per step.

    Source: Huang, Zhang and Zhang (NeurIPS 2020), https://arxiv.org/abs/2002.10319; the entropy
    term is that of Feng et al. (ICLR 2023), https://arxiv.org/abs/2206.09034, here the entropy
    itself: their code has -sum p_k z_k on raw outputs z, which a constant added to all changes.

    Attributes:
        momentum: Of the targets, in [0, 1).
        entropy: Weight of the entropy; 0 is plain self-adaptive training, 0.001 in the paper.
        pretrain: Epochs of plain cross-entropy over the classes before; targets stay at 1.
    """

    kind: ClassVar[str] = "self_adaptive"
    numbers: ClassVar[tuple[str, ...]] = ("momentum", "entropy")
    keeps_targets: ClassVar[bool] = True
    momentum: float = 0.9
    entropy: float = 0.0
    pretrain: int = 0

    def __post_init__(self) -> None:
        in_range("momentum", self.momentum, 0, 1)
        in_range("entropy", self.entropy, 0, inf)
        in_range("pretrain", self.pretrain, 0, inf)

    def updated_targets(self, numbers: Numbers, batch: Batch) -> "Tensor":
        """Return the targets of the batch's rows after this step, shape (B, M)."""
        assert batch.targets is not None
        if batch.epoch <= self.pretrain:
            return batch.targets
        m = numbers["momentum"]
        return m * batch.targets + (1 - m) * _class_log_likelihood(batch).exp()

    def terms(self, numbers: Numbers, batch: Batch) -> "list[Tensor]":
        """Return [p_abstain, w loss, w], the last only with weights."""
        logp = log_probabilities(batch.outputs)
        abstain = logp[..., -1]
        if batch.epoch <= self.pretrain:
            loss = -_class_log_likelihood(batch)
        else:
            assert batch.targets is not None
            q = batch.targets
            loss = -q * at_label(logp, batch.labels) - (1 - q) * abstain
        if self.entropy > 0:
            classes = log_probabilities(batch.outputs[..., :-1])
            loss = loss - numbers["entropy"] * (classes.exp() * classes).sum(dim=-1)
        return _abstention_terms(loss, abstain, batch)

    def combine(self, numbers: Numbers, means: "Tensor") -> "Tensor":
        """Return the weighted mean."""
        return means[1] if len(means) == 2 else means[1] / means[2]

    def parts(self, numbers: Numbers, means: "Tensor") -> "dict[str, Tensor]":
        """Return the mean probability of abstaining."""
        return {"abstention": means[0]}


def _class_log_likelihood(batch: Batch) -> "Tensor":
    """Log p_y of the softmax over the classes alone, (B, M)."""
    return at_label(log_probabilities(batch.outputs[..., :-1]), batch.labels)


def _abstention_terms(loss: "Tensor", abstain: "Tensor", batch: Batch) -> "list[Tensor]":
    return [abstain.exp(), *weighted([loss], batch.weights)]
