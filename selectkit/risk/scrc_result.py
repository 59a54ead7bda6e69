"""What selective conformal risk control finds: whom to accept, and how large the sets are.

Names of the risks: `set_error` is the share of accepted rows whose true class is not in their set,
`set_fnr` the same among accepted positives. A set of several classes counts as right when the true
one is among them, so neither bounds the error of rows whose set is a single class.
"""

from dataclasses import dataclass, replace

import numpy as np

from selectkit.arrays import ArrayLike, Bools, real_array
from selectkit.risk.certificate import Certificate, Infeasible, unit
from selectkit.risk.scrc_rows import Ask, Cut
from selectkit.stats import clopper_pearson_upper

INDEPENDENT = (
    "the samples to come are drawn independently from the distribution of the calibration split",
    "nothing was chosen on the calibration split except the threshold and lambda",
    "the score looks at the image only, never at its label",
)


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


def selective_sets(
    variant: str,
    ask: Ask,
    cut: Cut,
    lambda2: float,
    *,
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
        cut: What the threshold accepts.
        lambda2: Size of the sets.
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
    accepted, deferred = cut.accepted, cut.size - cut.n_above
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
        threshold=float(np.nextafter(cut.threshold, np.inf)),
        n=cut.n,
        n_accepted=m,
        errors=accepted.errors(lambda2),
        risk_upper=min(1.0, upper),
        coverage=cut.coverage,
        coverage_lower=lower,
        assumptions=assumptions,
        mean_loss=None if accepted.binary else total / m,
    )
    if deferral_upper is None:
        deferral_upper = clopper_pearson_upper(deferred, cut.size, level)
    deferral = replace(
        promise,
        risk="deferral",
        alpha=round(1 - ask.xi, 12),
        kind=kinds[1],
        n=cut.size,
        n_accepted=cut.n_above,
        errors=deferred,
        risk_upper=deferral_upper,
        mean_loss=None,
    )
    return SelectiveSets(variant, cut.threshold, lambda2, cut.n, m, total, (promise, deferral))


def no_lambda(
    ask: Ask,
    cut: Cut,
    needs: int | None,
    *,
    tied: bool = False,
    on_average: bool = False,
) -> Infeasible:
    """Say why no lambda will do.

    Args:
        ask: What was asked for.
        cut: What the threshold accepts.
        needs: How many rows that the risk is about would do, or None when no number would.
        tied: Whether equal scores at the threshold left nobody above it.
        on_average: Whether only a promise on average over calibration splits was asked for.

    Returns:
        The answer.
    """
    n, losses, what = cut.n, cut.accepted, unit(ask.risk)
    m = len(losses)
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
