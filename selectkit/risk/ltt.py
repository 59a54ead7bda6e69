"""Learn-then-Test on a grid: which settings keep every risk at or below its level, all at once.

Source: Angelopoulos, Bates, Candès, Jordan and Lei (2022), "Learn then Test: calibrating
predictive algorithms to achieve risk control", https://arxiv.org/abs/2110.01052. A setting may be
anything fixed before looking at labels: one threshold, several thresholds, the stages of a cascade.

Several risks cost nothing. The null hypothesis of a setting is a union, "some risk exceeds its
level", and its p-value is the largest of the single ones. Proof: under the null hypothesis there is
a risk r whose level is exceeded, its p-value p_r is valid, and the largest p-value is at least p_r;
so P(max_r p_r <= u) <= P(p_r <= u) <= u for every u, however the risks depend on each other. delta
pays for the number of settings only, never for the number of risks (Berger, 1982,
"Multiparameter hypothesis testing and acceptance sampling", Technometrics 24).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Bools, real_array, regular_array
from selectkit.errors import DataError, RiskError
from selectkit.stats.binomial import binomial_pvalue
from selectkit.stats.bounded import wsr_pvalues
from selectkit.stats.multiplicity import bonferroni, fixed_sequence, multi_start

Float64s: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]
Procedure: TypeAlias = Literal["bonferroni", "fixed_sequence", "multi_start"]


@dataclass(frozen=True, slots=True, eq=False)
class CertifiedGrid:
    """Settings certified together: with probability 1 - delta all of them keep all risks.

    Attributes:
        certified: Shape (M,), True where every risk is certified. Because the promise holds for all
            of them at once, any one may be chosen afterwards, with any criterion, on any data.
        pvalues: Shape (M,), the p-value of "some risk exceeds its level".
        delta: Probability, over the draw of the calibration rows, that any certified setting
            exceeds any of its levels.
        procedure: How the settings share delta.
    """

    certified: Bools
    pvalues: Float64s
    delta: float
    procedure: str

    @property
    def feasible(self) -> bool:
        """Whether anything is certified."""
        return bool(self.certified.any())

    def best(self, objective: ArrayLike) -> int | None:
        """Return the certified setting with the largest objective, the first among equals.

        Args:
            objective: Shape (M,), what is to be large, such as coverage or minus the cost.

        Returns:
            Its index, or None when nothing is certified.

        Raises:
            DataError: If the objective does not have one number per setting.
        """
        values = _objective(objective, len(self.certified))
        if not self.feasible:
            return None
        return int(np.argmax(np.where(self.certified, values, -np.inf)))


def learn_then_test(
    errors: ArrayLike,
    n: ArrayLike,
    alphas: ArrayLike,
    delta: float = 0.1,
    *,
    procedure: Procedure = "bonferroni",
    order: ArrayLike | None = None,
    starts: ArrayLike | None = None,
) -> CertifiedGrid:
    """Certify settings of a grid by exact binomial tests of 0/1 losses.

    With probability at least 1 - delta over the draw of independent calibration rows, no certified
    setting has any true risk above its level. The settings, their order and the starts must be
    fixed without the labels of these rows.

    Args:
        errors: Integer counts of shape (M, R): errors of setting j under risk r. (M,) if R = 1.
        n: Integer counts that broadcast to (M, R): rows behind each count (accepted rows for a
            selective error, positives for a miss rate, all rows for a share deferred). They may
            depend on scores; given n, the errors must be binomial.
        alphas: Shape (R,), largest allowed value of each risk, in (0, 1).
        delta: Probability with which the promise may fail, in (0, 1).
        procedure: "bonferroni": each of M settings at delta / M. "fixed_sequence": along `order`,
            each at delta, until the first failure. "multi_start": the order is cut at `starts`;
            each stretch brings delta / S and goes on until a failure, and one that passes to its
            end hands its level to the next (the fallback procedure of Wiens, 2003).
        order: Distinct indices in the order of testing, safest first; settings left out are not
            tested. None: as they come. For `pareto_order` use other rows than for the counts here.
        starts: Positions in the order, shape (S,); what lies before the first is not tested.

    Returns:
        The certified settings.

    Raises:
        DataError: If counts are malformed.
        RiskError: If a level, the procedure, the order or the starts make no sense.

    Examples:
        >>> found = learn_then_test([[0, 3], [1, 1], [9, 0]], [300, 200], [0.02, 0.05], 0.1)
        >>> found.certified
        array([ True,  True, False])
    """
    pvalues = union_pvalues(errors, n, alphas)
    return certify_pvalues(pvalues, delta, procedure=procedure, order=order, starts=starts)


def union_pvalues(errors: ArrayLike, n: ArrayLike, alphas: ArrayLike) -> Float64s:
    """Return the p-value of "some risk exceeds its level" for every setting.

    Args:
        errors: Integer counts, shape (M, R), or (M,) if R = 1.
        n: Integer counts that broadcast to (M, R).
        alphas: Shape (R,), in (0, 1).

    Returns:
        Shape (M,): the largest exact binomial p-value over the risks; 1 where some n is 0.

    Raises:
        DataError: If the counts are malformed.
        RiskError: If a level is outside (0, 1).
    """
    levels = np.atleast_1d(real_array(alphas, "alphas"))
    k, size = regular_array(errors, "errors"), regular_array(n, "n")
    if k.ndim == 1 and len(levels) == 1:
        k = k[:, None]
        size = size[:, None] if size.ndim == 1 else size
    if k.ndim != 2 or 0 in k.shape or levels.shape != k.shape[1:]:
        raise DataError(
            f"errors must have shape (M, R) and alphas (R,), M, R >= 1; "
            f"got {k.shape} and {levels.shape}."
        )
    try:
        size = np.broadcast_to(size, k.shape)
    except ValueError as error:
        raise DataError(f"n of shape {size.shape} does not broadcast to {k.shape}.") from error
    single = [binomial_pvalue(k[:, r], size[:, r], float(a)) for r, a in enumerate(levels)]
    return np.asarray(np.max(single, axis=0))


def certify_pvalues(
    pvalues: ArrayLike,
    delta: float = 0.1,
    *,
    procedure: Procedure = "bonferroni",
    order: ArrayLike | None = None,
    starts: ArrayLike | None = None,
) -> CertifiedGrid:
    """Certify settings by valid p-values of any kind, with family-wise error at most delta.

    Args:
        pvalues: Shape (M,), each valid for its own setting; they may depend on each other.
        delta: Family-wise error, in (0, 1).
        procedure: As in `learn_then_test`.
        order: As in `learn_then_test`.
        starts: As in `learn_then_test`.

    Returns:
        The certified settings.

    Raises:
        DataError: If a p-value is no number in [0, 1].
        RiskError: If delta, the procedure, the order or the starts make no sense.
    """
    p = real_array(pvalues, "pvalues")
    if starts is not None and procedure != "multi_start":
        raise RiskError(f'starts belong to the procedure "multi_start", not to {procedure!r}.')
    sequence = _order(order, p.size)
    tested = p[sequence] if p.ndim == 1 and p.size else p
    match procedure:
        case "bonferroni":
            passed = bonferroni(tested, delta)
        case "fixed_sequence":
            passed = fixed_sequence(tested, delta)
        case "multi_start":
            passed = multi_start(tested, delta, [] if starts is None else starts)
        case _:
            raise RiskError(
                'procedure must be "bonferroni", "fixed_sequence" or "multi_start", '
                f"got {procedure!r}."
            )
    certified = np.zeros(len(p), dtype=np.bool_)
    certified[sequence[passed]] = True
    return CertifiedGrid(certified, p, delta, procedure)


def pareto_order(pvalues: ArrayLike, objective: ArrayLike) -> Indices:
    """Return the order in which settings deserve to be tested, learnt on rows of its own.

    Split fixed sequence, or Pareto testing: half of the rows says which settings are worth a test
    and in which order, the other half tests them along it with "fixed_sequence". Rows that were
    used here must not be used again for the tests.

    Source: Laufer-Goldberg, Fisch, Barzilay and Jaakkola (2023), "Efficiently controlling multiple
    risks with Pareto testing", https://arxiv.org/abs/2210.07913.

    Args:
        pvalues: Shape (M,), the p-values of the first half (`union_pvalues`), in [0, 1].
        objective: Shape (M,), what is to be large, on the first half, such as coverage.

    Returns:
        The Pareto-optimal settings (none other has at most the p-value and at least the objective,
        and is better in one of them), from the smallest p-value on.

    Raises:
        DataError: If the arrays do not match or hold NaN.

    Examples:
        >>> pareto_order([0.5, 0.01, 0.3, 0.2], [0.9, 0.2, 0.1, 0.6])
        array([1, 3, 0])
    """
    p = real_array(pvalues, "pvalues")
    if p.ndim != 1 or p.size == 0 or np.isnan(p).any():
        raise DataError(f"pvalues must be numbers of shape (M,), M >= 1; got {p.shape}.")
    values = _objective(objective, len(p))
    ranked = np.lexsort((-values, p))
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(values[ranked])[:-1]))
    return np.asarray(ranked[values[ranked] > best_before])


def loss_pvalues(
    losses: Sequence[ArrayLike],
    alphas: ArrayLike,
    rng: np.random.Generator,
    *,
    counted: Sequence[ArrayLike] | None = None,
    delta: float = 0.1,
) -> Float64s:
    """Return the p-value of "some mean loss exceeds its level" for losses anywhere in [0, 1].

    Betting p-values (`selectkit.stats.wsr_pvalues`), the largest over the risks; pass them to
    `certify_pvalues`.

    Args:
        losses: One array of shape (N_r, M) for each of R risks: its rows, each under M settings.
        alphas: Shape (R,), in (0, 1).
        rng: Source of the shuffle of the rows, the same for all settings.
        counted: One boolean array of shape (N_r, M) for each risk: rows that count under a setting,
            such as the accepted ones. It must not depend on labels. None: all rows count.
        delta: The level at which the bets are aimed; the p-values are valid at every level.

    Returns:
        Shape (M,).

    Raises:
        DataError: If an array is malformed or a counted loss is outside [0, 1].
        RiskError: If a level is outside (0, 1).
    """
    levels = np.atleast_1d(real_array(alphas, "alphas"))
    masks = [None] * len(losses) if counted is None else list(counted)
    if not len(losses) == len(levels) == len(masks) > 0:
        raise DataError(
            f"every risk needs losses, a level and, if any are given, counted rows; "
            f"got {len(losses)}, {len(levels)} and {len(masks)}."
        )
    single = [
        wsr_pvalues(x, float(a), rng, delta=delta, counted=mask)
        for x, a, mask in zip(losses, levels, masks, strict=True)
    ]
    if len({len(p) for p in single}) > 1:
        raise DataError(f"risks have different numbers of settings: {[len(p) for p in single]}.")
    return np.asarray(np.max(single, axis=0))


def _order(order: ArrayLike | None, size: int) -> Indices:
    if order is None:
        return np.arange(size)
    indices = regular_array(order, "order")
    if indices.ndim != 1 or indices.size == 0 or indices.dtype.kind not in "iu":
        raise RiskError(f"order must hold indices of settings, got shape {indices.shape}.")
    if len(np.unique(indices)) < len(indices) or indices.min() < 0 or indices.max() >= size:
        raise RiskError(f"order must hold distinct indices from 0 to {size - 1}.")
    return indices.astype(np.intp)


def _objective(objective: ArrayLike, size: int) -> Float64s:
    values = real_array(objective, "objective")
    if values.shape != (size,) or np.isnan(values).any():
        raise DataError(f"objective must be numbers of shape ({size},), got {values.shape}.")
    return values
