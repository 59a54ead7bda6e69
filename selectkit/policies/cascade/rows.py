"""The same rows as every stage of a cascade sees them, and what happens to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, class_labels
from selectkit.errors import ConfigError, DataError
from selectkit.policies.cascade.grid import Counts, Grid
from selectkit.policies.constraints import DEFERRAL, Constraint
from selectkit.policies.counted import WHOLE, Labels, counted
from selectkit.policies.outputs import Decision, Outputs
from selectkit.policies.scores import SCORES, Gate, Score

Float64s = npt.NDArray[np.float64]
Plain = str | Gate
"""A score that a cascade may look at: a plain one by name, or a trained gate."""


@dataclass(frozen=True, slots=True)
class StageCosts:
    """What it costs to run the stages.

    Attributes:
        stages: Per stage, for every row that reaches it, >= 0.
        human: For every row deferred after the last stage; None when that is not for us to say.
        unit: "s", "EUR", ...
    """

    stages: tuple[float, ...]
    human: float | None = None
    unit: str = "s"

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: If one is negative or not finite.
        """
        for cost in (*self.stages, *(() if self.human is None else (self.human,))):
            if not 0 <= cost < inf:
                raise ConfigError(f"costs must be finite and at least 0, got {cost:g}.")

    def of(self, decision: Decision) -> Float64s:
        """Return what each row cost: every stage that it reached, and a human where none decided.

        Args:
            decision: Of a cascade with these stages, or of a policy without stages: the first of
                these is then all that it runs.

        Returns:
            Shape (N,), in `unit`. Without a known cost of a human, deferring costs nothing here.

        Raises:
            ConfigError: If the decision knows more stages than there are.
        """
        human = self.human or 0.0
        if decision.stage is None:
            return np.asarray(np.where(decision.accepted, 0.0, human) + self.stages[0])
        if decision.stage.max(initial=0) > len(self.stages):
            raise ConfigError(f"there are the costs of {len(self.stages)} stages, and more decide.")
        return np.asarray(np.cumsum([*self.stages, human])[decision.stage])


class JudgedRows(Protocol):
    """N rows that S stages rank, and what is known or expected of their labels."""

    @property
    def scores(self) -> tuple[Float64s, ...]:
        """Per stage, shape (N,)."""

    def __len__(self) -> int:
        """N."""

    def judged(self, risk: str, positive: int | None) -> list[tuple[Float64s, Float64s]]:
        """Per stage how much a risk is about each row, and about each as an error of this stage."""


