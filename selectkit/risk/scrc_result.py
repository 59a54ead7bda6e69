"""What selective conformal risk control finds: whom to accept, and how large the sets are.

Names of the risks: `set_error` is the share of accepted rows whose true class is not in their set,
`set_fnr` the same among accepted positives. A set of several classes counts as right when the true
one is among them, so neither bounds the error of rows whose set is a single class.
"""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from selectkit.arrays import ArrayLike, Bools, finite_vector, real_array, regular_array
from selectkit.errors import DataError, RiskError
from selectkit.risk.certificate import Certificate, Infeasible, unit
from selectkit.risk.scrc_loss_grid import LossGrid
from selectkit.risk.scrc_losses import Float64s, Misses, SetLosses
from selectkit.stats import clopper_pearson_upper
from selectkit.stats.binomial import check_level

INDEPENDENT = (
    "the samples to come are drawn independently from the distribution of the calibration split",
    "nothing was chosen on the calibration split except the threshold and lambda",
    "the score looks at the image only, never at its label",
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What was asked for: a share xi to accept, and a risk of at most alpha among the accepted.

    Attributes:
        xi: In (0, 1).
        alpha: In (0, 1).
        delta: In (0, 1).
        risk: Name of the risk.
    """

    xi: float
    alpha: float
    delta: float
    risk: str

    def __post_init__(self) -> None:
        """Refuse levels that make no sense.

        Raises:
            RiskError: If one is outside (0, 1).
        """
        for name in ("xi", "alpha", "delta"):
            check_level(getattr(self, name), name)


@dataclass(frozen=True, slots=True)
class SelectiveSets:
    """Accept iff score > threshold; the set of an accepted row is the one at lambda2.

    Attributes:
        variant: "t", "split_pac", "joint" or "i" (for comparison only).
        threshold: lambda1 in the units of the score; -inf accepts everything.
        lambda2: Size of the sets: classes that enter at lambda2 or before are in.
        n: Rows that the risk could draw on.
        n_accepted: Those of them above the threshold, on which lambda2 was found.
        total_loss: Sum of their losses at lambda2.
        certificates: The promise about the risk, then the one about the deferral rate.
    """

    variant: str
    threshold: float
    lambda2: float
    n: int
    n_accepted: int
    total_loss: float
    certificates: tuple[Certificate, Certificate]

    @property
    def feasible(self) -> bool:
        """True: these are the positive answer."""
        return True

    def accepts(self, score: ArrayLike) -> Bools:
        """Return which rows are accepted: shape (N,) in, shape (N,) out."""
        return np.asarray(real_array(score, "score") > self.threshold)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Checked calibration rows.

    Attributes:
        score: Shape (N,), finite, float64; not to be changed.
        losses: Of all N rows.
        counted: Shape (N,), the rows that the risk is about; None: all.
    """

    score: Float64s
    losses: SetLosses
    counted: Bools | None

    @classmethod
    def of(
        cls,
        score: ArrayLike,
        losses: "ArrayLike | Misses",
        lambdas: ArrayLike | None,
        bound: float,
        counted: ArrayLike | None,
    ) -> "Rows":
        """Check score, losses and mask together.

        Raises:
            DataError: If shapes or values are wrong.
            RiskError: If lambdas are missing, or given although the losses need none.
        """
        s = finite_score(score)
        if isinstance(losses, Misses):
            if lambdas is not None or bound != 1:
                raise RiskError("Misses know their lambdas and their bound: pass neither.")
            walk: SetLosses = losses
        else:
            if lambdas is None:
                raise RiskError(
                    "a matrix of losses needs the lambdas of its columns; for misses of the true "
                    "class pass Misses.of(entering) instead."
                )
            walk = LossGrid.of(losses, lambdas, bound)
        if len(walk) != len(s):
            raise DataError(f"score has {len(s)} rows but the losses have {len(walk)}.")
        return cls(s, walk, None if counted is None else _mask(counted, len(s)))

    @property
    def n(self) -> int:
        """Rows that the risk is about."""
        return len(self.score) if self.counted is None else int(np.count_nonzero(self.counted))

    def above(self, threshold: float, among: Bools | None = None) -> tuple[int, SetLosses]:
        """Return how many rows exceed a threshold, and the losses of those that are counted."""
        accepted = self.score > threshold
        if among is not None:
            accepted &= among
        n_accepted = int(np.count_nonzero(accepted))
        if self.counted is not None:
            accepted &= self.counted
        return n_accepted, self.losses.take(accepted)


def finite_score(score: ArrayLike) -> Float64s:
    """Return a selection score as float64, not copied when it is float64 already.

    Raises:
        DataError: If the shape is wrong or an entry is not finite.
    """
    s = regular_array(score, "score")
    if s.dtype == np.float64 and s.ndim == 1 and s.size and -np.inf < s.min() <= s.max() < np.inf:
        return s
    return finite_vector(score, "score")


def share_of(share: float, n: int) -> int:
    """Return ceil(share * n), of products that rounding may have lifted above an integer."""
    return ceil(share * n * (1 - 1e-12))


def selective_sets(
    variant: str,
    ask: Ask,
    threshold: float,
    lambda2: float,
    *,
    accepted: SetLosses,
    n: int,
    n_above: int,
    size: int,
    kinds: tuple[str, str],
    level: float,
    lower: float,
    deferral_upper: float | None = None,
    method: str,
    assumptions: tuple[str, ...],
    rng: np.random.Generator,
) -> SelectiveSets:
    """Put the answer together with its two certificates.

    Args:
        variant: As in `SelectiveSets`.
        ask: What was asked for.
        threshold: Accept iff score > threshold.
        lambda2: Size of the sets.
        accepted: Losses of the accepted rows that the risk is about.
        n: Rows that the risk is about, accepted or not.
        n_above: Accepted rows, whether the risk is about them or not.
        size: All rows that were counted for the coverage.
        kinds: Kind of the promise about the risk, and about the deferral rate.
        level: Level of the descriptive bounds.
        lower: Lower bound of the coverage.
        deferral_upper: Bound of the deferral rate that the scores behind the threshold give; None:
            the Clopper-Pearson bound of these rows.
        method: How it was found.
        assumptions: What must hold.
        rng: Source of the order in which losses that are not 0/1 are bet on.

    Returns:
        The answer.
    """
    total, m = accepted.total(lambda2), len(accepted)
    upper = (
        (total + accepted.bound) / (m + 1)
        if kinds[0] == "expectation"
        else accepted.upper(lambda2, level, rng)
    )
    promise = Certificate(
        risk=ask.risk,
        alpha=ask.alpha,
        delta=ask.delta,
        kind=kinds[0],
        method=method,
        threshold=float(np.nextafter(threshold, np.inf)),
        n=n,
        n_accepted=m,
        errors=accepted.errors(lambda2),
        risk_upper=min(1.0, upper),
        coverage=n_above / size,
        coverage_lower=lower,
        assumptions=assumptions,
        mean_loss=None if accepted.binary else total / m,
    )
    deferral = replace(
        promise,
        risk="deferral",
        alpha=round(1 - ask.xi, 12),
        kind=kinds[1],
        n=size,
        n_accepted=n_above,
        errors=size - n_above,
        risk_upper=clopper_pearson_upper(size - n_above, size, level)
        if deferral_upper is None
        else deferral_upper,
        mean_loss=None,
    )
    return SelectiveSets(variant, threshold, lambda2, n, m, total, (promise, deferral))


def no_lambda(
    ask: Ask,
    n: int,
    losses: SetLosses,
    needs: int | None,
    *,
    tied: bool = False,
    on_average: bool = False,
) -> Infeasible:
    """Say why no lambda will do.

    Args:
        ask: What was asked for.
        n: Rows that the risk could draw on.
        losses: Of the accepted among them.
        needs: How many of those rows would do, or None when no number would.
        tied: Whether equal scores at the threshold left nobody above it.
        on_average: Whether only a promise on average over calibration splits was asked for.

    Returns:
        The answer.
    """
    m, what = len(losses), unit(ask.risk)
    reason = f"{m} of {n} {what} in the calibration split are accepted"
    if n == 0:
        reason = f"there are no {what} in the calibration split"
    elif tied:
        reason, needs = f"too many scores are equal: {m} of {n} {what} exceed the threshold", None
    elif m and losses.least() >= ask.alpha * m:
        reason = (
            f"even with the largest sets the mean loss of {m} accepted {what} is "
            f"{losses.least() / m:.3g}, so more labels will not help"
        )
    needs = needs and max(n + 1, needs)
    return Infeasible(ask.risk, ask.alpha, ask.delta, n, reason, needs, on_average=on_average)


def _mask(counted: ArrayLike, n: int) -> Bools:
    mask = regular_array(counted, "counted")
    if mask.dtype != np.bool_ or mask.shape != (n,):
        raise DataError(
            f"counted must be booleans of shape ({n},), got {mask.dtype} of shape {mask.shape}."
        )
    return mask
