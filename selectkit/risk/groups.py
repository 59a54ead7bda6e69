"""One certified threshold per group or class: promises that hold for each of them.

A promise for everyone says nothing about any group. Here every group has a threshold of its own,
found on its own samples (Mondrian), as if it were alone. If the promises are to hold jointly, delta
is divided equally by the number of groups, and the union bound does the rest: the probability that
any of them fails is at most delta, however the groups depend on each other.

Class-conditional promises are the same with classes in the place of groups: true classes for
"errors among samples of class c" (the FNR of class c), predicted classes for "errors among those
decided as c". A threshold per true class cannot be deployed, because the class is not known; one
per predicted class or per group can.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, confidence_and_loss, regular_array
from selectkit.errors import DataError, RiskError
from selectkit.percent import confidence
from selectkit.risk.certificate import Certificate, Infeasible
from selectkit.risk.threshold import certify_threshold
from selectkit.stats.binomial import check_level

Float64s: TypeAlias = npt.NDArray[np.float64]
Group: TypeAlias = str | int


@dataclass(frozen=True, slots=True)
class GroupCertificates:
    """What is certified for each group.

    Attributes:
        answers: Certificate or Infeasible by group, in sorted order.
        delta: With `joint`, the probability that any of the promises fails; else each one's own.
        joint: Whether the promises hold all at once with probability 1 - delta.
    """

    answers: Mapping[Group, Certificate | Infeasible]
    delta: float
    joint: bool

    @property
    def feasible(self) -> bool:
        """Whether every group has a certificate."""
        return all(answer.feasible for answer in self.answers.values())

    def thresholds(self, groups: ArrayLike) -> Float64s:
        """Return the threshold of each sample by its group: accept iff confidence >= threshold.

        Args:
            groups: Shape (N,), names as in `certify_by_group`.

        Returns:
            Shape (N,); infinite where the group has no certificate or was not in the calibration
            split, so that nothing of it is accepted.
        """
        names = _names(groups)
        found = np.full(len(names), np.inf)
        for group, answer in self.answers.items():
            if isinstance(answer, Certificate):
                found[names == group] = answer.threshold
        return found

    def sentences(self) -> tuple[str, ...]:
        """Return the promises, and what is missing, one English sentence for each group."""
        said = [
            answer.sentence() if isinstance(answer, Certificate) else f"{group}: {answer.message()}"
            for group, answer in self.answers.items()
        ]
        if not self.joint:
            return tuple(said)
        together = (
            f"All promises hold together with {confidence(self.delta)} confidence; each one alone "
            f"was tested at {confidence(self.delta / len(said))}."
        )
        return (*said, together)


def certify_by_group(
    confidence: ArrayLike,
    loss: ArrayLike,
    groups: ArrayLike,
    *,
    alpha: float | Mapping[Group, float],
    delta: float = 0.1,
    joint: bool = True,
    denominator: Literal["accepted", "all"] = "accepted",
    risk: str = "error",
    kind: str = "group",
    seed: int = 0,
) -> GroupCertificates:
    """Certify one threshold per group on the samples of that group.

    Args:
        confidence: Shape (N,), higher = accept first; -inf means "always defer".
        loss: Shape (N,), in [0, 1].
        groups: Shape (N,), integers or strings: groups, or predicted or true classes. Which groups
            there are must not depend on the losses.
        alpha: Largest allowed risk, in (0, 1): the same for all, or by group.
        delta: Allowed probability of failure, in (0, 1).
        joint: True: delta is for all promises together, each is tested at delta / G. False: each
            group's promise may fail with probability delta, and they are no promise together.
        denominator: As in `certify_threshold`, within a group.
        risk: Name of the risk in the certificates.
        kind: What a group is called in `Certificate.about`, such as "class".
        seed: As in `certify_threshold`.

    Returns:
        An answer for each group; Infeasible says how many samples of that group would suffice. The
        delta of each certificate is the one it was tested at.

    Raises:
        DataError: If an array is malformed.
        RiskError: If alpha, delta or the denominator make no sense, or a group has no alpha.
    """
    check_level(delta, "delta")
    _, ell = confidence_and_loss(confidence, loss)
    scores, names = regular_array(confidence, "confidence"), _names(groups)
    if names.shape != ell.shape:
        raise DataError(f"groups have shape {names.shape} but confidence has shape {ell.shape}.")
    present: list[Group] = np.unique(names).tolist()
    share = delta / len(present) if joint else delta
    answers: dict[Group, Certificate | Infeasible] = {}
    for group in present:
        mine = names == group
        answer = certify_threshold(
            scores[mine],
            ell[mine],
            alpha=_alpha(alpha, group),
            delta=share,
            denominator=denominator,
            risk=risk,
            seed=seed,
        )
        if isinstance(answer, Certificate):
            answer = replace(answer, about=f"{kind} {group}")
        answers[group] = answer
    return GroupCertificates(answers, delta, joint)


def _alpha(alpha: float | Mapping[Group, float], group: Group) -> float:
    if not isinstance(alpha, Mapping):
        return alpha
    if group not in alpha:
        raise RiskError(f"alpha has no value for the group {group!r}.")
    return alpha[group]


def _names(groups: ArrayLike) -> npt.NDArray[np.generic]:
    names = regular_array(groups, "groups")
    if names.ndim != 1 or names.size == 0 or names.dtype.kind not in "iubU":
        raise DataError(
            f"groups must be integers or strings of shape (N,), N >= 1; got {names.dtype} of shape "
            f"{names.shape}."
        )
    return names