@dataclass(frozen=True, slots=True, eq=False)
class CascadeRows:
    """N rows, S stages.

    Attributes:
        scores: Per stage, shape (N,).
        predictions: Per stage, shape (N,).
        labels: Shape (N,), or None when they are not known.
    """

    scores: tuple[Float64s, ...]
    predictions: tuple[Labels, ...]
    labels: Labels | None

    @classmethod
    def of(
        cls, stages: Sequence[Outputs], scores: Sequence[Plain], labels: ArrayLike | None
    ) -> Self:
        """Check that the stages are about the same rows, and look at them.

        Args:
            stages: What each stage says about the same N rows of K classes.
            scores: One per stage.
            labels: Shape (N,), codes in [0, K), or None.

        Returns:
            The rows.

        Raises:
            ConfigError: If there are fewer than two stages, not one score for each, or a score
                is unknown or needs numbers fitted on train.
            DataError: If the stages differ in rows or classes, or the labels do not fit them.
        """
        if len(stages) < 2:
            raise ConfigError(f"a cascade needs at least two stages, got {len(stages)}.")
        if len(scores) != len(stages):
            raise ConfigError(f"{len(stages)} stages need as many scores, got {len(scores)}.")
        shapes = {s.probabilities.shape for s in stages}
        if len(shapes) > 1:
            raise DataError(f"stages must be about the same rows and classes, got {shapes}.")
        y = None if labels is None else class_labels(labels, *stages[0].probabilities.shape)
        looked = tuple(score_of(s)(o) for s, o in zip(scores, stages, strict=True))
        return cls(looked, tuple(o.prediction for o in stages), y)

    def __len__(self) -> int:
        """N."""
        return len(self.scores[0])

    def judged(self, risk: str, positive: int | None) -> list[tuple[Float64s, Float64s]]:
        """Return per stage which rows a risk is about, and which it counts as errors if it decides.

        Args:
            risk: Any but "deferral".
            positive: Code of the positive class, or None.

        Returns:
            Two arrays of 0 and 1, shape (N,), for each stage.

        Raises:
            DataError: If there are no labels.
        """
        if self.labels is None:
            raise DataError(f"the target {risk} needs labels.")
        both = [counted(risk, said, self.labels, positive) for said in self.predictions]
        return [(about.astype(np.float64), wrong.astype(np.float64)) for about, wrong in both]

    def leaves(self, thresholds: Sequence[float]) -> Labels:
        """Return the stage that decides each row, shape (N,); S where none does."""
        at = np.full(len(self), len(self.scores), dtype=np.int64)
        for stage in reversed(range(len(self.scores))):
            at[self.scores[stage] >= thresholds[stage]] = stage
        return at


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What M tuples of thresholds do to some rows, or are expected to do: whole numbers or not.

    Attributes:
        errors: Shape (M, R), for R constraints.
        n: Shape (M, R), rows behind each count.
        accepted: Shape (M, R), accepted rows that the constraint is about.
        about: Shape (R,), rows that the constraint is about.
        coverage: Shape (M,).
        cost: Shape (M,), mean cost of a row, with the human's where there is one.
    """

    errors: Float64s
    n: Float64s
    accepted: Float64s
    about: Float64s
    coverage: Float64s
    cost: Float64s

    def counts(self) -> tuple[Counts, Counts]:
        """Return `errors` and `n` as integers, for rows that were counted."""
        return np.rint(self.errors).astype(np.int64), np.rint(self.n).astype(np.int64)


def measured(
    rows: JudgedRows,
    grid: Grid,
    wanted: Sequence[Constraint],
    costs: StageCosts,
    positive: int | None,
) -> Measured:
    """Sum up for every tuple of a grid.

    Args:
        rows: The rows; with labels, unless only the share deferred is constrained.
        grid: The thresholds.
        wanted: What to count.
        costs: What a stage costs.
        positive: Code of the positive class, or None.

    Returns:
        The sums, tuples in the order of the flattened grid.
    """
    bins, everyone = grid.bins(rows.scores), np.ones(len(rows))
    left = [grid.leaving(bins, stage, everyone) for stage in range(len(bins))]
    decided = _total(left, grid)
    sums = [_summed(rows, bins, grid, c, positive, decided) for c in wanted]
    return Measured(
        errors=np.stack([errors for errors, _, _, _ in sums], axis=1),
        n=np.stack([n for _, n, _, _ in sums], axis=1),
        accepted=np.stack([accepted for _, _, accepted, _ in sums], axis=1),
        about=np.array([about for _, _, _, about in sums]),
        coverage=decided / len(rows),
        cost=_cost(left, grid, costs, len(rows)),
    )


def _summed(
    rows: JudgedRows,
    bins: Sequence[Counts],
    grid: Grid,
    constraint: Constraint,
    positive: int | None,
    decided: Float64s,
) -> tuple[Float64s, Float64s, Float64s, float]:
    """Errors, rows behind them, accepted rows and all rows of one constraint."""
    if constraint.risk == DEFERRAL:
        return len(rows) - decided, np.full_like(decided, len(rows)), decided, float(len(rows))
    judged = rows.judged(constraint.risk, positive)
    errors = _total([grid.leaving(bins, j, wrong) for j, (_, wrong) in enumerate(judged)], grid)
    accepted = decided if constraint.risk == "error" else _total(
        [grid.leaving(bins, j, about) for j, (about, _) in enumerate(judged)], grid
    )  # fmt: skip
    total = float(judged[-1][0].sum())
    n = np.full_like(accepted, total) if constraint.risk in WHOLE else accepted
    return errors, n, accepted, total


def _total(left: Sequence[Float64s], grid: Grid) -> Float64s:
    return np.asarray(sum(np.broadcast_to(part, grid.shape) for part in left)).ravel()


def _cost(left: Sequence[Float64s], grid: Grid, costs: StageCosts, n: int) -> Float64s:
    remaining = np.full(grid.shape, float(n))
    total = np.zeros(grid.shape)
    for part, cost in zip(left, costs.stages, strict=True):
        total += cost * remaining
        remaining = remaining - part
    return np.asarray((total + (costs.human or 0.0) * remaining) / n).ravel()


def score_of(score: Plain) -> Score:
    """Return a score that a stage may look at.

    Args:
        score: A key of `SCORES`, or a calibrated gate.

    Returns:
        The score.

    Raises:
        ConfigError: If it is another one.
    """
    if isinstance(score, Gate):
        return score
    if score in SCORES:
        return SCORES[score]
    raise ConfigError(
        f"score {score!r} cannot rank the rows of a stage; known: {', '.join(SCORES)}, or a "
        "calibrated gate."
    )
