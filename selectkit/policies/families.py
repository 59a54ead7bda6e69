"""Families of rules to choose from, and what each rule of a family does with some rows.

A rule is one threshold on a confidence, or a pair of thresholds on the probability of the positive
class. Counts come from cumulative sums over the sorted scores: those of a pair are the counts below
its lower and above its upper threshold, so a whole grid of pairs costs two sorts.

Rows carry weights instead of labels, so that the same sums count errors (weights 0 and 1) and
expect them (weights between).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools, Ints
from selectkit.policies.costs import Costs
from selectkit.policies.outputs import Float64s, Outputs

_AGAINST = (0.003, 0.01, 0.03)  # shares of rows that a fitted curve may leave against it
_ENOUGH = 1000  # rows that fix a curve of four numbers


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What N rows are judged by.

    Attributes:
        score: Shape (N,): the confidence, or the probability of the positive class.
        wrong: Shape (N,), in [0, 1]: whether, or how probably, the most probable class is wrong.
        positive: Shape (N,), in [0, 1]: whether, or how probably, the row is positive.
        says_positive: Shape (N,): whether the most probable class is the positive one.
    """

    score: Float64s
    wrong: Float64s
    positive: Float64s
    says_positive: Bools

    @classmethod
    def counted(cls, score: Float64s, outputs: Outputs, y: Ints, positive: int | None) -> "Rows":
        """Rows judged by their labels: every sum is a count."""
        predicted = outputs.prediction
        is_positive = np.zeros(len(y)) if positive is None else (y == positive).astype(np.float64)
        return cls(score, (predicted != y).astype(np.float64), is_positive, predicted == positive)

    @classmethod
    def expected(cls, score: Float64s, outputs: Outputs, y: Ints, positive: int | None) -> "Rows":
        """Rows judged by their labels to a quarter, by their probabilities to three quarters.

        Labels alone say nothing about rates far below one in N; probabilities alone may be wrong,
        and are first made to fit the labels (`_fitted`).
        """
        rows, p = cls.counted(score, outputs, y, positive), outputs.probabilities
        wrong = (rows.wrong + 3 * _fitted(1 - p.max(axis=1), rows.wrong)) / 4
        is_positive = rows.positive
        if positive is not None:
            is_positive = (is_positive + 3 * _fitted(p[:, positive], is_positive)) / 4
        return cls(score, wrong, is_positive, rows.says_positive)

    def __len__(self) -> int:
        """N."""
        return len(self.score)

    def among(self, mask: Bools) -> "Rows":
        """Return some of the rows."""
        return Rows(
            self.score[mask], self.wrong[mask], self.positive[mask], self.says_positive[mask]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """What M rules do with N rows, sums over rows of shape (M,).

    Attributes:
        accepted: Accepted rows.
        wrong: Accepted rows that are decided wrongly.
        positives: Accepted positives.
        missed: Accepted positives that are not called positive.
        alarms: Accepted negatives that are called positive.
        n: N.
        n_positive: Positives among the N rows.
    """

    accepted: Float64s
    wrong: Float64s
    positives: Float64s
    missed: Float64s
    alarms: Float64s
    n: int
    n_positive: float

    def of(self, risk: str) -> tuple[Float64s, Float64s]:
        """Return errors and the number of rows they are among, each of shape (M,).

        Args:
            risk: A key of `RISKS` other than "coverage".

        Returns:
            Both; their ratio estimates the risk.
        """
        whole = np.ones_like(self.accepted)
        match risk:
            case "error":
                return self.wrong, self.accepted
            case "fnr":
                return self.missed, self.positives
            case "miss_rate":
                return self.missed, whole * self.n_positive
            case "fpr":
                return self.alarms, self.accepted - self.positives
            case "false_alarm":
                return self.alarms, whole * (self.n - self.n_positive)
            case _:
                return self.n - self.accepted, whole * self.n

    def accepted_of(self, risk: str) -> tuple[Float64s, float]:
        """Return how many of the rows that a risk is about are accepted, and how many there are."""
        if risk in {"fnr", "miss_rate"}:
            return self.positives, self.n_positive
        if risk in {"fpr", "false_alarm"}:
            return self.accepted - self.positives, self.n - self.n_positive
        return self.accepted, self.n

    @property
    def coverage(self) -> Float64s:
        """Share of rows that are accepted, shape (M,)."""
        return np.asarray(self.accepted / max(self.n, 1))

    def cost(self, costs: Costs) -> Float64s:
        """Return the mean cost of a row under each rule, shape (M,)."""
        deferred = costs.defer * (self.n - self.accepted)
        if costs.error is not None:
            return np.asarray((costs.error * self.wrong + deferred) / max(self.n, 1))
        errors = costs.of_miss * self.missed + costs.of_alarm * self.alarms
        return np.asarray((errors + deferred) / max(self.n, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Thresholds:
    """Accept iff confidence >= threshold; the most probable class is decided.

    Attributes:
        values: Shape (M,).
    """

    values: Float64s

    def __len__(self) -> int:
        """M."""
        return len(self.values)

    def take(self, rules: Ints) -> "Thresholds":
        """Return some of the rules."""
        return Thresholds(self.values[rules])

    def thresholds(self, rule: int) -> tuple[float, ...]:
        """Return the threshold of one rule."""
        return (float(self.values[rule]),)

    def tally(self, rows: Rows) -> Tally:
        """Return what each rule does with the rows."""
        p, yes = rows.positive, rows.says_positive
        accepted, wrong, positives, missed, alarms = _above(
            rows.score, (np.ones(len(p)), rows.wrong, p, p * ~yes, (1 - p) * yes), self.values
        )
        return Tally(accepted, wrong, positives, missed, alarms, len(p), float(p.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Negative iff p < t0, positive iff p >= t1, deferred between; t0 <= t1.

    Attributes:
        t0: Shape (M,).
        t1: Shape (M,).
    """

    t0: Float64s
    t1: Float64s

    @classmethod
    def of_cuts(cls, cuts: Float64s) -> "Pairs":
        """Return every pair of cuts, 0 (below is nothing) and inf (above is nothing)."""
        ends = np.union1d(cuts, [0.0, np.inf])
        t0, t1 = (grid.ravel() for grid in np.meshgrid(ends, ends, indexing="ij"))
        return cls(t0, t1).take(np.flatnonzero(t0 <= t1))

    def __len__(self) -> int:
        """M."""
        return len(self.t0)

    def take(self, rules: Ints) -> "Pairs":
        """Return some of the rules."""
        return Pairs(self.t0[rules], self.t1[rules])

    def thresholds(self, rule: int) -> tuple[float, ...]:
        """Return both thresholds of one rule."""
        return float(self.t0[rule]), float(self.t1[rule])

    def tally(self, rows: Rows) -> Tally:
        """Return what each rule does with the rows."""
        weights = (np.ones(len(rows)), rows.positive)
        n, n_positive = float(len(rows)), float(rows.positive.sum())
        at_least0, positives0 = _above(rows.score, weights, self.t0)
        called, found = _above(rows.score, weights, self.t1)
        missed, alarms = n_positive - positives0, called - found
        return Tally(
            n - at_least0 + called,
            missed + alarms,
            missed + found,
            missed,
            alarms,
            len(rows),
            n_positive,
        )


def cut_points(score: Float64s, *kinds: Float64s, levels: int = 60) -> Float64s:
    """Return scores that cut several kinds of rows finely.

    Args:
        score: Shape (N,), of rows that no test will use.
        *kinds: Shape (N,) each, weights >= 0: how much a row belongs to the kind.
        levels: Quantiles of each kind, closer together towards both ends.

    Returns:
        Rising distinct scores; all that there are if they are few.
    """
    order = np.argsort(score, kind="stable")
    s, values = score[order], np.unique(score)
    if len(values) <= 2 * levels:
        return np.asarray(values)
    shares = (1 - np.cos(np.pi * np.arange(levels + 1) / levels)) / 2
    sums = [np.cumsum(w[order]) for w in kinds if w.sum() > 0]
    cuts = [s[np.searchsorted(total, shares * total[-1] * (1 - 1e-12))] for total in sums]
    return np.asarray(np.unique(np.concatenate(cuts)))


def _above(
    score: Float64s, weights: tuple[npt.NDArray[np.float64], ...], thresholds: Float64s
) -> list[Float64s]:
    """The total of each weight over rows whose score is at least each threshold."""
    order = np.argsort(score, kind="stable")
    place = np.searchsorted(score[order], thresholds, side="left")
    sums = (np.concatenate(([0.0], np.cumsum(w[order]))) for w in weights)
    return [total[-1] - total[place] for total in sums]


def _fitted(q: Float64s, y: Float64s) -> Float64s:
    """Probabilities moved to lo + (1 - lo - hi) sigmoid(a logit(q) + b), fitted to the labels.

    lo and hi are shares of rows that go against any confidence, as wrongly labelled rows do.
    Without them a curve promises errors away where there are some. They are taken from a few
    values, and each must raise the log-likelihood by more than one (Akaike, 1974).

    Source: Platt (1999), "Probabilistic outputs for support vector machines", whose targets, a
    little inside (0, 1), keep the fit finite.
    """
    q = np.clip(q, 1e-9, 1 - 1e-9)
    x = np.stack([np.log(q / (1 - q)), np.ones(len(q))], axis=1)
    hits = y.sum()
    target = np.where(y > 0.5, (hits + 1) / (hits + 2), 1 / (len(y) - hits + 2))
    few = np.argsort(q, kind="stable")[:: max(1, len(q) // _ENOUGH)]
    start = _curve(x[few], target[few], np.array([1.0, 0.0]), 0.0, 0.0)
    best, chosen = start[1], (*start, 0.0, 0.0)
    for of_low in (True, False, True, False):
        _, _, lo, hi = chosen
        for share in _AGAINST:
            ends = (share, hi) if of_low else (lo, share)
            theta, likelihood = _curve(x[few], target[few], chosen[0], *ends)
            worth = likelihood - sum(end > 0 for end in ends)
            if worth > best:
                best, chosen = worth, (theta, likelihood, *ends)
    theta, _, lo, hi = chosen
    return lo + (1 - lo - hi) * _sigmoid(x @ theta)


def _curve(
    x: Float64s, target: Float64s, theta: Float64s, lo: float, hi: float
) -> tuple[Float64s, float]:
    """Slope and intercept between two ends by Fisher scoring, and the log-likelihood."""
    for _ in range(20):
        s = _sigmoid(x @ theta)
        p = np.clip(lo + (1 - lo - hi) * s, 1e-9, 1 - 1e-9)
        slope = (1 - lo - hi) * s * (1 - s)
        weight = slope / (p * (1 - p))
        curvature = (x * (slope * weight)[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, x.T @ ((target - p) * weight))
        theta = theta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-6:
            break
    p = np.clip(lo + (1 - lo - hi) * _sigmoid(x @ theta), 1e-9, 1 - 1e-9)
    return theta, float(target @ np.log(p) + (1 - target) @ np.log1p(-p))


def _sigmoid(z: Float64s) -> Float64s:
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -40, 40))))
