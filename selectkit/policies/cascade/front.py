"""What cascades could do: cost against risk, and cost against coverage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike
from selectkit.fields import Fields
from selectkit.policies.cascade.grid import Grid
from selectkit.policies.cascade.rows import CascadeRows, Measured, Plain, StageCosts, measured
from selectkit.policies.cascade.stage import json_number
from selectkit.policies.constraints import check_positive, constraints
from selectkit.policies.outputs import Outputs
from selectkit.policies.target import Target

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CascadePoint:
    """One tuple of thresholds, measured on some rows.

    Attributes:
        thresholds: Per stage.
        cost: Mean cost of a row.
        risk: Rate of the first constraint; 0 where it counts no row.
        coverage: Share decided by some stage.
        certified: Whether it is certified to keep every constraint, together with all others that
            are.
    """

    thresholds: tuple[float, ...]
    cost: float
    risk: float
    coverage: float
    certified: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "thresholds": [json_number(t) for t in self.thresholds],
            "cost": self.cost,
            "risk": self.risk,
            "coverage": self.coverage,
            "certified": self.certified,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the point that `to_dict` wrote.

        Args:
            document: The fields by name.

        Returns:
            The point.

        Raises:
            ArtifactError: If a field is missing or malformed.
        """
        read = Fields.of(document, "a point of the cascade")
        return cls(
            read.thresholds("thresholds"),
            read.number("cost", 0),
            read.number("risk", 0, 1),
            read.number("coverage", 0, 1),
            read.flag("certified"),
        )


def cascade_front(
    stages: Sequence[Outputs],
    labels: ArrayLike,
    *,
    costs: StageCosts,
    target: Target,
    scores: Plain | Sequence[Plain] = "msp",
    positive: int | None = None,
    last_decides: bool = False,
    against: Literal["risk", "coverage"] = "risk",
) -> tuple[CascadePoint, ...]:
    """Return the cascades that no other beats in both cost and risk, or in both cost and coverage.

    Against coverage, only cascades count whose rate of errors on these rows meets the target.

    It describes these rows. Nothing is certified, and the thresholds of a point are the best of
    thousands on the very rows it is measured on: new rows will do worse.

    Args:
        stages: What each stage says about the same N rows.
        labels: Shape (N,), codes in [0, K).
        costs: What a stage, and a human, costs.
        target: Which risk; its rate matters only against coverage.
        scores: A score, or one per stage.
        positive: Code of the positive class; some risks need it.
        last_decides: Whether the last stage decides every row that reaches it.
        against: What is set against the cost.

    Returns:
        The points, cheapest first.

    Raises:
        ConfigError: If stages, scores, costs or target make no sense.
        DataError: If stages differ in rows or classes, or the labels do not fit.
    """
    wanted = constraints(target)
    check_positive(wanted, positive, stages[0].probabilities.shape[1])
    rows = CascadeRows.of(stages, per_stage(scores, len(stages)), labels)
    grid = Grid.of(rows.scores, last_decides=last_decides)
    found = measured(rows, grid, wanted, costs, positive)
    if against == "risk":
        return points(grid, found, _undominated(found.cost, risks(found)))
    keeps = np.flatnonzero(risks(found) <= wanted[0].alpha)
    best = _undominated(found.cost[keeps], -found.coverage[keeps])
    return points(grid, found, keeps[best])


def points(
    grid: Grid, found: Measured, places: npt.NDArray[np.intp], certified: ArrayLike = False
) -> tuple[CascadePoint, ...]:
    """Return some tuples of a grid as points.

    Args:
        grid: The thresholds.
        found: What they do.
        places: Which tuples.
        certified: Of each tuple of the grid.

    Returns:
        The points, in the order of `places`.
    """
    safe, risk = np.broadcast_to(np.asarray(certified), found.cost.shape), risks(found)
    return tuple(
        CascadePoint(
            grid.thresholds(i),
            float(found.cost[i]),
            float(risk[i]),
            float(found.coverage[i]),
            bool(safe[i]),
        )
        for i in places.tolist()
    )


def risks(found: Measured) -> Float64s:
    """Return the rate of the first constraint, 0 where it counts no row; shape (M,)."""
    return np.asarray(found.errors[:, 0] / np.maximum(found.n[:, 0], 1))


def per_stage(scores: Plain | Sequence[Plain], n_stages: int) -> tuple[Plain, ...]:
    """Return one score per stage."""
    if isinstance(scores, Sequence) and not isinstance(scores, str):
        return tuple(scores)
    return (scores,) * n_stages


def _undominated(cost: Float64s, loss: Float64s) -> npt.NDArray[np.intp]:
    ranked = np.lexsort((loss, cost))
    before = np.concatenate(([np.inf], np.minimum.accumulate(loss[ranked])[:-1]))
    return np.asarray(ranked[loss[ranked] < before])
