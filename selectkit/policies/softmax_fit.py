"""Finds the threshold of the softmax policy for one target."""

from math import ceil

import numpy as np
import numpy.typing as npt

from selectkit.errors import ConfigError
from selectkit.policies.scores.score import Float64s
from selectkit.policies.target import POSITIVE_RISKS, Target
from selectkit.risk import Certificate, Infeasible, certify_threshold, labels_needed
from selectkit.stats import clopper_pearson_upper

Labels = npt.NDArray[np.int64]


def check_positive(target: Target, positive: int | None, n_classes: int) -> None:
    """Refuse a target that one threshold cannot keep, or that lacks the class that it is about.

    Raises:
        ConfigError: If it is one.
    """
    if positive is None and target.risk in POSITIVE_RISKS:
        raise ConfigError(
            f"--target {target} needs to know the positive class: name it with --positive."
        )
    if target.risk == "deferral":
        raise ConfigError(
            f"--target {target} alone is kept by accepting everything: combine it with what may go "
            f"wrong, for instance --target error=0.05,{target}."
        )
    if positive is not None and not 0 <= positive < n_classes:
        raise ConfigError(f"the positive class {positive} is outside [0, {n_classes}).")


def certified(
    s: Float64s, prediction: Labels, y: Labels, target: Target, delta: float, positive: int | None
) -> Certificate | Infeasible:
    """Find the most permissive certified threshold, on the rows that the risk is about.

    Args:
        s: Scores, shape (N,).
        prediction: Predicted classes, (N,).
        y: Labels, (N,).
        target: What to keep; no coverage.
        delta: Probability with which the promise may fail.
        positive: Code of the positive class.

    Returns:
        The certificate, or why there is none.
    """
    match target.risk:
        case "error":
            rows, loss = np.ones(len(y), dtype=np.bool_), prediction != y
        case "fpr" | "false_alarm":
            rows, loss = y != positive, prediction == positive
        case _:
            rows, loss = y == positive, prediction != positive
    if not rows.any():
        which = "negative" if target.risk in {"fpr", "false_alarm"} else "positive"
        return Infeasible(
            risk=target.risk,
            alpha=target.alpha,
            delta=delta,
            n=0,
            reason=f"no {which} sample in the calibration split",
            needs=labels_needed(target.alpha, delta),
        )
    return certify_threshold(
        s[rows],
        loss[rows],
        alpha=target.alpha,
        delta=delta,
        denominator="all" if target.risk in {"miss_rate", "false_alarm"} else "accepted",
        risk=target.risk,
    )


def covering(s: Float64s, wrong: npt.NDArray[np.bool_], share: float, delta: float) -> Certificate:
    """Return the largest score that at least a share of the rows reaches; it promises nothing.

    Args:
        s: Scores, shape (N,); ties are all accepted.
        wrong: Which predictions are wrong, (N,).
        share: Of the rows, in (0, 1].
        delta: Level of the descriptive bounds.
    """
    n = len(s)
    rank = ceil(n * share * (1 - 1e-12))
    threshold = float(np.partition(s, n - rank)[n - rank])
    accepted = s >= threshold
    n_accepted, errors = int(accepted.sum()), int(wrong[accepted].sum())
    return Certificate(
        risk="coverage",
        alpha=share,
        delta=delta,
        kind="none",
        method="empirical quantile of the score",
        threshold=threshold,
        n=n,
        n_accepted=n_accepted,
        errors=errors,
        risk_upper=clopper_pearson_upper(errors, n_accepted, delta),
        coverage=n_accepted / n,
        coverage_lower=0.0,
        assumptions=("no error rate is promised, and new rows meet the coverage on average only",),
    )
